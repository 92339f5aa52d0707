//! What became of the requests, as it is told at the end.
//!
//! Every request ends in exactly one way. Those that were due while it was measured are told;
//! those of the warm-up before are not.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::histogram::Histogram;

/// How finely it is told how many were in flight when.
const SLICE: Duration = Duration::from_millis(100);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Answered with this status.
    Answered(u16),
    /// No answer within the time that a client waits.
    Timeout,
    /// Nobody listens, or no port is left.
    NotConnected,
    /// The connection ended before the response did.
    Cut,
    /// What came is no response.
    Malformed,
}

impl End {
    /// Whether a client has what it asked for, or knows why there is no such thing.
    pub fn is_served(self) -> bool {
        self.as_str() == "served"
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Answered(503 | 429) => "refused",
            Self::Answered(500..) => "failed",
            Self::Answered(_) => "served",
            Self::Timeout => "timeout",
            Self::NotConnected => "not_connected",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
        }
    }

    const NAMES: [&str; 7] = [
        "served",
        "refused",
        "failed",
        "timeout",
        "not_connected",
        "cut",
        "malformed",
    ];
}

/// Counts and distributions of one measurement.
#[derive(Debug, Default)]
pub struct Tally {
    ends: BTreeMap<End, u64>,
    /// By the moment at which a request was due, of what was served and of what was refused.
    served: Histogram,
    refused: Histogram,
    /// By the moment at which it was handed to a connection: what a closed loop would tell.
    served_service: Histogram,
    refused_service: Histogram,
    /// Of all, however they ended.
    stay: Histogram,
    /// How late the generator itself was.
    pub late: Histogram,
    /// Answers that came while it was measured, whenever their request was due.
    pub served_meanwhile: u64,
    /// Requests in flight, from time to time since it is measured.
    pub in_flight: Vec<(Duration, u32)>,
    /// Connections made.
    pub connects: u64,
}

impl Tally {
    /// One request has ended: `latency` after it was due, `service` after it was sent, if it was.
    pub fn record(&mut self, end: End, latency: Duration, service: Option<Duration>) {
        *self.ends.entry(end).or_default() += 1;
        self.stay.record(latency);
        let (by_due, by_sent) = match end.as_str() {
            "served" => (&mut self.served, &mut self.served_service),
            "refused" => (&mut self.refused, &mut self.refused_service),
            _ => return,
        };
        by_due.record(latency);
        if let Some(service) = service {
            by_sent.record(service);
        }
    }

    /// How many ended so.
    pub fn count(&self, end: End) -> u64 {
        self.ends.get(&end).copied().unwrap_or(0)
    }

    /// Of what was served, by the moment at which it was due.
    pub fn served(&self) -> &Histogram {
        &self.served
    }

    /// Of what was refused, by the moment at which it was due.
    pub fn refused(&self) -> &Histogram {
        &self.refused
    }

    /// Of all, however they ended.
    pub fn stay(&self) -> &Histogram {
        &self.stay
    }

    /// How many were in flight, in the mean; 0 if nobody looked.
    pub fn in_flight_mean(&self) -> f64 {
        mean(&self.in_flight)
    }

    /// The same of each [`SLICE`] in turn.
    fn slices(&self) -> Vec<f64> {
        let slice = |(at, _): &(Duration, u32)| at.as_nanos() / SLICE.as_nanos();
        let same = |one: &_, other: &_| slice(one) == slice(other);
        self.in_flight.chunk_by(same).map(mean).collect()
    }

    /// For programs; durations in microseconds. `measured` is how long it was measured.
    pub fn to_json(&self, measured: Duration) -> Value {
        let mut ends: BTreeMap<&str, u64> = End::NAMES.map(|name| (name, 0)).into();
        let mut statuses = BTreeMap::new();
        for (end, count) in &self.ends {
            *ends.entry(end.as_str()).or_default() += count;
            if let End::Answered(status) = end {
                statuses.insert(status.to_string(), count);
            }
        }
        let seconds = measured.as_secs_f64();
        json!({
            "seconds": seconds,
            "due": self.stay.count(),
            "ends": ends,
            "statuses": statuses,
            "served_per_s": self.served_meanwhile as f64 / seconds,
            "served_us": self.served.to_json(),
            "refused_us": self.refused.to_json(),
            "served_service_us": self.served_service.to_json(),
            "refused_service_us": self.refused_service.to_json(),
            "stay_us": self.stay.to_json(),
            "late_us": self.late.to_json(),
            "connects": self.connects,
            "in_flight": {
                "mean": self.in_flight_mean(),
                "slices": self.slices(),
            },
        })
    }
}

fn mean(samples: &[(Duration, u32)]) -> f64 {
    let sum: u64 = samples.iter().map(|&(_, count)| u64::from(count)).sum();
    sum as f64 / samples.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_told_once_and_refusals_apart() {
        let mut tally = Tally::default();
        let ms = Duration::from_millis;
        tally.record(End::Answered(200), ms(4), Some(ms(1)));
        tally.record(End::Answered(404), ms(4), Some(ms(1)));
        tally.record(End::Answered(503), ms(2), Some(ms(2)));
        tally.record(End::Answered(502), ms(2), Some(ms(2)));
        tally.record(End::Timeout, ms(1000), None);
        tally.served_meanwhile = 2;
        tally.in_flight = vec![(ms(3), 1), (ms(99), 3), (ms(100), 5)];
        let told = tally.to_json(ms(500));
        let ends = &told["ends"];
        assert_eq!(ends["served"], 2);
        assert_eq!((&ends["refused"], &ends["failed"]), (&json!(1), &json!(1)));
        assert_eq!((&ends["timeout"], &ends["cut"]), (&json!(1), &json!(0)));
        assert_eq!(told["due"], 5);
        assert_eq!(told["served_us"]["mean"], 4000.0);
        assert_eq!(told["served_service_us"]["mean"], 1000.0);
        assert_eq!(told["refused_us"]["count"], 1);
        assert_eq!(told["stay_us"]["max"], 1e6);
        assert_eq!(told["served_per_s"], 4.0);
        assert_eq!(
            told["in_flight"],
            json!({"mean": 3.0, "slices": [2.0, 5.0]})
        );
        let names = ends.as_object().unwrap();
        assert_eq!(names.len(), End::NAMES.len());
    }
}
