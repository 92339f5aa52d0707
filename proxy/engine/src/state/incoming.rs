//! A change on its way in: decoded and compiled chunk by chunk, as it comes from the control channel.
//!
//! So a state of any size takes memory for what it is and no message of that size, and whoever sends
//! is told of a chunk when it has been worked off. Rule: nothing here depends on what is held; that is
//! the ledger's part, once the change is complete. Called by [`super::ledger`] on the control thread.

use std::sync::Arc;

use super::alike::Alike;
use super::entity::{Kind, Materials};
use super::ops::{self, Ops, Refused};
use super::staged::StagedPut;
use crate::routing::regexes::Regexes;
use crate::state::kinds::registry::{Compiled, Compiling};
use crate::tls::policy::Tls;

/// The chunks of one change that have come so far.
#[derive(Default)]
pub(super) struct Incoming {
    /// The generation that it leads to.
    pub(super) generation: u64,
    /// How many chunks have come.
    pub(super) chunks: u64,
    pub(super) puts: Vec<StagedPut>,
    pub(super) removes: Vec<(Kind, String)>,
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
        let mut with = Compiling {
            materials,
            tls,
            alike: &mut self.alike,
            regexes,
        };
        for entry in puts {
            let entry = Arc::new(entry);
            let compiled = Compiled::of(&entry, &mut with)
                .map_err(|reason| Refused::new(entry.kind().as_str(), &entry.name, reason))?;
            self.puts.push(StagedPut { entry, compiled });
        }
        self.removes.extend(removes);
        Ok(())
    }
}
