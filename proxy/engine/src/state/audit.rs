//! The audit: the digest computed anew from everything that the engine holds, and what differs from
//! its own hash. Called by `session::control`, a slice in each turn of the loop.
//!
//! Rule: a slice costs what its entities cost, however many there are. What changes in between changes
//! what has been found as well ([`Tables`] keeps it), so that commits never make an audit begin anew:
//! each entity is looked at once, but for those that a commit has just brought.

use super::digest::Digest;
use super::entity::Kind;
use super::entry::Entry;
use super::tables::Tables;

/// Names that are told; where more differ, something larger is wrong than their names could tell.
const DIFFERING_MAX: usize = 8;

/// What an audit has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The generation that was looked at.
    pub generation: u64,
    /// The digest of what is really held.
    pub digest: Digest,
    /// `KIND/NAME` of entities that are not what was committed.
    pub differing: Vec<String>,
}

/// An audit that is under way. There is one at a time: the tables know how far it has come.
#[derive(Default)]
pub struct Audit {
    differing: Vec<String>,
}

impl Audit {
    /// Begins with the first entity.
    #[must_use]
    pub fn begin(tables: &mut Tables) -> Self {
        for kind in Kind::ALL {
            tables.running.walk_to(kind, 0);
        }
        tables.walked = Digest::default();
        Self::default()
    }

    /// Looks at the next `count` entities; tells what was found when there are no more.
    pub fn advance(&mut self, tables: &mut Tables, count: usize) -> Option<Audited> {
        let mut left = count;
        for kind in Kind::ALL {
            let (begin, before) = (tables.running.walked(kind), left);
            tables.running.each(kind, begin, before, &mut |entry| {
                left -= 1;
                tables.walked = tables.walked.add(self.look(kind, entry));
            });
            tables.running.walk_to(kind, begin + (before - left));
            if left == 0 {
                return None;
            }
        }
        Some(Audited {
            generation: tables.generation,
            digest: tables.walked,
            differing: std::mem::take(&mut self.differing),
        })
    }

    fn look(&mut self, kind: Kind, entry: &Entry) -> Digest {
        let name = &entry.name;
        let actual = Digest::from_entity(kind, name, &entry.entity.canonical());
        if actual != entry.hash && self.differing.len() < DIFFERING_MAX {
            self.differing.push(format!("{}/{name}", kind.as_str()));
        }
        actual
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::state::ledger::Ledger;
    use crate::telemetry::counters::Metrics;
    use crate::tls::policy::Tls;

    const LISTENER: &str =
        r#"{"kind":"listener","name":"web","value":{"address":"127.0.0.1:8080"}}"#;

    fn puts(number: u8, value: u8) -> [String; 3] {
        let put = |kind, name: &str, value: &str| {
            format!(r#"{{"kind":"{kind}","name":"{name}","value":{value}}}"#)
        };
        let name = format!("site-{number}");
        let address = format!(r#"{{"address":"10.0.0.{value}:80"}}"#);
        let frontend = format!(
            r#"{{"cluster":"{name}","hostname":"{value}.test","listeners":["web"],"policies":["all"]}}"#
        );
        let cluster = match value % 2 {
            0 => "{}",
            _ => r#"{"retries":1}"#,
        };
        [
            put("cluster", &name, cluster),
            put("backend", &format!("{name}/1"), &address),
            put("frontend", &name, &frontend),
        ]
    }

    fn removes(number: u8) -> [String; 3] {
        let remove = |kind, end| format!(r#"{{"kind":"{kind}","name":"site-{number}{end}"}}"#);
        [
            remove("frontend", ""),
            remove("backend", "/1"),
            remove("cluster", ""),
        ]
    }

    struct Worker {
        ledger: Ledger,
        tables: Tables,
    }

    impl Worker {
        fn new() -> Self {
            let tls = Tls::default();
            let metrics = Rc::new(Metrics::create(0).unwrap());
            let tables = Tables::new(tls.certificates.clone(), metrics);
            let ledger = Ledger::new(tls);
            let mut worker = Self { ledger, tables };
            worker.commit(&[LISTENER.to_owned()], &[]);
            worker
        }

        fn commit(&mut self, puts: &[String], removes: &[String]) {
            // By another policy each frontend is another one, which no change names.
            let text = self.ledger.generation;
            let policy = format!(
                r#"{{"kind":"policy","name":"all","value":{{"response_headers":{{"set":{{"X-A":"{text}"}}}}}}}}"#
            );
            let puts = [&[policy], puts].concat();
            let (puts, removes) = (puts.join(","), removes.join(","));
            let ops = format!(r#"{{"puts":[{puts}],"removes":[{removes}]}}"#);
            let (ledger, none) = (&mut self.ledger, HashMap::new());
            let (next, base) = (ledger.generation + 1, (ledger.generation, ledger.digest));
            ledger.stage(next, 0, ops.as_bytes(), &none).unwrap();
            ledger.prepare(next, base, "", 1, HashMap::new()).unwrap();
            self.tables.apply(ledger.take_staged(next).unwrap());
        }
    }

    proptest! {
        #[test]
        fn commits_in_between_are_neither_missed_nor_counted_twice(
            before in prop::collection::vec((0u8..12, 0u8..4), 0..12),
            steps in prop::collection::vec((0u8..12, 0u8..6, 0usize..8), 0..24),
        ) {
            let (mut worker, mut sites) = (Worker::new(), BTreeSet::new());
            for (number, value) in before {
                worker.commit(&puts(number, value), &[]);
                sites.insert(number);
            }
            let mut audit = Audit::begin(&mut worker.tables);
            for (number, value, count) in steps {
                if let Some(found) = audit.advance(&mut worker.tables, count) {
                    prop_assert_eq!(found.digest, worker.ledger.digest);
                    audit = Audit::begin(&mut worker.tables);
                }
                if value < 4 {
                    worker.commit(&puts(number, value), &[]);
                    sites.insert(number);
                } else if sites.remove(&number) {
                    worker.commit(&[], &removes(number));
                }
            }
            let found = audit.advance(&mut worker.tables, usize::MAX).unwrap();
            prop_assert_eq!(found.digest, worker.ledger.digest);
            prop_assert_eq!(found.generation, worker.ledger.generation);
            prop_assert_eq!(found.differing, Vec::<String>::new());
        }
    }

    #[test]
    fn each_entity_is_looked_at_once_whatever_is_committed_meanwhile() {
        let mut worker = Worker::new();
        for number in 0..40 {
            worker.commit(&puts(number, 1), &[]);
        }
        let mut audit = Audit::begin(&mut worker.tables);
        let mut turns = 0;
        let found = loop {
            turns += 1;
            if let Some(found) = audit.advance(&mut worker.tables, 10) {
                break found;
            }
            worker.commit(&puts(turns % 40, 2 + turns % 2), &[]);
        };
        assert_eq!(found.digest, worker.ledger.digest);
        // 121 entities, and a frontend that is replaced comes to the end of all.
        assert!(turns < 30, "{turns} turns");
    }
}
