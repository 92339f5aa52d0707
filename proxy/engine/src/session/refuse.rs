//! Answers of our own: errors, by the pages of the listener, of the settings, or a plain one.

use super::client::Phase;
use super::exchange::Outcome;
use super::record::Record;
use super::{Engine, RequestId};
use crate::protocol::h1::error::Reject;
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
        self.send_error(index, status, &id, head_only, keep_alive);
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
        self.send_error(index, status, &[b'0'; 32], false, false);
    }

    /// Sends an error response and goes on with the connection, or closes it.
    pub(super) fn send_error(
        &mut self,
        index: usize,
        status: u16,
        request_id: &RequestId,
        head_only: bool,
        keep_alive: bool,
    ) {
        self.count_status(status);
        let listener = self.clients[index].listener.settings();
        let settings = self.tables.settings.clone();
        let key = status.to_string();
        let page = listener
            .entity
            .error_pages
            .get(&key)
            .or_else(|| settings.error_pages.get(&key));
        let id = std::str::from_utf8(request_id).unwrap_or_default();
        let mut plain = Vec::new();
        if page.is_none() {
            default_error_body(&mut plain, status, id);
        }
        let body = match page {
            Some(page) => ErrorBody {
                content_type: &page.content_type,
                body: page.body.as_bytes(),
            },
            None => ErrorBody {
                content_type: "text/plain; charset=utf-8",
                body: &plain,
            },
        };
        let closing = self.stopping || self.clients[index].listener.draining.get();
        let keep_alive = keep_alive && !closing;
        let mut out = Vec::with_capacity(512);
        write_error(
            &mut out,
            status,
            &body,
            !keep_alive,
            self.clock.date(),
            id,
            head_only,
        );
        self.clients[index].phase = Phase::Idle;
        let token = self.clients[index].token;
        self.send_client(index, &out, &[]);
        if self.find_client(token, index).is_some() {
            self.end_response(index, keep_alive);
        }
    }
}
