//! What the entities of one change have alike, kept once.
//!
//! Thousands of frontends have the same listeners, or a few hostnames between them, and thousands of
//! clusters the same policy. Lives while a change comes in, so that nothing has to be counted or
//! forgotten; what later changes bring is not compared with what is held. Asked by the kinds.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::entity::{Cluster, Entity, Kind};
use crate::upstream::ClusterSettings;

/// What has come so far, by value.
#[derive(Default)]
pub struct Alike {
    texts: AHashSet<Arc<str>>,
    lists: AHashSet<Arc<[Box<str>]>>,
    /// Whole entities by their canonical text, for each kind.
    entities: [AHashMap<Box<str>, Entity>; Kind::ALL.len()],
    /// By where their entities lie, which `entities` or they themselves keep there.
    settings: AHashMap<usize, Arc<ClusterSettings>>,
}

impl Alike {
    /// The entity of that canonical text, if there was one.
    pub(super) fn known(&self, kind: Kind, text: &str) -> Option<Entity> {
        self.entities[kind as usize].get(text).cloned()
    }

    /// Remembers an entity for others of the same text.
    pub(super) fn remember(&mut self, kind: Kind, text: &str, entity: &Entity) {
        self.entities[kind as usize].insert(text.into(), entity.clone());
    }

    /// Replaces a text by what came before.
    pub(super) fn share_text(&mut self, text: &mut Arc<str>) {
        one_of(&mut self.texts, text);
    }

    /// Replaces a list by what came before.
    pub(super) fn share_list(&mut self, list: &mut Arc<[Box<str>]>) {
        one_of(&mut self.lists, list);
    }

    /// The settings of a cluster, as `make` makes them once for all that are alike.
    pub(super) fn settings(
        &mut self,
        cluster: &Arc<Cluster>,
        make: impl FnOnce() -> Result<ClusterSettings, String>,
    ) -> Result<Arc<ClusterSettings>, String> {
        let place = Arc::as_ptr(cluster).addr();
        if let Some(known) = self.settings.get(&place) {
            return Ok(known.clone());
        }
        let settings = Arc::new(make()?);
        self.settings.insert(place, settings.clone());
        Ok(settings)
    }
}

fn one_of<T: ?Sized + std::hash::Hash + Eq>(known: &mut AHashSet<Arc<T>>, value: &mut Arc<T>) {
    // What is a default is shared already.
    if Arc::strong_count(value) > 1 {
        return;
    }
    match known.get(value) {
        Some(same) => value.clone_from(same),
        None => {
            known.insert(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ops;

    fn decoded(alike: &mut Alike, puts: &[&str]) -> Vec<Entity> {
        let text = format!(r#"{{"puts":[{}],"removes":[]}}"#, puts.join(","));
        let ops = ops::decode(text.as_bytes(), alike).unwrap();
        ops.puts.into_iter().map(|entry| entry.entity).collect()
    }

    #[test]
    fn what_frontends_have_alike_is_kept_once() {
        let frontend = |name: &str, path: &str| {
            format!(
                r#"{{"kind":"frontend","name":"{name}","value":{{"cluster":"c","hostname":"a.test","listeners":["web"],"path":{{"prefix":"{path}"}}}}}}"#
            )
        };
        let mut alike = Alike::default();
        let mut found = decoded(&mut alike, &[&frontend("a", "/x"), &frontend("b", "/y")]);
        // In another chunk of the change as well.
        found.extend(decoded(&mut alike, &[&frontend("c", "/y")]));
        let [
            Entity::Frontend(a),
            Entity::Frontend(b),
            Entity::Frontend(c),
        ] = &found[..]
        else {
            panic!("three frontends");
        };
        for other in [b, c] {
            assert!(Arc::ptr_eq(&a.hostname, &other.hostname));
            assert!(Arc::ptr_eq(&a.listeners, &other.listeners));
            assert!(Arc::ptr_eq(&a.upgrades, &other.upgrades));
        }
        let paths = [&a.path, &b.path, &c.path].map(|path| match path {
            crate::state::entity::PathMatch::Prefix(path) => path,
            _ => panic!("a prefix"),
        });
        assert_eq!(paths.map(|path| &**path), ["/x", "/y", "/y"]);
        assert!(Arc::ptr_eq(paths[1], paths[2]));
    }

    fn of(cluster: &Arc<Cluster>) -> ClusterSettings {
        ClusterSettings::plain(cluster.clone())
    }

    #[test]
    fn clusters_of_one_policy_share_it_and_their_settings() {
        let cluster = |name: &str, value: &str| {
            format!(r#"{{"kind":"cluster","name":"{name}","value":{value}}}"#)
        };
        let retries = r#"{"retries":1}"#;
        let puts = [
            cluster("a", retries),
            cluster("b", "{}"),
            cluster("c", retries),
        ];
        let mut alike = Alike::default();
        let found = decoded(&mut alike, &puts.each_ref().map(String::as_str));
        let settings: Vec<_> = found
            .iter()
            .map(|entity| match entity {
                Entity::Cluster(cluster) => alike.settings(cluster, || Ok(of(cluster))).unwrap(),
                _ => panic!("a cluster"),
            })
            .collect();
        assert!(Arc::ptr_eq(&settings[0], &settings[2]));
        assert!(Arc::ptr_eq(&settings[0].entity, &settings[2].entity));
        assert!(!Arc::ptr_eq(&settings[0], &settings[1]));
        let mut alike = Alike::default();
        let [Entity::Cluster(cluster)] = &decoded(&mut alike, &[&puts[0]])[..] else {
            panic!("a cluster");
        };
        let refused = alike.settings(cluster, || Err("no such file".into()));
        assert_eq!(refused.unwrap_err(), "no such file");
        assert!(
            alike.settings(cluster, || Ok(of(cluster))).is_ok(),
            "it has come"
        );
    }
}
