//! What bounds an exchange as a whole: how long all of it may take, and how fast its answer leaves.
//!
//! Rule: one timer for both, which only those have whom somebody bounds; all others pay a look at a pointer. An answer books
//! time of its bandwidth in pieces so small that it leaves evenly, copied or spliced, and is not read from its backend until
//! its turn comes; of what came with its head, no more leaves than of anything else. A tunnel is bounded by neither from the moment at which it
//! begins, and answers of our own by no bandwidth. Called by `request` and `response`, by who reads from backends, and by the
//! loop's timers.

use crate::policy::limits::bandwidth::{Share, shares};
use crate::policy::merged::Merged;
use crate::runtime::driver::Driver;
use crate::runtime::timer::{Deadline, NEVER};
use crate::session::engine::Engine;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::front::asker::Asker;
use crate::session::ids::ExchangeId;
use crate::telemetry::names::Counter;

/// The bounds of one exchange.
pub(in crate::session) struct Pacing {
    deadline: Deadline,
    /// All of it has to be over.
    ends_at_ms: u64,
    /// Its answer has to wait until then.
    resumes_at_ms: u64,
    /// It is tried again then, or its attempt has taken too long; see `again`.
    again_at_ms: u64,
    /// Bytes that it has booked and not sent.
    booked: u64,
    shares: Box<[Share]>,
}

impl Pacing {
    /// How much of its answer leaves at once; `None` where no bandwidth bounds it.
    fn piece_bytes(&self) -> Option<u64> {
        self.shares.iter().map(Share::piece_bytes).min()
    }

    /// Books time for so many bytes; returns when it begins.
    fn book(&self, bytes: u64, now_us: u64) -> u64 {
        let begin = self.shares.iter().map(|share| share.book(bytes, now_us));
        begin.max().unwrap_or(now_us)
    }

    /// What it has booked and does not need.
    fn give_back(&self) {
        for share in &self.shares {
            share.give_back(self.booked);
        }
    }
}

impl Exchange {
    /// Whether its answer has to wait for its turn.
    #[inline]
    pub(in crate::session) fn is_ahead(&self) -> bool {
        let pacing = self.pacing.as_ref();
        pacing.is_some_and(|pacing| pacing.resumes_at_ms != NEVER)
    }

    /// How much of its answer is read at once, where that is bounded. What a compressed one is made of is more than
    /// what leaves.
    #[inline]
    pub(in crate::session) fn piece_bytes(&self) -> Option<usize> {
        let pacing = self.pacing.as_deref()?;
        let piece = match pacing.booked {
            0 => pacing.piece_bytes()?,
            _ if self.is_compressed() => pacing.piece_bytes()?,
            booked => booked,
        };
        Some(usize::try_from(piece).unwrap_or(usize::MAX))
    }

    /// How much of its answer leaves at once by its bandwidth.
    pub(in crate::session) fn piece_of_rate(&self) -> u64 {
        let pacing = self.pacing.as_deref();
        pacing.and_then(Pacing::piece_bytes).unwrap_or(u64::MAX)
    }

    /// How much of its answer may leave now.
    #[inline]
    pub(in crate::session::exchange) fn may_leave(&self) -> usize {
        match self.pacing {
            None => usize::MAX,
            Some(_) if self.is_ahead() => 0,
            Some(_) => self.piece_bytes().unwrap_or(usize::MAX),
        }
    }
}

impl<D: Driver> Engine<D> {
    /// What an answer has to keep, by policies.
    pub(in crate::session::exchange) fn shares_of(
        &mut self,
        asker: Asker,
        frontend: &str,
        merged: Option<&Merged>,
    ) -> Box<[Share]> {
        let bandwidths = merged.map_or(&[][..], Merged::bandwidths);
        if bandwidths.is_empty() {
            return Box::default();
        }
        let now_us = self.clock.ran_us();
        let client = self.connection_of(asker);
        let booked = self.clients[client].booked.get_or_insert_default();
        shares(bandwidths, frontend, booked, &mut self.totals, now_us)
    }

    /// A request has begun that somebody bounds.
    pub(in crate::session::exchange) fn begin_pacing(
        &mut self,
        id: ExchangeId,
        shares: Box<[Share]>,
    ) {
        let longest_ms = self.exchanges[id].bounds.request;
        if longest_ms == NEVER && shares.is_empty() {
            return;
        }
        let pacing = Pacing {
            deadline: Deadline::NONE,
            ends_at_ms: match longest_ms {
                NEVER => NEVER,
                longest => self.clock.ms() + longest,
            },
            resumes_at_ms: NEVER,
            again_at_ms: NEVER,
            booked: 0,
            shares,
        };
        self.exchanges[id].pacing = Some(Box::new(pacing));
        self.set_pace_timer(id);
    }

    /// Has `again` look at it in so long.
    pub(in crate::session::exchange) fn look_again_in(&mut self, id: ExchangeId, pause_ms: u64) {
        let unbound = || {
            Box::new(Pacing {
                deadline: Deadline::NONE,
                ends_at_ms: NEVER,
                resumes_at_ms: NEVER,
                again_at_ms: NEVER,
                booked: 0,
                shares: Box::default(),
            })
        };
        let pacing = self.exchanges[id].pacing.get_or_insert_with(unbound);
        pacing.again_at_ms = self.clock.ms() + pause_ms;
        self.set_pace_timer(id);
    }

    /// Nothing bounds it from now on.
    #[inline]
    pub(in crate::session::exchange) fn end_pacing(&mut self, pacing: Option<Box<Pacing>>) {
        if let Some(mut pacing) = pacing {
            self.timers.remove(&mut pacing.deadline);
            pacing.give_back();
        }
    }

    /// A body is to follow: the first of it waits for its turn as all others do.
    #[inline]
    pub(in crate::session::exchange) fn await_turn(&mut self, id: ExchangeId) {
        if self.exchanges[id].pacing.is_some() {
            self.pace_paced(id, 0);
        }
    }

    /// Takes bytes of an answer into account; it waits if it is ahead.
    #[inline]
    pub(in crate::session) fn pace(&mut self, id: ExchangeId, bytes: u64) {
        if self.exchanges[id].pacing.is_some() {
            self.pace_paced(id, bytes);
        }
    }

    #[cold]
    fn pace_paced(&mut self, id: ExchangeId, bytes: u64) {
        let now_us = self.clock.ran_us();
        let exchange = &mut self.exchanges[id];
        let is_done = exchange.reply.is_done();
        let Some(pacing) = exchange.pacing.as_deref_mut() else {
            return;
        };
        let Some(piece) = pacing.piece_bytes() else {
            return;
        };
        if bytes < pacing.booked {
            pacing.booked -= bytes;
            return;
        }
        // What was more than it had booked comes before its next turn.
        let next = match is_done {
            true => 0,
            false => piece,
        };
        pacing.book(bytes - pacing.booked, now_us);
        pacing.booked = next;
        let begin_us = pacing.book(next, now_us);
        if is_done || begin_us <= now_us {
            return;
        }
        let is_new = pacing.resumes_at_ms == NEVER;
        pacing.resumes_at_ms = begin_us.div_ceil(1000);
        self.metrics
            .add(Counter::BandwidthPausesTotal, u64::from(is_new));
        self.set_pace_timer(id);
    }

    fn set_pace_timer(&mut self, id: ExchangeId) {
        if let Some(pacing) = self.exchanges[id].pacing.as_deref_mut() {
            let at_ms = pacing.ends_at_ms.min(pacing.resumes_at_ms);
            let at_ms = at_ms.min(pacing.again_at_ms);
            if at_ms != NEVER {
                self.timers.set(&mut pacing.deadline, id.token(), at_ms);
            }
        }
    }

    /// A time that bounds an exchange may be over.
    pub(in crate::session) fn check_exchange(&mut self, id: ExchangeId, now_ms: u64) {
        let exchange = self.exchanges.get_mut(id);
        let Some(pacing) = exchange.and_then(|it| it.pacing.as_deref_mut()) else {
            return;
        };
        if !self.timers.check(&mut pacing.deadline, id.token(), now_ms) {
            return;
        }
        pacing.deadline.clear();
        if pacing.ends_at_ms <= now_ms {
            return self.exchange_late(id);
        }
        let resumes = pacing.resumes_at_ms <= now_ms;
        if resumes {
            pacing.resumes_at_ms = NEVER;
        }
        let is_due_again = pacing.again_at_ms <= now_ms;
        if is_due_again {
            pacing.again_at_ms = NEVER;
        }
        self.set_pace_timer(id);
        if is_due_again {
            return self.again_due(id);
        }
        if resumes && let Some(carrier) = self.exchanges[id].carrier() {
            self.await_response(carrier);
            self.wake_carrier(carrier);
        }
    }

    /// All of it has taken too long: whoever was waited for.
    fn exchange_late(&mut self, id: ExchangeId) {
        let exchange = &self.exchanges[id];
        let is_answered = exchange.reply.has_begun() && !exchange.holds_head();
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics
            .add(Counter::GatewayTimeout504Total, u64::from(!is_answered));
        self.fail_exchange(id, 504, Outcome::Overdue);
    }
}
