//! The keys of an issuer (RFC 7517), each bound to the one algorithm that it is used with.
//!
//! Rule: which algorithm a signature is of is said by the key and never by a token, so that no token chooses a weaker
//! one; those by a shared secret (HS256) and `none` are no algorithms here. The reconciler has taken the same set apart,
//! with better words (`reconciler/materials/jwks.py`); keys of other sorts are passed over by both. Read when a change is
//! prepared.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;

use crate::protocol::base64;

/// A set of keys.
#[derive(Debug)]
pub struct Keys {
    /// The hash of the file, which names the set.
    pub id: Box<str>,
    keys: Box<[Key]>,
}

/// A key.
pub struct Key {
    name: Option<Box<str>>,
    algorithm: &'static Algorithm,
    public: ParsedPublicKey,
}

/// What a key is used with.
pub struct Algorithm {
    name: &'static str,
    /// Another name of the same.
    also: &'static str,
    verified_by: &'static dyn VerificationAlgorithm,
    sort: Sort,
}

#[derive(PartialEq, Eq)]
enum Sort {
    Rsa,
    /// The curve, and the bytes of a coordinate.
    Curve(&'static str, usize),
    Edwards,
}

impl Keys {
    /// Reads a set. Of an empty file there are none, as where files are not asked for (`routing`): nobody passes.
    ///
    /// # Errors
    /// A sentence about what is wrong in it.
    pub fn parse(id: &str, content: &[u8]) -> Result<Self, String> {
        let set: Set = match content {
            [] => Set { keys: Vec::new() },
            _ => serde_json::from_slice(content).map_err(|_| "it is no set of keys")?,
        };
        let mut keys: Vec<Key> = Vec::new();
        for (number, jwk) in set.keys.iter().enumerate() {
            let key = jwk.key();
            let key = key.map_err(|reason| format!("key {}: {reason}", number + 1))?;
            keys.extend(key);
        }
        // An issuer that says none has taken back all that there were.
        if (keys.is_empty() && !set.keys.is_empty()) || keys.len() > KEYS_MAX {
            return Err(format!(
                "expected up to {KEYS_MAX} keys that verify signatures"
            ));
        }
        Ok(Self {
            id: id.into(),
            keys: keys.into(),
        })
    }

    /// The key that a token is signed by, by the names that it gives: of the key, perhaps, and of an algorithm. A key
    /// without a name is meant by any, if no other could be.
    #[must_use]
    pub fn find(&self, name: Option<&str>, algorithm: &str) -> Option<&Key> {
        let is_meant = |key: &&Key| {
            let is_named = match (key.name.as_deref(), name) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            };
            is_named && key.algorithm.is_called(algorithm)
        };
        let found = || self.keys.iter().filter(is_meant);
        let exact = found().find(|key| name.is_some() && key.name.as_deref() == name);
        let mut others = found();
        exact.or_else(|| others.next().filter(|_| others.next().is_none()))
    }

    /// Whether a key has this name, whatever it is used with.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|key| key.name.as_deref().is_none_or(|it| it == name))
    }
}

impl Key {
    /// Whether a signature is by it.
    #[must_use]
    pub fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(text, signature).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:?}", self.algorithm.name, self.name)
    }
}

impl Algorithm {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.also == name
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// A key as it is written; what else is said of it does not matter.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    crv: Option<String>,
    e: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    n: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// The key; none if it is for something else, or of a sort that is not known here.
    fn key(&self) -> Result<Option<Key>, String> {
        let is_for_signatures = self.usage.as_deref().is_none_or(|it| it == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|it| it == "verify");
        if !is_for_signatures || !self.key_ops.as_ref().is_none_or(verifies) {
            return Ok(None);
        }
        let Some(algorithm) = self.algorithm() else {
            return Ok(None);
        };
        let bytes = match algorithm.sort {
            Sort::Rsa => {
                let n = bytes("n", self.n.as_deref(), None)?;
                match rsa(&n, &bytes("e", self.e.as_deref(), None)?) {
                    Some(bytes) => bytes,
                    None => return Ok(None),
                }
            }
            Sort::Curve(_, length) => {
                let x = bytes("x", self.x.as_deref(), Some(length))?;
                let y = bytes("y", self.y.as_deref(), Some(length))?;
                [&[UNCOMPRESSED][..], &x, &y].concat()
            }
            Sort::Edwards => bytes("x", self.x.as_deref(), Some(EDWARDS_BYTES))?,
        };
        let public = ParsedPublicKey::new(algorithm.verified_by, bytes)
            .map_err(|_| format!("it is no key of {}", algorithm.name))?;
        Ok(Some(Key {
            name: self.kid.as_deref().map(Into::into),
            algorithm,
            public,
        }))
    }

    /// The one that it says; else the one that its curve has, and of RSA what everybody uses.
    fn algorithm(&self) -> Option<&'static Algorithm> {
        let fits = |algorithm: &&Algorithm| match algorithm.sort {
            Sort::Rsa => self.kty == "RSA",
            Sort::Curve(curve, _) => self.kty == "EC" && self.crv.as_deref() == Some(curve),
            Sort::Edwards => self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519"),
        };
        let mut fitting = ALGORITHMS.iter().filter(fits);
        match &self.alg {
            None => fitting.next(),
            Some(name) => fitting.find(|algorithm| algorithm.is_called(name)),
        }
    }
}

/// The bytes that a member has.
fn bytes(member: &str, text: Option<&str>, length: Option<usize>) -> Result<Vec<u8>, String> {
    let bytes = text.and_then(|text| base64::decode_url(text.as_bytes()));
    bytes
        .filter(|bytes| length.is_none_or(|length| bytes.len() == length))
        .ok_or_else(|| format!("its {member:?} is not what it should be"))
}

/// A key of RSA as DER has it (RFC 8017 §A.1.1); none if it is too short to be safe, or so long that each signature
/// would hold up everybody.
fn rsa(n: &[u8], e: &[u8]) -> Option<Vec<u8>> {
    let zeros = n.iter().take_while(|byte| **byte == 0).count();
    let n = n.get(zeros..).filter(|n| !n.is_empty())?;
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) || e.len() > RSA_EXPONENT_BYTES_MAX {
        return None;
    }
    let mut numbers = Vec::with_capacity(n.len() + 16);
    for number in [n, e] {
        // Its highest bit would be a sign.
        let body = [&[0][..], number].concat();
        let zeros = body.iter().take_while(|byte| **byte == 0).count();
        let is_signed = body.get(zeros).is_some_and(|byte| byte & 0x80 != 0);
        let from = zeros.saturating_sub(usize::from(is_signed));
        element(INTEGER, body.get(from..)?, &mut numbers);
    }
    let mut key = Vec::with_capacity(numbers.len() + 4);
    element(SEQUENCE, &numbers, &mut key);
    Some(key)
}

/// Appends an element of DER; of less than 64 KiB.
fn element(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    let [.., high, low] = body.len().to_be_bytes();
    out.push(tag);
    match (high, low) {
        (0, 0..=0x7f) => out.push(low),
        (0, _) => out.extend_from_slice(&[0x81, low]),
        _ => out.extend_from_slice(&[0x82, high, low]),
    }
    out.extend_from_slice(body);
}

/// Those without a word of their own first, of each sort (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2).
static ALGORITHMS: [Algorithm; 10] = {
    const fn of(
        name: &'static str,
        sort: Sort,
        verified_by: &'static dyn VerificationAlgorithm,
    ) -> Algorithm {
        Algorithm {
            name,
            also: name,
            verified_by,
            sort,
        }
    }
    [
        of("RS256", Sort::Rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
        of("RS384", Sort::Rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
        of("RS512", Sort::Rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
        of("PS256", Sort::Rsa, &signature::RSA_PSS_2048_8192_SHA256),
        of("PS384", Sort::Rsa, &signature::RSA_PSS_2048_8192_SHA384),
        of("PS512", Sort::Rsa, &signature::RSA_PSS_2048_8192_SHA512),
        of(
            "ES256",
            Sort::Curve("P-256", 32),
            &signature::ECDSA_P256_SHA256_FIXED,
        ),
        of(
            "ES384",
            Sort::Curve("P-384", 48),
            &signature::ECDSA_P384_SHA384_FIXED,
        ),
        of(
            "ES512",
            Sort::Curve("P-521", 66),
            &signature::ECDSA_P521_SHA512_FIXED,
        ),
        Algorithm {
            name: "EdDSA",
            also: "Ed25519",
            verified_by: &signature::ED25519,
            sort: Sort::Edwards,
        },
    ]
};

/// Keys in one set.
const KEYS_MAX: usize = 100;
/// The usual ones; 8192 bits take four times as long as 4096.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
const RSA_EXPONENT_BYTES_MAX: usize = 8;
const EDWARDS_BYTES: usize = 32;
/// Of a point: both coordinates follow (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
