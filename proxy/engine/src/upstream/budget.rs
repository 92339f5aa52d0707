//! How many further attempts a cluster may make, by the requests that it has had.
//!
//! Rule: pure; time is an argument. A share of the requests of the last ten seconds, and some in each second in any case, so
//! that a site with few requests has them too: where all backends fail, they get so much more than was asked, and no more.
//! Counted in each worker.

use std::cell::Cell;

/// Seconds that are looked back at.
const SECONDS: usize = 10;

/// Further attempts that there are in each second, whatever the share.
const FLOOR: u32 = 3;

/// What there was in the last seconds.
#[derive(Debug, Default)]
pub struct Budget {
    /// The second that was counted in last.
    now_s: Cell<u64>,
    requests: [Cell<u32>; SECONDS],
    further: [Cell<u32>; SECONDS],
}

impl Budget {
    /// A request begins.
    pub fn note_request(&self, now_ms: u64) {
        let at = &self.requests[self.place(now_ms)];
        at.set(at.get().saturating_add(1));
    }

    /// Takes a further attempt of a budget of that share, in percent, if it has one.
    #[must_use]
    pub fn take(&self, now_ms: u64, share: u8) -> bool {
        let at = &self.further[self.place(now_ms)];
        let sum = |counts: &[Cell<u32>]| counts.iter().map(|it| u64::from(it.get())).sum::<u64>();
        let allowed = sum(&self.requests) * u64::from(share) / 100;
        if at.get() >= FLOOR && sum(&self.further) >= allowed {
            return false;
        }
        at.set(at.get().saturating_add(1));
        true
    }

    /// Where this second is counted; what was long ago is forgotten.
    fn place(&self, now_ms: u64) -> usize {
        let now_s = now_ms / 1000;
        let passed = now_s.saturating_sub(self.now_s.get());
        for step in 0..passed.min(SECONDS as u64) {
            let at = ((now_s - step) % SECONDS as u64) as usize;
            self.requests[at].set(0);
            self.further[at].set(0);
        }
        self.now_s.set(now_s.max(self.now_s.get()));
        (self.now_s.get() % SECONDS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &Budget, now_ms: u64, share: u8, tries: usize) -> usize {
        (0..tries).filter(|_| budget.take(now_ms, share)).count()
    }

    #[test]
    fn a_share_of_the_requests_and_no_more() {
        let budget = Budget::default();
        for ms in 0..10_000 {
            if ms % 10 == 0 {
                budget.note_request(ms);
            }
        }
        assert_eq!(taken(&budget, 9_999, 20, 1000), 200);
        // In the next second those of the first are forgotten, and there are three in any case.
        budget.note_request(10_000);
        assert_eq!(taken(&budget, 10_000, 20, 1000), FLOOR as usize);
        assert_eq!(taken(&budget, 10_500, 20, 1000), 0);
    }

    #[test]
    fn who_has_few_requests_has_some_in_each_second() {
        let budget = Budget::default();
        let all: usize = (0..20)
            .map(|second| taken(&budget, second * 1000, 1, 100))
            .sum();
        assert_eq!(all, 20 * FLOOR as usize);
    }

    #[test]
    fn what_was_long_ago_is_forgotten_and_time_may_stand_still() {
        let budget = Budget::default();
        for _ in 0..1000 {
            budget.note_request(5_000);
        }
        assert_eq!(taken(&budget, 5_000, 10, 1000), 100);
        assert_eq!(taken(&budget, 60_000, 10, 1000), FLOOR as usize);
        assert_eq!(taken(&budget, 59_000, 10, 1000), 0);
    }
}
