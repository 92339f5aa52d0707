//! Kakehi's data plane: a thread-per-core HTTP reverse proxy engine that is changed by transactions.
//!
//! Layers, each knowing only those before it:
//! `runtime` (system calls, timers, buffers) and `protocol` (bytes in, events and bytes out), then
//! `telemetry`, `routing`, `policy`, `state` with `upstream`, then `session` (the event loop that joins them),
//! then `thread` (the loop's thread as the control side sees it), then `python` (feature `python`).

pub mod policy;
pub mod probing;
pub mod protocol;
#[cfg(feature = "python")]
mod python;
pub mod routing;
pub mod runtime;
pub mod session;
pub mod state;
pub mod telemetry;
pub mod thread;
pub mod tls;
pub mod upstream;
