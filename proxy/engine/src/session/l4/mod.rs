//! Bytes that pass unread: TLS that is not ours to end, and connections that have switched protocols.

mod passthrough;
mod splice;
pub(super) mod tunnel;
