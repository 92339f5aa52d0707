//! Where a share of the requests goes as well; part of a frontend.

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{is_name, within};
use crate::state::kinds::language::language;

language! {
    /// A cluster that gets requests as well, and whose answers are thrown away.
    pub struct Mirror {
        /// Its name.
        pub cluster: Box<str>,
        /// How many of a hundred requests.
        pub share: u8 = 100,
    }
}

/// One, or several, each with a share of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Mirrors {
    /// Written as a map.
    One(Mirror),
    /// Written as a list.
    Several(Vec<Mirror>),
}

impl Mirrors {
    /// Each of them.
    pub fn each(&self) -> &[Mirror] {
        match self {
            Self::One(mirror) => std::slice::from_ref(mirror),
            Self::Several(mirrors) => mirrors,
        }
    }

    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        let mirrors = self.each();
        if matches!(self, Self::Several(_)) {
            within("mirrors", mirrors.len(), 2..=MIRRORS_MAX)?;
        }
        for (at, mirror) in mirrors.iter().enumerate() {
            let name = &mirror.cluster;
            if !is_name(name) {
                return Err(format!("mirror: {name:?} is not the name of a cluster"));
            }
            if mirrors[..at].iter().any(|other| other.cluster == *name) {
                return Err(format!("mirror: {name:?} is named twice"));
            }
            within("mirror: share", usize::from(mirror.share), 1..=100)?;
        }
        Ok(())
    }
}

/// Each of them is sent all that its share asks for.
pub const MIRRORS_MAX: usize = 4;
