//! Random moments, at which it is counted how many requests are in flight.
//!
//! Even ones would meet an even schedule always at the same place, and tell nothing of what lies
//! between.

use std::time::{Duration, Instant};

/// Between two moments, in the mean.
const EVERY: Duration = Duration::from_millis(2);

/// One moment after the other, exponentially far from each other; the same ones in each run.
#[derive(Debug)]
pub struct Moments {
    next: Instant,
    random: u64,
}

impl Moments {
    /// From this one on.
    pub fn new(first: Instant) -> Self {
        Self {
            next: first,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// The next one, which stays that until it is taken.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Takes the next one, if it has come.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let taken = self.next;
        if taken > now {
            return None;
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = ((self.random >> 11) + 1) as f64 / (1u64 << 53) as f64;
        self.next += EVERY.mul_f64(-uniform.ln());
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_as_far_apart_as_they_shall_be_and_not_even() {
        let first = Instant::now();
        let mut moments = Moments::new(first);
        let end = first + Duration::from_secs(20);
        let taken: Vec<Instant> = std::iter::from_fn(|| moments.take(end)).collect();
        assert!((9_500..10_500).contains(&taken.len()), "{}", taken.len());
        assert_eq!(moments.take(end), None);
        assert!(moments.next() > end);
        let short = taken
            .windows(2)
            .filter(|pair| pair[1] - pair[0] < EVERY / 2);
        // 1 - exp(-1/2) of them.
        let share = short.count() as f64 / taken.len() as f64;
        assert!((share - 0.393).abs() < 0.02, "{share}");
    }
}
