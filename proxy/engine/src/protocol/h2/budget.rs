//! The budget of a connection: what a peer may do wrong, or in vain, before it is asked to calm down.
//!
//! Rule: whatever costs us work and brings nothing forward is charged here, however it is called
//! (T01, T02, T06), to one of two accounts by what it costs. *Chatter* is frames that are read over, or
//! answered in a few bytes: updates of windows, pings, settings, empty frames. Who is busy has much of
//! it to say, so that it is earned by streams opened and by frames of DATA, as Envoy's limits are;
//! nothing but reading is to be won by it. *Trouble* is work undone: requests that are given up before
//! they are answered, and streams that are reset for a fault. It is earned by exchanges that come to
//! their ends. Both grow with time as well, as nghttp2's do, so that nobody is punished for a day of
//! keep-alive pings. A backend is no stranger and carries the requests of many: it may do far more.
//!
//! Two things that honest clients do in bursts have allowances of their own. One that gives up a thousand
//! calls which wait for a free stream sends each and its end in one go, as an attack does (T01): no work
//! is begun for such, and what tells the two apart is that people stop. One that opens streams before it
//! has read how many it may have has done nothing wrong (RFC 9113 §6.5.2): they are taken, or else refused free of charge.

/// What is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    chatter: u32,
    trouble: u32,
    /// Requests that may be given up at once.
    rapid: u32,
    /// Streams that may be too many because the peer could not know.
    unaware: u32,
    /// What all begin with, in a stranger's.
    worth: u32,
    /// When time was last credited.
    credited_s: u64,
}

/// Chatter that needs no reason: a plain flood of anything ends within twice as many frames.
const CHATTER: u32 = 128;

/// The most that can be saved of it.
const CHATTER_MAX: u32 = 16 << 10;

/// Requests that may be given up in a burst, half of which comes back within a second. nghttp2 allows
/// 1,000 and 33, Envoy 500, which cut a client of gRPC that cancels all of what it has queued.
const TROUBLE: u32 = 4096;

/// Requests that may be given up in the very bytes that bring them.
const RAPID: u32 = 1500;

/// How many of those come back within a second.
const RAPID_PER_S: u32 = 150;

/// Streams too many that are opened before our settings are read. Clients of gRPC open a thousand at once.
const UNAWARE: u32 = 2048;

/// A backend's budget, in those of strangers.
const BACKEND_WORTH: u32 = 64;

// Prices of chatter.

/// A frame that does nothing, a frame for a stream that is gone.
pub(super) const IDLE: u32 = 1;

/// Something that has to be answered with care.
pub(super) const ANSWERED: u32 = 2;

// Earnings of chatter.

/// A stream that was opened: some open its window at once, twice, and tell its priority.
const OPENED: u32 = 4;

/// A frame of DATA that holds all that there was to send. The peer may answer it by updates of both
/// windows for each message in it, and by a ping to measure the way. One that a window has cut short
/// earns by its bytes alone, so that nobody lives on opening it byte by byte (T07).
const SENT_FRAME: u32 = 10;

/// A frame of DATA that was received, and was not empty.
const RECEIVED_FRAME: u32 = 1;

/// Bytes of DATA sent that earn one.
const EARNING_BYTES: u32 = 64;

// Prices of trouble.

/// A request that is given up before its answer has begun.
pub(super) const GIVEN_UP: u32 = 1;

/// A stream too many of a peer who knows how many it may have.
pub(super) const EXCESS: u32 = 32;

/// A fault of the peer for which we reset a stream.
pub(super) const FAULT: u32 = 128;

/// Earnings of trouble: an exchange that came to its end.
const EXCHANGE: u32 = 64;

impl Budget {
    pub(super) fn of_client() -> Self {
        Self::new(1)
    }

    pub(super) fn of_backend() -> Self {
        Self::new(BACKEND_WORTH)
    }

    fn new(worth: u32) -> Self {
        Self {
            chatter: CHATTER * worth,
            trouble: TROUBLE * worth,
            rapid: RAPID * worth,
            unaware: UNAWARE,
            worth,
            credited_s: 0,
        }
    }

    /// Charges chatter; `false` once nothing is left.
    #[must_use]
    pub(super) fn chat(&mut self, price: u32) -> bool {
        self.chatter = self.chatter.saturating_sub(price);
        self.chatter > 0
    }

    /// Charges trouble; `false` once nothing is left.
    #[must_use]
    pub(super) fn trouble(&mut self, price: u32) -> bool {
        self.trouble = self.trouble.saturating_sub(price);
        self.trouble > 0
    }

    /// A request was given up by the bytes that brought it; `false` once that was too many (T01).
    #[must_use]
    pub(super) fn gives_up_at_once(&mut self) -> bool {
        self.rapid = self.rapid.saturating_sub(1);
        self.rapid > 0
    }

    /// A stream too many of a peer who could not know; `false` once nobody needs as many.
    #[must_use]
    pub(super) fn is_unaware(&mut self) -> bool {
        self.unaware = self.unaware.saturating_sub(1);
        self.unaware > 0
    }

    /// At most as many streams as that were refused to it.
    pub(super) fn unaware_count(&self) -> usize {
        (UNAWARE - self.unaware) as usize
    }

    pub(super) fn opened(&mut self) {
        self.earn_chatter(OPENED);
    }

    /// A frame of DATA was sent; `is_whole` unless a window has cut it short.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize, is_whole: bool) {
        let frame = if is_whole { SENT_FRAME } else { 0 };
        self.earn_chatter(bytes as u32 / EARNING_BYTES + frame);
    }

    #[inline]
    pub(super) fn received(&mut self) {
        self.earn_chatter(RECEIVED_FRAME);
    }

    pub(super) fn exchanged(&mut self) {
        self.earn_trouble(EXCHANGE);
    }

    /// Half of what chatter and trouble begin with comes back in a second.
    pub(super) fn pass_time(&mut self, now_s: u64) {
        let all_s = u64::from(RAPID / RAPID_PER_S);
        let passed = now_s.saturating_sub(self.credited_s).min(all_s) as u32;
        if passed > 0 {
            self.credited_s = now_s;
            let rapid = self.rapid + passed * RAPID_PER_S * self.worth;
            self.rapid = rapid.min(RAPID * self.worth);
            let passed = passed.min(2);
            self.earn_chatter(passed * CHATTER * self.worth / 2);
            self.earn_trouble(passed * TROUBLE * self.worth / 2);
        }
    }

    #[inline]
    fn earn_chatter(&mut self, amount: u32) {
        self.chatter = (self.chatter + amount).min(CHATTER_MAX);
    }

    fn earn_trouble(&mut self, amount: u32) {
        self.trouble = (self.trouble + amount).min(TROUBLE * self.worth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_and_grows_with_time() {
        let mut budget = Budget::of_client();
        budget.pass_time(1000);
        for _ in 0..2 {
            let chats = (0..).take_while(|_| budget.chat(IDLE)).count();
            let troubles = (0..).take_while(|_| budget.trouble(GIVEN_UP)).count();
            assert!(chats < 3 * CHATTER as usize && troubles < TROUBLE as usize);
            budget.pass_time(1001);
        }
        budget.pass_time(500);
        assert!(!budget.chat(IDLE) && !budget.trouble(GIVEN_UP));
        budget.pass_time(u64::MAX);
        assert!(budget.chat(CHATTER - 1) && budget.trouble(TROUBLE - 1));
    }

    #[test]
    fn what_is_given_up_at_once_comes_back_slowly() {
        let mut budget = Budget::of_client();
        budget.pass_time(1000);
        let count = |budget: &mut Budget| (0..).take_while(|_| budget.gives_up_at_once()).count();
        assert_eq!(count(&mut budget), RAPID as usize - 1);
        budget.pass_time(1001);
        assert_eq!(count(&mut budget), RAPID_PER_S as usize - 1);
        budget.pass_time(2000);
        assert_eq!(count(&mut budget), RAPID as usize - 1);
        assert!(budget.trouble(TROUBLE - 1), "that is another account");
    }

    #[test]
    fn chatter_is_earned_by_work_and_pays_for_no_trouble() {
        let mut budget = Budget::of_client();
        assert!(!budget.trouble(TROUBLE));
        for _ in 0..5000 {
            budget.opened();
            budget.sent(0, true);
            assert!((0..OPENED + SENT_FRAME).all(|_| budget.chat(IDLE)));
        }
        budget.sent(usize::MAX, true);
        assert!(budget.chat(CHATTER_MAX - 1) && !budget.chat(IDLE));
        assert!(!budget.trouble(GIVEN_UP));
        budget.exchanged();
        assert!((1..EXCHANGE).all(|_| budget.trouble(GIVEN_UP)));
    }

    #[test]
    fn a_window_that_opens_byte_by_byte_earns_nothing() {
        let mut budget = Budget::of_client();
        let updates = (0..)
            .take_while(|_| {
                budget.sent(1, false);
                budget.chat(IDLE)
            })
            .count();
        assert!(updates < CHATTER as usize);
    }
}
