//! What is fuzzed, one module each. The first lines of a module state the invariant.

pub mod back_h1;
pub mod back_h2;
pub mod chunked;
pub mod front_h1;
pub mod front_h2;
pub mod h1_request;
pub mod h1_response;
mod h2;
pub mod h2_client;
pub mod h2_server;
pub mod hello;
pub mod hpack;
pub mod ops_decoder;
pub mod proxy;
pub mod template;
pub mod token;

use std::cell::Cell;

use _engine::protocol::h1::HeadLimits;

use crate::rig::Rig;
use crate::rig::Spoken;

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

/// In what pieces an input is given beside all at once, to who answers each of them: some large ones, so that a long
/// input does not take long.
fn pieces(length: usize) -> [usize; 2] {
    [length / 3 + 1, 7.max(length / 64)]
}

/// An engine that the last input has left as it was, or a new one: to make one takes longer than most inputs do.
/// `run` says whether it may be used again.
fn with_rig<T>(spoken: Spoken, run: impl FnOnce(&mut Rig) -> (T, bool)) -> T {
    thread_local! {
        static KEPT: Cell<Option<(Spoken, Rig)>> = const { Cell::new(None) };
    }
    // One that panics is not kept.
    let kept = KEPT.take().filter(|(other, _)| *other == spoken);
    let mut rig = kept.map_or_else(|| Rig::new(spoken), |(_, rig)| rig);
    let (found, is_as_new) = run(&mut rig);
    rig.check_empty();
    KEPT.set(is_as_new.then_some((spoken, rig)));
    found
}
