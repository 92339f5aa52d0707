//! Lazy timers: a deadline is a field of its connection, and only its *earliest* check is queued.
//!
//! Moving a deadline later costs one store, which is what nearly every request does; the queue is
//! touched when a deadline comes nearer than the queued check, at most about once per timeout and
//! connection. A check that comes too early queues itself again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::driver::Token;

/// A deadline that is never reached.
pub const NEVER: u64 = u64::MAX;

/// Deadline of one connection, in milliseconds of the engine's clock.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at_ms: u64,
    queued_ms: u64,
}

impl Deadline {
    /// No deadline, nothing queued.
    pub const NONE: Self = Self {
        at_ms: NEVER,
        queued_ms: NEVER,
    };

    /// Whether it has passed.
    #[must_use]
    pub fn passed(&self, now_ms: u64) -> bool {
        self.at_ms <= now_ms
    }

    /// Removes the deadline; a queued check stays and finds nothing to do.
    pub fn clear(&mut self) {
        self.at_ms = NEVER;
    }
}

/// Queue of checks, earliest first.
#[derive(Default)]
pub struct Timers {
    queue: BinaryHeap<Reverse<(u64, Token)>>,
}

impl Timers {
    /// Sets a deadline and queues a check if none is queued early enough.
    pub fn set(&mut self, deadline: &mut Deadline, token: Token, at_ms: u64) {
        deadline.at_ms = at_ms;
        if at_ms < deadline.queued_ms {
            deadline.queued_ms = at_ms;
            self.queue.push(Reverse((at_ms, token)));
        }
    }

    /// Queues a check that belongs to no connection.
    pub fn queue_check(&mut self, token: Token, at_ms: u64) {
        self.queue.push(Reverse((at_ms, token)));
    }

    /// The next token whose check is due, and the time it was queued for.
    pub fn poll_due(&mut self, now_ms: u64) -> Option<(u64, Token)> {
        let &Reverse((at_ms, token)) = self.queue.peek()?;
        if at_ms > now_ms {
            return None;
        }
        self.queue.pop();
        Some((at_ms, token))
    }

    /// Answers a due check of a connection: `true` when its deadline has passed; otherwise the
    /// check is queued again for the time the deadline has moved to. A check that another one
    /// superseded is ignored.
    pub fn check(
        &mut self,
        deadline: &mut Deadline,
        queued_ms: u64,
        token: Token,
        now_ms: u64,
    ) -> bool {
        if deadline.queued_ms != queued_ms {
            return false;
        }
        deadline.queued_ms = NEVER;
        if deadline.passed(now_ms) {
            return true;
        }
        if deadline.at_ms != NEVER {
            let at_ms = deadline.at_ms;
            self.set(deadline, token, at_ms);
        }
        false
    }

    /// Milliseconds until the next check, rounded up so that a wake-up finds it due.
    #[must_use]
    pub fn next_in(&self, now_ms: u64) -> Option<u64> {
        self.queue.peek().map(|&Reverse((at_ms, _))| {
            at_ms
                .saturating_sub(now_ms)
                .saturating_add(u64::from(at_ms > now_ms))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_deadlines_cost_no_entry_and_fire_once() {
        let mut timers = Timers::default();
        let mut deadline = Deadline::NONE;
        timers.set(&mut deadline, 7, 100);
        for at in 101..1000 {
            timers.set(&mut deadline, 7, at);
        }
        assert_eq!(timers.queue.len(), 1);
        let (queued, token) = timers.poll_due(100).unwrap();
        assert_eq!(token, 7);
        assert!(!timers.check(&mut deadline, queued, token, 100));
        assert_eq!(timers.queue.len(), 1);
        let (queued, token) = timers.poll_due(999).unwrap();
        assert!(timers.check(&mut deadline, queued, token, 999));
        assert!(timers.poll_due(u64::MAX).is_none());
    }

    #[test]
    fn a_nearer_deadline_supersedes_the_queued_check() {
        let mut timers = Timers::default();
        let mut deadline = Deadline::NONE;
        timers.set(&mut deadline, 7, 1000);
        timers.set(&mut deadline, 7, 10);
        let (queued, token) = timers.poll_due(10).unwrap();
        assert!(timers.check(&mut deadline, queued, token, 10));
        let (queued, token) = timers.poll_due(1000).unwrap();
        assert!(
            !timers.check(&mut deadline, queued, token, 1000),
            "stale check must not fire"
        );
    }
}
