//! The backend: one address in a cluster.

use std::sync::Arc;

use super::language::language;
use super::registry::{Compiling, Kind, Needs, Running, Swap, Value};
use crate::runtime::socket::Endpoint;
use crate::state::entity::address::Address;
use crate::state::entity::check::is_name;
use crate::state::entry::{Entry, cluster_of};
use crate::state::tables::Tables;

language! {
    /// One address in a cluster.
    pub struct Backend {
        /// `IP:port`, IPv6 in brackets; or `unix:` and a path.
        pub address: Address,
        /// Whether it gets requests only while no other one can.
        pub backup: bool = false,
        /// Share of the requests; 0 takes no new ones.
        pub weight: u16 = 100,
    }
}

impl Backend {
    /// Where to connect to.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        self.address.endpoint()
    }
}

impl Value for Backend {
    type Compiled = ();
    /// As they run, they are in their clusters.
    type Running = Arc<Entry>;

    fn is_name(name: &str) -> bool {
        name.split_once('/')
            .is_some_and(|(cluster, backend)| is_name(cluster) && is_name(backend))
    }

    fn check(&self) -> Result<(), String> {
        self.endpoint().map(drop)
    }

    fn needs<'a>(&'a self, name: &'a str) -> Needs<'a> {
        Needs {
            one: Some((Kind::Cluster, cluster_of(name))),
            ..Needs::default()
        }
    }

    fn compile(&self, _: &Arc<Entry>, _: &mut Compiling<'_>) -> Result<(), String> {
        Ok(())
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, (): (), swap: &mut Swap) {
        let Running {
            clusters, backends, ..
        } = &mut tables.running;
        if let Some(cluster) = clusters.get(cluster_of(&entry.name)) {
            swap.applied.removed.extend(cluster.insert(entry.clone()));
            swap.touched.push(cluster.clone());
        }
        backends.insert(entry);
    }

    fn take(tables: &mut Tables, name: &str, swap: &mut Swap) {
        tables.running.backends.swap_remove(name);
        if let Some(cluster) = tables.running.clusters.get(cluster_of(name)) {
            swap.applied.removed.extend(cluster.remove(name));
            swap.touched.push(cluster.clone());
        }
    }
}
