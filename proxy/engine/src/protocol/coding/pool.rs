//! Encoders, of which there are as many at a time as their memory may be.
//!
//! Rule: whoever gets none sends what he has as it is. A few that are not in use are kept, since making one costs more
//! than a short body. Called by `session/exchange/filters/compressing`.

use super::{Coding, Encoder, Strength};

/// Encoders of a coding that are kept while nobody uses them.
const SPARE_MAX: usize = 4;

/// Those of one engine.
#[derive(Default)]
pub struct Encoders {
    /// By [`Coding`].
    spare: [Vec<Encoder>; Coding::ALL.len()],
    /// The memory of those that are in use.
    in_use: usize,
}

impl Encoders {
    /// One for a body; none where the memory of all would be more than `most`.
    pub fn take(&mut self, strength: Strength, most: usize) -> Option<Encoder> {
        if self.in_use + strength.weight() > most {
            return None;
        }
        let spare = &mut self.spare[strength.coding as usize];
        let alike = spare.iter().rposition(|it| it.strength() == strength);
        let encoder = match alike {
            Some(at) => spare.remove(at),
            None => Encoder::new(strength)?,
        };
        self.in_use += strength.weight();
        Some(encoder)
    }

    /// Takes one back.
    pub fn give(&mut self, mut encoder: Encoder) {
        let strength = encoder.strength();
        self.in_use -= strength.weight();
        let spare = &mut self.spare[strength.coding as usize];
        if spare.len() == SPARE_MAX {
            // One of a level that nobody asks for any more would stay for ever.
            let other = spare.iter().position(|it| it.strength() != strength);
            let Some(at) = other else { return };
            spare.remove(at);
        }
        if encoder.reset() {
            spare.push(encoder);
        }
    }

    /// The memory of those that are in use.
    #[must_use]
    pub fn in_use_bytes(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_their_memory_may_be() {
        let mut encoders = Encoders::default();
        let gzip = Coding::Gzip.usual();
        let most = 2 * gzip.weight();
        let first = encoders.take(gzip, most).unwrap();
        let second = encoders.take(gzip, most).unwrap();
        assert!(encoders.take(gzip, most).is_none());
        encoders.give(first);
        assert!(encoders.take(Coding::Zstd.usual(), most).is_none());
        let third = encoders.take(gzip, most).unwrap();
        encoders.give(second);
        encoders.give(third);
        assert_eq!(encoders.in_use_bytes(), 0);
    }

    #[test]
    fn each_level_has_its_own_and_those_of_one_that_is_gone_make_room() {
        let mut encoders = Encoders::default();
        let at = |level| Strength {
            coding: Coding::Gzip,
            level,
        };
        for level in [1, 9] {
            let taken = [(); SPARE_MAX + 1].map(|()| encoders.take(at(level), usize::MAX).unwrap());
            assert!(taken.iter().all(|it| it.strength() == at(level)));
            for encoder in taken {
                encoders.give(encoder);
            }
            let spare = &encoders.spare[Coding::Gzip as usize];
            assert_eq!(spare.len(), SPARE_MAX);
            assert!(spare.iter().all(|it| it.strength() == at(level)));
        }
        assert_eq!(encoders.in_use_bytes(), 0);
    }

    #[test]
    fn one_that_was_left_in_the_midst_of_a_body_is_as_good_as_new() {
        for coding in Coding::ALL.map(Coding::usual) {
            let mut encoders = Encoders::default();
            let mut made = [Vec::new(), Vec::new()];
            for out in &mut made {
                let mut encoder = encoders.take(coding, usize::MAX).unwrap();
                encoder.write(b"a body", super::super::Then::End, out);
                encoders.give(encoder);
                let mut left = encoders.take(coding, usize::MAX).unwrap();
                left.write(&[7; 100_000], super::super::Then::Wait, &mut Vec::new());
                encoders.give(left);
            }
            assert_eq!(made[0], made[1], "{coding:?}");
        }
    }
}
