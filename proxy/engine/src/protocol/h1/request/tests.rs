//! Requests as conversations: what is accepted and how it is read, and what is refused and why.
//! Each is parsed whole and byte by byte.

use super::*;
use crate::protocol::h1::FieldFault;

mod authority;
mod framing;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    header_count_max: 16,
};

struct Parsed {
    buf: Vec<u8>,
    head: RequestHead,
    length: usize,
}

impl Parsed {
    fn text(&self, read: impl Fn(&RequestHead, &[u8]) -> Vec<u8>) -> String {
        String::from_utf8_lossy(&read(&self.head, &self.buf)).into_owned()
    }

    fn host(&self) -> String {
        self.text(|head, buf| head.host(buf).to_vec())
    }

    fn authority(&self) -> String {
        self.text(|head, buf| head.authority(buf).to_vec())
    }

    fn path(&self) -> String {
        self.text(|head, buf| head.path(buf).to_vec())
    }

    fn dropped(&self) -> Vec<String> {
        let names = self.head.fields.iter().filter(|field| field.drop);
        names
            .map(|field| String::from_utf8_lossy(field.name.of(&self.buf)).into_owned())
            .collect()
    }
}

/// Parses whole and byte by byte; both must come to the same end.
fn try_parse(raw: &[u8]) -> Result<Option<Parsed>, Reject> {
    let mut head = RequestHead::default();
    let mut piecemeal = Ok(None);
    for end in 0..=raw.len() {
        piecemeal = parse(&raw[..end], &LIMITS, &mut head);
        if piecemeal != Ok(None) {
            break;
        }
    }
    let whole = parse(raw, &LIMITS, &mut head);
    assert_eq!(whole, piecemeal, "{:?}", String::from_utf8_lossy(raw));
    Ok(whole?.map(|length| Parsed {
        buf: raw.to_vec(),
        head,
        length,
    }))
}

fn accept(raw: &str) -> Parsed {
    match try_parse(raw.as_bytes()) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => panic!("{raw:?} is not complete"),
        Err(reject) => panic!("{raw:?} is refused: {reject}"),
    }
}

fn refuse(raw: impl AsRef<[u8]>) -> Reject {
    match try_parse(raw.as_ref()) {
        Ok(parsed) => panic!(
            "{:?} is {}",
            String::from_utf8_lossy(raw.as_ref()),
            if parsed.is_some() {
                "accepted"
            } else {
                "not complete"
            }
        ),
        Err(reject) => reject,
    }
}

/// A GET with these lines beside Host.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn an_ordinary_request_is_read() {
    let raw =
        "GET /a/b?c=d HTTP/1.1\r\nHost: Shop.example:81\r\nX-Name: one\r\nx-name:two\r\n\r\nrest";
    let parsed = accept(raw);
    assert_eq!(parsed.length, raw.len() - 4);
    assert_eq!(parsed.head.method(&parsed.buf), b"GET");
    assert_eq!(parsed.head.version, Version::Http11);
    assert_eq!(parsed.host(), "shop.example");
    assert_eq!(parsed.authority(), "shop.example:81");
    assert_eq!(parsed.path(), "/a/b");
    assert_eq!(parsed.head.query(&parsed.buf), Some(b"c=d".as_slice()));
    assert_eq!(parsed.head.target_raw(&parsed.buf), b"/a/b?c=d");
    assert_eq!(parsed.head.body, RequestBody::None);
    assert!(parsed.head.keep_alive);
    let values: Vec<_> = parsed.head.values(&parsed.buf, "X-NAME").collect();
    assert_eq!(values, [b"one", b"two"]);
}

#[test]
fn a_head_is_reusable() {
    let mut head = RequestHead::default();
    let first =
        post("Connection: close\r\nTE: trailers\r\nExpect: 100-continue\r\nContent-Length: 1\r\n");
    parse(first.as_bytes(), &LIMITS, &mut head)
        .unwrap()
        .unwrap();
    assert!(head.expect_continue && head.te_trailers && !head.keep_alive);
    let second = get("");
    parse(second.as_bytes(), &LIMITS, &mut head)
        .unwrap()
        .unwrap();
    assert!(!head.expect_continue && !head.te_trailers && head.keep_alive);
    assert_eq!(head.body, RequestBody::None);
    assert_eq!(head.fields.len(), 1);
}

#[test]
fn up_to_two_empty_lines_may_come_first() {
    let raw = "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(accept(raw).length, raw.len());
    assert_eq!(refuse(format!("\r\n{raw}")), Reject::InvalidRequestLine);
    assert_eq!(refuse("\nGET / HTTP/1.1\r\n"), Reject::InvalidRequestLine);
    assert_eq!(refuse("\rGET / HTTP/1.1\r\n"), Reject::InvalidRequestLine);
}

#[test]
fn a_request_line_is_exact() {
    for (line, reject) in [
        ("GET /\r\n", Reject::InvalidRequestLine),
        ("GET / \r\n", Reject::InvalidRequestLine),
        ("GET  / HTTP/1.1\r\n", Reject::InvalidTarget),
        ("GET /  HTTP/1.1\r\n", Reject::InvalidRequestLine),
        ("GET / HTTP/1.1 \r\n", Reject::InvalidRequestLine),
        ("GET / HTTP/1.1\n", Reject::InvalidRequestLine),
        ("GET / HTTP/1.1\r\r\n", Reject::InvalidRequestLine),
        ("GET / http/1.1\r\n", Reject::InvalidRequestLine),
        ("GET / HTTP/1.10\r\n", Reject::InvalidRequestLine),
        ("GET / HTTP/1\r\n\r\n\r\n", Reject::InvalidRequestLine),
        ("GET /\tHTTP/1.1\r\n", Reject::InvalidPath),
        ("GET\t/ HTTP/1.1\r\n", Reject::InvalidMethod),
        (" GET / HTTP/1.1\r\n", Reject::InvalidMethod),
        ("get / HTTP/1.1\r\n", Reject::InvalidMethod),
        ("Head / HTTP/1.1\r\n", Reject::InvalidMethod),
        ("G@T / HTTP/1.1\r\n", Reject::InvalidMethod),
        ("\x16\x03\x01\x02", Reject::InvalidMethod),
        ("GET / HTTP/2.0\r\n", Reject::UnsupportedVersion),
        ("GET / HTTP/0.9\r\n", Reject::UnsupportedVersion),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reject::InvalidTarget),
    ] {
        assert_eq!(refuse(line), reject, "{line:?}");
    }
    assert_eq!(Reject::UnsupportedVersion.status(), 505);
    for method in ["PATCH", "M-SEARCH", "X_1"] {
        accept(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
}

#[test]
fn t13_lines_are_exact() {
    for (lines, fault) in [
        ("A: b\rc\r\n", FieldFault::BareLineEnd),
        ("A: b\nC: d\r\n", FieldFault::BareLineEnd),
        ("A: b\n\r\n", FieldFault::BareLineEnd),
        ("\rA: b\r\n", FieldFault::BareLineEnd),
        ("\nA: b\r\n", FieldFault::BareLineEnd),
        ("A: b\0c\r\n", FieldFault::InvalidValue),
        ("A: b\x7f\r\n", FieldFault::InvalidValue),
        ("A: \x1b[2J\r\n", FieldFault::InvalidValue),
        ("A: b\r\n c\r\n", FieldFault::ObsoleteFold),
        ("A: b\r\n\tc\r\n", FieldFault::ObsoleteFold),
        ("A\r\n", FieldFault::InvalidName),
        (": b\r\n", FieldFault::InvalidName),
        ("A : b\r\n", FieldFault::InvalidName),
        ("A\t: b\r\n", FieldFault::InvalidName),
        ("A b: c\r\n", FieldFault::InvalidName),
        ("A\0: b\r\n", FieldFault::InvalidName),
        ("A(: b\r\n", FieldFault::InvalidName),
        ("A-,: b\r\n", FieldFault::InvalidName),
        ("Ä: b\r\n", FieldFault::InvalidName),
        ("\"A\": b\r\n", FieldFault::InvalidName),
    ] {
        assert_eq!(refuse(get(lines)), Reject::Field(fault), "{lines:?}");
    }
    let first = "GET / HTTP/1.1\r\n Host: a\r\n\r\n";
    assert_eq!(refuse(first), Reject::Field(FieldFault::ObsoleteFold));
    accept(&get(
        "A:\r\nB: \t \r\nC: d\te\r\nD: \u{e4}\r\n!#$%&'*+-.^`|~: f\r\n",
    ));
}

#[test]
fn t14_only_a_valid_websocket_handshake_is_an_upgrade() {
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let handshake = |connection: &str, upgrade: &str, key: &str, version: &str| {
        get(&format!(
            "Connection: {connection}\r\nUpgrade: {upgrade}\r\n{key}Sec-WebSocket-Version: {version}\r\n"
        ))
    };
    let valid = accept(&handshake("keep-alive, Upgrade", "WebSocket", KEY, "13"));
    assert_eq!(valid.head.upgrade(&valid.buf), Some(&b"WebSocket"[..]));
    for raw in [
        handshake("Upgrade", "h2c", KEY, "13"),
        handshake("Upgrade", "websocket, h2c", KEY, "13"),
        handshake("keep-alive", "websocket", KEY, "13"),
        handshake("Upgrade", "websocket", KEY, "8"),
        handshake("Upgrade", "websocket", "", "13"),
        handshake("Upgrade", "websocket", &format!("{KEY}{KEY}"), "13"),
        handshake("Upgrade", "websocket", "Sec-WebSocket-Key: short\r\n", "13"),
        handshake(
            "Upgrade",
            "websocket",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n",
            "13",
        ),
        handshake("Upgrade", "websocket", KEY, "13\r\nContent-Length: 3"),
        handshake(
            "Upgrade",
            "websocket",
            KEY,
            "13\r\nTransfer-Encoding: chunked",
        ),
        handshake("Upgrade", "websocket", KEY, "13").replace("GET", "POST"),
        handshake("Upgrade", "websocket", KEY, "13").replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let parsed = accept(&raw);
        assert_eq!(parsed.head.upgrade, None, "{raw:?}");
        assert!(parsed.dropped().iter().any(|name| name == "Upgrade"));
    }
}

#[test]
fn t14_other_protocols_are_named_but_never_http_or_tls() {
    let handshake = |upgrade: &str| get(&format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"));
    for name in ["tcp", "SPDY/3.1", "kakehi", "x.y-z/2"] {
        let parsed = accept(&handshake(name));
        assert_eq!(parsed.head.upgrade(&parsed.buf), Some(name.as_bytes()));
        let posted = accept(&handshake(name).replace("GET", "POST"));
        assert_eq!(posted.head.upgrade(&posted.buf), Some(name.as_bytes()));
    }
    for name in [
        "h2c",
        "H2C",
        "h2",
        "HTTP/2.0",
        "http/1.1",
        "TLS/1.0",
        "tls",
        "tcp, h2c",
        "tcp/",
        "/1",
        "",
        "a b",
        "a/1/2",
        "tcp\r\nUpgrade: tcp",
        "tcp\r\nContent-Length: 1",
    ] {
        let mut raw = handshake(name);
        if name.ends_with('1') && name.contains("Length") {
            raw.push('x');
        }
        let parsed = accept(&raw);
        assert_eq!(parsed.head.upgrade, None, "{raw:?}");
        assert!(parsed.dropped().iter().any(|name| name == "Upgrade"));
    }
}

#[test]
fn t21_aliases_of_our_own_fields_are_dropped() {
    let parsed = accept(&get(
        "X_Auth: root\r\nX-Auth: user\r\nX_Real-IP: x\r\nX-Forwarded_Any_Thing: x\r\n\
         Content_Length: 5\r\nEARLY_DATA: 1\r\nclient_cert: x\r\nproxy_: x\r\n",
    ));
    assert_eq!(
        parsed.dropped(),
        [
            "Host",
            "X_Real-IP",
            "X-Forwarded_Any_Thing",
            "Content_Length",
            "EARLY_DATA",
            "client_cert"
        ]
    );
    assert_eq!(parsed.head.values(&parsed.buf, "x_auth").count(), 1);
    assert_eq!(parsed.head.values(&parsed.buf, "x-auth").count(), 1);
    let mut head = parsed.head;
    head.drop_underscores(&parsed.buf);
    assert_eq!(head.values(&parsed.buf, "x_auth").count(), 0);
    assert_eq!(head.values(&parsed.buf, "proxy_").count(), 0);
}

#[test]
fn t22_no_frontend_matches_what_an_untrusted_peer_says_of_itself() {
    let mut parsed = accept(&get(
        "X-Forwarded-Proto: https\r\nX-Real-IP: 127.0.0.1\r\nForwarded: for=x\r\n",
    ));
    assert_eq!(
        parsed.head.values(&parsed.buf, "x-forwarded-proto").count(),
        1
    );
    parsed.head.drop_forwarding_fields();
    for name in ["x-forwarded-proto", "x-real-ip", "forwarded"] {
        assert_eq!(parsed.head.values(&parsed.buf, name).count(), 0, "{name}");
    }
}

#[test]
fn a_path_is_plain_if_nobody_reads_another_one_in_it() {
    for (target, is_plain) in [
        ("/", true),
        ("/a/b.c?d=%2e;e", true),
        ("/a;b", false),
        ("/a%2Fb", false),
        ("/%61", false),
        ("//a", false),
        ("/a/../b", false),
        ("/a|b", false),
        ("http://shop.example/a", false),
    ] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        let mut head = RequestHead::default();
        assert!(parse(raw.as_bytes(), &LIMITS, &mut head).is_ok_and(|end| end.is_some()));
        assert_eq!(head.has_plain_path(), is_plain, "{target}");
        let path = head.path(raw.as_bytes());
        let has_other_readings = path.contains(&b'%') || path.contains(&b';');
        assert!(!(is_plain && has_other_readings), "{target}");
    }
}

#[test]
fn t23_connection_takes_away_only_what_is_the_clients() {
    let parsed = accept(&get(
        "Connection: X-Own, Authorization, x-forwarded-for, Cookie,, keep-alive\r\n\
         X-Own: 1\r\nAuthorization: b\r\nX-Forwarded-For: c\r\nCookie: d\r\nKeep-Alive: 5\r\n",
    ));
    assert_eq!(
        parsed.dropped(),
        ["Host", "Connection", "X-Own", "Keep-Alive"]
    );
    for named in ["Host", "content-length", "Transfer-Encoding"] {
        let raw = post(&format!("Content-Length: 1\r\nConnection: {named}\r\n"));
        assert_eq!(refuse(raw), Reject::Connection, "{named}");
    }
    for value in ["a b", "a;b", "\"close\"", "close;x"] {
        assert_eq!(
            refuse(get(&format!("Connection: {value}\r\n"))),
            Reject::Connection
        );
    }
    let many = "a,".repeat(17);
    assert_eq!(
        refuse(get(&format!("Connection: {many}\r\n"))),
        Reject::Connection
    );
    accept(&get(&format!("Connection: {}\r\n", "a,".repeat(16))));
    let hop = accept(&get(
        "Proxy-Connection: x\r\nProxy-Authorization: y\r\nTE: trailers\r\nHTTP2-Settings: z\r\nUpgrade: h2c\r\n",
    ));
    assert_eq!(hop.dropped().len(), 6);
    assert!(hop.head.te_trailers);
}

#[test]
fn persistence_follows_the_version() {
    for (version, connection, keep_alive) in [
        ("1.1", "x", true),
        ("1.1", "close", false),
        ("1.1", "keep-alive, Close", false),
        ("1.0", "x", false),
        ("1.0", "Keep-Alive", true),
        ("1.0", "keep-alive, close", false),
    ] {
        let raw = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        assert_eq!(accept(&raw).head.keep_alive, keep_alive, "{raw:?}");
    }
    let two = get("Connection: x\r\nConnection: close\r\n");
    assert!(!accept(&two).head.keep_alive);
}

#[test]
fn t25_the_proxy_field_is_dropped() {
    let parsed = accept(&get("Proxy: http://evil/\r\n"));
    assert_eq!(parsed.dropped(), ["Host", "Proxy"]);
    assert_eq!(parsed.head.values(&parsed.buf, "proxy").count(), 0);
}

#[test]
fn t27_limits_are_exact() {
    let limits = |bytes, count| HeadLimits {
        head_bytes_max: bytes,
        header_count_max: count,
    };
    let mut head = RequestHead::default();
    let raw = get("B: c\r\n");
    let length = raw.len();
    let mut verdict = |buf: &[u8], limits| parse(buf, &limits, &mut head);
    assert_eq!(verdict(raw.as_bytes(), limits(length, 2)), Ok(Some(length)));
    let longer = format!("{raw}body");
    assert_eq!(
        verdict(longer.as_bytes(), limits(length, 2)),
        Ok(Some(length))
    );
    assert_eq!(
        verdict(raw.as_bytes(), limits(length - 1, 2)),
        Err(Reject::HeadTooLarge)
    );
    let part = &raw.as_bytes()[..length - 2];
    assert_eq!(verdict(part, limits(length - 1, 2)), Ok(None));
    assert_eq!(
        verdict(part, limits(length - 2, 2)),
        Err(Reject::HeadTooLarge)
    );
    assert_eq!(
        verdict(raw.as_bytes(), limits(length, 1)),
        Err(Reject::Field(FieldFault::TooMany))
    );
    let line = "GET / HTTP/1.1\r\n";
    assert_eq!(
        verdict(raw.as_bytes(), limits(line.len() - 1, 2)),
        Err(Reject::TargetTooLong)
    );
    assert_eq!(
        verdict(raw.as_bytes(), limits(line.len(), 2)),
        Err(Reject::HeadTooLarge)
    );
    assert_eq!(
        verdict(&line.as_bytes()[..10], limits(10, 2)),
        Err(Reject::TargetTooLong)
    );
    assert_eq!(verdict(&line.as_bytes()[..9], limits(10, 2)), Ok(None));
    assert_eq!(verdict(b"", limits(0, 0)), Err(Reject::TargetTooLong));
    assert_eq!(Reject::TargetTooLong.status(), 414);
    assert_eq!(Reject::HeadTooLarge.status(), 431);
    assert_eq!(Reject::Field(FieldFault::TooMany).status(), 431);
}

#[test]
fn a_later_minor_version_is_the_one_that_we_speak() {
    for minor in 2..=9 {
        let parsed = accept(&format!("GET /a HTTP/1.{minor}\r\nHost: a\r\n\r\n"));
        assert_eq!(parsed.head.version, Version::Http11);
        assert!(parsed.head.keep_alive);
        assert!(!parsed.head.target.verbatim);
    }
}

#[test]
fn t27_a_method_that_is_too_long_is_told_as_that() {
    accept(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(64)));
    let long = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(65));
    assert_eq!(refuse(&long), Reject::MethodTooLong);
}

#[test]
fn what_was_asked_is_told_of_a_refused_request() {
    for (raw, method, target) in [
        ("GET /a%00?b HTTP/1.1\r\n", "GET", "/a%00?b"),
        ("GET /a\x01b HTTP/1.1\r\n", "GET", "/a\x01b"),
        ("GET /a\r\n", "GET", "/a"),
        ("get / HTTP/1.1\r\n", "", ""),
    ] {
        let mut head = RequestHead::default();
        assert!(
            parse(raw.as_bytes(), &LIMITS, &mut head).is_err(),
            "{raw:?}"
        );
        let told = head.attempted(raw.as_bytes());
        assert_eq!(told, (method.as_bytes(), target.as_bytes()), "{raw:?}");
    }
}
