//! Non-blocking stream sockets by system call: accept, connect, receive, send, shut down.
//!
//! Invariant of the `unsafe` here: pointers handed to the kernel are those of live Rust values,
//! lengths are theirs, and descriptors returned by the kernel are owned exactly once.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

mod endpoint;

pub use endpoint::Endpoint;

/// What this machine lacks for one more connection, whoever it is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The process, or the machine, has all descriptors that it may have.
    Descriptor,
    /// The kernel has no memory for it.
    Memory,
    /// All ports that connections to that address may come from are taken.
    Port,
}

impl Want {
    /// What socket(2), connect(2) or epoll_ctl(2) has failed of; `None`: of what is at the other end.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE | libc::ENOSPC => Some(Self::Descriptor),
            libc::ENOMEM | libc::ENOBUFS => Some(Self::Memory),
            libc::EADDRNOTAVAIL => Some(Self::Port),
            _ => None,
        }
    }

    /// As the access log says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Descriptor => "no_descriptor_left",
            Self::Memory => "no_memory_left",
            Self::Port => "no_port_left",
        }
    }
}

/// A non-blocking stream socket; closed when dropped.
pub struct Stream {
    fd: OwnedFd,
}

impl Stream {
    /// The descriptor, for registration with the driver.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Starts connecting to `address`; `EINPROGRESS` counts as success, the outcome shows at the
    /// first send.
    ///
    /// # Errors
    /// `connect(2)`'s immediate failures and lack of descriptors or local ports.
    pub fn connect(address: &SocketAddr) -> io::Result<Self> {
        let domain = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::socket(domain, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
        let stream = Self {
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
        };
        set_no_delay(fd);
        let (storage, length) = to_sockaddr(address);
        // SAFETY: `storage` lives across the call and `length` is the size of its family's struct.
        let result = unsafe { libc::connect(fd, (&raw const storage).cast(), length) };
        if result < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINPROGRESS) {
                return Err(error);
            }
        }
        Ok(stream)
    }

    /// Receives into `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise the connection is dead.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_as(buffer, 0)
    }

    /// As [`Stream::receive`], but everything stays where it is.
    ///
    /// # Errors
    /// As [`Stream::receive`].
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_as(buffer, libc::MSG_PEEK)
    }

    fn receive_as(&self, buffer: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
        loop {
            // SAFETY: `buffer` is exclusively borrowed and its length is given.
            let count =
                unsafe { libc::recv(self.raw(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
            if count >= 0 {
                return Ok(count as usize);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Whether the connection is open as far as is known here, with nothing to read.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut byte = 0_u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: one live byte, and its length is given.
        let count = unsafe { libc::recv(self.raw(), (&raw mut byte).cast(), 1, flags) };
        count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
    }

    /// Sends the two parts as one segment train; returns how many bytes of both went.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full (or the connect has not finished); otherwise the
    /// connection is dead (or the connect failed).
    pub fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        loop {
            let count = if second.is_empty() {
                // SAFETY: `first` is borrowed across the call and its length is given.
                unsafe {
                    libc::send(
                        self.raw(),
                        first.as_ptr().cast(),
                        first.len(),
                        libc::MSG_NOSIGNAL,
                    )
                }
            } else {
                let mut parts = [to_iovec(first), to_iovec(second)];
                // SAFETY: all-zero is a valid msghdr; the parts outlive the call.
                let mut message: libc::msghdr = unsafe { mem::zeroed() };
                message.msg_iov = parts.as_mut_ptr();
                message.msg_iovlen = parts.len();
                // SAFETY: `message` points at `parts`, which point at the borrowed slices.
                unsafe { libc::sendmsg(self.raw(), &raw const message, libc::MSG_NOSIGNAL) }
            };
            if count >= 0 {
                return Ok(count as usize);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Ends our sending side; the peer reads an end of stream after what was sent.
    pub fn shutdown_write(&self) {
        // SAFETY: no pointers. Failure means that the connection is gone already.
        unsafe { libc::shutdown(self.raw(), libc::SHUT_WR) };
    }

    /// Makes the close send a reset instead of an orderly end: for a response whose end could be
    /// taken for complete otherwise.
    pub fn reset_on_close(&self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        set_option(self.raw(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
    }
}

fn set_option<T>(fd: RawFd, level: i32, name: i32, value: &T) {
    // SAFETY: `value` lives across the call and its size is given. An option that the kernel
    // refuses (a dead connection) changes nothing that matters.
    unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
}

/// Sends small segments at once. A listening socket passes it on to the connections that come from then
/// on (tcp(7)).
pub fn set_no_delay(fd: RawFd) {
    let on: libc::c_int = 1;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on);
}

/// Has the kernel prefer this listening socket, of all that share its address, for connections whose packets
/// come to this core (SO_INCOMING_CPU, socket(7)); without a core for none.
pub fn prefer_core(fd: RawFd, core: Option<usize>) {
    let core = core.and_then(|core| libc::c_int::try_from(core).ok());
    set_option(
        fd,
        libc::SOL_SOCKET,
        libc::SO_INCOMING_CPU,
        &core.unwrap_or(-1),
    );
}

/// Accepts one connection of a listening socket, from which it has [`set_no_delay`].
///
/// # Errors
/// `WouldBlock` when none waits; `EMFILE` and the like when resources are short.
pub fn accept(listener: RawFd) -> io::Result<(Stream, SocketAddr)> {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&storage) as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: both out-parameters live across the call; `length` holds the storage's size.
    let fd = unsafe { libc::accept4(listener, (&raw mut storage).cast(), &raw mut length, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    let stream = Stream {
        fd: unsafe { OwnedFd::from_raw_fd(fd) },
    };
    Ok((stream, from_sockaddr(&storage)))
}

/// The local address of a socket.
///
/// # Errors
/// `EBADF` or `ENOTSOCK` when the descriptor is none.
pub fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&storage) as libc::socklen_t;
    // SAFETY: both out-parameters live across the call; `length` holds the storage's size.
    let result = unsafe { libc::getsockname(fd, (&raw mut storage).cast(), &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(from_sockaddr(&storage))
}

/// How far the peer of a socket is with what it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sending {
    /// Bytes that it has not acknowledged yet, sent or not.
    pub unacknowledged: u32,
    /// So long ago it acknowledged something.
    pub acknowledged_ms_ago: u64,
}

/// Asks the kernel what has become of the bytes given to it (SIOCOUTQ, TCP_INFO; tcp(7)). Zeros of a
/// descriptor that is no TCP socket, with nothing acknowledged ever.
#[must_use]
pub fn sending(fd: RawFd) -> Sending {
    let mut queued: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which is live.
    let failed = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut queued) } != 0;
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the structure is integers alone, for which zeros are values.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `length` bytes into a live structure of that size.
    let told = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if failed || told != 0 {
        return Sending {
            unacknowledged: 0,
            acknowledged_ms_ago: u64::MAX,
        };
    }
    Sending {
        unacknowledged: u32::try_from(queued).unwrap_or(0),
        acknowledged_ms_ago: u64::from(info.tcpi_last_ack_recv),
    }
}

/// An own copy of somebody's descriptor.
///
/// # Errors
/// `EBADF` when it is not open, `EMFILE` when descriptors ran out.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// An eventfd, by which other threads wake the loop.
///
/// # Errors
/// `EMFILE` or `ENOMEM`.
pub fn wake_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Rings an eventfd.
pub fn wake(fd: RawFd) {
    let one: u64 = 1;
    // SAFETY: eight live bytes, as eventfd(2) wants. A full counter is awake already.
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
}

/// Silences an eventfd.
pub fn quiet(fd: RawFd) {
    let mut count: u64 = 0;
    // SAFETY: eight live bytes, as eventfd(2) wants.
    unsafe { libc::read(fd, (&raw mut count).cast(), 8) };
}

/// Raises the soft limit of open descriptors to the hard one: a proxy needs two a request, and the
/// usual soft limit of 1024 is meant for programs that call select(2).
///
/// # Errors
/// `EPERM` where a sandbox forbids it; the old limit holds.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` lives across the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` lives across the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The core that this thread is pinned to, if it may run on no other.
pub fn own_core() -> Option<usize> {
    // SAFETY: all-zero is an empty cpu_set_t, whose size is given; CPU_COUNT and CPU_ISSET only read it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        let found = libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set);
        if found != 0 || libc::CPU_COUNT(&set) != 1 {
            return None;
        }
        (0..libc::CPU_SETSIZE as usize).find(|&core| libc::CPU_ISSET(core, &set))
    }
}

/// Pins the calling thread to one core.
///
/// # Errors
/// `EINVAL` when the process may not run there.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: all-zero is an empty cpu_set_t; CPU_SET checks its bounds; the set outlives the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn to_iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn to_sockaddr(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage, which is large and aligned enough for both
    // families' structs that are written into it.
    unsafe {
        let mut storage: libc::sockaddr_storage = mem::zeroed();
        let length = match address {
            SocketAddr::V4(v4) => {
                let raw: *mut libc::sockaddr_in = (&raw mut storage).cast();
                (*raw).sin_family = libc::AF_INET as libc::sa_family_t;
                (*raw).sin_port = v4.port().to_be();
                (*raw).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                mem::size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let raw: *mut libc::sockaddr_in6 = (&raw mut storage).cast();
                (*raw).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*raw).sin6_port = v6.port().to_be();
                (*raw).sin6_addr.s6_addr = v6.ip().octets();
                (*raw).sin6_scope_id = v6.scope_id();
                mem::size_of::<libc::sockaddr_in6>()
            }
        };
        (storage, length as libc::socklen_t)
    }
}

fn from_sockaddr(storage: &libc::sockaddr_storage) -> SocketAddr {
    if i32::from(storage.ss_family) == libc::AF_INET6 {
        // SAFETY: the family says that the kernel wrote a sockaddr_in6 here.
        let raw: &libc::sockaddr_in6 = unsafe { &*(&raw const *storage).cast() };
        let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
        return SocketAddr::V6(SocketAddrV6::new(
            ip,
            u16::from_be(raw.sin6_port),
            0,
            raw.sin6_scope_id,
        ));
    }
    // SAFETY: a sockaddr_in fits in the storage; for any other family its zeroes are read.
    let raw: &libc::sockaddr_in = unsafe { &*(&raw const *storage).cast() };
    let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
    SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn connects_sends_in_two_parts_and_receives() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                assert!(address.starts_with('['), "loopback must be there");
                continue;
            };
            let there = listener.local_addr().unwrap();
            assert_eq!(local_address(listener.as_raw_fd()).unwrap(), there);
            let stream = Stream::connect(&there).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            let sent = loop {
                match stream.send(b"he", b"llo") {
                    Ok(sent) => break sent,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            };
            assert_eq!(sent, 5);
            let mut got = [0; 5];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
            peer.write_all(b"yes").unwrap();
            let mut buffer = [0; 16];
            let count = loop {
                match stream.receive(&mut buffer) {
                    Ok(count) => break count,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            };
            assert_eq!(&buffer[..count], b"yes");
        }
    }
    #[test]
    fn tells_what_the_peer_has_not_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Stream::connect(&listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let chunk = [0; 65_536];
        let mut sent = 0;
        let waiting = loop {
            match stream.send(&chunk, &[]) {
                Ok(count) => sent += count,
                Err(_) if sent > 0 => break sending(stream.raw()).unacknowledged,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert!(waiting > 0);
        let mut taken = vec![0; sent];
        peer.read_exact(&mut taken).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60));
        let now = sending(stream.raw());
        assert_eq!(now.unacknowledged, 0);
        assert!((20..5000).contains(&now.acknowledged_ms_ago), "{now:?}");
    }
}
