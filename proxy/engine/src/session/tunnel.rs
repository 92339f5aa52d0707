//! Upgraded connections: bytes pass both ways unread, each side's end is passed on.

use super::Engine;
use super::body::Body;
use super::exchange::Outcome;
use crate::runtime::driver::Driver;

impl<D: Driver> Engine<D> {
    pub(super) fn tunnel_from_client(&mut self, index: usize, data: &[u8]) -> usize {
        let Some(number) = self.clients[index].exchange else {
            return data.len();
        };
        let exchange = &mut self.exchanges[number as usize];
        let Some(upstream) = exchange.upstream else {
            return data.len();
        };
        if !self.upstreams[upstream].output.is_empty() {
            return 0;
        }
        exchange.record.bytes_in += data.len() as u64;
        self.send_upstream(upstream, data, &[]);
        data.len()
    }

    pub(super) fn tunnel_from_upstream(&mut self, index: usize, number: u32, data: &[u8]) -> usize {
        let exchange = &mut self.exchanges[number as usize];
        exchange.record.bytes_out += data.len() as u64;
        let client = exchange.client;
        self.await_response(index);
        self.send_client(client, data, &[]);
        data.len()
    }

    /// The client sends no more: so the backend is told, and may go on talking.
    pub(super) fn tunnel_client_ended(&mut self, index: usize) {
        let Some(number) = self.clients[index].exchange else {
            return;
        };
        let exchange = &mut self.exchanges[number as usize];
        exchange.request = Body::Done;
        let Some(upstream) = exchange.upstream else {
            return;
        };
        if self.clients[index].close_when_sent {
            return self.close_tunnel(number);
        }
        let upstream = &mut self.upstreams[upstream];
        if upstream.output.is_empty() {
            upstream.stream.shutdown_write();
        } else {
            upstream.shut_when_sent = true;
        }
        self.clients[index].hangup = false;
        self.exchanges[number as usize].request_discarded = true;
    }

    /// Ends a tunnel in order: what is queued for the client still goes.
    pub(super) fn close_tunnel(&mut self, number: u32) {
        let exchange = &self.exchanges[number as usize];
        let client = exchange.client;
        if let Some(upstream) = exchange.upstream {
            self.close_upstream(upstream);
        }
        self.remove_exchange(number, Outcome::TunnelClosed);
        self.close_client_when_sent(client);
    }
}
