//! Fields to header blocks (RFC 7541 §6).
//!
//! A field is looked up by the hash of its bytes. It enters the table when it is seen for the
//! second time, so that what differs in each message (a request id, a date in a quiet hour) does
//! not push out what is repeated. What tells who somebody is never enters.

use super::TABLE_BYTES_MAX;
use super::huffman;
use super::integer;
use super::static_table;
use super::table::Table;

/// How a field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A secret: as a literal that no hop may index (§7.1.3).
    Never,
    /// Not worth an entry: as a literal.
    Once,
    /// Indexed from the second time on.
    Repeated,
}

/// Encodes the blocks of one direction of a connection, in their order.
#[derive(Debug, Default)]
pub struct Encoder {
    table: Table,
    /// The sizes that the next block has to announce (§4.2): the lowest one, and the last one.
    updates: Option<(usize, usize)>,
    /// Allocated with the first field that is not in the static table.
    seen: Option<Box<[Set; SET_COUNT]>>,
}

/// Fields whose hashes share their last bits, the one that was met last first.
type Set = [Seen; 4];

/// A field that was met lately.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u32,
    /// Which insertion into the table it was, from 1 on; 0 if it is none.
    inserted: u32,
}

impl Encoder {
    /// Takes over the peer's limit for the table (`SETTINGS_HEADER_TABLE_SIZE`).
    pub fn set_peer_size_max(&mut self, size_max: usize) {
        let size_max = size_max.min(TABLE_BYTES_MAX);
        if size_max == self.table.size_max() && self.updates.is_none() {
            return;
        }
        let lowest = self.updates.map_or(size_max, |(lowest, _)| lowest);
        self.updates = Some((lowest.min(size_max), size_max));
        self.table.set_size_max(size_max);
    }

    /// Begins a header block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let Some((lowest, last)) = self.updates.take() else {
            return;
        };
        if lowest < last {
            integer::encode(out, 0x20, 5, lowest);
        }
        integer::encode(out, 0x20, 5, last);
    }

    /// Appends `:status`.
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        let digits = [
            b'0' + (status / 100 % 10) as u8,
            b'0' + (status / 10 % 10) as u8,
            b'0' + (status % 10) as u8,
        ];
        self.known(out, static_table::STATUS, &digits, Policy::Once);
    }

    /// Appends `:method`.
    pub fn method(&mut self, out: &mut Vec<u8>, method: &[u8]) {
        self.known(out, static_table::METHOD, method, Policy::Once);
    }

    /// Appends `:scheme`.
    pub fn scheme(&mut self, out: &mut Vec<u8>, scheme: &[u8]) {
        self.known(out, static_table::SCHEME, scheme, Policy::Once);
    }

    /// Appends `:authority`.
    pub fn authority(&mut self, out: &mut Vec<u8>, authority: &[u8]) {
        self.known(out, static_table::AUTHORITY, authority, Policy::Repeated);
    }

    /// Appends `:path`.
    pub fn path(&mut self, out: &mut Vec<u8>, path: &[u8]) {
        self.known(out, static_table::PATH, path, Policy::Once);
    }

    /// Appends `content-length`.
    pub fn content_length(&mut self, out: &mut Vec<u8>, length: u64) {
        let mut digits = itoa::Buffer::new();
        let length = digits.format(length).as_bytes();
        self.known(out, static_table::CONTENT_LENGTH, length, Policy::Once);
    }

    /// Appends `date`.
    pub fn date(&mut self, out: &mut Vec<u8>, date: &[u8]) {
        self.known(out, static_table::DATE, date, Policy::Repeated);
    }

    /// Appends `via`.
    pub fn via(&mut self, out: &mut Vec<u8>, via: &[u8]) {
        self.known(out, static_table::VIA, via, Policy::Repeated);
    }

    /// Appends a field, its name in lower case. `unknown` is the policy for a name that the static
    /// table does not have.
    #[inline]
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], unknown: Policy) {
        let index = static_table::find_name(name);
        if index != 0 {
            return self.known(out, index, value, static_table::policy(index));
        }
        if unknown == Policy::Repeated && self.repeated(out, 0, name, value) {
            return;
        }
        out.push(first_of_literal(unknown));
        string(out, name);
        string(out, value);
    }

    /// A field whose name is in the static table.
    fn known(&mut self, out: &mut Vec<u8>, name_index: usize, value: &[u8], policy: Policy) {
        let index = static_table::find_value(name_index, value);
        if index != 0 {
            out.push(0x80 | index as u8);
            return;
        }
        if policy == Policy::Repeated {
            let name = static_table::get(name_index).unwrap_or_default().0;
            if self.repeated(out, name_index, name, value) {
                return;
            }
        }
        integer::encode(out, first_of_literal(policy), 4, name_index);
        string(out, value);
    }

    /// Encodes by the table, or into it if the field was seen before; otherwise remembers it.
    fn repeated(&mut self, out: &mut Vec<u8>, index: usize, name: &[u8], value: &[u8]) -> bool {
        if name.len() + value.len() > FIELD_BYTES_MAX {
            return false;
        }
        let hash = hash(name, value);
        let sets = self
            .seen
            .get_or_insert_with(|| Box::new([Set::default(); SET_COUNT]));
        let set = &mut sets[hash as usize & (SET_COUNT - 1)];
        let Some(way) = set.iter().position(|seen| seen.hash == hash) else {
            set.rotate_right(1);
            set[0] = Seen { hash, inserted: 0 };
            return false;
        };
        set[..=way].rotate_right(1);
        let seen = &mut set[0];
        if seen.inserted != 0 {
            let age = self.table.inserted().wrapping_sub(seen.inserted) as usize;
            if self.table.get(age) == Some((name, value)) {
                integer::encode(out, 0x80, 7, static_table::LENGTH + 1 + age);
                return true;
            }
        }
        self.table.insert(name, value);
        seen.inserted = self.table.inserted();
        integer::encode(out, 0x40, 6, index);
        if index == 0 {
            string(out, name);
        }
        string(out, value);
        true
    }
}

fn first_of_literal(policy: Policy) -> u8 {
    match policy {
        Policy::Never => 0x10,
        Policy::Once | Policy::Repeated => 0x00,
    }
}

/// RFC 7541 §5.2, in the shorter of its two forms.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    let length = huffman::encoded_length(text);
    if length < text.len() {
        integer::encode(out, 0x80, 7, length);
        huffman::encode(text, out);
    } else {
        integer::encode(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// Mixes eight bytes a step. Who chooses fields so that they collide loses their compression only:
/// an entry is compared before it is used.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut state = (name.len() as u64) << 32 | value.len() as u64;
    for part in [name, value] {
        let mut words = part.chunks_exact(8);
        for word in words.by_ref() {
            let word = word
                .first_chunk()
                .map_or(0, |word| u64::from_le_bytes(*word));
            state = mix(state ^ word);
        }
        let mut last = 0;
        for &byte in words.remainder() {
            last = last << 8 | u64::from(byte);
        }
        state = mix(state ^ last);
    }
    (state >> 32) as u32 | 1
}

fn mix(word: u64) -> u64 {
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// A larger field would push out too much.
const FIELD_BYTES_MAX: usize = TABLE_BYTES_MAX / 4;

/// With four fields each, more than a table of 4 KiB has room for.
const SET_COUNT: usize = 16;
