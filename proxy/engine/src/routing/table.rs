//! The frontends of one listener, as a request looks them up.
//!
//! Built up and changed one rule at a time, each costing what that rule costs (and the rules that
//! have the very same hostname and path), never the table. Every map is keyed at random per
//! process, so that nobody can choose hostnames or paths that collide.

use super::hostname::HostMap;
pub use super::hostname::Rank;
pub use super::matcher::HeaderLookup;
pub use super::matcher::Request;
use super::path::PathMap;
use super::rule::Group;
pub use super::rule::Rule;
pub use super::rule::Target;

/// Targets by their rules.
#[derive(Debug)]
pub struct Table<T> {
    hosts: HostMap<PathMap<Group<T>>>,
    count: usize,
}

impl<T: Target + Clone> Table<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            hosts: HostMap::default(),
            count: 0,
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

    /// Adds a target, under each of its hostnames. One of the same name must have been taken out before.
    pub fn insert(&mut self, target: T) {
        self.count += 1;
        let rule = target.rule().clone();
        for host in rule.hosts() {
            let paths = self.hosts.get_or_default(host);
            paths.get_or_default(rule.path()).insert(target.clone());
        }
    }

    /// Takes the target of a rule out.
    pub fn remove(&mut self, rule: &Rule) -> Option<T> {
        let remove = |paths: &mut PathMap<Group<T>>| {
            paths.change(rule.path(), |group| group.remove(rule), Group::is_empty)
        };
        let mut removed = None;
        for host in rule.hosts() {
            let found = self.hosts.change(host, remove, PathMap::is_empty);
            removed = found.flatten().flatten().or(removed);
        }
        self.count -= usize::from(removed.is_some());
        removed
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<T: Target + Clone> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
