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
