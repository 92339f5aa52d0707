//! Who has how many requests in flight, of those that are counted, for whoever asks.
//!
//! Rule: a request costs nothing for being told of: what is known of it is put together when somebody asks, and told of
//! a bounded number, those first who have most. Called by `session/control`.

use std::collections::HashMap;

use crate::policy::limits::refused::{KNOWN_MAX, Whom};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;

impl<D: Driver> Engine<D> {
    /// Who has how many.
    pub(in crate::session) fn crowds(&self) -> Vec<(Whom, u64)> {
        let mut found = HashMap::new();
        for (_, exchange) in self.exchanges.iter() {
            let (Some(keys), Some(merged)) = (&exchange.crowd, exchange.merged()) else {
                continue;
            };
            let frontend = &*exchange.frontend.entry().name;
            for (counted, crowd) in keys.iter().zip(merged.all_crowds()) {
                let known = found.entry(counted.key);
                known.or_insert((0, crowd, counted.who, frontend)).0 += 1;
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_unstable_by_key(|&(count, ..)| std::cmp::Reverse(count));
        let most = found.into_iter().take(KNOWN_MAX);
        let most = most.map(|(count, crowd, who, frontend)| {
            let (limit, who) = (crowd.limit(frontend), who.shown(frontend));
            (Whom { limit, who }, count)
        });
        most.collect()
    }
}
