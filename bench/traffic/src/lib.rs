//! What the benchmarks put before and behind a proxy. `bench.traffic` builds and runs it.
//!
//! [`load`] asks at the times of a schedule, whatever becomes of the requests before: what a client
//! waits counts from the moment at which it wanted to ask. A generator that asks again when it was
//! answered leaves out all requests that would have come during a stall, which is called
//! coordinated omission; it is here too ([`load::Pace::InFlight`]), to find a capacity by, and so
//! that a test can show the difference. [`relay`] passes bytes on unread, at once (the floor under
//! what any proxy costs) or after a time (a network that is far).
//!
//! Rule: [`histogram`], [`moments`], [`response`] and [`tally`] are pure; system calls that the standard library
//! lacks, and `unsafe`, are in [`poll`] alone.

pub mod arguments;
pub mod histogram;
pub mod load;
pub mod moments;
pub mod poll;
pub mod relay;
pub mod response;
pub mod tally;
