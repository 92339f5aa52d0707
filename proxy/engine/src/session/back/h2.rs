//! Responses in HTTP/2: frames of a connection become heads, bodies and ends of its streams.
//!
//! Rule: one frame at a time. What a head means is said in `exchange::response`, in whatever version it came.
//! Called by `upstream` with what has come.

use crate::protocol::h2::{Event, Heads};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::ids::UpstreamId;

impl<D: Driver> Engine<D> {
    /// Takes frames from the front of the input.
    pub(super) fn shared_input(&mut self, id: UpstreamId, data: &[u8]) -> usize {
        let now_ms = self.clock.ms();
        let mut at = 0;
        if let Some(shared) = self.upstreams[id].shared.as_mut() {
            shared.heard(now_ms);
        }
        while self.upstreams.contains(id) {
            let Some(shared) = self.upstreams[id].shared.as_mut() else {
                return data.len();
            };
            let mut heads = std::mem::take(&mut self.heads);
            let step = match shared.h2.next(&data[at..], &mut heads) {
                Ok(step) => step,
                Err(fault) => {
                    self.heads = heads;
                    self.shared_broken(id, fault);
                    return data.len();
                }
            };
            at += step.consumed;
            if let Some(event) = step.event {
                self.shared_event(id, event, &mut heads);
            }
            self.heads = heads;
            if step.event.is_none() {
                break;
            }
        }
        if self.upstreams.contains(id) {
            self.send_kept_heads(id);
        }
        if self.upstreams.contains(id) {
            self.queue_shared(id);
        }
        at
    }

    fn shared_event(&mut self, id: UpstreamId, event: Event<'_>, heads: &mut Heads) {
        match event {
            Event::Response { stream, tag, ends } => {
                self.back_stream_response(id, (stream, tag), ends, heads);
            }
            Event::Interim { stream, tag } => self.back_stream_interim(id, (stream, tag), heads),
            Event::Data {
                stream,
                tag,
                data,
                ends,
            } => self.back_stream_data(id, (stream, tag), data, ends),
            Event::Trailers { stream, tag } => {
                self.back_stream_trailers(id, (stream, tag), heads.trailers());
            }
            Event::Reset {
                stream,
                tag,
                code,
                fault,
            } => self.back_stream_was_reset(id, (stream, tag), code, fault),
            Event::Writable { stream, tag } => self.back_stream_is_writable(id, (stream, tag)),
            Event::Settings => self.shared_may_open(id),
            Event::GoAway { .. } => self.shared_going_away(id),
            Event::Pong => self.shared_lives(id),
            // What only a server is told.
            Event::Request { .. } | Event::Refused { .. } => {}
        }
    }
}
