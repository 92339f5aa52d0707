//! The cluster: a named set of interchangeable backends, and how they are dealt with.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys::fallback::Fallback;
use super::keys::health::HealthCheck;
use super::keys::retry::Retry;
use super::language::defaulted;
use super::registry::{self, Compiling, Kind, Needs, Swap, Value};
use crate::policy::ends::respond::Respond;
use crate::state::entity::check::{CONNECTIONS_MAX, HEADER_COUNT, TIMEOUT_MS};
use crate::state::entity::check::{is_hostname, material, within};
use crate::state::entity::{Entity, Material};
use crate::state::entry::Entry;
use crate::state::tables::Tables;
use crate::upstream::{self, ClusterSettings};

/// What the backends of a cluster speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, in clear text by prior knowledge, over TLS by ALPN.
    H2,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// In binary.
    V2,
}

defaulted! {
    /// A named set of interchangeable backends and its policy.
    pub struct Cluster {
        /// What becomes of requests while no backend can be asked.
        pub fallback: Option<Box<Fallback>> = None,
        /// How backends are asked whether they are well.
        pub health_check: Option<Box<HealthCheck>> = None,
        /// Idle upstream connections kept per backend and worker.
        pub keep_alive_connections: u32 = 1024,
        /// Hard limits of its responses.
        pub limits: ClusterLimits = ClusterLimits::default(),
        /// How a backend is chosen.
        pub load_balancing: LoadBalancing = LoadBalancing::RoundRobin,
        /// With a smaller share of healthy backends all are tried, in percent.
        pub panic: Option<u8> = None,
        /// What the backends speak.
        pub protocol: ClusterProtocol = ClusterProtocol::Http,
        /// How backends are told who the client is, before anything else.
        pub proxy_protocol: Option<ProxyProtocol> = None,
        /// Further backends tried when connecting failed.
        pub retries: u32 = 2,
        /// When a request is sent again.
        pub retry: Option<Box<Retry>> = None,
        /// How long a backend may take.
        pub timeouts: ClusterTimeouts = ClusterTimeouts::default(),
        /// TLS towards the backends; `None` is clear text.
        pub tls: Option<UpstreamTls> = None,
    }
}

defaulted! {
    /// Hard limits of what a backend sends, which is out of order beyond them.
    pub struct ClusterLimits {
        /// Largest response head.
        pub head_bytes: u32 = 65_536,
        /// Most fields in a response head.
        pub header_count: u32 = 256,
    }
}

defaulted! {
    /// TLS towards backends.
    pub struct UpstreamTls {
        /// PEM bundle of the authorities to trust; `None` trusts the system's.
        pub ca: Option<Material> = None,
        /// PEM chain to show to a backend that asks who we are; with `private_key` or not at all.
        pub certificate: Option<Material> = None,
        /// PEM private key of that chain's leaf.
        pub private_key: Option<Material> = None,
        /// Name sent as SNI and expected in the backend's certificate; `None` is the backend's IP address.
        pub server_name: Option<String> = None,
        /// Whether the backend must prove who it is.
        pub verify: bool = true,
    }
}

/// How a backend of a cluster is chosen; all of them respect weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// The one with the fewest requests in flight.
    LeastConnections,
    /// The better of two taken at random.
    PowerOfTwo,
    /// Any.
    Random,
    /// In turn, smoothly by weight.
    RoundRobin,
}

defaulted! {
    /// How long a backend may take, in milliseconds.
    pub struct ClusterTimeouts {
        /// To accept a connection.
        pub connect: u64 = 3_000,
        /// How long an idle upstream connection is kept.
        pub keep_alive: u64 = 50_000,
        /// Between two pieces of a response body.
        pub response_body: u64 = 300_000,
        /// From the end of the request to the head of the response.
        pub response_head: u64 = 60_000,
        /// Without a byte in either direction of a tunnel.
        pub tunnel: u64 = 3_600_000,
    }
}

impl Cluster {
    /// How many further attempts a request has.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        let retry = self.retry.as_ref();
        retry.map_or(self.retries, |retry| retry.attempts)
    }
}

impl Value for Cluster {
    type Compiled = Arc<ClusterSettings>;
    type Running = Rc<upstream::Cluster>;

    const IS_ALIKE: bool = true;

    fn check(&self) -> Result<(), String> {
        let limits = &self.limits;
        within("limits.head_bytes", limits.head_bytes, RESPONSE_HEAD_BYTES)?;
        within("limits.header_count", limits.header_count, HEADER_COUNT)?;
        within(
            "keep_alive_connections",
            self.keep_alive_connections,
            0..=CONNECTIONS_MAX,
        )?;
        within("retries", self.retries, 0..=RETRIES_MAX)?;
        if self.protocol == ClusterProtocol::H2 && self.proxy_protocol.is_some() {
            return Err("proxy_protocol: over h2 many clients share a connection".to_owned());
        }
        self.retry.as_ref().map_or(Ok(()), |it| it.check())?;
        if self.retry.is_some() && self.retries != Self::default().retries {
            return Err("retries: is short for retry: {attempts: N}".to_owned());
        }
        self.fallback.as_ref().map_or(Ok(()), |it| it.check())?;
        self.tls.as_ref().map_or(Ok(()), upstream_tls)?;
        let checked = self.health_check.as_deref();
        checked.map_or(Ok(()), HealthCheck::check)?;
        within("panic", self.panic.unwrap_or(0), 0..=100)?;
        let timeouts = &self.timeouts;
        within("timeouts.connect", timeouts.connect, TIMEOUT_MS)?;
        within("timeouts.keep_alive", timeouts.keep_alive, TIMEOUT_MS)?;
        within("timeouts.response_body", timeouts.response_body, TIMEOUT_MS)?;
        within("timeouts.response_head", timeouts.response_head, TIMEOUT_MS)?;
        within("timeouts.tunnel", timeouts.tunnel, TIMEOUT_MS)
    }

    fn needs<'a>(&'a self, _name: &'a str) -> Needs<'a> {
        let fallback = self.fallback.as_ref();
        let cluster = fallback.and_then(|it| it.cluster.as_deref());
        Needs {
            one: cluster.map(|name| (Kind::Cluster, name)),
            ..Needs::default()
        }
    }

    fn compile(
        &self,
        entry: &Arc<Entry>,
        with: &mut Compiling<'_>,
    ) -> Result<Self::Compiled, String> {
        let Entity::Cluster(shared) = &entry.entity else {
            return Err("it is no cluster".to_owned());
        };
        let (materials, tls) = (with.materials, with.tls);
        with.alike.settings(shared, || {
            let asked = self.tls.as_ref().map(|policy| {
                tls.client_config(policy, self.protocol, |wanted| {
                    registry::material(materials, wanted)
                })
            });
            let respond = self.fallback.as_ref().and_then(|it| it.respond.as_ref());
            let answer = respond.map(|it| {
                Respond::of(it, |wanted| registry::material(materials, wanted)).map(Arc::new)
            });
            Ok(ClusterSettings {
                entity: shared.clone(),
                tls: asked.transpose()?,
                answer: answer.transpose()?,
            })
        })
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, settings: Self::Compiled, swap: &mut Swap) {
        let clusters = &mut tables.running.clusters;
        if let Some(cluster) = clusters.get(&entry.name) {
            cluster.replace_settings(entry, settings);
            swap.touched.push(cluster.clone());
        } else {
            let cluster = upstream::Cluster::new(entry, settings, tables.shared.clone());
            clusters.insert(Rc::new(cluster));
        }
    }

    fn take(tables: &mut Tables, name: &str, _: &mut Swap) {
        tables.running.clusters.swap_remove(name);
    }
}

fn upstream_tls(value: &UpstreamTls) -> Result<(), String> {
    let files = [&value.ca, &value.certificate, &value.private_key];
    files.into_iter().flatten().try_for_each(material)?;
    if value.certificate.is_some() != value.private_key.is_some() {
        return Err("tls: certificate and private_key belong together".to_owned());
    }
    match &value.server_name {
        Some(name) if !is_hostname(name) || name.contains('*') => Err(format!(
            "tls.server_name {name:?}: expected a name like shop.internal, in lower case"
        )),
        _ => Ok(()),
    }
}

const RESPONSE_HEAD_BYTES: RangeInclusive<u32> = 1024..=128 * 1024;
const RETRIES_MAX: u32 = 10;
