//! Whether a request may pass, where somebody else says so: it waits meanwhile.
//!
//! Rule: what can be decided at once is, in `policy::guards`; here is only what waits. `authorising` parks a request and
//! goes on with it, `heard` is what a service said that was asked, and `verifying` has passwords looked up by a thread.

pub(in crate::session) mod authorising;
pub(in crate::session) mod heard;
pub(in crate::session) mod verifying;
