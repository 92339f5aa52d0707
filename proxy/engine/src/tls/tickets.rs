//! The session tickets of all listeners (RFC 5077, RFC 8446 §4.6.1): made and opened with keys that the
//! reconciler hands out, so that a session is resumed by any worker, and after a restart.
//!
//! Rule: the newest key seals, every key opens. What is sealed is bound to the policy of the listener
//! by which it was made, so that a session never crosses from one policy to another. Written by
//! the control thread a few times a day and read by the engine's in handshakes: the lock is there because
//! rustls wants to share, and hardly ever contended.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// What a key is known by, which tickets carry in clear text.
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// One key as it is handed out: its name and its secret.
pub const KEY_BYTES: usize = NAME_BYTES + SECRET_BYTES;
/// Keys that are held at a time.
pub const KEYS_MAX: usize = 8;

/// How long a client may keep a ticket; keys are kept for longer.
const LIFETIME_S: u32 = 12 * 3600;
/// A longer one is not ours: those with a client's chain have about 4 KiB.
const TICKET_BYTES_MAX: usize = 16 * 1024;

struct Key {
    name: [u8; NAME_BYTES],
    secret: RandomizedNonceKey,
}

impl Key {
    fn new(bytes: &[u8]) -> Option<Self> {
        let (name, secret) = bytes.split_first_chunk::<NAME_BYTES>()?;
        Some(Self {
            name: *name,
            secret: RandomizedNonceKey::new(&AES_256_GCM, secret).ok()?,
        })
    }

    fn random() -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).ok()?;
        Self::new(&bytes)
    }
}

/// The keys of one worker. Until they are handed out it seals with one that nobody else has, made when it
/// is needed: random bytes are gathered for 20 ms before the first, which not every worker asks for.
#[derive(Default)]
pub struct Tickets {
    keys: RwLock<Vec<Arc<Key>>>,
}

impl Tickets {
    /// Takes other keys in place of those held: one behind the other, the newest first.
    ///
    /// # Errors
    /// When these are no keys; those held are kept then.
    pub fn replace(&self, bytes: &[u8]) -> Result<(), String> {
        let count = bytes.len() / KEY_BYTES;
        if bytes.len() % KEY_BYTES != 0 || !(1..=KEYS_MAX).contains(&count) {
            return Err(format!("{} bytes are no ticket keys", bytes.len()));
        }
        let keys = bytes
            .chunks(KEY_BYTES)
            .map(|key| Key::new(key).map(Arc::new))
            .collect::<Option<_>>()
            .ok_or("the cryptography takes no such key")?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn newest(&self) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.first() {
            return Some(key.clone());
        }
        drop(keys);
        let own = Arc::new(Key::random()?);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() {
            keys.push(own);
        }
        keys.first().cloned()
    }

    fn named(&self, name: &[u8]) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| key.name == name).cloned()
    }
}

/// The tickets of the listeners with one policy.
pub struct PolicyTickets {
    tickets: Arc<Tickets>,
    /// What distinguishes the policy.
    policy: Box<[u8]>,
}

impl PolicyTickets {
    /// `policy` is what a session depends on.
    #[must_use]
    pub fn new(tickets: Arc<Tickets>, policy: &[u8]) -> Self {
        Self {
            tickets,
            policy: policy.into(),
        }
    }

    fn bound_to(&self, name: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([name, &self.policy].concat())
    }
}

impl ProducesTickets for PolicyTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    /// Name, nonce, ciphertext, tag.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.tickets.newest()?;
        let mut sealed = plain.to_vec();
        let nonce = key
            .secret
            .seal_in_place_append_tag(self.bound_to(&key.name), &mut sealed)
            .ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.tickets.named(name)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key
            .secret
            .open_in_place(nonce, self.bound_to(name), &mut opened)
            .ok()?
            .len();
        opened.truncate(length);
        Some(opened)
    }
}

impl std::fmt::Debug for PolicyTickets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PolicyTickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[u8]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| [*number; KEY_BYTES])
            .collect()
    }

    fn holding(numbers: &[u8]) -> Arc<Tickets> {
        let tickets = Arc::new(Tickets::default());
        tickets.replace(&keys(numbers)).unwrap();
        tickets
    }

    fn of(tickets: &Arc<Tickets>, policy: &str) -> PolicyTickets {
        PolicyTickets::new(tickets.clone(), policy.as_bytes())
    }

    #[test]
    fn whoever_has_the_key_opens_it() {
        let made = of(&holding(&[1]), "modern").encrypt(b"session").unwrap();
        assert!(!made.windows(7).any(|part| part == b"session"));
        for other in [holding(&[1]), holding(&[2, 1]), holding(&[3, 2, 1])] {
            assert_eq!(of(&other, "modern").decrypt(&made).unwrap(), b"session");
        }
        assert_eq!(of(&holding(&[2]), "modern").decrypt(&made), None);
    }

    #[test]
    fn the_newest_key_seals() {
        let tickets = holding(&[1]);
        let old = of(&tickets, "").encrypt(b"old").unwrap();
        tickets.replace(&keys(&[2, 1])).unwrap();
        let new = of(&tickets, "").encrypt(b"new").unwrap();
        assert_eq!((old[0], new[0]), (1, 2));
        tickets.replace(&keys(&[3, 2])).unwrap();
        assert_eq!(of(&tickets, "").decrypt(&old), None);
        assert_eq!(of(&tickets, "").decrypt(&new).unwrap(), b"new");
    }

    #[test]
    fn no_session_crosses_policies() {
        let tickets = holding(&[1]);
        let made = of(&tickets, "modern").encrypt(b"session").unwrap();
        assert_eq!(of(&tickets, "intermediate").decrypt(&made), None);
    }

    #[test]
    fn what_was_changed_is_not_opened() {
        let tickets = holding(&[1]);
        let made = of(&tickets, "").encrypt(b"session").unwrap();
        for at in 0..made.len() {
            let mut changed = made.clone();
            changed[at] ^= 1;
            assert_eq!(of(&tickets, "").decrypt(&changed), None, "{at}");
            assert_eq!(of(&tickets, "").decrypt(&made[..at]), None, "{at}");
        }
        assert_eq!(of(&tickets, "").decrypt(&[1; TICKET_BYTES_MAX + 1]), None);
    }

    #[test]
    fn what_are_no_keys_changes_nothing() {
        let tickets = holding(&[1]);
        let made = of(&tickets, "").encrypt(b"session").unwrap();
        for wrong in [
            0,
            1,
            KEY_BYTES - 1,
            KEY_BYTES + 1,
            KEY_BYTES * (KEYS_MAX + 1),
        ] {
            assert!(tickets.replace(&vec![2; wrong]).is_err(), "{wrong}");
        }
        assert_eq!(of(&tickets, "").decrypt(&made).unwrap(), b"session");
    }

    #[test]
    fn without_keys_it_seals_with_one_that_nobody_else_has() {
        let (one, other) = (Arc::new(Tickets::default()), Arc::new(Tickets::default()));
        let made = of(&one, "").encrypt(b"session").unwrap();
        assert_eq!(of(&one, "").decrypt(&made).unwrap(), b"session");
        assert_eq!(
            made[..NAME_BYTES],
            of(&one, "").encrypt(b"another").unwrap()[..NAME_BYTES]
        );
        assert_eq!(of(&other, "").decrypt(&made), None);
        of(&other, "").encrypt(b"session").unwrap();
        assert_eq!(of(&other, "").decrypt(&made), None);
        one.replace(&keys(&[1])).unwrap();
        assert_eq!(of(&one, "").encrypt(b"session").unwrap()[0], 1);
        assert_eq!(of(&one, "").decrypt(&made), None);
    }
}
