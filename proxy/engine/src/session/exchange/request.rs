//! The request's way in: a head is complete, and is admitted, routed and given to a backend, or answered.
//!
//! Rule: a head has one form whatever version it came by. Called by `front` with each that is whole.

use std::rc::Rc;
use std::sync::Arc;

use crate::policy::changes::edits::Made;
use crate::policy::changes::room::Overgrown;
use crate::policy::facts::Facts;
use crate::policy::limits::bounds::Bounds;
use crate::policy::merged::Merged;
use crate::policy::plan::Changes;
use crate::policy::{self, Page, Step};
use crate::protocol::h1::forward::{Changed, Forward};
use crate::protocol::h1::reply::DEFAULT_CONTENT_TYPE;
use crate::protocol::h1::request::RequestHead;
use crate::protocol::h1::{ChunkLimits, ChunkedDecoder, RequestBody, Version};
use crate::protocol::lines::Lines;
use crate::protocol::sent::Form;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::again::Again;
use crate::session::exchange::auth::authorising::Parked;
use crate::session::exchange::body::Body;
use crate::session::exchange::filters::compressing::{Compressing, wanted};
use crate::session::exchange::identity::text::AddressText;
use crate::session::exchange::own::{Answer, Asked};
use crate::session::exchange::record::{Record, Tally, is_call};
use crate::session::exchange::{Exchange, Outcome, Parties, Switch};
use crate::session::front::asker::Asker;
use crate::session::ids::ExchangeId;
use crate::state::entity::is_idempotent;
use crate::state::frontend::{Frontend, Mirror};
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::Counter;
use crate::tls::client_identity::ClientIdentity;
use crate::upstream::{Cluster, ClusterSettings};

/// A request that goes to a backend, now or when it has been let pass.
struct Admitted {
    frontend: Rc<Frontend>,
    cluster: Rc<Cluster>,
    /// Those that its answer gets.
    lines: Option<Made>,
    then: Then,
}

/// What is next for it.
enum Then {
    Forward(Option<Box<Changes>>),
    /// These are asked first, one after the other, from the one on that is `next`. `ends_here`: it has no cluster
    /// of its own, and is counted by that of the first, if they have some.
    Ask {
        next: usize,
        clusters: Box<[Rc<Cluster>]>,
        ends_here: bool,
    },
}

impl Then {
    fn changes(&self) -> Option<&Changes> {
        match self {
            Self::Forward(changes) => changes.as_deref(),
            Self::Ask { .. } => None,
        }
    }
}

/// An answer of our own, and the frontend that has it answered, if one has taken the request.
struct Own {
    frontend: Option<Rc<Frontend>>,
    answer: Answer,
}

impl Own {
    /// To a request that a frontend has taken.
    fn of(frontend: Rc<Frontend>, answer: Answer) -> Box<Self> {
        Box::new(Self {
            frontend: Some(frontend),
            answer,
        })
    }

    /// To a request that no frontend has taken, and that has a counter of its own.
    fn apart(status: u16, outcome: Outcome, counter: Counter) -> Box<Self> {
        let answer = Answer {
            counter: Some(counter),
            ..Answer::new(status, outcome.as_str(), Tally::Apart)
        };
        Box::new(Self {
            frontend: None,
            answer,
        })
    }
}

impl<D: Driver> Engine<D> {
    /// A head is complete: from here on one generation serves this request.
    pub(in crate::session) fn request_arrived(
        &mut self,
        asker: Asker,
        listener: &Rc<ListenerSettings>,
        head: &mut RequestHead,
        bytes: &[u8],
    ) {
        let request_id = self.request_ids.next();
        let trusted = listener.trusts(self.client_of(asker).peer.ip());
        let mut record = self.begin_record(head, bytes, request_id, trusted);
        if let Some(answer) = self.challenges.answer(head.path(bytes)) {
            // An authority asks whether the host is ours.
            let page = Page {
                body: answer.as_bytes().into(),
                content_type: DEFAULT_CONTENT_TYPE.into(),
            };
            let answer = Answer {
                page: Some(page),
                ..Answer::taken(200, Outcome::ChallengeAnswered)
            };
            let asked = self.asked(
                asker,
                listener,
                None,
                &record,
                (head, bytes, Lines::default()),
            );
            return self.answer_unbegun(&asked, record, &answer);
        }
        let frontend = self.route(asker, listener, head, bytes);
        if let Some(merged) = frontend.as_ref().and_then(|it| it.merged(listener)) {
            // Who it is only those say who are asked (T21).
            for name in merged.identifying() {
                head.drop_fields(bytes, name.as_bytes());
            }
        }
        let admitted = match self.admit(asker, listener, head, bytes, frontend, &record) {
            Ok(admitted) => admitted,
            Err(own) => {
                self.in_flight.give_up();
                let Own { frontend, answer } = *own;
                let at = (&*head, bytes, answer.said.lines());
                let asked = self.asked(asker, listener, frontend, &record, at);
                let answer = asked.in_room(answer);
                record.reason = answer.fault;
                return self.answer_unbegun(&asked, record, &answer);
            }
        };
        let (exchange, for_mirrors) =
            self.begin_exchange(asker, listener, head, bytes, admitted, record);
        self.begin_asking(asker);
        match self.exchanges[exchange].parked {
            None => self.forward(exchange, for_mirrors),
            Some(_) => self.ask(exchange),
        }
    }

    /// Gives a request to its backends, and to its mirrors, which have a head of their own if they are told otherwise.
    #[inline]
    pub(super) fn forward(&mut self, exchange: ExchangeId, for_mirrors: Option<Vec<u8>>) {
        let mirrors = !self.exchanges[exchange].frontend.mirrors().is_empty();
        self.try_backend(exchange);
        if mirrors {
            self.begin_mirrors(exchange, for_mirrors);
        }
    }

    /// Who serves a request; or else what we answer ourselves.
    fn admit(
        &self,
        asker: Asker,
        listener: &Rc<ListenerSettings>,
        head: &RequestHead,
        bytes: &[u8],
        frontend: Option<Rc<Frontend>>,
        record: &Record,
    ) -> Result<Admitted, Box<Own>> {
        if self.tables.via().has_passed(head, bytes) {
            let counter = Counter::Rejected508Total;
            return Err(Own::apart(508, Outcome::Loop, counter));
        }
        let asked = self.exchanges.len().saturating_sub(self.calls.len());
        let full = asked >= self.tables.settings.max_requests as usize || self.is_short_of_memory();
        if full {
            let counter = Counter::RefusedRequestsTotal;
            return Err(Own::apart(503, Outcome::Overloaded, counter));
        }
        if self.is_misdirected(asker, listener, head.host(bytes)) {
            let counter = Counter::Rejected421Total;
            return Err(Own::apart(421, Outcome::Misdirected, counter));
        }
        let Some(frontend) = frontend else {
            let counter = Counter::NotFound404Total;
            return Err(Own::apart(404, Outcome::NoFrontend, counter));
        };
        if self.slips_past(asker, listener, (head, bytes), &frontend, record) {
            let counter = Counter::Rejected400Total;
            return Err(Own::apart(400, Outcome::AmbiguousPath, counter));
        }
        let facts = self.facts(asker, listener, (head, bytes), Some(&frontend), record);
        let merged = frontend.merged(listener);
        let decided = policy::decide(frontend.entity(), frontend.plan(), merged, &facts);
        if merged.is_some_and(Merged::is_metered) {
            self.count_rates();
        }
        if merged.is_some_and(Merged::asks_for_tokens) {
            self.count_tokens();
        }
        let then = match decided {
            Step::Forward(changes) => Then::Forward(changes),
            Step::Wait(next) => Then::Ask {
                next,
                clusters: self.authorisers(merged),
                ends_here: false,
            },
            Step::Answer(answer) => {
                self.count_refusal(&answer);
                return Err(Own::of(frontend, answer.into()));
            }
        };
        let said = then
            .changes()
            .map_or(Lines::default(), |changes| changes.said.lines());
        let at = (head, bytes, said);
        let lines = match merged.and_then(Merged::response_edits) {
            None => Ok(None),
            Some(_) => self.lines_of_answer(asker, listener, at, &frontend, record),
        };
        let lines = match lines {
            Ok(lines) => lines,
            Err(overgrown) => {
                let answer = policy::Answer::from(overgrown);
                return Err(Own::of(frontend, answer.into()));
            }
        };
        let told = merged.and_then(|_| then.changes()?.answered.as_ref());
        let lines = match told {
            Some(told) => Some(Made::behind(lines, told.lines())),
            None => lines,
        };
        let cluster = self.cluster_of(&frontend, asker, listener, at, record);
        let (cluster, then) = match (cluster, then) {
            (Some(cluster), then) => (Some(cluster), then),
            (None, Then::Ask { next, clusters, .. }) => {
                let nowhere = || Rc::new(Cluster::nowhere(self.metrics.clone()));
                let cluster = clusters.first().cloned().unwrap_or_else(nowhere);
                let then = Then::Ask {
                    next,
                    clusters,
                    ends_here: true,
                };
                (Some(cluster), then)
            }
            (None, then) => (None, then),
        };
        match cluster {
            Some(cluster) => Ok(Admitted {
                frontend,
                cluster,
                lines,
                then,
            }),
            // What has no cluster answers all requests itself.
            None => Err(Own::of(
                frontend,
                Answer::taken(500, Outcome::InternalError),
            )),
        }
    }

    /// A request as the stages of its frontend see it.
    #[inline]
    pub(super) fn facts<'a>(
        &'a self,
        asker: Asker,
        listener: &'a ListenerSettings,
        (head, bytes): (&'a RequestHead, &'a [u8]),
        frontend: Option<&'a Frontend>,
        record: &'a Record,
    ) -> Facts<'a> {
        let client = self.client_of(asker);
        Facts {
            head,
            bytes,
            said: Lines::default(),
            claims: &[],
            listener,
            listener_name: &client.listener.name,
            peer: client.peer.ip(),
            is_early: client.stream.is_early(),
            client: client.identity.as_deref(),
            tls_version: client.stream.tls_version(),
            own_id: &record.request_id,
            frontend_name: frontend.map_or("", |frontend| &frontend.entry().name),
            frontend_listeners: frontend.map_or(&[], |frontend| &frontend.entity().listeners),
            vault: &self.vault,
            tokens: &self.tokens,
            meter: &self.meter,
            refused: &self.refused,
            in_flight: &self.in_flight,
            now_ns: self.clock.host_ns(),
            unix_us: self.clock.unix_us(),
            listeners: &self.tables.running.listeners,
        }
    }

    /// The lines that the answer to a request gets of which that is said.
    pub(super) fn lines_of_answer(
        &self,
        asker: Asker,
        listener: &ListenerSettings,
        (head, bytes, said): (&RequestHead, &[u8], Lines<'_>),
        frontend: &Frontend,
        record: &Record,
    ) -> Result<Option<Made>, Overgrown> {
        let Some(merged) = frontend.merged(listener) else {
            return Ok(None);
        };
        merged.response_lines(|| Facts {
            said,
            ..self.facts(asker, listener, (head, bytes), Some(frontend), record)
        })
    }

    /// What an answer of our own needs to know of a request that no exchange is begun for.
    fn asked(
        &self,
        asker: Asker,
        listener: &Rc<ListenerSettings>,
        frontend: Option<Rc<Frontend>>,
        record: &Record,
        (head, bytes, said): (&RequestHead, &[u8], Lines<'_>),
    ) -> Asked {
        let merged = match &frontend {
            Some(frontend) => frontend.merged(listener),
            None => listener.said().map(|(_, merged)| merged),
        };
        let facts = || Facts {
            said,
            ..self.facts(asker, listener, (head, bytes), frontend.as_deref(), record)
        };
        Asked {
            asker,
            listener: listener.clone(),
            settings: self.tables.settings.clone(),
            generation_header: self.tables.generation_header(),
            coding: merged
                .and_then(Merged::compression)
                .and_then(|compression| wanted(compression, head, bytes)),
            response_lines: merged.map_or(Ok(None), |merged| merged.response_lines(facts)),
            frontend,
            request_id: Some(record.request_id),
            is_grpc: is_call(head, bytes),
            head_only: head.method(bytes) == b"HEAD",
            // A body that nobody reads would be taken for the next request.
            keep_alive: head.keep_alive
                && matches!(head.body, RequestBody::None | RequestBody::Length(0)),
        }
    }

    /// Whether the TLS of a host is not ours to end, although the request has come over ours: by a
    /// connection for another host whose certificate is valid for this one too (RFC 9113 §9.1.1).
    fn is_misdirected(&self, asker: Asker, listener: &ListenerSettings, host: &[u8]) -> bool {
        listener.tls.is_some()
            && !self
                .client_of(asker)
                .listener
                .routes
                .passthroughs
                .borrow()
                .is_empty()
            && self
                .passthrough_of(self.connection_of(asker), host)
                .is_some()
    }

    /// From here on one generation serves a request. And the head for its mirrors, if that is another one.
    fn begin_exchange(
        &mut self,
        asker: Asker,
        listener: &Rc<ListenerSettings>,
        head: &mut RequestHead,
        bytes: &[u8],
        admitted: Admitted,
        record: Record,
    ) -> (ExchangeId, Option<Vec<u8>>) {
        let Admitted {
            frontend,
            cluster,
            lines,
            then,
        } = admitted;
        let upgrade = head
            .upgrade(bytes)
            .filter(|protocol| frontend.entity().passes_on(protocol))
            .map(|protocol| Box::new(Switch::of(protocol, head, bytes)));
        let merged = frontend.merged(listener);
        // What backends are told of it may be something else.
        let compressing = Compressing::of(merged, head, bytes);
        let crowd = merged.and_then(|merged| {
            merged
                .crowd_keys(|| self.facts(asker, listener, (head, bytes), Some(&frontend), &record))
        });
        let behind = then.changes().and_then(|changes| changes.crowd.as_deref());
        let crowd = self.in_flight.enter_all(crowd, behind);
        let shares = self.shares_of(asker, &frontend.entry().name, merged);
        let parties = Parties {
            asker,
            version: head.version,
            listener: listener.clone(),
            frontend,
            cluster,
            tables: &self.tables,
        };
        let mut exchange = Exchange::new(parties, record);
        exchange.upgrade = upgrade;
        let mut for_mirrors = None;
        match then {
            Then::Ask {
                next,
                clusters,
                ends_here,
            } => {
                let parked = Parked::new(head, bytes, next, clusters, ends_here);
                exchange.parked = Some(Box::new(parked));
            }
            Then::Forward(changes) => {
                let merged = exchange.frontend.merged(listener);
                if let Some(merged) = merged {
                    for name in merged.left_out() {
                        head.drop_fields(bytes, name.as_bytes());
                    }
                }
                let as_sent = (&*head, bytes, exchange.upgrade.is_some());
                let told = (asker, &**listener, &exchange.record.request_id[..]);
                let changes = changes.as_deref();
                let form = exchange.head_form;
                for_mirrors = exchange
                    .form_for_mirrors()
                    .map(|it| self.head_of(told, as_sent, changes, it));
                let kept = self.head_of(told, as_sent, changes, form);
                let spare = self.spare_of(&exchange, head.method(bytes));
                let spare_form = spare.as_deref().and_then(|it| it.form_beside(form));
                let spare_head = spare_form.map(|it| self.head_of(told, as_sent, changes, it));
                exchange.keep_head(kept);
                exchange.keep_spare(spare, spare_head);
            }
        }
        let head = &*head;
        let method = head.method(bytes);
        exchange.request = body_of(head, &exchange);
        exchange.request_chunked =
            head.body == RequestBody::Chunked && !exchange.cluster.is_multiplexed();
        exchange.keep_alive = head.keep_alive;
        exchange.head_only = method == b"HEAD";
        exchange.replayable = exchange.request.is_done() && is_idempotent(method);
        if exchange.parked.is_none() {
            let again = Again::of(&exchange.cluster, method, &exchange.request);
            self.note_again(&mut exchange, again);
        }
        exchange.expects_continue = head.expect_continue;
        // A call has a body, if only the end of one.
        exchange.is_grpc = (head.version == Version::Http2 || head.body != RequestBody::None)
            && is_call(head, bytes);
        exchange.response_lines = lines;
        exchange.compressing = compressing;
        exchange.crowd = crowd;
        self.metrics.add(Counter::RequestsTotal, 1);
        let waits = exchange.parked.as_ref().map(|parked| parked.weight());
        let exchange = self.insert_exchange(exchange);
        self.begin_pacing(exchange, shares);
        match waits {
            None => self.await_request_body(exchange),
            // Nor is any of its body read.
            Some(weight) => self.pool.hold(weight),
        }
        (exchange, for_mirrors)
    }

    /// The head as backends get it.
    pub(super) fn head_of(
        &mut self,
        (asker, listener, request_id): (Asker, &ListenerSettings, &[u8]),
        (head, bytes, upgrade): (&RequestHead, &[u8], bool),
        changes: Option<&Changes>,
        form: Form,
    ) -> Vec<u8> {
        let mut out = self.pool.take();
        let address = AddressText::new(self.client_of(asker).peer);
        let mut forward = self.told(asker, listener, &address, head.body, request_id);
        forward.upgrade = upgrade;
        if let Some(changes) = changes {
            forward.changed = changes.as_written();
        }
        form.write_request(&mut out, bytes, head, &forward);
        out
    }

    /// What others are told of a request and of its client.
    #[inline(always)]
    pub(super) fn told<'a>(
        &'a self,
        asker: Asker,
        listener: &ListenerSettings,
        address: &'a AddressText,
        body: RequestBody,
        request_id: &'a [u8],
    ) -> Forward<'a> {
        let client = self.client_of(asker);
        Forward {
            client_ip: address.ip(),
            client_port: 0,
            listener_port: client.listener.address.port(),
            scheme: listener.scheme(),
            trusted: listener.trusts(client.peer.ip()),
            client_cert: client.identity.as_deref().map(ClientIdentity::header),
            request_id,
            early: client.stream.is_early(),
            upstream_keep_alive: true,
            upgrade: false,
            body,
            via: self.tables.via(),
            changed: Changed::default(),
        }
    }
}

impl Exchange {
    /// Goes to another cluster than was thought, before any attempt and before its body is read.
    pub(super) fn go_to(&mut self, cluster: Rc<Cluster>) {
        if !Rc::ptr_eq(&cluster, &self.served_by) {
            let settings = cluster.settings();
            self.be_served_by(cluster, settings);
        }
    }

    /// The same, by these settings of it.
    pub(super) fn be_served_by(&mut self, cluster: Rc<Cluster>, settings: Arc<ClusterSettings>) {
        cluster.begin();
        self.served_by.end();
        self.cluster = settings;
        self.head_form = Form::of(self.cluster.is_multiplexed());
        let said = self.merged().and_then(Merged::bounds);
        self.bounds = Bounds::of(said, &self.listener.entity, &self.cluster.entity.timeouts);
        self.request_chunked = self.request.has_no_length() && !self.cluster.is_multiplexed();
        self.served_by = cluster;
    }
}

impl Exchange {
    /// The form of the head for its mirrors, if one of them needs another one than that for its backends.
    pub(super) fn form_for_mirrors(&self) -> Option<Form> {
        let mut forms = self.frontend.mirrors().iter().map(Mirror::form);
        forms.find(|form| *form != self.head_form)
    }
}

/// What is to come of a request's body.
fn body_of(head: &RequestHead, exchange: &Exchange) -> Body {
    match head.body {
        RequestBody::None | RequestBody::Length(0) => Body::Done,
        RequestBody::Length(length) => Body::Length(length),
        // Frames are taken apart where they come, and their end is told.
        RequestBody::Chunked if head.version == Version::Http2 => Body::UntilClose,
        RequestBody::Chunked => Body::Chunked(Box::new(ChunkedDecoder::new(ChunkLimits {
            drops_trailers: exchange.drops_trailers(),
            ..ChunkLimits::default()
        }))),
    }
}
