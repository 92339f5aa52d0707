//! What is fuzzed, one module each. The first lines of a module state the invariant.

pub mod chunked;
pub mod h1_request;
pub mod h1_response;
mod h2;
pub mod h2_client;
pub mod h2_server;
pub mod hello;
pub mod hpack;
pub mod ops_decoder;
pub mod proxy;

use _engine::protocol::h1::HeadLimits;

/// Small enough to be reached by small inputs.
const TIGHT: HeadLimits = HeadLimits {
    head_bytes_max: 512,
    header_count_max: 8,
};

/// What the default configuration has.
const WIDE: HeadLimits = HeadLimits {
    head_bytes_max: 32 << 10,
    header_count_max: 100,
};

/// For what we have written ourselves, which has our own lines too.
const NEXT_HOP: HeadLimits = HeadLimits {
    head_bytes_max: 1 << 20,
    header_count_max: 200,
};

/// The lengths at which a head that arrives in pieces is looked at: each one where that is cheap,
/// and some in any case.
fn arrivals(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 64).max(1);
    (0..length).step_by(step).chain([length])
}
