//! Answers that are compressed on their way to the client.
//!
//! Rule: what may be compressed is said in `policy::changes::compression`, and by what in `protocol::coding`; here it is done to
//! an exchange. What a client takes is noted with its request, whose head is gone when the answer comes. All bodies
//! together get so many bytes in a turn of the loop, however many they are ([`BYTES_PER_TURN`]): who finds nothing left
//! goes on in the next one. Where the length of a body is unknown, what has come of it leaves when the backend
//! pauses, at the end of a turn. Without a frontend that asks for it nobody comes by here. Called by `request` and
//! `response`, by `own`, by the loop, and by who drives a carrier.

use std::borrow::Cow;

use crate::policy::changes::compression::{Compression, Reason, forbids_change};
use crate::policy::changes::edits::{Made, Reach};
use crate::policy::merged::Merged;
use crate::protocol::coding::{Encoder, Strength, Then};
use crate::protocol::h1::{
    RequestHead, ResponseBody, ResponseHead, write_chunk_header, write_last_chunk,
};
use crate::protocol::lines::{LineBuf, Lines};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Exchange;
use crate::session::exchange::body::Taken;
use crate::session::exchange::filters::lines::{Said, weaken_tag};
use crate::session::exchange::own::Asked;
use crate::session::front::answer::Part;
use crate::session::front::asker::Asker;
use crate::session::ids::ExchangeId;
use crate::telemetry::names::Counter;

/// Bytes of all bodies that are compressed in one turn, at usual levels: about a millisecond of it.
pub(in crate::session) const BYTES_PER_TURN: usize = 128 * 1024;

/// Bytes of a body that are read and compressed at once.
pub(in crate::session) const PIECE_BYTES: usize = 32 * 1024;

/// What an exchange has of it, where its frontend asks for that.
pub(in crate::session) struct Compressing {
    /// The coding that its client gets.
    wanted: Option<Strength>,
    /// It asks whether what it has is still right, and that may have been compressed.
    asks_weakly: bool,
    /// Where the answer is compressed.
    encoder: Option<Encoder>,
    /// Nobody knows how long the body is, and how long its next piece takes.
    is_stream: bool,
    /// Bytes that the encoder has got since it last was flushed.
    held_back: usize,
}

impl Compressing {
    /// What is to be known of a request.
    #[inline]
    pub(in crate::session::exchange) fn of(
        merged: Option<&Merged>,
        head: &RequestHead,
        bytes: &[u8],
    ) -> Option<Box<Self>> {
        let compression = merged?.compression()?;
        Some(Box::new(Self {
            wanted: wanted(compression, head, bytes),
            asks_weakly: head
                .values(bytes, "if-none-match")
                .any(|value| value.windows(2).any(|two| two == b"W/")),
            encoder: None,
            is_stream: false,
            held_back: 0,
        }))
    }
}

/// The coding in which a client gets what may be compressed.
pub(in crate::session::exchange) fn wanted(
    compression: &Compression,
    head: &RequestHead,
    bytes: &[u8],
) -> Option<Strength> {
    let mut says = head.values(bytes, "cache-control");
    if says.any(forbids_change) {
        return None;
    }
    compression.chosen(head.values(bytes, "accept-encoding"))
}

impl Exchange {
    /// Whether its answer is compressed.
    #[inline]
    pub(in crate::session) fn is_compressed(&self) -> bool {
        let compressing = self.compressing.as_ref();
        compressing.is_some_and(|it| it.encoder.is_some())
    }

    /// By how much more time its encoder takes than usual ones.
    fn cost_of_a_byte(&self) -> usize {
        let encoder = self.compressing.as_ref().and_then(|it| it.encoder.as_ref());
        encoder.map_or(1, |encoder| encoder.strength().cost())
    }

    /// The coding that its client gets.
    pub(in crate::session::exchange) fn wanted_coding(&self) -> Option<Strength> {
        self.compressing.as_ref()?.wanted
    }

    /// What compresses its answer, which is given back.
    pub(in crate::session::exchange) fn take_encoder(&mut self) -> Option<Encoder> {
        self.compressing.as_mut()?.encoder.take()
    }
}

fn counter_of(reason: Reason) -> Option<Counter> {
    match reason {
        Reason::NoBody => None,
        Reason::Type => Some(Counter::CompressionSkippedTypeTotal),
        Reason::Short => Some(Counter::CompressionSkippedShortTotal),
        Reason::Encoded => Some(Counter::CompressionSkippedEncodedTotal),
        Reason::Private => Some(Counter::CompressionSkippedPrivateTotal),
        Reason::Forbidden => Some(Counter::CompressionSkippedForbiddenTotal),
    }
}

/// A piece of a compressed body, as its client gets it.
fn frame(made: &[u8], chunked: bool, out: &mut Vec<u8>) {
    if chunked && !made.is_empty() {
        write_chunk_header(out, made.len());
        out.extend_from_slice(made);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(made);
    }
}

impl<D: Driver> Engine<D> {
    /// Whether an answer is compressed, now that its head is here. Changes the head, and returns the lines that it gets.
    pub(in crate::session::exchange) fn begin_compressing(
        &mut self,
        number: ExchangeId,
        head: &mut ResponseHead,
        bytes: &[u8],
    ) -> Option<LineBuf> {
        let exchange = &mut self.exchanges[number];
        // An answer of whoever was asked first is passed on as it is.
        let compressing = exchange
            .compressing
            .as_deref_mut()
            .filter(|_| exchange.parked.is_none())?;
        let merged = exchange.frontend.merged(&exchange.listener);
        let compression = merged.and_then(Merged::compression)?;
        let mut out = LineBuf::default();
        let ours = &mut exchange.response_lines;
        if head.status == 304 && compressing.asks_weakly && compressing.wanted.is_some() {
            weaken_tag(head, bytes, &mut out);
            *ours = ours.as_ref().map(Made::of_compressed);
        }
        let length = match head.body {
            ResponseBody::Length(length) => Some(length),
            _ => head.content_length,
        };
        let reach = Reach::of(head.status, false);
        let edited = ours.as_ref().map(|lines| lines.at(reach));
        let none = Lines::default();
        let said = Said {
            head: Some((head, bytes)),
            ours: [edited.unwrap_or_default(), none, none],
        };
        if let Err(reason) = said.verdict(compression, head.status, length) {
            if let Some(counter) = counter_of(reason) {
                self.metrics.add(counter, 1);
            }
            return Some(out);
        }
        said.write_vary(&mut out);
        let Some(coding) = compressing.wanted else {
            self.metrics
                .add(Counter::CompressionSkippedUnacceptedTotal, 1);
            return Some(out);
        };
        if !exchange.head_only {
            let most = usize::try_from(self.tables.settings.max_compression_bytes);
            let Some(encoder) = self.encoders.take(coding, most.unwrap_or(usize::MAX)) else {
                self.metrics.add(Counter::CompressionSkippedBudgetTotal, 1);
                return Some(out);
            };
            self.metrics.add(Counter::CompressionResponsesTotal, 1);
            compressing.encoder = Some(encoder);
            compressing.is_stream = length.is_none();
            head.body = ResponseBody::Chunked;
        }
        head.content_length = None;
        for name in [&b"accept-ranges"[..], b"content-encoding"] {
            head.drop_fields(bytes, name);
        }
        weaken_tag(head, bytes, &mut out);
        *ours = ours.as_ref().map(Made::of_compressed);
        let coding = coding.coding.as_str();
        out.push(b"Content-Encoding", coding.as_bytes());
        Some(out)
    }

    /// Takes a piece of a body, as [`crate::session::exchange::body::Body::take`] does, and compresses it; `None` if it
    /// is malformed.
    #[inline(never)]
    pub(in crate::session::exchange) fn take_compressed(
        &mut self,
        number: ExchangeId,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Taken<'static>> {
        let mut taken = Taken::nothing();
        let exchange = &mut self.exchanges[number];
        let most = PIECE_BYTES.min(self.compressing_left);
        let most = most.div_ceil(exchange.cost_of_a_byte());
        let most = most.min(exchange.may_leave()).min(data.len());
        let mut content = self.pool.take();
        let Some(piece) = exchange.take_body(&data[..most], false, &mut content) else {
            self.pool.give(content);
            return None;
        };
        taken.consumed = piece.consumed;
        let then = match exchange.reply.is_done() {
            true => Then::End,
            false => Then::Wait,
        };
        let (chunked, trailers) = (exchange.response_chunked, piece.trailers);
        taken.content = self.compress(number, [&content, piece.tail], then, out);
        self.pool.give(content);
        if then == Then::End && chunked {
            write_last_chunk(out, trailers.lines());
        } else {
            taken.trailers = trailers;
        }
        Some(taken)
    }

    /// Ends a body that has no more; its framing is ended by the caller.
    pub(in crate::session::exchange) fn end_compressed(
        &mut self,
        number: ExchangeId,
        out: &mut Vec<u8>,
    ) {
        let content = self.compress(number, [&[], &[]], Then::End, out);
        self.exchanges[number].record.bytes_out += content;
        self.pace(number, content);
    }

    /// Compresses what has come, and appends what leaves; returns how much content that is.
    fn compress(
        &mut self,
        number: ExchangeId,
        content: [&[u8]; 2],
        then: Then,
        out: &mut Vec<u8>,
    ) -> u64 {
        let exchange = &mut self.exchanges[number];
        let piece = exchange.piece_bytes();
        let Some(compressing) = exchange.compressing.as_deref_mut() else {
            return 0;
        };
        let Some(encoder) = compressing.encoder.as_mut() else {
            return 0;
        };
        let cost = encoder.strength().cost();
        let came = content[0].len() + content[1].len();
        let held_back = compressing.held_back;
        // What is paced leaves evenly, and not when the encoder has had enough.
        let then = match then {
            Then::Wait if piece.is_some_and(|piece| held_back + came >= piece) => Then::Flush,
            _ => then,
        };
        let mut made = self.pool.take();
        encoder.write(content[0], Then::Wait, &mut made);
        encoder.write(content[1], then, &mut made);
        frame(&made, exchange.response_chunked, out);
        let leaves = made.len() as u64;
        self.pool.give(made);
        self.compressing_left = self.compressing_left.saturating_sub(came * cost);
        self.metrics
            .add(Counter::CompressionBytesInTotal, came as u64);
        self.metrics.add(Counter::CompressionBytesOutTotal, leaves);
        compressing.held_back = match then {
            Then::Wait => held_back + came,
            Then::Flush | Then::End => 0,
        };
        if compressing.is_stream && compressing.held_back > 0 && held_back == 0 {
            self.holding_back.push(number);
        }
        leaves
    }

    /// Lets what encoders hold back go where the backend pauses. Called at the end of each turn.
    #[inline]
    pub(in crate::session) fn flush_compressed(&mut self) {
        self.compressing_left = BYTES_PER_TURN;
        if self.holding_back.is_empty() {
            return;
        }
        for number in std::mem::take(&mut self.holding_back) {
            let waits = self.flush_or_wait(number);
            if waits {
                self.holding_back.push(number);
            }
        }
    }

    /// Whether it has to wait: more is at hand, or the client has not taken what went before.
    fn flush_or_wait(&mut self, number: ExchangeId) -> bool {
        let Some(exchange) = self.exchanges.get(number) else {
            return false;
        };
        let holds_back = exchange
            .compressing
            .as_ref()
            .is_some_and(|it| it.held_back > 0);
        let is_ahead = exchange.is_ahead();
        let (asker, carrier) = (exchange.asker, exchange.carrier());
        let Some(carrier) = carrier.filter(|_| holds_back) else {
            return false;
        };
        if is_ahead || self.has_more(carrier) || !self.takes_more(asker) {
            return true;
        }
        self.at_work = match asker {
            Asker::Connection(id) => id.token(),
            Asker::Stream(id) => id.token(),
            Asker::Call(id) => id.token(),
        };
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        // A head that has waited for this has left.
        let content = self.compress(number, [&[], &[]], Then::Flush, &mut out);
        self.exchanges[number].record.bytes_out += content;
        self.pace(number, content);
        // Whoever was to get it may be gone with it.
        let _ = self.answer(asker, &Part::body(&out));
        self.scratch = out;
        false
    }

    /// Whether more of an answer can be taken: its client has room for it, it is its turn, and if it is
    /// compressed, there is time.
    #[inline]
    pub(in crate::session) fn takes_more_of(&self, exchange: &Exchange) -> bool {
        self.takes_more(exchange.asker)
            && !exchange.is_ahead()
            && !(self.is_out_of_time() && exchange.is_compressed())
    }

    /// Whether nothing more is compressed in this turn.
    #[inline]
    pub(in crate::session) fn is_out_of_time(&self) -> bool {
        self.compressing_left == 0
    }

    /// Whether an answer goes on as soon as there is time.
    pub(in crate::session) fn waits_for_turn(&self, number: ExchangeId) -> bool {
        self.is_out_of_time()
            && self
                .exchanges
                .get(number)
                .is_some_and(|exchange| exchange.is_compressed() && self.takes_more(exchange.asker))
    }

    /// Compresses a page of our own whole. Its head gets more `lines`, and `edited` from its frontend.
    pub(in crate::session::exchange) fn compress_page<'a>(
        &mut self,
        asked: &Asked,
        (status, content_type): (u16, &str),
        page: Cow<'a, [u8]>,
        (lines, edited): (&mut Cow<'a, LineBuf>, &mut Option<Made>),
    ) -> Cow<'a, [u8]> {
        let Some(compression) = asked.merged().and_then(Merged::compression) else {
            return page;
        };
        let kind = LineBuf::one(b"Content-Type", content_type.as_bytes());
        let own = lines.clone();
        let reach = Reach::of(status, true);
        let from_frontend = edited.as_ref().map(|lines| lines.at(reach));
        let said = Said {
            head: None,
            ours: [from_frontend.unwrap_or_default(), kind.lines(), own.lines()],
        };
        let verdict = said.verdict(compression, status, Some(page.len() as u64));
        if let Err(reason) = verdict {
            if let Some(counter) = counter_of(reason) {
                self.metrics.add(counter, 1);
            }
            return page;
        }
        said.write_vary(lines.to_mut());
        let Some(coding) = asked.coding else {
            self.metrics
                .add(Counter::CompressionSkippedUnacceptedTotal, 1);
            return page;
        };
        let most = usize::try_from(self.tables.settings.max_compression_bytes);
        let most = most.unwrap_or(usize::MAX);
        let is_in_time = self.compressing_left > 0;
        let encoder = is_in_time.then(|| self.encoders.take(coding, most));
        let Some(mut encoder) = encoder.flatten() else {
            self.metrics.add(Counter::CompressionSkippedBudgetTotal, 1);
            return page;
        };
        let mut made = Vec::new();
        encoder.write(&page, Then::End, &mut made);
        let cost = encoder.strength().cost() * page.len();
        self.encoders.give(encoder);
        self.compressing_left = self.compressing_left.saturating_sub(cost);
        self.metrics.add(Counter::CompressionResponsesTotal, 1);
        self.metrics
            .add(Counter::CompressionBytesInTotal, page.len() as u64);
        self.metrics
            .add(Counter::CompressionBytesOutTotal, made.len() as u64);
        let coding = coding.coding.as_str();
        lines.to_mut().push(b"Content-Encoding", coding.as_bytes());
        *edited = edited.as_ref().map(Made::of_compressed);
        made.into()
    }
}
