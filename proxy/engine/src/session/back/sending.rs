//! Requests in HTTP/1.1 on their way to a backend: sent at once as far as the socket takes them.
//!
//! Rule: what it does not take waits in order, and its exchange takes no more from its client meanwhile. Called by
//! `carrier`, and when the socket has room.

use std::io;

use crate::protocol::h1::write_last_chunk;
use crate::protocol::lines::Lines;
use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::front::client::split_left;
use crate::session::ids::UpstreamId;

impl<D: Driver> Engine<D> {
    /// Sends, or queues what the socket does not take.
    pub(super) fn send_upstream(&mut self, id: UpstreamId, first: &[u8], second: &[u8]) {
        let upstream = &mut self.upstreams[id];
        if std::mem::take(&mut upstream.awaits_body) {
            return self.send_with_head(id, first, second);
        }
        let mut sent = 0;
        if upstream.is_flushed() {
            match upstream
                .stream
                .send(&mut self.tls, &mut self.pool, first, second)
            {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.upstream_write_failed(id),
            }
        }
        if sent < first.len() + second.len() {
            let (first_left, second_left) = split_left(first, second, sent);
            upstream.output.push(&mut self.pool, first_left);
            upstream.output.push(&mut self.pool, second_left);
        }
        self.await_response(Carrier::Connection(id));
    }

    /// Sends the beginning of a request body together with the head that waits for it.
    fn send_with_head(&mut self, id: UpstreamId, first: &[u8], second: &[u8]) {
        let upstream = &mut self.upstreams[id];
        let mut joined = self.pool.take();
        joined.extend_from_slice(upstream.output.as_slice());
        joined.extend_from_slice(first);
        upstream.output.clear(&mut self.pool);
        self.send_upstream(id, &joined, second);
        self.pool.give(joined);
    }

    /// Ends a request in chunks.
    pub(super) fn send_last_chunk(&mut self, id: UpstreamId, trailers: Lines<'_>) {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        write_last_chunk(&mut out, trailers);
        self.send_upstream(id, &out, &[]);
        self.scratch = out;
    }

    /// The backend does not read the rest of the request; it may have answered before it stopped
    /// (RFC 9112 §9.5), so the response is still looked for.
    pub(in crate::session) fn upstream_write_failed(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.output.clear(&mut self.pool);
        upstream.readable = true;
        upstream.hangup = true;
        upstream.keep_alive = false;
        let Some(number) = upstream.exchange else {
            return self.close_upstream(id);
        };
        let exchange = &mut self.exchanges[number];
        exchange.request_discarded = true;
        let asker = exchange.asker;
        self.wake_upstream(id);
        self.wake_asker(asker);
    }

    pub(in crate::session) fn flush_upstream(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let unsent = upstream.stream.unsent_bytes();
        match upstream.stream.send(
            &mut self.tls,
            &mut self.pool,
            upstream.output.as_slice(),
            &[],
        ) {
            Ok(sent) => {
                self.bulk_bytes += sent;
                upstream.output.consume(&mut self.pool, sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if upstream.stream.unsent_bytes() < unsent {
                    self.await_response(Carrier::Connection(id));
                }
                return;
            }
            Err(_) => return self.upstream_write_failed(id),
        }
        if !self.upstreams[id].is_flushed() {
            return self.await_response(Carrier::Connection(id));
        }
        if let Some(number) = self.upstreams[id].exchange {
            if self.upstreams[id].shut_when_sent {
                return self.tunnel_request_sent(number, Carrier::Connection(id));
            }
            let asker = self.exchanges[number].asker;
            self.await_request_body(number);
            self.wake_asker(asker);
        }
    }
}
