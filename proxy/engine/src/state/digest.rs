//! The identity of a state: an order-independent, incremental 128-bit sum over its entities.
//!
//! The reconciler computes the same number from git (`schemas/state.py`); a worker computes it
//! from what it really holds. Equal digests are the proof that both mean the same state, so the
//! definition here must stay byte for byte that of the Python side:
//!
//! ```text
//! entity = blake2b-128(kind ‖ 0 ‖ name ‖ 0 ‖ canonical bytes), read as a big-endian integer
//! state  = sum of its entities modulo 2^128, 32 lower-case hex digits
//! ```
//!
//! A sum, not an XOR: adding and removing are still one operation, and a pair of equal entities
//! does not cancel out.

use std::fmt;

use blake2::Blake2b;
use blake2::Digest as _;
use blake2::digest::consts::U16;

use super::entity::Kind;

/// The digest of one entity or of a whole state; `Digest::default()` is that of the empty state.
///
/// Two words, the higher one first: a number of 128 bits would have every entity lie at multiples of 16.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest([u64; 2]);

impl Digest {
    /// Hashes one entity from its identity and its canonical bytes.
    pub fn from_entity(kind: Kind, name: &str, canonical: &[u8]) -> Self {
        let mut hash = Blake2b::<U16>::new();
        hash.update(kind.as_str());
        hash.update([0]);
        hash.update(name);
        hash.update([0]);
        hash.update(canonical);
        Self::new(u128::from_be_bytes(hash.finalize().into()))
    }

    /// Reads the 32 lower-case hex digits that [`Digest::to_hex`] writes; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != HEX_DIGITS || !text.bytes().all(digit) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self::new)
    }

    /// The state with one more entity.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "the sum wraps; `+` promises that none does"
    )]
    pub fn add(self, entity: Self) -> Self {
        Self::new(self.number().wrapping_add(entity.number()))
    }

    /// The state with one entity less.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "the sum wraps; `-` promises that none does"
    )]
    pub fn sub(self, entity: Self) -> Self {
        Self::new(self.number().wrapping_sub(entity.number()))
    }

    /// The digest as it stands in messages, in `status` and in the journal.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.number())
    }

    fn new(number: u128) -> Self {
        Self([(number >> 64) as u64, number as u64])
    }

    fn number(self) -> u128 {
        u128::from(self.0[0]) << 64 | u128::from(self.0[1])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Digest({:032x})", self.number())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.number())
    }
}

const HEX_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKEND: &[u8] = br#"{"address":"127.0.0.1:9001","weight":100}"#;

    /// The expected figures come from CPython, so that both languages are held to one definition:
    ///
    /// ```python
    /// hashlib.blake2b(kind + b"\0" + name + b"\0" + canonical, digest_size=16).hexdigest()
    /// ```
    #[test]
    fn agrees_with_hashlib() {
        let backend = Digest::from_entity(Kind::Backend, "shop/shop-1", BACKEND);
        let other = Digest::from_entity(Kind::Cluster, "shop", "{\"é\":1}".as_bytes());
        let empty = Digest::from_entity(Kind::Settings, "settings", b"");
        assert_eq!(backend.to_hex(), "c1ba700416411e0da38f891a0ff8ac9e");
        assert_eq!(other.to_hex(), "5a8c764131898b9ab5617336e131b270");
        assert_eq!(empty.to_hex(), "eecd2ad7f2abd326d19d2004dca6a862");
        assert_eq!(
            backend.add(other).add(empty).to_hex(),
            "0b14111d3a767ccf2a8e1c55cdd10770"
        );
    }

    #[test]
    fn empty_state_is_all_zeros() {
        assert_eq!(Digest::default().to_string(), "0".repeat(32));
        assert_eq!(Digest::from_hex(&"0".repeat(32)), Some(Digest::default()));
    }

    #[test]
    fn refuses_other_spellings_of_hex() {
        for text in [
            "",
            "0",
            &"0".repeat(33),
            &"A".repeat(32),
            &format!("+{}", "0".repeat(31)),
        ] {
            assert_eq!(Digest::from_hex(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn hex_round_trips(value: u128) {
            prop_assert_eq!(Digest::from_hex(&Digest::new(value).to_hex()), Some(Digest::new(value)));
        }

        #[test]
        fn removing_undoes_adding_in_any_order(state: u128, a: u128, b: u128) {
            let (state, a, b) = (Digest::new(state), Digest::new(a), Digest::new(b));
            let changed = state.add(a).add(b).sub(a);
            prop_assert_eq!(changed, state.add(b));
            prop_assert_eq!(changed.sub(b), state);
        }
    }
}
