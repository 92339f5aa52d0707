//! What happens to connections: the path of a request is that of the rooms, `front` → `exchange` → `back`
//! and home again; `l4` is for bytes that are not read.
//!
//! `engine` is the loop, with its tables; beside it is what all rooms use: `ids` (who is who, and arenas
//! that check it), `transport` (a connection's bytes over TLS or in clear text, for which it has `plain`),
//! `queue` (whose turn it is), `timeout`, `mishap` (what a fault of ours costs), `control` (what the control thread may ask).

mod back;
mod control;
mod engine;
mod exchange;
mod front;
mod ids;
mod l4;
mod mishap;
mod plain;
mod queue;
#[cfg(test)]
mod testing;
mod timeout;
mod transport;

pub use self::control::{Command, Limited};
pub use self::engine::{Engine, Served};
