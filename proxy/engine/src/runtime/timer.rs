//! Lazy timers: a deadline is a field of its connection, and only its *earliest* check is queued.
//!
//! Moving a deadline later costs one store, which is what nearly every request does; the queue is
//! touched when a deadline comes nearer than the queued check, at most about once per timeout and
//! connection. A check that comes too early queues itself again.
//!
//! Rule: a deadline has one check at most, and takes it along when it goes ([`Timers::remove`]). So the
//! queue is never longer than there are connections, however many come and go within a timeout: it is
//! a heap whose entries know their deadlines' places, and each place where its entry is.

use super::driver::Token;

/// A deadline that is never reached.
pub const NEVER: u64 = u64::MAX;

/// No check is queued.
const NOWHERE: u32 = u32::MAX;

/// Deadline of one connection, in milliseconds of the engine's clock.
#[derive(Debug)]
pub struct Deadline {
    at_ms: u64,
    /// Names its check.
    place: u32,
}

impl Deadline {
    /// No deadline, nothing queued.
    pub const NONE: Self = Self {
        at_ms: NEVER,
        place: NOWHERE,
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

/// A check.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at_ms: u64,
    token: Token,
    /// Its deadline's; [`NOWHERE`] for one that belongs to no connection.
    place: u32,
}

/// Queue of checks, earliest first.
#[derive(Default)]
pub struct Timers {
    /// Each entry is no later than those at twice its index and one or two more.
    heap: Vec<Entry>,
    /// The index in the heap of each check that has a deadline.
    places: Vec<u32>,
    /// Those that name none.
    free: Vec<u32>,
}

impl Timers {
    /// Sets a deadline and queues a check if none is queued early enough.
    pub fn set(&mut self, deadline: &mut Deadline, token: Token, at_ms: u64) {
        deadline.at_ms = at_ms;
        let Some(index) = self.index_of(deadline) else {
            deadline.place = self.free.pop().unwrap_or_else(|| {
                self.places.push(NOWHERE);
                self.places.len() as u32 - 1
            });
            let place = deadline.place;
            return self.push(Entry {
                at_ms,
                token,
                place,
            });
        };
        if let Some(entry) = self.heap.get_mut(index)
            && at_ms < entry.at_ms
        {
            entry.at_ms = at_ms;
            self.rise(index);
        }
    }

    /// Takes a deadline's check out, as its connection goes.
    pub fn remove(&mut self, deadline: &mut Deadline) {
        if let Some(index) = self.index_of(deadline) {
            self.take(index);
        }
        *deadline = Deadline::NONE;
    }

    /// Queues a check that belongs to no connection.
    pub fn queue_check(&mut self, token: Token, at_ms: u64) {
        self.push(Entry {
            at_ms,
            token,
            place: NOWHERE,
        });
    }

    /// The next token whose check is due. That of a connection has to be answered by [`Timers::check`].
    pub fn poll_due(&mut self, now_ms: u64) -> Option<Token> {
        let first = *self.heap.first()?;
        if first.at_ms > now_ms {
            return None;
        }
        self.take(0);
        Some(first.token)
    }

    /// Answers a due check of a connection: `true` when its deadline has passed; otherwise the
    /// check is queued again for the time the deadline has moved to.
    pub fn check(&mut self, deadline: &mut Deadline, token: Token, now_ms: u64) -> bool {
        deadline.place = NOWHERE;
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
        self.heap.first().map(|entry| {
            let left = entry.at_ms.saturating_sub(now_ms);
            left.saturating_add(u64::from(left > 0))
        })
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn index_of(&self, deadline: &Deadline) -> Option<usize> {
        self.places
            .get(deadline.place as usize)
            .map(|&index| index as usize)
    }

    fn push(&mut self, entry: Entry) {
        self.heap.push(entry);
        self.rise(self.heap.len() - 1);
    }

    /// Takes an entry out of the heap, and frees its place.
    fn take(&mut self, index: usize) {
        let gone = self.heap.swap_remove(index);
        if gone.place != NOWHERE {
            self.free.push(gone.place);
        }
        if index < self.heap.len() {
            // What was the last one may belong on either side.
            let index = self.rise(index);
            self.sink(index);
        }
        if self.heap.is_empty() {
            self.shrink();
        }
    }

    /// Gives the memory of a crowd back once all of it has gone.
    fn shrink(&mut self) {
        if self.heap.capacity() > KEPT_MAX {
            *self = Self::default();
        }
    }

    /// Moves an entry forward as far as it belongs; returns where it is then.
    fn rise(&mut self, mut index: usize) -> usize {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.heap[parent].at_ms <= self.heap[index].at_ms {
                break;
            }
            self.heap.swap(parent, index);
            self.note(index);
            index = parent;
        }
        self.note(index);
        index
    }

    /// Moves an entry back as far as it belongs.
    fn sink(&mut self, mut index: usize) {
        loop {
            let left = 2 * index + 1;
            let Some(mut child) = self.heap.get(left).map(|_| left) else {
                break;
            };
            let right = left + 1;
            if right < self.heap.len() && self.heap[right].at_ms < self.heap[left].at_ms {
                child = right;
            }
            if self.heap[index].at_ms <= self.heap[child].at_ms {
                break;
            }
            self.heap.swap(index, child);
            self.note(index);
            index = child;
        }
        self.note(index);
    }

    /// Tells an entry's place where it is.
    fn note(&mut self, index: usize) {
        let place = self.heap[index].place as usize;
        if let Some(known) = self.places.get_mut(place) {
            *known = index as u32;
        }
    }
}

/// Checks whose memory is kept.
const KEPT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn later_deadlines_cost_no_entry_and_fire_once() {
        let mut timers = Timers::default();
        let mut deadline = Deadline::NONE;
        timers.set(&mut deadline, 7, 100);
        for at in 101..1000 {
            timers.set(&mut deadline, 7, at);
        }
        assert_eq!(timers.heap.len(), 1);
        let token = timers.poll_due(100).unwrap();
        assert_eq!(token, 7);
        assert!(!timers.check(&mut deadline, token, 100));
        assert_eq!(timers.heap.len(), 1);
        let token = timers.poll_due(999).unwrap();
        assert!(timers.check(&mut deadline, token, 999));
        assert!(timers.poll_due(u64::MAX).is_none());
    }

    #[test]
    fn a_nearer_deadline_moves_the_queued_check() {
        let mut timers = Timers::default();
        let mut deadline = Deadline::NONE;
        timers.set(&mut deadline, 7, 1000);
        timers.set(&mut deadline, 7, 10);
        assert_eq!(timers.next_in(4), Some(7));
        let token = timers.poll_due(10).unwrap();
        assert!(timers.check(&mut deadline, token, 10));
        assert!(timers.poll_due(1000).is_none());
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind() {
        let mut timers = Timers::default();
        for at in 0..100_000 {
            let mut deadline = Deadline::NONE;
            timers.set(&mut deadline, at, 30_000 + at);
            timers.remove(&mut deadline);
            timers.remove(&mut deadline);
        }
        assert_eq!((timers.heap.len(), timers.places.len()), (0, 1));
        assert_eq!(timers.next_in(0), None);
    }

    proptest! {
        /// Against a list that is searched: set, removed and due in any order.
        #[test]
        fn checks_come_in_order_whatever_is_removed(
            steps in prop::collection::vec((0..40_usize, 0..1000_u64, 0..4_u8), 1..400)
        ) {
            let mut timers = Timers::default();
            let mut deadlines: Vec<Deadline> = (0..40).map(|_| Deadline::NONE).collect();
            let mut expected = [NEVER; 40];
            let mut now_ms = 0;
            for (which, by, what) in steps {
                match what {
                    0 => {
                        timers.remove(&mut deadlines[which]);
                        expected[which] = NEVER;
                    }
                    1 => {
                        now_ms += by / 10;
                        while let Some(token) = timers.poll_due(now_ms) {
                            let which = token as usize;
                            if timers.check(&mut deadlines[which], token, now_ms) {
                                prop_assert!(expected[which] <= now_ms);
                                expected[which] = NEVER;
                                deadlines[which].clear();
                            }
                        }
                        prop_assert!(expected.iter().all(|&at| at > now_ms));
                    }
                    _ => {
                        expected[which] = now_ms + 1 + by;
                        timers.set(&mut deadlines[which], which as Token, now_ms + 1 + by);
                    }
                }
                prop_assert!(timers.heap.len() <= 40);
                prop_assert_eq!(timers.heap.len() + timers.free.len(), timers.places.len());
            }
        }
    }
}
