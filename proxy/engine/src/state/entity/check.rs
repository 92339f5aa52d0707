//! The bounds and the grammar of values that several kinds have: what the engine insists on, whoever
//! wrote the entity.
//!
//! The reconciler has checked all of this before, with file and line. It is checked again because
//! a worker must not be broken by any bytes on its control channel; so the rule here, and in the
//! `check` of each kind, is to refuse what could harm the engine or a client, and to leave matters of
//! taste to the reconciler.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::ErrorPage;
use super::Kind;
use super::Material;
use super::cidr::Cidr;

/// Checks the name of an entity of `kind` against the grammar of names.
pub fn name(kind: Kind, name: &str) -> Result<(), String> {
    if kind.is_name(name) {
        Ok(())
    } else {
        Err(format!("{name:?} is not the name of a {}", kind.as_str()))
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

/// Checks the hash of a file; its path is for people.
pub fn material(material: &Material) -> Result<(), String> {
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

/// Checks what clients are told that they ask for, which stands in quotes in a line.
pub fn realm(realm: &str) -> Result<(), String> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
    match (1..=REALM_BYTES_MAX).contains(&realm.len()) && realm.bytes().all(is_plain) {
        true => Ok(()),
        false => Err("realm: expected a short text in ASCII".to_owned()),
    }
}

/// Checks pages by their statuses.
pub fn error_pages(pages: &BTreeMap<String, ErrorPage>) -> Result<(), String> {
    let mut each = pages.iter();
    each.try_for_each(|(status, page)| error_page(status, Some(page)))
}

/// Checks a page and its status; without one it is the built-in page that is meant.
pub fn error_page(status: &str, page: Option<&ErrorPage>) -> Result<(), String> {
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !("400"..="599").contains(&status) {
        return Err(format!(
            "error_pages: {status:?} is not a status between 400 and 599"
        ));
    }
    // It is copied into a response head, where a line break would begin another header.
    let printable = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    match page {
        Some(page) if page.content_type.is_empty() || !page.content_type.bytes().all(printable) => {
            Err(format!(
                "error_pages.{status}: content type {:?} is not a header value",
                page.content_type
            ))
        }
        _ => Ok(()),
    }
}

/// Checks a list of policies.
pub fn names_of_policies(names: &[Box<str>]) -> Result<(), String> {
    if !names.is_sorted_by(|a, b| a < b) || !names.iter().all(|name| is_name(name)) {
        return Err("policies: expected names, sorted, each once".to_owned());
    }
    within("the number of policies", names.len(), 0..=POLICIES_MAX)
}

/// Checks a list of networks, which is never empty: that could mean any client, or none.
pub fn networks(key: &str, networks: Option<&[Box<str>]>) -> Result<(), String> {
    let Some(networks) = networks else {
        return Ok(());
    };
    if !networks.is_sorted_by(|a, b| a < b) {
        return Err(format!("{key}: expected networks, sorted, each once"));
    }
    within(key, networks.len(), 1..=NETWORKS_MAX)?;
    for network in networks {
        Cidr::parse(network).map_err(|reason| format!("{key}: {reason}"))?;
    }
    Ok(())
}

/// `[a-z0-9][a-z0-9._-]{0,62}`.
pub fn is_name(name: &str) -> bool {
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
pub fn is_hostname(hostname: &str) -> bool {
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
pub fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Checks that a number is within its bounds, both included.
pub fn within<N>(what: &str, value: N, range: RangeInclusive<N>) -> Result<(), String>
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

/// Policies that one frontend or listener may name.
const POLICIES_MAX: usize = 8;

/// Networks that one list may have.
const NETWORKS_MAX: usize = 1000;

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;
/// Longest name of a realm.
const REALM_BYTES_MAX: usize = 128;

const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 63;
const TOKEN_BYTES_MAX: usize = 256;
/// What may wait for peers in a worker.
pub const BUFFERED_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Most connections, or requests, at one time.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// A week.
pub const DURATION_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Fields in a head.
pub const HEADER_COUNT: RangeInclusive<u32> = 1..=1000;
/// A timeout.
pub const TIMEOUT_MS: RangeInclusive<u64> = 1..=DURATION_MS_MAX;

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
