//! What an ACME authority is answered when it looks whether a hostname is ours (RFC 8555 §8, RFC 8737).
//!
//! Rule: an answer is given to whoever asks in exactly the right way, by every worker, as long as the
//! reconciler wants it; these are no part of the state. Written by the control thread while a
//! certificate is ordered, read by the engine's: a request costs one load as long as there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ahash::AHashMap;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The protocol of the challenge over TLS (RFC 8737 §6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// Answers of each kind that are held at a time.
pub const ANSWERS_MAX: usize = 4096;

/// Whether a client speaks the challenge's protocol and no other.
#[must_use]
pub fn is_asked_for(hello: &ClientHello<'_>) -> bool {
    hello
        .alpn()
        .is_some_and(|mut offered| offered.next() == Some(ALPN) && offered.next().is_none())
}

/// The answers of one worker.
#[derive(Default)]
pub struct Challenges {
    any: AtomicBool,
    answers: RwLock<Answers>,
}

/// What is answered.
#[derive(Default)]
pub struct Answers {
    /// Key authorizations by token.
    pub http: AHashMap<Vec<u8>, String>,
    /// Certificates by hostname.
    pub tls: AHashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Takes other answers in place of those held.
    ///
    /// # Errors
    /// When they are too many; those held are kept then.
    pub fn replace(&self, answers: Answers) -> Result<(), String> {
        let most = answers.http.len().max(answers.tls.len());
        if most > ANSWERS_MAX {
            return Err(format!(
                "{most} answers to challenges are more than {ANSWERS_MAX}"
            ));
        }
        let any = most > 0;
        *self.answers.write().unwrap_or_else(PoisonError::into_inner) = answers;
        self.any.store(any, Ordering::Release);
        Ok(())
    }

    /// What is answered to a request for that path.
    #[must_use]
    pub fn answer(&self, path: &[u8]) -> Option<String> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let token = path.strip_prefix(PATH)?;
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.http.get(token).cloned()
    }

    /// What is shown for a host in lower case to a client that speaks the challenge's protocol.
    #[must_use]
    pub fn certificate(&self, hostname: &str) -> Option<Arc<CertifiedKey>> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.tls.get(hostname).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(count: usize) -> Answers {
        Answers {
            http: (0..count)
                .map(|number| (format!("token{number}").into_bytes(), format!("a{number}")))
                .collect(),
            tls: AHashMap::new(),
        }
    }

    #[test]
    fn only_the_very_path_is_answered() {
        let challenges = Challenges::default();
        let path = b"/.well-known/acme-challenge/token1";
        assert_eq!(challenges.answer(path), None);
        challenges.replace(answers(2)).unwrap();
        assert_eq!(challenges.answer(path).as_deref(), Some("a1"));
        for other in [
            &b"/.well-known/acme-challenge/"[..],
            b"/.well-known/acme-challenge/token",
            b"/.well-known/acme-challenge/token1/",
            b"/.well-known/acme-challenge//token1",
            b"/.WELL-KNOWN/acme-challenge/token1",
            b"/token1",
            b"token1",
        ] {
            assert_eq!(challenges.answer(other), None);
        }
        challenges.replace(Answers::default()).unwrap();
        assert_eq!(challenges.answer(path), None);
    }

    #[test]
    fn too_many_change_nothing() {
        let challenges = Challenges::default();
        challenges.replace(answers(1)).unwrap();
        assert!(challenges.replace(answers(ANSWERS_MAX + 1)).is_err());
        assert!(
            challenges
                .answer(b"/.well-known/acme-challenge/token0")
                .is_some()
        );
    }
}
