//! Users and their passwords, as a client shows them with each request (RFC 7617).
//!
//! Rule: what frontend, policies and listener say never replaces each other: a request has to be of a user whom
//! each of them knows. Here nothing is hashed: somebody who has been right before is known by a seal
//! ([`super::vault`]), and about everybody else a thread is asked ([`super::passwords`]).

use std::sync::Arc;

use super::jwt::escape;
use super::passwords::Book;
use super::vault::Seal;
use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason};
use crate::protocol::base64;
use crate::protocol::lines::LineBuf;
use crate::state::entity::BasicAuth;

/// Users, compiled.
#[derive(Clone, Debug)]
pub struct Basic {
    /// By what a client is asked.
    challenge: Box<str>,
    /// The hash of the file.
    file: Box<str>,
    /// None where the file is lost: then nobody is asked, and nobody gets in.
    book: Option<Arc<Book>>,
    /// In which backends are told the user, and no client says it of itself.
    header: Option<Box<str>>,
}

/// What a client shows.
pub enum Shown {
    /// A password that was right before.
    Known,
    /// One of which that is to be found out.
    Unknown(Claim),
    /// Nothing that could be right.
    Nothing,
}

/// What is to be found out. Nothing prints it.
pub struct Claim {
    /// Where it should stand.
    pub book: Arc<Book>,
    /// The name.
    pub user: Box<[u8]>,
    /// What was shown with it.
    pub password: Box<[u8]>,
    /// By which it is remembered.
    pub seal: Seal,
}

impl Basic {
    /// What a policy says, whose file has been read.
    pub(in crate::policy) fn of(said: &BasicAuth) -> Result<Self, String> {
        let book = said.users.book();
        Ok(Self {
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", said.realm).into(),
            file: said.users.file.sha256.as_str().into(),
            book: book.ok_or("basic_auth: its users have not been read")?,
            header: said.header.clone(),
        })
    }

    /// Whether another is about the same users, and tells of them alike.
    pub(in crate::policy) fn is_like(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.file.clone(), it.challenge.clone(), it.header.clone());
        parts(self) == parts(other)
    }

    /// Whether it is made of this.
    pub(in crate::policy) fn is_of(&self, said: &BasicAuth) -> bool {
        Self::of(said).is_ok_and(|it| it.is_like(self))
    }

    /// The header in which backends are told the user, if they are.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// Appends what backends are told of a request that shows one of them.
    pub(in crate::policy) fn write(&self, facts: &Facts<'_>, out: &mut LineBuf) {
        let user = shown(facts).map(|(user, _)| user).unwrap_or_default();
        if let Some(name) = self.header().filter(|_| !user.is_empty()) {
            out.push_with(name.as_bytes(), |out| escape(&user, false, out));
        }
    }

    /// What a request shows.
    #[must_use]
    pub fn look(&self, facts: &Facts<'_>) -> Shown {
        let claim = || {
            let (user, password) = shown(facts)?;
            Some(Claim {
                book: self.book.clone()?,
                seal: facts.vault.seal(&self.file, &user, &password)?,
                user: user.into(),
                password: password.into(),
            })
        };
        match claim() {
            None => Shown::Nothing,
            Some(claim) if facts.vault.knows(&claim.seal) => Shown::Known,
            Some(claim) => Shown::Unknown(claim),
        }
    }

    /// The answer where too many passwords wait to be looked up.
    #[must_use]
    pub fn too_many() -> Answer {
        Answer::new(503, Reason::TooManyPasswords)
    }

    /// The answer to who has shown nothing that is right.
    #[must_use]
    pub fn refusal(&self) -> Answer {
        if self.book.is_none() {
            return Answer::new(503, Reason::ContentMissing);
        }
        Answer {
            lines: LineBuf::one(b"WWW-Authenticate", self.challenge.as_bytes()),
            ..Answer::new(401, Reason::Unauthenticated)
        }
    }
}

/// The user whom a request names, and the password with it.
pub(in crate::policy) fn shown(facts: &Facts<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut lines = facts.head.values(facts.bytes, "authorization");
    let line = lines.next()?;
    // Of two it is unknown which is meant.
    let line = lines.next().is_none().then_some(line)?;
    let (scheme, text) = split(line, b' ')?;
    let pair = scheme
        .eq_ignore_ascii_case(b"basic")
        .then(|| base64::decode(text.trim_ascii()))??;
    let (user, password) = split(&pair, b':')?;
    Some((user.to_vec(), password.to_vec()))
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(at, text)?;
    Some((&text[..at], &text[at + 1..]))
}
