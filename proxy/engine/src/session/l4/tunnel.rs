//! Upgraded connections: bytes pass both ways unread, each side's end is passed on.

use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Outcome, Reply};
use crate::session::front::answer::Part;
use crate::session::ids::ExchangeId;

/// How long a tunnel may live on with one direction ended: a peer that has closed altogether looks
/// the same until something is sent to it.
pub(in crate::session) const HALF_CLOSED_MS: u64 = 60_000;

impl<D: Driver> Engine<D> {
    pub(in crate::session) fn tunnel_from_client(
        &mut self,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        let exchange = &mut self.exchanges[number];
        let Some(carrier) = exchange.carrier() else {
            return data.len();
        };
        if !self.has_sent_all(carrier) {
            return 0;
        }
        self.exchanges[number].record.bytes_in += data.len() as u64;
        self.send_by(carrier, data, &[]);
        data.len()
    }

    pub(in crate::session) fn tunnel_from_upstream(
        &mut self,
        carrier: Carrier,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        let exchange = &mut self.exchanges[number];
        exchange.record.bytes_out += data.len() as u64;
        let asker = exchange.asker;
        self.await_response(carrier);
        // Whoever has read them looks anew.
        let _ = self.answer(asker, &Part::body(data));
        data.len()
    }

    /// The client sends no more: so the backend is told, and may go on talking.
    pub(in crate::session) fn tunnel_client_ended(&mut self, number: ExchangeId) {
        let exchange = &mut self.exchanges[number];
        exchange.request = Body::Done;
        let asker = exchange.asker;
        self.note_ended(asker);
        let exchange = &self.exchanges[number];
        let Some(carrier) = exchange.carrier() else {
            return;
        };
        match self.has_sent_all(carrier) {
            true => self.tunnel_request_sent(number, carrier),
            false => self.end_sending_when_sent(carrier),
        }
    }

    /// All that an ended client said has gone to the backend.
    pub(in crate::session) fn tunnel_request_sent(&mut self, number: ExchangeId, carrier: Carrier) {
        if self.exchanges[number].reply.is_half_closed() {
            return self.close_tunnel(number);
        }
        self.end_sending(carrier);
        self.await_response(carrier);
    }

    /// The backend sends no more: so the client is told, and may go on talking.
    pub(in crate::session) fn tunnel_upstream_ended(
        &mut self,
        carrier: Carrier,
        number: ExchangeId,
    ) {
        let exchange = &mut self.exchanges[number];
        let asker = exchange.asker;
        exchange.reply = Reply::Tunnel { ended: true };
        if self.has_ended(asker) && self.has_sent_all(carrier) {
            return self.close_tunnel(number);
        }
        // All that the backend sent has gone: it is read only while nothing is queued.
        self.end_answer(asker);
        self.await_response(carrier);
    }

    /// Ends a tunnel in order: what is queued for the client still goes.
    pub(in crate::session) fn close_tunnel(&mut self, number: ExchangeId) {
        let exchange = &self.exchanges[number];
        let asker = exchange.asker;
        if let Some(carrier) = exchange.carrier() {
            self.close_carrier(carrier);
        }
        self.remove_exchange(number, Outcome::TunnelClosed);
        self.close_asker_when_sent(asker);
    }
}
