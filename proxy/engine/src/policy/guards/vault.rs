//! Who has shown a password that was right, remembered so that it is hashed once; and so are tokens, in a vault of
//! their own.
//!
//! Rule: nothing of what is shown is kept: what is remembered is a seal of user, password and file of users, by a key
//! that no other process has. A file that changes has other seals. Bounded: the oldest goes first.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashSet, VecDeque};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

/// A seal of what somebody has shown.
pub type Seal = [u8; 32];

/// Those that were right.
#[derive(Default)]
pub struct Vault {
    key: OnceCell<Option<hmac::Key>>,
    known: RefCell<Known>,
    looked_up: Cell<u64>,
}

#[derive(Default)]
struct Known {
    seals: HashSet<Seal, ahash::RandomState>,
    /// The oldest first.
    order: VecDeque<Seal>,
}

impl Vault {
    /// The seal of a user's password at a file of users, which is named by its hash; none where there is no
    /// randomness, so that nobody gets in.
    pub fn seal(&self, file: &str, user: &[u8], password: &[u8]) -> Option<Seal> {
        let make = || hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        let mut context = hmac::Context::with_key(self.key.get_or_init(make).as_ref()?);
        for part in [file.as_bytes(), user, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().ok()
    }

    /// Something was not known, and is looked at.
    pub fn count(&self) {
        self.looked_up.set(self.looked_up.get() + 1);
    }

    /// How often that was, since this was asked.
    pub fn take_count(&self) -> u64 {
        self.looked_up.take()
    }

    /// Whether it was right before.
    pub fn knows(&self, seal: &Seal) -> bool {
        self.known.borrow().seals.contains(seal)
    }

    /// It was right.
    pub fn remember(&self, seal: Seal) {
        let mut known = self.known.borrow_mut();
        if !known.seals.insert(seal) {
            return;
        }
        known.order.push_back(seal);
        if known.order.len() > KNOWN_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.seals.remove(&oldest);
        }
    }
}

/// Users at a time; each costs 64 bytes and a little.
const KNOWN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_known_and_nothing_else() {
        let vault = Vault::default();
        let seal = vault.seal("file", b"user", b"secret").unwrap();
        assert!(!vault.knows(&seal));
        vault.remember(seal);
        assert!(vault.knows(&vault.seal("file", b"user", b"secret").unwrap()));
        for (file, user, password) in [
            ("other", "user", "secret"),
            ("file", "use", "rsecret"),
            ("file", "user", "Secret"),
            ("file", "", "usersecret"),
        ] {
            let other = vault
                .seal(file, user.as_bytes(), password.as_bytes())
                .unwrap();
            assert!(!vault.knows(&other), "{file} {user} {password}");
        }
        assert_ne!(
            Vault::default().seal("file", b"user", b"secret"),
            Some(seal),
            "another key"
        );
    }

    #[test]
    fn the_oldest_goes_first() {
        let vault = Vault::default();
        let seal = |number: usize| vault.seal("f", b"u", &number.to_be_bytes()).unwrap();
        for number in 0..=KNOWN_MAX {
            vault.remember(seal(number));
            vault.remember(seal(number));
        }
        assert!(!vault.knows(&seal(0)));
        assert!(vault.knows(&seal(1)) && vault.knows(&seal(KNOWN_MAX)));
        assert_eq!(vault.known.borrow().order.len(), KNOWN_MAX);
    }
}
