//! Answers of our own: refusals, errors, redirections; by the pages of the listener, of the settings, or a plain one.
//!
//! Rule: all of them take one path, whatever the client speaks, whether or not a backend was asked, and whoever
//! has decided on them: made here, counted and logged by `record`, sent by `front::answer`. What a frontend
//! has to say about its answers holds for those that are ours. Called by the exchange, and by the front for
//! what was no request.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use crate::policy::changes::edits::{Made as MadeLines, Reach};
use crate::policy::changes::room::Overgrown;
use crate::policy::merged::Merged;
use crate::policy::{self, Page, Reason};
use crate::protocol::coding::Strength;
use crate::protocol::grpc;
use crate::protocol::h1::error::Reject;
use crate::protocol::h1::reply::DEFAULT_CONTENT_TYPE;
use crate::protocol::h1::{OwnHead, default_error_body, reason_phrase};
use crate::protocol::lines::{LineBuf, Lines};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::identity::naming::RequestId;
use crate::session::exchange::record::{Ended, Glimpse, Record, Tally};
use crate::session::exchange::{Outcome, hsts_of};
use crate::session::front::answer::{Head, Part};
use crate::session::front::asker::Asker;
use crate::session::ids::ExchangeId;
use crate::state::entity;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::Counter;

/// Who is answered, and by what: all that an answer needs to know of a request, in the generation which
/// serves it.
pub(super) struct Asked {
    pub(super) asker: Asker,
    pub(super) listener: Rc<ListenerSettings>,
    pub(super) settings: Arc<entity::Settings>,
    pub(super) generation_header: Option<Rc<LineBuf>>,
    /// The one that has taken the request, if any has.
    pub(super) frontend: Option<Rc<Frontend>>,
    /// Lines that its frontend gives every answer, where it edits their fields; there may be too many.
    pub(super) response_lines: Result<Option<MadeLines>, Overgrown>,
    /// The coding that its client gets what may be compressed in.
    pub(super) coding: Option<Strength>,
    pub(super) request_id: Option<RequestId>,
    /// It is a call of gRPC.
    pub(super) is_grpc: bool,
    pub(super) head_only: bool,
    /// Where its connection can go on, if nothing else is against it.
    pub(super) keep_alive: bool,
}

impl Asked {
    /// What holds by policies for its frontend, or for what no frontend takes.
    pub(super) fn merged(&self) -> Option<&Merged> {
        match &self.frontend {
            Some(frontend) => frontend.merged(&self.listener),
            None => self.listener.said().map(|(_, merged)| merged),
        }
    }

    /// The answer, if there is room for what its frontend adds; or else that there is not.
    pub(super) fn in_room(&self, answer: Answer) -> Answer {
        match self.response_lines {
            Ok(_) => answer,
            Err(overgrown) => policy::Answer::from(overgrown).into(),
        }
    }

    /// The body of a page of one's own and its media type: of whoever is nearest to the frontend.
    fn page(&self, status: u16) -> Option<(&[u8], &str)> {
        if let Some(said) = self.merged().and_then(|merged| merged.page(status)) {
            return said.map(|page| (&*page.body, &*page.content_type));
        }
        let key = status.to_string();
        let page = match self.listener.entity.error_pages.get(&key) {
            Some(said) => said.as_ref()?,
            None => self.settings.error_pages.get(&key)?,
        };
        Some((page.body.as_bytes(), &page.content_type))
    }
}

/// What is answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// For the access log.
    pub(super) outcome: &'static str,
    pub(super) tally: Tally,
    /// What counts it beside that.
    pub(super) counter: Option<Counter>,
    /// What more the access log says of it.
    pub(super) fault: Option<&'static str>,
    /// Which limit says so, for the access log.
    pub(super) limit: Option<Box<str>>,
    /// More lines of the head.
    pub(super) lines: LineBuf,
    /// In place of any page of an error.
    pub(super) page: Option<Page>,
    /// What a call of gRPC ends with, if its status does not say it.
    pub(super) call: Option<grpc::Status>,
    /// What is said of the request that it answers.
    pub(super) said: LineBuf,
}

impl Answer {
    pub(super) fn new(status: u16, outcome: &'static str, tally: Tally) -> Self {
        Self {
            status,
            outcome,
            tally,
            counter: None,
            fault: None,
            limit: None,
            lines: LineBuf::default(),
            page: None,
            call: None,
            said: LineBuf::default(),
        }
    }

    /// Whether it is none at all: its connection is closed.
    pub(super) fn is_silent(&self) -> bool {
        self.status == 0
    }

    /// To a request that a frontend has taken.
    pub(super) fn taken(status: u16, outcome: Outcome) -> Self {
        Self::new(status, outcome.as_str(), Tally::Served)
    }
}

/// What a reason is called, and what counts it.
pub(super) fn outcome_of(reason: Reason) -> (Outcome, Option<Counter>) {
    match reason {
        Reason::TooEarly => (Outcome::TooEarly, Some(Counter::Rejected425Total)),
        Reason::Trace => (Outcome::TraceRefused, Some(Counter::Rejected405Total)),
        Reason::TooLarge => (Outcome::RequestTooLarge, Some(Counter::Rejected413Total)),
        Reason::Redirected => (Outcome::Redirected, None),
        Reason::Denied => (Outcome::AddressDenied, Some(Counter::Rejected403Total)),
        Reason::RateLimited => (Outcome::RateLimited, Some(Counter::Rejected429Total)),
        Reason::Crowded => (Outcome::Crowded, Some(Counter::Rejected429Total)),
        Reason::Preflight => (Outcome::PreflightAnswered, None),
        Reason::OriginRefused => (Outcome::OriginRefused, Some(Counter::Rejected403Total)),
        Reason::Unauthenticated => (Outcome::Unauthenticated, Some(Counter::Rejected401Total)),
        Reason::TooManyPasswords => {
            let counter = Counter::RefusedRequestsTotal;
            (Outcome::TooManyPasswords, Some(counter))
        }
        Reason::TokenMissing => (Outcome::TokenMissing, Some(Counter::Rejected401Total)),
        Reason::TokenRefused(_) => (Outcome::TokenRefused, Some(Counter::Rejected401Total)),
        Reason::TokenInsufficient => {
            let counter = Counter::Rejected403Total;
            (Outcome::TokenInsufficient, Some(counter))
        }
        Reason::ContentMissing => {
            let counter = Counter::RefusedRequestsTotal;
            (Outcome::ContentMissing, Some(counter))
        }
        Reason::TokenKeysMissing => {
            let counter = Counter::RefusedRequestsTotal;
            (Outcome::TokenKeysMissing, Some(counter))
        }
        Reason::CertificateMissing => {
            let counter = Counter::Rejected403Total;
            (Outcome::CertificateMissing, Some(counter))
        }
        Reason::CertificateRefused => {
            let counter = Counter::Rejected403Total;
            (Outcome::CertificateRefused, Some(counter))
        }
        Reason::Responded => (Outcome::Responded, None),
        Reason::Closed => (Outcome::Closed, None),
        Reason::Abnormal => (Outcome::RewriteRefused, Some(Counter::Rejected400Total)),
        Reason::Overgrown => (Outcome::Overgrown, Some(Counter::Rejected431Total)),
        Reason::WebSocketVersion => {
            let counter = Counter::Rejected426Total;
            (Outcome::WebSocketVersion, Some(counter))
        }
        Reason::UpgradeRefused => (Outcome::UpgradeRefused, Some(Counter::Rejected501Total)),
    }
}

impl From<policy::Answer> for Answer {
    fn from(decided: policy::Answer) -> Self {
        let (outcome, counter) = outcome_of(decided.reason);
        let fault = match decided.reason {
            Reason::TokenRefused(fault) => Some(fault.as_str()),
            _ => None,
        };
        Self {
            // Another status is counted by its class alone.
            counter: counter
                .filter(|counter| *counter != Counter::Rejected429Total || decided.status == 429),
            fault,
            limit: decided.limit,
            lines: decided.lines,
            page: decided.page,
            said: decided.said,
            ..Self::taken(decided.status, outcome)
        }
    }
}

/// An answer that is made, and whether its client may go on afterwards.
pub(super) struct Made<'a> {
    status: u16,
    content_type: &'a str,
    /// The page, sent or not.
    page: Cow<'a, [u8]>,
    /// The request was no HEAD, and the status has a page.
    sends_page: bool,
    generation: Option<&'a LineBuf>,
    hsts: Lines<'a>,
    /// What only this answer says.
    own: Cow<'a, LineBuf>,
    /// What the frontend gives every answer, in place of the fields in `dropped`.
    edited: Option<MadeLines>,
    dropped: &'a [Box<str>],
    request_id: &'a str,
    date: [u8; 29],
    keep_alive: bool,
}

impl Made<'_> {
    /// Its content, as it is sent.
    fn content(&self) -> &[u8] {
        match self.sends_page {
            true => &self.page,
            false => &[],
        }
    }

    /// How much of it is content.
    pub(super) fn content_bytes(&self) -> u64 {
        self.content().len() as u64
    }

    fn head(&self) -> OwnHead<'_> {
        let has_page = has_page(self.status);
        let reach = Reach::of(self.status, true);
        let edited = self.edited.as_ref().map(|lines| lines.at(reach));
        OwnHead {
            status: self.status,
            date: &self.date,
            content_type: if has_page { self.content_type } else { "" },
            request_id: self.request_id,
            extra: [
                self.generation.map_or(Lines::default(), LineBuf::lines),
                self.own.lines(),
                self.hsts,
                edited.unwrap_or_default(),
            ],
            dropped: self.dropped,
            length: has_page.then_some(self.page.len() as u64),
            close: !self.keep_alive,
        }
    }
}

impl<D: Driver> Engine<D> {
    /// What is said at a connection without a request in flight.
    fn asked_now(&self, asker: Asker) -> Asked {
        Asked {
            asker,
            listener: self.client_of(asker).listener.settings(),
            settings: self.tables.settings.clone(),
            generation_header: self.tables.generation_header(),
            frontend: None,
            response_lines: Ok(None),
            coding: None,
            request_id: None,
            is_grpc: false,
            head_only: false,
            keep_alive: false,
        }
    }

    /// Answers what no exchange was begun for.
    pub(super) fn answer_unbegun(&mut self, asked: &Asked, mut record: Record, answer: &Answer) {
        let is_request = answer.tally != Tally::Apart;
        self.metrics
            .add(Counter::RequestsTotal, u64::from(is_request));
        if let Some(counter) = answer.counter {
            self.metrics.add(counter, 1);
        }
        let made = (!answer.is_silent()).then(|| self.make(asked, answer));
        record.status = answer.status;
        record.bytes_out = made.as_ref().map_or(0, Made::content_bytes);
        self.record(&Ended {
            asker: asked.asker,
            record: &record,
            frontend: asked.frontend.as_deref(),
            cluster: None,
            backend: None,
            tried: None,
            before: &[],
            fallen_from: None,
            outcome: answer.outcome,
            reason: answer.limit.as_deref().or(record.reason),
            tally: answer.tally,
        });
        self.pool.give(record.text);
        match made {
            Some(made) => self.send_made(asked.asker, &made),
            None => self.leave_unanswered(asked.asker),
        }
    }

    /// Answers a request that waits no more, or that no backend can be asked for.
    pub(super) fn answer_instead(&mut self, id: ExchangeId, answer: Answer, outcome: Outcome) {
        if let Some(counter) = answer.counter {
            self.metrics.add(counter, 1);
        }
        if !answer.is_silent() {
            return self.fail_by(id, answer, outcome);
        }
        let asker = self.exchanges[id].asker;
        self.remove_exchange(id, outcome);
        self.leave_unanswered(asker);
    }

    /// Answers bytes that are no request; where the next one would begin is unknown.
    pub(in crate::session) fn reject_request(
        &mut self,
        asker: Asker,
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
        let answer = Answer::new(status, reject.as_str(), Tally::Apart);
        self.answer_no_request(asker, attempt, answer, counter);
    }

    /// The rest of a head has not come in time.
    pub(in crate::session) fn head_is_late(&mut self, asker: Asker) {
        self.metrics.add(Counter::TimeoutsTotal, 1);
        let answer = Answer::new(408, "request_head_timeout", Tally::Apart);
        self.answer_no_request(
            asker,
            &Glimpse::default(),
            answer,
            Counter::Rejected408Total,
        );
    }

    fn answer_no_request(
        &mut self,
        asker: Asker,
        attempt: &Glimpse<'_>,
        mut answer: Answer,
        counter: Counter,
    ) {
        answer.counter = Some(counter);
        let record = self.record_of_glimpse(asker, attempt);
        let asked = Asked {
            is_grpc: attempt.is_grpc,
            ..self.asked_now(asker)
        };
        self.answer_unbegun(&asked, record, &answer);
    }

    /// Sends a connection away at the door, where nothing has been asked: there is nothing to log.
    pub(in crate::session) fn turn_away(&mut self, asker: Asker) {
        let asked = self.asked_now(asker);
        let answer = Answer::new(503, Outcome::Overloaded.as_str(), Tally::Apart);
        let made = self.make(&asked, &answer);
        self.count_status(answer.status);
        self.send_made(asker, &made);
    }

    /// Sends an answer and goes on with the connection, or closes it.
    pub(super) fn send_made(&mut self, asker: Asker, made: &Made<'_>) {
        self.end_asking(asker);
        let head = made.head();
        let head = Head::Own(&head);
        let mut out = Vec::with_capacity(512);
        self.write_head(asker, head, &mut out);
        out.extend_from_slice(made.content());
        if self.answer(asker, &Part::whole(head, &out)).lives() {
            self.end_response(asker, made.keep_alive);
        }
    }

    /// Makes an answer.
    pub(super) fn make<'a>(&mut self, asked: &'a Asked, answer: &'a Answer) -> Made<'a> {
        // A page may have to wait for its reader, like any body.
        let is_bare = self.is_short_of_memory();
        let own = answer.page.as_ref();
        let page = asked
            .page(answer.status)
            .filter(|_| own.is_none() && !asked.is_grpc && !is_bare);
        let request_id = asked.request_id.as_ref();
        let request_id = request_id
            .and_then(|id| std::str::from_utf8(id).ok())
            .unwrap_or_default();
        let mut lines = Cow::Borrowed(&answer.lines);
        let content: Cow<'a, [u8]> = if let Some((body, _)) = page {
            body.into()
        } else if let Some(own) = own {
            (&*own.body).into()
        } else if asked.is_grpc {
            let of_http = || grpc::Status::of_http(answer.status);
            let status = answer.call.unwrap_or_else(of_http);
            status.write(reason_phrase(answer.status), lines.to_mut());
            Cow::default()
        } else if is_bare {
            Cow::default()
        } else {
            let mut plain = Vec::new();
            default_error_body(&mut plain, answer.status, request_id);
            plain.into()
        };
        let merged = asked.merged();
        let hsts = hsts_of(merged, &asked.listener);
        let reach = Reach::of(answer.status, true);
        // What no request is known of gets no lines, and so keeps all that it has.
        let edits = merged
            .and_then(Merged::response_edits)
            .filter(|_| asked.response_lines != Ok(None));
        if let Some(edits) = edits {
            lines = edits.without(lines, reach);
        }
        let content_type = match (own, page) {
            (Some(own), _) => &own.content_type,
            (None, Some((_, content_type))) => content_type,
            (None, None) if asked.is_grpc => grpc::CONTENT_TYPE,
            (None, None) => DEFAULT_CONTENT_TYPE,
        };
        let mut edited = asked.response_lines.clone().ok().flatten();
        let kind = (answer.status, content_type);
        let content = self.compress_page(asked, kind, content, (&mut lines, &mut edited));
        let closing = self.is_leaving(asked.asker);
        Made {
            status: answer.status,
            content_type,
            page: content,
            sends_page: !asked.head_only && has_page(answer.status),
            generation: asked.generation_header.as_deref(),
            hsts: hsts.unwrap_or_default(),
            own: lines,
            edited,
            dropped: edits.map_or(&[], |edits| edits.drops(reach)),
            request_id,
            date: *self.clock.date(),
            keep_alive: asked.keep_alive && !closing,
        }
    }
}

/// Whether an answer of this status has a page to tell of.
fn has_page(status: u16) -> bool {
    !matches!(status, 204 | 304)
}
