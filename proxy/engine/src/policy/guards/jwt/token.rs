//! A token as it is written (RFC 7515 §7.1, RFC 7519): taken apart strictly, and nothing of it believed yet.
//!
//! Rule: bytes in, parts or a [`Fault`] out. A member that is there twice, a number as text, an extension that has to be
//! understood (`crit`): no token. Whoever takes what a token says looks at its signature first.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::protocol::base64;

/// A token, taken apart.
#[derive(Debug)]
pub struct Token<'a> {
    /// What is signed.
    pub signed: &'a [u8],
    /// The name of an algorithm.
    pub algorithm: String,
    /// The name of a key.
    pub key: Option<String>,
    /// What is said.
    pub claims: Claims,
    /// By which the signer is known.
    pub signature: Vec<u8>,
}

/// Why a token lets nobody pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There are two, and it is unknown which is meant.
    Twice,
    /// It is no token, or says something in a form in which nobody says it.
    Malformed,
    /// It asks for an extension to be understood.
    Critical,
    /// It is meant for something else, such as to log somebody out.
    Type,
    /// The key that it names is not used with the algorithm that it names.
    Algorithm,
    /// It names no key of the set.
    UnknownKey,
    /// Its signature is by nobody of these.
    Signature,
    /// Somebody else has issued it.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// It has ended, or never does.
    Expired,
    /// Its time has not come.
    Early,
}

impl Fault {
    /// For the access log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Twice => "token_twice",
            Self::Malformed => "token_malformed",
            Self::Critical => "token_critical",
            Self::Type => "token_type",
            Self::Algorithm => "token_algorithm",
            Self::UnknownKey => "token_unknown_key",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Expired => "token_expired",
            Self::Early => "token_early",
        }
    }
}

/// Takes a token apart.
///
/// # Errors
/// What it is no token by.
pub fn parse(text: &[u8]) -> Result<Token<'_>, Fault> {
    let mut parts = text.splitn(4, |byte| *byte == b'.');
    let all = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(header), Some(claims), Some(signature), None) = all else {
        return Err(Fault::Malformed);
    };
    if text.len() > TOKEN_BYTES_MAX {
        return Err(Fault::Malformed);
    }
    let signed = &text[..text.len() - signature.len() - 1];
    let decoded = |part| base64::decode_url(part).ok_or(Fault::Malformed);
    let header = Claims::parse(&decoded(header)?)?;
    if header.get("crit").is_some() {
        return Err(Fault::Critical);
    }
    if !header.text("typ")?.is_none_or(is_usual) {
        return Err(Fault::Type);
    }
    Ok(Token {
        signed,
        algorithm: header.text("alg")?.ok_or(Fault::Malformed)?.to_owned(),
        key: header.text("kid")?.map(str::to_owned),
        claims: Claims::parse(&decoded(claims)?)?,
        signature: decoded(signature)?,
    })
}

/// Whether a type is that of tokens which let somebody pass (RFC 7519 §5.1, RFC 9068 §2.1); others have their own, so
/// that one is never taken for another (RFC 8725 §3.11).
fn is_usual(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(
        kind.strip_prefix("application/").unwrap_or(&kind),
        "jwt" | "at+jwt"
    )
}

/// What a token says: members by name, each once.
#[derive(Debug)]
pub struct Claims(Vec<(Box<str>, Value)>);

impl Claims {
    fn parse(text: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(text).map_err(|_| Fault::Malformed)
    }

    /// What it says of something; a null is said as well.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut members = self.0.iter();
        members.find(|(it, _)| **it == *name).map(|(_, said)| said)
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        let said = self.get(name);
        said.map(|said| said.as_str().ok_or(Fault::Malformed))
            .transpose()
    }

    /// A time, in seconds since 1970 (RFC 7519 §2), a fraction among them.
    ///
    /// # Errors
    /// It is something else.
    pub fn time(&self, name: &str) -> Result<Option<f64>, Fault> {
        let said = self.get(name);
        let number = |said: &Value| said.as_f64().filter(|it| it.is_finite() && *it >= 0.0);
        said.map(|said| number(said).ok_or(Fault::Malformed))
            .transpose()
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Claims;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("members, each once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut found: Vec<(Box<str>, Value)> = Vec::new();
                while let Some(name) = map.next_key::<Box<str>>()? {
                    if found.len() == MEMBERS_MAX || found.iter().any(|(it, _)| *it == name) {
                        return Err(serde::de::Error::custom("too many, or one twice"));
                    }
                    found.push((name, map.next_value()?));
                }
                Ok(Claims(found))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Longer than any cookie may be, and shorter than a head.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Each is compared with those before it.
const MEMBERS_MAX: usize = 128;
