//! The language against the canonical bytes that the reconciler writes.

use super::*;

const FRONTEND: &str = concat!(
    r#"{"client_certificate":null,"cluster":"shop","early_data":false,"headers":{"x-canary":{"exact":"1"}},"hostname":"*","hsts":null,"listeners":["#,
    r#""public-http"],"methods":["GET"],"passthrough":false,"path":{"prefix":"/"},"query":{"v":{"regex":"é+"}},"redirect":null,"upgrades":["websocket"]}"#
);

/// One canonical value per kind, as the reconciler writes it.
const VALUES: [(Kind, &str); 9] = [
    (
        Kind::Settings,
        concat!(
            r#"{"access_log":"stdout","admin":null,"drain_timeout":30000,"error_pages":{},"#,
            r#""generation_header":false,"max_buffered_bytes":1073741824,"max_connections":10000,"max_requests":10000,"#,
            r#""workers":"auto"}"#
        ),
    ),
    (
        Kind::Settings,
        concat!(
            r#"{"access_log":"off","admin":"127.0.0.1:9100","drain_timeout":0,"error_pages":"#,
            r#"{"503":{"body":"\u0001\b\f\t\n\"\\/é","content_type":"text/html"}},"#,
            r#""generation_header":true,"max_buffered_bytes":1048576,"max_connections":1,"max_requests":1,"workers":4}"#
        ),
    ),
    (
        Kind::Listener,
        concat!(
            r#"{"address":"127.0.0.1:8080","error_pages":{},"h2c":false,"limits":{"body_bytes":null,"#,
            r#""connections":10000,"head_bytes":32768,"header_count":100},"merge_slashes":true,"protocol":"http","proxy_protocol":["10.0.0.0/8"],"#,
            r#""timeouts":{"keep_alive":60000,"request_body":30000,"request_head":10000,"#,
            r#""response_write":30000},"tls":null,"trusted_proxies":["10.0.0.0/8"],"underscores_in_headers":true}"#
        ),
    ),
    (
        Kind::Listener,
        concat!(
            r#"{"address":"[::]:8443","error_pages":{},"h2c":false,"limits":{"body_bytes":null,"#,
            r#""connections":10000,"head_bytes":32768,"header_count":100},"merge_slashes":true,"protocol":"https","proxy_protocol":[],"#,
            r#""timeouts":{"keep_alive":60000,"request_body":30000,"request_head":10000,"#,
            r#""response_write":30000},"tls":{"client_auth":"required","client_ca":null,"client_crl":null,"default_certificate":"shop","profile":"modern"},"#,
            r#""trusted_proxies":[],"underscores_in_headers":true}"#
        ),
    ),
    (
        Kind::Certificate,
        concat!(
            r#"{"acme":null,"certificate":{"path":"tls/shop.crt","sha256":"00000000000000000000000000000000"#,
            r#"00000000000000000000000000000000"},"hostnames":["*.example.com","example.com"],"ocsp":null,"private_key":"#,
            r#"{"path":"/etc/shop.key","sha256":"ffffffffffffffffffffffffffffffffffffffff"#,
            r#"ffffffffffffffffffffffff"}}"#
        ),
    ),
    (
        Kind::Cluster,
        concat!(
            r#"{"keep_alive_connections":256,"limits":{"head_bytes":65536,"header_count":256},"load_balancing":"round_robin","protocol":"http","proxy_protocol":null,"#,
            r#""retries":2,"timeouts":{"connect":3000,"keep_alive":50000,"response_body":60000,"#,
            r#""response_head":60000,"tunnel":3600000},"tls":null}"#
        ),
    ),
    (
        Kind::Cluster,
        concat!(
            r#"{"keep_alive_connections":256,"limits":{"head_bytes":65536,"header_count":256},"load_balancing":"random","protocol":"http","proxy_protocol":null,"#,
            r#""retries":2,"timeouts":{"connect":3000,"keep_alive":50000,"response_body":60000,"#,
            r#""response_head":60000,"tunnel":3600000},"tls":{"ca":null,"certificate":null,"#,
            r#""private_key":null,"server_name":"shop.internal","verify":true}}"#
        ),
    ),
    (
        Kind::Backend,
        r#"{"address":"127.0.0.1:9001","weight":100}"#,
    ),
    (Kind::Frontend, FRONTEND),
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
fn unknown_and_missing_keys_are_refused() {
    for text in [
        r#"{"address":"127.0.0.1:9001"}"#,
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
    let regex = compile_regex("a|ab").unwrap();
    assert!(regex.is_match(b"ab"));
    assert!(!regex.is_match(b"abc"));
    assert!(!regex.is_match(b"a\n"));
    assert!(compile_regex("a)|(b").is_err());
    assert!(compile_regex("(?:a{1000}){1000}").is_err());
    assert!(compile_regex("(?=a)").unwrap_err().contains("look-around"));
}
