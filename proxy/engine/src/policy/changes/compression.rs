//! Which answers are compressed, and how: by what a client takes (RFC 9110 §12.5.3) and by what an answer is.
//!
//! Rule: pure, and on the safe side. A secret beside what somebody else can have put into the same answer shows in
//! its length (BREACH), so that what sets a cookie or is private stays as it is unless that is asked for; and what
//! its origin vouches for, byte by byte, is left alone. Whatever an answer would have been for another client, it
//! says that it depends on that (`Vary`). Called by `session/exchange`.

use crate::protocol::coding::{Coding, Strength};
use crate::state::entity;

/// What is asked for, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The most wanted first.
    encodings: Box<[Strength]>,
    min_bytes: u64,
    private: bool,
    /// In lower case; those that end with a slash are all that begin so.
    types: Box<[Box<str>]>,
}

/// Why an answer stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has no body of which that could be asked, or a part of one.
    NoBody,
    /// It is of another type.
    Type,
    /// It is too short.
    Short,
    /// It is compressed already.
    Encoded,
    /// It is one client's, and says so.
    Private,
    /// Its origin forbids it, or vouches for its bytes.
    Forbidden,
}

/// An answer, as far as it matters here.
pub struct Answered<'a, F> {
    /// Its status.
    pub status: u16,
    /// How long its body is, if that is known.
    pub length: Option<u64>,
    /// Tells whether any value of a field passes a test; the name in lower case.
    pub any_value: &'a F,
}

impl Compression {
    /// What an entity asks for.
    #[must_use]
    pub fn of(said: &entity::Compression) -> Self {
        Self {
            encodings: said.strengths().collect(),
            min_bytes: said.min_bytes,
            private: said.private,
            types: said
                .types
                .iter()
                .map(|text| text.strip_suffix('*').unwrap_or(text).into())
                .collect(),
        }
    }

    /// The coding that a client gets, by the lines of its `Accept-Encoding`; none: it gets what there is.
    /// Of those that it likes best the first of ours is taken.
    #[must_use]
    pub fn chosen<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> Option<Strength> {
        let accepted = Accepted::read(lines);
        let mut best: Option<(u16, Strength)> = None;
        for &ours in &self.encodings {
            let weight = accepted.weight(ours.coding);
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, ours));
            }
        }
        let (weight, ours) = best?;
        (weight >= accepted.identity.unwrap_or(0)).then_some(ours)
    }

    /// Whether an answer may be compressed, whoever gets it.
    ///
    /// # Errors
    /// Why not.
    pub fn may_compress(
        &self,
        answer: &Answered<'_, impl Fn(&str, &mut dyn FnMut(&[u8]) -> bool) -> bool>,
    ) -> Result<(), Reason> {
        let any = answer.any_value;
        let has = |name: &str| any(name, &mut |_| true);
        if matches!(answer.status, 0..200 | 204 | 205 | 206 | 304) || has("content-range") {
            return Err(Reason::NoBody);
        }
        if !any("content-type", &mut |value| self.takes(value)) {
            return Err(Reason::Type);
        }
        if answer.length.is_some_and(|length| length < self.min_bytes) {
            return Err(Reason::Short);
        }
        let is_coded = |value: &[u8]| !value.trim_ascii().eq_ignore_ascii_case(b"identity");
        if any("content-encoding", &mut |value| is_coded(value)) {
            return Err(Reason::Encoded);
        }
        if any("cache-control", &mut |value| forbids_change(value))
            || VOUCHED_FOR.into_iter().any(has)
        {
            return Err(Reason::Forbidden);
        }
        if !self.private
            && (has("set-cookie") || any("cache-control", &mut |value| is_private(value)))
        {
            return Err(Reason::Private);
        }
        Ok(())
    }

    /// Whether a media type is one of those that are asked for.
    fn takes(&self, value: &[u8]) -> bool {
        let name = value.split(|&byte| byte == b';').next().unwrap_or_default();
        let name = name.trim_ascii();
        // A call's messages have their own compression, and an end that tells how it went.
        let is_call = name.len() >= GRPC.len() && name[..GRPC.len()].eq_ignore_ascii_case(GRPC);
        !is_call
            && self.types.iter().any(|listed| {
                let listed = listed.as_bytes();
                match listed.last() {
                    Some(b'/') => name
                        .get(..listed.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(listed)),
                    _ => name.eq_ignore_ascii_case(listed),
                }
            })
    }
}

const GRPC: &[u8] = b"application/grpc";

/// Fields by which the bytes of a body can be checked.
const VOUCHED_FOR: [&str; 4] = ["content-digest", "content-md5", "digest", "repr-digest"];

/// Whether a value of `Cache-Control` forbids that a body is changed; clients may say so, too.
#[must_use]
pub fn forbids_change(value: &[u8]) -> bool {
    has_directive(value, b"no-transform")
}

fn is_private(value: &[u8]) -> bool {
    has_directive(value, b"private")
}

/// Whether `Cache-Control` has a directive, with an argument or without.
fn has_directive(value: &[u8], word: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| {
        let name = member.split(|&byte| byte == b'=').next();
        name.unwrap_or_default()
            .trim_ascii()
            .eq_ignore_ascii_case(word)
    })
}

/// What a client takes: weights in thousandths, 0 for what it does not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepted {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Accepted {
    /// A member that cannot be read counts for nothing; of one that comes twice the last counts.
    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        for member in lines.flat_map(|line| line.split(|&byte| byte == b',')) {
            let (name, rest) = match member.iter().position(|&byte| byte == b';') {
                Some(at) => (&member[..at], Some(&member[at + 1..])),
                None => (member, None),
            };
            let Some(weight) = rest.map_or(Some(1000), weight_of) else {
                continue;
            };
            let name = name.trim_ascii();
            if let Some(coding) = Coding::of(name) {
                found.codings[coding as usize] = Some(weight);
            } else if name == b"*" {
                found.any = Some(weight);
            } else if name.eq_ignore_ascii_case(b"identity") {
                found.identity = Some(weight);
            }
        }
        found
    }

    fn weight(&self, coding: Coding) -> u16 {
        self.codings[coding as usize].or(self.any).unwrap_or(0)
    }
}

/// The value of `q=` (RFC 9110 §12.4.2), in thousandths.
fn weight_of(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.trim_ascii().split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, rest) = value.split_first()?;
    let digits = match rest.split_first() {
        None => &[],
        Some((b'.', digits)) if digits.len() <= 3 => digits,
        Some(_) => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        weight += u16::from(digit) * worth;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests;
