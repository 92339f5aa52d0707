//! The entities that a worker holds, as typed values; what may be said here is what may be said
//! in a configuration.
//!
//! The rule of this file: every struct has **all** keys of its kind, in alphabetical order, with
//! no default and no key left out. Then `serde_json` writes exactly the canonical bytes that the
//! reconciler hashed, and [`super::ops`] can hold the two against each other. Limits of values
//! are in [`check`], so that this file stays a plain picture of the language.

pub mod certificate;
pub mod check;
pub mod cidr;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;
use serde::Deserialize;
use serde::Serialize;

pub use self::certificate::Acme;
pub use self::certificate::Certificate;
pub use self::certificate::Staple;
use self::cidr::Cidr;

/// What an entity is; with its name, its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The one entity of process-wide settings, always named `settings`.
    Settings,
    /// A chain and its key, for some hostnames.
    Certificate,
    /// An address on which clients are accepted.
    Listener,
    /// A named set of interchangeable backends.
    Cluster,
    /// One address in a cluster, named `CLUSTER/BACKEND`.
    Backend,
    /// A match that leads to a cluster.
    Frontend,
}

impl Kind {
    /// Every kind, in the order in which a state is built up.
    pub const ALL: [Self; 6] = [
        Self::Settings,
        Self::Certificate,
        Self::Listener,
        Self::Cluster,
        Self::Backend,
        Self::Frontend,
    ];

    /// The word that stands for this kind on the wire and in the digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Certificate => "certificate",
            Self::Listener => "listener",
            Self::Cluster => "cluster",
            Self::Backend => "backend",
            Self::Frontend => "frontend",
        }
    }

    /// The kind that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One value of the state, of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// See [`Settings`].
    Settings(Settings),
    /// See [`Certificate`].
    Certificate(Certificate),
    /// See [`Listener`].
    Listener(Listener),
    /// See [`Cluster`].
    Cluster(Cluster),
    /// See [`Backend`].
    Backend(Backend),
    /// See [`Frontend`].
    Frontend(Frontend),
}

impl Entity {
    /// Reads the JSON value of an entity of `kind`; its values are not checked yet.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Settings => Self::Settings(serde_json::from_str(text)?),
            Kind::Certificate => Self::Certificate(serde_json::from_str(text)?),
            Kind::Listener => Self::Listener(serde_json::from_str(text)?),
            Kind::Cluster => Self::Cluster(serde_json::from_str(text)?),
            Kind::Backend => Self::Backend(serde_json::from_str(text)?),
            Kind::Frontend => Self::Frontend(serde_json::from_str(text)?),
        })
    }

    /// The kind of this value.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Settings(_) => Kind::Settings,
            Self::Certificate(_) => Kind::Certificate,
            Self::Listener(_) => Kind::Listener,
            Self::Cluster(_) => Kind::Cluster,
            Self::Backend(_) => Kind::Backend,
            Self::Frontend(_) => Kind::Frontend,
        }
    }

    /// The canonical bytes: compact JSON, keys sorted, UTF-8 unescaped.
    pub fn canonical(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Settings(value) => serde_json::to_vec(value),
            Self::Certificate(value) => serde_json::to_vec(value),
            Self::Listener(value) => serde_json::to_vec(value),
            Self::Cluster(value) => serde_json::to_vec(value),
            Self::Backend(value) => serde_json::to_vec(value),
            Self::Frontend(value) => serde_json::to_vec(value),
        };
        bytes.expect("maps with string keys and plain values always serialise")
    }
}

/// What clients speak at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerProtocol {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP over TLS.
    Https,
}

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

/// A file that an entity refers to. What counts is its content, which comes beside the operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Material {
    /// Where the operator keeps it.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// How a listener takes TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsPolicy {
    /// Whether a client without a certificate is refused, where there are authorities.
    pub client_auth: ClientAuth,
    /// Authorities that issue certificates of clients; `None` asks for none.
    pub client_ca: Option<Material>,
    /// Lists of revoked certificates.
    pub client_crl: Option<Material>,
    /// The certificate for clients whose SNI is missing or nobody's.
    pub default_certificate: Option<String>,
    /// Versions and cipher suites.
    pub profile: TlsProfile,
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

/// What a frontend asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// A certificate that has been verified.
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

/// What is sent in place of a response that the engine itself has to make up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorPage {
    /// The body, sent as it is.
    pub body: String,
    /// The value of its `Content-Type`.
    pub content_type: String,
}

/// An address on which clients are accepted. Durations are milliseconds, sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `IP:port`, IPv6 in brackets.
    pub address: String,
    /// Pages by status, which win over those of the settings.
    pub error_pages: BTreeMap<String, ErrorPage>,
    /// In clear text, take HTTP/2 from clients that begin with it (RFC 9113 §3.3).
    pub h2c: bool,
    /// Hard limits.
    pub limits: ListenerLimits,
    /// `//` in a path is `/`.
    pub merge_slashes: bool,
    /// What clients speak.
    pub protocol: ListenerProtocol,
    /// Networks whose connections begin with a PROXY protocol preamble.
    pub proxy_protocol: Vec<String>,
    /// How long a client may take.
    pub timeouts: ListenerTimeouts,
    /// Set exactly where `protocol` is `https`.
    pub tls: Option<TlsPolicy>,
    /// Networks whose clients may hand forwarding headers on.
    pub trusted_proxies: Vec<String>,
    /// Take fields whose names have an underscore, unless they alias one of our own.
    pub underscores_in_headers: bool,
}

impl Listener {
    /// The address to accept on.
    pub fn socket_addr(&self) -> Result<SocketAddr, String> {
        check::socket_addr(&self.address)
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

/// Hard limits of a listener, each answered at once when it is passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerLimits {
    /// Largest request body; `None` is unlimited.
    pub body_bytes: Option<u64>,
    /// Connections at one time, per worker.
    pub connections: u32,
    /// Largest request head, request line included.
    pub head_bytes: u32,
    /// Most header lines in a request.
    pub header_count: u32,
}

/// How long a client may take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// Between two requests.
    pub keep_alive: u64,
    /// Between two pieces of a request body.
    pub request_body: u64,
    /// From the first byte of a request to the end of its head.
    pub request_head: u64,
    /// Without taking any byte of the response.
    pub response_write: u64,
}

/// A named set of interchangeable backends and its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Idle upstream connections kept per backend and worker.
    pub keep_alive_connections: u32,
    /// Hard limits of its responses.
    pub limits: ClusterLimits,
    /// How a backend is chosen.
    pub load_balancing: LoadBalancing,
    /// What the backends speak.
    pub protocol: ClusterProtocol,
    /// How backends are told who the client is, before anything else.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Further backends tried when connecting failed.
    pub retries: u32,
    /// How long a backend may take.
    pub timeouts: ClusterTimeouts,
    /// TLS towards the backends; `None` is clear text.
    pub tls: Option<UpstreamTls>,
}

/// Hard limits of what a backend sends, which is out of order beyond them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterLimits {
    /// Largest response head.
    pub head_bytes: u32,
    /// Most fields in a response head.
    pub header_count: u32,
}

/// TLS towards backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM bundle of the authorities to trust; `None` trusts the system's.
    pub ca: Option<Material>,
    /// PEM chain to show to a backend that asks who we are; with `private_key` or not at all.
    pub certificate: Option<Material>,
    /// PEM private key of that chain's leaf.
    pub private_key: Option<Material>,
    /// Name sent as SNI and expected in the backend's certificate; `None` is the backend's IP address.
    pub server_name: Option<String>,
    /// Whether the backend must prove who it is.
    pub verify: bool,
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

/// How long a backend may take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTimeouts {
    /// To accept a connection.
    pub connect: u64,
    /// How long an idle upstream connection is kept.
    pub keep_alive: u64,
    /// Between two pieces of a response body.
    pub response_body: u64,
    /// From the end of the request to the head of the response.
    pub response_head: u64,
    /// Without a byte in either direction of a tunnel.
    pub tunnel: u64,
}

/// One address in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// `IP:port`, IPv6 in brackets.
    pub address: String,
    /// Share of the requests; 0 takes no new ones.
    pub weight: u16,
}

impl Backend {
    /// The address to connect to.
    pub fn socket_addr(&self) -> Result<SocketAddr, String> {
        check::socket_addr(&self.address)
    }
}

/// A match that leads to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frontend {
    /// What a client has to have shown.
    pub client_certificate: Option<ClientCertificate>,
    /// The cluster that serves what matches.
    pub cluster: String,
    /// Requests that are safe may come as early data.
    pub early_data: bool,
    /// Header name (lower case) to what one of its values must be.
    pub headers: BTreeMap<String, ValueMatch>,
    /// `shop.example.com`, `*.example.com` or `*`.
    pub hostname: String,
    /// What clients are told of TLS in responses over it.
    pub hsts: Option<Hsts>,
    /// The listeners on which this match exists.
    pub listeners: Vec<String>,
    /// Methods that match; empty is any.
    pub methods: Vec<String>,
    /// TLS for this hostname is passed on unread.
    pub passthrough: bool,
    /// What the path must be.
    pub path: PathMatch,
    /// Query parameter name to what its value must be.
    pub query: BTreeMap<String, ValueMatch>,
    /// Where requests in clear text are sent instead.
    pub redirect: Option<Redirect>,
    /// Protocols, in lower case, that may be switched to.
    pub upgrades: Vec<String>,
}

impl Frontend {
    /// Whether a handshake for another protocol is passed on.
    pub fn passes_on(&self, protocol: &[u8]) -> bool {
        self.upgrades
            .iter()
            .any(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(protocol))
    }
}

/// Strict-Transport-Security (RFC 6797).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// Hosts below this one are meant, too.
    pub include_subdomains: bool,
    /// How long clients remember it.
    pub max_age_days: u32,
    /// Browsers may have it built in.
    pub preload: bool,
}

impl Hsts {
    /// The whole line, with its CRLF.
    pub fn line(&self) -> String {
        let seconds = u64::from(self.max_age_days) * 24 * 3600;
        let subdomains = if self.include_subdomains {
            "; includeSubDomains"
        } else {
            ""
        };
        let preload = if self.preload { "; preload" } else { "" };
        format!("Strict-Transport-Security: max-age={seconds}{subdomains}{preload}\r\n")
    }
}

/// Where requests in clear text are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// The same over TLS.
    Https,
}

/// What the path of a request must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// Exactly this.
    Exact(String),
    /// This, or anything below it, whole elements only.
    Prefix(String),
    /// Wholly matched by this expression.
    Regex(String),
}

/// What the value of a header or of a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueMatch {
    /// Exactly this.
    Exact(String),
    /// Wholly matched by this expression.
    Regex(String),
}

/// What concerns a worker as a whole. Limits are per worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `stdout`, `off` or an absolute path.
    pub access_log: String,
    /// Where the reconciler serves metrics; nothing to the engine.
    pub admin: Option<String>,
    /// Most time given to what is drained, in milliseconds.
    pub drain_timeout: u64,
    /// Pages by status for every listener.
    pub error_pages: BTreeMap<String, ErrorPage>,
    /// Whether responses tell the generation that served them.
    pub generation_header: bool,
    /// Bytes that may wait for peers to take them, or for the rest of a message.
    pub max_buffered_bytes: u64,
    /// Client connections at one time.
    pub max_connections: u32,
    /// Requests in flight at one time.
    pub max_requests: u32,
    /// How many workers; the reconciler's affair.
    pub workers: Workers,
}

/// How many workers there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Workers {
    /// As many as the machine suggests.
    Auto(Auto),
    /// This many.
    Count(u32),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// As many as the machine suggests.
    Auto,
}

/// Compiles an expression so that it matches a value wholly or not at all.
///
/// The engine of `regex` is linear in the length of the value, whatever the expression; what can
/// still be large is the compiled program, so that is limited.
pub fn compile_regex(pattern: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_PROGRAM_BYTES_MAX)
            .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
            .build()
            .map_err(|error| format!("regex {pattern:?}: {error}"))
    };
    // Alone first: `a)|(b` would become two balanced groups inside the anchors.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

/// Largest compiled expression. The crate's own default is ten times that, for one expression;
/// here there may be one per frontend.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Largest cache of the lazily built automaton. When it is full, the crate goes on with slower,
/// still linear means.
const REGEX_CACHE_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests;
