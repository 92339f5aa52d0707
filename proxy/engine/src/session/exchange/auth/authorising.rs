//! Requests that wait until somebody else has let them pass.
//!
//! Rule: a request that waits is parked: its exchange is there, so that its client can leave, be cut or run out of
//! memory like any, and has no attempt; its head is kept, since the stages behind have yet to see it, and its
//! body is not read, so that none of it is lost. Whom it asks is a call of its own, which has one deadline and
//! resumes it by a ticket; whatever becomes of the call, it resumes. What is no verdict lets nobody pass. Called
//! by `request` where a stage waits, and by `call` with what was answered.

use std::rc::Rc;

use crate::policy::changes::edits::Made;
use crate::policy::changes::room::Overgrown;
use crate::policy::facts::Facts;
use crate::policy::guards::basic::{Basic, Shown};
use crate::policy::guards::verdicts::{Seal, kept_ms};
use crate::policy::merged::{Author, Merged};
use crate::policy::plan::Changes;
use crate::policy::{self, Step};
use crate::protocol::h1::request::RequestHead;
use crate::protocol::h1::{Field, Forward, RequestBody, ResponseBody, ResponseHead, Version};
use crate::protocol::lines::{LineBuf, Lines};
use crate::protocol::sent::Form;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::again::Again;
use crate::session::exchange::auth::heard::{Heard, refuses};
use crate::session::exchange::body::Body;
use crate::session::exchange::identity::text::AddressText;
use crate::session::exchange::own::{Answer, outcome_of};
use crate::session::exchange::waiting::Wanted;
use crate::session::exchange::{Exchange, Outcome, Parties};
use crate::session::front::answer::{Head, Part};
use crate::session::front::asker::Asker;
use crate::session::ids::{CallId, ExchangeId, TicketId};
use crate::state::entity::ForwardAuth;
use crate::telemetry::names::Counter;
use crate::upstream::Cluster;

/// A request that waits, and what its stages need.
pub(in crate::session) struct Parked {
    head: RequestHead,
    bytes: Vec<u8>,
    /// So many have let it pass.
    passed: usize,
    /// By which the one that is asked resumes it.
    pub(in crate::session::exchange) ticket: Option<TicketId>,
    /// What those have said of it, as lines of its head.
    lines: LineBuf,
    /// Who is asked, one after the other.
    clusters: Box<[Rc<Cluster>]>,
    /// Its frontend leads to no cluster.
    ends_here: bool,
    /// By which the word of whoever is asked now is remembered, if it is.
    seal: Option<Seal>,
    /// Which limit has refused it.
    pub(in crate::session::exchange) limit: Option<Box<str>>,
}

impl Parked {
    pub(in crate::session::exchange) fn new(
        head: &RequestHead,
        bytes: &[u8],
        passed: usize,
        clusters: Box<[Rc<Cluster>]>,
        ends_here: bool,
    ) -> Self {
        Self {
            head: head.clone(),
            bytes: bytes.to_vec(),
            passed,
            ticket: None,
            lines: LineBuf::default(),
            clusters,
            ends_here,
            seal: None,
            limit: None,
        }
    }

    /// What is counted as memory that waits.
    pub(in crate::session::exchange) fn weight(&self) -> usize {
        self.bytes.len() + self.head.fields.len() * size_of::<Field>()
    }
}

/// How many files of users are asked before anybody else is.
fn passwords_of(merged: Option<&Merged>) -> usize {
    merged.map_or(0, |merged| merged.basics().len())
}

impl<D: Driver> Engine<D> {
    /// The clusters of those who are asked for a frontend.
    pub(in crate::session::exchange) fn authorisers(
        &self,
        merged: Option<&Merged>,
    ) -> Box<[Rc<Cluster>]> {
        let asked = merged.map_or(&[][..], Merged::asked);
        let clusters = &self.tables.running.clusters;
        asked
            .iter()
            .filter_map(|asked| clusters.get(&asked.cluster).cloned())
            .collect()
    }

    /// Asks the next of those who are to let a request pass.
    pub(in crate::session::exchange) fn ask(&mut self, id: ExchangeId) {
        let exchange = &self.exchanges[id];
        let Some(parked) = exchange.parked.as_deref() else {
            return;
        };
        let merged = exchange.merged();
        let Some(next) = parked.passed.checked_sub(passwords_of(merged)) else {
            return self.ask_for_password(id);
        };
        let asked = merged.and_then(|it| it.asked().get(next));
        let cluster = parked.clusters.get(next);
        let (Some(asked), Some(cluster)) = (asked.cloned(), cluster.cloned()) else {
            return self.let_nobody_pass(id, "authoriser_failed");
        };
        let seal = self.seal_of(exchange, parked, &asked);
        let now_ns = self.clock.host_ns();
        if let Some(lines) = seal.and_then(|seal| self.verdicts.known(&seal, now_ns)) {
            self.metrics.add(Counter::AuthorisationsKnownTotal, 1);
            return self.let_pass(id, lines.lines());
        }
        self.metrics.add(Counter::AuthorisationsTotal, 1);
        let form = Form::of(cluster.settings().is_multiplexed());
        let head = self.question(exchange, parked, &asked, form);
        let beside = exchange.asker;
        let call = self.open_call(beside, Some(Box::default()));
        let exchange = &self.exchanges[id];
        let parties = Parties {
            asker: Asker::Call(call),
            // What is heard need not be framed.
            version: Version::Http2,
            listener: exchange.listener.clone(),
            frontend: exchange.frontend.clone(),
            cluster,
            tables: &self.tables,
        };
        let record = self.blank_record(exchange.record.request_id);
        let mut question = Exchange::new(parties, record);
        question.keep_head(head);
        question.replayable = true;
        let again = Again::of(&question.cluster, b"GET", &question.request);
        self.note_again(&mut question, again);
        let ticket = self.wait(id, Wanted::Verdict(call));
        if let Some(heard) = self.calls[call].heard.as_mut() {
            heard.ticket = Some(ticket);
        }
        if let Some(parked) = self.exchanges[id].parked.as_mut() {
            parked.ticket = Some(ticket);
            parked.seal = seal;
        }
        self.send_call(call, question, asked.timeout);
    }

    /// By which the word about a request is remembered, if it is.
    fn seal_of(&self, exchange: &Exchange, parked: &Parked, asked: &ForwardAuth) -> Option<Seal> {
        asked.cache.as_ref()?;
        let at = (&parked.head, parked.bytes.as_slice());
        let (frontend, record) = (Some(&*exchange.frontend), &exchange.record);
        let facts = self.facts(exchange.asker, &exchange.listener, at, frontend, record);
        self.verdicts.seal(asked, &facts)
    }

    /// The head of what is asked: what the request says, and what it is about.
    fn question(
        &self,
        exchange: &Exchange,
        parked: &Parked,
        asked: &ForwardAuth,
        form: Form,
    ) -> Vec<u8> {
        let Parked { head, bytes, .. } = parked;
        let (asker, listener) = (exchange.asker, &exchange.listener);
        let uri = [
            head.path(bytes),
            head.query(bytes).map_or(&[], |_| b"?"),
            head.query(bytes).unwrap_or_default(),
        ]
        .concat();
        let frontend = Some(&*exchange.frontend);
        let facts = self.facts(asker, listener, (head, bytes), frontend, &exchange.record);
        let mut lines = LineBuf::with_room(256);
        lines.push(b"X-Forwarded-Method", head.method(bytes));
        lines.push(b"X-Forwarded-Uri", &uri);
        lines.push(b"X-Original-Method", head.method(bytes));
        let authority = head.authority(bytes);
        let scheme = facts.scheme().as_bytes();
        let url = [scheme, b"://", authority, &uri].concat();
        lines.push(b"X-Original-URL", &url);
        let address = AddressText::new(self.client_of(asker).peer);
        let mut forward: Forward<'_> = self.told(
            asker,
            listener,
            &address,
            RequestBody::None,
            &exchange.record.request_id,
        );
        forward.changed.lines = lines.lines();
        let mut out = Vec::with_capacity(bytes.len() + lines.lines().size() + 512);
        let path = asked.path.as_bytes();
        form.write_question(&mut out, bytes, head, path, &forward);
        out
    }

    /// More of what was answered to a call, if anybody listens.
    pub(in crate::session) fn hear(&mut self, id: CallId, part: &Part<'_>) {
        let call = self.calls.get_mut(id);
        let Some(heard) = call.and_then(|call| call.heard.as_deref_mut()) else {
            return;
        };
        if let Some(Head::Passed { text, head, .. }) = part.head {
            heard.hear_head(text, head);
        }
        let kept = heard.hear_body(part.bytes) + heard.hear_body(part.tail);
        self.pool.hold(kept);
    }

    /// Who was asked has answered, or will not.
    pub(in crate::session::exchange) fn heard_all(&mut self, heard: Heard, outcome: Outcome) {
        self.pool.release(heard.body.len());
        let Some(id) = heard.ticket.and_then(|ticket| self.resume(ticket)) else {
            return;
        };
        let exchange = &mut self.exchanges[id];
        let Some(parked) = exchange.parked.as_mut() else {
            return;
        };
        parked.ticket = None;
        let fault = heard.fault(outcome);
        match (heard.head, fault) {
            (_, Some(fault)) => self.let_nobody_pass(id, fault),
            (Some((head, text)), None) if refuses(head.status) => {
                self.pass_refusal_on(id, head, &text, &heard.body);
            }
            (head, None) => {
                let lines = self.copied(id, head.as_ref().map(|(head, text)| (head, &**text)));
                self.let_pass(id, lines.lines());
            }
        }
    }

    /// What was said of a request that may pass, as lines of its head: remembered, if it counts for others.
    fn copied(&mut self, id: ExchangeId, said: Option<(&ResponseHead, &[u8])>) -> LineBuf {
        let mut lines = LineBuf::default();
        let exchange = &mut self.exchanges[id];
        let merged = exchange.frontend.merged(&exchange.listener);
        let (Some(parked), Some((head, text))) = (exchange.parked.as_deref_mut(), said) else {
            return lines;
        };
        let next = parked.passed.checked_sub(passwords_of(merged));
        let Some(asked) = next.and_then(|next| merged?.asked().get(next)) else {
            return lines;
        };
        for name in &asked.copy_headers {
            for value in head.values(text, name).filter(|value| !value.is_empty()) {
                lines.push(name.as_bytes(), value);
            }
        }
        if let (Some(seal), Some(cache)) = (parked.seal.take(), &asked.cache) {
            let said = head.values(text, "cache-control");
            let ttl_ms = said.fold(cache.ttl, |ttl, value| ttl.min(kept_ms(value)));
            let ends_ns = self.clock.host_ns() + ttl_ms * 1_000_000;
            if ttl_ms > 0 {
                self.verdicts.remember(seal, lines.lines(), ends_ns);
            }
        }
        lines
    }

    /// A request that may pass: what is said of it becomes its own, and it goes on to the next stage.
    fn let_pass(&mut self, id: ExchangeId, lines: Lines<'_>) {
        let exchange = &mut self.exchanges[id];
        let merged = exchange.frontend.merged(&exchange.listener);
        let Some(parked) = exchange.parked.as_deref_mut() else {
            return;
        };
        let next = parked.passed.checked_sub(passwords_of(merged));
        let says = |name: &str| {
            let author = next.map(Author::Asked);
            merged.is_some_and(|it| author.is_some_and(|author| it.is_said_by(name, author)))
        };
        for line in lines {
            if std::str::from_utf8(line.name()).is_ok_and(says) {
                parked.lines.push(line.name(), line.value());
            }
        }
        parked.passed += 1;
        self.go_on(id);
    }

    /// Has the password that a request shows looked up.
    fn ask_for_password(&mut self, id: ExchangeId) {
        let Some((basic, shown)) = self.shown_by(id) else {
            return self.fail_exchange(id, 500, Outcome::InternalError);
        };
        match shown {
            Shown::Known => self.let_pass(id, Lines::default()),
            Shown::Nothing => self.refuse_unknown(id, basic.refusal()),
            Shown::Unknown(claim) => match self.look_up(id, claim) {
                Some(ticket) => {
                    if let Some(parked) = &mut self.exchanges[id].parked {
                        parked.ticket = Some(ticket);
                    }
                }
                None => self.refuse_unknown(id, Basic::too_many()),
            },
        }
    }

    /// What a request shows that waits, and whom it has to convince.
    fn shown_by(&self, id: ExchangeId) -> Option<(Basic, Shown)> {
        let exchange = &self.exchanges[id];
        let parked = exchange.parked.as_deref()?;
        let basic = exchange.merged()?.basics().get(parked.passed)?;
        let facts = self.facts(
            exchange.asker,
            &exchange.listener,
            (&parked.head, parked.bytes.as_slice()),
            Some(&exchange.frontend),
            &exchange.record,
        );
        Some((basic.clone(), basic.look(&facts)))
    }

    /// A password has been looked up.
    pub(super) fn password_found(&mut self, id: ExchangeId, is_right: bool) {
        let exchange = &mut self.exchanges[id];
        let merged = exchange.frontend.merged(&exchange.listener);
        let Some(parked) = exchange.parked.as_mut() else {
            return;
        };
        parked.ticket = None;
        let basic = merged
            .and_then(|it| it.basics().get(parked.passed))
            .cloned();
        match basic {
            Some(_) if is_right => self.let_pass(id, Lines::default()),
            Some(basic) => self.refuse_unknown(id, basic.refusal()),
            None => self.fail_exchange(id, 500, Outcome::InternalError),
        }
    }

    /// Answers a request of which nobody knows who asks.
    fn refuse_unknown(&mut self, id: ExchangeId, decided: policy::Answer) {
        self.tell_quotas(id);
        self.refuse_parked(id, decided);
    }

    /// Has the answer to a request that comes no further tell what is left of the rates that have counted it.
    fn tell_quotas(&mut self, id: ExchangeId) {
        let exchange = &self.exchanges[id];
        let (Some(parked), Some(merged)) = (exchange.parked.as_deref(), exchange.merged()) else {
            return;
        };
        let facts = self.facts(
            exchange.asker,
            &exchange.listener,
            (&parked.head, parked.bytes.as_slice()),
            Some(&exchange.frontend),
            &exchange.record,
        );
        if let Some(told) = merged.quotas_before(&facts) {
            let lines = &mut self.exchanges[id].response_lines;
            *lines = Some(Made::behind(lines.take(), told.lines()));
        }
    }

    fn refuse_parked(&mut self, id: ExchangeId, decided: policy::Answer) {
        let decided = match self.say_to_client(id, decided.said.lines()) {
            Ok(()) => decided,
            Err(overgrown) => overgrown.into(),
        };
        let outcome = outcome_of(decided.reason).0;
        self.count_refusal(&decided);
        self.count_tokens();
        let mut answer = Answer::from(decided);
        let exchange = &mut self.exchanges[id];
        exchange.record.reason = answer.fault;
        if let Some(parked) = &mut exchange.parked {
            parked.limit = answer.limit.take();
        }
        self.answer_instead(id, answer, outcome);
    }

    /// Has the lines of an answer go by who asks, where that is known.
    fn say_to_client(&mut self, id: ExchangeId, said: Lines<'_>) -> Result<(), Overgrown> {
        let exchange = &self.exchanges[id];
        let Some(parked) = exchange.parked.as_deref().filter(|_| !said.is_empty()) else {
            return Ok(());
        };
        let at = (&parked.head, parked.bytes.as_slice(), said);
        let (frontend, record) = (&exchange.frontend, &exchange.record);
        let lines =
            self.lines_of_answer(exchange.asker, &exchange.listener, at, frontend, record)?;
        self.exchanges[id].response_lines = lines;
        Ok(())
    }

    /// Takes a request on that waits no more.
    fn go_on(&mut self, id: ExchangeId) {
        let exchange = &self.exchanges[id];
        let Some(parked) = exchange.parked.as_deref() else {
            return;
        };
        let (frontend, at) = (&exchange.frontend, (&parked.head, parked.bytes.as_slice()));
        let facts = Facts {
            said: parked.lines.lines(),
            ..self.facts(
                exchange.asker,
                &exchange.listener,
                at,
                Some(frontend),
                &exchange.record,
            )
        };
        let (entity, plan, merged) = (frontend.entity(), frontend.plan(), exchange.merged());
        let decided = policy::go_on(entity, plan, merged, &facts, parked.passed);
        if merged.is_some_and(Merged::is_metered) {
            self.count_rates();
        }
        match decided {
            Step::Wait(next) => {
                if let Some(parked) = &mut self.exchanges[id].parked {
                    parked.passed = next;
                }
                self.ask(id);
            }
            Step::Answer(decided) => {
                self.in_flight.give_up();
                self.refuse_parked(id, decided);
            }
            // What has no cluster answers all requests itself.
            Step::Forward(_) if parked.ends_here => {
                self.in_flight.give_up();
                self.fail_exchange(id, 500, Outcome::InternalError);
            }
            Step::Forward(changes) => self.forward_parked(id, changes),
        }
    }

    /// Gives a request to its backends, with the head that it has come to.
    fn forward_parked(&mut self, id: ExchangeId, changes: Option<Box<Changes>>) {
        let exchange = &mut self.exchanges[id];
        let Some(mut parked) = exchange.parked.take() else {
            return;
        };
        if let Err(overgrown) = self.know(id, &parked, changes.as_deref()) {
            self.exchanges[id].parked = Some(parked);
            return self.refuse_parked(id, overgrown.into());
        }
        self.pool.release(parked.weight());
        let exchange = &mut self.exchanges[id];
        let (asker, listener) = (exchange.asker, exchange.listener.clone());
        let is_switching = exchange.upgrade.is_some();
        let request_id = exchange.record.request_id;
        let (form, other_form) = (exchange.head_form, exchange.form_for_mirrors());
        let merged = exchange.frontend.merged(&listener);
        for name in merged.into_iter().flat_map(Merged::left_out) {
            parked.head.drop_fields(&parked.bytes, name.as_bytes());
        }
        let as_sent = (&parked.head, parked.bytes.as_slice(), is_switching);
        let (told, changes) = ((asker, &*listener, &request_id[..]), changes.as_deref());
        let head = self.head_of(told, as_sent, changes, form);
        let for_mirrors = other_form.map(|it| self.head_of(told, as_sent, changes, it));
        let spare = self.spare_of(&self.exchanges[id], parked.head.method(&parked.bytes));
        let spare_form = spare.as_deref().and_then(|it| it.form_beside(form));
        let spare_head = spare_form.map(|it| self.head_of(told, as_sent, changes, it));
        let exchange = &mut self.exchanges[id];
        exchange.keep_head(head);
        exchange.keep_spare(spare, spare_head);
        self.pool.hold(exchange.head_bytes as usize);
        // Those that were there when it came may have been taken out meanwhile.
        exchange.backends = exchange.served_by.backends();
        let method = parked.head.method(&parked.bytes);
        exchange.again = Again::of(&exchange.cluster, method, &exchange.request);
        self.count_in_budget(&self.exchanges[id]);
        self.await_request_body(id);
        self.forward(id, for_mirrors);
        if self.exchanges.contains(id) {
            self.wake_asker(asker);
        }
    }

    /// Has what goes by who it is begin, since that is known now: where it goes, what its answer says, and where it
    /// is counted.
    fn know(
        &mut self,
        id: ExchangeId,
        parked: &Parked,
        changes: Option<&Changes>,
    ) -> Result<(), Overgrown> {
        let Some(changes) = changes else {
            return Ok(());
        };
        let exchange = &self.exchanges[id];
        let (asker, listener) = (exchange.asker, &exchange.listener);
        let (frontend, record) = (&exchange.frontend, &exchange.record);
        let (head, bytes) = (&parked.head, parked.bytes.as_slice());
        let at = (head, bytes, changes.said.lines());
        let cluster = self.cluster_of(frontend, asker, listener, at, record);
        let lines = self.lines_of_answer(asker, listener, at, frontend, record)?;
        let exchange = &mut self.exchanges[id];
        exchange.response_lines = match changes.answered.as_ref() {
            Some(told) => Some(Made::behind(lines, told.lines())),
            None => lines,
        };
        if let Some(cluster) = cluster {
            exchange.go_to(cluster);
        }
        if let Some(keys) = &changes.crowd {
            self.in_flight.enter(keys);
            let before = exchange.crowd.take().unwrap_or_default();
            exchange.crowd = Some([&before[..], keys].concat().into());
        }
        Ok(())
    }

    /// A refusal leaves as the answer of a backend does. Of a call of gRPC the status says it, and not a page.
    fn pass_refusal_on(
        &mut self,
        id: ExchangeId,
        mut head: ResponseHead,
        text: &[u8],
        body: &[u8],
    ) {
        self.metrics.add(Counter::AuthorisationsRefusedTotal, 1);
        self.tell_quotas(id);
        let exchange = &self.exchanges[id];
        if exchange.is_grpc() {
            return self.fail_exchange(id, head.status, Outcome::AuthorisationRefused);
        }
        let length = body.len() as u64;
        head.content_length = Some(length);
        let (kind, left) = match (exchange.head_only, length) {
            (true, _) => (ResponseBody::None, Body::Done),
            (false, 0) => (ResponseBody::Length(0), Body::Done),
            (false, _) => (ResponseBody::Length(length), Body::Length(length)),
        };
        head.body = kind;
        let sent = if exchange.head_only { &[] } else { body };
        self.response_arrived(id, &mut head, text, left, sent);
    }

    fn let_nobody_pass(&mut self, id: ExchangeId, fault: &'static str) {
        self.metrics.add(Counter::AuthorisationsFailedTotal, 1);
        self.tell_quotas(id);
        self.exchanges[id].record.reason = Some(fault);
        self.fail_exchange(id, 503, Outcome::AuthorisationFailed);
    }
}
