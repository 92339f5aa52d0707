//! The response's way out: checked against the request, framed for the client, sent.
//!
//! Rule: a head has one form whatever version it came by, and how its body ends is told with it. Called by
//! `back` with what has come; what is sent leaves by `front::answer`.

use std::rc::Rc;

use crate::policy::changes::edits::{Made, Reach};
use crate::protocol::h1::response::ResponseHead;
use crate::protocol::h1::via::Via;
use crate::protocol::h1::{
    Delivery, Persistence, ResponseBody, ResponseForward, Version, websocket_accept,
    write_last_chunk,
};
use crate::protocol::lines::{LineBuf, Lines};
use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::body::{Body, Taken};
use crate::session::exchange::own::Answer;
use crate::session::exchange::{Exchange, Outcome, Reply, hsts_of};
use crate::session::front::answer::{Head, Part};
use crate::session::ids::ExchangeId;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::{Counter, Histogram};

/// Fields of an answer that its client needs, whatever page it gets.
const KEPT: [&str; 3] = ["Allow", "Retry-After", "WWW-Authenticate"];

/// Interim responses that one exchange may pass on (T36).
const INTERIM_COUNT_MAX: u32 = 16;

/// What a response head says of us and of its exchange, which may end before the head has left.
struct Said {
    date: [u8; 29],
    generation: Option<Rc<LineBuf>>,
    /// Whose policies have a word about it, if any have.
    by: Option<(Rc<Frontend>, Rc<ListenerSettings>)>,
    /// What is said of a switch of protocols, or of a body that is compressed.
    more: Option<LineBuf>,
    /// What the frontend gives answers, and which of it this one gets.
    lines: Option<Made>,
    reach: Reach,
    protocol: Option<Box<[u8]>>,
    via: Rc<Via>,
}

impl Said {
    fn forward(&self, delivery: Delivery, persistence: Persistence) -> ResponseForward<'_> {
        let said = self.by.as_ref();
        let hsts =
            said.and_then(|(frontend, listener)| hsts_of(frontend.merged(listener), listener));
        let none = Lines::default();
        ResponseForward {
            delivery,
            persistence,
            date: &self.date,
            extra: [
                self.generation.as_deref().map_or(none, LineBuf::lines),
                hsts.unwrap_or_default(),
                self.more.as_ref().map_or(none, LineBuf::lines),
                self.lines
                    .as_ref()
                    .map_or(none, |lines| lines.at(self.reach)),
            ],
            protocol: self.protocol.as_deref().unwrap_or_default(),
            via: &self.via,
        }
    }
}

impl<D: Driver> Engine<D> {
    pub(in crate::session) fn response_malformed(&mut self, number: ExchangeId) {
        self.fail_exchange(number, 502, Outcome::ResponseMalformed);
    }

    pub(in crate::session) fn interim_arrived(
        &mut self,
        number: ExchangeId,
        head: &mut ResponseHead,
        bytes: &[u8],
    ) {
        let exchange = &mut self.exchanges[number];
        exchange.interim_count += 1;
        if exchange.interim_count > INTERIM_COUNT_MAX {
            exchange.record.reason = Some("too_many_interim_responses");
            return self.response_malformed(number);
        }
        // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
        if exchange.version == Version::Http10 {
            return;
        }
        let (asker, mut cookies) = (exchange.asker, None);
        exchange.leave_out(head, bytes);
        exchange.put_cookies_right(head, bytes, &mut cookies);
        let via = self.tables.via().clone();
        let none = Lines::default();
        let forward = ResponseForward {
            delivery: Delivery::NoBody,
            persistence: Persistence::Implied,
            date: &[],
            extra: [
                cookies.as_ref().map_or(none, LineBuf::lines),
                none,
                none,
                none,
            ],
            protocol: &[],
            via: &via,
        };
        let head = Head::Passed {
            text: bytes,
            head,
            forward: &forward,
        };
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        self.write_head(asker, head, &mut out);
        let lives = self.answer(asker, &Part::head(head, &out)).lives();
        self.scratch = out;
        if lives {
            self.await_request_body(number);
        }
    }

    /// The final head, and how its `body` will end: passes it on with as much of that as came with it.
    /// Returns how many bytes of `rest` were used up.
    pub(in crate::session) fn response_arrived(
        &mut self,
        number: ExchangeId,
        head: &mut ResponseHead,
        bytes: &[u8],
        body: Body,
        rest: &[u8],
    ) -> usize {
        if self.exchanges[number].again.is_some() && self.repeats_answer(number, head, bytes, &body)
        {
            return rest.len();
        }
        if self.exchanges[number].intercepts(head.status) {
            self.intercept(number, head, bytes);
            return rest.len();
        }
        let (more, by) = match self.exchanges[number].policies() {
            None => (switch(head, &self.exchanges[number]), None),
            by => (self.apply_policies(number, head, bytes), by),
        };
        let exchange = &mut self.exchanges[number];
        let said = Said {
            date: *self.clock.date(),
            generation: exchange.generation_header.clone(),
            by,
            more,
            lines: exchange.response_lines.clone(),
            reach: Reach::of(head.status, false),
            protocol: exchange.upgrade.take().map(|it| it.protocol),
            via: self.tables.via().clone(),
        };
        let delivery = delivery_of(head.body, exchange.version);
        self.begin_reply(number, head.status, delivery, body, rest);
        let exchange = &self.exchanges[number];
        let (asker, forward) = (
            exchange.asker,
            said.forward(delivery, exchange.persistence()),
        );
        let passed = Head::Passed {
            text: bytes,
            head,
            forward: &forward,
        };
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        self.write_head(asker, passed, &mut out);
        let consumed = if head.switching_protocols {
            self.give_head_back(number);
            if self.answer(asker, &Part::head(passed, &out)).lives() {
                self.begin_tunnel(number);
            }
            0
        } else if self.keeps_response_head(number, &mut out) {
            0
        } else {
            self.begin_response(number, rest, passed, &mut out)
        };
        self.scratch = out;
        consumed
    }

    /// Makes of a head what policies say. Returns the lines that it gets.
    fn apply_policies(
        &mut self,
        number: ExchangeId,
        head: &mut ResponseHead,
        bytes: &[u8],
    ) -> Option<LineBuf> {
        self.exchanges[number].leave_out(head, bytes);
        let compressed = self.begin_compressing(number, head, bytes);
        let exchange = &self.exchanges[number];
        let mut lines = switch(head, exchange).or(compressed);
        exchange.put_cookies_right(head, bytes, &mut lines);
        lines
    }

    /// Answers by a page of our own in place of what a backend says, but for what its client has to know beside it. The
    /// rest of that is not waited for.
    #[cold]
    fn intercept(&mut self, number: ExchangeId, head: &ResponseHead, bytes: &[u8]) {
        let mut lines = LineBuf::default();
        for name in KEPT {
            for value in head.values(bytes, name) {
                lines.push(name.as_bytes(), value);
            }
        }
        self.note_response_head(number);
        self.metrics.add(Counter::InterceptedTotal, 1);
        let outcome = Outcome::Intercepted;
        let answer = Answer {
            lines,
            ..Answer::taken(head.status, outcome)
        };
        self.fail_by(number, answer, outcome);
    }

    /// The head of a response has come.
    fn note_response_head(&mut self, number: ExchangeId) {
        let record = &mut self.exchanges[number].record;
        record.response_head_us = self.clock.us();
        let waited = record.response_head_us - record.started_us;
        self.metrics.observe(Histogram::UpstreamResponse, waited);
    }

    /// Notes that the head is here, and what it means for the client's connection.
    fn begin_reply(
        &mut self,
        number: ExchangeId,
        status: u16,
        delivery: Delivery,
        body: Body,
        rest: &[u8],
    ) {
        let closing = self.is_leaving(self.exchanges[number].asker);
        let exchange = &mut self.exchanges[number];
        exchange.keep_alive &= !closing
            && !is_early(exchange, &body, rest)
            && !matches!(delivery, Delivery::UntilClose);
        exchange.response_chunked = matches!(delivery, Delivery::Chunked);
        exchange.record.status = status;
        exchange.reply = Reply::Body(body);
        self.await_turn(number);
        self.note_response_head(number);
        self.await_request_body(number);
    }

    /// Sends a head, whose text is in `out` if it has one, with what of the body came with it; if that is
    /// malformed, nothing of it is sent but an error.
    fn begin_response(
        &mut self,
        number: ExchangeId,
        rest: &[u8],
        head: Head<'_>,
        out: &mut Vec<u8>,
    ) -> usize {
        let taken = match self.is_sound(number, rest) {
            true => self.take_response_body(number, rest, out),
            false => None,
        };
        let Some(taken) = taken else {
            self.exchanges[number].reply = Reply::Awaited;
            self.response_malformed(number);
            return rest.len();
        };
        self.give_head_back(number);
        self.send_response_body(number, rest, (Some(head), out), &taken)
    }

    /// The request head was kept for another try; there will be none.
    pub(in crate::session) fn give_head_back(&mut self, number: ExchangeId) {
        let exchange = &mut self.exchanges[number];
        self.pool
            .release(std::mem::take(&mut exchange.head_bytes) as usize);
        self.pool.give(std::mem::take(&mut exchange.head));
        exchange.give_spare_head_back(&mut self.pool);
        self.forget_body(number);
    }

    /// Sends body, and a head before it if it begins with one; ends the exchange with the body.
    fn send_response_body(
        &mut self,
        number: ExchangeId,
        data: &[u8],
        (head, bytes): (Option<Head<'_>>, &[u8]),
        taken: &Taken<'_>,
    ) -> usize {
        let exchange = &mut self.exchanges[number];
        let asker = exchange.asker;
        let done = exchange.reply.is_done();
        exchange.record.bytes_out += taken.content;
        self.pace(number, taken.content);
        if !done && data.len() == taken.consumed {
            if let Some(carrier) = self.exchanges[number].carrier() {
                self.await_more_response(carrier, number);
            }
        }
        let part = Part {
            head,
            bytes,
            tail: taken.tail,
            is_last: done && taken.trailers.is_empty(),
        };
        if !part.is_empty() && !self.answer(asker, &part).lives() {
            return taken.consumed;
        }
        if !taken.trailers.is_empty() {
            self.answer_trailers(asker, taken.trailers.lines());
        }
        if done {
            if taken.consumed < data.len() {
                if let Some(carrier) = self.exchanges[number].carrier() {
                    self.forbid_reuse(carrier);
                }
            }
            self.finish_exchange(number);
        }
        taken.consumed
    }

    /// Starts passing bytes both ways unread (RFC 9110 §7.8).
    fn begin_tunnel(&mut self, number: ExchangeId) {
        let exchange = &mut self.exchanges[number];
        let asker = exchange.asker;
        exchange.reply = Reply::Tunnel { ended: false };
        exchange.request = Body::UntilClose;
        let carrier = exchange.carrier();
        let pacing = exchange.pacing.take();
        self.end_pacing(pacing);
        self.begin_passing(asker);
        self.metrics.add(Counter::TunnelsTotal, 1);
        self.metrics.add(Counter::TunnelsNow, 1);
        if let Some(carrier) = carrier {
            self.await_response(carrier);
        }
        self.wake_asker(asker);
    }

    /// Takes response body bytes from the front of the input.
    pub(in crate::session) fn response_body_input(
        &mut self,
        carrier: Carrier,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        self.await_more_response(carrier, number);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        out.append(&mut self.exchanges[number].head);
        let head_bytes = out.len();
        let consumed = match self.take_response_body(number, data, &mut out) {
            Some(taken) => self.send_response_body(number, data, (None, &out), &taken),
            None => {
                // Of a head that has waited for this nothing has been sent.
                out.truncate(head_bytes);
                self.exchanges[number].head.append(&mut out);
                self.response_malformed(number);
                data.len()
            }
        };
        self.scratch = out;
        consumed
    }

    fn await_more_response(&mut self, carrier: Carrier, number: ExchangeId) {
        let limit = self.exchanges[number].bounds.response_body;
        self.await_carrier_for(carrier, limit);
    }

    /// Whether what came with a head can be told from a body, all of it: what has to wait is looked at as well, since
    /// once the head has left there is nothing but to cut the answer.
    #[inline]
    fn is_sound(&mut self, number: ExchangeId, rest: &[u8]) -> bool {
        let exchange = &mut self.exchanges[number];
        if exchange.may_leave() >= rest.len() {
            return true;
        }
        let Reply::Body(body) = &exchange.reply else {
            return true;
        };
        let Err(error) = body.look_ahead(rest) else {
            return true;
        };
        exchange.record.reason = Some(error.as_str());
        false
    }

    /// Takes as much as may leave; `None` if it is malformed.
    #[inline]
    fn take_response_body<'a>(
        &mut self,
        number: ExchangeId,
        data: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Option<Taken<'a>> {
        let exchange = &mut self.exchanges[number];
        if exchange.is_compressed() {
            return self.take_compressed(number, data, out);
        }
        let data = &data[..data.len().min(exchange.may_leave())];
        exchange.take_body(data, exchange.response_chunked, out)
    }

    /// Frames have told that a response body is over (HTTP/2).
    pub(in crate::session) fn response_body_ended(&mut self, number: ExchangeId, all: Lines<'_>) {
        let exchange = &mut self.exchanges[number];
        let asker = exchange.asker;
        let some = exchange.passing_trailers(all);
        let trailers = some.as_ref().map_or(all, LineBuf::lines);
        exchange.reply = Reply::Body(Body::Done);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        out.append(&mut exchange.head);
        if self.exchanges[number].is_compressed() {
            self.end_compressed(number, &mut out);
        }
        if self.exchanges[number].response_chunked {
            write_last_chunk(&mut out, trailers);
        }
        let lives = out.is_empty() || self.answer(asker, &Part::body(&out)).lives();
        self.scratch = out;
        if !lives {
            return;
        }
        if !trailers.is_empty() {
            self.answer_trailers(asker, trailers);
        }
        self.finish_exchange(number);
    }

    /// The backend closed, in order or not: the end of an unframed body, or a failure.
    pub(in crate::session) fn response_end_of_stream(
        &mut self,
        number: ExchangeId,
        in_order: bool,
    ) {
        let exchange = &mut self.exchanges[number];
        let asker = exchange.asker;
        let Reply::Body(body) = &exchange.reply else {
            return;
        };
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        if in_order && exchange.is_compressed() && matches!(body, Body::UntilClose) {
            self.end_compressed(number, &mut out);
        }
        let exchange = &mut self.exchanges[number];
        let Reply::Body(body) = &mut exchange.reply else {
            return;
        };
        if in_order && body.end_of_stream(exchange.response_chunked, &mut out) {
            if out.is_empty() || self.answer(asker, &Part::body(&out)).lives() {
                self.finish_exchange(number);
            }
        } else {
            self.metrics.add(Counter::AbortedByBackendTotal, 1);
            self.fail_exchange(number, 502, Outcome::BackendAborted);
        }
        self.scratch = out;
    }
}

impl Exchange {
    /// Whether a page of ours stands in place of a backend's answer of this status. To a call of gRPC a page says nothing,
    /// and whoever is asked first is heard himself.
    fn intercepts(&self, status: u16) -> bool {
        status >= 400
            && self.parked.is_none()
            && self
                .merged()
                .is_some_and(|merged| merged.intercepts(status))
            && !self.is_grpc()
    }

    /// Whose policies have a word about it, if any have; a pair that outlives it.
    #[inline]
    fn policies(&self) -> Option<(Rc<Frontend>, Rc<ListenerSettings>)> {
        self.frontend.merged(&self.listener)?;
        Some((self.frontend.clone(), self.listener.clone()))
    }

    /// What its client is told of its connection.
    fn persistence(&self) -> Persistence {
        match (self.keep_alive, self.version) {
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, Version::Http11 | Version::Http2) => Persistence::Implied,
            (false, _) => Persistence::Close,
        }
    }
}

/// Makes a switch of protocols that came by HTTP/2 the one of HTTP/1.1: over HTTP/2 it is a 200 (RFC 8441
/// §5). What its client is to be shown, if it has asked over HTTP/1.1.
fn switch(head: &mut ResponseHead, exchange: &Exchange) -> Option<LineBuf> {
    if !head.switching_protocols || head.status == 101 {
        return None;
    }
    head.status = 101;
    let key = exchange.upgrade.as_ref()?.key.as_deref();
    let accept = websocket_accept(key?);
    (exchange.version != Version::Http2)
        .then(|| LineBuf::one(b"Sec-WebSocket-Accept", accept.as_slice()))
}

/// How a client is told where a body ends.
fn delivery_of(body: ResponseBody, version: Version) -> Delivery {
    match (body, version) {
        (ResponseBody::None, _) => Delivery::NoBody,
        (ResponseBody::Length(length), _) => Delivery::Length(length),
        (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http11) => Delivery::Chunked,
        (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http10 | Version::Http2) => {
            Delivery::UntilClose
        }
    }
}

/// An answer before the end of the request: whether the body still comes is unknown after
/// `Expect: 100-continue` (RFC 9110 §10.1.1), and if the answer is here whole, it will be over first. The rest
/// of the request could not be told from a next one.
fn is_early(exchange: &Exchange, body: &Body, rest: &[u8]) -> bool {
    let unasked = exchange.waits_for_continue();
    let is_whole = match body {
        Body::Done => true,
        Body::Length(length) => *length <= rest.len() as u64,
        Body::Chunked(_) | Body::UntilClose => false,
    };
    !exchange.request_done() && (unasked || is_whole)
}
