//! Flow-control windows (RFC 9113 §5.2, §6.9).
//!
//! Rule: a window that we receive into is opened again only for bytes that the session has passed
//! on. So what waits in us is never more than the window, and the sender is slowed down by the
//! slowest of the whole path.

use super::frame::STREAM_MAX;

/// The largest window.
pub(super) const WINDOW_MAX: u32 = STREAM_MAX;

/// The window of a peer that has said nothing (RFC 9113 §6.9.2).
pub(super) const WINDOW_DEFAULT: u32 = 65_535;

/// What may still be sent. It can be below 0 after the peer has lowered its initial window.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    pub(super) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    #[inline]
    pub(super) fn available(self) -> usize {
        self.0.max(0) as usize
    }

    #[inline]
    pub(super) fn take(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// Changes the window by an update or a setting; `false` if it would be larger than any may be.
    #[must_use]
    pub(super) fn change(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= i64::from(WINDOW_MAX)
    }
}

/// What the peer may still send, and what it is owed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveWindow {
    left: u32,
    /// Passed on, but the peer does not know yet.
    owed: u32,
    size: u32,
}

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> Self {
        Self {
            left: size,
            owed: 0,
            size,
        }
    }

    /// Takes the payload of a frame; `false` if the peer had no right to send it.
    #[inline]
    #[must_use]
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }

    /// What the peer may still send.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Makes it larger for good; the peer has to be told.
    pub(super) fn widen(&mut self, by: u32) {
        self.left += by;
        self.size += by;
    }

    /// Counts bytes as passed on; returns the update to send, once it is worth a frame: half a
    /// window, as nearly all do.
    #[inline]
    pub(super) fn pass(&mut self, bytes: u32) -> Option<u32> {
        self.owed += bytes;
        debug_assert!(self.left + self.owed <= self.size);
        if self.owed == 0 || self.owed < self.size / 2 {
            return None;
        }
        let update = std::mem::take(&mut self.owed);
        self.left += update;
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_opens_the_window_again() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.take(60) && window.take(40) && !window.take(1));
        assert_eq!(window.pass(49), None);
        assert!(!window.take(1));
        assert_eq!(window.pass(1), Some(50));
        assert!(window.take(50) && !window.take(1));
        assert_eq!(window.pass(0), None);
    }

    #[test]
    fn a_wider_window_takes_more_and_opens_later() {
        let mut window = ReceiveWindow::new(100);
        window.widen(300);
        assert!(window.take(400) && !window.take(1));
        assert_eq!(window.pass(199), None);
        assert_eq!(window.pass(1), Some(200));
    }

    #[test]
    fn a_window_can_be_lowered_below_nothing() {
        let mut window = SendWindow::new(10);
        window.take(10);
        assert!(window.change(-10));
        assert_eq!(window.available(), 0);
        assert!(window.change(15));
        assert_eq!(window.available(), 5);
        assert!(!window.change(i64::from(WINDOW_MAX)));
    }
}
