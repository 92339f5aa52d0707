//! What follows from checks: after how many good or bad ones in a row a backend is another thing.
//!
//! Pure. Called by [`super::prober`].

use crate::state::entity::{HealthCheck, Initial};
use crate::upstream::health::Health;

/// What has been found of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What is known by now.
    pub health: Health,
    good: u32,
    bad: u32,
}

impl Judged {
    /// As somebody has left it.
    #[must_use]
    pub fn from(health: Health) -> Self {
        Self {
            health,
            good: 0,
            bad: 0,
        }
    }

    /// One more check: whether it is another thing now.
    pub fn take(&mut self, is_good: bool, check: &HealthCheck) -> bool {
        if is_good {
            (self.good, self.bad) = (self.good.saturating_add(1), 0);
        } else {
            (self.good, self.bad) = (0, self.bad.saturating_add(1));
        }
        let next = match self.health {
            // Before that it is what the configuration says, and its first good one counts.
            Health::Unknown if is_good => Health::Healthy,
            Health::Unhealthy if self.good >= check.healthy_after => Health::Healthy,
            Health::Unknown | Health::Healthy if self.bad >= check.unhealthy_after => {
                Health::Unhealthy
            }
            same => same,
        };
        std::mem::replace(&mut self.health, next) != next
    }

    /// Whether the last check speaks against what it is: then the next one comes no later than it has to.
    #[must_use]
    pub fn is_turning(&self) -> bool {
        match self.health {
            Health::Unknown => true,
            Health::Healthy => self.bad > 0,
            Health::Unhealthy => self.good > 0,
        }
    }

    /// Whether it gets requests.
    #[must_use]
    pub fn is_usable(&self, initial: Initial) -> bool {
        match self.health {
            Health::Unknown => initial == Initial::Healthy,
            Health::Healthy => true,
            Health::Unhealthy => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(check: &str, checks: &str) -> Vec<Health> {
        let check: HealthCheck = serde_json::from_str(check).unwrap();
        let mut judged = Judged::from(Health::Unknown);
        let mut turns = Vec::new();
        for each in checks.chars() {
            let before = judged.health;
            if judged.take(each == '+', &check) {
                turns.push(judged.health);
            }
            assert_eq!(turns.last().copied().unwrap_or(before), judged.health);
        }
        turns
    }

    #[test]
    fn so_many_in_a_row_make_it_another_thing() {
        use Health::{Healthy, Unhealthy};
        let usual = r#"{"http":{}}"#;
        assert_eq!(judge(usual, "+"), [Healthy]);
        assert_eq!(judge(usual, "--+--"), [Healthy]);
        assert_eq!(judge(usual, "---"), [Unhealthy]);
        assert_eq!(judge(usual, "---+-+-"), [Unhealthy]);
        assert_eq!(
            judge(usual, "+---++--+---"),
            [Healthy, Unhealthy, Healthy, Unhealthy]
        );
        let quick = r#"{"healthy_after":1,"http":{},"unhealthy_after":1}"#;
        assert_eq!(judge(quick, "-+-+").len(), 4);
    }

    #[test]
    fn what_was_left_goes_on() {
        let check: HealthCheck = serde_json::from_str(r#"{"http":{}}"#).unwrap();
        let mut judged = Judged::from(Health::Unhealthy);
        assert!(!judged.is_usable(Initial::Healthy) && !judged.is_turning());
        assert!(!judged.take(true, &check) && judged.is_turning());
        assert!(judged.take(true, &check));
        assert!(judged.is_usable(Initial::Unchecked) && !judged.is_turning());
        let unknown = Judged::from(Health::Unknown);
        assert!(unknown.is_usable(Initial::Healthy) && !unknown.is_usable(Initial::Unchecked));
    }
}
