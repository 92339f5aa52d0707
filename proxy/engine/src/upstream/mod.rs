//! Clusters and backends as they run: choice of a backend, pools of idle connections, drain counts.
//!
//! Rule: this module decides *where* a request goes and remembers what became of backends; it
//! opens no socket and knows no HTTP. `session` asks, `state` builds and replaces what is here.

pub mod backend;
pub mod balance;
pub mod budget;
mod checked;
pub mod cluster;
pub mod health;
mod members;

pub use backend::Backend;
pub use balance::Random;
pub use cluster::{BackendSet, Choosing, Cluster, ClusterSettings};
