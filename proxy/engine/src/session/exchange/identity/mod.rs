//! Under which names requests and those who ask are known, to backends, logs and whoever looks.
//!
//! `naming` gives each request an id, `text` is a client's address as it is written, and `crowds` tells who has how many
//! requests in flight.

mod crowds;
pub(in crate::session) mod naming;
pub(in crate::session::exchange) mod text;
