//! Waiting for sockets to the nanosecond, and what else the standard library has no call for.
//!
//! As the engine does it: edge-triggered, both directions registered once, and Nagle's algorithm off,
//! so that a relay differs from it in what it does with the bytes and in nothing else.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

const EVENTS_PER_TURN: usize = 256;
const BACKLOG: i32 = 4096;

/// Something can be done with what was watched under this token.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Given when it was watched.
    pub token: u64,
    /// Bytes or an end can be read.
    pub readable: bool,
    /// There is room to write, or a connect has come to its end.
    pub writable: bool,
    /// Nothing comes behind what can be read, and no other event will tell that.
    pub ended: bool,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    /// # Errors
    /// When the process may have no more descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // The kernel may wake a thread 50 µs late, to save power. A schedule wants better.
        // SAFETY: no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })?;
        Ok(Self {
            // SAFETY: just made, and nobody else's.
            epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_TURN],
        })
    }

    /// Watches a socket until it is closed.
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub fn watch(&self, socket: &impl AsRawFd, token: u64) -> io::Result<()> {
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event {
            events: flags as u32,
            u64: token,
        };
        let (epoll, fd) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: the event lives through the call.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Sleeps until something is ready or the time is over (`None`: for ever).
    ///
    /// # Errors
    /// When the kernel refuses, which it has no reason to.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = Ready>> {
        let timeout = timeout.map(|duration| libc::timespec {
            tv_sec: duration.as_secs() as libc::time_t,
            tv_nsec: i64::from(duration.subsec_nanos()),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), |spec| spec);
        // SAFETY: `events` has room for as many as are asked for, and both live through the call.
        let found = check(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_PER_TURN,
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0,
            ) as i32
        });
        let count = match found {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            found => found? as usize,
        };
        let gone = libc::EPOLLHUP | libc::EPOLLERR;
        Ok(self.events[..count].iter().map(move |event| {
            let has = |flags: i32| event.events & flags as u32 != 0;
            Ready {
                token: event.u64,
                readable: has(libc::EPOLLIN | libc::EPOLLRDHUP | gone),
                writable: has(libc::EPOLLOUT | gone),
                ended: has(libc::EPOLLRDHUP | gone),
            }
        }))
    }
}

/// Begins to connect; the first event tells that it has come to an end.
///
/// # Errors
/// When the kernel refuses at once, for instance because no port is left.
pub fn connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: just made, and nobody else's.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    stream.set_nodelay(true)?;
    let place = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    };
    let length = size_of_val(&place) as libc::socklen_t;
    // SAFETY: `place` is a whole address of that family, and lives through the call.
    let found = check(unsafe { libc::connect(fd, (&raw const place).cast(), length) });
    match found {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

/// Listens with a queue that a thousand clients at once do not fill.
///
/// # Errors
/// When the address is in use.
pub fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::V4(address))?;
    listener.set_nonblocking(true)?;
    // SAFETY: no pointers. Listening again only makes the queue longer.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

/// Accepts one connection, set up as those of [`connect`].
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let none = std::ptr::null_mut();
    // SAFETY: a null address asks for none.
    let fd =
        check(unsafe { libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), flags) })?;
    // SAFETY: just made, and nobody else's.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Lets the process have as many descriptors as it may.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` lives through both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(())
}

fn check(result: RawFd) -> io::Result<i32> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
