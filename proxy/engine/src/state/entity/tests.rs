//! The language against the canonical bytes that the reconciler writes.

use super::*;

/// Canonical values, as the reconciler writes them.
const VALUES: [(Kind, &str); 15] = [
    (Kind::Settings, "{}"),
    (
        Kind::Settings,
        concat!(
            r#"{"access_log":"off","admin":"127.0.0.1:9100","drain_timeout":0,"error_pages":"#,
            r#"{"503":{"body":"\u0001\b\f\t\n\"\\/é","content_type":"text/html"}},"#,
            r#""generation_header":true,"max_buffered_bytes":1048576,"max_connections":1,"max_counted_entities":1,"max_requests":1,"metrics_entities":0,"workers":4}"#
        ),
    ),
    (Kind::Settings, r#"{"error_pages":{"503":{"body":""}}}"#),
    (
        Kind::Listener,
        r#"{"address":"127.0.0.1:8080","proxy_protocol":["10.0.0.0/8"],"trusted_proxies":["10.0.0.0/8"]}"#,
    ),
    (
        Kind::Listener,
        concat!(
            r#"{"address":"[::]:8443","limits":{"body_bytes":0},"merge_slashes":false,"protocol":"https","#,
            r#""timeouts":{"keep_alive":1},"tls":{"default_certificate":"shop","profile":"modern"}}"#
        ),
    ),
    (
        Kind::Certificate,
        concat!(
            r#"{"certificate":{"path":"tls/shop.crt","sha256":"00000000000000000000000000000000"#,
            r#"00000000000000000000000000000000"},"hostnames":["*.example.com","example.com"],"private_key":"#,
            r#"{"path":"/etc/shop.key","sha256":"ffffffffffffffffffffffffffffffffffffffff"#,
            r#"ffffffffffffffffffffffff"}}"#
        ),
    ),
    (Kind::Certificate, r#"{"acme":{},"hostnames":["a.test"]}"#),
    (Kind::Policy, r#"{"hsts":null}"#),
    (
        Kind::Policy,
        concat!(
            r#"{"error_pages":{"404":null,"503":{"body":"b"}},"hsts":{"max_age_days":1},"#,
            r#""response_headers":{"remove":["Server"],"set":{"X-A":null,"X-B":"{path}"}}}"#
        ),
    ),
    (
        Kind::Frontend,
        concat!(
            r#"{"cluster":"shop","error_pages":{"503":null},"hsts":null,"listeners":["public-http"],"#,
            r#""policies":["secure"]}"#
        ),
    ),
    (Kind::Cluster, "{}"),
    (
        Kind::Cluster,
        r#"{"keep_alive_connections":256,"load_balancing":"random","tls":{"server_name":"shop.internal"}}"#,
    ),
    (Kind::Cluster, r#"{"tls":{}}"#),
    (Kind::Backend, r#"{"address":"127.0.0.1:9001"}"#),
    (
        Kind::Frontend,
        concat!(
            r#"{"cluster":"shop","headers":{"x-canary":{"exact":"1"}},"hsts":{"max_age_days":1},"listeners":["public-http"],"#,
            r#""methods":["GET"],"path":{"exact":"/"},"query":{"v":{"regex":"é+"}},"upgrades":[]}"#
        ),
    ),
];

#[test]
fn canonical_bytes_survive_the_typed_form() {
    for (kind, text) in VALUES {
        let entity = Entity::from_json(kind, text).unwrap();
        assert_eq!(entity.kind(), kind);
        assert_eq!(String::from_utf8(entity.canonical()).unwrap(), text);
    }
}

#[test]
fn what_is_not_written_stands_at_its_default() {
    let Ok(Entity::Backend(backend)) = Entity::from_json(Kind::Backend, r#"{"address":"a"}"#)
    else {
        panic!("a backend");
    };
    assert_eq!(backend.weight, 100);
    let text = r#"{"limits":{"head_bytes":65536},"proxy_protocol":null,"timeouts":{}}"#;
    let written = Entity::from_json(Kind::Cluster, text).unwrap();
    assert_eq!(
        written.canonical(),
        b"{}",
        "a default that is written is none that counts"
    );
}

#[test]
fn unknown_and_missing_keys_are_refused() {
    for text in [
        r#"{"weight":1}"#,
        r#"{"address":"127.0.0.1:9001","weight":1,"wieght":2}"#,
        r#"{"address":"127.0.0.1:9001","weight":1.0}"#,
        r#"{"address":"127.0.0.1:9001","weight":-1}"#,
        r#"{"address":"127.0.0.1:9001","weight":1,"weight":1}"#,
    ] {
        assert!(Entity::from_json(Kind::Backend, text).is_err(), "{text}");
    }
}

#[test]
fn kinds_round_trip_through_their_words() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(Kind::parse("route"), None);
}

#[test]
fn regexes_match_wholly_and_stay_small() {
    let regex = compile_regex("a|ab", false).unwrap();
    assert!(regex.is_match(b"ab"));
    assert!(!regex.is_match(b"abc"));
    assert!(!regex.is_match(b"a\n"));
    assert!(compile_regex("a)|(b", false).is_err());
    assert!(compile_regex("(?:a{1000}){1000}", false).is_err());
    assert!(
        compile_regex("(?=a)", false)
            .unwrap_err()
            .contains("look-around")
    );
}
