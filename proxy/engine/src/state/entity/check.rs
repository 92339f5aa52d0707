//! The bounds of every value: what the engine insists on, whoever wrote the entity.
//!
//! The reconciler has checked all of this before, with file and line. It is checked again because
//! a worker must not be broken by any bytes on its control channel; so the rule here is to refuse
//! what could harm the engine or a client, and to leave matters of taste to the reconciler.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::Backend;
use super::Certificate;
use super::Cluster;
use super::ClusterProtocol;
use super::Entity;
use super::ErrorPage;
use super::Frontend;
use super::Kind;
use super::Listener;
use super::ListenerProtocol;
use super::Material;
use super::PathMatch;
use super::Settings;
use super::UpstreamTls;
use super::ValueMatch;
use super::Workers;
use super::compile_regex;

/// Checks the name of an entity of `kind` against the grammar of names.
pub fn name(kind: Kind, name: &str) -> Result<(), String> {
    let valid = match kind {
        Kind::Settings => name == "settings",
        Kind::Backend => name
            .split_once('/')
            .is_some_and(|(cluster, backend)| is_name(cluster) && is_name(backend)),
        Kind::Certificate | Kind::Listener | Kind::Cluster | Kind::Frontend => is_name(name),
    };
    if valid {
        Ok(())
    } else {
        Err(format!("{name:?} is not the name of a {}", kind.as_str()))
    }
}

/// Checks the values of an entity.
pub fn entity(entity: &Entity) -> Result<(), String> {
    match entity {
        Entity::Settings(value) => settings(value),
        Entity::Certificate(value) => certificate(value),
        Entity::Listener(value) => listener(value),
        Entity::Cluster(value) => cluster(value),
        Entity::Backend(value) => backend(value),
        Entity::Frontend(value) => frontend(value),
    }
}

/// Reads `IP:port`; a name would have to be resolved, which is nothing for an event loop.
pub fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) => Err(format!(
            "address {text:?}: the port must be between 1 and 65535"
        )),
        Err(_) => Err(format!(
            "address {text:?}: expected IP:port, like 127.0.0.1:8080"
        )),
    }
}

fn settings(value: &Settings) -> Result<(), String> {
    let log = value.access_log.as_str();
    if !matches!(log, "stdout" | "off") && (!log.starts_with('/') || log.contains('\0')) {
        return Err(format!(
            "access_log {log:?}: expected stdout, off or an absolute path"
        ));
    }
    if let Some(admin) = &value.admin {
        socket_addr(admin)?;
    }
    error_pages(&value.error_pages)?;
    within("drain_timeout", value.drain_timeout, 0..=DURATION_MS_MAX)?;
    within(
        "max_buffered_bytes",
        value.max_buffered_bytes,
        BUFFERED_BYTES,
    )?;
    within(
        "max_connections",
        value.max_connections,
        1..=CONNECTIONS_MAX,
    )?;
    within("max_requests", value.max_requests, 1..=CONNECTIONS_MAX)?;
    match value.workers {
        Workers::Auto(_) => Ok(()),
        Workers::Count(count) => within("workers", count, 1..=WORKERS_MAX),
    }
}

fn certificate(value: &Certificate) -> Result<(), String> {
    for file in [&value.certificate, &value.private_key]
        .into_iter()
        .flatten()
    {
        material(file)?;
    }
    if let Some(ocsp) = &value.ocsp {
        material(&ocsp.material())?;
    }
    if value.certificate.is_some() != value.private_key.is_some() {
        return Err("certificate and private_key belong together".to_owned());
    }
    if value.certificate.is_none() && value.acme.is_none() {
        return Err("certificate: nobody brings it".to_owned());
    }
    let hostnames = &value.hostnames;
    if hostnames.is_empty() || !hostnames.is_sorted_by(|a, b| a < b) {
        return Err("hostnames: expected at least one, sorted, each once".to_owned());
    }
    match hostnames
        .iter()
        .find(|name| *name == "*" || !is_hostname(name))
    {
        None => Ok(()),
        Some(name) => Err(format!(
            "hostnames: {name:?} is not like shop.example.com or *.example.com"
        )),
    }
}

fn material(material: &Material) -> Result<(), String> {
    let hash = &material.sha256;
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hash.len() == SHA256_DIGITS && hash.bytes().all(hex) {
        Ok(())
    } else {
        Err(format!(
            "{hash:?} is not a SHA-256 in lower-case hexadecimal"
        ))
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

fn listener(value: &Listener) -> Result<(), String> {
    if value.tls.is_some() != (value.protocol == ListenerProtocol::Https) {
        return Err("tls: expected with protocol https, and only there".to_owned());
    }
    if let Some(tls) = &value.tls {
        let files = [&tls.client_ca, &tls.client_crl];
        files.into_iter().flatten().try_for_each(material)?;
        if tls.client_ca.is_none() && tls.client_crl.is_some() {
            return Err("tls.client_crl: there is no client_ca".to_owned());
        }
    }
    let default = value
        .tls
        .as_ref()
        .and_then(|tls| tls.default_certificate.as_deref());
    if let Some(name) = default.filter(|name| !is_name(name)) {
        return Err(format!(
            "tls.default_certificate: {name:?} is not the name of a certificate"
        ));
    }
    value.socket_addr()?;
    value.trusted_networks()?;
    value.introducing_networks()?;
    error_pages(&value.error_pages)?;
    let limits = &value.limits;
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
    let timeouts = &value.timeouts;
    within("timeouts.keep_alive", timeouts.keep_alive, TIMEOUT_MS)?;
    within("timeouts.request_body", timeouts.request_body, TIMEOUT_MS)?;
    within("timeouts.request_head", timeouts.request_head, TIMEOUT_MS)?;
    within(
        "timeouts.response_write",
        timeouts.response_write,
        TIMEOUT_MS,
    )
}

fn cluster(value: &Cluster) -> Result<(), String> {
    let limits = &value.limits;
    within("limits.head_bytes", limits.head_bytes, RESPONSE_HEAD_BYTES)?;
    within("limits.header_count", limits.header_count, HEADER_COUNT)?;
    within(
        "keep_alive_connections",
        value.keep_alive_connections,
        0..=CONNECTIONS_MAX,
    )?;
    within("retries", value.retries, 0..=RETRIES_MAX)?;
    if value.protocol == ClusterProtocol::H2 && value.proxy_protocol.is_some() {
        return Err("proxy_protocol: over h2 many clients share a connection".to_owned());
    }
    value.tls.as_ref().map_or(Ok(()), upstream_tls)?;
    let timeouts = &value.timeouts;
    within("timeouts.connect", timeouts.connect, TIMEOUT_MS)?;
    within("timeouts.keep_alive", timeouts.keep_alive, TIMEOUT_MS)?;
    within("timeouts.response_body", timeouts.response_body, TIMEOUT_MS)?;
    within("timeouts.response_head", timeouts.response_head, TIMEOUT_MS)?;
    within("timeouts.tunnel", timeouts.tunnel, TIMEOUT_MS)
}

fn backend(value: &Backend) -> Result<(), String> {
    value.socket_addr().map(drop)
}

fn frontend(value: &Frontend) -> Result<(), String> {
    if !is_name(&value.cluster) {
        return Err(format!(
            "cluster {:?} is not the name of a cluster",
            value.cluster
        ));
    }
    if let Some(listener) = value.listeners.iter().find(|listener| !is_name(listener)) {
        return Err(format!(
            "listeners: {listener:?} is not the name of a listener"
        ));
    }
    if value.listeners.is_empty() || !value.listeners.is_sorted_by(|a, b| a < b) {
        return Err("listeners: expected at least one, sorted, each once".to_owned());
    }
    if !is_hostname(&value.hostname) {
        return Err(format!(
            "hostname {:?}: expected shop.example.com, *.example.com or *, in lower case",
            value.hostname
        ));
    }
    if let Some(method) = value.methods.iter().find(|method| !is_token(method)) {
        return Err(format!("methods: {method:?} is not a method"));
    }
    if value.passthrough
        && !(value.path == PathMatch::Prefix("/".to_owned())
            && value.methods.is_empty()
            && value.headers.is_empty()
            && value.query.is_empty()
            && value.hsts.is_none()
            && value.client_certificate.is_none()
            && !value.early_data
            && value.redirect.is_none())
    {
        return Err("passthrough: nothing but the hostname can be matched".to_owned());
    }
    if !value.upgrades.is_sorted_by(|a, b| a < b)
        || value
            .upgrades
            .iter()
            .any(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()))
    {
        return Err("upgrades: expected names in lower case, sorted, each once".to_owned());
    }
    path(&value.path)?;
    for (name, value) in &value.headers {
        if !is_token(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(format!(
                "headers: {name:?} is not a header name in lower case"
            ));
        }
        value_match(value)?;
    }
    if value.query.contains_key("") {
        return Err("query: a parameter needs a name".to_owned());
    }
    value.query.values().try_for_each(value_match)
}

fn path(path: &PathMatch) -> Result<(), String> {
    match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => {
            if !path.starts_with('/') || path.contains(['?', '#']) {
                return Err(format!(
                    "path {path:?}: expected a slash first and no query"
                ));
            }
            within("path length", path.len(), 1..=PATH_BYTES_MAX)
        }
        PathMatch::Regex(pattern) => compile_regex(pattern).map(drop),
    }
}

fn value_match(value: &ValueMatch) -> Result<(), String> {
    match value {
        ValueMatch::Exact(_) => Ok(()),
        ValueMatch::Regex(pattern) => compile_regex(pattern).map(drop),
    }
}

fn error_pages(pages: &BTreeMap<String, ErrorPage>) -> Result<(), String> {
    for (status, page) in pages {
        let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !("400"..="599").contains(&status.as_str()) {
            return Err(format!(
                "error_pages: {status:?} is not a status between 400 and 599"
            ));
        }
        // It is copied into a response head, where a line break would begin another header.
        let printable = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if page.content_type.is_empty() || !page.content_type.bytes().all(printable) {
            return Err(format!(
                "error_pages.{status}: content type {:?} is not a header value",
                page.content_type
            ));
        }
    }
    Ok(())
}

/// `[a-z0-9][a-z0-9._-]{0,62}`.
fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(|byte| alphanumeric(*byte))
        && bytes
            .iter()
            .all(|byte| alphanumeric(*byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// A hostname as frontends have it: lower case, ASCII, no trailing dot, perhaps `*.` before it, or
/// an IPv6 address in brackets, which clients send as well.
fn is_hostname(hostname: &str) -> bool {
    if hostname == "*" {
        return true;
    }
    if let Some(address) = hostname.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let hostname = hostname.strip_prefix("*.").unwrap_or(hostname);
    hostname.len() <= HOSTNAME_BYTES_MAX && hostname.split('.').all(is_label)
}

/// A label of a hostname. The underscore is not in RFC 1123, but in use.
fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(allowed)
}

/// A token of RFC 9110 §5.6.2, which methods and header names are.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn within<N>(what: &str, value: N, range: RangeInclusive<N>) -> Result<(), String>
where
    N: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{what} is {value}, expected {} to {}",
        range.start(),
        range.end()
    ))
}

/// Longest hostname that can be looked up, from RFC 1035 §2.3.4 without the trailing dot.
pub const HOSTNAME_BYTES_MAX: usize = 253;
/// Longest path of a frontend: far below what a request head may hold, far above what is written.
pub const PATH_BYTES_MAX: usize = 2048;

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 63;
const TOKEN_BYTES_MAX: usize = 256;
const BODY_BYTES_MAX: u64 = 1 << 50;
const BUFFERED_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
const CONNECTIONS_MAX: u32 = 1_000_000;
const DURATION_MS_MAX: u64 = 7 * 24 * 3_600_000;
const RESPONSE_HEAD_BYTES: RangeInclusive<u32> = 1024..=128 * 1024;
const HEAD_BYTES: RangeInclusive<u32> = 1024..=65536;
const HEADER_COUNT: RangeInclusive<u32> = 1..=1000;
const RETRIES_MAX: u32 = 10;
const TIMEOUT_MS: RangeInclusive<u64> = 1..=DURATION_MS_MAX;
const WORKERS_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for valid in ["a", "0", "shop-web_2.x", &"a".repeat(63)] {
            assert!(is_name(valid), "{valid:?}");
        }
        for invalid in ["", "-a", ".a", "A", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(!is_name(invalid), "{invalid:?}");
        }
        assert!(name(Kind::Backend, "shop/shop-1").is_ok());
        assert!(name(Kind::Backend, "shop").is_err());
        assert!(name(Kind::Backend, "shop/a/b").is_err());
        assert!(name(Kind::Settings, "settings").is_ok());
        assert!(name(Kind::Settings, "other").is_err());
    }

    #[test]
    fn hostnames_are_lower_case_ascii() {
        for valid in [
            "*",
            "a",
            "shop.example.com",
            "*.example.com",
            "xn--caf-dma.fr",
            "[::1]",
        ] {
            assert!(is_hostname(valid), "{valid:?}");
        }
        for invalid in [
            "", "*.", "a.", ".a", "a..b", "A.com", "*a.com", "a.*.com", "é", "a:80",
        ] {
            assert!(!is_hostname(invalid), "{invalid:?}");
        }
        assert!(!is_hostname("[::1"));
        assert!(!is_hostname(&"a.".repeat(130)));
    }

    #[test]
    fn addresses_need_a_port_and_no_name() {
        assert!(socket_addr("127.0.0.1:80").is_ok());
        assert!(socket_addr("[::1]:65535").is_ok());
        for invalid in [
            "",
            "127.0.0.1",
            "127.0.0.1:0",
            "localhost:80",
            "::1:80",
            "1.2.3.4:65536",
        ] {
            assert!(socket_addr(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn a_content_type_cannot_begin_another_header() {
        let page = |content_type: &str| {
            let page = ErrorPage {
                body: String::new(),
                content_type: content_type.to_owned(),
            };
            error_pages(&BTreeMap::from([("503".to_owned(), page)]))
        };
        assert!(page("text/html; charset=utf-8").is_ok());
        for invalid in ["", "text/html\r\nSet-Cookie: a=b", "text/é", "a\0"] {
            assert!(page(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn error_pages_are_for_errors() {
        let page = ErrorPage {
            body: String::new(),
            content_type: "text/plain".to_owned(),
        };
        for (status, valid) in [
            ("400", true),
            ("599", true),
            ("399", false),
            ("600", false),
            ("4x4", false),
            ("50", false),
        ] {
            let pages = BTreeMap::from([(status.to_owned(), page.clone())]);
            assert_eq!(error_pages(&pages).is_ok(), valid, "{status}");
        }
    }
}
