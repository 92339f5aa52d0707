//! The frontends of one listener, as a request looks them up.
//!
//! Built up and changed one rule at a time, each costing what that rule costs (and the rules that
//! have the very same hostname and path), never the table. Every map is keyed at random per
//! process, so that nobody can choose hostnames or paths that collide.

use ahash::AHashMap;

use super::hostname::HostMap;
pub use super::hostname::Rank;
pub use super::matcher::HeaderLookup;
pub use super::matcher::Request;
use super::path::PathMap;
use super::rule::Group;
pub use super::rule::Rule;

/// Rules with their targets.
#[derive(Debug)]
pub struct Table<T> {
    hosts: HostMap<PathMap<Group<T>>>,
    rules: AHashMap<Box<str>, Rule>,
}

impl<T> Table<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            hosts: HostMap::default(),
            rules: AHashMap::new(),
        }
    }

    /// The target of the rule that serves a request: `None` is a 404.
    #[inline]
    pub fn lookup<H: HeaderLookup>(&self, request: &Request<'_, H>) -> Option<&T> {
        self.hosts.find(request.host, |paths| {
            paths.find(request.path, |group: &Group<T>| group.pick(request))
        })
    }

    /// How specific the hostname is of what could serve `host`.
    pub fn rank(&self, host: &[u8]) -> Option<Rank> {
        self.hosts.rank(host)
    }

    /// The target for `host`, whatever is asked of it: for rules that match by nothing else.
    pub fn for_host(&self, host: &[u8]) -> Option<&T> {
        self.hosts
            .find(host, |paths| paths.find(b"/", Group::first))
    }

    /// Adds a rule, or replaces the one of the same name; returns what that led to.
    pub fn insert(&mut self, rule: Rule, target: T) -> Option<T> {
        let replaced = self.remove(rule.name());
        self.rules.insert(rule.name().into(), rule.clone());
        let paths = self.hosts.get_or_default(rule.host());
        paths.get_or_default(rule.path()).insert(rule, target);
        replaced
    }

    /// Takes a rule out; returns what it led to.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        let rule = self.rules.remove(name)?;
        let remove = |paths: &mut PathMap<Group<T>>| {
            paths.change(rule.path(), |group| group.remove(&rule), Group::is_empty)
        };
        self.hosts
            .change(rule.host(), remove, PathMap::is_empty)
            .flatten()
            .flatten()
    }

    /// What the rule of this name leads to.
    pub fn get(&self, name: &str) -> Option<&T> {
        let rule = self.rules.get(name)?;
        self.hosts.get(rule.host())?.get(rule.path())?.get(rule)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
