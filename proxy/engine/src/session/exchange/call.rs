//! Requests that we ask ourselves, beside that of a client: a mirror of it, whose answer is thrown away, and a
//! question about it, for whose answer it waits (`authorising`).
//!
//! Rule: a call is an exchange like any other, with attempts, retries and timeouts of its own, and nobody behind it: so
//! what is asked of backends side by side shares neither a body nor a deadline nor an end. Whose request it
//! repeats never waits for it: what the other side does not take waits here up to a bound, and beyond that the
//! call is dropped and counted. It has one deadline for all of it. Called by `request` and `upload` with what a client
//! has sent, by `authorising`, and by `front` with the answer and its end.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::protocol::h1::Version;
use crate::protocol::lines::{LineBuf, Lines};
use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::timer::Deadline;
use crate::session::engine::Engine;
use crate::session::exchange::auth::heard::Heard;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Exchange, Outcome, Parties};
use crate::session::front::asker::Asker;
use crate::session::ids::{CallId, ExchangeId};
use crate::session::queue::Bulk;
use crate::state::frontend::Mirror;
use crate::telemetry::names::Counter;
use crate::upstream::Backend;

/// Mirrors of a worker at a time; each holds a connection or a stream to a backend.
const MIRRORS_MAX: usize = 256;

/// Bytes of a request body that may wait for a slow mirror.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// No call takes longer, upload and answer together.
const CALL_MS_MAX: u64 = 60_000;

/// A request of our own.
pub(in crate::session) struct Call {
    pub(in crate::session) exchange: Option<ExchangeId>,
    /// Where the client is whose request it repeats, and where that had connected to.
    pub(in crate::session) ends: (SocketAddr, SocketAddr),
    /// What has come of the body, as the client has framed it, and has not been passed on.
    pub(in crate::session) input: ByteQueue,
    /// The end of a body that does not tell it itself has been told, with these trailers.
    ended: Option<LineBuf>,
    deadline: Deadline,
    /// Queued to be driven in the next turn.
    queued: bool,
    /// What has come of the answer, where somebody waits for it; that of a mirror is thrown away.
    pub(super) heard: Option<Box<Heard>>,
}

impl<D: Driver> Engine<D> {
    /// Sends a request that has just gone to its backend to the mirrors of its frontend as well, of whose shares
    /// it is one; each share is drawn by itself. `other` is the head for those that are told otherwise.
    pub(super) fn begin_mirrors(&mut self, id: ExchangeId, other: Option<Vec<u8>>) {
        // It may have been answered at once.
        let Some(original) = self.exchanges.get(id).filter(|it| it.upgrade.is_none()) else {
            return;
        };
        let frontend = original.frontend.clone();
        for mirror in frontend.mirrors() {
            if self.random.below(100) < u64::from(mirror.share) {
                self.begin_mirror(id, mirror, other.as_deref());
            }
        }
    }

    fn begin_mirror(&mut self, id: ExchangeId, mirror: &Mirror, other: Option<&[u8]>) {
        let Some(original) = self.exchanges.get(id) else {
            return;
        };
        let is_told_otherwise = mirror.form() != original.head_form;
        self.metrics.add(Counter::MirrorsTotal, 1);
        if self.mirrors_now >= MIRRORS_MAX || self.is_saving_memory() {
            return self.metrics.add(Counter::MirrorsDroppedTotal, 1);
        }
        let call = self.open_call(self.exchanges[id].asker, None);
        self.mirrors_now += 1;
        let mut exchange = self.repeated(id, call, mirror.cluster.clone());
        let mut copied = self.pool.take();
        copied.extend_from_slice(match other {
            Some(other) if is_told_otherwise => other,
            // It was told once more, to whom its own head was not for.
            None if is_told_otherwise => self.exchanges[id].spare_head().unwrap_or_default(),
            Some(_) | None => &self.exchanges[id].head,
        });
        exchange.keep_head(copied);
        let mirrors = &mut self.exchanges[id].mirrors;
        mirrors.get_or_insert_default().0.push(call);
        self.send_call(call, exchange, CALL_MS_MAX);
    }

    /// A call beside the request of a client, of which nothing has been sent.
    pub(super) fn open_call(&mut self, beside: Asker, heard: Option<Box<Heard>>) -> CallId {
        let ends = self.ends_of(beside);
        let vacant = self.calls.vacant();
        let call = vacant.id();
        vacant.insert(Call {
            exchange: None,
            ends,
            input: ByteQueue::default(),
            ended: None,
            deadline: Deadline::NONE,
            queued: false,
            heard,
        });
        call
    }

    /// Sends it, and has it end within so long.
    pub(super) fn send_call(&mut self, call: CallId, exchange: Exchange, limit_ms: u64) {
        let exchange = self.insert_exchange(exchange);
        let at_ms = self.clock.ms() + limit_ms;
        let deadline = &mut self.calls[call].deadline;
        self.timers.set(deadline, call.token(), at_ms);
        self.try_backend(exchange);
    }

    /// The same request to another cluster, none of whose body has come.
    fn repeated(
        &self,
        id: ExchangeId,
        call: CallId,
        cluster: Rc<crate::upstream::Cluster>,
    ) -> Exchange {
        let original = &self.exchanges[id];
        let record = self.blank_record(original.record.request_id);
        let parties = Parties {
            asker: Asker::Call(call),
            // What is thrown away need not be framed.
            version: Version::Http2,
            listener: original.listener.clone(),
            frontend: original.frontend.clone(),
            cluster,
            tables: &self.tables,
        };
        let mut exchange = Exchange::new(parties, record);
        exchange.request = original.request.clone();
        exchange.request_chunked =
            original.request.has_no_length() && !exchange.cluster.is_multiplexed();
        exchange.head_only = original.head_only;
        exchange.replayable = original.replayable;
        exchange.expects_continue = original.expects_continue;
        exchange.is_grpc = original.is_grpc;
        exchange
    }

    /// More of the body has come, and has been passed on where it was meant for.
    pub(super) fn mirror_body(&mut self, id: CallId, data: &[u8]) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let consumed = match call.input.is_empty() {
            true => self.pass_call_body(id, data),
            false => 0,
        };
        let is_saving = self.is_saving_memory();
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let rest = &data[consumed..];
        if rest.is_empty() {
            return;
        }
        if is_saving || call.input.len() + rest.len() > WAITING_BYTES_MAX {
            return self.end_call(id, Outcome::Overloaded);
        }
        call.input.push(&mut self.pool, rest);
    }

    /// The end of the body has been told.
    pub(super) fn mirror_ended(&mut self, id: CallId, trailers: Lines<'_>) {
        if let Some(call) = self.calls.get_mut(id) {
            call.ended = Some(trailers.into());
            self.end_call_body(id);
        }
    }

    /// The client's request is over: what has not come of its body never will.
    pub(super) fn leave_mirror(&mut self, id: CallId, is_whole: bool) {
        if !is_whole {
            self.end_call(id, Outcome::Overloaded);
        }
    }

    /// Passes bytes on as far as there is room for them; returns how many were used up.
    fn pass_call_body(&mut self, id: CallId, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() {
            let Some(exchange) = self.calls.get(id).and_then(|call| call.exchange) else {
                return data.len();
            };
            match self.request_body_input(exchange, &data[at..]) {
                0 => break,
                consumed => at += consumed,
            }
        }
        at
    }

    /// Queues a call to be driven: there is room for more of its body.
    pub(in crate::session) fn wake_call(&mut self, id: CallId) {
        let call = &mut self.calls[id];
        let has_work = !call.input.is_empty() || call.ended.is_some();
        if has_work && !std::mem::replace(&mut call.queued, true) {
            self.queue(id.token(), Bulk::default());
        }
    }

    /// Passes on what waits.
    pub(in crate::session) fn drive_call(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        call.queued = false;
        let mut input = std::mem::take(&mut call.input);
        let consumed = self.pass_call_body(id, input.as_slice());
        input.consume(&mut self.pool, consumed);
        match self.calls.get_mut(id) {
            Some(call) => call.input = input,
            None => return input.clear(&mut self.pool),
        }
        self.end_call_body(id);
    }

    /// Ends the request of which everything has been passed on.
    fn end_call_body(&mut self, id: CallId) {
        let call = &mut self.calls[id];
        let (Some(exchange), true) = (call.exchange, call.input.is_empty()) else {
            return;
        };
        if self.exchange_wants_input(exchange)
            && let Some(trailers) = self.calls[id].ended.take()
        {
            self.request_body_ended(exchange, trailers.lines());
        }
    }

    /// Its deadline may have passed.
    pub(in crate::session) fn check_call(&mut self, id: CallId, now_ms: u64) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        if self.timers.check(&mut call.deadline, id.token(), now_ms) {
            self.end_call(id, Outcome::ResponseTimeout);
        }
    }

    /// Ends a call, and its exchange if that is not over.
    pub(in crate::session) fn end_call(&mut self, id: CallId, outcome: Outcome) {
        if let Some(exchange) = self.calls.get(id).and_then(|call| call.exchange) {
            self.leave_place(exchange);
            self.remove_exchange(exchange, outcome);
        }
        let Some(mut call) = self.calls.remove(id) else {
            return;
        };
        self.timers.remove(&mut call.deadline);
        call.input.clear(&mut self.pool);
        match call.heard {
            Some(heard) => self.heard_all(*heard, outcome),
            None => self.mirrors_now -= 1,
        }
    }

    /// Counts a call that is over: for its cluster and backend, as the requests that these have had.
    pub(super) fn count_call(
        &self,
        exchange: &Exchange,
        backend: Option<&Backend>,
        outcome: Outcome,
    ) {
        let is_mirror = |id| self.calls.get(id).is_some_and(|call| call.heard.is_none());
        match outcome {
            Outcome::Complete => {}
            _ if !matches!(exchange.asker, Asker::Call(id) if is_mirror(id)) => {}
            Outcome::Overloaded => self.metrics.add(Counter::MirrorsDroppedTotal, 1),
            _ => self.metrics.add(Counter::MirrorsFailedTotal, 1),
        }
        let backend = backend.map(|backend| backend.slot());
        let slots = [exchange.served_by.slot()].into_iter().chain(backend);
        let duration_us = self.clock.us() - exchange.record.started_us;
        self.count_in(slots, &exchange.record, duration_us);
    }
}

impl Body {
    /// Whether its end is told only when it is there.
    pub(super) fn has_no_length(&self) -> bool {
        matches!(self, Self::Chunked(_) | Self::UntilClose)
    }
}
