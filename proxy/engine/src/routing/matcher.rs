//! What a request is looked up by, and the conditions that no index can answer: method, header
//! fields and query parameters.

use std::sync::Arc;

use regex::bytes::Regex;

use super::regexes::Regexes;
use crate::state::entity::Frontend;
use crate::state::entity::ValueMatch;

/// The parts of a request that decide where it goes. Nothing is normalised after this point.
#[derive(Debug)]
pub struct Request<'a, H: HeaderLookup> {
    /// Hostname in lower case, without port and trailing dot; may be empty.
    pub host: &'a [u8],
    /// Normalised path, without query.
    pub path: &'a [u8],
    /// What stands after the question mark, as it came.
    pub query: Option<&'a [u8]>,
    /// Method, as it came.
    pub method: &'a [u8],
    /// Header fields.
    pub headers: &'a H,
}

/// Access to the header fields of a request, however they are stored.
pub trait HeaderLookup {
    /// Whether `test` holds for the value of any field called `name`, which is in lower case.
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// The conditions of one frontend; all of them must hold.
#[derive(Clone, Debug)]
pub struct Conditions {
    methods: Box<[Box<[u8]>]>,
    headers: Box<[(Box<str>, ValuePattern)]>,
    query: Box<[(Box<[u8]>, ValuePattern)]>,
}

impl Conditions {
    /// Compiles the conditions of a frontend.
    pub fn compile(frontend: &Frontend, regexes: &mut Regexes) -> Result<Self, String> {
        let few = frontend.rare();
        let mut headers = Vec::new();
        for (name, value) in &few.headers {
            headers.push((name.as_str().into(), ValuePattern::compile(value, regexes)?));
        }
        let mut query = Vec::new();
        for (name, value) in &few.query {
            let value = ValuePattern::compile(value, regexes)?;
            query.push((name.as_bytes().into(), value));
        }
        Ok(Self {
            methods: few
                .methods
                .iter()
                .map(|method| method.as_bytes().into())
                .collect(),
            headers: headers.into(),
            query: query.into(),
        })
    }

    /// Whether every request matches.
    pub fn is_empty(&self) -> bool {
        self.counts() == (false, 0, 0)
    }

    /// Whether a request with this method can match at all; empty is any.
    #[inline]
    pub fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|allowed| **allowed == *method)
    }

    /// Whether the header fields and the query of a request match.
    #[inline]
    pub fn allows_fields<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        self.headers.iter().all(|each| allows_header(request, each))
            && self.query.iter().all(|each| allows_query(request, each))
    }

    /// The first condition that does not hold.
    pub fn missed<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<Missed> {
        if !self.allows_method(request.method) {
            return Some(Missed::Method);
        }
        let header = self
            .headers
            .iter()
            .find(|each| !allows_header(request, each));
        let query = || self.query.iter().find(|each| !allows_query(request, each));
        header
            .map(|(name, _)| Missed::Header(name.clone()))
            .or_else(|| {
                query().map(|(name, _)| Missed::Query(String::from_utf8_lossy(name).into()))
            })
    }

    /// Whether there is a condition on the method, and how many there are on headers and query.
    pub fn counts(&self) -> (bool, usize, usize) {
        (
            !self.methods.is_empty(),
            self.headers.len(),
            self.query.len(),
        )
    }
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The method is none of those asked for.
    Method,
    /// The header field of this name.
    Header(Box<str>),
    /// The query parameter of this name.
    Query(Box<str>),
}

#[inline]
fn allows_header<H: HeaderLookup>(
    request: &Request<'_, H>,
    (name, pattern): &(Box<str>, ValuePattern),
) -> bool {
    request
        .headers
        .any_value(name, &mut |value| pattern.matches(value))
}

#[inline]
fn allows_query<H: HeaderLookup>(
    request: &Request<'_, H>,
    (name, pattern): &(Box<[u8]>, ValuePattern),
) -> bool {
    request
        .query
        .is_some_and(|query| query_matches(query, name, pattern))
}

#[derive(Clone, Debug)]
enum ValuePattern {
    Exact(Box<[u8]>),
    Regex(Arc<Regex>),
}

impl ValuePattern {
    fn compile(value: &ValueMatch, regexes: &mut Regexes) -> Result<Self, String> {
        Ok(match value {
            ValueMatch::Exact(value) => Self::Exact(value.as_bytes().into()),
            ValueMatch::Regex(pattern) => Self::Regex(regexes.compile(pattern)?),
        })
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => **expected == *value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    fn matches_encoded(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => decoded(value).eq(expected.iter().copied()),
            Self::Regex(regex) if memchr::memchr2(b'%', b'+', value).is_none() => {
                regex.is_match(value)
            }
            // The only allocation of a lookup, and only for a frontend that asks for it.
            Self::Regex(regex) => regex.is_match(&decoded(value).collect::<Vec<u8>>()),
        }
    }
}

/// Whether the first parameter called `name` matches. Gateway API leaves repeated parameters open
/// and recommends the first; so do we, since a second one is a known way around filters.
fn query_matches(query: &[u8], name: &[u8], pattern: &ValuePattern) -> bool {
    for pair in query.split(|byte| *byte == b'&') {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        if decoded(key).eq(name.iter().copied()) {
            return pattern.matches_encoded(value);
        }
    }
    false
}

/// The bytes that a piece of a query stands for, as the URL standard reads forms: `+` is a space,
/// `%XX` a byte, and a percent sign that is neither stands for itself.
fn decoded(encoded: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [] => return None,
            [b'+', after @ ..] => (b' ', after),
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
        };
        rest = after;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(value: &str) -> ValuePattern {
        ValuePattern::compile(
            &ValueMatch::Exact(value.to_owned()),
            &mut Regexes::default(),
        )
        .unwrap()
    }

    fn regex(pattern: &str) -> ValuePattern {
        ValuePattern::compile(
            &ValueMatch::Regex(pattern.to_owned()),
            &mut Regexes::default(),
        )
        .unwrap()
    }

    #[test]
    fn a_query_parameter_is_compared_decoded() {
        for query in [
            "v=a b",
            "v=a+b",
            "v=a%20b",
            "%76=a%20b",
            "x=1&v=a+b&y",
            "&&v=a+b",
        ] {
            assert!(
                query_matches(query.as_bytes(), b"v", &exact("a b")),
                "{query}"
            );
            assert!(
                query_matches(query.as_bytes(), b"v", &regex("a.b")),
                "{query}"
            );
        }
        for query in [
            "", "v", "v=", "V=a b", "v=a%2b", "v=a%2", "v=a%", "v=a%zzb", "vv=a b",
        ] {
            assert!(
                !query_matches(query.as_bytes(), b"v", &exact("a b")),
                "{query}"
            );
        }
        assert!(query_matches(b"flag", b"flag", &exact("")));
        assert!(query_matches(b"v=%zz%", b"v", &exact("%zz%")));
    }

    #[test]
    fn the_first_of_repeated_parameters_counts() {
        assert!(query_matches(b"v=1&v=2", b"v", &exact("1")));
        assert!(!query_matches(b"v=1&v=2", b"v", &exact("2")));
    }

    #[test]
    fn values_match_wholly() {
        assert!(regex("a|ab").matches(b"ab"));
        assert!(!regex("a").matches(b"ab"));
        assert!(!exact("a").matches(b"ab"));
    }
}
