//! Which of several clusters a request of a frontend goes to, by their shares.
//!
//! Pure. Where shares go by something that a request has, the same cookie, header or client comes to the same
//! cluster at every worker and after a restart; without it each request is drawn by itself. Called by
//! `state/frontend`, and asked by the Python face.

use std::net::IpAddr;

use blake2::Blake2b;
use blake2::Digest as _;
use blake2::digest::consts::U8;

use super::matcher::HeaderLookup;
use crate::protocol::cookie;
use crate::state::entity::{Frontend, SplitBy};

/// The shares of a frontend's clusters.
#[derive(Debug)]
pub struct Split {
    /// Where the share of each cluster ends, in the order of their names.
    ends: Box<[u64]>,
    by: Option<SplitBy>,
    /// Hashed with what is asked for: two frontends part their clients in ways of their own.
    key: Box<str>,
}

impl Split {
    /// That of a frontend, if it has any.
    #[must_use]
    pub fn of(name: &str, frontend: &Frontend) -> Option<Self> {
        let few = frontend.few().filter(|few| !few.split.is_empty())?;
        let ends = few.split.weights.iter().scan(0, |end, weight| {
            *end += u64::from(*weight);
            Some(*end)
        });
        Some(Self {
            ends: ends.collect(),
            by: few.split_by.clone(),
            key: name.into(),
        })
    }

    /// The place of the cluster that a request goes to, in the order of their names. `own_id` is the name of
    /// the request, by which it is drawn if it has nothing else.
    pub fn choose<H: HeaderLookup>(&self, request: &H, own_id: &[u8]) -> usize {
        self.stable(request)
            .unwrap_or_else(|| self.at(self.hash().chain_update(own_id)))
    }

    /// The same, where it goes by something that the request has.
    pub fn stable<H: HeaderLookup>(&self, request: &H) -> Option<usize> {
        let mut hash = self.hash();
        let is_there = match self.by.as_ref()? {
            SplitBy::ClientAddress => request.client_address().is_some_and(|address| {
                match address.to_canonical() {
                    IpAddr::V4(address) => hash.update(address.octets()),
                    IpAddr::V6(address) => hash.update(address.octets()),
                }
                true
            }),
            SplitBy::Cookie(name) => request.any_value("cookie", &mut |line| {
                let mut pairs = cookie::pairs(line);
                let found = pairs.find(|(of, _)| *of == name.as_bytes());
                found.is_some_and(|(_, value)| {
                    hash.update(value);
                    true
                })
            }),
            SplitBy::Header(name) => request.any_value(name, &mut |value| {
                hash.update(value);
                true
            }),
        };
        is_there.then(|| self.at(hash))
    }

    fn hash(&self) -> Blake2b<U8> {
        Blake2b::new()
            .chain_update(self.key.as_bytes())
            .chain_update([0])
    }

    /// The share in which a hash lies, when all hashes are laid over all of them.
    fn at(&self, hash: Blake2b<U8>) -> usize {
        let hash = u64::from_be_bytes(hash.finalize().into());
        let total = self.ends.last().copied().unwrap_or_default();
        let place = (u128::from(hash) * u128::from(total)) >> 64;
        let place = u64::try_from(place).unwrap_or_default();
        self.ends.partition_point(|end| *end <= place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Asked(Vec<(&'static str, String)>, IpAddr);

    impl HeaderLookup for Asked {
        fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            let mut fields = self.0.iter();
            fields.any(|(found, value)| *found == name && test(value.as_bytes()))
        }

        fn client_address(&self) -> Option<IpAddr> {
            Some(self.1)
        }
    }

    fn split(name: &str, shares: &str, by: &str) -> Split {
        let by = if by.is_empty() {
            String::new()
        } else {
            format!(r#","split_by":{by}"#)
        };
        let text = format!(r#"{{"listeners":["l"],"split":{shares}{by}}}"#);
        let frontend: Frontend = serde_json::from_str(&text).unwrap();
        Split::of(name, &frontend).unwrap()
    }

    fn asked(number: usize) -> Asked {
        let client = format!("10.0.{}.{}", number / 256, number % 256);
        let fields = vec![
            ("cookie", format!("a=1; lane=u{number}; lane=other")),
            ("x-user", format!("u{number}")),
            ("x-user", "other".to_owned()),
        ];
        Asked(fields, client.parse().unwrap())
    }

    #[test]
    fn shares_are_as_large_as_they_are_written() {
        for by in [
            "",
            r#"{"cookie":"lane"}"#,
            r#"{"header":"x-user"}"#,
            r#""client_address""#,
        ] {
            let split = split("f", r#"{"a":90,"b":0,"c":9,"d":1}"#, by);
            let mut counts = [0; 4];
            for number in 0..20_000 {
                counts[split.choose(&asked(number), &number.to_be_bytes())] += 1;
            }
            assert!((17_700..18_300).contains(&counts[0]), "{by}: {counts:?}");
            assert_eq!(counts[1], 0);
            assert!((1_650..1_950).contains(&counts[2]), "{by}: {counts:?}");
            assert!((130..270).contains(&counts[3]), "{by}: {counts:?}");
        }
    }

    #[test]
    fn the_same_comes_to_the_same_place() {
        for by in [
            r#"{"cookie":"lane"}"#,
            r#"{"header":"x-user"}"#,
            r#""client_address""#,
        ] {
            let (one, other) = (
                split("f", r#"{"a":1,"b":1}"#, by),
                split("f", r#"{"a":1,"b":1}"#, by),
            );
            let another = split("g", r#"{"a":1,"b":1}"#, by);
            let mut differing = 0;
            for number in 0..200 {
                let place = one.choose(&asked(number), b"1");
                assert_eq!(place, other.choose(&asked(number), b"2"));
                differing += usize::from(place != another.choose(&asked(number), b"1"));
            }
            // And another frontend has other halves.
            assert!((60..140).contains(&differing), "{differing}");
        }
    }

    #[test]
    fn what_is_not_there_is_drawn() {
        let split = split("f", r#"{"a":1,"b":1}"#, r#"{"cookie":"nobody"}"#);
        assert_eq!(split.stable(&asked(1)), None);
        let places: Vec<_> = (0..64_u8)
            .map(|id| split.choose(&asked(1), &[id]))
            .collect();
        assert!(places.contains(&0) && places.contains(&1));
    }

    #[test]
    fn who_moves_when_shares_change_is_as_few_as_can_be() {
        let by = r#""client_address""#;
        let (before, after) = (
            split("f", r#"{"a":95,"b":5}"#, by),
            split("f", r#"{"a":90,"b":10}"#, by),
        );
        for number in 0..5000 {
            let places = (
                before.choose(&asked(number), b""),
                after.choose(&asked(number), b""),
            );
            assert_ne!(places, (1, 0), "nobody goes back");
        }
    }
}
