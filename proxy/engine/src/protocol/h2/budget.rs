//! The budget of faults: what a peer may do wrong, or in vain, before it is asked to calm down.
//!
//! Rule: whatever costs us work and brings nothing forward is charged here, however it is called
//! (T01, T02, T06): resets by either side, empty frames, pings, settings, updates by a few bytes.
//! Useful work earns it back, and so does time, so that nobody is punished for a day of keep-alive
//! pings. As HAProxy's `glitches-threshold`, with prices.

/// What is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u32,
    /// When time was last credited.
    credited_s: u64,
}

/// A plain flood of anything ends within twice as many frames. A browser that leaves a page cancels
/// up to a hundred streams at once.
pub(super) const BUDGET: u32 = 128;

/// A reset by the peer, a frame that does nothing, a frame for a stream that is gone.
pub(super) const IDLE: u32 = 1;

/// Something that has to be answered.
pub(super) const ANSWERED: u32 = 2;

/// A fault of the peer for which we reset a stream.
pub(super) const FAULT: u32 = 4;

/// An exchange that came to its end.
pub(super) const EXCHANGE: u32 = 2;

/// A frame of DATA that holds all that there was to send: the peer may answer it by two updates of
/// windows, and by a ping to measure the way. One that a window has cut short earns nothing, so
/// that nobody lives on opening it byte by byte (T07).
pub(super) const SENT_FRAME: u32 = 2;

/// Bytes of DATA in either direction that earn one.
pub(super) const EARNING_BYTES: u32 = 512;

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BUDGET,
            credited_s: 0,
        }
    }
}

impl Budget {
    /// Charges; `false` once nothing is left.
    #[must_use]
    pub(super) fn charge(&mut self, price: u32) -> bool {
        self.left = self.left.saturating_sub(price);
        self.left > 0
    }

    #[inline]
    pub(super) fn earn(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(BUDGET);
    }

    /// One a second.
    pub(super) fn pass_time(&mut self, now_s: u64) {
        let passed = now_s.saturating_sub(self.credited_s);
        if passed > 0 {
            self.credited_s = now_s;
            self.earn(passed.min(u64::from(BUDGET)) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_and_earned_back() {
        let mut budget = Budget::default();
        budget.pass_time(1000);
        assert!((1..BUDGET).all(|_| budget.charge(IDLE)));
        assert!(!budget.charge(IDLE));
        budget.pass_time(1003);
        assert!(budget.charge(ANSWERED) && !budget.charge(FAULT));
        budget.pass_time(500);
        assert!(!budget.charge(IDLE));
        budget.earn(u32::MAX);
        assert!(budget.charge(BUDGET - 1) && !budget.charge(1));
    }
}
