//! Bandwidths: how fast the bodies of answers leave, to one connection and to all together.
//!
//! Rule: what frontend, policies and listener say never replaces each other: an answer keeps each. The total
//! of a policy is one for all who name it, that of a frontend is its own. Each is kept by the time until which all of it is
//! booked: whoever has something to send takes the next piece of that time and sends when it begins, so that those who share
//! it take turns, and who sends too much waits afterwards. Time is an argument.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::state::entity;

/// A bandwidth, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// The policy that says so; none: the frontend.
    policy: Option<Box<str>>,
    said: entity::Bandwidth,
}

/// Until when a bandwidth is booked, in microseconds.
pub type Booked = Rc<Cell<u64>>;

/// What one answer has to keep.
#[derive(Debug)]
pub struct Share {
    bytes_per_second: u64,
    booked: Booked,
}

/// What is booked by all together, by whose it is.
#[derive(Default)]
pub struct Totals {
    known: HashMap<(bool, Box<str>), Booked>,
}

impl Bandwidth {
    pub(in crate::policy) fn of(policy: Option<&str>, said: &entity::Bandwidth) -> Self {
        Self {
            policy: policy.map(Into::into),
            said: said.clone(),
        }
    }

    /// The policy that says so, by its name.
    pub(in crate::policy) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }
}

impl Share {
    /// Books the time that so many bytes need, behind all that is booked; returns when it begins.
    pub fn book(&self, bytes: u64, now_us: u64) -> u64 {
        let from_us = self.booked.get().max(now_us.saturating_sub(SLACK_US));
        self.booked.set(from_us.saturating_add(self.time_us(bytes)));
        from_us
    }

    /// Gives back what was booked for bytes that never leave.
    pub fn give_back(&self, bytes: u64) {
        let until_us = self.booked.get().saturating_sub(self.time_us(bytes));
        self.booked.set(until_us);
    }

    fn time_us(&self, bytes: u64) -> u64 {
        let time_us = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second);
        u64::try_from(time_us).unwrap_or(u64::MAX)
    }

    /// How much leaves at once: so little that it goes evenly.
    #[must_use]
    pub fn piece_bytes(&self) -> u64 {
        (self.bytes_per_second / PIECES_PER_SECOND).max(PIECE_BYTES_MIN)
    }
}

/// What an answer of a frontend has to keep; `connection` is what its client's has booked.
#[must_use]
pub fn shares(
    bandwidths: &[Bandwidth],
    frontend: &str,
    connection: &Booked,
    totals: &mut Totals,
    now_us: u64,
) -> Box<[Share]> {
    let mut shares = Vec::new();
    let rates = bandwidths.iter().filter_map(|it| it.said.per_connection);
    if let Some(bytes_per_second) = rates.min() {
        shares.push(Share {
            bytes_per_second,
            booked: connection.clone(),
        });
    }
    for bandwidth in bandwidths {
        if let Some(bytes_per_second) = bandwidth.said.total {
            let name = bandwidth.policy().unwrap_or(frontend);
            let key = (bandwidth.policy.is_some(), name.into());
            shares.push(Share {
                bytes_per_second,
                booked: totals.of(key, now_us),
            });
        }
    }
    shares.into()
}

impl Totals {
    fn of(&mut self, key: (bool, Box<str>), now_us: u64) -> Booked {
        if let Some(booked) = self.known.get(&key) {
            return booked.clone();
        }
        // Those that nobody uses and that say nothing any more.
        self.known
            .retain(|_, booked| Rc::strong_count(booked) > 1 || booked.get() > now_us);
        self.known.entry(key).or_default().clone()
    }
}

/// What may be sent ahead of time, so that a timer that is late slows nobody down.
const SLACK_US: u64 = 20_000;
const PIECES_PER_SECOND: u64 = 40;
const PIECE_BYTES_MIN: u64 = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn share(bytes_per_second: u64) -> Share {
        Share {
            bytes_per_second,
            booked: Booked::default(),
        }
    }

    proptest! {
        #[test]
        fn who_sends_in_turn_keeps_the_rate(
            rate in 1024u64..1 << 30,
            late in proptest::collection::vec(0u64..5000, 1..50),
            senders in 1usize..10,
        ) {
            let share = share(rate);
            let (begin_us, mut sent) = (SECOND_US, vec![0; senders]);
            let piece = share.piece_bytes();
            let mut starts: Vec<_> = (0..senders).map(|_| share.book(piece, begin_us)).collect();
            let mut now_us = begin_us;
            let mut late = late.iter().cycle();
            while now_us < begin_us + 2 * SECOND_US {
                let next = (0..senders).min_by_key(|&at| starts[at]).unwrap();
                // Timers are late by some milliseconds.
                now_us = now_us.max(starts[next] + late.next().unwrap());
                sent[next] += piece;
                starts[next] = share.book(piece, now_us);
            }
            let piece_us = piece * SECOND_US / rate;
            let all: u64 = sent.iter().sum();
            let expected = rate * (now_us - begin_us) / SECOND_US;
            let most = rate * (now_us - begin_us + SLACK_US + 2 * piece_us) / SECOND_US + 1;
            prop_assert!(all <= most, "{all} of {most}");
            if piece_us < 100_000 {
                prop_assert!(all * 100 >= expected * 95, "{all} of {expected}");
            }
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            prop_assert!(most - least <= piece, "{sent:?}");
        }
    }

    #[test]
    fn nobody_saves_up_and_what_does_not_leave_is_given_back() {
        let share = share(1000);
        assert_eq!(share.book(1000, SECOND_US), SECOND_US - SLACK_US);
        assert_eq!(share.book(1000, SECOND_US), 2 * SECOND_US - SLACK_US);
        share.give_back(500);
        assert_eq!(share.book(0, SECOND_US), 5 * SECOND_US / 2 - SLACK_US);
        assert_eq!(share.book(1000, 9 * SECOND_US), 9 * SECOND_US - SLACK_US);
    }

    #[test]
    fn each_is_kept_and_the_total_of_a_policy_is_one_for_all() {
        let said = |policy: Option<&str>, text: &str| {
            Bandwidth::of(policy, &serde_json::from_str(text).unwrap())
        };
        let both = [
            said(Some("p"), r#"{"per_connection":4096,"total":8192}"#),
            said(None, r#"{"per_connection":2048,"total":1024}"#),
        ];
        let (mut totals, connection) = (Totals::default(), Booked::default());
        let mut of = |frontend: &str| shares(&both, frontend, &connection, &mut totals, 0);
        let (one, other) = (of("a"), of("b"));
        let rates: Vec<_> = one.iter().map(|it| it.bytes_per_second).collect();
        assert_eq!(rates, [2048, 8192, 1024]);
        let is_same = |at: usize| Rc::ptr_eq(&one[at].booked, &other[at].booked);
        assert_eq!([0, 1, 2].map(is_same), [true, true, false]);
        drop((one, other));
        let _ = of("c");
        assert_eq!(totals.known.len(), 2, "nobody uses the others any more");
    }
}
