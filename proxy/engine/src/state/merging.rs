//! What a change comes to by policies: for which frontends and listeners something else holds, and what.
//!
//! Rule: exactly those are made anew that the change concerns, and nobody where no policy is named: whoever
//! is put, whoever names a policy that is another one than before, and, where that is a listener, the
//! frontends on it that say something themselves. All others take the listener's word as it is. Called by
//! [`super::ledger`] on the control thread.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::entity::{Frontend, Kind, PathMatch, Policy};
use super::entry::Entry;
use super::held::Held;
use super::ops::Refused;
use crate::policy::merged::{AtListener, ByListener, Levels, Merged};
use crate::routing::regexes::Regexes;

/// What holds from then on, by name.
#[derive(Default)]
pub(super) struct Found {
    /// For frontends, those of the change included.
    pub(super) frontends: AHashMap<Box<str>, ByListener>,
    /// For requests on listeners whose frontends say nothing themselves.
    pub(super) listeners: Vec<AtListener>,
}

/// A list of policies, and the listener whose own come behind them; "" for none.
type Policies<'a> = (&'a [Box<str>], &'a str);

/// The state after a change, as far as it is asked for.
pub(super) struct Merging<'a> {
    held: &'a Held,
    puts: AHashMap<(Kind, &'a str), &'a Arc<Entry>>,
    removed: AHashSet<(Kind, &'a str)>,
    /// Of frontends that say nothing themselves, by their policies and the listener.
    known: AHashMap<Policies<'a>, Option<Arc<Merged>>>,
}

impl<'a> Merging<'a> {
    /// Behind a change whose references have been checked.
    pub(super) fn new(
        held: &'a Held,
        puts: &'a [Arc<Entry>],
        removes: &'a [(Kind, String)],
    ) -> Self {
        let removes = removes.iter().map(|(kind, name)| (*kind, &**name));
        Self {
            held,
            puts: puts
                .iter()
                .map(|put| ((put.kind(), &*put.name), put))
                .collect(),
            removed: removes.collect(),
            known: AHashMap::new(),
        }
    }

    /// Finds out what holds for whom.
    ///
    /// # Errors
    /// [`Refused`] with who names policies that contradict each other.
    pub(super) fn find(mut self, regexes: &mut Regexes) -> Result<Found, Refused> {
        let mut concerned: AHashMap<&'a str, &'a Arc<Entry>> = AHashMap::new();
        let mut found = Found::default();
        let listeners = self.listeners();
        for (entry, is_other) in &listeners {
            let merged = self.merged(&[], Some(entry), None, regexes);
            let merged = merged.map_err(|reason| Refused::new("listener", &entry.name, reason))?;
            found.listeners.push((entry.name.clone(), merged));
            if *is_other {
                let here = self.held.of(Kind::Frontend).values().filter(|frontend| {
                    let value = frontend.frontend();
                    value.says_anything() && value.listeners.contains(&entry.name)
                });
                concerned.extend(here.map(|frontend| (&*frontend.name, frontend)));
            }
        }
        for policy in self.changed_policies() {
            let users = self.held.who_uses(Kind::Policy, policy, Kind::Frontend);
            concerned.extend(users.map(|frontend| (&*frontend.name, frontend)));
        }
        concerned.retain(|name, _| self.is_left(Kind::Frontend, name));
        let put = self.puts.values().copied();
        let put = put.filter(|entry| entry.kind() == Kind::Frontend && self.is_told(entry));
        concerned.extend(put.map(|entry| (&*entry.name, entry)));
        for (name, entry) in concerned {
            let said = self.by_listener(entry.frontend(), regexes);
            let said = said.map_err(|reason| Refused::new("frontend", name, reason))?;
            found.frontends.insert(name.into(), said);
        }
        Ok(found)
    }

    /// Policies that were there before and are other ones now.
    fn changed_policies(&self) -> Vec<&'a str> {
        let puts = self.puts.values().filter(|put| put.kind() == Kind::Policy);
        puts.filter(|put| self.is_changed(put))
            .map(|put| &*put.name)
            .collect()
    }

    fn is_changed(&self, put: &Entry) -> bool {
        self.held.hash(put.kind(), &put.name) != put.hash
    }

    /// The listeners for whose requests something else may hold, and whether that is so for frontends which
    /// are not put.
    fn listeners(&self) -> Vec<(&'a Arc<Entry>, bool)> {
        let mut found: Vec<(&Arc<Entry>, bool)> = Vec::new();
        for put in self
            .puts
            .values()
            .filter(|put| put.kind() == Kind::Listener)
        {
            let now = put.listener();
            let before = self.held.get(Kind::Listener, &put.name);
            let before = before.map(|before| before.listener());
            let is_named = |before: &super::entity::Listener| !before.policies.is_empty();
            if now.policies.is_empty() && !before.is_some_and(is_named) {
                continue;
            }
            let same = before.is_some_and(|before| {
                before.policies == now.policies && before.error_pages == now.error_pages
            });
            let others = now.policies.iter();
            let is_other = !same || others.clone().any(|name| self.is_changed_policy(name));
            found.push((put, is_other));
        }
        for policy in self.changed_policies() {
            let users = self.held.who_uses(Kind::Policy, policy, Kind::Listener);
            let left = users.filter(|listener| self.is_left(Kind::Listener, &listener.name));
            found.extend(left.map(|listener| (listener, true)));
        }
        found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        found.dedup_by(|(one, _), (other, _)| one.name == other.name);
        found
    }

    fn is_changed_policy(&self, name: &str) -> bool {
        let put = self.puts.get(&(Kind::Policy, name));
        put.is_some_and(|put| self.is_changed(put))
    }

    /// Whether what is held stays, as it is.
    fn is_left(&self, kind: Kind, name: &str) -> bool {
        !self.puts.contains_key(&(kind, name)) && !self.removed.contains(&(kind, name))
    }

    /// Whether policies have a word about a frontend, and more than its listeners' alone.
    fn is_told(&self, entry: &Entry) -> bool {
        let frontend = entry.frontend();
        let is_named = |name: &str| {
            let listener = self.after(Kind::Listener, name);
            listener.is_some_and(|listener| !listener.listener().policies.is_empty())
        };
        !frontend.policies().is_empty()
            || (frontend.says_anything() && frontend.listeners.iter().any(|name| is_named(name)))
    }

    fn after(&self, kind: Kind, name: &str) -> Option<&'a Arc<Entry>> {
        match self.puts.get(&(kind, name)) {
            Some(put) => Some(put),
            None if self.removed.contains(&(kind, name)) => None,
            None => self.held.get(kind, name),
        }
    }

    fn by_listener(
        &mut self,
        frontend: &'a Frontend,
        regexes: &mut Regexes,
    ) -> Result<ByListener, String> {
        let policies = frontend.policies();
        let mut at = Vec::new();
        for name in frontend.listeners.iter() {
            let listener = self.after(Kind::Listener, name);
            let named = listener.filter(|it| !it.listener().policies.is_empty());
            if let Some(listener) = named {
                let merged = self.merged(policies, Some(listener), Some(frontend), regexes)?;
                at.push((name.clone(), merged));
            }
        }
        Ok(ByListener {
            here: self.merged(policies, None, Some(frontend), regexes)?,
            at: at.into(),
        })
    }

    fn merged(
        &mut self,
        policies: &'a [Box<str>],
        listener: Option<&'a Arc<Entry>>,
        frontend: Option<&'a Frontend>,
        regexes: &mut Regexes,
    ) -> Result<Option<Arc<Merged>>, String> {
        let own = frontend.and_then(|frontend| frontend.rare().says.as_deref());
        let key = (policies, listener.map_or("", |entry| &*entry.name));
        if own.is_none()
            && let Some(known) = self.known.get(&key)
        {
            return Ok(known.clone());
        }
        let beyond = listener.map(|entry| entry.listener());
        let levels = Levels {
            own,
            policies: &self.of_names(policies),
            beyond: &self.of_names(beyond.map_or(&[], |it| &it.policies)),
            beyond_pages: beyond.map(|it| &it.error_pages),
        };
        let expression = match frontend.map(|frontend| &frontend.path) {
            Some(PathMatch::Regex(pattern)) if own.is_some() => {
                Some(regexes.compile_pattern(pattern)?)
            }
            _ => None,
        };
        let merged = Merged::of(&levels, expression.as_ref())?.map(Arc::new);
        if own.is_none() {
            self.known.insert(key, merged.clone());
        }
        Ok(merged)
    }

    fn of_names(&self, names: &'a [Box<str>]) -> Vec<(&'a str, &'a Policy)> {
        let found = names.iter().filter_map(|name| {
            let policy = self.after(Kind::Policy, name)?;
            Some((&**name, policy.policy()))
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::digest::Digest;
    use crate::state::entity::Entity;

    fn entry(kind: Kind, name: &str, value: &str) -> Arc<Entry> {
        let entity = Entity::from_json(kind, value).unwrap();
        let hash = Digest::from_entity(kind, name, value.as_bytes());
        Arc::new(Entry::new(name, entity, hash))
    }

    fn policy(name: &str, text: &str) -> Arc<Entry> {
        let value = format!(r#"{{"response_headers":{{"set":{{"X-{name}":"{text}"}}}}}}"#);
        entry(Kind::Policy, name, &value)
    }

    fn frontend(name: &str, keys: &str) -> Arc<Entry> {
        let value = format!(r#"{{"cluster":"c",{keys}}}"#);
        entry(Kind::Frontend, name, &value)
    }

    fn listener(name: &str, policies: &str) -> Arc<Entry> {
        let value = format!(r#"{{"address":"127.0.0.1:80","policies":[{policies}]}}"#);
        entry(Kind::Listener, name, &value)
    }

    /// `bare` says nothing, `own` says something itself, `uses` names a policy; `open` is on another listener.
    fn held() -> Held {
        let mut held = Held::default();
        let puts = vec![
            policy("a", "1"),
            policy("b", "1"),
            listener("front", r#""b""#),
            listener("other", ""),
            frontend("bare", r#""listeners":["front"]"#),
            frontend("own", r#""listeners":["front","other"],"redirect":"https""#),
            frontend("uses", r#""listeners":["front"],"policies":["a"]"#),
            frontend("open", r#""listeners":["other"],"policies":["a"]"#),
        ];
        held.change(&[], puts);
        held
    }

    /// For whom a change has something made anew: frontends and listeners.
    fn concerned(held: &Held, puts: &[Arc<Entry>], removes: &[(Kind, String)]) -> [Vec<String>; 2] {
        let found = Merging::new(held, puts, removes).find(&mut Regexes::default());
        let found = found.unwrap();
        let mut frontends: Vec<_> = found.frontends.keys().map(ToString::to_string).collect();
        frontends.sort();
        let listeners = found.listeners.iter().map(|(name, _)| name.to_string());
        [frontends, listeners.collect()]
    }

    #[test]
    fn exactly_those_that_a_policy_counts_for_are_made_anew() {
        let held = held();
        let nobody: [Vec<String>; 2] = [vec![], vec![]];
        let change = [policy("a", "2")];
        assert_eq!(
            concerned(&held, &change, &[]),
            [vec!["open", "uses"], vec![]]
        );
        let change = [policy("b", "2")];
        assert_eq!(
            concerned(&held, &change, &[]),
            [vec!["own", "uses"], vec!["front"]]
        );
        assert_eq!(
            concerned(&held, &[policy("a", "1")], &[]),
            nobody,
            "it is as before"
        );
        assert_eq!(concerned(&held, &[policy("new", "1")], &[]), nobody);
        // Who changes is told itself, and nobody else.
        let bare = frontend("bare", r#""listeners":["front"],"methods":["GET"]"#);
        assert_eq!(concerned(&held, &[bare], &[]), [vec!["bare"], vec![]]);
        let plain = frontend("bare", r#""listeners":["front"],"path":{"prefix":"/a"}"#);
        assert_eq!(concerned(&held, &[plain], &[]), nobody);
        let change = [listener("other", r#""a""#)];
        assert_eq!(
            concerned(&held, &change, &[]),
            [vec!["open", "own"], vec!["other"]]
        );
        let change = [listener("front", "")];
        assert_eq!(
            concerned(&held, &change, &[]),
            [vec!["own", "uses"], vec!["front"]]
        );
        let removes = [(Kind::Frontend, "uses".to_owned())];
        assert_eq!(
            concerned(&held, &[policy("a", "2")], &removes),
            [vec!["open"], vec![]]
        );
    }

    #[test]
    fn a_listener_counts_where_it_is_and_nowhere_else() {
        let held = held();
        let change = [policy("a", "2"), policy("b", "2")];
        let found = Merging::new(&held, &change, &[])
            .find(&mut Regexes::default())
            .unwrap();
        let own = &found.frontends["own"];
        assert!(own.here.is_none());
        let at: Vec<_> = own
            .at
            .iter()
            .map(|(name, said)| (&**name, said.is_some()))
            .collect();
        assert_eq!(at, [("front", true)]);
        let (uses, open) = (&found.frontends["uses"], &found.frontends["open"]);
        let shared = (uses.here.as_ref().unwrap(), open.here.as_ref().unwrap());
        assert!(Arc::ptr_eq(shared.0, shared.1), "made once for both");
    }

    #[test]
    fn policies_that_contradict_each_other_are_refused() {
        let held = held();
        let change = [
            policy("a", "1"),
            entry(
                Kind::Policy,
                "c",
                r#"{"response_headers":{"remove":["x-a"]}}"#,
            ),
            frontend("open", r#""listeners":["other"],"policies":["a","c"]"#),
        ];
        let refused = Merging::new(&held, &change, &[]).find(&mut Regexes::default());
        let refused = refused.map(|_| ()).unwrap_err();
        assert_eq!((&*refused.kind, &*refused.name), ("frontend", "open"));
        assert!(
            refused.reason.contains(r#""a" and "c""#),
            "{}",
            refused.reason
        );
    }
}
