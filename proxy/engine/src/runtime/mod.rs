//! I/O at the edge: the driver, sockets, timers and buffers of one engine thread.
//!
//! Rule: system calls and `unsafe` live here (and in `telemetry::mapping` and
//! `protocol::h1::scan::block`) and nowhere else in the crate; no HTTP is known here. `session` calls in, this module never calls out.

pub mod buffer;
pub mod clock;
pub mod common;
pub mod driver;
pub mod epoll;
pub mod pipe;
pub mod priority;
pub mod socket;
pub mod timer;
