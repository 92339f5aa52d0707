//! Further attempts of a request: after what, how many, when, and what of it is told once more.
//!
//! Rule: nothing is kept, timed or counted for a cluster that says nothing of it. What something has gone out of is sent
//! again if its method may be, all of what has gone is here, and nothing of an answer has been passed on; what never left
//! goes elsewhere whatever its method is (T29). Whether there is one more try is asked here alone. Called by `attempt`, by
//! `back` when an attempt fails, and by `response` when an answer is one that is not passed on.

use crate::protocol::h1::ResponseHead;
use crate::protocol::lines::{LineBuf, Lines};
use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Exchange, Outcome, Reply};
use crate::session::ids::ExchangeId;
use crate::state::entity::{self, Failure};
use crate::telemetry::names::{Counter, Field};
use crate::upstream::ClusterSettings;
use crate::upstream::balance::Random;

/// Nobody waits for longer than this since a backend has asked for it.
const RETRY_AFTER_MS_MAX: u64 = 10_000;

/// What a request has for further attempts.
pub(in crate::session) struct Again {
    /// Its method may be sent again when something of it has gone out.
    is_repeatable: bool,
    /// So much of its body is kept.
    bytes_max: usize,
    kept: Kept,
}

/// What has gone out of a body.
#[derive(Default)]
struct Kept {
    /// As it went.
    bytes: Vec<u8>,
    /// It was more than is kept.
    is_cut: bool,
    /// It has ended, with these trailers; and whether that was said beside the bytes.
    end: Option<(LineBuf, bool)>,
}

/// Why a request may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Why {
    Failed(Failure),
    Status,
    Grpc,
}

impl Why {
    pub(super) fn counter(self) -> Counter {
        match self {
            Self::Failed(Failure::Connect) => Counter::RetriesConnectTotal,
            Self::Failed(Failure::RefusedStream) => Counter::RetriesRefusedStreamTotal,
            Self::Failed(Failure::Reset) => Counter::RetriesResetTotal,
            Self::Failed(Failure::Timeout) => Counter::RetriesTimeoutTotal,
            Self::Status => Counter::RetriesStatusTotal,
            Self::Grpc => Counter::RetriesGrpcTotal,
        }
    }
}

impl Again {
    /// For a request of that method and body, if its cluster says anything of it.
    #[inline]
    pub(in crate::session) fn of(
        cluster: &ClusterSettings,
        method: &[u8],
        body: &Body,
    ) -> Option<Box<Self>> {
        let retry = cluster.entity.retry.as_deref()?;
        let bytes_max = u64::from(retry.body_bytes);
        Some(Box::new(Self {
            is_repeatable: retry.methods.has(method),
            bytes_max: match body {
                Body::Length(length) if *length > bytes_max => 0,
                _ => retry.body_bytes as usize,
            },
            kept: Kept::default(),
        }))
    }
}

impl Again {
    /// For a request that falls to another cluster, when its body is known.
    pub(super) fn bounded_by(mut self: Box<Self>, body: &Body) -> Box<Self> {
        if matches!(body, Body::Length(length) if *length > self.bytes_max as u64) {
            self.bytes_max = 0;
        }
        self
    }

    /// What is counted as memory that waits.
    pub(super) fn weight(&self) -> usize {
        self.kept.bytes.len()
    }
}

impl Exchange {
    /// Whether what goes out of its body is kept.
    pub(super) fn keeps_body(&self) -> bool {
        let again = self.again.as_deref();
        again.is_some_and(|again| !again.kept.is_cut)
    }

    /// Whether its cluster allows one more try, whatever it is for.
    pub(super) fn has_tries_left(&self) -> bool {
        self.tries.further < self.cluster.entity.attempts()
    }

    /// Whether there is one more try after that, as far as its cluster says it.
    pub(super) fn has_another_try(&self, why: Why) -> bool {
        if !self.has_tries_left() {
            return false;
        }
        match (self.cluster.entity.retry.as_deref(), why) {
            // By a word that is short for it.
            (None, Why::Failed(Failure::Connect | Failure::RefusedStream)) => true,
            (None, _) => false,
            (Some(retry), Why::Failed(failure)) => retry.when.errors.contains(&failure),
            // These are asked for by what has come.
            (Some(_), Why::Status | Why::Grpc) => true,
        }
    }

    /// Whether all that has gone out of it can go out once more.
    pub(super) fn is_here_whole(&self) -> bool {
        let is_kept = match self.again.as_deref() {
            Some(again) => !again.kept.is_cut,
            None => self.record.bytes_in == 0,
        };
        is_kept && !self.reply.has_begun() && self.interim_count == 0
    }

    /// Whether something of its body is to be told again.
    pub(in crate::session) fn has_kept_body(&self) -> bool {
        let Some(again) = self.again.as_deref() else {
            return false;
        };
        let end = again.kept.end.as_ref();
        let says_end = end.is_some_and(|(trailers, is_beside)| *is_beside || !trailers.is_empty());
        self.tries.further > 0 && (says_end || !again.kept.bytes.is_empty())
    }
}

/// How long the try waits that comes behind so many further ones: a lot between nothing and what doubles each time.
pub(super) fn pause_ms(backoff_ms: u64, further: u32, random: &mut Random) -> u64 {
    let Some(doublings) = further.checked_sub(1) else {
        return 0;
    };
    let most = (backoff_ms << doublings.min(10)).min(backoff_ms * 10);
    random.below(most + 1)
}

/// For how long an answer asks to be left alone; `None` where it is longer than anybody waits.
fn asked_pause_ms(head: &ResponseHead, bytes: &[u8]) -> Option<u64> {
    let Some(value) = head.values(bytes, "retry-after").next() else {
        return Some(0);
    };
    let seconds: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    let asked_ms = seconds.saturating_mul(1000);
    (asked_ms <= RETRY_AFTER_MS_MAX).then_some(asked_ms)
}

impl<D: Driver> Engine<D> {
    /// Takes what further attempts need, and counts the request where these have a budget.
    #[inline]
    pub(super) fn note_again(&self, exchange: &mut Exchange, again: Option<Box<Again>>) {
        exchange.again = again;
        if exchange.again.is_some() {
            self.count_in_budget(exchange);
        }
    }

    pub(super) fn count_in_budget(&self, exchange: &Exchange) {
        let retry = exchange.cluster.entity.retry.as_deref();
        if retry.is_some_and(|retry| retry.budget.is_some()) {
            exchange.backends.budget().note_request(self.clock.ms());
        }
    }

    /// Takes one more try after that, if there is one; returns how long it waits.
    pub(super) fn take_try(&mut self, id: ExchangeId, why: Why) -> Option<u64> {
        let entry = &self.exchanges[id];
        if !entry.has_another_try(why) {
            return None;
        }
        let retry = entry.cluster.entity.retry.as_deref();
        let share = retry.and_then(|retry| retry.budget);
        if share.is_some_and(|share| !entry.backends.budget().take(self.clock.ms(), share)) {
            let slot = entry.served_by.slot();
            self.metrics.slot_add(slot, Field::OVER_BUDGET, 1);
            return None;
        }
        let backoff_ms = retry.map_or(0, |retry| retry.backoff);
        let pause_ms = pause_ms(backoff_ms, entry.tries.further, &mut self.random);
        self.exchanges[id].tries.why = Some(why);
        Some(pause_ms)
    }

    /// Has a request tried again whose attempt has failed after something of it had gone out. False: it is as it was.
    pub(in crate::session) fn tries_again(&mut self, id: ExchangeId, failure: Failure) -> bool {
        self.is_repeated(id, Why::Failed(failure), 0)
    }

    fn is_repeated(&mut self, id: ExchangeId, why: Why, least_ms: u64) -> bool {
        let entry = &self.exchanges[id];
        let again = entry.again.as_deref();
        let is_repeatable = again.is_some_and(|again| again.is_repeatable);
        if !is_repeatable || !entry.is_here_whole() {
            return false;
        }
        let Some(pause_ms) = self.take_try(id, why) else {
            return false;
        };
        let backend = self.end_attempt(id);
        let entry = &mut self.exchanges[id];
        entry.tries.failed.extend(backend);
        entry.tries.may_return = true;
        entry.request_discarded = false;
        entry.record.reason = None;
        self.try_in(id, pause_ms.max(least_ms));
        true
    }

    /// Tries a request in so long.
    pub(super) fn try_in(&mut self, id: ExchangeId, pause_ms: u64) {
        match pause_ms {
            0 => self.try_backend(id),
            pause_ms => self.look_again_in(id, pause_ms),
        }
    }

    /// An attempt begins, which may have a time of its own.
    #[inline]
    pub(super) fn bound_try(&mut self, id: ExchangeId) {
        let retry = self.exchanges[id].cluster.entity.retry.as_deref();
        if let Some(limit_ms) = retry.and_then(|retry| retry.per_try) {
            self.look_again_in(id, limit_ms);
        }
    }

    /// A pause between two attempts is over, or the time of one is.
    pub(super) fn again_due(&mut self, id: ExchangeId) {
        let entry = &self.exchanges[id];
        if entry.parked.is_some() || !matches!(entry.reply, Reply::Awaited) {
            return;
        }
        if entry.attempt.is_none() {
            return self.try_backend(id);
        }
        match entry.carrier().filter(|&it| self.is_connected(it)) {
            Some(carrier) => self.attempt_late(carrier, id),
            None => self.connect_failed(id, Outcome::ConnectTimeout),
        }
    }

    /// Whether an answer is thrown away, since the request is tried again for it.
    #[cold]
    pub(super) fn repeats_answer(
        &mut self,
        id: ExchangeId,
        head: &ResponseHead,
        bytes: &[u8],
        body: &Body,
    ) -> bool {
        let entry = &self.exchanges[id];
        let Some(retry) = entry.cluster.entity.retry.as_deref() else {
            return false;
        };
        let why = match retry.when.statuses.contains(&head.status) {
            true => Why::Status,
            false if says_grpc(retry, head, bytes, body) => Why::Grpc,
            false => return false,
        };
        let Some(least_ms) = asked_pause_ms(head, bytes).filter(|_| entry.request_done()) else {
            return false;
        };
        self.is_repeated(id, why, least_ms)
    }

    /// More of a body has gone out.
    pub(super) fn keep_body(&mut self, id: ExchangeId, parts: [&[u8]; 2], last: Option<Lines<'_>>) {
        let Some(again) = self.exchanges[id].again.as_deref_mut() else {
            return;
        };
        let kept = &mut again.kept;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if kept.is_cut || length == 0 && last.is_none() {
            return;
        }
        // Framing is a little more than what is framed.
        if kept.bytes.len() + length > again.bytes_max + again.bytes_max / 8 {
            kept.is_cut = true;
            self.pool.release(kept.bytes.len());
            kept.bytes = Vec::new();
            return;
        }
        for part in parts {
            kept.bytes.extend_from_slice(part);
        }
        kept.end = last.map(|trailers| (trailers.into(), false));
        self.pool.hold(length);
    }

    /// It was said that the body is over.
    pub(super) fn keep_end(&mut self, id: ExchangeId, trailers: Lines<'_>) {
        if let Some(again) = self.exchanges[id].again.as_deref_mut() {
            again.kept.end = Some((trailers.into(), true));
        }
    }

    /// Tells a body again, as far as it has been told.
    pub(in crate::session) fn tell_body_again(&mut self, id: ExchangeId, carrier: Carrier) {
        let Some(again) = self.exchanges[id].again.as_deref_mut() else {
            return;
        };
        let kept = std::mem::take(&mut again.kept);
        let trailers = kept.end.as_ref().filter(|(_, is_beside)| !is_beside);
        let last = trailers.map(|(trailers, _)| trailers.lines());
        if !kept.bytes.is_empty() || last.is_some() {
            self.upload(carrier, &kept.bytes, &[], last);
        }
        if let Some((trailers, true)) = &kept.end
            && self.exchanges[id].carrier() == Some(carrier)
        {
            self.end_upload(carrier, trailers.lines());
        }
        match self
            .exchanges
            .get_mut(id)
            .and_then(|it| it.again.as_deref_mut())
        {
            Some(again) => again.kept = kept,
            None => self.pool.release(kept.bytes.len()),
        }
    }

    /// Nothing will be told again.
    #[inline]
    pub(super) fn forget_body(&mut self, id: ExchangeId) {
        if let Some(again) = self.exchanges[id].again.take() {
            self.pool.release(again.kept.bytes.len());
        }
    }
}

/// Whether an answer ends a call of gRPC, without a message, by a status after which it is tried again.
fn says_grpc(retry: &entity::Retry, head: &ResponseHead, bytes: &[u8], body: &Body) -> bool {
    let mut statuses = head.values(bytes, "grpc-status");
    let Some(status) = statuses.next().filter(|_| body.is_done()) else {
        return false;
    };
    retry.when.grpc.iter().any(|one| one.number() == status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_drawn_from_what_doubles_up_to_ten_times() {
        let mut random = Random::new(7);
        assert_eq!(pause_ms(100, 0, &mut random), 0);
        for (further, most) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (9, 1000)] {
            let drawn: Vec<_> = (0..500)
                .map(|_| pause_ms(100, further, &mut random))
                .collect();
            let (least, longest) = (drawn.iter().min(), drawn.iter().max());
            assert!(longest.is_some_and(|&it| it <= most && it > most * 8 / 10));
            assert!(least.is_some_and(|&it| it < most / 5));
        }
        assert_eq!(pause_ms(0, 5, &mut random), 0);
    }
}
