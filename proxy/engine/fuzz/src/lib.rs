//! Fuzz targets of the engine: everything that reads bytes which somebody else wrote.
//!
//! Each module of [`target`] states an invariant and checks it for any input. Two programs feed
//! them: cargo-fuzz (`fuzz_targets/`, nightly, guided by coverage) and `fuzz_run` (stable, for CI),
//! which mutates the committed `corpus/` by [`mutate`] and keeps what behaved in a new way.
//! An input that once broke an invariant stays in `corpus/` for good, so it is tried again on
//! every run, and by `cargo test`.

pub mod mutate;
pub mod random;
#[path = "../../tests/rig/mod.rs"]
mod rig;
pub mod target;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::path::PathBuf;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Checks the invariant; panics when it does not hold.
    pub check: fn(&[u8]) -> Behaviour,
    /// Pieces that inputs are made of.
    pub tokens: &'static [&'static str],
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 15] = [
        target::ops_decoder::TARGET,
        target::h1_request::TARGET,
        target::h1_response::TARGET,
        target::chunked::TARGET,
        target::hpack::TARGET,
        target::h2_server::TARGET,
        target::h2_client::TARGET,
        target::proxy::TARGET,
        target::template::TARGET,
        target::token::TARGET,
        target::hello::TARGET,
        target::front_h1::TARGET,
        target::front_h2::TARGET,
        target::back_h1::TARGET,
        target::back_h2::TARGET,
    ];

    /// The target of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name == name)
    }

    /// Its committed inputs, by name of the file.
    pub fn corpus(&self) -> io::Result<Vec<Vec<u8>>> {
        let folder = root().join("corpus").join(self.name);
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        paths.into_iter().map(fs::read).collect()
    }
}

/// The folder of this crate.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What an input made the code do, as far as one can see from outside. Inputs that differ in it are
/// worth to be mutated further; it stands in for the coverage that only nightly can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Behaviour(u64);

impl Behaviour {
    /// The behaviour that a value describes.
    pub fn of(value: impl Hash) -> Self {
        // Keyed the same in every run, so that a seed gives the same run again.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}
