//! Bytes that nobody has to look at, from socket to socket: the middle of long bodies, and tunnels that carry
//! much.
//!
//! Rule: what is spliced is counted, bounded and timed like what is copied, and only where both sides are in
//! clear text, nothing waits on either, and what comes is sent on as it is. Whoever looks at a body takes it
//! out of here by saying so in `response_may_pass` or `request_may_pass`. Called by who drives a connection
//! (`client`, `upstream`), who reads where this does not.

use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Reply;
use crate::session::exchange::body::Body;
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, ExchangeId, UpstreamId};
use crate::session::plain::Then;
use crate::session::transport::Transport;
use crate::telemetry::names::Counter;

/// Shorter rests of bodies are copied, in fewer calls.
const SPLICED_BYTES_MIN: u64 = 64 * 1024;

impl<D: Driver> Engine<D> {
    /// Whether what a backend sends may pass unread, and how much of it.
    fn response_may_pass(&self, id: UpstreamId) -> Option<(ExchangeId, u64)> {
        let upstream = &self.upstreams[id];
        let number = upstream.exchange?;
        let exchange = &self.exchanges[number];
        let most = match &exchange.reply {
            Reply::Body(Body::Length(left)) if *left >= SPLICED_BYTES_MIN => *left,
            Reply::Tunnel { ended: false } if upstream.bulk.is_large() => u64::MAX,
            _ => return None,
        };
        let is_direct = upstream.link == Link::Busy
            && upstream.input.is_empty()
            && exchange.sends_response_as_it_comes()
            && self.takes_more_of(exchange)
            && !self.is_saving_memory();
        let piece = exchange
            .piece_bytes()
            .map_or(u64::MAX, |piece| piece as u64);
        is_direct.then_some((number, most.min(piece)))
    }

    /// Passes a part of a response on unread, if that may be; otherwise it has to be read.
    pub(in crate::session) fn splice_response(&mut self, id: UpstreamId) -> bool {
        let Some((number, most)) = self.response_may_pass(id) else {
            return false;
        };
        let Asker::Connection(client) = self.exchanges[number].asker else {
            return false;
        };
        let (Transport::Plain(sender), Transport::Plain(receiver)) = (
            &mut self.upstreams[id].stream,
            &mut self.clients[client].stream,
        ) else {
            return false;
        };
        let Some(passed) = sender.pass_on(receiver, &mut self.pool, most) else {
            return false;
        };
        let upstream = &mut self.upstreams[id];
        upstream.readable = !matches!(passed.then, Then::Drained | Then::Ended);
        upstream.bulk.brought(passed.bytes);
        self.bulk_bytes += passed.bytes;
        let bytes = passed.bytes as u64;
        self.metrics.add(Counter::BytesToClientsTotal, bytes);
        let exchange = &mut self.exchanges[number];
        exchange.record.bytes_out += bytes;
        let is_whole = match &mut exchange.reply {
            Reply::Body(body) => body.pass(bytes),
            Reply::Awaited | Reply::Tunnel { .. } => false,
        };
        if bytes > 0 {
            self.pace(number, bytes);
            self.await_response(Carrier::Connection(id));
            if !self.clients[client].is_flushed() {
                self.await_write(Asker::Connection(client), false);
            }
        }
        match passed.then {
            Then::ReceiverLost => self.client_lost(client),
            _ if is_whole => self.response_passed(id, number),
            Then::SenderLost => self.upstream_failed(id),
            Then::Ended => self.upstream_end_of_stream(id),
            Then::More | Then::Drained => {}
        }
        true
    }

    /// All of a response has passed. What may have come behind it has not been read yet, and on a
    /// connection that brings more than was asked for nothing can be trusted.
    fn response_passed(&mut self, id: UpstreamId, number: ExchangeId) {
        let upstream = &mut self.upstreams[id];
        upstream.readable = upstream.keep_alive && !upstream.stream.is_quiet();
        upstream.keep_alive &= !upstream.readable;
        self.finish_exchange(number);
    }

    /// Whether what a client sends may pass unread, where to, and how much of it.
    fn request_may_pass(&self, id: ClientId) -> Option<(ExchangeId, UpstreamId, u64)> {
        let client = &self.clients[id];
        let number = client.exchange?;
        let exchange = &self.exchanges[number];
        let most = match (client.phase, &exchange.request) {
            (Phase::InExchange, Body::Length(left)) if *left >= SPLICED_BYTES_MIN => *left,
            (Phase::Tunnel, _) if client.bulk.is_large() => u64::MAX,
            _ => return None,
        };
        let Some(Carrier::Connection(upstream)) = exchange.carrier() else {
            return None;
        };
        let is_direct = client.input.is_empty()
            && exchange.mirrors.is_none()
            && exchange.sends_request_as_it_comes()
            && self.upstreams[upstream].link == Link::Busy
            && self.upstreams[upstream].is_flushed()
            && !self.is_saving_memory();
        is_direct.then_some((number, upstream, most))
    }

    /// See [`Engine::splice_response`], of an upload.
    pub(in crate::session) fn splice_request(&mut self, id: ClientId) -> bool {
        let Some((number, upstream, most)) = self.request_may_pass(id) else {
            return false;
        };
        let (Transport::Plain(sender), Transport::Plain(receiver)) = (
            &mut self.clients[id].stream,
            &mut self.upstreams[upstream].stream,
        ) else {
            return false;
        };
        let Some(passed) = sender.pass_on(receiver, &mut self.pool, most) else {
            return false;
        };
        let client = &mut self.clients[id];
        client.readable = !matches!(passed.then, Then::Drained | Then::Ended);
        client.bulk.brought(passed.bytes);
        self.bulk_bytes += passed.bytes;
        let bytes = passed.bytes as u64;
        self.metrics.add(Counter::BytesFromClientsTotal, bytes);
        let exchange = &mut self.exchanges[number];
        exchange.record.bytes_in += bytes;
        let is_whole = exchange.request.pass(bytes);
        if bytes > 0 {
            if is_whole {
                self.clients[id].clear_deadline(&mut self.timers, id);
            } else {
                self.await_request_body(number);
            }
            self.await_response(Carrier::Connection(upstream));
        }
        match passed.then {
            Then::ReceiverLost => self.upstream_write_failed(upstream),
            Then::SenderLost => self.client_lost(id),
            Then::Ended => self.client_end_of_stream(id),
            Then::More | Then::Drained => {}
        }
        true
    }
}
