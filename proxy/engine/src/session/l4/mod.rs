//! Bytes that pass unread: TLS that is not ours to end, listeners that speak nothing, and connections that have switched protocols.

mod bytes;
pub(in crate::session) mod opening;
mod passthrough;
mod splice;
pub(super) mod tunnel;
