//! The balancing policies, each a choice of an index among weighted backends that qualify.
//!
//! Rule: pure but for the turn that round robin remembers; load is read from the backends,
//! randomness is an argument.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::backend::Backend;
use crate::state::entity::LoadBalancing;

/// xorshift64*: enough for balancing, 1 ns a draw; never used for anything secret.
pub struct Random(u64);

impl Random {
    /// A generator; any seed will do.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }
}

/// A policy with what it remembers for one set of backends.
pub(super) struct Balancer {
    policy: LoadBalancing,
    weights: Vec<u32>,
    /// Running sums of the weights, for a weighted draw in O(log n).
    sums: Vec<u64>,
    equal: bool,
    turn: Cell<usize>,
    /// Smooth weighted round robin's current weights.
    current: RefCell<Vec<i64>>,
}

impl Balancer {
    pub(super) fn new(policy: LoadBalancing, weights: Vec<u32>) -> Self {
        let sums = weights
            .iter()
            .scan(0, |sum, &weight| {
                *sum += u64::from(weight);
                Some(*sum)
            })
            .collect();
        Self {
            policy,
            equal: weights.windows(2).all(|pair| pair[0] == pair[1]),
            turn: Cell::new(0),
            current: RefCell::new(vec![0; weights.len()]),
            weights,
            sums,
        }
    }

    /// Goes on where another one has stood: `places` has for each of its backends, in its order, the
    /// place here, if it is still there.
    pub(super) fn go_on_from(&self, before: &Self, places: &[Option<usize>]) {
        let next = (0..places.len()).find_map(|step| {
            let place = (before.turn.get() + step) % places.len();
            places[place]
        });
        self.turn.set(next.unwrap_or(0));
        // What a backend is owed is in proportion to its weight, and never more than a round's worth.
        let round = self.sums.last().map_or(0, |&sum| sum as i64);
        let (owed, mut current) = (before.current.borrow(), self.current.borrow_mut());
        for (place, &owed) in owed.iter().enumerate() {
            if let Some(here) = places[place] {
                let (now, then) = (self.weights[here], before.weights[place]);
                let owed = owed * i64::from(now) / i64::from(then.max(1));
                current[here] = owed.clamp(-round, round);
            }
        }
    }

    pub(super) fn choose(
        &self,
        backends: &[Rc<Backend>],
        random: &mut Random,
        qualifies: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        match self.policy {
            LoadBalancing::RoundRobin if self.equal => self.next_in_turn(backends, qualifies),
            LoadBalancing::RoundRobin => self.smooth_weighted(backends, qualifies),
            LoadBalancing::Random => self.weighted_draw(backends, random, qualifies),
            LoadBalancing::LeastConnections => self.least_loaded(backends, qualifies),
            LoadBalancing::PowerOfTwo => self.better_of_two(backends, random, qualifies),
        }
    }

    fn next_in_turn(
        &self,
        backends: &[Rc<Backend>],
        qualifies: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let count = backends.len();
        let start = self.turn.get();
        let index = (0..count)
            .map(|step| (start + step) % count)
            .find(|&index| qualifies(&backends[index]))?;
        self.turn.set((index + 1) % count);
        Some(index)
    }

    /// Every backend gains its weight, the richest is chosen and pays the sum: the order is as even
    /// as the weights allow (the algorithm is nginx's, 2012).
    fn smooth_weighted(
        &self,
        backends: &[Rc<Backend>],
        qualifies: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let mut current = self.current.borrow_mut();
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for (index, backend) in backends.iter().enumerate() {
            if !qualifies(backend) {
                continue;
            }
            let weight = i64::from(self.weights[index]);
            sum += weight;
            current[index] += weight;
            if best.is_none_or(|best| current[index] > current[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        current[best] -= sum;
        Some(best)
    }

    fn weighted_draw(
        &self,
        backends: &[Rc<Backend>],
        random: &mut Random,
        qualifies: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let total = *self.sums.last()?;
        let draw = random.below(total);
        let index = self.sums.partition_point(|&sum| sum <= draw);
        if qualifies(&backends[index]) {
            return Some(index);
        }
        // Rare: draw again among those that qualify only.
        let weight = |index: &usize| u64::from(self.weights[*index]);
        let qualified = || (0..backends.len()).filter(|&index| qualifies(&backends[index]));
        let total: u64 = qualified().map(|index| weight(&index)).sum();
        if total == 0 {
            return None;
        }
        let mut draw = random.below(total);
        qualified().find(|index| {
            let hit = draw < weight(index);
            draw = draw.wrapping_sub(weight(index));
            hit
        })
    }

    /// Fewest requests in flight per weight; among equals the next in turn, so that an idle cluster
    /// does not send everything to its first backend.
    fn least_loaded(
        &self,
        backends: &[Rc<Backend>],
        qualifies: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let count = backends.len();
        let start = self.turn.get();
        let mut best: Option<usize> = None;
        for step in 0..count {
            let index = (start + step) % count;
            if qualifies(&backends[index])
                && best.is_none_or(|best| self.lighter(backends, index, best))
            {
                best = Some(index);
            }
        }
        self.turn.set((best? + 1) % count);
        best
    }

    fn better_of_two(
        &self,
        backends: &[Rc<Backend>],
        random: &mut Random,
        qualifies: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let first = self.weighted_draw(backends, random, &qualifies)?;
        let is_other = |backend: &Backend| {
            qualifies(backend) && !std::ptr::eq(backend, &raw const *backends[first])
        };
        match self.weighted_draw(backends, random, is_other) {
            Some(second) if self.lighter(backends, second, first) => Some(second),
            _ => Some(first),
        }
    }

    /// Whether `a` has less in flight per weight than `b`, by cross-multiplication.
    fn lighter(&self, backends: &[Rc<Backend>], a: usize, b: usize) -> bool {
        let load = |index: usize| u64::from(backends[index].active());
        load(a) * u64::from(self.weights[b]) < load(b) * u64::from(self.weights[a])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::socket::Endpoint;
    use crate::state::slot::Slot;

    fn backends(weights: &[u16]) -> Vec<Rc<Backend>> {
        let make = |(index, &weight): (usize, &u16)| {
            let address = Endpoint::Tcp(format!("127.0.0.1:{}", 9000 + index).parse().unwrap());
            let name = format!("c/b{index}");
            Rc::new(Backend::new(name, address, weight, Slot::none()))
        };
        weights.iter().enumerate().map(make).collect()
    }

    fn counts(
        policy: LoadBalancing,
        weights: &[u16],
        rounds: usize,
        skip: Option<usize>,
    ) -> Vec<usize> {
        let backends = backends(weights);
        let balancer = Balancer::new(
            policy,
            weights.iter().map(|&weight| u32::from(weight)).collect(),
        );
        let mut random = Random::new(42);
        let mut counts = vec![0; weights.len()];
        for _ in 0..rounds {
            let chosen = balancer.choose(&backends, &mut random, |backend| {
                skip.is_none_or(|skip| !std::ptr::eq(backend, &raw const *backends[skip]))
            });
            counts[chosen.unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_follows_the_weights_exactly() {
        assert_eq!(
            counts(LoadBalancing::RoundRobin, &[1, 1, 1], 9, None),
            [3, 3, 3]
        );
        assert_eq!(
            counts(LoadBalancing::RoundRobin, &[5, 1, 1], 70, None),
            [50, 10, 10]
        );
        assert_eq!(
            counts(LoadBalancing::RoundRobin, &[5, 1, 1], 60, Some(2)),
            [50, 10, 0]
        );
    }

    #[test]
    fn random_policies_follow_the_weights_roughly() {
        let counts_random = counts(LoadBalancing::Random, &[3, 1], 40_000, None);
        assert!(
            (29_000..31_000).contains(&counts_random[0]),
            "{counts_random:?}"
        );
        assert_eq!(
            counts(LoadBalancing::Random, &[3, 1], 100, Some(0)),
            [0, 100]
        );
        let counts_two = counts(LoadBalancing::PowerOfTwo, &[1, 1, 1, 1], 4000, None);
        assert!(
            counts_two.iter().all(|&count| count > 700),
            "{counts_two:?}"
        );
    }

    #[test]
    fn load_decides_where_the_policy_says_so() {
        let backends = backends(&[1, 1]);
        for _ in 0..10 {
            backends[0].begin();
        }
        let mut random = Random::new(7);
        for policy in [LoadBalancing::LeastConnections, LoadBalancing::PowerOfTwo] {
            let balancer = Balancer::new(policy, vec![1, 1]);
            for _ in 0..50 {
                assert_eq!(balancer.choose(&backends, &mut random, |_| true), Some(1));
            }
        }
    }

    #[test]
    fn nobody_qualifies_or_nobody_is_there() {
        for policy in [
            LoadBalancing::RoundRobin,
            LoadBalancing::Random,
            LoadBalancing::LeastConnections,
            LoadBalancing::PowerOfTwo,
        ] {
            let mut random = Random::new(1);
            assert_eq!(
                Balancer::new(policy, vec![]).choose(&[], &mut random, |_| true),
                None
            );
            let backends = backends(&[2, 3]);
            assert_eq!(
                Balancer::new(policy, vec![2, 3]).choose(&backends, &mut random, |_| false),
                None
            );
        }
    }

    /// What the next requests get, as indexes.
    fn drawn(balancer: &Balancer, backends: &[Rc<Backend>], count: usize) -> Vec<usize> {
        let mut random = Random::new(1);
        let mut draw = || balancer.choose(backends, &mut random, |_| true).unwrap();
        (0..count).map(|_| draw()).collect()
    }

    #[test]
    fn a_change_of_the_cluster_goes_on_where_it_stood() {
        for policy in [LoadBalancing::RoundRobin, LoadBalancing::LeastConnections] {
            let backends = backends(&[1, 1, 1, 1]);
            let before = Balancer::new(policy, vec![1; 4]);
            assert_eq!(drawn(&before, &backends, 2), [0, 1]);
            let same = Balancer::new(policy, vec![1; 4]);
            same.go_on_from(&before, &[Some(0), Some(1), Some(2), Some(3)]);
            assert_eq!(drawn(&same, &backends, 2), [2, 3]);
            // Whose turn it was is gone, and one has come in front.
            let fewer = Balancer::new(policy, vec![1; 4]);
            fewer.go_on_from(&before, &[Some(1), Some(2), None, Some(3)]);
            assert_eq!(drawn(&fewer, &backends, 2), [3, 0]);
            let none = Balancer::new(policy, vec![1; 4]);
            none.go_on_from(&before, &[None; 4]);
            assert_eq!(drawn(&none, &backends, 1), [0]);
        }
    }

    #[test]
    fn weights_go_on_where_they_stood_and_owe_no_more_than_a_round() {
        let all = backends(&[3, 1, 1]);
        let whole = drawn(
            &Balancer::new(LoadBalancing::RoundRobin, vec![3, 1, 1]),
            &all,
            10,
        );
        let places = [Some(0), Some(1), Some(2)];
        let mut balancer = Balancer::new(LoadBalancing::RoundRobin, vec![3, 1, 1]);
        let mut found = Vec::new();
        for _ in 0..10 {
            found.extend(drawn(&balancer, &all, 1));
            let next = Balancer::new(LoadBalancing::RoundRobin, vec![3, 1, 1]);
            next.go_on_from(&balancer, &places);
            balancer = next;
        }
        assert_eq!(found, whole);
        // The heavy one goes: the others share as they should at once, whatever they were owed.
        for drawn_before in 0..1000 {
            let before = Balancer::new(LoadBalancing::RoundRobin, vec![997, 1, 2]);
            drawn(&before, &all, drawn_before);
            let after = Balancer::new(LoadBalancing::RoundRobin, vec![1, 2]);
            after.go_on_from(&before, &[None, Some(0), Some(1)]);
            let got = drawn(&after, &all[1..], 12);
            let firsts = got.iter().filter(|&&index| index == 0).count();
            assert!((2..=6).contains(&firsts), "{got:?} after {drawn_before}");
        }
    }
}
