//! How the requests of a frontend are split over several clusters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{is_name, is_token};

/// Clusters, in the order of their names, and the share of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Box<str>, u32>", into = "BTreeMap<Box<str>, u32>")]
pub struct Shares {
    /// Their names.
    pub clusters: Box<[Box<str>]>,
    /// Their shares, of whatever all of them come to.
    pub weights: Box<[u32]>,
}

impl From<BTreeMap<Box<str>, u32>> for Shares {
    fn from(shares: BTreeMap<Box<str>, u32>) -> Self {
        let (clusters, weights): (Vec<_>, Vec<_>) = shares.into_iter().unzip();
        Self {
            clusters: clusters.into(),
            weights: weights.into(),
        }
    }
}

impl From<Shares> for BTreeMap<Box<str>, u32> {
    fn from(shares: Shares) -> Self {
        shares.clusters.into_iter().zip(shares.weights).collect()
    }
}

impl Shares {
    /// Whether nothing is split.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// Checks the value, which is that of a split.
    pub fn check(&self, by: Option<&SplitBy>) -> Result<(), String> {
        if let Some(name) = self.clusters.iter().find(|name| !is_name(name)) {
            return Err(format!("split: {name:?} is not the name of a cluster"));
        }
        if self.weights.iter().all(|weight| *weight == 0) {
            return Err("split: no cluster has a share".to_owned());
        }
        match by {
            Some(SplitBy::Cookie(name) | SplitBy::Header(name)) if !is_token(name) => {
                Err(format!("split_by: {name:?} is no name of a field"))
            }
            _ => Ok(()),
        }
    }
}

/// What has the same value where a request is to come to the same cluster again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Who asks.
    ClientAddress,
    /// The cookie of this name.
    Cookie(Box<str>),
    /// The header of this name, in lower case.
    Header(Box<str>),
}
