//! Where something listens that is connected to: an address of TCP, or a Unix socket.

use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Stream;

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// By TCP.
    Tcp(SocketAddr),
    /// By a socket of this machine, at an absolute path.
    Unix(Box<str>),
}

/// What the kernel takes as a path, without the byte that ends it.
const PATH_BYTES_MAX: usize = 107;

impl Endpoint {
    /// The socket at a path.
    ///
    /// # Errors
    /// When no socket can have that path.
    pub fn unix(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') || path.contains('\0') || path.len() > PATH_BYTES_MAX {
            return Err(format!(
                "{path:?}: expected an absolute path of at most {PATH_BYTES_MAX} bytes"
            ));
        }
        Ok(Self::Unix(path.into()))
    }

    /// Starts connecting there, as [`Stream::connect`] does. To a Unix socket it is done at once, or fails.
    ///
    /// # Errors
    /// As [`Stream::connect`].
    pub fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => Stream::connect(address),
            Self::Unix(path) => connect_unix(path),
        }
    }

    /// Why a Unix socket could not be connected to, in a word; `None` where it is none.
    #[must_use]
    pub fn fault(&self, error: &io::Error) -> Option<&'static str> {
        match (self, error.kind()) {
            (Self::Tcp(_), _) => None,
            (_, io::ErrorKind::NotFound) => Some("socket_missing"),
            (_, io::ErrorKind::PermissionDenied) => Some("socket_denied"),
            (_, io::ErrorKind::ConnectionRefused) => Some("socket_without_listener"),
            // Its queue is full, and nothing tells when there is room.
            (_, io::ErrorKind::WouldBlock) => Some("socket_full"),
            _ => Some("socket_unusable"),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{path}"),
        }
    }
}

fn connect_unix(path: &str) -> io::Result<Stream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all-zero is a valid sockaddr_un, and ends the path, which is shorter than its room.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, &byte) in address.sun_path[..PATH_BYTES_MAX]
        .iter_mut()
        .zip(path.as_bytes())
    {
        *place = byte as libc::c_char;
    }
    let length = mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `address` lives across the call and `length` is its size.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Stream { fd })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_unix_socket_carries_bytes_and_tells_what_is_wrong_with_it() {
        let directory = std::env::temp_dir().join(format!("endpoint-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("app.sock");
        let endpoint = Endpoint::unix(path.to_str().unwrap()).unwrap();
        let fault = |endpoint: &Endpoint| {
            let error = endpoint.connect().err().unwrap();
            endpoint.fault(&error).unwrap()
        };
        assert_eq!(fault(&endpoint), "socket_missing");
        let listener = UnixListener::bind(&path).unwrap();
        let stream = endpoint.connect().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(stream.send(b"hello", b"").unwrap(), 5);
        let mut told = [0; 5];
        accepted.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"hello");
        assert!(stream.is_quiet());
        accepted.write_all(b"yes").unwrap();
        let mut heard = [0; 8];
        assert_eq!(stream.receive(&mut heard).unwrap(), 3);
        drop(listener);
        assert_eq!(fault(&endpoint), "socket_without_listener");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_path_is_absolute_and_fits() {
        assert!(Endpoint::unix("run/app.sock").is_err());
        assert!(Endpoint::unix("/run/a\0pp").is_err());
        assert!(Endpoint::unix(&format!("/{}", "a".repeat(106))).is_ok());
        assert!(Endpoint::unix(&format!("/{}", "a".repeat(107))).is_err());
        let shown = Endpoint::unix("/run/app.sock").unwrap().to_string();
        assert_eq!(shown, "unix:/run/app.sock");
        assert_eq!(size_of::<Endpoint>(), 32);
    }
}
