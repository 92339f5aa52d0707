//! Responses in HTTP/1.1: a head off the front of what has come, and how its body will end.
//!
//! Rule: what a head means is said in `exchange::response`, in whatever version it came. Called by `upstream`
//! while an answer is awaited, and when there is nothing more to come.

use crate::protocol::h1::response;
use crate::protocol::h1::{ChunkLimits, ChunkedDecoder, ResponseBody};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::ids::{ExchangeId, UpstreamId};

impl<D: Driver> Engine<D> {
    /// Takes a response head from the front of the input; 0 when it is not complete yet.
    pub(super) fn response_head_input(
        &mut self,
        id: UpstreamId,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        let exchange = &self.exchanges[number];
        let (head_only, upgrade) = (exchange.head_only, exchange.upgrade.as_ref());
        let upgrade = upgrade.map(|it| &*it.protocol);
        let limits = exchange.cluster.head_limits();
        let mut head = std::mem::take(&mut self.response_head);
        let consumed = match response::parse(data, &limits, head_only, upgrade, &mut head) {
            Ok(None) => 0,
            Ok(Some(length)) if head.interim => {
                self.interim_arrived(number, &mut head, &data[..length]);
                length
            }
            Ok(Some(length)) => {
                let body = body_of(head.body);
                let (text, rest) = data.split_at(length);
                self.upstreams[id].keep_alive = head.keep_alive;
                length + self.response_arrived(number, &mut head, text, body, rest)
            }
            Err(fault) => {
                self.exchanges[number].record.reason = Some(fault.as_str());
                self.response_malformed(number);
                data.len()
            }
        };
        self.response_head = head;
        consumed
    }

    /// The backend has closed: the end of a body without a length, or of everything.
    pub(super) fn h1_response_ended(&mut self, id: UpstreamId, number: ExchangeId) {
        let upstream = &mut self.upstreams[id];
        upstream.keep_alive = false;
        // Over TLS, an end that was not announced may be anybody's.
        let in_order = upstream.stream.ended_in_order();
        match self.exchanges[number].reply.has_begun() {
            true => self.response_end_of_stream(number, in_order),
            false => self.upstream_ended_early(id, number),
        }
    }

    /// The connection ended or failed before a response had begun.
    pub(super) fn upstream_ended_early(&mut self, id: UpstreamId, number: ExchangeId) {
        let upstream = &self.upstreams[id];
        let is_stale = upstream.reused && upstream.input.is_empty();
        self.ended_early(number, is_stale);
    }
}

fn body_of(body: ResponseBody) -> Body {
    match body {
        ResponseBody::None | ResponseBody::Length(0) => Body::Done,
        ResponseBody::Length(length) => Body::Length(length),
        ResponseBody::Chunked => {
            Body::Chunked(Box::new(ChunkedDecoder::new(ChunkLimits::of_backend())))
        }
        ResponseBody::UntilClose => Body::UntilClose,
    }
}
