//! The wire protocols, sans I/O: bytes in, heads, framing and bytes out.
//!
//! Law of this module: nothing here reads a socket, a clock or a random source, nothing panics on
//! any input, and whatever is accepted has exactly one reading. The session calls it, the runtime
//! never does.

pub mod base64;
pub mod coding;
pub mod cookie;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod hello;
pub mod lines;
pub mod proxy;
pub mod sent;
pub mod tls;
