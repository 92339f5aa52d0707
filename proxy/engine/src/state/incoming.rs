//! A change on its way in: decoded and compiled chunk by chunk, as it comes from the control channel.
//!
//! So a state of any size takes memory for what it is and no message of that size, and whoever sends
//! is told of a chunk when it has been worked off. Rule: nothing here depends on what is held; that is
//! the ledger's part, once the change is complete. Called by [`super::ledger`] on the control thread.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ClientConfig;

use super::digest::Digest;
use super::entity::{self, Entity, Kind};
use super::ops::{self, Ops, Put, Refused};
use super::staged::StagedPut;
use super::tables::cluster_of;
use crate::routing::rule::Rule;
use crate::tls::certificates::{self, Identity};
use crate::tls::policy::{Agreements, Tls};

/// Contents of files by their SHA-256.
pub type Materials = HashMap<String, Vec<u8>>;

/// What the ledger keeps of an entity.
pub(super) struct Held {
    pub(super) hash: Digest,
    /// What it needs to exist.
    pub(super) needs: Vec<(Kind, String)>,
    /// A listener's address: a new one needs a new socket.
    pub(super) address: Option<String>,
}

/// The chunks of one change that have come so far.
#[derive(Default)]
pub(super) struct Incoming {
    /// The generation that it leads to.
    pub(super) generation: u64,
    /// How many chunks have come.
    pub(super) chunks: u64,
    pub(super) puts: Vec<StagedPut>,
    /// Of each put, in the same order.
    pub(super) held: Vec<((Kind, String), Held)>,
    pub(super) removes: Vec<(Kind, String)>,
    /// Where the settings want the access log, if they are among the puts.
    pub(super) access_log: Option<String>,
    /// What one of the chunks was refused for: the rest of them is refused as well.
    refused: Option<Refused>,
}

impl Incoming {
    /// Nothing yet of a change to that generation.
    pub(super) fn begin(generation: u64) -> Self {
        Self {
            generation,
            ..Self::default()
        }
    }

    /// What it has been refused for.
    pub(super) fn refusal(&self) -> Option<Refused> {
        self.refused.clone()
    }

    /// Takes the next chunk.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        materials: &Materials,
        tls: &Tls,
    ) -> Result<(), Refused> {
        if let Some(refused) = self.refusal() {
            return Err(refused);
        }
        self.chunks += 1;
        self.add(bytes, materials, tls).inspect_err(|refused| {
            *self = Self {
                refused: Some(refused.clone()),
                chunks: self.chunks,
                ..Self::begin(self.generation)
            };
        })
    }

    fn add(&mut self, bytes: &[u8], materials: &Materials, tls: &Tls) -> Result<(), Refused> {
        let Ops { puts, removes } = ops::decode(bytes)?;
        self.puts.reserve(puts.len());
        self.held.reserve(puts.len());
        for put in puts {
            if let Entity::Settings(settings) = &put.entity {
                self.access_log = Some(settings.access_log.clone());
            }
            let (needs, address) = needs_of(&put.name, &put.entity);
            let key = (put.entity.kind(), put.name.clone());
            let held = Held {
                hash: put.hash,
                needs,
                address,
            };
            self.puts.push(compile(put, materials, tls)?);
            self.held.push((key, held));
        }
        self.removes.extend(removes);
        Ok(())
    }
}

/// Everything of one entity that can fail to compile.
fn compile(put: Put, materials: &Materials, tls: &Tls) -> Result<StagedPut, Refused> {
    let Put { name, entity, hash } = put;
    let kind = entity.kind().as_str();
    let parts = || {
        Ok((
            rules(&name, &entity)?,
            identity(&entity, materials, tls)?,
            agreements(&entity, materials, tls)?,
            upstream_tls(&entity, materials, tls)?,
        ))
    };
    let (rules, identity, agreements, upstream_tls) =
        parts().map_err(|reason: String| Refused::new(kind, &name, reason))?;
    Ok(StagedPut {
        name,
        entity,
        hash,
        rules,
        identity,
        tls: agreements,
        upstream_tls,
    })
}

fn rules(name: &str, entity: &Entity) -> Result<Vec<(String, Rule)>, String> {
    let Entity::Frontend(frontend) = entity else {
        return Ok(Vec::new());
    };
    // Once: a rule is shared by the tables of all its listeners.
    let rule = Rule::compile(name, frontend)?;
    let of = |listener: &String| (listener.clone(), rule.clone());
    Ok(frontend.listeners.iter().map(of).collect())
}

fn identity(entity: &Entity, materials: &Materials, tls: &Tls) -> Result<Option<Identity>, String> {
    let Entity::Certificate(entity::Certificate {
        certificate: Some(chain),
        private_key: Some(private_key),
        ocsp,
        ..
    }) = entity
    else {
        return Ok(None);
    };
    let chain = material(materials, chain)?;
    let private_key = material(materials, private_key)?;
    let key = certificates::load(chain, private_key, &tls.provider)?;
    Ok(Some(match ocsp {
        Some(staple) => {
            let response = material(materials, &staple.material())?;
            Identity::stapled(key, response, staple.until)
        }
        None => Identity::plain(key),
    }))
}

fn agreements(
    entity: &Entity,
    materials: &Materials,
    tls: &Tls,
) -> Result<Option<Agreements>, String> {
    let Entity::Listener(entity::Listener {
        tls: Some(policy), ..
    }) = entity
    else {
        return Ok(None);
    };
    tls.server_config(policy, |wanted| material(materials, wanted))
        .map(Some)
}

fn upstream_tls(
    entity: &Entity,
    materials: &Materials,
    tls: &Tls,
) -> Result<Option<Arc<ClientConfig>>, String> {
    let Entity::Cluster(entity::Cluster {
        tls: Some(policy),
        protocol,
        ..
    }) = entity
    else {
        return Ok(None);
    };
    tls.client_config(policy, *protocol, |wanted| material(materials, wanted))
        .map(Some)
}

fn material<'a>(materials: &'a Materials, wanted: &entity::Material) -> Result<&'a [u8], String> {
    materials
        .get(&wanted.sha256)
        .map(Vec::as_slice)
        .ok_or_else(|| {
            format!(
                "the content of {} is missing in the state directory, or was altered there",
                wanted.path
            )
        })
}

fn needs_of(name: &str, entity: &Entity) -> (Vec<(Kind, String)>, Option<String>) {
    match entity {
        Entity::Frontend(frontend) => {
            let listeners = frontend
                .listeners
                .iter()
                .map(|listener| (Kind::Listener, listener.clone()));
            (
                listeners
                    .chain([(Kind::Cluster, frontend.cluster.clone())])
                    .collect(),
                None,
            )
        }
        Entity::Backend(_) => (vec![(Kind::Cluster, cluster_of(name).to_owned())], None),
        Entity::Listener(listener) => {
            let default = listener
                .tls
                .as_ref()
                .and_then(|tls| tls.default_certificate.clone());
            let needs = default.map(|name| (Kind::Certificate, name));
            (needs.into_iter().collect(), Some(listener.address.clone()))
        }
        Entity::Settings(_) | Entity::Certificate(_) | Entity::Cluster(_) => (Vec::new(), None),
    }
}
