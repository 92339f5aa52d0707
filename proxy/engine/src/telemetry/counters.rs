//! Counters in shared memory: one memfd per worker, written by its engine thread alone, read by
//! whoever was handed the descriptor.
//!
//! A single writer needs no locked instruction: load, add, store. Every word is an atomic, so a
//! reader in another process sees each number whole, if not all of them of one moment.
//!
//! The memory describes itself (`KAKEHI01`, the length of a JSON header, the header), so that a
//! reconciler can read the counters of a worker that is older or newer than itself. Slots go to its
//! end, which moves as more of them are used, up to a number that the settings say. A reader of
//! slots looks at the first word of a slot before and after its fields: when it changed, the slot
//! went to another entity meanwhile.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;

use serde_json::json;

use super::histogram::BOUNDS_US;
use super::histogram::bucket;
use super::mapping::Mapping;
pub use super::names::Counter;
pub use super::names::Field;
pub use super::names::Histogram;
pub use super::names::SlotKind;
use crate::state::digest::Digest;
use crate::state::entity::Kind;

#[cfg(target_endian = "big")]
compile_error!("the shared counters are read as little-endian numbers");

/// A worker's numbers. Belongs to the thread that counts; hand it over before the first count.
#[derive(Debug)]
pub struct Metrics {
    shared: Mapping,
    free: RefCell<Vec<SlotId>>,
    /// The first slot that nobody has had.
    untouched: Cell<u32>,
    /// So many may be used at one time.
    slots_max: Cell<u32>,
    /// How often that was raised.
    raised: Cell<u32>,
}

impl Metrics {
    /// Creates the memory of the worker with this number; all counts are zero.
    pub fn create(worker: u32) -> io::Result<Self> {
        let shared = Mapping::create(&format!("kakehi-worker-{worker}"))?;
        shared.head().describe()?;
        Ok(Self {
            shared,
            free: RefCell::default(),
            untouched: Cell::new(SlotId::NONE.0 + 1),
            slots_max: Cell::new(SLOTS_MAX),
            raised: Cell::new(0),
        })
    }

    /// How many entities may be counted from now on. Those beyond it that are counted go on.
    pub fn set_slots_max(&self, count: u32) {
        if self.slots_max.replace(count.min(SLOTS_MAX)) < count {
            // Who was refused may find room now: whoever does not will be refused again.
            self.raised.set(self.raised.get().wrapping_add(1));
            self.set(Counter::UncountedEntitiesNow, 0);
        }
    }

    /// The descriptor of the memory, for readers to map; it can be neither resized nor written
    /// through.
    pub fn fd(&self) -> RawFd {
        self.shared.fd()
    }

    /// Counts `count` up.
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        add(&self.shared.head().counters.0[counter as usize], count);
    }

    /// Counts `count` down.
    #[inline]
    pub fn sub(&self, counter: Counter, count: u64) {
        sub(&self.shared.head().counters.0[counter as usize], count);
    }

    /// Sets a counter that goes up and down.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.shared.head().counters.0[counter as usize].store(value, Relaxed);
    }

    /// The value of a counter.
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.shared.head().counters.0[counter as usize].load(Relaxed)
    }

    /// Counts a duration.
    #[inline]
    pub fn observe(&self, histogram: Histogram, us: u64) {
        let histogram = &self.shared.head().histograms[histogram as usize];
        add(&histogram.buckets[bucket(us)], 1);
        add(&histogram.sum_us, us);
    }

    /// Takes a slot for the entity of this name, all its fields zero. When as many are taken as may be, or
    /// there is no memory for another, the answer is [`SlotId::NONE`], which can be counted in and is read
    /// by nobody.
    pub fn alloc_slot(&self, kind: SlotKind, name: &str) -> SlotId {
        let free = || self.free.borrow_mut().pop();
        let slot = match self.has_room() {
            true => free().or_else(|| self.untouched_slot()),
            false => None,
        };
        let Some(slot) = slot else {
            return SlotId::NONE;
        };
        let words = self.slot(slot);
        let turn = (words.head[0].load(Relaxed) >> TURN_SHIFT) as u8;
        let [first, others @ ..] = slot_head(kind, name, turn.wrapping_add(1));
        for field in &words.fields {
            field.store(0, Relaxed);
        }
        for (word, value) in words.head[1..].iter().zip(others) {
            word.store(value, Relaxed);
        }
        // The first word says that the slot is used: a reader that sees it sees the rest.
        words.head[0].store(first, Release);
        slot
    }

    /// Counts one that was given [`SlotId::NONE`] as counted nowhere; `before` is what this said of it last.
    pub fn refuse(&self, before: Refused) -> Refused {
        let now = Refused(Some(self.raised.get()));
        self.add(Counter::UncountedEntitiesNow, u64::from(before != now));
        now
    }

    /// Such a one is gone, or has a slot now.
    pub fn forget(&self, before: Refused) -> Refused {
        let is_told = before == Refused(Some(self.raised.get()));
        self.sub(Counter::UncountedEntitiesNow, u64::from(is_told));
        Refused(None)
    }

    /// Gives a slot back.
    pub fn free_slot(&self, slot: SlotId) {
        if slot != SlotId::NONE {
            let first = &self.slot(slot).head[0];
            first.store(first.load(Relaxed) & (0xFF << TURN_SHIFT), Release);
            self.free.borrow_mut().push(slot);
        }
    }

    /// Counts a field of a slot up.
    #[inline]
    pub fn slot_add(&self, slot: SlotId, field: Field, count: u64) {
        add(&self.slot(slot).fields[field as usize], count);
    }

    /// Sets a field of a slot.
    #[inline]
    pub fn slot_set(&self, slot: SlotId, field: Field, value: u64) {
        self.slot(slot).fields[field as usize].store(value, Relaxed);
    }

    /// The value of a field of a slot.
    #[inline]
    pub fn slot_get(&self, slot: SlotId, field: Field) -> u64 {
        self.slot(slot).fields[field as usize].load(Relaxed)
    }

    /// One that nobody has had, behind all others; room is made for it where there is none.
    fn untouched_slot(&self) -> Option<SlotId> {
        let next = self.untouched.get();
        if !self.shared.reach(next) {
            // Who asks again with each request need not find that out each time.
            self.slots_max.set(next - 1);
            return None;
        }
        self.untouched.set(next + 1);
        Some(SlotId(next))
    }

    fn has_room(&self) -> bool {
        let used = self.untouched.get() as usize - 1 - self.free.borrow().len();
        used < self.slots_max.get() as usize
    }

    #[inline]
    fn slot(&self, slot: SlotId) -> &Slot {
        self.shared.slot(slot.0)
    }
}

/// The place of one entity's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(u32);

impl SlotId {
    /// The slot of what is counted nowhere: never marked as used, so that readers pass over it.
    pub const NONE: Self = Self(0);
}

/// Whether an entity was refused a slot, and of which bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused(Option<u32>);

#[inline]
fn add(word: &AtomicU64, count: u64) {
    word.store(word.load(Relaxed).wrapping_add(count), Relaxed);
}

#[inline]
fn sub(word: &AtomicU64, count: u64) {
    word.store(word.load(Relaxed).wrapping_sub(count), Relaxed);
}

/// The first half of a slot: used, kind, length of the name, how often it has been given to somebody,
/// the name. So the first word changes with its owner, whatever their names have in common.
fn slot_head(kind: SlotKind, name: &str, turn: u8) -> [u64; SLOT_HEAD_WORDS] {
    let name = slot_name(kind, name);
    let mut bytes = vec![1, kind as u8, name.len() as u8, turn];
    bytes.extend_from_slice(&name);
    std::array::from_fn(|index| word(&bytes, index))
}

/// A word out of bytes that are thought of as followed by zeros.
fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| {
        bytes.get(index * 8 + byte).copied().unwrap_or(0)
    }))
}

/// A name that fits. A backend's may be three bytes longer than the room; it is then told apart by
/// a piece of its digest, since two entities under one name would be one line of metrics.
fn slot_name(kind: SlotKind, name: &str) -> Vec<u8> {
    if name.len() <= SLOT_NAME_BYTES {
        return name.as_bytes().to_vec();
    }
    let kind = Kind::parse(kind.as_str()).unwrap_or(Kind::Backend);
    let digest = Digest::from_entity(kind, name, b"").to_hex();
    let start = &name.as_bytes()[..SLOT_NAME_BYTES - 9];
    [start, b"~", &digest.as_bytes()[..8]].concat()
}

/// What the memory begins with, in the order in which the header describes it; slots follow. All bytes
/// zero is a valid value of both, which is what a fresh memfd holds.
#[repr(C, align(256))]
#[derive(Debug)]
pub(super) struct Head {
    magic: AtomicU64,
    header_len: AtomicU64,
    header: [AtomicU64; HEADER_BYTES_MAX / 8],
    counters: Counters,
    histograms: [Buckets; Histogram::ALL.len()],
}

#[repr(C, align(64))]
#[derive(Debug)]
struct Counters([AtomicU64; Counter::ALL.len()]);

#[repr(C)]
#[derive(Debug)]
struct Buckets {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

#[repr(C, align(256))]
#[derive(Debug)]
pub(super) struct Slot {
    head: [AtomicU64; SLOT_HEAD_WORDS],
    fields: [AtomicU64; Field::ALL.len()],
}

const _: () = assert!(size_of::<Slot>() == 256 && offset_of!(Slot, fields) == 120);

impl Head {
    /// Writes the header.
    fn describe(&self) -> io::Result<()> {
        let histogram = |histogram: Histogram| {
            let offset = offset_of!(Head, histograms) + histogram as usize * size_of::<Buckets>();
            json!({"name": histogram.as_str(), "offset": offset, "bounds_us": &BOUNDS_US[..]})
        };
        let of_frontends: serde_json::Map<_, _> = Field::OF_FRONTENDS
            .iter()
            .map(|(field, _, name)| (field.as_str().to_owned(), json!(name)))
            .collect();
        let of_clusters: serde_json::Map<_, _> = Field::OF_CLUSTERS
            .iter()
            .map(|(field, name)| (field.as_str().to_owned(), json!(name)))
            .collect();
        let of_policies: serde_json::Map<_, _> = Field::OF_POLICIES
            .iter()
            .map(|(field, name)| (field.as_str().to_owned(), json!(name)))
            .collect();
        let header = json!({
            "counters_offset": offset_of!(Head, counters),
            "counters": Counter::ALL.map(Counter::as_str).to_vec(),
            "histograms": Histogram::ALL.map(histogram),
            "slots_offset": size_of::<Head>(),
            "slot_size": size_of::<Slot>(),
            "slot_fields": Field::ALL.map(Field::as_str),
            "slot_fields_of": {
                SlotKind::Frontend.as_str(): of_frontends,
                SlotKind::Cluster.as_str(): of_clusters,
                SlotKind::Policy.as_str(): of_policies,
            },
        });
        let bytes = serde_json::to_vec(&header)?;
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(io::Error::other(
                "the header of the counters has outgrown its room",
            ));
        }
        for (index, place) in self.header.iter().enumerate() {
            place.store(word(&bytes, index), Relaxed);
        }
        self.header_len.store(bytes.len() as u64, Relaxed);
        self.magic.store(u64::from_le_bytes(*MAGIC), Release);
        Ok(())
    }
}

const MAGIC: &[u8; 8] = b"KAKEHI01";
const HEADER_BYTES_MAX: usize = 16 << 10;
/// What the settings may allow at most.
pub const SLOTS_MAX: u32 = 4_000_000;
/// Where in the first word of a slot its turn is.
const TURN_SHIFT: u32 = 24;
const SLOT_HEAD_WORDS: usize = 15;
const SLOT_NAME_BYTES: usize = SLOT_HEAD_WORDS * 8 - 4;

#[cfg(test)]
mod tests;
