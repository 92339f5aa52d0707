//! What the prober tells: each turn of a backend, sums over all of them, and rows for whoever asks.
//!
//! Called by [`super::prober`], which says it, and [`super::thread`], which hands it on.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::runtime::socket;

/// A backend has become another thing.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// `CLUSTER/BACKEND`.
    pub name: Box<str>,
    /// Whether it gets requests now.
    pub is_healthy: bool,
    /// What was wrong with its last check; empty: nothing.
    pub reason: String,
    /// How long that took.
    pub took_us: u64,
}

/// What is known of one backend.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `CLUSTER/BACKEND`.
    pub name: Box<str>,
    /// `healthy`, `unhealthy` or `unchecked`.
    pub health: &'static str,
    /// Whether it gets requests.
    pub is_usable: bool,
    /// Since when, in milliseconds before now.
    pub for_ms: u64,
    /// Good checks.
    pub good: u64,
    /// Bad checks.
    pub bad: u64,
    /// When the last check ended, in milliseconds before now.
    pub last_ms: Option<u64>,
    /// How long it took.
    pub took_us: Option<u64>,
    /// What was wrong with it.
    pub fault: Option<String>,
}

/// Rows, and how many there are of all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rows {
    /// Those that were asked for.
    pub rows: Vec<Row>,
    /// Backends that are checked.
    pub checked: usize,
    /// Of these, those that get no requests.
    pub unusable: usize,
    /// Checks under way.
    pub under_way: usize,
}

/// How long checks took, in buckets; the last one is of those that took longer.
pub const BUCKETS_US: [u64; 7] = [1_000, 5_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// Sums over all checks since the prober has started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    /// Good checks.
    pub good: u64,
    /// Bad checks.
    pub bad: u64,
    /// How long all of them took.
    pub took_us: u64,
    /// How many took no longer than each of [`BUCKETS_US`], and how many longer.
    pub buckets: [u64; BUCKETS_US.len() + 1],
}

/// What has not been taken yet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Told {
    /// Turns, the oldest first.
    pub turns: Vec<Turn>,
    /// So many are not told, since nobody took those before.
    pub lost: u64,
    /// All checks.
    pub sums: Sums,
}

/// News, on their way to whoever takes them.
#[derive(Clone)]
pub struct News {
    told: Arc<Mutex<Told>>,
    bell: Arc<OwnedFd>,
}

impl News {
    /// None yet; `bell` rings when there are.
    #[must_use]
    pub fn new(bell: OwnedFd) -> Self {
        Self {
            told: Arc::default(),
            bell: Arc::new(bell),
        }
    }

    /// Which descriptor can be read when there are turns.
    #[must_use]
    pub fn bell(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// A check has ended.
    pub fn count(&self, is_good: bool, took_us: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = &mut told.sums;
        *(if is_good {
            &mut sums.good
        } else {
            &mut sums.bad
        }) += 1;
        sums.took_us += took_us;
        sums.buckets[BUCKETS_US.partition_point(|&most| most < took_us)] += 1;
    }

    /// Tells of a turn.
    pub fn tell(&self, turn: Turn) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.turns.len() < TURNS_MAX {
            told.turns.push(turn);
        } else {
            told.lost += 1;
        }
        socket::wake(self.bell.as_raw_fd());
    }

    /// Takes what there is.
    #[must_use]
    pub fn take(&self) -> Told {
        socket::quiet(self.bell.as_raw_fd());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        Told {
            turns: std::mem::take(&mut told.turns),
            lost: std::mem::take(&mut told.lost),
            sums: told.sums.clone(),
        }
    }
}

/// So many turns wait at most.
const TURNS_MAX: usize = 10_000;
