//! A change on its way in: decoded and compiled chunk by chunk, as it comes from the control channel.
//!
//! So a state of any size takes memory for what it is and no message of that size, and whoever sends
//! is told of a chunk when it has been worked off. Rule: nothing here depends on what is held; that is
//! the ledger's part, once the change is complete. Called by [`super::ledger`] on the control thread.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ClientConfig;

use super::alike::Alike;
use super::entity::{self, Entity, Kind};
use super::entry::Entry;
use super::ops::{self, Ops, Refused};
use super::staged::{Compiled, StagedPut};
use crate::policy::plan::Plan;
use crate::routing::regexes::Regexes;
use crate::routing::rule::Rule;
use crate::tls::certificates::{self, Identity};
use crate::tls::policy::{Agreements, Tls};

/// Contents of files by their SHA-256.
pub type Materials = HashMap<String, Vec<u8>>;

/// The chunks of one change that have come so far.
#[derive(Default)]
pub(super) struct Incoming {
    /// The generation that it leads to.
    pub(super) generation: u64,
    /// How many chunks have come.
    pub(super) chunks: u64,
    pub(super) puts: Vec<StagedPut>,
    pub(super) removes: Vec<(Kind, String)>,
    /// Where the settings want the access log, if they are among the puts.
    pub(super) access_log: Option<String>,
    alike: Alike,
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
        regexes: &mut Regexes,
    ) -> Result<(), Refused> {
        if let Some(refused) = self.refusal() {
            return Err(refused);
        }
        self.chunks += 1;
        let added = self.add(bytes, materials, tls, regexes);
        added.inspect_err(|refused| {
            *self = Self {
                refused: Some(refused.clone()),
                chunks: self.chunks,
                ..Self::begin(self.generation)
            };
        })
    }

    fn add(
        &mut self,
        bytes: &[u8],
        materials: &Materials,
        tls: &Tls,
        regexes: &mut Regexes,
    ) -> Result<(), Refused> {
        let Ops { puts, removes } = ops::decode(bytes, &mut self.alike)?;
        for entry in puts {
            if let Entity::Settings(settings) = &entry.entity {
                self.access_log = Some(settings.access_log.clone());
            }
            let entry = Arc::new(entry);
            let compiled = compile(&entry, materials, tls, &mut self.alike, regexes)
                .map_err(|reason| Refused::new(entry.kind().as_str(), &entry.name, reason))?;
            self.puts.push(StagedPut { entry, compiled });
        }
        self.removes.extend(removes);
        Ok(())
    }
}

/// Everything of one entity that can fail to compile.
fn compile(
    entry: &Arc<Entry>,
    materials: &Materials,
    tls: &Tls,
    alike: &mut Alike,
    regexes: &mut Regexes,
) -> Result<Compiled, String> {
    Ok(match &entry.entity {
        Entity::Certificate(certificate) => {
            Compiled::Certificate(identity(certificate, materials, tls)?.map(Box::new))
        }
        Entity::Listener(listener) => {
            Compiled::Listener(agreements(listener, materials, tls)?.map(Box::new))
        }
        Entity::Cluster(cluster) => {
            let upstream_tls = || upstream_tls(cluster, materials, tls);
            Compiled::Cluster(alike.settings(cluster, upstream_tls)?)
        }
        Entity::Frontend(frontend) => {
            let rule = Rule::of(entry.clone(), regexes)?;
            let read = |wanted: &entity::Material| material(materials, wanted);
            Compiled::Frontend(rule, Plan::of(frontend, regexes, read)?)
        }
        Entity::Settings(_) | Entity::Backend(_) => Compiled::Nothing,
    })
}

fn identity(
    certificate: &entity::Certificate,
    materials: &Materials,
    tls: &Tls,
) -> Result<Option<Identity>, String> {
    let entity::Certificate {
        certificate: Some(chain),
        private_key: Some(private_key),
        ocsp,
        ..
    } = certificate
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
    listener: &entity::Listener,
    materials: &Materials,
    tls: &Tls,
) -> Result<Option<Agreements>, String> {
    let agreed = listener
        .tls
        .as_ref()
        .map(|policy| tls.server_config(policy, |wanted| material(materials, wanted)));
    agreed.transpose()
}

fn upstream_tls(
    cluster: &entity::Cluster,
    materials: &Materials,
    tls: &Tls,
) -> Result<Option<Arc<ClientConfig>>, String> {
    let asked = cluster.tls.as_ref().map(|policy| {
        tls.client_config(policy, cluster.protocol, |wanted| {
            material(materials, wanted)
        })
    });
    asked.transpose()
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
