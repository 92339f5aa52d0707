//! Requests in HTTP/2: frames of a connection become heads, bodies and ends of its streams.
//!
//! Rule: one frame at a time, and none while the connection has enough to send. What a head means is said in
//! `exchange::request`, in whatever version it came. Called by `client` with what has come.

use crate::protocol::h1::Reject;
use crate::protocol::h2::{ErrorCode, Event, Heads};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::record::{Glimpse, is_call};
use crate::session::front::asker::Asker;
use crate::session::ids::ClientId;

impl<D: Driver> Engine<D> {
    /// Takes frames from the front of the input.
    pub(super) fn multiplex_input(&mut self, id: ClientId, data: &[u8]) -> usize {
        let now_s = self.clock.ms() / 1000;
        let mut at = 0;
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.h2.pass_time(now_s);
        }
        while self.clients.contains(id) {
            if self.is_backed_up(id) {
                // Each frame may be one more request that we answer ourselves.
                self.clients[id].input_waits = at < data.len();
                break;
            }
            let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
                return data.len();
            };
            let mut heads = std::mem::take(&mut self.heads);
            heads.request.slashes = multiplex.slashes;
            let step = multiplex.h2.next(&data[at..], &mut heads);
            let event = match step {
                Ok(step) => {
                    at += step.consumed;
                    step.event
                }
                Err(_) => {
                    self.heads = heads;
                    self.multiplex_failed(id);
                    return data.len();
                }
            };
            if let Some(event) = event {
                self.multiplex_event(id, event, &mut heads);
            }
            self.heads = heads;
            if event.is_none() {
                break;
            }
        }
        if self.clients.contains(id) {
            self.watch_head(id);
            self.queue_multiplexed(id);
        }
        at
    }

    fn multiplex_event(&mut self, id: ClientId, event: Event<'_>, heads: &mut Heads) {
        match event {
            Event::Request { stream, ends } => self.stream_request(id, stream, ends, heads),
            Event::Refused {
                stream,
                reject,
                ends,
            } => self.stream_refused(id, stream, reject, ends, heads),
            Event::Data {
                stream,
                tag,
                data,
                ends,
            } => self.stream_data(id, stream, tag, data, ends),
            Event::Trailers { stream, tag } => {
                if let Some(asking) = self.find_stream(id, tag) {
                    self.streams[asking].trailers_in = heads.trailers().into();
                    self.stream_data(id, stream, tag, &[], true);
                }
            }
            Event::Reset { tag, .. } => {
                if let Some(asking) = self.find_stream(id, tag) {
                    self.close_stream(asking);
                }
            }
            Event::Writable { stream, tag } => {
                let asking = self.find_stream(id, tag);
                let sent = asking.map(|asking| self.flush_stream(asking));
                if sent.is_none_or(|sent| sent == 0) {
                    // Nobody has anything for it, and it would be told again and again.
                    self.reset_stream(id, stream, ErrorCode::Internal);
                }
            }
            Event::Interim { .. }
            | Event::Response { .. }
            | Event::Settings
            | Event::GoAway { .. }
            | Event::Pong => {}
        }
    }

    fn stream_request(&mut self, id: ClientId, stream: u32, ends: bool, heads: &mut Heads) {
        let Some(asking) = self.open_stream(id, stream, ends) else {
            return self.reset_stream(id, stream, ErrorCode::RefusedStream);
        };
        let client = &self.clients[id];
        let listener = client.listener.settings();
        if !listener.trusts(client.peer.ip()) {
            heads.request.drop_forwarding_fields();
        }
        if !listener.entity.underscores_in_headers {
            let (request, text) = heads.request_and_text();
            request.drop_underscores(text);
        }
        let mut head = std::mem::take(&mut heads.request);
        self.request_arrived(Asker::Stream(asking), &listener, &mut head, heads.text());
        heads.request = head;
    }

    fn stream_refused(
        &mut self,
        id: ClientId,
        stream: u32,
        reject: Reject,
        ends: bool,
        heads: &Heads,
    ) {
        match self.open_stream(id, stream, ends) {
            Some(asking) => {
                let (method, host, target) = heads.attempted();
                let glimpse = Glimpse {
                    method,
                    host,
                    target,
                    is_grpc: is_call(&heads.request, heads.text()),
                };
                self.reject_request(Asker::Stream(asking), reject, &glimpse);
            }
            None => self.reset_stream(id, stream, ErrorCode::RefusedStream),
        }
    }
}
