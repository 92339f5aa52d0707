//! The epoll driver (epoll(7)). Used by the event loop of `session`.
//!
//! Invariant of the `unsafe` here: every pointer handed to the kernel is that of a live, exclusively
//! borrowed Rust value whose length is passed with it, and a descriptor is only ever passed by value.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::driver::{Driver, EVENTS_PER_WAIT, Event, Token};

const STREAM_INTEREST: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;

/// One epoll instance.
pub struct Epoll {
    fd: OwnedFd,
    raw: Vec<libc::epoll_event>,
}

impl Epoll {
    /// Opens an instance.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM` of `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            raw: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT],
        })
    }

    fn control(&self, operation: i32, fd: RawFd, interest: i32, token: Token) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: token,
        };
        // SAFETY: `event` lives across the call.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Driver for Epoll {
    fn watch_stream(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, STREAM_INTEREST, token)
    }

    fn watch_input(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, token)
    }

    fn unwatch(&mut self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn wait(&mut self, timeout_ms: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
        // SAFETY: `raw` is exclusively borrowed and its true length is given.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.raw.as_mut_ptr(),
                self.raw.len() as i32,
                timeout,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                return Ok(());
            }
            return Err(error);
        }
        events.extend(self.raw[..count as usize].iter().map(|raw| {
            let bits = raw.events as i32;
            let failed = bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            Event {
                token: raw.u64,
                readable: failed || bits & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0,
                writable: failed || bits & libc::EPOLLOUT != 0,
                hangup: failed || bits & libc::EPOLLRDHUP != 0,
            }
        }));
        Ok(())
    }
}
