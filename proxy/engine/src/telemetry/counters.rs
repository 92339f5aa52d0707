//! Counters in shared memory: one memfd per worker, written by its engine thread alone, read by
//! whoever was handed the descriptor.
//!
//! A single writer needs no locked instruction: load, add, store. Every word is an atomic, so a
//! reader in another process sees each number whole, if not all of them of one moment.
//!
//! The memory describes itself (`KAKEHI01`, the length of a JSON header, the header), so that a
//! reconciler can read the counters of a worker that is older or newer than itself. A reader of
//! slots looks at the first word of a slot before and after its fields: when it changed, the slot
//! went to another entity meanwhile.
//!
//! The only `unsafe` outside the runtime is here: the mapping is created, and seen as [`Shared`].

use std::cell::Cell;
use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::mem::offset_of;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;

use serde_json::json;

use super::histogram::BOUNDS_US;
use super::histogram::bucket;
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
    untouched: Cell<u32>,
}

impl Metrics {
    /// Creates the memory of the worker with this number; all counts are zero.
    pub fn create(worker: u32) -> io::Result<Self> {
        let shared = Mapping::create(&format!("kakehi-worker-{worker}"))?;
        shared.describe()?;
        Ok(Self {
            shared,
            free: RefCell::default(),
            untouched: Cell::new(0),
        })
    }

    /// The descriptor of the memory, for readers to map; it can be neither resized nor written
    /// through.
    pub fn fd(&self) -> RawFd {
        self.shared.fd.as_raw_fd()
    }

    /// Counts `count` up.
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        add(&self.shared.counters.0[counter as usize], count);
    }

    /// Counts `count` down.
    #[inline]
    pub fn sub(&self, counter: Counter, count: u64) {
        sub(&self.shared.counters.0[counter as usize], count);
    }

    /// Sets a counter that goes up and down.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.shared.counters.0[counter as usize].store(value, Relaxed);
    }

    /// The value of a counter.
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.shared.counters.0[counter as usize].load(Relaxed)
    }

    /// Counts a duration.
    #[inline]
    pub fn observe(&self, histogram: Histogram, us: u64) {
        let histogram = &self.shared.histograms[histogram as usize];
        add(&histogram.buckets[bucket(us)], 1);
        add(&histogram.sum_us, us);
    }

    /// Takes a slot for the entity of this name, all its fields zero. When all are taken the answer
    /// is [`SlotId::NONE`], which can be counted in and is read by nobody.
    pub fn alloc_slot(&self, kind: SlotKind, name: &str) -> SlotId {
        let slot = self
            .free
            .borrow_mut()
            .pop()
            .or_else(|| self.untouched_slot());
        let Some(slot) = slot else {
            self.add(Counter::SlotsRefusedTotal, 1);
            return SlotId::NONE;
        };
        let words = &self.shared.slots[slot.index()];
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

    /// Gives a slot back.
    pub fn free_slot(&self, slot: SlotId) {
        if slot != SlotId::NONE {
            let first = &self.shared.slots[slot.index()].head[0];
            first.store(first.load(Relaxed) & (0xFF << TURN_SHIFT), Release);
            self.free.borrow_mut().push(slot);
        }
    }

    /// Counts a field of a slot up.
    #[inline]
    pub fn slot_add(&self, slot: SlotId, field: Field, count: u64) {
        add(
            &self.shared.slots[slot.index()].fields[field as usize],
            count,
        );
    }

    /// Counts a field of a slot down.
    #[inline]
    pub fn slot_sub(&self, slot: SlotId, field: Field, count: u64) {
        sub(
            &self.shared.slots[slot.index()].fields[field as usize],
            count,
        );
    }

    /// Sets a field of a slot.
    #[inline]
    pub fn slot_set(&self, slot: SlotId, field: Field, value: u64) {
        self.shared.slots[slot.index()].fields[field as usize].store(value, Relaxed);
    }

    /// The value of a field of a slot.
    #[inline]
    pub fn slot_get(&self, slot: SlotId, field: Field) -> u64 {
        self.shared.slots[slot.index()].fields[field as usize].load(Relaxed)
    }

    fn untouched_slot(&self) -> Option<SlotId> {
        let next = self.untouched.get();
        (next < SlotId::NONE.0).then(|| {
            self.untouched.set(next + 1);
            SlotId(next)
        })
    }
}

/// The place of one entity's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(u32);

impl SlotId {
    /// The slot of what is counted nowhere.
    pub const NONE: Self = Self(SLOTS as u32);

    #[inline]
    fn index(self) -> usize {
        self.0 as usize
    }
}

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

/// The whole memory, in the order in which the header describes it. All bytes zero is a valid value
/// of it, which is what a fresh memfd holds.
#[repr(C)]
#[derive(Debug)]
struct Shared {
    magic: AtomicU64,
    header_len: AtomicU64,
    header: [AtomicU64; HEADER_BYTES_MAX / 8],
    counters: Counters,
    histograms: [Buckets; Histogram::ALL.len()],
    // One more than readers are told of, to count what has no slot without a branch.
    slots: [Slot; SLOTS + 1],
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
struct Slot {
    head: [AtomicU64; SLOT_HEAD_WORDS],
    fields: [AtomicU64; Field::ALL.len()],
}

const _: () = assert!(size_of::<Slot>() == 256 && offset_of!(Slot, fields) == 120);

impl Shared {
    /// Writes the header.
    fn describe(&self) -> io::Result<()> {
        let histogram = |histogram: Histogram| {
            let offset = offset_of!(Shared, histograms) + histogram as usize * size_of::<Buckets>();
            json!({"name": histogram.as_str(), "offset": offset, "bounds_us": &BOUNDS_US[..]})
        };
        let header = json!({
            "counters_offset": offset_of!(Shared, counters),
            "counters": Counter::ALL.map(Counter::as_str).to_vec(),
            "histograms": Histogram::ALL.map(histogram),
            "slots_offset": offset_of!(Shared, slots),
            "slot_size": size_of::<Slot>(),
            "slots": SLOTS,
            "slot_fields": Field::ALL.map(Field::as_str),
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

/// The memory, mapped for as long as this lives.
#[derive(Debug)]
struct Mapping {
    shared: NonNull<Shared>,
    fd: OwnedFd,
}

impl Mapping {
    fn create(name: &str) -> io::Result<Self> {
        let name = CString::new(name)?;
        // SAFETY: the name is a C string that lives through the call.
        let fd = unsafe {
            libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let length = libc::off_t::try_from(size_of::<Shared>()).map_err(io::Error::other)?;
        // SAFETY: plain call on a descriptor that we own.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let shared = Self::map(&fd)?;
        let mapping = Self { shared, fd };
        mapping.seal()?;
        Ok(mapping)
    }

    fn map(fd: &OwnedFd) -> io::Result<NonNull<Shared>> {
        // SAFETY: a new mapping at an address of the kernel's choice, of a file of this length.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))
    }

    /// Fixes the length, so that no reader can be hit by SIGBUS, and takes from all later mappings
    /// the right to write: the counters have one writer.
    fn seal(&self) -> io::Result<()> {
        let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_FUTURE_WRITE;
        // SAFETY: plain call on a descriptor that we own.
        match unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Deref for Mapping {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        // SAFETY: `shared` points to a mapping of exactly this size, page-aligned (more than
        // `Shared` asks for), sealed against shrinking, unmapped only by `drop`. `Shared` consists
        // of atomics, for which every bit pattern is valid, so even a foreign writer, which the
        // seal rules out, could not break its invariants.
        unsafe { self.shared.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.shared.as_ptr().cast(), size_of::<Shared>()) };
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and is reached only through atomics.
unsafe impl Send for Mapping {}

const MAGIC: &[u8; 8] = b"KAKEHI01";
const HEADER_BYTES_MAX: usize = 16 << 10;
const SLOTS: usize = 65536;
/// Where in the first word of a slot its turn is.
const TURN_SHIFT: u32 = 24;
const SLOT_HEAD_WORDS: usize = 15;
const SLOT_NAME_BYTES: usize = SLOT_HEAD_WORDS * 8 - 4;

#[cfg(test)]
mod tests;
