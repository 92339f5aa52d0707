//! The listener: an address on which clients are accepted, its limits, and how it takes TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::language::{defaulted, language};
use super::registry::{Compiling, Kind, MORE, Needs, Providing, Swap, Value};
use crate::state::entity::check::names_of_policies;
use crate::state::entity::check::{CONNECTIONS_MAX, HEADER_COUNT, TIMEOUT_MS};
use crate::state::entity::check::{error_page, is_name, material, socket_addr, within};
use crate::state::entity::cidr::Cidr;
use crate::state::entity::{Entity, ErrorPage, Material};
use crate::state::entry::Entry;
use crate::state::listener::{self as running, ListenerSettings, Routes};
use crate::state::tables::Tables;
use crate::tls::policy::Agreements;

/// What clients speak at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerProtocol {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP over TLS.
    Https,
    /// Nothing that we know: bytes go on as they come.
    Tcp,
    /// The same within TLS that ends here.
    Tls,
}

impl ListenerProtocol {
    /// Whether nothing is read of what comes.
    #[inline]
    #[must_use]
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Whether TLS ends here.
    fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

language! {
    /// An address on which clients are accepted. Durations are milliseconds, sizes are bytes.
    pub struct Listener {
        /// `IP:port`, IPv6 in brackets.
        pub address: String,
        /// Pages by status, which win over those of the settings; none within: the built-in one.
        pub error_pages: BTreeMap<String, Option<ErrorPage>> = BTreeMap::new(),
        /// In clear text, take HTTP/2 from clients that begin with it (RFC 9113 §3.3).
        pub h2c: bool = false,
        /// Hard limits.
        pub limits: ListenerLimits = ListenerLimits::default(),
        /// `//` in a path is `/`.
        pub merge_slashes: bool = true,
        /// Whose word counts for all requests here, behind that of their frontends.
        pub policies: Vec<Box<str>> = Vec::new(),
        /// What clients speak.
        pub protocol: ListenerProtocol = ListenerProtocol::Http,
        /// Networks whose connections begin with a PROXY protocol preamble.
        pub proxy_protocol: Vec<String> = Vec::new(),
        /// How long a client may take.
        pub timeouts: ListenerTimeouts = ListenerTimeouts::default(),
        /// Set exactly where `protocol` is `https` or `tls`.
        pub tls: Option<TlsPolicy> = None,
        /// Networks whose clients may hand forwarding headers on.
        pub trusted_proxies: Vec<String> = Vec::new(),
        /// Take fields whose names have an underscore, unless they alias one of our own.
        pub underscores_in_headers: bool = true,
    }
}

impl Listener {
    /// The address to accept on.
    pub fn socket_addr(&self) -> Result<SocketAddr, String> {
        socket_addr(&self.address)
    }

    /// The networks of `trusted_proxies`.
    pub fn trusted_networks(&self) -> Result<Vec<Cidr>, String> {
        networks(&self.trusted_proxies)
    }

    /// The networks of `proxy_protocol`.
    pub fn introducing_networks(&self) -> Result<Vec<Cidr>, String> {
        networks(&self.proxy_protocol)
    }
}

fn networks(texts: &[String]) -> Result<Vec<Cidr>, String> {
    texts.iter().map(|text| Cidr::parse(text)).collect()
}

defaulted! {
    /// Hard limits of a listener, each answered at once when it is passed.
    pub struct ListenerLimits {
        /// Largest request body; `None` is unlimited.
        pub body_bytes: Option<u64> = None,
        /// Connections at one time, per worker.
        pub connections: u32 = 10_000,
        /// Largest request head, request line included.
        pub head_bytes: u32 = 32_768,
        /// Most header lines in a request.
        pub header_count: u32 = 100,
    }
}

defaulted! {
    /// How long a client may take, in milliseconds.
    pub struct ListenerTimeouts {
        /// Between two requests.
        pub keep_alive: u64 = 60_000,
        /// Between two pieces of a request body.
        pub request_body: u64 = 30_000,
        /// From the first byte of a request to the end of its head.
        pub request_head: u64 = 10_000,
        /// Without taking any byte of the response.
        pub response_write: u64 = 30_000,
    }
}

defaulted! {
    /// How a listener takes TLS.
    pub struct TlsPolicy {
        /// What is spoken within, one of which has to be offered by who offers any; empty is whatever it is.
        pub alpn: Vec<Box<str>> = Vec::new(),
        /// Whether a client without a certificate is refused, where there are authorities.
        pub client_auth: ClientAuth = ClientAuth::Required,
        /// Authorities that issue certificates of clients; `None` asks for none.
        pub client_ca: Option<Material> = None,
        /// Lists of revoked certificates.
        pub client_crl: Option<Material> = None,
        /// The certificate for clients whose SNI is missing or nobody's.
        pub default_certificate: Option<String> = None,
        /// Versions and cipher suites.
        pub profile: TlsProfile = TlsProfile::Intermediate,
    }
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// It may.
    Optional,
    /// It has to.
    Required,
}

/// Versions and cipher suites, as Mozilla names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsProfile {
    /// TLS 1.2 with forward secrecy, and 1.3.
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

impl TlsProfile {
    /// Its word in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intermediate => "intermediate",
            Self::Modern => "modern",
        }
    }
}

impl Value for Listener {
    /// What it agrees to; `None` in clear text.
    type Compiled = Option<Box<Agreements>>;
    type Running = Rc<running::Listener>;

    // It keeps its routes, by which the connections that it still has are answered.
    const LEAVES_FIRST: bool = true;

    fn check(&self) -> Result<(), String> {
        if self.tls.is_some() != self.protocol.is_secure() {
            return Err("tls: expected with protocol https and tls, and only there".to_owned());
        }
        if let Some(tls) = &self.tls {
            if self.protocol == ListenerProtocol::Https && !tls.alpn.is_empty() {
                return Err("tls.alpn: https offers h2 and http/1.1".to_owned());
            }
            if !tls.alpn.is_sorted_by(|a, b| a < b) || !tls.alpn.iter().all(|each| is_alpn(each)) {
                return Err("tls.alpn: expected names of protocols, sorted, each once".to_owned());
            }
            let files = [&tls.client_ca, &tls.client_crl];
            files.into_iter().flatten().try_for_each(material)?;
            if tls.client_ca.is_none() && tls.client_crl.is_some() {
                return Err("tls.client_crl: there is no client_ca".to_owned());
            }
        }
        let default = self
            .tls
            .as_ref()
            .and_then(|tls| tls.default_certificate.as_deref());
        if let Some(name) = default.filter(|name| !is_name(name)) {
            return Err(format!(
                "tls.default_certificate: {name:?} is not the name of a certificate"
            ));
        }
        self.socket_addr()?;
        self.trusted_networks()?;
        self.introducing_networks()?;
        for (status, page) in &self.error_pages {
            error_page(status, page.as_ref())?;
        }
        names_of_policies(&self.policies)?;
        let limits = &self.limits;
        within(
            "limits.body_bytes",
            limits.body_bytes.unwrap_or(0),
            0..=BODY_BYTES_MAX,
        )?;
        within(
            "limits.connections",
            limits.connections,
            1..=CONNECTIONS_MAX,
        )?;
        within("limits.head_bytes", limits.head_bytes, HEAD_BYTES)?;
        within("limits.header_count", limits.header_count, HEADER_COUNT)?;
        let timeouts = &self.timeouts;
        within("timeouts.keep_alive", timeouts.keep_alive, TIMEOUT_MS)?;
        within("timeouts.request_body", timeouts.request_body, TIMEOUT_MS)?;
        within("timeouts.request_head", timeouts.request_head, TIMEOUT_MS)?;
        within(
            "timeouts.response_write",
            timeouts.response_write,
            TIMEOUT_MS,
        )
    }

    fn needs<'a>(&'a self, _: &'a str) -> Needs<'a> {
        let tls = self.tls.as_ref();
        let default = tls.and_then(|tls| tls.default_certificate.as_deref());
        Needs {
            lists: [Some((Kind::Policy, &self.policies)), None, None],
            one: default.map(|name| (Kind::Certificate, name)),
            more: [None; MORE],
        }
    }

    fn compile(&self, _: &Arc<Entry>, with: &mut Compiling<'_>) -> Result<Self::Compiled, String> {
        let agreed = self.tls.as_ref().map(|policy| {
            with.tls
                .server_config(policy, self.protocol.is_bytes(), |wanted| {
                    with.material(wanted)
                })
                .map(Box::new)
        });
        agreed.transpose()
    }

    /// Its socket comes with it, unless it stays where it is.
    fn provide(
        &self,
        entry: &Entry,
        before: Option<&Entry>,
        with: &mut Providing<'_>,
    ) -> Result<(), String> {
        let stays = before.is_some_and(|before| before.listener().address == self.address);
        let is_there = stays || with.sockets.contains_key(&*entry.name);
        match is_there || !with.serving {
            true => Ok(()),
            false => Err(format!("no listening socket came with {}", self.address)),
        }
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, tls: Self::Compiled, swap: &mut Swap) {
        let Entity::Listener(listener) = &entry.entity else {
            return;
        };
        let settings = ListenerSettings::new(listener.clone(), tls.map(|tls| *tls));
        let before = tables.running.listeners.get(&entry.name).cloned();
        let anew = before
            .as_ref()
            .and_then(|it| it.socket_for(listener.protocol));
        let socket = swap.sockets.remove(&*entry.name).or(anew);
        match (before, socket, listener.socket_addr()) {
            (Some(listener), None, Ok(address)) if address == listener.address => {
                listener.replace_settings(settings, entry);
            }
            (before, socket, Ok(address)) => {
                let routes = before
                    .as_ref()
                    .map_or_else(Routes::default, |listener| listener.routes.clone());
                let listener = running::Listener::new(entry, address, settings, socket, routes);
                let listener = Rc::new(listener);
                swap.applied.opened.push(listener.clone());
                swap.applied.closed.extend(before);
                tables.running.listeners.insert(listener);
            }
            (_, _, Err(_)) => unreachable!("the decoder refuses a listener without address"),
        }
    }

    fn take(tables: &mut Tables, name: &str, swap: &mut Swap) {
        let taken = tables.running.listeners.swap_remove(name);
        swap.applied.closed.extend(taken);
    }
}

/// Whether it is a name of a protocol (RFC 7301), and not one of ours.
fn is_alpn(name: &str) -> bool {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    (1..=255).contains(&name.len())
        && name.bytes().all(is_printable)
        && !["h2", "http/1.1", "http/1.0"].contains(&name)
}

const BODY_BYTES_MAX: u64 = 1 << 50;
const HEAD_BYTES: RangeInclusive<u32> = 1024..=65536;
