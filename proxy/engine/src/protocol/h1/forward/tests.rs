//! What a backend gets to read.

use std::sync::LazyLock;

use super::*;
use crate::protocol::h1::HeadLimits;
use crate::protocol::h1::request;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    header_count_max: 32,
};

static VIA: LazyLock<Via> = LazyLock::new(|| Via::new("kakehi-1"));

fn untrusted() -> Forward<'static> {
    Forward {
        client_ip: b"192.0.2.7",
        client_port: 0,
        listener_port: 80,
        scheme: "http",
        trusted: false,
        client_cert: None,
        early: false,
        request_id: b"own",
        upstream_keep_alive: true,
        upgrade: true,
        body: RequestBody::None,
        via: &VIA,
        changed: Default::default(),
    }
}

fn trusted() -> Forward<'static> {
    Forward {
        trusted: true,
        ..untrusted()
    }
}

fn forward(raw: &str, forward: &Forward<'_>) -> String {
    let mut head = RequestHead::default();
    let length = request::parse(raw.as_bytes(), &LIMITS, &mut head).unwrap();
    assert_eq!(length, Some(raw.len()));
    let forward = Forward {
        body: head.body,
        ..*forward
    };
    let mut out = Vec::new();
    write_request(&mut out, raw.as_bytes(), &head, &forward);
    String::from_utf8(out).unwrap()
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// The values of a field in a written head.
fn values<'a>(written: &'a str, name: &str) -> Vec<&'a str> {
    written
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn an_ordinary_request_to_the_byte() {
    let raw = "GET /a?b HTTP/1.1\r\nhost: Shop.example:81\r\nUser-Agent: x\r\nAccept:y\r\n\
               Connection: keep-alive\r\nCookie: c=d\r\n\r\n";
    assert_eq!(
        forward(raw, &untrusted()),
        "GET /a?b HTTP/1.1\r\n\
         Host: shop.example:81\r\n\
         User-Agent: x\r\n\
         Accept: y\r\n\
         Cookie: c=d\r\n\
         X-Forwarded-For: 192.0.2.7\r\n\
         X-Forwarded-Proto: http\r\n\
         X-Forwarded-Port: 80\r\n\
         X-Forwarded-Host: shop.example:81\r\n\
         Forwarded: for=192.0.2.7;host=\"shop.example:81\";proto=http\r\n\
         Via: 1.1 kakehi-1\r\n\
         X-Request-Id: own\r\n\
         \r\n"
    );
}

#[test]
fn t20_the_normal_target_is_sent() {
    for (sent, line) in [
        (
            "GET /a/../%7eb//c?d=../e HTTP/1.1",
            "GET /~b/c?d=../e HTTP/1.1",
        ),
        ("GET http://a?q HTTP/1.1", "GET /?q HTTP/1.1"),
        ("GET /a? HTTP/1.1", "GET /a? HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("GET /a HTTP/1.0", "GET /a HTTP/1.1"),
    ] {
        let written = forward(&format!("{sent}\r\nHost: a\r\n\r\n"), &untrusted());
        assert_eq!(written.lines().next(), Some(line));
    }
}

#[test]
fn t14_only_a_websocket_handshake_is_passed_on() {
    let handshake = get("Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n");
    let written = forward(&handshake, &untrusted());
    assert_eq!(values(&written, "connection"), ["Upgrade"]);
    assert_eq!(values(&written, "upgrade"), ["websocket"]);
    assert_eq!(values(&written, "sec-websocket-key").len(), 1);
    let h2c = get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n");
    let written = forward(&h2c, &untrusted());
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(values(&written, name), [""; 0], "{name}");
    }
}

#[test]
fn t22_an_untrusted_peer_says_nothing_about_itself() {
    let raw = get(
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Server: y\r\n\
         X-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nX-Request-Id: theirs\r\n\
         True-Client-IP: 127.0.0.1\r\nX-Original-URL: /admin\r\nX-FORWARDED-fOr: 127.0.0.1\r\n",
    );
    let written = forward(&raw, &untrusted());
    for gone in [
        "127.0.0.1",
        "https",
        "evil",
        "theirs",
        "Prefix",
        "Server",
        "admin",
    ] {
        assert!(!written.contains(gone), "{gone}: {written}");
    }
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Request-Id",
    ] {
        assert_eq!(values(&written, name).len(), 1, "{name}");
    }
}

#[test]
fn t22_a_trusted_peer_is_believed_and_added() {
    let raw = get(
        "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.2\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Host: shop\r\n\
         X-Forwarded-Prefix: /x\r\nX-Real-IP: 198.51.100.1\r\nForwarded: for=x\r\n\
         X-Request-Id: theirs\r\n",
    );
    let written = forward(&raw, &trusted());
    for (name, value) in [
        ("X-Forwarded-For", "198.51.100.1, 198.51.100.2, 192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Host", "shop"),
        ("X-Forwarded-Prefix", "/x"),
        ("X-Real-IP", "198.51.100.1"),
        ("Forwarded", "for=x, for=192.0.2.7;host=a;proto=http"),
        ("X-Request-Id", "theirs"),
    ] {
        assert_eq!(values(&written, name), [value], "{name}");
    }
    let plain = forward(&get(""), &trusted());
    assert_eq!(plain, forward(&get(""), &untrusted()));
    for id in [
        "",
        "a b",
        "\u{e4}",
        &"x".repeat(129),
        "a\r\nX-Request-Id: b",
    ] {
        let written = forward(&get(&format!("X-Request-Id: {id}\r\n")), &trusted());
        assert_eq!(values(&written, "x-request-id"), ["own"], "{id:?}");
    }
}

#[test]
fn forwarded_quotes_what_is_no_token() {
    let six = Forward {
        client_ip: b"2001:db8::1",
        client_port: 4711,
        ..untrusted()
    };
    let written = forward("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", &six);
    assert_eq!(
        values(&written, "forwarded"),
        ["for=\"[2001:db8::1]:4711\";host=\"[::1]\";proto=http"]
    );
    assert_eq!(values(&written, "x-forwarded-for"), ["2001:db8::1"]);
    let old = forward("GET / HTTP/1.0\r\n\r\n", &untrusted());
    assert_eq!(values(&old, "forwarded"), ["for=192.0.2.7;proto=http"]);
    assert_eq!(values(&old, "host"), [""]);
    assert_eq!(values(&old, "via"), ["1.0 kakehi-1"]);
}

#[test]
fn forwarded_quotes_every_port_and_every_ipv6_address() {
    for host in ["a", "a.example", "192.0.2.1", "12345", "a-_9"] {
        let written = forward(&get_from(host), &untrusted());
        let said = format!("for=192.0.2.7;host={host};proto=http");
        assert_eq!(values(&written, "forwarded"), [said]);
    }
    for host in [
        "a:0",
        "a:80",
        "a:443",
        "a:8080",
        "a:65535",
        "[::1]:1",
        "[2001:db8::a]:65535",
    ] {
        let written = forward(&get_from(host), &untrusted());
        let said = format!("for=192.0.2.7;host=\"{host}\";proto=http");
        assert_eq!(values(&written, "forwarded"), [said]);
    }
    for ip in [
        "::",
        "::1",
        "1::",
        "fe::1",
        "fe8::1",
        "fe80::1",
        "1:2:3:4:5:6:7:8",
    ] {
        let six = Forward {
            client_ip: ip.as_bytes(),
            ..untrusted()
        };
        let written = forward(&get_from("a"), &six);
        let said = format!("for=\"[{ip}]\";host=a;proto=http");
        assert_eq!(values(&written, "forwarded"), [said]);
    }
}

fn get_from(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn t23_one_hop_is_not_the_next() {
    let raw = get(
        "Connection: close, X-Own\r\nX-Own: 1\r\nKeep-Alive: 5\r\nTE: trailers, deflate\r\n\
         Proxy-Connection: x\r\nProxy-Authorization: y\r\nTrailer: z\r\nProxy: p\r\nX_Real_Ip: c\r\n\
         Via: 1.0 fred\r\n",
    );
    let written = forward(&raw, &untrusted());
    for gone in [
        "close",
        "X-Own",
        "Keep-Alive",
        "deflate",
        "Proxy",
        "Trailer",
        "X_Real_Ip",
    ] {
        assert!(!written.contains(gone), "{gone}: {written}");
    }
    assert_eq!(values(&written, "te"), ["trailers"]);
    assert_eq!(values(&written, "connection"), ["TE"]);
    assert_eq!(values(&written, "via"), ["1.0 fred", "1.1 kakehi-1"]);
    let once = Forward {
        upstream_keep_alive: false,
        ..untrusted()
    };
    assert_eq!(values(&forward(&raw, &once), "connection"), ["TE, close"]);
    assert_eq!(values(&forward(&get(""), &once), "connection"), ["close"]);
}

#[test]
fn t09_the_framing_is_our_own() {
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let written = forward(
        &post("content-length:\t007\r\nExpect: 100-Continue\r\n"),
        &untrusted(),
    );
    assert_eq!(values(&written, "content-length"), ["7"]);
    assert_eq!(values(&written, "expect"), ["100-continue"]);
    let written = forward(
        &post("transfer-encoding:\tCHUNKED \r\nTrailer: x\r\n"),
        &untrusted(),
    );
    assert_eq!(values(&written, "transfer-encoding"), ["chunked"]);
    assert_eq!(values(&written, "content-length"), [""; 0]);
    assert_eq!(values(&written, "trailer"), ["x"]);
    let written = forward(&post("Content-Length: 0\r\n"), &untrusted());
    assert_eq!(values(&written, "content-length"), ["0"]);
}

#[test]
fn runs_of_lines_are_copied_whole() {
    let raw = get("A: 1\r\nB:2\r\nC: 3\r\nConnection: x\r\nD:  4 \r\nE: 5\r\nF: 6\r\n");
    let written = forward(&raw, &untrusted());
    let own = written.find("X-Forwarded-For").unwrap();
    assert_eq!(
        &written[..own],
        "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\n"
    );
}

#[test]
fn t22_a_trusted_peer_is_not_contradicted() {
    let customary = [
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Port: 443\r\n",
        "X-Real-IP: 203.0.113.7\r\n",
    ];
    for lines in customary {
        let written = forward(&get(lines), &trusted());
        assert_eq!(values(&written, "forwarded").len(), 0, "{lines:?}");
        assert_eq!(values(&written, "x-forwarded-for").len(), 1, "{lines:?}");
        let port: &[&str] = if lines.contains("Port") {
            &["443"]
        } else {
            &[]
        };
        assert_eq!(values(&written, "x-forwarded-port"), port, "{lines:?}");
    }
    let standard = forward(
        &get("Forwarded: for=203.0.113.7;proto=https\r\n"),
        &trusted(),
    );
    assert_eq!(values(&standard, "forwarded").len(), 1);
    for name in ["for", "proto", "host", "port"] {
        assert_eq!(values(&standard, &format!("x-forwarded-{name}")).len(), 0);
    }
}
