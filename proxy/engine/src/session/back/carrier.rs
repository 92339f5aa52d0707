//! Who carries an attempt: a connection of HTTP/1.1, or a stream of one of HTTP/2.
//!
//! Rule: the exchange knows a carrier by its id alone, and comes by here with all that it wants of it; only here and
//! behind it is it known which of the two it is. A stream is no connection: what is about the socket, TLS or
//! the backend is asked of the connection that it is on. The mirror image of `front::asker`.

use crate::protocol::lines::Lines;
use crate::runtime::driver::Driver;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Reply;
use crate::session::ids::{BackStreamId, ExchangeId, UpstreamId};
use crate::session::l4::tunnel::HALF_CLOSED_MS;

/// By what an attempt goes to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Carrier {
    Connection(UpstreamId),
    Stream(BackStreamId),
}

impl<D: Driver> Engine<D> {
    /// The connection by which it leads to the backend.
    pub(in crate::session) fn connection_by(&self, carrier: Carrier) -> UpstreamId {
        match carrier {
            Carrier::Connection(id) => id,
            Carrier::Stream(id) => self.back_streams[id].connection,
        }
    }

    /// What it carries.
    fn exchange_by(&self, carrier: Carrier) -> Option<ExchangeId> {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].exchange,
            Carrier::Stream(id) => Some(self.back_streams[id].exchange),
        }
    }

    /// Whether more of a request can be sent without queueing.
    #[inline]
    pub(in crate::session) fn has_room(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].has_room(),
            Carrier::Stream(id) => self.back_streams[id].has_room(),
        }
    }

    /// Whether all that was sent has gone.
    #[inline]
    pub(in crate::session) fn has_sent_all(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].is_flushed(),
            Carrier::Stream(id) => self.back_streams[id].is_flushed(),
        }
    }

    /// Sends, or queues what does not go now.
    pub(in crate::session) fn send_by(&mut self, carrier: Carrier, first: &[u8], second: &[u8]) {
        match carrier {
            Carrier::Connection(id) => self.send_upstream(id, first, second),
            Carrier::Stream(id) => self.back_stream_send(id, first, second),
        }
    }

    /// Sends a part of a request body, or queues it; with `last`, the trailers, the request ends with it.
    pub(in crate::session) fn upload(
        &mut self,
        carrier: Carrier,
        first: &[u8],
        second: &[u8],
        last: Option<Lines<'_>>,
    ) {
        if let (Carrier::Stream(id), Some(trailers)) = (carrier, last) {
            self.back_stream_ends_after(id, trailers);
        }
        self.send_by(carrier, first, second);
    }

    /// Ends a request whose length was not known.
    pub(in crate::session) fn end_upload(&mut self, carrier: Carrier, trailers: Lines<'_>) {
        match carrier {
            Carrier::Connection(id) => self.send_last_chunk(id, trailers),
            Carrier::Stream(id) => self.end_back_stream(id, trailers),
        }
    }

    /// Ends our side of a tunnel: the backend may go on talking.
    pub(in crate::session) fn end_sending(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].stream.shutdown_write(&mut self.tls),
            Carrier::Stream(id) => self.end_back_stream(id, Lines::default()),
        }
    }

    /// Ends our side of a tunnel behind what is queued.
    pub(in crate::session) fn end_sending_when_sent(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].shut_when_sent = true,
            Carrier::Stream(id) => self.back_streams[id].ends_when_sent = true,
        }
    }

    /// Sets the time within which the backend must make its next move. There is none while it is the
    /// client that is waited for, in the middle of an upload.
    pub(in crate::session) fn await_response(&mut self, carrier: Carrier) {
        let Some(exchange) = self.exchange_by(carrier) else {
            return;
        };
        let exchange = &self.exchanges[exchange];
        let timeouts = &exchange.bounds;
        let limit = match exchange.reply {
            Reply::Tunnel { ended } if ended || exchange.request_done() => {
                timeouts.tunnel.min(HALF_CLOSED_MS)
            }
            Reply::Tunnel { .. } => timeouts.tunnel,
            Reply::Body(_) => timeouts.response_body,
            Reply::Awaited if exchange.request_done() || exchange.waits_for_continue() => {
                timeouts.response_head
            }
            // It does not read what it is sent.
            Reply::Awaited if !self.has_sent_all(carrier) => timeouts.response_head,
            Reply::Awaited => return self.clear_carrier_deadline(carrier),
        };
        self.await_carrier_for(carrier, limit);
        if let Carrier::Stream(id) = carrier {
            self.note_end_of_request(id);
        }
    }

    /// Sets the time within which its next move must be made.
    pub(in crate::session) fn await_carrier_for(&mut self, carrier: Carrier, limit_ms: u64) {
        match carrier {
            Carrier::Connection(id) => self.await_upstream_for(id, limit_ms),
            Carrier::Stream(id) => {
                let at_ms = self.clock.ms() + limit_ms;
                let deadline = &mut self.back_streams[id].deadline;
                self.timers.set(deadline, id.token(), at_ms);
            }
        }
    }

    /// It is somebody else who is slow.
    pub(in crate::session) fn clear_carrier_deadline(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].deadline.clear(),
            Carrier::Stream(id) => self.back_streams[id].deadline.clear(),
        }
    }

    /// Whether more than has been looked at has come by a carrier.
    pub(in crate::session) fn has_more(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::Connection(id) => {
                let upstream = &self.upstreams[id];
                upstream.readable || !upstream.input.is_empty()
            }
            Carrier::Stream(id) => !self.back_streams[id].input.is_empty(),
        }
    }

    /// Its asker has made room for what it has to give.
    pub(in crate::session) fn wake_carrier(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Connection(id) => self.wake_upstream(id),
            Carrier::Stream(id) => self.wake_back_stream(id),
        }
    }

    /// Its asker has taken what was queued for it: the exchange goes on, in both directions.
    pub(in crate::session) fn asker_made_room(&mut self, number: ExchangeId) {
        self.await_request_body(number);
        if let Some(carrier) = self.exchanges[number].carrier() {
            self.await_response(carrier);
            self.wake_carrier(carrier);
        }
    }

    /// Whether it leads to its backend already.
    pub(in crate::session) fn is_connected(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::Connection(id) => self.upstreams[id].link == Link::Busy,
            Carrier::Stream(_) => true,
        }
    }

    /// The head of its request has gone, or is about to.
    pub(super) fn head_sent(&mut self, carrier: Carrier, exchange: ExchangeId) {
        if self.exchanges[exchange].has_kept_body() {
            self.tell_body_again(exchange, carrier);
        }
        self.await_response(carrier);
        let exchange = &self.exchanges[exchange];
        let asker = exchange.asker;
        if !exchange.request_done() {
            self.wake_asker(asker);
        }
    }

    /// More has come than was asked for: nothing that comes behind it can be trusted.
    pub(in crate::session) fn forbid_reuse(&mut self, carrier: Carrier) {
        if let Carrier::Connection(id) = carrier {
            self.upstreams[id].keep_alive = false;
        }
    }

    /// What it carried is complete: a connection may carry another request.
    pub(in crate::session) fn release_carrier(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Connection(id) => self.release_upstream(id),
            Carrier::Stream(id) => self.close_back_stream(id),
        }
    }

    /// Closes it at once; its exchange must be seen to by the caller.
    pub(in crate::session) fn close_carrier(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Connection(id) => self.close_upstream(id),
            Carrier::Stream(id) => self.close_back_stream(id),
        }
    }
}
