//! What a request is looked up by, and the conditions that no index can answer: method, header
//! fields, query parameters, cookies and who asks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use regex::bytes::Regex;

use super::regexes::Regexes;
use crate::protocol::cookie;
use crate::state::entity::cidr::Cidr;
use crate::state::entity::{Frontend, ValueMatch};

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

    /// Who asks, as the PROXY protocol or a trusted proxy tells it, if that is known.
    fn client_address(&self) -> Option<IpAddr>;
}

/// The conditions of one frontend; all of them must hold.
#[derive(Clone, Debug)]
pub struct Conditions {
    methods: Box<[Box<[u8]>]>,
    headers: Box<[Condition]>,
    query: Box<[Condition]>,
    cookies: Box<[Condition]>,
    networks: Box<[Cidr]>,
}

/// How many conditions of each kind there are, in their order: whether any on the method, on headers, on query
/// parameters, on cookies, whether any on who asks. More of the first that differs is more specific.
pub type Counts = (bool, usize, usize, usize, bool);

impl Conditions {
    /// Compiles the conditions of a frontend.
    pub fn compile(frontend: &Frontend, regexes: &mut Regexes) -> Result<Self, String> {
        let few = frontend.rare();
        let mut all = |conditions: &BTreeMap<String, ValueMatch>| {
            let each = conditions.iter();
            each.map(|(name, value)| Condition::compile(name, value, regexes))
                .collect::<Result<Box<[_]>, _>>()
        };
        let (headers, query) = (all(&few.headers)?, all(&few.query)?);
        let cookies = all(&few.cookies)?;
        let networks = few.client_addresses.iter().flatten();
        let networks = networks
            .map(|network| Cidr::parse(network))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            methods: few
                .methods
                .iter()
                .map(|method| method.as_bytes().into())
                .collect(),
            headers,
            query,
            cookies,
            networks,
        })
    }

    /// Whether every request matches.
    pub fn is_empty(&self) -> bool {
        self.counts() == Counts::default()
    }

    /// Whether a request with this method can match at all; empty is any.
    #[inline]
    pub fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|allowed| **allowed == *method)
    }

    /// Whether all else of a request matches.
    #[inline]
    pub fn allows_fields<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        self.headers.iter().all(|each| each.allows_header(request))
            && self.query.iter().all(|each| each.allows_query(request))
            && self.cookies.iter().all(|each| each.allows_cookie(request))
            && self.allows_client(request)
    }

    fn allows_client<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        let asks = |client| self.networks.iter().any(|network| network.contains(client));
        self.networks.is_empty() || request.headers.client_address().is_some_and(asks)
    }

    /// The first condition that does not hold.
    pub fn missed<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<Missed> {
        if !self.allows_method(request.method) {
            return Some(Missed::Method);
        }
        let mut headers = self.headers.iter();
        if let Some(each) = headers.find(|each| !each.allows_header(request)) {
            return Some(Missed::Header(each.name.clone()));
        }
        let mut query = self.query.iter();
        if let Some(each) = query.find(|each| !each.allows_query(request)) {
            return Some(Missed::Query(each.name.clone()));
        }
        let mut cookies = self.cookies.iter();
        if let Some(each) = cookies.find(|each| !each.allows_cookie(request)) {
            return Some(Missed::Cookie(each.name.clone()));
        }
        (!self.allows_client(request)).then_some(Missed::Client)
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> Counts {
        (
            !self.methods.is_empty(),
            self.headers.len(),
            self.query.len(),
            self.cookies.len(),
            !self.networks.is_empty(),
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
    /// The cookie of this name.
    Cookie(Box<str>),
    /// Who asks is in none of the networks.
    Client,
}

/// What is asked of a field.
#[derive(Clone, Debug)]
struct Condition {
    name: Box<str>,
    value: ValuePattern,
    negated: bool,
}

impl Condition {
    fn compile(name: &str, wanted: &ValueMatch, regexes: &mut Regexes) -> Result<Self, String> {
        Ok(Self {
            name: name.into(),
            value: ValuePattern::compile(wanted, regexes)?,
            negated: wanted.not || wanted.present == Some(false),
        })
    }

    /// Any line of that name is enough: they are one list.
    #[inline]
    fn allows_header<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        let mut test = |value: &[u8]| self.value.matches(value);
        request.headers.any_value(&self.name, &mut test) != self.negated
    }

    #[inline]
    fn allows_query<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        let found = request.query;
        found.is_some_and(|query| query_matches(query, self.name.as_bytes(), &self.value))
            != self.negated
    }

    /// Of several of one name the first counts, as most programs read them.
    fn allows_cookie<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        let mut matches = None;
        request.headers.any_value("cookie", &mut |line| {
            let first = cookie::pairs(line).find(|(name, _)| *name == self.name.as_bytes());
            matches = first.map(|(_, value)| self.value.matches(value));
            matches.is_some()
        });
        (matches == Some(true)) != self.negated
    }
}

#[derive(Clone, Debug)]
enum ValuePattern {
    Any,
    Exact(Box<[u8]>),
    Regex(Arc<Regex>),
}

impl ValuePattern {
    fn compile(value: &ValueMatch, regexes: &mut Regexes) -> Result<Self, String> {
        Ok(match (&value.exact, &value.regex) {
            (Some(value), _) => Self::Exact(value.as_bytes().into()),
            (None, Some(pattern)) => Self::Regex(regexes.compile(pattern)?),
            (None, None) => Self::Any,
        })
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(expected) => **expected == *value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    fn matches_encoded(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
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
            &ValueMatch {
                exact: Some(value.into()),
                ..ValueMatch::default()
            },
            &mut Regexes::default(),
        )
        .unwrap()
    }

    fn regex(pattern: &str) -> ValuePattern {
        ValuePattern::compile(
            &ValueMatch {
                regex: Some(pattern.into()),
                ..ValueMatch::default()
            },
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
