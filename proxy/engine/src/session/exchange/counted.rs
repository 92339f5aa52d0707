//! What is counted of limits and tokens, beside the status of an answer.
//!
//! Rule: the stages count for themselves while they look at a request; here that is taken over by the counters that
//! others read. Called by `request` and `authorising`.

use crate::policy::guards::jwt::token::Fault;
use crate::policy::limits::refused::policy_of;
use crate::policy::{self, Reason};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::telemetry::names::{Counter, Field};

impl<D: Driver> Engine<D> {
    /// Counts what more than the status is counted of a refusal.
    pub(super) fn count_refusal(&self, answer: &policy::Answer) {
        if answer.reason == Reason::TokenRefused(Fault::UnknownKey) {
            self.metrics.add(Counter::TokensUnknownKeyTotal, 1);
        }
        let field = match answer.reason {
            Reason::RateLimited => Field::RATE_LIMITED,
            Reason::Crowded => Field::CROWDED,
            _ => return,
        };
        let policy = answer.limit.as_deref().and_then(policy_of);
        if let Some(policy) = policy {
            self.tables.count_for(policy, field);
        }
    }

    /// Takes over how many signatures were looked at.
    pub(super) fn count_tokens(&self) {
        let looked = self.tokens.take_count();
        self.metrics.add(Counter::TokensVerifiedTotal, looked);
    }

    /// Takes over what the meter has counted.
    pub(super) fn count_rates(&self) {
        let [evicted, crowded_out, spared] = self.meter.take_counts();
        let refused = self.refused.take_count();
        self.metrics.add(Counter::RateLimitedTotal, refused);
        self.metrics.add(Counter::RateKeysEvictedTotal, evicted);
        self.metrics.add(Counter::RateKeysRefusedTotal, crowded_out);
        self.metrics.add(Counter::RateLimitDryRunTotal, spared);
        let (alone, is_alone) = self.in_flight.take_alone();
        self.metrics.add(Counter::ConcurrencyAloneTotal, alone);
        self.metrics
            .set(Counter::ConcurrencyAloneNow, is_alone.into());
        if spared > 0 {
            for policy in self.meter.take_spared() {
                self.tables.count_for(&policy, Field::DRY_RUN);
            }
        }
    }
}
