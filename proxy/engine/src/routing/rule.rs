//! The third level of a lookup: one frontend's match, compiled, and its place among its equals.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::sync::Arc;

use super::hostname::HostPattern;
use super::matcher::Conditions;
use super::matcher::HeaderLookup;
use super::matcher::Missed;
use super::matcher::Request;
use super::path::PathPattern;
use crate::state::entity::Frontend;

/// A frontend's match, compiled. A clone is the same rule, so that the tables of several listeners
/// share one; it may be compiled on another thread than the one that looks requests up.
#[derive(Clone, Debug)]
pub struct Rule(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    name: Box<str>,
    host: HostPattern,
    path: PathPattern,
    conditions: Conditions,
}

impl Rule {
    /// Compiles the match of the frontend called `name`; fails on an expression that is not valid
    /// or too large.
    pub fn compile(name: &str, frontend: &Frontend) -> Result<Self, String> {
        Ok(Self(Arc::new(Parts {
            name: name.into(),
            host: HostPattern::new(&frontend.hostname),
            path: PathPattern::compile(&frontend.path)?,
            conditions: Conditions::compile(frontend)?,
        })))
    }

    /// The frontend's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Which hostnames it serves.
    pub fn host(&self) -> &HostPattern {
        &self.0.host
    }

    /// Which paths it serves.
    pub fn path(&self) -> &PathPattern {
        &self.0.path
    }

    /// Whether a request that was found by hostname and path matches in all else.
    #[inline]
    fn confirms<H: HeaderLookup>(&self, request: &Request<'_, H>) -> bool {
        let Parts {
            path, conditions, ..
        } = &*self.0;
        // Cheapest first.
        conditions.allows_method(request.method)
            && path.confirms(request.path)
            && conditions.allows_fields(request)
    }

    /// The first condition beside hostname and path that a request does not fulfil.
    pub fn missed_condition<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<Missed> {
        self.0.conditions.missed(request)
    }

    /// Order among rules whose hostname and path are equally specific: the winner first.
    fn precedence(&self, other: &Self) -> Ordering {
        let rank = |rule: &Self| {
            let (method, headers, query) = rule.0.conditions.counts();
            (Reverse(method), Reverse(headers), Reverse(query))
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.name().cmp(other.name()))
    }
}

/// The rules of one hostname and one path (or one length of expression), winner first.
#[derive(Debug)]
pub struct Group<T> {
    entries: Vec<(Rule, T)>,
}

impl<T> Group<T> {
    /// The target of the first rule that matches.
    #[inline]
    pub fn pick<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<&T> {
        self.entries
            .iter()
            .find_map(|(rule, target)| rule.confirms(request).then_some(target))
    }

    /// The target of the winner.
    pub fn first(&self) -> Option<&T> {
        self.entries.first().map(|(_, target)| target)
    }

    /// The target of this rule.
    pub fn get(&self, rule: &Rule) -> Option<&T> {
        self.position(rule).ok().map(|index| &self.entries[index].1)
    }

    /// Puts a rule in its place.
    pub fn insert(&mut self, rule: Rule, target: T) {
        let (Ok(index) | Err(index)) = self.position(&rule);
        // Nearly all groups have one rule; there may be 100,000 groups.
        self.entries.reserve_exact(1);
        self.entries.insert(index, (rule, target));
    }

    /// Takes a rule out.
    pub fn remove(&mut self, rule: &Rule) -> Option<T> {
        let index = self.position(rule).ok()?;
        Some(self.entries.remove(index).1)
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, rule: &Rule) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(other, _)| other.precedence(rule))
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}
