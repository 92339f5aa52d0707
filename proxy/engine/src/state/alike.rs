//! What the entities of one change have alike, kept once.
//!
//! Thousands of frontends have the same listeners, or a few hostnames between them, and thousands of
//! clusters the same policy. Lives while a change comes in, so that nothing has to be counted or
//! forgotten; what later changes bring is not compared with what is held. Used by [`super::incoming`].

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use rustls::ClientConfig;

use super::entity::{Cluster, Entity, Frontend, PathMatch};
use crate::upstream::ClusterSettings;

/// What has come so far, by value.
#[derive(Default)]
pub struct Alike {
    texts: AHashSet<Arc<str>>,
    lists: AHashSet<Arc<[Box<str>]>>,
    /// By their canonical text.
    clusters: AHashMap<Box<str>, Arc<Cluster>>,
    /// By where their entities lie, which `clusters` or they themselves keep there.
    settings: AHashMap<usize, Arc<ClusterSettings>>,
}

impl Alike {
    /// The cluster of that canonical text, if there was one.
    pub(super) fn cluster(&self, text: &str) -> Option<Entity> {
        self.clusters.get(text).cloned().map(Entity::Cluster)
    }

    /// Remembers what others may have as well, and replaces it by what came before.
    pub(super) fn share(&mut self, text: &str, entity: &mut Entity) {
        match entity {
            Entity::Cluster(cluster) => {
                self.clusters.insert(text.into(), cluster.clone());
            }
            Entity::Frontend(frontend) => self.share_frontend(frontend),
            Entity::Settings(_)
            | Entity::Certificate(_)
            | Entity::Listener(_)
            | Entity::Backend(_) => {}
        }
    }

    fn share_frontend(&mut self, frontend: &mut Frontend) {
        one_of(&mut self.texts, &mut frontend.hostname);
        let (PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::Regex(path)) =
            &mut frontend.path;
        one_of(&mut self.texts, path);
        one_of(&mut self.lists, &mut frontend.listeners);
        one_of(&mut self.lists, &mut frontend.upgrades);
    }

    /// The settings of a cluster, which asks its backends for TLS as `tls` says.
    pub(super) fn settings(
        &mut self,
        cluster: &Arc<Cluster>,
        tls: impl FnOnce() -> Result<Option<Arc<ClientConfig>>, String>,
    ) -> Result<Arc<ClusterSettings>, String> {
        let place = Arc::as_ptr(cluster).addr();
        if let Some(known) = self.settings.get(&place) {
            return Ok(known.clone());
        }
        let settings = Arc::new(ClusterSettings {
            entity: cluster.clone(),
            tls: tls()?,
        });
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
            PathMatch::Prefix(path) => path,
            _ => panic!("a prefix"),
        });
        assert_eq!(paths.map(|path| &**path), ["/x", "/y", "/y"]);
        assert!(Arc::ptr_eq(paths[1], paths[2]));
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
                Entity::Cluster(cluster) => alike.settings(cluster, || Ok(None)).unwrap(),
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
        assert!(alike.settings(cluster, || Ok(None)).is_ok(), "it has come");
    }
}
