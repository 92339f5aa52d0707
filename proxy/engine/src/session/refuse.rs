//! Answers of our own: errors, by the pages of the listener, of the settings, or a plain one.

use super::client::Phase;
use super::exchange::Outcome;
use super::record::Record;
use super::{Engine, RequestId};
use crate::protocol::h1::error::Reject;
use crate::protocol::h1::reply::DEFAULT_CONTENT_TYPE;
use crate::protocol::h1::{ErrorBody, RequestBody, RequestHead, default_error_body, write_error};
use crate::runtime::driver::Driver;
use crate::telemetry::names::Counter;

impl<D: Driver> Engine<D> {
    /// Answers a request that no exchange was begun for.
    pub(super) fn refuse_request(
        &mut self,
        index: usize,
        head: &RequestHead,
        mut record: Record,
        head_only: bool,
        status: u16,
        outcome: Outcome,
    ) {
        record.status = status;
        let id = record.request_id;
        self.record_refused(index, &record, outcome);
        self.pool.give(std::mem::take(&mut record.text));
        // A body that nobody reads would be taken for the next request.
        let keep_alive = head.keep_alive
            && matches!(head.body, RequestBody::None | RequestBody::Length(0))
            && !self.stopping;
        self.send_error(index, status, Some(id), head_only, keep_alive);
    }

    /// Answers bytes that are no request; where the next one would begin is unknown.
    pub(super) fn reject_request(&mut self, index: usize, reject: Reject) {
        let status = reject.status();
        let counter = match status {
            413 => Counter::Rejected413Total,
            414 => Counter::Rejected414Total,
            431 => Counter::Rejected431Total,
            501 => Counter::Rejected501Total,
            _ => Counter::Rejected400Total,
        };
        self.metrics.add(counter, 1);
        self.record_rejected(index, status, reject.as_str());
        self.send_error(index, status, None, false, false);
    }

    /// Sends an error response and goes on with the connection, or closes it.
    pub(super) fn send_error(
        &mut self,
        index: usize,
        status: u16,
        request_id: Option<RequestId>,
        head_only: bool,
        keep_alive: bool,
    ) {
        self.count_status(status);
        let closing = self.stopping || self.clients[index].listener.draining.get();
        let keep_alive = keep_alive && !closing;
        let out = self.error_response(index, status, request_id, head_only, !keep_alive);
        self.clients[index].phase = Phase::Idle;
        let token = self.clients[index].token;
        self.send_client(index, &out, &[]);
        if self.find_client(token, index).is_some() {
            self.end_response(index, keep_alive);
        }
    }

    fn error_response(
        &self,
        index: usize,
        status: u16,
        request_id: Option<RequestId>,
        head_only: bool,
        close: bool,
    ) -> Vec<u8> {
        let listener = self.clients[index].listener.settings();
        let settings = &self.tables.settings;
        let key = status.to_string();
        let pages = [&listener.entity.error_pages, &settings.error_pages];
        let page = pages.iter().find_map(|pages| pages.get(&key));
        let id = request_id
            .as_ref()
            .and_then(|id| std::str::from_utf8(id).ok())
            .unwrap_or_default();
        let mut plain = Vec::new();
        if page.is_none() {
            default_error_body(&mut plain, status, id);
        }
        let generation = self.tables.generation_header.as_bytes();
        let body = ErrorBody {
            content_type: page.map_or(DEFAULT_CONTENT_TYPE, |page| &page.content_type),
            body: page.map_or(&plain, |page| page.body.as_bytes()),
            extra: if settings.generation_header {
                generation
            } else {
                &[]
            },
        };
        let mut out = Vec::with_capacity(512);
        write_error(
            &mut out,
            status,
            &body,
            close,
            self.clock.date(),
            id,
            head_only,
        );
        out
    }
}
