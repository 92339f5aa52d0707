//! Whose tokens let requests pass (RFC 7519, by the advice of RFC 8725), and what backends are told of them.
//!
//! Rule: what frontend, policies and listener say never replaces each other: each has to be convinced. A signature is
//! looked at once and then known by a seal ([`super::vault`]) of token and keys; what a token says, and until when, is
//! looked at each time. A client is told that its token is not taken and never why, which the access log has.

pub mod keys;
pub mod token;

use std::sync::Arc;

use serde_json::Value;

use self::keys::Keys;
use self::token::{Claims, Fault, Token};
use crate::policy::changes::room::{Overgrown, Room};
use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason};
use crate::protocol::cookie;
use crate::protocol::lines::LineBuf;
use crate::state::entity::{self, TokenIn};

/// Tokens of one issuer, compiled.
#[derive(Clone, Debug)]
pub struct Jwt {
    said: Arc<entity::Jwt>,
    keys: Option<Arc<Keys>>,
}

impl Jwt {
    /// What a policy says, whose keys have been read.
    pub(in crate::policy) fn of(said: &entity::Jwt) -> Result<Self, String> {
        let keys = said.keys.keys();
        Ok(Self {
            said: Arc::new(said.clone()),
            keys: keys.ok_or("jwt: its keys have not been read")?,
        })
    }

    /// Whether another asks for the same.
    pub(in crate::policy) fn is_like(&self, other: &Self) -> bool {
        self.said == other.said
    }

    /// Whether it is made of this.
    pub(in crate::policy) fn is_of(&self, said: &entity::Jwt) -> bool {
        *self.said == *said
    }

    /// Headers that backends are told of a token in, and no client of itself.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.said.headers.keys().map(|name| &**name)
    }

    /// The field in which the token stands, if the backend does not get that.
    pub fn dropped(&self) -> Option<&str> {
        let field = self.said.token_field();
        field.filter(|_| !self.said.forward_token)
    }

    /// What a request's token says, if it lets the request pass.
    pub(in crate::policy) fn admit(&self, facts: &Facts<'_>) -> Result<Claims, Answer> {
        let Some(keys) = &self.keys else {
            return Err(Answer::new(503, Reason::TokenKeysMissing));
        };
        let refused = |fault| self.challenge(", error=\"invalid_token\"", fault);
        let text = match self.shown(facts) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(self.challenge("", Reason::TokenMissing)),
            Err(fault) => return Err(refused(Reason::TokenRefused(fault))),
        };
        let claims = self.verified(keys, text, facts);
        let claims = claims.map_err(|fault| refused(Reason::TokenRefused(fault)))?;
        match self.suffices(&claims) {
            true => Ok(claims),
            false => Err(self.insufficient()),
        }
    }

    /// The token that a request shows.
    fn shown<'a>(&'a self, facts: &'a Facts<'_>) -> Result<Option<&'a [u8]>, Fault> {
        let values = |name| facts.head.values(facts.bytes, name);
        let mut found: Vec<&[u8]> = Vec::new();
        match &self.said.from {
            TokenIn::Authorization => found.extend(values("authorization")),
            TokenIn::Header(name) => found.extend(values(name)),
            TokenIn::Cookie(name) => {
                let pairs = values("cookie").flat_map(cookie::pairs);
                let named = pairs.filter(|(it, _)| *it == name.as_bytes());
                found.extend(named.map(|(_, value)| value));
            }
        }
        match found[..] {
            [] => Ok(None),
            [text] if self.said.from == TokenIn::Authorization => Ok(bearer(text)),
            [text] => Ok(Some(text)),
            _ => Err(Fault::Twice),
        }
    }

    /// What a token says, whose signature is right and whose time it is.
    fn verified(&self, keys: &Keys, text: &[u8], facts: &Facts<'_>) -> Result<Claims, Fault> {
        let token = token::parse(text)?;
        let Some(key) = keys.find(token.key.as_deref(), &token.algorithm) else {
            let is_known = token.key.as_deref().is_some_and(|name| keys.knows(name));
            return Err(if is_known {
                Fault::Algorithm
            } else {
                Fault::UnknownKey
            });
        };
        let Token {
            signed,
            signature,
            claims,
            ..
        } = token;
        let seal = facts.tokens.seal(&keys.id, text, b"");
        if !seal.as_ref().is_some_and(|seal| facts.tokens.knows(seal)) {
            facts.tokens.count();
            if !key.has_signed(signed, &signature) {
                return Err(Fault::Signature);
            }
            seal.into_iter()
                .for_each(|seal| facts.tokens.remember(seal));
        }
        self.holds(&claims, facts.unix_us)?;
        Ok(claims)
    }

    /// Whether a token is of this issuer, meant for here and for now.
    fn holds(&self, claims: &Claims, unix_us: u64) -> Result<(), Fault> {
        let now = unix_us as f64 / 1e6;
        let leeway = self.said.leeway as f64 / 1e3;
        let (end, start) = (claims.time("exp")?, claims.time("nbf")?);
        let issued = claims.time("iat")?;
        if claims.text("iss")? != Some(&*self.said.issuer) {
            return Err(Fault::Issuer);
        }
        if !self.is_meant(claims)? {
            return Err(Fault::Audience);
        }
        if !end.is_some_and(|end| now < end + leeway) {
            return Err(Fault::Expired);
        }
        match start
            .into_iter()
            .chain(issued)
            .all(|from| from <= now + leeway)
        {
            true => Ok(()),
            false => Err(Fault::Early),
        }
    }

    fn is_meant(&self, claims: &Claims) -> Result<bool, Fault> {
        let ours = &self.said.audiences;
        let is_ours = |it: &str| ours.iter().any(|our| **our == *it);
        let is_one = match claims.get("aud") {
            None => false,
            Some(Value::String(it)) => is_ours(it),
            Some(Value::Array(all)) => {
                let texts: Option<Vec<_>> = all.iter().map(Value::as_str).collect();
                texts.ok_or(Fault::Malformed)?.into_iter().any(is_ours)
            }
            Some(_) => return Err(Fault::Malformed),
        };
        Ok(ours.is_empty() || is_one)
    }

    /// Whether it allows all that is asked for.
    fn suffices(&self, claims: &Claims) -> bool {
        let scope = claims.get("scope").or_else(|| claims.get("scp"));
        let allows = |wanted: &str| {
            let is_it = |said: &Value| {
                said.as_str()
                    .is_some_and(|it| it.split(' ').any(|it| it == wanted))
            };
            match scope {
                Some(Value::Array(all)) => all.iter().any(is_it),
                Some(said) => is_it(said),
                None => false,
            }
        };
        let is_one_of = |said: &Value, texts: &[Box<str>]| {
            plain(said).is_some_and(|it| texts.iter().any(|text| **text == *it))
        };
        self.said.scopes.iter().all(|it| allows(it))
            && self
                .said
                .claims
                .iter()
                .all(|(name, texts)| match claims.get(name) {
                    Some(Value::Array(all)) => all.iter().any(|each| is_one_of(each, texts)),
                    Some(said) => is_one_of(said, texts),
                    None => false,
                })
    }

    /// Appends what backends are told in those headers that it says, as long as there is room.
    pub(in crate::policy) fn write(
        &self,
        claims: &Claims,
        says: impl Fn(&str) -> bool,
        room: &Room,
        out: &mut LineBuf,
    ) -> Result<(), Overgrown> {
        for (name, claim) in &self.said.headers {
            let mut value = Vec::new();
            match claims.get(claim) {
                Some(Value::Array(all)) => {
                    for (number, text) in all.iter().filter_map(plain).enumerate() {
                        value.extend_from_slice(if number > 0 { b"," } else { b"" });
                        escape(text.as_bytes(), true, &mut value);
                    }
                }
                Some(said) => {
                    let text = plain(said).unwrap_or_default();
                    escape(text.as_bytes(), false, &mut value);
                }
                None => {}
            }
            room.take(value.len())?;
            if says(name) && !value.is_empty() {
                out.push(name.as_bytes(), &value);
            }
        }
        Ok(())
    }

    fn challenge(&self, more: &str, reason: Reason) -> Answer {
        let realm = &self.said.realm;
        let challenge = format!("Bearer realm=\"{realm}\"{more}");
        Answer {
            lines: LineBuf::one(b"WWW-Authenticate", challenge.as_bytes()),
            ..Answer::new(401, reason)
        }
    }

    fn insufficient(&self) -> Answer {
        let scopes = self.said.scopes.join(" ");
        let scope = match scopes.is_empty() {
            true => String::new(),
            false => format!(", scope=\"{scopes}\""),
        };
        let more = format!(", error=\"insufficient_scope\"{scope}");
        Answer {
            status: 403,
            ..self.challenge(&more, Reason::TokenInsufficient)
        }
    }
}

/// The token behind the word (RFC 6750 §2.1); none for another scheme.
fn bearer(line: &[u8]) -> Option<&[u8]> {
    let at = memchr::memchr(b' ', line)?;
    let (scheme, token) = line.split_at(at);
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// What a claim is as text; none where it is a map, a list or nothing.
fn plain(said: &Value) -> Option<String> {
    match said {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(said.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What a claim is as text, whatever it is; none where it is nothing.
pub(in crate::policy) fn whole(said: &Value) -> Option<String> {
    match said {
        Value::Null => None,
        _ => Some(plain(said).unwrap_or_else(|| said.to_string())),
    }
}

/// Appends a text so that nothing in it is taken for something else: what is not printable ASCII, the sign by which that
/// is written, and in a list what parts its members.
pub(super) fn escape(text: &[u8], in_list: bool, out: &mut Vec<u8>) {
    for (at, &byte) in text.iter().enumerate() {
        let is_edge = at == 0 || at + 1 == text.len();
        let is_plain = match byte {
            b'%' => false,
            b',' => !in_list,
            b' ' => !is_edge,
            _ => byte.is_ascii_graphic(),
        };
        match is_plain {
            true => out.push(byte),
            false => crate::policy::changes::template::push_escaped(byte, out),
        }
    }
}

#[cfg(test)]
mod tests;
