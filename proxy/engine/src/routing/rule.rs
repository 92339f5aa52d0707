//! The third level of a lookup: one frontend's match, and its place among its equals.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::sync::Arc;

use super::hostname::HostPattern;
use super::matcher::Conditions;
use super::matcher::HeaderLookup;
use super::matcher::Missed;
use super::matcher::Request;
use super::path::Expression;
use super::path::PathPattern;
use super::regexes::Regexes;
use crate::state::digest::Digest;
use crate::state::entity::Entity;
use crate::state::entity::Frontend;
use crate::state::entry::Entry;
use crate::state::named::HasName;

/// A frontend's match: hostname and path are those of its entry, and the rest is compiled where there
/// is any. A clone is the same rule; it may be compiled on another thread than the one that looks
/// requests up.
#[derive(Clone, Debug)]
pub struct Rule {
    entry: Arc<Entry>,
    rest: Option<Arc<Rest>>,
}

/// What few frontends ask of requests.
#[derive(Debug)]
struct Rest {
    expression: Option<Expression>,
    conditions: Conditions,
}

/// What a rule leads to.
pub trait Target: HasName {
    /// The rule by which it is found.
    fn rule(&self) -> &Rule;
}

impl Rule {
    /// The rule of a frontend's entry; fails on an expression that is not valid or too large. What was
    /// compiled of others is used again.
    pub fn of(entry: Arc<Entry>, regexes: &mut Regexes) -> Result<Self, String> {
        let frontend = entry.frontend();
        let expression = Expression::of(&frontend.path, regexes)?;
        let conditions = Conditions::compile(frontend, regexes)?;
        let rest = (expression.is_some() || !conditions.is_empty()).then(|| {
            Arc::new(Rest {
                expression,
                conditions,
            })
        });
        Ok(Self { entry, rest })
    }

    /// The rule of a frontend that nobody holds.
    pub fn compile(name: &str, frontend: &Frontend) -> Result<Self, String> {
        let entity = Entity::Frontend(Box::new(frontend.clone()));
        let entry = Entry::new(name, entity, Digest::default());
        Self::of(Arc::new(entry), &mut Regexes::default())
    }

    /// The frontend as committed.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The frontend's name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Which hostnames it serves.
    pub fn hosts(&self) -> impl Iterator<Item = HostPattern<'_>> {
        let hostnames = self.entry.frontend().hostnames().iter();
        hostnames.map(HostPattern::of)
    }

    /// Which paths it serves.
    pub fn path(&self) -> PathPattern<'_> {
        let expression = self.rest.as_ref().and_then(|rest| rest.expression.as_ref());
        PathPattern::of(&self.entry.frontend().path, expression)
    }

    /// Whether a request that was found by hostname and path matches in all else.
    #[inline]
    fn confirms<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.confirms(request))
    }

    /// Whether the path of a request that was found by it really matches: an expression is found by its
    /// rank alone, and a suffix too.
    pub fn confirms_path(&self, path: &[u8]) -> bool {
        let rest = self.rest.as_ref();
        rest.is_none_or(|rest| rest.confirms_path(path))
    }

    /// The first condition beside hostname and path that a request does not fulfil.
    pub fn missed_condition<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<Missed> {
        self.rest.as_ref()?.conditions.missed(request)
    }

    /// Order among rules whose hostname and path are equally specific: the winner first.
    fn precedence(&self, other: &Self) -> Ordering {
        let rank = |rule: &Self| {
            let counts = rule.rest.as_ref().map(|rest| rest.conditions.counts());
            Reverse(counts.unwrap_or_default())
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.name().cmp(other.name()))
    }
}

impl Rest {
    #[inline]
    fn confirms<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        // Cheapest first.
        self.conditions.allows_method(request.method)
            && self.confirms_path(request.path)
            && self.conditions.allows_fields(request)
    }

    #[inline]
    fn confirms_path(&self, path: &[u8]) -> bool {
        let expression = self.expression.as_ref();
        expression.is_none_or(|expression| expression.matches(path))
    }
}

impl HasName for Rule {
    fn name(&self) -> &str {
        self.name()
    }
}

impl Target for Rule {
    fn rule(&self) -> &Self {
        self
    }
}

impl<T> HasName for (Rule, T) {
    fn name(&self) -> &str {
        self.0.name()
    }
}

impl<T> Target for (Rule, T) {
    fn rule(&self) -> &Rule {
        &self.0
    }
}

/// The targets of one hostname and one path (or one length of expression), winner first.
#[derive(Debug)]
pub enum Group<T> {
    /// Nearly all groups have one, and there may be 100,000 groups.
    One(T),
    /// Any number, none included.
    Some(Box<Vec<T>>),
}

impl<T: Target> Group<T> {
    /// The first target whose rule matches.
    #[inline]
    pub fn pick<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<&T> {
        self.all()
            .iter()
            .find(|target| target.rule().confirms(request))
    }

    /// The winner.
    pub fn first(&self) -> Option<&T> {
        self.all().first()
    }

    /// Puts a target in its place.
    pub fn insert(&mut self, target: T) {
        let (Ok(index) | Err(index)) = self.position(target.rule());
        *self = match self.take() {
            all if all.is_empty() => Self::One(target),
            mut all => {
                all.insert(index, target);
                Self::Some(Box::new(all))
            }
        };
    }

    /// Takes the target of a rule out.
    pub fn remove(&mut self, rule: &Rule) -> Option<T> {
        let index = self.position(rule).ok()?;
        let mut all = self.take();
        let removed = all.remove(index);
        *self = match (all.len(), all.pop()) {
            (1, Some(last)) => Self::One(last),
            (_, last) => {
                all.extend(last);
                Self::Some(Box::new(all))
            }
        };
        Some(removed)
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    #[inline]
    fn all(&self) -> &[T] {
        match self {
            Self::One(target) => std::slice::from_ref(target),
            Self::Some(targets) => targets,
        }
    }

    fn take(&mut self) -> Vec<T> {
        match std::mem::take(self) {
            Self::One(target) => vec![target],
            Self::Some(targets) => *targets,
        }
    }

    fn position(&self, rule: &Rule) -> Result<usize, usize> {
        self.all()
            .binary_search_by(|other| other.rule().precedence(rule))
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self::Some(Box::default())
    }
}
