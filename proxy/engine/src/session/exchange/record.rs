//! What is remembered of a request for the access log and the counters, and where it goes.
//!
//! Rule: nothing is copied for a log that is off.

use std::net::SocketAddr;

use crate::protocol::h1::{RequestHead, Version};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::engine::RequestId;
use crate::session::exchange::Outcome;
use crate::session::ids::{ClientId, ExchangeId, FLUSH_LOG};
use crate::telemetry::access_log;
use crate::telemetry::counters::SlotId;
use crate::telemetry::names::{Counter, Field, Histogram};

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

    /// The request id as text.
    pub(in crate::session) fn id(&self) -> &str {
        std::str::from_utf8(&self.request_id).unwrap_or_default()
    }
}

/// What is known of a request that was refused, in the bytes of the client.
#[derive(Default)]
pub(in crate::session) struct Glimpse<'a> {
    pub(in crate::session) method: &'a [u8],
    pub(in crate::session) host: &'a [u8],
    pub(in crate::session) target: &'a [u8],
}

impl<'a> Glimpse<'a> {
    /// As far as a head was read before it was refused; `bytes` begin with it.
    pub(in crate::session) fn of_head(head: &'a RequestHead, bytes: &'a [u8]) -> Self {
        let (method, target) = head.attempted(bytes);
        let host = head.values(bytes, "host").next().unwrap_or_default();
        Self {
            method,
            host,
            target,
        }
    }
}

/// Where a request went, as far as it went.
#[derive(Default)]
struct Way<'a> {
    frontend: Option<&'a str>,
    cluster: Option<&'a str>,
    backend: Option<&'a str>,
    backend_address: Option<SocketAddr>,
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
    pub(in crate::session) fn begin_passthrough_record(
        &mut self,
        name: &str,
        request_id: RequestId,
    ) -> Record {
        let mut record = self.blank_record(request_id);
        record.protocol = "TLS";
        if self.log.is_on() {
            record.text = self.pool.take();
            record.text.extend_from_slice(name.as_bytes());
            record.ends = [name.len() as u32; 6];
            record.ends[0] = 0;
        }
        record
    }

    fn blank_record(&self, request_id: RequestId) -> Record {
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

    /// Counts and logs an exchange at its end.
    pub(super) fn record_exchange(&mut self, id: ExchangeId, outcome: Outcome) {
        let exchange = &self.exchanges[id];
        let record = &exchange.record;
        let duration_us = self.clock.us() - record.started_us;
        self.metrics
            .observe(Histogram::RequestDuration, duration_us);
        // The tries that failed count as connect errors; the last one has the request.
        let backend = exchange
            .backend()
            .map_or(SlotId::NONE, |backend| backend.slot());
        for slot in [
            exchange.frontend.slot(),
            exchange.frontend.cluster.slot(),
            backend,
        ] {
            self.metrics.slot_add(slot, Field::Requests, 1);
            self.metrics
                .slot_add(slot, Field::of_status(record.status), 1);
            self.metrics.slot_add(slot, Field::BytesIn, record.bytes_in);
            self.metrics
                .slot_add(slot, Field::BytesOut, record.bytes_out);
            self.metrics.slot_add(slot, Field::DurationUs, duration_us);
        }
        if exchange.reply.has_begun() && record.status > 0 {
            self.count_status(record.status);
        }
        // An answer of our own has a status before any response, and is whole.
        let is_whole = matches!(outcome, Outcome::Complete | Outcome::TunnelClosed)
            || (!exchange.reply.has_begun() && record.status > 0);
        self.metrics.add(
            match is_whole {
                true => Counter::RequestsServedTotal,
                false => Counter::RequestsCutTotal,
            },
            1,
        );
        if self.log.is_on() {
            let backend = exchange.backend().or(exchange.tries.last());
            let way = Way {
                frontend: Some(&exchange.frontend.entry().name),
                cluster: Some(exchange.frontend.cluster.name()),
                backend: backend.map(|backend| backend.name.as_str()),
                backend_address: backend.map(|backend| backend.address),
            };
            let client = &self.clients[exchange.client];
            let log = &mut self.log;
            let dropped = push(
                log,
                client.peer,
                &client.listener.name,
                record,
                &way,
                outcome.as_str(),
                self.clock.us(),
            );
            self.metrics.add(Counter::AccessLogDroppedTotal, dropped);
            self.queue_log_flush();
        }
    }

    /// Logs a request that no exchange was begun for.
    pub(super) fn record_refused(&mut self, id: ClientId, record: &Record, outcome: Outcome) {
        if self.log.is_on() {
            let client = &self.clients[id];
            let way = Way::default();
            let dropped = push(
                &mut self.log,
                client.peer,
                &client.listener.name,
                record,
                &way,
                outcome.as_str(),
                self.clock.us(),
            );
            self.metrics.add(Counter::AccessLogDroppedTotal, dropped);
            self.queue_log_flush();
        }
    }

    /// Logs bytes that were no request.
    pub(in crate::session) fn record_rejected(
        &mut self,
        id: ClientId,
        status: u16,
        reason: &'static str,
        attempt: &Glimpse<'_>,
    ) {
        if self.log.is_on() {
            let mut record = self.blank_record([b'0'; 32]);
            record.status = status;
            record.tell([attempt.method, attempt.host, attempt.target, &[], &[], &[]]);
            record.protocol = self.protocol_of(id);
            let client = &self.clients[id];
            let way = Way::default();
            let dropped = push(
                &mut self.log,
                client.peer,
                &client.listener.name,
                &record,
                &way,
                reason,
                self.clock.us(),
            );
            self.metrics.add(Counter::AccessLogDroppedTotal, dropped);
            self.queue_log_flush();
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

fn push(
    log: &mut access_log::LogSink,
    peer: SocketAddr,
    listener: &str,
    record: &Record,
    way: &Way<'_>,
    outcome: &str,
    now_us: u64,
) -> u64 {
    let upstream_us =
        (record.response_head_us > 0).then(|| record.response_head_us - record.started_us);
    log.push(&access_log::Record {
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
        upstream_us,
        generation: record.generation,
        listener: Some(listener),
        frontend: way.frontend,
        cluster: way.cluster,
        backend: way.backend,
        backend_address: way.backend_address,
        request_id: if record.part(5).is_empty() {
            &record.request_id
        } else {
            record.part(5)
        },
        retries: record.retries,
        outcome,
        reason: record.reason,
    })
}
