//! What is remembered of a request for the access log and the counters, and where it goes.
//!
//! Rule: nothing is copied for a log that is off.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::protocol::grpc;
use crate::protocol::h1::{RequestHead, Version};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::exchange::identity::naming::RequestId;
use crate::session::front::asker::Asker;
use crate::session::ids::FLUSH_LOG;
use crate::session::l4::opening::Opening;
use crate::state::frontend::Frontend;
use crate::telemetry::access_log;
use crate::telemetry::counters::{Metrics, SlotId};
use crate::telemetry::names::{Counter, Field, Histogram};
use crate::upstream::{Backend, Cluster};

/// How long a record may wait for others before it is handed to the log's writer.
const LOG_DELAY_MS: u64 = 200;
/// How long the end of the process may wait for the log's disk.
const LOG_CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// The facts of one request.
pub(in crate::session) struct Record {
    pub(super) started_us: u64,
    pub(super) started_unix_us: u64,
    pub(super) response_head_us: u64,
    pub(in crate::session) request_id: RequestId,
    pub(in crate::session) generation: u64,
    pub(super) status: u16,
    pub(in crate::session) bytes_in: u64,
    pub(in crate::session) bytes_out: u64,
    pub(in crate::session) retries: u32,
    pub(in crate::session) protocol: &'static str,
    /// What was wrong in particular, where the outcome does not say it.
    pub(in crate::session) reason: Option<&'static str>,
    /// Method, host, target, user agent, referer and the request id of a trusted peer.
    pub(in crate::session) text: Vec<u8>,
    ends: [u32; 6],
}

impl Record {
    fn part(&self, number: usize) -> &[u8] {
        let start = number
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        self.text
            .get(start..self.ends[number] as usize)
            .unwrap_or_default()
    }

    fn tell(&mut self, parts: [&[u8]; 6]) {
        for (end, part) in self.ends.iter_mut().zip(parts) {
            self.text.extend_from_slice(part);
            *end = self.text.len() as u32;
        }
    }
}

/// What is known of a request that was refused, in the bytes of the client.
#[derive(Default)]
pub(in crate::session) struct Glimpse<'a> {
    pub(in crate::session) method: &'a [u8],
    pub(in crate::session) host: &'a [u8],
    pub(in crate::session) target: &'a [u8],
    /// It would have been a call of gRPC.
    pub(in crate::session) is_grpc: bool,
}

impl<'a> Glimpse<'a> {
    /// As far as a head was read before it was refused; `bytes` begin with it.
    pub(in crate::session) fn of_head(head: &'a RequestHead, bytes: &'a [u8]) -> Self {
        let (method, target) = head.attempted(bytes);
        let host = head.values(bytes, "host").next();
        let host = host.or(host_line(bytes)).unwrap_or_default();
        Self {
            method,
            host,
            target,
            is_grpc: is_call(head, bytes),
        }
    }
}

/// What a head that was refused before its fields were read says of its host.
fn host_line(head: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"host:";
    let lines = head.split(|&byte| byte == b'\n').skip(1);
    lines
        .take_while(|line| !line.trim_ascii().is_empty())
        .find_map(|line| {
            let (name, value) = line.split_at_checked(NAME.len())?;
            let value = value.trim_ascii();
            let is_host = name.eq_ignore_ascii_case(NAME) && value.len() <= HOST_TOLD_BYTES_MAX;
            is_host.then_some(value)
        })
}

/// Longer than any name of a host.
const HOST_TOLD_BYTES_MAX: usize = 262;

/// Whether a head is that of a call of gRPC.
pub(in crate::session) fn is_call(head: &RequestHead, bytes: &[u8]) -> bool {
    head.values(bytes, "content-type").any(grpc::is_call)
}

/// What a request is to the worker's own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    /// One of its requests, which ended whole.
    Served,
    /// One of its requests, which did not.
    Cut,
    /// None of them: it has a counter of its own.
    Apart,
}

/// A request that is over, and where it went, as far as it went.
pub(super) struct Ended<'a> {
    pub(super) asker: Asker,
    pub(super) record: &'a Record,
    pub(super) frontend: Option<&'a Frontend>,
    pub(super) cluster: Option<&'a Cluster>,
    /// The one that has the request: tries that failed count as connect errors.
    pub(super) backend: Option<&'a Backend>,
    /// The one that is named in the log.
    pub(super) tried: Option<&'a Backend>,
    /// Those that were tried before it.
    pub(super) before: &'a [Rc<Backend>],
    /// The cluster in whose place another one, or an answer of the configuration, has served it.
    pub(super) fallen_from: Option<&'a Cluster>,
    /// For the access log.
    pub(super) outcome: &'static str,
    /// The same: what was wrong in particular.
    pub(super) reason: Option<&'a str>,
    pub(super) tally: Tally,
}

impl<'a> Ended<'a> {
    /// Who counts it.
    fn slots(&self, metrics: &Rc<Metrics>) -> [SlotId; 3] {
        [
            self.frontend.map_or(SlotId::NONE, |it| it.slot(metrics)),
            self.cluster.map_or(SlotId::NONE, |it| it.slot()),
            self.backend.map_or(SlotId::NONE, |it| it.slot()),
        ]
    }

    /// As the access log has it.
    fn entry(&self, peer: SocketAddr, listener: &'a str, now_us: u64) -> access_log::Record<'a> {
        let record = self.record;
        let has_answered = record.response_head_us > 0;
        let given_id = record.part(5);
        access_log::Record {
            time_us: record.started_unix_us,
            client: peer,
            method: record.part(0),
            host: record.part(1),
            path: record.part(2),
            protocol: record.protocol,
            user_agent: Some(record.part(3)).filter(|part| !part.is_empty()),
            referer: Some(record.part(4)).filter(|part| !part.is_empty()),
            status: record.status,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_us: now_us - record.started_us,
            upstream_us: has_answered.then(|| record.response_head_us - record.started_us),
            generation: record.generation,
            listener: Some(listener),
            frontend: self.frontend.map(|frontend| &*frontend.entry().name),
            cluster: self.cluster.map(|cluster| cluster.name()),
            backend: self.tried.map(|backend| backend.name.as_str()),
            backend_address: self.tried.map(|backend| &backend.address),
            request_id: match given_id.is_empty() {
                true => &record.request_id,
                false => given_id,
            },
            retries: record.retries,
            tried: match record.retries {
                0 => &[],
                _ => self.before,
            },
            fallback_of: self.fallen_from.map(Cluster::name),
            outcome: self.outcome,
            reason: self.reason,
        }
    }
}

impl<D: Driver> Engine<D> {
    pub(super) fn begin_record(
        &mut self,
        head: &RequestHead,
        bytes: &[u8],
        request_id: RequestId,
        trusted: bool,
    ) -> Record {
        let mut record = self.blank_record(request_id);
        record.protocol = match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
        };
        if self.log.is_on() {
            record.text = self.pool.take();
            let given_id = head.request_id(bytes).filter(|_| trusted);
            let parts = [
                head.method(bytes),
                head.host(bytes),
                head.target_raw(bytes),
                head.values(bytes, "user-agent").next().unwrap_or_default(),
                head.values(bytes, "referer").next().unwrap_or_default(),
                given_id.unwrap_or_default(),
            ];
            record.tell(parts);
        }
        record
    }

    /// A connection that is passed on unread is told as one request without a method or a status.
    pub(in crate::session) fn begin_unread_record(
        &mut self,
        opening: Opening<'_>,
        request_id: RequestId,
    ) -> Record {
        let mut record = self.blank_record(request_id);
        record.protocol = opening.protocol();
        if self.log.is_on() {
            let name = opening.hostname();
            record.text = self.pool.take();
            record.text.extend_from_slice(name.as_bytes());
            record.ends = [name.len() as u32; 6];
            record.ends[0] = 0;
        }
        record
    }

    /// A connection that would have been passed on is not, since its client may not ask.
    pub(in crate::session) fn record_denied(
        &mut self,
        asker: Asker,
        record: Record,
        frontend: &Frontend,
    ) {
        self.metrics.add(Counter::Rejected403Total, 1);
        self.record_unopened(asker, record, Some(frontend), Outcome::AddressDenied);
    }

    /// A connection that no frontend takes.
    pub(in crate::session) fn record_nobodys(&mut self, asker: Asker, opening: Opening<'_>) {
        self.metrics.add(Counter::NotFound404Total, 1);
        let request_id = self.request_ids.next();
        let record = self.begin_unread_record(opening, request_id);
        self.record_unopened(asker, record, None, Outcome::NoFrontend);
    }

    fn record_unopened(
        &mut self,
        asker: Asker,
        record: Record,
        frontend: Option<&Frontend>,
        outcome: Outcome,
    ) {
        self.record(&Ended {
            asker,
            record: &record,
            frontend,
            cluster: None,
            backend: None,
            tried: None,
            before: &[],
            fallen_from: None,
            outcome: outcome.as_str(),
            reason: None,
            tally: Tally::Apart,
        });
        self.pool.give(record.text);
    }

    pub(super) fn blank_record(&self, request_id: RequestId) -> Record {
        Record {
            started_us: self.clock.us(),
            started_unix_us: self.clock.unix_us(),
            response_head_us: 0,
            request_id,
            generation: self.tables.generation,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            protocol: "HTTP/1.1",
            reason: None,
            text: Vec::new(),
            ends: [0; 6],
        }
    }

    /// The record of bytes that are no request, as far as they can be told.
    pub(super) fn record_of_glimpse(&mut self, asker: Asker, attempt: &Glimpse<'_>) -> Record {
        let mut record = self.blank_record([b'0'; 32]);
        record.protocol = asker.protocol();
        if self.log.is_on() {
            record.text = self.pool.take();
            record.tell([attempt.method, attempt.host, attempt.target, &[], &[], &[]]);
        }
        record
    }

    /// Counts and logs a request that is over, whoever has answered it.
    pub(super) fn record(&mut self, ended: &Ended<'_>) {
        let record = ended.record;
        let now_us = self.clock.us();
        if record.status > 0 {
            self.count_status(record.status);
        }
        match ended.tally {
            Tally::Served => self.metrics.add(Counter::RequestsServedTotal, 1),
            Tally::Cut => self.metrics.add(Counter::RequestsCutTotal, 1),
            Tally::Apart => {}
        }
        if ended.tally != Tally::Apart {
            let duration_us = now_us - record.started_us;
            self.metrics
                .observe(Histogram::RequestDuration, duration_us);
            let slots = ended.slots(&self.metrics);
            if let Some(field) = Field::of_refusal(record.status) {
                self.metrics.slot_add(slots[0], field, 1);
            }
            self.count_in(slots, record, duration_us);
        }
        if self.log.is_on() {
            let client = &self.clients[self.connection_of(ended.asker)];
            let (peer, listener) = (client.peer, client.listener.name.as_str());
            let dropped = self.log.push(&ended.entry(peer, listener, now_us));
            self.metrics.add(Counter::AccessLogDroppedTotal, dropped);
            self.queue_log_flush();
        }
    }

    /// Counts a request for entities that have had it.
    pub(super) fn count_in(
        &self,
        slots: impl IntoIterator<Item = SlotId>,
        record: &Record,
        duration_us: u64,
    ) {
        for slot in slots {
            self.metrics.slot_add(slot, Field::Requests, 1);
            if let Some(field) = Field::of_status(record.status) {
                self.metrics.slot_add(slot, field, 1);
            }
            self.metrics.slot_add(slot, Field::BytesIn, record.bytes_in);
            self.metrics
                .slot_add(slot, Field::BytesOut, record.bytes_out);
            self.metrics.slot_add(slot, Field::DurationUs, duration_us);
        }
    }

    pub(super) fn count_status(&self, status: u16) {
        self.metrics.add(Counter::of_status(status), 1);
    }

    fn queue_log_flush(&mut self) {
        if !self.log_flush_queued {
            self.log_flush_queued = true;
            self.timers
                .queue_check(FLUSH_LOG, self.clock.ms() + LOG_DELAY_MS);
        }
    }

    /// Ends the log in order before the process ends.
    pub(in crate::session) fn close_log(&mut self) {
        std::mem::replace(&mut self.log, access_log::LogSink::off()).close(LOG_CLOSE_WAIT);
    }

    /// Hands what was logged to the writer.
    pub(in crate::session) fn flush_log(&mut self) {
        self.log_flush_queued = false;
        let dropped = self.log.flush();
        self.metrics.add(Counter::AccessLogDroppedTotal, dropped);
    }
}
