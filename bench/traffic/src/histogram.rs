//! Durations by their size, so that percentiles of millions of them take 57 KiB.
//!
//! Every power of two is divided into 128 parts: what is told is at most 0.8 % above what was
//! recorded, and never beyond the largest. Mean and largest are exact.

use std::time::Duration;

use serde_json::{Value, json};

const PART_BITS: u32 = 7;
const PARTS: usize = 1 << PART_BITS;
const BUCKETS: usize = (u64::BITS - PART_BITS) as usize * PARTS + PARTS;

/// A distribution of durations, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum_ns: u128,
    most_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            sum_ns: 0,
            most_ns: 0,
        }
    }
}

impl Histogram {
    /// One more.
    pub fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.most_ns = self.most_ns.max(ns);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> Duration {
        let mean = self.sum_ns.checked_div(u128::from(self.count));
        Duration::from_nanos(u64::try_from(mean.unwrap_or(0)).unwrap_or(u64::MAX))
    }

    /// The largest; 0 of none.
    pub fn most(&self) -> Duration {
        Duration::from_nanos(self.most_ns)
    }

    /// What so many of a hundred do not exceed; 0 of none.
    pub fn percentile(&self, percent: f64) -> Duration {
        // 99.9 % of 1,000 are 999, which they are not in binary without some tolerance.
        let share = percent / 100.0 * self.count as f64 * (1.0 - 1e-12);
        let wanted = (share.ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper_end(index).min(self.most_ns));
            }
        }
        self.most()
    }

    /// For programs, in microseconds.
    pub fn to_json(&self) -> Value {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        json!({
            "count": self.count,
            "mean": micros(self.mean()),
            "p50": micros(self.percentile(50.0)),
            "p90": micros(self.percentile(90.0)),
            "p99": micros(self.percentile(99.0)),
            "p99_9": micros(self.percentile(99.9)),
            "max": micros(self.most()),
        })
    }
}

fn bucket(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(PART_BITS + 1);
    (ns >> shift) as usize + shift as usize * PARTS
}

/// The largest value of a bucket.
fn upper_end(index: usize) -> u64 {
    let shift = (index / PARTS).saturating_sub(1);
    let part = (index - shift * PARTS) as u128;
    u64::try_from(((part + 1) << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut found = Histogram::default();
        for ns in values {
            found.record(Duration::from_nanos(ns));
        }
        found
    }

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_it_or_above() {
        for exponent in 0..u64::BITS {
            for near in [0, 1, 5] {
                let value = (1u64 << exponent).saturating_add(near);
                let end = upper_end(bucket(value));
                assert!(end >= value, "{value} {end}");
                assert!(end - value <= value / 128, "{value} {end}");
            }
        }
        assert_eq!(upper_end(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let found = of((1..=100_000).map(|number| number * 37));
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let exact = percent / 100.0 * 100_000.0 * 37.0;
            let told = found.percentile(percent).as_nanos() as f64;
            assert!(
                (told / exact - 1.0).abs() < 0.008,
                "{percent}: {told} {exact}"
            );
        }
        assert_eq!(found.most(), Duration::from_nanos(3_700_000));
        assert_eq!(found.mean(), Duration::from_nanos(37 * 100_001 / 2));
    }

    #[test]
    fn one_of_a_thousand_is_the_last_per_mille() {
        let found = of((0..999).map(|_| 100).chain([5_000]));
        assert_eq!(found.percentile(99.9).as_nanos(), 100);
        let found = of((0..998).map(|_| 100).chain([5_000, 5_000]));
        assert_eq!(found.percentile(99.9).as_nanos(), 5_000);
    }

    #[test]
    fn of_nothing_all_is_zero() {
        let found = Histogram::default();
        assert_eq!((found.mean(), found.percentile(99.0)), Default::default());
    }
}
