//! The narrow trait behind which epoll (today) and io_uring (later) serve the event loop.
//!
//! Readiness is edge-triggered and both directions are registered once for a socket's whole life:
//! there is no call to change an interest, because an `epoll_ctl(MOD)` per request costs as much as
//! parsing the request (0.7 µs). Who reads until a short read or `WouldBlock`, and writes until
//! `WouldBlock`, misses nothing (epoll(7), "edge-triggered").

use std::io;
use std::os::fd::RawFd;

/// How many events one wait tells at most, which bounds a turn's work. When it is reached, there may be more.
pub const EVENTS_PER_WAIT: usize = 512;

/// What a registered descriptor belongs to; opaque to the driver.
pub type Token = u64;

/// One readiness report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// Token given at registration.
    pub token: Token,
    /// Bytes, a connection or an end of stream can be read.
    pub readable: bool,
    /// The send buffer has room, or the connect finished.
    pub writable: bool,
    /// The peer shut down its sending side, or the socket failed.
    pub hangup: bool,
}

/// Readiness of many descriptors for one thread.
pub trait Driver {
    /// Watches both directions of a stream socket, edge-triggered, until it is closed.
    ///
    /// # Errors
    /// Whatever `epoll_ctl(2)` reports: in practice `ENOSPC` or `ENOMEM`.
    fn watch_stream(&mut self, fd: RawFd, token: Token) -> io::Result<()>;

    /// Watches a listening socket or an eventfd for input, level-triggered: what one turn leaves
    /// behind is reported again by the next.
    ///
    /// # Errors
    /// As [`Driver::watch_stream`].
    fn watch_input(&mut self, fd: RawFd, token: Token) -> io::Result<()>;

    /// Stops watching; needed only for a descriptor that stays open in another process.
    ///
    /// # Errors
    /// `ENOENT` when it was not watched.
    fn unwatch(&mut self, fd: RawFd) -> io::Result<()>;

    /// Sleeps until something is ready or `timeout_ms` passed (`None` = for ever) and fills
    /// `events` (cleared first).
    ///
    /// # Errors
    /// Fatal driver failures only; an interrupted wait yields no events.
    fn wait(&mut self, timeout_ms: Option<u64>, events: &mut Vec<Event>) -> io::Result<()>;
}
