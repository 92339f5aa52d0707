//! Who is limited now: keys that a rate has refused, and would refuse still, with what may be told of them.
//!
//! Rule: written where somebody is refused, so that it costs nobody else anything, and bounded: where it is full,
//! those whose time is over make room, which is looked for now and then, and others are not told of. Time is an argument. Asked by operators (`kakehi show limits`), through `session/control`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::meter::Key;

/// Who is limited by what, as people read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whom {
    /// As in the access log.
    pub limit: Box<str>,
    /// An address, a network, the name of a frontend, or a hash of something else.
    pub who: Box<str>,
}

/// One that is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// See [`Whom`].
    pub whom: Whom,
    /// When it may ask again.
    pub until_ns: u64,
    /// How many of its requests were refused since it was heard of first.
    pub count: u64,
}

/// Who is meant: all, if nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Meant {
    /// By one limit.
    pub limit: Option<String>,
    /// One of those.
    pub who: Option<String>,
}

impl Meant {
    fn covers(&self, whom: &Whom) -> bool {
        let is_it =
            |said: &Option<String>, found: &str| said.as_deref().is_none_or(|it| it == found);
        is_it(&self.limit, &whom.limit) && is_it(&self.who, &whom.who)
    }

    /// Whether everybody is.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.limit.is_none() && self.who.is_none()
    }
}

/// All who are.
#[derive(Default)]
pub struct Refused {
    known: RefCell<HashMap<Key, Refusal, ahash::RandomState>>,
    swept_at_ns: Cell<u64>,
    count: Cell<u64>,
}

impl Refused {
    /// Somebody is refused, and has to wait so long; `whom` tells who it is, which is asked once.
    pub fn note(&self, key: Key, now_ns: u64, wait_ns: u64, whom: impl FnOnce() -> Whom) {
        self.count.set(self.count.get() + 1);
        let until_ns = now_ns.saturating_add(wait_ns);
        let mut known = self.known.borrow_mut();
        if let Some(refusal) = known.get_mut(&key) {
            let is_over = refusal.until_ns <= now_ns;
            refusal.count = if is_over { 1 } else { refusal.count + 1 };
            refusal.until_ns = until_ns;
            return;
        }
        if known.len() >= KNOWN_MAX && self.swept_at_ns.get() + SWEEP_NS <= now_ns {
            self.swept_at_ns.set(now_ns);
            known.retain(|_, refusal| refusal.until_ns > now_ns);
        }
        if known.len() < KNOWN_MAX {
            let whom = whom();
            known.insert(
                key,
                Refusal {
                    whom,
                    until_ns,
                    count: 1,
                },
            );
        }
    }

    /// How many requests were refused since it was asked last.
    #[must_use]
    pub fn take_count(&self) -> u64 {
        self.count.take()
    }

    /// Those who are meant and are limited at a time, the ones who have to wait longest first.
    #[must_use]
    pub fn at(&self, now_ns: u64, meant: &Meant) -> Vec<Refusal> {
        let known = self.known.borrow();
        let is_live = |refusal: &&Refusal| refusal.until_ns > now_ns && meant.covers(&refusal.whom);
        let live = known.values().filter(is_live);
        let mut live: Vec<Refusal> = live.cloned().collect();
        live.sort_by(|one, other| {
            let by_end = other.until_ns.cmp(&one.until_ns);
            by_end.then_with(|| one.whom.cmp(&other.whom))
        });
        live
    }

    /// Takes those out that are meant, and returns their keys.
    pub fn take(&self, meant: &Meant) -> Vec<Key> {
        let mut known = self.known.borrow_mut();
        let mut taken = Vec::new();
        known.retain(|key, refusal| {
            let stays = !meant.covers(&refusal.whom);
            taken.extend((!stays).then_some(*key));
            stays
        });
        taken
    }
}

/// The policy that a limit is of, if it is no frontend's own.
#[must_use]
pub fn policy_of(limit: &str) -> Option<&str> {
    let (policy, _) = limit.strip_prefix("policy/")?.split_once('/')?;
    Some(policy)
}

/// Of whom a worker tells.
pub const KNOWN_MAX: usize = 1024;
/// How often room is looked for at most.
const SWEEP_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limits::meter::Meter;

    const SECOND: u64 = 1_000_000_000;

    fn whom(who: u64) -> Whom {
        Whom {
            limit: "policy/p/client_address".into(),
            who: who.to_string().into(),
        }
    }

    #[test]
    fn who_waits_is_told_until_his_time_is_over() {
        let (meter, refused) = (Meter::default(), Refused::default());
        let keys = [1u64, 2].map(|who| meter.key(who));
        refused.note(keys[0], 0, SECOND, || whom(1));
        refused.note(keys[1], 0, 3 * SECOND, || whom(2));
        refused.note(keys[0], SECOND / 2, SECOND, || unreachable!("he is known"));
        let told = |at: u64| -> Vec<_> {
            let live = refused.at(at, &Meant::default()).into_iter();
            live.map(|it| (it.whom.who.to_string(), it.count)).collect()
        };
        assert_eq!(told(SECOND), [("2".into(), 1), ("1".into(), 2)]);
        assert_eq!(told(2 * SECOND), [("2".into(), 1)]);
        // Somebody who comes back later begins anew.
        refused.note(keys[0], 2 * SECOND, 2 * SECOND, || unreachable!());
        assert_eq!(told(2 * SECOND), [("1".into(), 1), ("2".into(), 1)]);
        let two = Meant {
            who: Some("2".into()),
            ..Meant::default()
        };
        assert_eq!(refused.at(2 * SECOND, &two).len(), 1);
        assert_eq!(refused.take(&two), [keys[1]]);
        assert_eq!(told(2 * SECOND), [("1".into(), 1)]);
    }

    #[test]
    fn a_flood_of_those_who_are_refused_takes_no_more_room() {
        let (meter, refused) = (Meter::default(), Refused::default());
        for who in 0..3 * KNOWN_MAX as u64 {
            refused.note(meter.key(who), 0, SECOND, || whom(who));
        }
        assert_eq!(refused.at(0, &Meant::default()).len(), KNOWN_MAX);
        // They have gone, and others find room.
        let late = 2 * SECOND;
        refused.note(meter.key(u64::MAX), late, SECOND, || whom(u64::MAX));
        assert_eq!(refused.at(late, &Meant::default()).len(), 1);
        assert_eq!(refused.known.borrow().len(), 1);
    }
}
