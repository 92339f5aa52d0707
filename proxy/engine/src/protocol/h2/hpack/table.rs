//! The dynamic table (RFC 7541 §2.3.2, §4): the same for decoder and encoder.
//!
//! The bytes of all entries lie one after another; evicted ones are left behind and the rest is
//! moved down when the gap is as large as the table. So an insertion is an append, and the memory
//! is at most twice the limit. Nothing is allocated before the first insertion.

use std::collections::VecDeque;

/// What an entry costs beside its bytes (RFC 7541 §4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// The most that a table of ours may take: the size of RFC 7541 §4.2 without any setting. What
/// a larger one would save is little, and it is held for each connection (T04, T05).
pub const TABLE_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name_length: u16,
    value_length: u16,
}

#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// The oldest one first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// How many entries were ever inserted.
    inserted: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            size_max: TABLE_BYTES_MAX,
            inserted: 0,
        }
    }
}

impl Table {
    /// The entry at an index of the dynamic part, the newest one being 0.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let place = self.entries.len().checked_sub(index + 1)?;
        let entry = self.entries.get(place)?;
        let start = entry.start as usize;
        let all = self.bytes.get(start..)?;
        let (name, rest) = all.split_at_checked(usize::from(entry.name_length))?;
        Some((name, rest.get(..usize::from(entry.value_length))?))
    }

    /// Inserts a field; one that is larger than the table empties it (§4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict_to(self.size_max.saturating_sub(size));
        if size > self.size_max {
            return;
        }
        if self.bytes.len() + name.len() + value.len() > 2 * TABLE_BYTES_MAX {
            self.compact();
        }
        // Both fit: the table has no more than TABLE_BYTES_MAX.
        self.entries.push_back(Entry {
            start: self.bytes.len() as u32,
            name_length: name.len() as u16,
            value_length: value.len() as u16,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
    }

    /// Changes the limit; the caller has checked it.
    pub(super) fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max.min(TABLE_BYTES_MAX);
        self.evict_to(self.size_max);
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// How many entries were ever inserted, modulo 2^32: the name of the newest entry.
    pub(super) fn inserted(&self) -> u32 {
        self.inserted
    }

    fn evict_to(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(entry) = self.entries.pop_front() else {
                self.size = 0;
                return;
            };
            let length = usize::from(entry.name_length) + usize::from(entry.value_length);
            self.size -= length + ENTRY_OVERHEAD;
        }
    }

    fn compact(&mut self) {
        let gap = self
            .entries
            .front()
            .map_or(self.bytes.len(), |entry| entry.start as usize);
        self.bytes.drain(..gap);
        for entry in &mut self.entries {
            entry.start -= gap as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_is_the_first() {
        let mut table = Table::default();
        table.insert(b"a", b"1");
        table.insert(b"b", b"22");
        assert_eq!(table.get(0), Some((&b"b"[..], &b"22"[..])));
        assert_eq!(table.get(1), Some((&b"a"[..], &b"1"[..])));
        assert_eq!((table.get(2), table.get(usize::MAX - 1)), (None, None));
        assert_eq!((table.size, table.inserted()), (69, 2));
    }

    #[test]
    fn entries_go_when_there_is_no_room() {
        let mut table = Table::default();
        table.set_size_max(70);
        table.insert(b"a", b"1");
        table.insert(b"b", b"2");
        table.insert(b"c", b"3");
        assert_eq!((table.size, table.entries.len()), (68, 2));
        table.set_size_max(34);
        assert_eq!(table.get(0), Some((&b"c"[..], &b"3"[..])));
        assert_eq!(table.get(1), None);
        table.insert(b"too", b"large");
        assert_eq!((table.size, table.get(0)), (0, None));
    }

    #[test]
    fn t05_memory_is_bounded_whatever_is_inserted() {
        let mut table = Table::default();
        for round in 0..10_000_usize {
            let name = vec![b'n'; round % 97];
            let value = vec![b'v'; round * 7 % 4200];
            table.insert(&name, &value);
            assert!(table.size <= TABLE_BYTES_MAX && table.bytes.len() <= 2 * TABLE_BYTES_MAX);
            if name.len() + value.len() + ENTRY_OVERHEAD <= TABLE_BYTES_MAX {
                assert_eq!(table.get(0), Some((name.as_slice(), value.as_slice())));
            }
        }
    }
}
