//! Requests for which no backend can be asked, and who serves them then: another cluster, or an answer of the configuration.
//!
//! Rule: what is to be there then is found when the request begins, as all that serves it, and costs those nothing whose
//! cluster names none. Nothing of a request has gone anywhere when it falls back, so that its head is told once more as it
//! was, or in the form of the other cluster; whoever serves it then has no fallback of his own. Called by `attempt` where no
//! try is left, and by `request` and `authorising` when a head is made.

use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::sent::Form;
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::again::Again;
use crate::session::exchange::attempt::Tries;
use crate::session::exchange::body::Body;
use crate::session::exchange::own::Answer;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::ExchangeId;
use crate::telemetry::names::Field;
use crate::upstream::{BackendSet, Cluster, ClusterSettings};

/// What a request has for when no backend can be asked.
pub(in crate::session) struct Spare {
    /// Who serves it then; none where an answer does, and once it is served so.
    to: Option<Serving>,
    /// The head in the form that those are told whom `Exchange::head` is not for.
    head: Vec<u8>,
    /// What it has for further attempts there.
    again: Option<Box<Again>>,
    /// Whose requests it is one of, once it is served by another.
    of: Option<Rc<Cluster>>,
}

/// A cluster as a request finds it.
struct Serving {
    cluster: Rc<Cluster>,
    settings: Arc<ClusterSettings>,
    backends: Rc<BackendSet>,
}

impl Spare {
    /// The form of the head for whom it has, if that is another one.
    pub(super) fn form_beside(&self, form: Form) -> Option<Form> {
        let other = Form::of(self.to.as_ref()?.settings.is_multiplexed());
        (other != form).then_some(other)
    }
}

impl Exchange {
    /// Takes what there is for it, and the head for that if it is another one; behind `keep_head`.
    #[inline]
    pub(super) fn keep_spare(&mut self, spare: Option<Box<Spare>>, head: Option<Vec<u8>>) {
        self.spare = spare;
        if let (Some(spare), Some(head)) = (self.spare.as_deref_mut(), head) {
            self.head_bytes += head.len() as u32;
            spare.head = head;
        }
    }

    /// The head that is not for those who serve it, if it has one.
    pub(super) fn spare_head(&self) -> Option<&[u8]> {
        let spare = self.spare.as_deref()?;
        (!spare.head.is_empty()).then_some(&spare.head)
    }

    /// There will be no other try.
    pub(super) fn give_spare_head_back(&mut self, pool: &mut BufferPool) {
        if let Some(spare) = self.spare.as_deref_mut() {
            pool.give(std::mem::take(&mut spare.head));
        }
    }

    /// Whose requests it is one of that could not be served there, if it is.
    pub(super) fn fallen_from(&self) -> Option<&Cluster> {
        self.spare.as_deref()?.of.as_deref()
    }
}

impl<D: Driver> Engine<D> {
    /// What a request has for when no backend can be asked. Nobody waits for a mirror; and who is asked whether a request
    /// may pass must not be stood in for by whoever answers, since that would let it.
    #[inline]
    pub(in crate::session) fn spare_of(
        &self,
        exchange: &Exchange,
        method: &[u8],
    ) -> Option<Box<Spare>> {
        let fallback = exchange.cluster.entity.fallback.as_deref()?;
        let name = fallback.cluster.as_deref();
        let to = name.and_then(|name| self.tables.running.clusters.get(name));
        let to = to.map(|cluster| Serving {
            cluster: cluster.clone(),
            settings: cluster.settings(),
            backends: cluster.backends(),
        });
        (!exchange.is_call()).then(|| {
            let again = |to: &Serving| Again::of(&to.settings, method, &Body::Done);
            Box::new(Spare {
                again: to.as_ref().and_then(again),
                to,
                head: Vec::new(),
                of: None,
            })
        })
    }

    /// Has a request served otherwise that would be answered by a failure; false if nobody does.
    #[cold]
    pub(super) fn falls_back(&mut self, id: ExchangeId, failure: Outcome) -> bool {
        let exchange = &mut self.exchanges[id];
        let has_told = exchange.has_kept_body();
        let Some(spare) = exchange.spare.as_deref_mut().filter(|it| it.of.is_none()) else {
            return false;
        };
        let from = exchange.served_by.clone();
        let answer = exchange.cluster.answer.clone();
        // Bytes that pass unread have no place for an answer of ours.
        let is_unread = exchange.reply.has_begun();
        // What has been told of it was told for those who have failed.
        if has_told || spare.to.is_none() && (answer.is_none() || is_unread) {
            return false;
        }
        self.metrics.slot_add(from.slot(), Field::FALLBACKS, 1);
        spare.of = Some(from);
        let to = spare.to.take();
        match (to, answer) {
            (Some(to), _) => {
                exchange.fall_to(to);
                self.count_in_budget(&self.exchanges[id]);
                self.try_backend(id);
            }
            (None, Some(answer)) => {
                let answer = Answer::from(answer.answer());
                let outcome = match answer.is_silent() {
                    true => Outcome::Closed,
                    false => failure,
                };
                self.answer_instead(id, answer, outcome);
            }
            (None, None) => {}
        }
        true
    }
}

impl Exchange {
    /// It is another cluster's from here on, as if nothing had been tried.
    fn fall_to(&mut self, to: Serving) {
        self.be_served_by(to.cluster, to.settings);
        self.backends = to.backends;
        self.tries = Tries::default();
        self.record.reason = None;
        let again = self.spare.as_deref_mut().and_then(|it| it.again.take());
        self.again = again.map(|it| it.bounded_by(&self.request));
        if let Some(spare) = self.spare.as_deref_mut().filter(|it| !it.head.is_empty()) {
            std::mem::swap(&mut self.head, &mut spare.head);
        }
    }
}
