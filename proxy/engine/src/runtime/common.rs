//! Memory that processes of one host have in common: a file, mapped as words that all of them may write.
//!
//! Rule: it is nothing but atomic words, of which any value is valid, so that whatever others write there cannot
//! break anything here; what it means is up to whoever reads it (`policy/limits/places`, `policy/limits/columns`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Such a file, which this process has opened for itself: what it locks there is its own until it ends, however it does.
#[derive(Debug)]
pub struct CommonFile(File);

impl CommonFile {
    /// One by its descriptor.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn of(file: RawFd) -> io::Result<Self> {
        super::socket::duplicate(file).map(|file| Self(file.into()))
    }

    /// The same one, with the same locks.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Maps the first words of it.
    ///
    /// # Errors
    /// See [`CommonWords::of`].
    pub fn map(&self, count: usize) -> io::Result<CommonWords> {
        CommonWords::of(self.0.try_clone()?.into(), count)
    }

    /// Has the system keep room for a part of it, so that no access to it fails.
    ///
    /// # Errors
    /// When there is none.
    pub fn reserve(&self, from: u64, length: u64) -> io::Result<()> {
        let (from, length) = (from as libc::off_t, length as libc::off_t);
        // SAFETY: no pointers.
        match unsafe { libc::posix_fallocate(self.0.as_raw_fd(), from, length) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Locks one of its bytes; false: another process has, or the system knows no such locks.
    #[must_use]
    pub fn lock(&self, at: u64) -> bool {
        self.set_lock(at, libc::F_WRLCK)
    }

    /// Unlocks it.
    pub fn unlock(&self, at: u64) {
        self.set_lock(at, libc::F_UNLCK);
    }

    /// Whether both are one file.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let which = |file: &File| file.metadata().map(|it| (it.dev(), it.ino())).ok();
        which(&self.0).is_some_and(|it| which(&other.0) == Some(it))
    }

    fn set_lock(&self, at: u64, kind: libc::c_int) -> bool {
        let lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: at as libc::off_t,
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: the kernel reads the structure, which outlives the call, and waits for nobody.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
    }
}

/// So many words of a file, mapped for as long as this lives.
#[derive(Debug)]
pub struct CommonWords {
    first: NonNull<AtomicU64>,
    count: usize,
    /// Device and inode: which file it is.
    file: (u64, u64),
}

impl CommonWords {
    /// Maps the first words of a file, which can be closed then.
    ///
    /// # Errors
    /// When it is no file, or one that is shorter, or the system has no room for it.
    pub fn of(file: OwnedFd, count: usize) -> io::Result<Self> {
        let file = File::from(file);
        let found = file.metadata()?;
        let length = count * size_of::<AtomicU64>();
        if !found.is_file() || found.len() < length as u64 || length == 0 {
            return Err(io::Error::other("it is no file of that length"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(address.cast());
        Ok(Self {
            first: first.ok_or_else(|| io::Error::other("mapped at address zero"))?,
            count,
            file: (found.dev(), found.ino()),
        })
    }

    /// All of them.
    #[must_use]
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: a mapping of so many words begins there, page-aligned, and is unmapped by `drop` alone. Each
        // is an atomic, for which every bit pattern is valid, and other processes change them whole. The
        // file was that long when it was mapped. It lies in a directory that is its owner's alone, and nobody
        // makes it shorter: who could has the right to end this process by other ways than SIGBUS, too.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    /// Whether both are one file.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Drop for CommonWords {
    fn drop(&mut self) {
        let length = self.count * size_of::<AtomicU64>();
        // SAFETY: the mapping was made with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.first.as_ptr().cast(), length) };
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and is reached through atomics alone.
unsafe impl Send for CommonWords {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let path = std::env::temp_dir().join(format!("kakehi-common-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(4096).unwrap();
        let map = |count| CommonWords::of(file.try_clone().unwrap().into(), count);
        let (one, other) = (map(512).unwrap(), map(8).unwrap());
        assert!(one.is_same(&other));
        one.words()[7].store(u64::MAX, SeqCst);
        assert_eq!(other.words()[7].load(SeqCst), u64::MAX);
        assert_eq!(other.words().len(), 8);
        assert!(map(513).is_err(), "it is shorter");
        assert!(map(0).is_err());
        let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(CommonWords::of(end.into(), 1).is_err());
    }
}
