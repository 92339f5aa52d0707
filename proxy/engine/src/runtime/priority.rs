//! The priority of threads beside the loop, which has the core.

/// So much less than the loop: a tenth of the core, where both want it.
const BEHIND: libc::c_int = 10;

/// Has the calling thread stand back behind the others. Where that is refused it does not.
pub fn stand_back() {
    // SAFETY: a system call without pointers; 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, BEHIND);
    }
}
