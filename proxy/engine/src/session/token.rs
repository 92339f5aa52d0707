//! Names of descriptors as the driver and the timers know them: kind, serial number, slab index.
//!
//! A slab index is reused; an event of this turn may speak of the connection that had it before.
//! The serial number tells them apart, so that a stale event or timer finds nobody.

use crate::runtime::driver::Token;

/// What a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Something of the engine itself, told apart by the index.
    Engine,
    /// A listening socket.
    Listener,
    /// A client connection.
    Client,
    /// An upstream connection.
    Upstream,
}

const OWNER_SHIFT: u32 = 62;
const SERIAL_SHIFT: u32 = 32;
const SERIAL_MASK: u64 = (1 << (OWNER_SHIFT - SERIAL_SHIFT)) - 1;

/// The eventfd by which the control thread wakes the loop.
pub(super) const WAKE: Token = 0;
/// Timer: hand the access log's chunk over.
pub(super) const FLUSH_LOG: Token = 1;
/// Timer: look for drains that are over time.
pub(super) const CHECK_DRAINS: Token = 2;
/// Timer: accept again after descriptors ran out.
pub(super) const RESUME_ACCEPT: Token = 3;

/// Makes a token.
pub(super) fn token(owner: Owner, serial: u32, index: usize) -> Token {
    let owner = match owner {
        Owner::Engine => 0,
        Owner::Listener => 1,
        Owner::Client => 2,
        Owner::Upstream => 3,
    };
    debug_assert!(index <= u32::MAX as usize);
    owner << OWNER_SHIFT | (u64::from(serial) & SERIAL_MASK) << SERIAL_SHIFT | index as u64
}

/// Reads a token's owner and index.
pub(super) fn parts(token: Token) -> (Owner, usize) {
    let owner = match token >> OWNER_SHIFT {
        0 => Owner::Engine,
        1 => Owner::Listener,
        2 => Owner::Client,
        _ => Owner::Upstream,
    };
    (owner, (token & u64::from(u32::MAX)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for owner in [
            Owner::Engine,
            Owner::Listener,
            Owner::Client,
            Owner::Upstream,
        ] {
            let made = token(owner, u32::MAX, 123_456);
            assert_eq!(parts(made), (owner, 123_456));
        }
        assert_ne!(token(Owner::Client, 1, 5), token(Owner::Client, 2, 5));
    }
}
