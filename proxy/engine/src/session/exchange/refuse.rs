//! Answers of our own: errors, by the pages of the listener, of the settings, or a plain one.

use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::grpc;
use crate::protocol::h1::error::Reject;
use crate::protocol::h1::reply::DEFAULT_CONTENT_TYPE;
use crate::protocol::h1::{
    ErrorBody, RequestBody, RequestHead, default_error_body, reason_phrase, write_error,
};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::engine::RequestId;
use crate::session::exchange::Outcome;
use crate::session::exchange::record::{Glimpse, Record};
use crate::session::front::answer::Part;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::state::entity;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::Counter;

/// What an answer of our own is made with: that of the generation which serves the request.
pub(in crate::session) struct Words {
    pub(in crate::session) listener: Rc<ListenerSettings>,
    pub(in crate::session) settings: Arc<entity::Settings>,
    pub(super) generation_header: Option<Rc<str>>,
    /// One more line of the head, with its CRLF.
    pub(super) own_line: Option<Box<str>>,
    /// Said in place of any page.
    pub(super) own_body: Option<Box<str>>,
    /// To a call of gRPC.
    pub(super) is_grpc: bool,
    pub(in crate::session) request_id: Option<RequestId>,
}

/// An answer without an exchange.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(in crate::session) outcome: Outcome,
    /// One more line of the head, with its CRLF.
    pub(super) line: Option<Box<str>>,
    /// In place of any page.
    pub(in crate::session) body: Option<Box<str>>,
}

impl<D: Driver> Engine<D> {
    /// What is said at a connection without a request in flight.
    pub(in crate::session) fn words_now(
        &self,
        id: ClientId,
        request_id: Option<RequestId>,
    ) -> Words {
        Words {
            listener: self.clients[id].listener.settings(),
            settings: self.tables.settings.clone(),
            generation_header: self.tables.generation_header(),
            own_line: None,
            own_body: None,
            is_grpc: false,
            request_id,
        }
    }

    /// Answers a request that no exchange was begun for.
    pub(super) fn answer_request(
        &mut self,
        id: ClientId,
        head: &RequestHead,
        bytes: &[u8],
        mut record: Record,
        answer: Answer,
    ) {
        let status = answer.status;
        record.status = status;
        let request_id = record.request_id;
        self.record_refused(id, &record, answer.outcome);
        self.pool.give(std::mem::take(&mut record.text));
        // A body that nobody reads would be taken for the next request.
        let keep_alive = head.keep_alive
            && matches!(head.body, RequestBody::None | RequestBody::Length(0))
            && !self.stopping;
        let head_only = head.method(bytes) == b"HEAD";
        let words = Words {
            own_line: answer.line,
            own_body: answer.body,
            is_grpc: head.values(bytes, "content-type").any(grpc::is_call),
            ..self.words_now(id, Some(request_id))
        };
        self.send_error(id, status, &words, head_only, keep_alive);
    }

    /// Answers bytes that are no request; where the next one would begin is unknown.
    pub(in crate::session) fn reject_request(
        &mut self,
        id: ClientId,
        reject: Reject,
        attempt: &Glimpse<'_>,
    ) {
        let status = reject.status();
        let counter = match status {
            413 => Counter::Rejected413Total,
            414 => Counter::Rejected414Total,
            431 => Counter::Rejected431Total,
            501 => Counter::Rejected501Total,
            _ => Counter::Rejected400Total,
        };
        self.metrics.add(counter, 1);
        self.record_rejected(id, status, reject.as_str(), attempt);
        let words = self.words_now(id, None);
        self.send_error(id, status, &words, false, false);
    }

    /// Sends an error response and goes on with the connection, or closes it.
    pub(in crate::session) fn send_error(
        &mut self,
        id: ClientId,
        status: u16,
        words: &Words,
        head_only: bool,
        keep_alive: bool,
    ) {
        self.count_status(status);
        let closing = self.stopping || self.clients[id].listener.draining.get();
        let keep_alive = keep_alive && !closing;
        let out = self.error_response(status, words, head_only, !keep_alive);
        self.clients[id].phase = Phase::Idle;
        if self.answer(id, &Part::whole(&out)).lives() {
            self.end_response(id, keep_alive);
        }
    }

    fn error_response(&self, status: u16, words: &Words, head_only: bool, close: bool) -> Vec<u8> {
        let key = status.to_string();
        // A page may have to wait for its reader, like any body.
        let is_bare = self.is_short_of_memory();
        let pages = [
            &words.listener.entity.error_pages,
            &words.settings.error_pages,
        ];
        let own = words.own_body.as_deref();
        let page = pages
            .iter()
            .find_map(|pages| pages.get(&key))
            .filter(|_| own.is_none() && !words.is_grpc && !is_bare);
        let request_id = words
            .request_id
            .as_ref()
            .and_then(|id| std::str::from_utf8(id).ok())
            .unwrap_or_default();
        let mut plain = Vec::new();
        let mut grpc_lines = String::new();
        if let Some(own) = own {
            plain.extend_from_slice(own.as_bytes());
        } else if words.is_grpc {
            grpc_lines = grpc::status_lines(status, reason_phrase(status));
        } else if page.is_none() && !is_bare {
            default_error_body(&mut plain, status, request_id);
        }
        let body = ErrorBody {
            content_type: match page {
                Some(page) => &page.content_type,
                None if words.is_grpc => grpc::CONTENT_TYPE,
                None => DEFAULT_CONTENT_TYPE,
            },
            body: page.map_or(&plain, |page| page.body.as_bytes()),
            extra: [
                words
                    .generation_header
                    .as_deref()
                    .map_or(&[], str::as_bytes),
                words.own_line.as_deref().map_or(&[], str::as_bytes),
                grpc_lines.as_bytes(),
            ],
        };
        let mut out = Vec::with_capacity(512);
        write_error(
            &mut out,
            status,
            &body,
            close,
            self.clock.date(),
            request_id,
            head_only,
        );
        out
    }
}
