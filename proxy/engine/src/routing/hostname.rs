//! The first level of a lookup: from a hostname to what is known under it.
//!
//! Callers hand hostnames over in lower case, without port and without a trailing dot; nothing is
//! normalised here.

use std::sync::Arc;

use ahash::AHashMap;

use super::text::Text;
use crate::state::entity::check::HOSTNAME_BYTES_MAX;

/// Which hostnames a frontend serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPattern<'a> {
    /// `*`, or no hostname at all.
    Any,
    /// This one only.
    Exact(&'a Arc<str>),
    /// Any below this one, over any number of labels, but not itself.
    Wildcard(&'a [u8]),
}

impl<'a> HostPattern<'a> {
    /// Reads the `hostname` of a frontend.
    pub fn of(hostname: &'a Arc<str>) -> Self {
        match hostname.strip_prefix("*.") {
            _ if **hostname == *"*" => Self::Any,
            Some(suffix) => Self::Wildcard(suffix.as_bytes()),
            None => Self::Exact(hostname),
        }
    }
}

/// How specific a pattern is: the greater one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// See [`HostPattern::Any`].
    Any,
    /// See [`HostPattern::Wildcard`]; the bytes of what every match ends with.
    Wildcard(usize),
    /// See [`HostPattern::Exact`].
    Exact,
}

/// Values by [`HostPattern`].
#[derive(Debug)]
pub struct HostMap<V> {
    any: Option<V>,
    exact: AHashMap<Text, V>,
    wildcard: AHashMap<Box<[u8]>, V>,
}

impl<V> HostMap<V> {
    /// Offers every value whose pattern matches `host`, most specific first, until one is taken.
    ///
    /// Costs one hash per label at most, however many hostnames there are.
    #[inline]
    pub fn find<'a, R>(
        &'a self,
        host: &[u8],
        mut visit: impl FnMut(&'a V) -> Option<R>,
    ) -> Option<R> {
        // What is longer than any name in the table must not be hashed once per label: a head full
        // of dots would cost milliseconds.
        if host.len() <= HOSTNAME_BYTES_MAX {
            if let Some(found) = self.exact.get(host).and_then(&mut visit) {
                return Some(found);
            }
            if !self.wildcard.is_empty() {
                let mut rest = host;
                while let Some(dot) = memchr::memchr(b'.', rest) {
                    rest = &rest[dot + 1..];
                    if let Some(found) = self.wildcard.get(rest).and_then(&mut visit) {
                        return Some(found);
                    }
                }
            }
        }
        self.any.as_ref().and_then(visit)
    }

    /// How specific the most specific pattern is that matches `host`.
    pub fn rank(&self, host: &[u8]) -> Option<Rank> {
        if host.len() <= HOSTNAME_BYTES_MAX {
            if self.exact.contains_key(host) {
                return Some(Rank::Exact);
            }
            let mut rest = host;
            while let Some(dot) = memchr::memchr(b'.', rest) {
                rest = &rest[dot + 1..];
                if self.wildcard.contains_key(rest) {
                    return Some(Rank::Wildcard(rest.len()));
                }
            }
        }
        self.any.as_ref().map(|_| Rank::Any)
    }

    /// The value of a pattern itself.
    pub fn get(&self, pattern: HostPattern<'_>) -> Option<&V> {
        match pattern {
            HostPattern::Any => self.any.as_ref(),
            HostPattern::Exact(host) => self.exact.get(host.as_bytes()),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
        }
    }

    /// The value of a pattern, made when there is none.
    pub fn get_or_default(&mut self, pattern: HostPattern<'_>) -> &mut V
    where
        V: Default,
    {
        match pattern {
            HostPattern::Any => self.any.get_or_insert_default(),
            HostPattern::Exact(host) => self.exact.entry(Text(host.clone())).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.into()).or_default(),
        }
    }

    /// Runs `change` on the value of a pattern, and drops the value when `is_empty` holds after it.
    pub fn change<R>(
        &mut self,
        pattern: HostPattern<'_>,
        change: impl FnOnce(&mut V) -> R,
        is_empty: impl FnOnce(&V) -> bool,
    ) -> Option<R> {
        let value = match pattern {
            HostPattern::Any => self.any.as_mut()?,
            HostPattern::Exact(host) => self.exact.get_mut(host.as_bytes())?,
            HostPattern::Wildcard(suffix) => self.wildcard.get_mut(suffix)?,
        };
        let result = change(value);
        if is_empty(value) {
            match pattern {
                HostPattern::Any => drop(self.any.take()),
                HostPattern::Exact(host) => drop(self.exact.remove(host.as_bytes())),
                HostPattern::Wildcard(suffix) => drop(self.wildcard.remove(suffix)),
            }
        }
        Some(result)
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.exact.is_empty() && self.wildcard.is_empty()
    }
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self {
            any: None,
            exact: AHashMap::new(),
            wildcard: AHashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(patterns: &[&'static str]) -> HostMap<&'static str> {
        let mut map = HostMap::default();
        for pattern in patterns {
            *map.get_or_default(HostPattern::of(&Arc::from(*pattern))) = *pattern;
        }
        map
    }

    /// Everything that is offered for a hostname, in order.
    fn offered(map: &HostMap<&'static str>, host: &str) -> Vec<&'static str> {
        let mut offered = Vec::new();
        let none: Option<()> = map.find(host.as_bytes(), |pattern| {
            offered.push(*pattern);
            None
        });
        assert_eq!(none, None);
        offered
    }

    #[test]
    fn offers_the_most_specific_first() {
        let map = map(&["*", "*.com", "*.a.com", "x.a.com", "a.com"]);
        assert_eq!(
            offered(&map, "x.a.com"),
            ["x.a.com", "*.a.com", "*.com", "*"]
        );
        assert_eq!(offered(&map, "y.x.a.com"), ["*.a.com", "*.com", "*"]);
        assert_eq!(offered(&map, "a.com"), ["a.com", "*.com", "*"]);
        assert_eq!(offered(&map, "com"), ["*"]);
        assert_eq!(offered(&map, ""), ["*"]);
        assert_eq!(offered(&map, "[::1]"), ["*"]);
    }

    #[test]
    fn the_more_specific_has_the_higher_rank() {
        let map = map(&["*", "*.com", "*.a.com", "x.a.com"]);
        let ranks = ["com", "b.com", "y.x.a.com", "x.a.com"].map(|host| map.rank(host.as_bytes()));
        let expected = [Rank::Any, Rank::Wildcard(3), Rank::Wildcard(5), Rank::Exact];
        assert_eq!(ranks, expected.map(Some));
        assert!(expected.is_sorted());
        assert_eq!(HostMap::<()>::default().rank(b"a.com"), None);
    }

    #[test]
    fn stops_at_the_one_that_is_taken() {
        let map = map(&["*", "*.a.com", "x.a.com"]);
        let taken = map.find(b"x.a.com", |pattern| {
            pattern.starts_with('*').then_some(*pattern)
        });
        assert_eq!(taken, Some("*.a.com"));
    }

    #[test]
    fn a_wildcard_needs_a_label_and_its_dot() {
        let map = map(&["*.a.com"]);
        assert_eq!(offered(&map, "a.com"), [""; 0]);
        assert_eq!(offered(&map, "xa.com"), [""; 0]);
        assert_eq!(offered(&map, ".a.com"), ["*.a.com"]);
    }

    #[test]
    fn an_endless_hostname_is_not_looked_into() {
        let map = map(&["*.a", "*"]);
        let host = format!("{}a", "a.".repeat(32 << 10));
        assert_eq!(offered(&map, &host), ["*"]);
    }

    #[test]
    fn drops_what_became_empty() {
        let mut map = map(&["*", "*.a.com", "a.com"]);
        for pattern in ["*", "*.a.com", "a.com"] {
            let pattern: Arc<str> = pattern.into();
            let pattern = HostPattern::of(&pattern);
            assert!(map.get(pattern).is_some());
            assert_eq!(map.change(pattern, |_| 7, |_| false), Some(7));
            assert!(map.get(pattern).is_some());
            assert_eq!(map.change(pattern, |_| 7, |_| true), Some(7));
            assert_eq!(map.change(pattern, |_| 7, |_| true), None);
        }
        assert!(map.is_empty());
    }
}
