//! Reading back: the entities that the engine holds, part by part, as they were committed.
//!
//! A reconciler that has lost its state asks for them. Called by `session::control`.
//!
//! Rule: a part costs what its entities cost, however many there are, and nothing is kept between two
//! parts: whoever asks names the position, and begins anew when the generation is another one.

use serde::Serialize;
use serde_json::value::RawValue;

use super::digest::Digest;
use super::entity::Kind;
use super::entry::Entry;
use super::tables::Tables;

/// Entities in one part: about a millisecond of a loop's turn.
const PART_ENTITIES: usize = 256;
/// A part ends behind the entity that exceeds this.
const PART_BYTES: usize = 512 * 1024;

/// A part of what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The generation that is held.
    pub generation: u64,
    /// The digest of all that is held.
    pub digest: Digest,
    /// A JSON array of `{kind, name, value}`.
    pub entities: String,
    /// Where the next part begins; `None` behind the last one.
    pub next: Option<usize>,
}

#[derive(Serialize)]
struct Written<'a> {
    kind: &'a str,
    name: &'a str,
    value: &'a RawValue,
}

impl Part {
    /// The part that begins at a position: so many entities come before, of all kinds together.
    #[must_use]
    pub fn read(tables: &Tables, position: usize) -> Self {
        let mut entities = String::from("[");
        let mut taken = 0;
        let mut offset = position;
        for kind in Kind::ALL {
            let count = tables.running.count(kind);
            if offset >= count {
                offset -= count;
                continue;
            }
            let left = PART_ENTITIES - taken;
            tables.running.each(kind, offset, left, &mut |entry| {
                if entities.len() < PART_BYTES {
                    write(&mut entities, entry);
                    taken += 1;
                }
            });
            if taken == PART_ENTITIES || entities.len() >= PART_BYTES {
                break;
            }
            offset = 0;
        }
        entities.push(']');
        let next = position.saturating_add(taken);
        let total: usize = Kind::ALL
            .into_iter()
            .map(|kind| tables.running.count(kind))
            .sum();
        Self {
            generation: tables.generation,
            digest: tables.digest,
            entities,
            next: (next < total).then_some(next),
        }
    }
}

fn write(entities: &mut String, entry: &Entry) {
    let text = String::from_utf8(entry.entity.canonical()).unwrap_or_default();
    let Ok(value) = RawValue::from_string(text) else {
        return;
    };
    let written = Written {
        kind: entry.kind().as_str(),
        name: &entry.name,
        value: &value,
    };
    if let Ok(text) = serde_json::to_string(&written) {
        if entities.len() > 1 {
            entities.push(',');
        }
        entities.push_str(&text);
    }
}
