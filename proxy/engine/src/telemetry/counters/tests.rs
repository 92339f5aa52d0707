//! The counters as a reader in another process finds them: by the header, nothing else.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use super::*;

/// Reads the memory as another process would: by its description, nothing else.
struct Reader {
    file: File,
    header: Value,
}

impl Reader {
    fn new(metrics: &Metrics) -> Self {
        let file = metrics.shared.share();
        let mut start = [0; 16];
        file.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(&start[..8], b"KAKEHI01");
        assert_eq!(start[12..], [0; 4]);
        let length = u32::from_le_bytes(start[8..12].try_into().unwrap());
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 16).unwrap();
        Self {
            file,
            header: serde_json::from_slice(&header).unwrap(),
        }
    }

    fn offset(&self, key: &str) -> u64 {
        self.header[key].as_u64().unwrap()
    }

    fn index(&self, list: &str, name: &str) -> u64 {
        let names = self.header[list].as_array().unwrap();
        names.iter().position(|other| other == name).unwrap() as u64
    }

    fn word(&self, offset: u64) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, offset).unwrap();
        u64::from_le_bytes(word)
    }

    fn counter(&self, name: &str) -> u64 {
        self.word(self.offset("counters_offset") + 8 * self.index("counters", name))
    }

    /// The first is nobody's.
    fn slot(&self, index: u64) -> Vec<u8> {
        let index = index + 1;
        let mut slot = vec![0; self.offset("slot_size") as usize];
        let offset = self.offset("slots_offset") + index * self.offset("slot_size");
        self.file.read_exact_at(&mut slot, offset).unwrap();
        slot
    }

    fn field(&self, slot: u64, name: &str) -> u64 {
        let at = 120 + 8 * self.index("slot_fields", name) as usize;
        u64::from_le_bytes(self.slot(slot)[at..at + 8].try_into().unwrap())
    }
}

#[test]
fn a_reader_finds_counters_by_the_header() {
    let metrics = Metrics::create(3).unwrap();
    metrics.add(Counter::RequestsTotal, 2);
    metrics.add(Counter::RequestsTotal, 3);
    metrics.add(Counter::ConnectionsNow, 3);
    metrics.sub(Counter::ConnectionsNow, 1);
    metrics.set(Counter::GenerationNow, 42);
    let reader = Reader::new(&metrics);
    assert_eq!(reader.counter("requests_total"), 5);
    assert_eq!(reader.counter("connections_now"), 2);
    assert_eq!(reader.counter("generation_now"), 42);
    assert_eq!(reader.counter("aborted_by_client_total"), 0);
    assert_eq!(metrics.get(Counter::RequestsTotal), 5);
}

#[test]
fn a_reader_finds_histograms_by_the_header() {
    let metrics = Metrics::create(0).unwrap();
    metrics.observe(Histogram::ConnectDuration, 17);
    metrics.observe(Histogram::ConnectDuration, u64::from(u32::MAX));
    let reader = Reader::new(&metrics);
    let histogram = &reader.header["histograms"][2];
    assert_eq!(histogram["name"], "connect_duration");
    let bounds = histogram["bounds_us"].as_array().unwrap();
    let offset = histogram["offset"].as_u64().unwrap();
    let infinite = bounds.len() as u64;
    assert_eq!(bounds[1], 20);
    assert_eq!(reader.word(offset + 8), 1);
    assert_eq!(reader.word(offset + 8 * infinite), 1);
    assert_eq!(
        reader.word(offset + 8 * (infinite + 1)),
        17 + u64::from(u32::MAX)
    );
}

#[test]
fn a_slot_is_zeroed_for_its_next_owner() {
    let metrics = Metrics::create(0).unwrap();
    let first = metrics.alloc_slot(SlotKind::Frontend, "web");
    let second = metrics.alloc_slot(SlotKind::Backend, "shop/shop-1");
    metrics.slot_add(first, Field::Requests, 7);
    metrics.slot_set(second, Field::Active, 2);
    metrics.slot_set(second, Field::Active, 1);
    let reader = Reader::new(&metrics);
    assert_eq!(reader.slot(0)[..7], *b"\x01\x00\x03\x01web");
    assert_eq!(reader.slot(1)[..15], *b"\x01\x02\x0b\x01shop/shop-1");
    assert_eq!(reader.field(0, "requests"), 7);
    assert_eq!(reader.field(1, "active"), 1);

    metrics.free_slot(first);
    assert_eq!(reader.slot(0)[0], 0);
    assert_eq!(metrics.alloc_slot(SlotKind::Cluster, "s"), first);
    assert_eq!(reader.slot(0)[..8], *b"\x01\x01\x01\x02s\0\0\0");
    assert_eq!(reader.field(0, "requests"), 0);
}

#[test]
fn the_first_word_of_a_slot_tells_owners_of_like_names_apart() {
    let metrics = Metrics::create(0).unwrap();
    let reader = Reader::new(&metrics);
    let mut before = Vec::new();
    for number in 0..10 {
        let slot = metrics.alloc_slot(SlotKind::Backend, &format!("shop/a{number}"));
        let first = reader.slot(0)[..8].to_vec();
        assert!(!before.contains(&first));
        before.push(first);
        metrics.free_slot(slot);
    }
}

#[test]
fn there_is_room_for_as_many_slots_as_are_used() {
    let metrics = Metrics::create(0).unwrap();
    let reader = Reader::new(&metrics);
    let length = || reader.file.metadata().unwrap().len();
    let small = length();
    let slots: Vec<_> = (0..70_000)
        .map(|number| metrics.alloc_slot(SlotKind::Backend, &format!("shop/a{number}")))
        .collect();
    for (number, slot) in slots.iter().enumerate() {
        assert_ne!(*slot, SlotId::NONE);
        metrics.slot_add(*slot, Field::Requests, number as u64);
    }
    assert!(length() > 16 * small);
    for number in [0, 4_095, 4_096, 65_535, 65_536, 69_999] {
        let name = format!("shop/a{number}");
        assert_eq!(&reader.slot(number)[4..4 + name.len()], name.as_bytes());
        assert_eq!(reader.field(number, "requests"), number);
    }
}

#[test]
fn what_is_beyond_the_bound_is_refused() {
    let metrics = Metrics::create(0).unwrap();
    let take = || metrics.alloc_slot(SlotKind::Backend, "shop/a");
    metrics.set_slots_max(2);
    let first = take();
    assert!(first != SlotId::NONE && take() != SlotId::NONE);
    let refused = take();
    assert_eq!(refused, SlotId::NONE);
    metrics.slot_add(refused, Field::Requests, 1);
    metrics.free_slot(refused);
    assert_eq!(take(), SlotId::NONE, "nobody's slot is given to nobody");

    metrics.free_slot(first);
    assert_eq!(take(), first);
    metrics.set_slots_max(1);
    metrics.slot_add(first, Field::Requests, 1);
    assert_eq!(take(), SlotId::NONE);
    metrics.set_slots_max(3);
    assert_ne!(take(), SlotId::NONE, "a bound may be raised");
}

#[test]
fn names_too_long_for_a_slot_stay_apart() {
    let long = format!("{}/{}", "c".repeat(63), "b".repeat(63));
    let other = format!("{}/{}a", "c".repeat(63), "b".repeat(62));
    let name = slot_name(SlotKind::Backend, &long);
    assert_eq!(name.len(), SLOT_NAME_BYTES);
    assert_ne!(name, slot_name(SlotKind::Backend, &other));
}

#[test]
fn readers_cannot_write_or_resize() {
    let metrics = Metrics::create(0).unwrap();
    let file = metrics.shared.share();
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.set_len(1).is_err());
    metrics.add(Counter::RequestsTotal, 1);
    assert_eq!(Reader::new(&metrics).counter("requests_total"), 1);
}
