//! Heads: what is malformed, what is refused, and that HTTP/1.1 would decide the same.

mod properties;

use super::*;
use crate::protocol::h1::Forward;
use crate::protocol::h1::RequestBody;
use crate::protocol::h1::ResponseBody;
use crate::protocol::h1::request::parse;
use crate::protocol::h1::via::Via;
use crate::protocol::h1::write_request;
use crate::protocol::h2::hpack::Encoder;
use crate::protocol::h2::hpack::Policy;

const BYTES_MAX: usize = 8 * LIMITS.head_bytes_max;
const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 2048,
    header_count_max: 12,
};

/// A block of `name: value` lines; the names may be anything.
fn block(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::default();
    for line in lines {
        let at = line.get(1..).and_then(|rest| rest.find(": ")).unwrap() + 1;
        let (name, value) = (&line[..at], &line[at + 2..]);
        encoder.field(&mut out, name.as_bytes(), value.as_bytes(), Policy::Once);
    }
    out
}

fn read(heads: &mut Heads, lines: &[&str], section: Section) -> Result<(), HeadFault> {
    let block = block(lines);
    let mut decoder = Decoder::default();
    heads
        .read(&mut decoder, &block, section, &LIMITS, BYTES_MAX)
        .unwrap()
}

fn request(lines: &[&str], ends: bool) -> Result<Heads, HeadFault> {
    let mut heads = Heads::new(7);
    read(&mut heads, lines, Section::Request)?;
    heads.finish_request(ends, true)?;
    Ok(heads)
}

fn get_with(lines: &[&str]) -> Result<Heads, HeadFault> {
    let mut all = vec![
        ":method: GET",
        ":scheme: https",
        ":path: /",
        ":authority: a",
    ];
    all.extend_from_slice(lines);
    request(&all, true)
}

fn forwarded(heads: &Heads) -> String {
    let forward = Forward {
        client_ip: b"192.0.2.1",
        client_port: 0,
        listener_port: 443,
        scheme: "https",
        trusted: false,
        client_cert: None,
        early: false,
        request_id: b"id",
        upstream_keep_alive: true,
        upgrade: heads.request.upgrade.is_some(),
        body: heads.request.body,
        via: &Via::new("kakehi"),
        changed: Default::default(),
    };
    let mut out = Vec::new();
    write_request(&mut out, heads.text(), &heads.request, &forward);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_is_what_http_1_would_have() {
    let heads = request(
        &[
            ":method: POST",
            ":authority: Shop.Example:8443",
            ":scheme: https",
            ":path: /a/../b?c=%20",
            "content-length: 5",
            "te: trailers",
            "x-a: 1",
            "cookie: a=1",
            "x_b: 2",
            "x_real_ip: 2",
            "cookie: b=2",
            "expect: 100-continue",
            "priority: u=1, i",
        ],
        false,
    )
    .unwrap();
    let (head, text) = (&heads.request, heads.text());
    assert_eq!(head.method(text), b"POST");
    assert_eq!(head.host(text), b"shop.example");
    assert_eq!(head.authority(text), b"shop.example:8443");
    assert_eq!(
        (head.path(text), head.query(text)),
        (&b"/b"[..], Some(&b"c=%20"[..]))
    );
    assert_eq!(head.body, RequestBody::Length(5));
    assert!(head.te_trailers && head.expect_continue && head.keep_alive);
    let values = |name| head.values(text, name).collect::<Vec<_>>();
    assert_eq!(values("cookie"), [b"a=1; b=2"]);
    assert_eq!(values("Host"), [b"Shop.Example:8443"]);
    assert_eq!(values("x_b"), [b"2"]);
    assert_eq!(values("x_real_ip"), [b""; 0]);
    assert_eq!(
        (heads.priority().urgency, heads.priority().incremental),
        (1, true)
    );
    assert_eq!(
        forwarded(&heads),
        "POST /b?c=%20 HTTP/1.1\r\nHost: shop.example:8443\r\nx-a: 1\r\nx_b: 2\r\npriority: u=1, i\r\n\
         cookie: a=1; b=2\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Port: 443\r\nX-Forwarded-Host: shop.example:8443\r\n\
         Forwarded: for=192.0.2.1;host=\"shop.example:8443\";proto=https\r\n\
         Via: 2.0 kakehi\r\nX-Request-Id: id\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    );
}

#[test]
fn t17_what_is_malformed_is_not_answered() {
    for (line, fault) in [
        ("X-a: 1", HeadFault::InvalidName),
        ("x a: 1", HeadFault::InvalidName),
        ("x:a: 1", HeadFault::InvalidName),
        ("x\r\na: 1", HeadFault::InvalidName),
        ("x\0: 1", HeadFault::InvalidName),
        ("x-a: 1\r\nb: 2", HeadFault::InvalidValue),
        ("x-a: 1\n", HeadFault::InvalidValue),
        ("x-a: \0", HeadFault::InvalidValue),
        ("x-a:  1", HeadFault::InvalidValue),
        ("x-a: 1\t", HeadFault::InvalidValue),
        ("connection: close", HeadFault::ConnectionField),
        ("keep-alive: 1", HeadFault::ConnectionField),
        ("proxy-connection: close", HeadFault::ConnectionField),
        ("transfer-encoding: chunked", HeadFault::ConnectionField),
        ("upgrade: websocket", HeadFault::ConnectionField),
        ("te: trailers, gzip", HeadFault::ConnectionField),
        (":status: 200", HeadFault::UnexpectedPseudo),
        (":protocol: websocket", HeadFault::UnexpectedPseudo),
        (":x: 1", HeadFault::UnexpectedPseudo),
        (":path: /", HeadFault::DuplicatePseudo),
        (":method: GET", HeadFault::DuplicatePseudo),
        (":authority: a", HeadFault::DuplicatePseudo),
        (":path: /\r\nHost: b", HeadFault::InvalidValue),
    ] {
        assert_eq!(get_with(&[line]).err(), Some(fault), "{line:?}");
    }
    let late = get_with(&["x-a: 1", ":path: /"]).err();
    assert_eq!(late, Some(HeadFault::UnexpectedPseudo));
    for missing in [
        &[":method: GET", ":scheme: http"][..],
        &[":method: GET", ":path: /"],
        &[":scheme: http", ":path: /"],
        &[":method: GET", ":scheme: http", ":path: "],
    ] {
        assert_eq!(request(missing, true).err(), Some(HeadFault::MissingPseudo));
    }
    let mut nameless = Vec::new();
    Encoder::default().field(&mut nameless, b"", b"1", Policy::Once);
    let mut decoder = Decoder::default();
    let verdict = Heads::default().read(
        &mut decoder,
        &nameless,
        Section::Request,
        &LIMITS,
        BYTES_MAX,
    );
    assert_eq!(verdict, Ok(Err(HeadFault::InvalidName)));
}

#[test]
fn t17_what_http_1_refuses_is_answered() {
    let with = |method: &str, path: &str, authority: &str, more: &[&str]| {
        let method = format!(":method: {method}");
        let path = format!(":path: {path}");
        let authority = format!(":authority: {authority}");
        let mut lines = vec![method.as_str(), ":scheme: http", &path, &authority];
        lines.extend_from_slice(more);
        match request(&lines, false).err() {
            Some(HeadFault::Request(reject)) => Some(reject),
            None => None,
            Some(fault) => panic!("{fault:?}"),
        }
    };
    assert_eq!(with("GET", "/", "a", &[]), None);
    assert_eq!(with("GET", "/", "a:80", &["host: A"]), None);
    for (reject, method, path, authority, more) in [
        (Reject::InvalidPath, "GET", "/ HTTP/1.1", "a", ""),
        (Reject::InvalidPath, "GET", "/../a", "a", ""),
        (Reject::InvalidPath, "GET", "/%00", "a", ""),
        (Reject::InvalidTarget, "GET", "/#", "a", ""),
        (Reject::InvalidTarget, "GET", "a", "a", ""),
        (Reject::InvalidTarget, "GET", "http://a/", "a", ""),
        (Reject::InvalidTarget, "GET", "*", "a", ""),
        (Reject::InvalidMethod, "get", "/", "a", ""),
        (Reject::InvalidMethod, "GET /", "/", "a", ""),
        (Reject::InvalidHost, "GET", "/", "u@a", ""),
        (Reject::InvalidHost, "GET", "/", "", ""),
        (Reject::AuthorityMismatch, "GET", "/", "a", "host: b"),
        (Reject::AuthorityMismatch, "GET", "/", "a:81", "host: a"),
        (Reject::ConnectMethod, "CONNECT", "/", "a", ""),
        (
            Reject::InvalidContentLength,
            "GET",
            "/",
            "a",
            "content-length: 5, 5",
        ),
        (
            Reject::InvalidContentLength,
            "GET",
            "/",
            "a",
            "content-length: +5",
        ),
        (Reject::Expectation, "GET", "/", "a", "expect: 200"),
    ] {
        let more: Vec<&str> = Some(more)
            .filter(|more| !more.is_empty())
            .into_iter()
            .collect();
        assert_eq!(
            with(method, path, authority, &more),
            Some(reject),
            "{path:?} {more:?}"
        );
    }
    for (reject, more) in [
        (Reject::DuplicateHost, ["host: a", "host: a"]),
        (
            Reject::DuplicateContentLength,
            ["content-length: 5", "content-length: 5"],
        ),
    ] {
        assert_eq!(with("GET", "/", "a", &more), Some(reject));
    }
    let none = request(&[":method: GET", ":scheme: http", ":path: /"], true).err();
    assert_eq!(none, Some(HeadFault::Request(Reject::MissingHost)));
}

#[test]
fn t04_crumbs_count_as_fields() {
    let crumbs = vec!["cookie: a"; LIMITS.header_count_max];
    assert!(get_with(&crumbs).is_ok());
    let crumbs = vec!["cookie: a"; LIMITS.header_count_max + 1];
    let fault = HeadFault::Request(Reject::Field(FieldFault::TooMany));
    assert_eq!(get_with(&crumbs).err(), Some(fault));
    let long = format!("x-a: {}", "a".repeat(LIMITS.head_bytes_max));
    let fault = HeadFault::Request(Reject::HeadTooLarge);
    assert_eq!(get_with(&[&long]).err(), Some(fault));
}

#[test]
fn t04_a_bomb_ends_the_connection() {
    let mut block = Vec::new();
    let mut encoder = Encoder::default();
    let large = [b'a'; 1000];
    for _ in 0..1000 {
        encoder.field(&mut block, b"x-a", &large, Policy::Repeated);
    }
    assert!(block.len() < 4000);
    let mut heads = Heads::default();
    let mut decoder = Decoder::default();
    let verdict = heads.read(&mut decoder, &block, Section::Request, &LIMITS, BYTES_MAX);
    assert_eq!(verdict, Err(ConnectionFault::HeaderBlock));
    assert!(heads.text.len() <= LIMITS.head_bytes_max + 1100);
}

#[test]
fn an_extended_connect_is_a_handshake() {
    let heads = request(
        &[
            ":method: CONNECT",
            ":protocol: websocket",
            ":scheme: https",
            ":path: /chat",
            ":authority: a",
            "sec-websocket-version: 13",
            "sec-websocket-protocol: x",
        ],
        false,
    )
    .unwrap();
    assert_eq!(heads.request.method(heads.text()), b"GET");
    assert_eq!(heads.request.upgrade(heads.text()), Some(&b"websocket"[..]));
    let sent = forwarded(&heads);
    let mut again = RequestHead::default();
    assert_eq!(
        parse(sent.as_bytes(), &WIDE, &mut again),
        Ok(Some(sent.len()))
    );
    assert_eq!(again.upgrade(sent.as_bytes()), Some(&b"websocket"[..]));
    assert!(sent.contains("sec-websocket-protocol: x\r\n"));
    for lines in [
        [":method: GET", ":protocol: websocket"],
        [":method: CONNECT", ":protocol: x"],
    ] {
        let mut lines = lines.to_vec();
        lines.extend_from_slice(&[":scheme: http", ":path: /", ":authority: a"]);
        assert!(request(&lines, false).is_err());
    }
}

#[test]
fn a_response_is_what_http_1_would_have() {
    let response = |lines: &[&str], ends, is_head| {
        let mut heads = Heads::default();
        read(&mut heads, lines, Section::Response)?;
        let is_connect = false;
        heads.finish_response(
            ends,
            Asked {
                is_head,
                is_connect,
            },
        )?;
        Ok((heads.response.status, heads.response.body))
    };
    let length = "content-length: 5";
    for (lines, ends, is_head, result) in [
        (
            vec![":status: 200", length],
            false,
            false,
            Ok((200, ResponseBody::Length(5))),
        ),
        (
            vec![":status: 200", length],
            true,
            true,
            Ok((200, ResponseBody::None)),
        ),
        (
            vec![":status: 200"],
            false,
            false,
            Ok((200, ResponseBody::Chunked)),
        ),
        (
            vec![":status: 404"],
            true,
            false,
            Ok((404, ResponseBody::Length(0))),
        ),
        (
            vec![":status: 304", length],
            true,
            false,
            Ok((304, ResponseBody::None)),
        ),
        (
            vec![":status: 103"],
            false,
            false,
            Ok((103, ResponseBody::None)),
        ),
        (
            vec![":status: 103"],
            true,
            false,
            Err(HeadFault::InvalidStatus),
        ),
        (
            vec![":status: 101"],
            false,
            false,
            Err(HeadFault::InvalidStatus),
        ),
        (
            vec![":status: 2000"],
            false,
            false,
            Err(HeadFault::InvalidStatus),
        ),
        (vec!["x-a: 1"], false, false, Err(HeadFault::MissingPseudo)),
        (
            vec![":status: 200", ":path: /"],
            false,
            false,
            Err(HeadFault::UnexpectedPseudo),
        ),
        (
            vec![":status: 200", "upgrade: x"],
            false,
            false,
            Err(HeadFault::ConnectionField),
        ),
    ] {
        assert_eq!(response(&lines, ends, is_head), result, "{lines:?}");
    }
    let twice = response(&[":status: 200", length, length], false, false);
    let fault = UpstreamFault::DuplicateContentLength;
    assert_eq!(twice, Err(HeadFault::Response(fault)));
}

#[test]
fn t26_trailers_say_nothing_that_a_head_says() {
    let mut heads = Heads::default();
    let lines = [
        "x-sum: 1",
        "content-length: 5",
        "authorization: x",
        "x-forwarded-for: a",
    ];
    assert_eq!(read(&mut heads, &lines, Section::Trailers), Ok(()));
    assert_eq!(heads.trailers().to_text(), b"x-sum: 1\r\n");
    let pseudo = read(&mut heads, &[":path: /"], Section::Trailers);
    assert_eq!(pseudo, Err(HeadFault::UnexpectedPseudo));
}

const WIDE: HeadLimits = HeadLimits {
    head_bytes_max: 1 << 16,
    header_count_max: 64,
};
