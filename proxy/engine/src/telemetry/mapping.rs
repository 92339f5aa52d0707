//! The memory behind the counters: a memfd that is mapped once, with room for all slots that there may
//! ever be, and made longer as they are used. Called by [`super::counters`] alone.
//!
//! Nothing ever moves, so that a slot is a reference for as long as the mapping lives. Its bytes behind
//! the end of the file must not be touched, which [`Mapping::slot`] sees to.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use super::counters::{Head, SLOTS_MAX, Slot};

/// A mebibyte of slots to begin with. It doubles.
const SLOTS_FIRST: u32 = 4096;
/// One more than may be used: the one that is nobody's.
const SLOTS_LAST: u32 = SLOTS_MAX + 1;

/// The memory, mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Mapping {
    head: NonNull<Head>,
    fd: OwnedFd,
    /// So many slots lie within the file.
    slots: Cell<u32>,
}

impl Mapping {
    /// A fresh one, all of it zero, that nobody else can write or make shorter.
    pub(super) fn create(name: &str) -> io::Result<Self> {
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
        set_length(&fd, SLOTS_FIRST)?;
        let mapping = Self {
            head: map(&fd)?,
            fd,
            slots: Cell::new(SLOTS_FIRST),
        };
        mapping.seal()?;
        Ok(mapping)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    #[inline]
    pub(super) fn head(&self) -> &Head {
        // SAFETY: `head` points to a mapping of a file that is longer than `Head`, page-aligned (more
        // than `Head` asks for), sealed against shrinking, unmapped only by `drop`. `Head` consists
        // of atomics, for which every bit pattern is valid, so even a foreign writer, which the
        // seal rules out, could not break its invariants.
        unsafe { self.head.as_ref() }
    }

    /// A slot within the file.
    ///
    /// # Panics
    /// When it is not: nobody has been given such a one.
    #[inline]
    pub(super) fn slot(&self, index: u32) -> &Slot {
        assert!(index < self.slots.get(), "a slot of the counters");
        // SAFETY: slots begin where `Head` ends, whose size is a multiple of their alignment. This one
        // lies within the file, which never becomes shorter, and else what `head` says holds.
        unsafe { self.head.add(1).cast::<Slot>().add(index as usize).as_ref() }
    }

    /// Makes the file long enough for this slot; false when it cannot become so long.
    pub(super) fn reach(&self, index: u32) -> bool {
        let slots = self.slots.get();
        if index < slots {
            return true;
        }
        let more = slots.saturating_mul(2).min(SLOTS_LAST);
        let grown = index < more && set_length(&self.fd, more).is_ok();
        if grown {
            self.slots.set(more);
        }
        grown
    }

    /// Sees to it that the file never becomes shorter, so that no reader can be hit by SIGBUS, and takes
    /// from all later mappings the right to write: the counters have one writer.
    fn seal(&self) -> io::Result<()> {
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_FUTURE_WRITE;
        // SAFETY: plain call on a descriptor that we own.
        match unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
impl Mapping {
    /// The file as somebody has it who was handed the descriptor.
    pub(super) fn share(&self) -> std::fs::File {
        self.fd.try_clone().unwrap().into()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.head.as_ptr().cast(), length(SLOTS_LAST)) };
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and is reached only through atomics. What
// is not an atomic, the number of slots, goes along with its one owner.
unsafe impl Send for Mapping {}

/// How many bytes a memory with so many slots has.
fn length(slots: u32) -> usize {
    size_of::<Head>() + slots as usize * size_of::<Slot>()
}

fn set_length(fd: &OwnedFd, slots: u32) -> io::Result<()> {
    let length = libc::off_t::try_from(length(slots)).map_err(io::Error::other)?;
    // SAFETY: plain call on a descriptor that we own.
    match unsafe { libc::ftruncate(fd.as_raw_fd(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Maps all that there may ever be: addresses cost nothing, and what lies behind the end of the file is
/// not touched before it has become longer.
fn map(fd: &OwnedFd) -> io::Result<NonNull<Head>> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length(SLOTS_LAST),
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
