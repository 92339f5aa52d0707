//! The decoder of a chunk of operations: bytes of the control channel in, checked entities out.
//!
//! The rule: whatever comes, the answer is operations that the engine can stage, or a refusal that
//! names the entity and the reason; never a panic, never a half of it. An entity's value must
//! re-serialise to exactly the bytes that came. That one comparison proves that the engine and the
//! reconciler mean the same entity (a key that one of them does not know, a default applied on one
//! side only, a number written in two ways), and so that their digests can agree.
//!
//! `{"puts":[{"kind":…,"name":…,"value":{…}},…],"removes":[{"kind":…,"name":…},…]}`

use std::borrow::Cow;
use std::fmt;

use ahash::AHashSet;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::alike::Alike;
use super::digest::Digest;
use super::entity::Entity;
use super::entity::Kind;
use super::entity::check;
use super::entry::Entry;

/// Reads and checks the operations of one chunk; what its entities have alike with others is kept once.
pub fn decode(bytes: &[u8], alike: &mut Alike) -> Result<Ops, Refused> {
    if bytes.len() > OPS_BYTES_MAX {
        return Err(Refused::message(format!(
            "{} bytes of operations, at most {OPS_BYTES_MAX} are taken",
            bytes.len()
        )));
    }
    let wire: WireOps<'_> = serde_json::from_slice(bytes)
        .map_err(|error| Refused::message(format!("the operations are not readable: {error}")))?;

    let mut seen = AHashSet::with_capacity(wire.puts.len() + wire.removes.len());
    let mut puts = Vec::with_capacity(wire.puts.len());
    for put in &wire.puts {
        let kind = identity(&put.kind, &put.name)?;
        claim(&mut seen, kind, &put.name)?;
        puts.push(decode_put(kind, put, alike)?);
    }
    let mut removes = Vec::with_capacity(wire.removes.len());
    for remove in &wire.removes {
        let kind = identity(&remove.kind, &remove.name)?;
        claim(&mut seen, kind, &remove.name)?;
        if kind == Kind::Settings {
            return Err(Refused::new(
                &remove.kind,
                &remove.name,
                "settings always exist",
            ));
        }
        removes.push((kind, remove.name.clone().into_owned()));
    }
    Ok(Ops { puts, removes })
}

/// The operations of one transaction; every identity is named once.
#[derive(Debug)]
pub struct Ops {
    /// Entities to add or to replace.
    pub puts: Vec<Entry>,
    /// Entities to take away.
    pub removes: Vec<(Kind, String)>,
}

/// Why a transaction is not taken, and because of which entity; kind and name are empty where it
/// is none in particular.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The kind as it came.
    pub kind: String,
    /// The name as it came.
    pub name: String,
    /// A sentence for the person who wrote the commit.
    pub reason: String,
}

impl Refused {
    /// A refusal because of one entity.
    pub fn new(kind: &str, name: &str, reason: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    /// A refusal of the transaction as such.
    pub fn message(reason: impl Into<String>) -> Self {
        Self::new("", "", reason)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "" => write!(out, "{}", self.reason),
            kind => write!(out, "{kind} {:?}: {}", self.name, self.reason),
        }
    }
}

impl std::error::Error for Refused {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOps<'a> {
    #[serde(borrow)]
    puts: Vec<WirePut<'a>>,
    #[serde(borrow)]
    removes: Vec<WireRemove<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePut<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRemove<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

fn identity(kind: &str, name: &str) -> Result<Kind, Refused> {
    let Some(parsed) = Kind::parse(kind) else {
        return Err(Refused::new(
            kind,
            name,
            format!("{kind:?} is no kind of entity"),
        ));
    };
    check::name(parsed, name).map_err(|reason| Refused::new(kind, name, reason))?;
    Ok(parsed)
}

/// Two operations on one entity would depend on their order, which a set of changes has not.
fn claim<'a>(
    seen: &mut AHashSet<(Kind, &'a str)>,
    kind: Kind,
    name: &'a str,
) -> Result<(), Refused> {
    if seen.insert((kind, name)) {
        return Ok(());
    }
    Err(Refused::new(
        kind.as_str(),
        name,
        "is named by two operations of one transaction",
    ))
}

fn decode_put(kind: Kind, put: &WirePut<'_>, alike: &mut Alike) -> Result<Entry, Refused> {
    let text = put.value.get();
    let entity = decode_value(kind, text, alike)
        .map_err(|reason| Refused::new(kind.as_str(), &put.name, reason))?;
    let hash = Digest::from_entity(kind, &put.name, text.as_bytes());
    Ok(Entry::new(&put.name, entity, hash))
}

fn decode_value(kind: Kind, text: &str, alike: &mut Alike) -> Result<Entity, String> {
    if let Some(known) = alike.known(kind, text) {
        return Ok(known);
    }
    let entity = Entity::read(kind, text, alike)
        .map_err(|error| format!("the value is not readable: {error}"))?;
    if entity.canonical() != text.as_bytes() {
        return Err("the engine and the reconciler disagree about this entity".to_owned());
    }
    entity.check()?;
    if kind.is_alike() {
        alike.remember(kind, text, &entity);
    }
    Ok(entity)
}

/// The largest frame of the control channel. A chunk is far smaller, unless a single entity is not.
pub const OPS_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Ops, Refused> {
        super::decode(bytes, &mut Alike::default())
    }

    const BACKEND: &str = r#"{"address":"127.0.0.1:9001","weight":50}"#;

    fn put(kind: &str, name: &str, value: &str) -> String {
        format!(r#"{{"kind":"{kind}","name":"{name}","value":{value}}}"#)
    }

    fn ops(puts: &[String], removes: &[&str]) -> String {
        format!(
            r#"{{"puts":[{}],"removes":[{}]}}"#,
            puts.join(","),
            removes.join(",")
        )
    }

    fn frontend(hostname: &str, path: &str) -> String {
        format!(
            r#"{{"cluster":"shop","hostname":"{}","listeners":["web"],"path":{},"upgrades":[]}}"#,
            hostname, path
        )
    }

    fn reason(puts: &[String]) -> String {
        decode(ops(puts, &[]).as_bytes()).unwrap_err().reason
    }

    #[test]
    fn takes_puts_and_removes() {
        let text = ops(
            &[
                put("backend", "shop/a", BACKEND),
                put("frontend", "web", &frontend("a.test", r#"{"prefix":"/a"}"#)),
            ],
            &[r#"{"kind":"cluster","name":"old"}"#],
        );
        let ops = decode(text.as_bytes()).unwrap();
        assert_eq!(ops.puts.len(), 2);
        assert_eq!(&*ops.puts[0].name, "shop/a");
        assert_eq!(ops.puts[0].entity.canonical(), BACKEND.as_bytes());
        let hash = Digest::from_entity(Kind::Backend, "shop/a", BACKEND.as_bytes());
        assert_eq!(ops.puts[0].hash, hash);
        assert_eq!(ops.removes, [(Kind::Cluster, "old".to_owned())]);
    }

    #[test]
    fn takes_an_empty_transaction() {
        let ops = decode(br#"{"puts":[],"removes":[]}"#).unwrap();
        assert!(ops.puts.is_empty() && ops.removes.is_empty());
    }

    #[test]
    fn names_the_entity_that_it_refuses() {
        let text = ops(
            &[put(
                "backend",
                "shop/a",
                r#"{"address":"nowhere","weight":1}"#,
            )],
            &[],
        );
        let refused = decode(text.as_bytes()).unwrap_err();
        assert_eq!(
            (refused.kind.as_str(), refused.name.as_str()),
            ("backend", "shop/a")
        );
        assert_eq!(
            refused.to_string(),
            r#"backend "shop/a": address "nowhere": expected IP:port, like 127.0.0.1:8080"#
        );
    }

    #[test]
    fn refuses_bytes_that_are_not_canonical() {
        for value in [
            r#"{"address": "127.0.0.1:9001","weight":50}"#,
            r#"{"weight":50,"address":"127.0.0.1:9001"}"#,
            r#"{"address":"127.0.0.1:900\u0031","weight":50}"#,
            r#"{"address":"127.0.0.1:9001","weight":100}"#,
        ] {
            let reason = reason(&[put("backend", "shop/a", value)]);
            assert_eq!(
                reason, "the engine and the reconciler disagree about this entity",
                "{value}"
            );
        }
    }

    #[test]
    fn refuses_what_cannot_run() {
        let cases = [
            (frontend("Shop", r#"{"prefix":"/a"}"#), "hostname"),
            (
                frontend("a.test", r#"{"prefix":"shop"}"#),
                "expected a slash first",
            ),
            (frontend("a.test", r#"{"regex":"/(?=a)"}"#), "look-around"),
            (
                frontend("a.test", r#"{"regex":"(a{1000}){1000}"}"#),
                "more than 1 MiB",
            ),
            (frontend("a.test", r#"{"suffix":""}"#), "suffix"),
            (frontend("a.test", r#"{"ending":"/"}"#), "ending"),
            (
                frontend("a.test", r#"{"exact":"/","ignore_case":true}"#),
                "one of exact",
            ),
            (
                frontend("a.test", r#"{"exact":"/","prefix":"/"}"#),
                "not readable",
            ),
        ];
        for (value, expected) in cases {
            let reason = reason(&[put("frontend", "web", &value)]);
            assert!(reason.contains(expected), "{value}: {reason}");
        }
    }

    #[test]
    fn refuses_bad_identities() {
        let twice = [
            put("backend", "shop/a", BACKEND),
            put("backend", "shop/a", BACKEND),
        ];
        assert!(reason(&twice).contains("two operations"));
        assert!(reason(&[put("backend", "shop", BACKEND)]).contains("not the name"));
        assert!(reason(&[put("route", "shop", BACKEND)]).contains("no kind"));
        assert!(reason(&[put("certificate", "shop", "{}")]).contains("not readable"));
        let list = put("backend", "shop/a", r#"["127.0.0.1:9001",50]"#);
        assert!(reason(&[list]).contains("not readable"));
        let removal = ops(&[], &[r#"{"kind":"settings","name":"settings"}"#]);
        assert_eq!(
            decode(removal.as_bytes()).unwrap_err().reason,
            "settings always exist"
        );
    }

    #[test]
    fn refuses_what_is_no_transaction() {
        for bytes in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"puts":[]}"#,
            r#"{"puts":[],"removes":[],"x":1}"#,
        ] {
            let refused = decode(bytes.as_bytes()).unwrap_err();
            assert_eq!(refused.kind, "", "{bytes}");
        }
        assert!(decode(&vec![b' '; OPS_BYTES_MAX + 1]).is_err());
        assert!(decode("[".repeat(1 << 20).as_bytes()).is_err());
        let deep = put("backend", "shop/a", &"[".repeat(1 << 20));
        assert!(decode(ops(&[deep], &[]).as_bytes()).is_err());
        let closed = put(
            "settings",
            "settings",
            &format!("{}{}", "[".repeat(9999), "]".repeat(9999)),
        );
        assert!(decode(ops(&[closed], &[]).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn never_panics_on_nearly_right_bytes(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let value = frontend("a.test", r#"{"regex":"/a[0-9]+"}"#);
            let mut bytes = ops(&[put("frontend", "web", &value)], &[]).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Ok(ops) = decode(&bytes) {
                for put in ops.puts {
                    let kind = put.entity.kind();
                    let hash = Digest::from_entity(kind, &put.name, &put.entity.canonical());
                    prop_assert_eq!(hash, put.hash);
                }
            }
        }
    }
}
