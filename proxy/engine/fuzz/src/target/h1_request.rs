//! Invariant: a request head is refused, or incomplete, or read in one way that does not depend on
//! how its bytes arrive; and what is written for the backend is read in that same way. Nothing more
//! stands between a client and request smuggling.

use _engine::protocol::h1::Forward;
use _engine::protocol::h1::HeadLimits;
use _engine::protocol::h1::Reject;
use _engine::protocol::h1::RequestHead;
use _engine::protocol::h1::Version;
use _engine::protocol::h1::is_worth_parsing;
use _engine::protocol::h1::request::parse;
use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::write_request;

use super::NEXT_HOP;
use super::TIGHT;
use super::WIDE;
use super::arrivals;
use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "h1_request",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let tight = check_limits(input, &TIGHT);
    let wide = check_limits(input, &WIDE);
    Behaviour::of((tight, wide))
}

fn check_limits(input: &[u8], limits: &HeadLimits) -> Behaviour {
    let mut head = RequestHead::default();
    let whole = parse(input, limits, &mut head);
    assert_eq!(
        in_pieces(input, limits),
        whole,
        "another verdict when it comes in pieces"
    );
    let length = match whole {
        Ok(Some(length)) => length,
        Ok(None) => return Behaviour::of("incomplete"),
        Err(reject) => {
            assert!((400..=599).contains(&reject.status()));
            return Behaviour::of(reject.as_str());
        }
    };
    assert!(length <= input.len() && length <= limits.head_bytes_max);
    for trusted in [false, true] {
        let mut head = RequestHead::default();
        let _ = parse(input, limits, &mut head);
        if !trusted {
            head.drop_forwarding_fields();
        }
        check_forwarded(input, &head, trusted);
    }
    let counts = (
        head.fields.len(),
        head.method(input).len().min(8),
        head.query(input).is_some(),
    );
    Behaviour::of((
        counts,
        format!(
            "{:?}",
            (head.version, head.keep_alive, meaning(&head, input))
        ),
    ))
}

/// The verdict when the bytes come one after another, and the parser is asked whenever the session
/// would ask it.
fn in_pieces(input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Reject> {
    let mut head = RequestHead::default();
    let mut seen = 0;
    let mut verdict = Ok(None);
    for end in arrivals(input.len()) {
        let part = &input[..end];
        verdict = parse(part, limits, &mut head);
        if matches!(verdict, Ok(Some(_))) {
            assert!(
                is_worth_parsing(part, seen, limits),
                "a complete head is not noticed"
            );
        }
        if verdict != Ok(None) {
            break;
        }
        seen = end;
    }
    verdict
}

/// What decides where the message ends and what it does.
fn meaning(head: &RequestHead, text: &[u8]) -> impl std::fmt::Debug + PartialEq {
    let upgrade = head.upgrade(text).map(<[u8]>::to_vec);
    let te_trailers = head.te_trailers && upgrade.is_none();
    (head.body, head.expect_continue, upgrade, te_trailers)
}

fn check_forwarded(input: &[u8], head: &RequestHead, trusted: bool) {
    let forward = Forward {
        client_ip: b"2001:db8::7",
        client_port: 50123,
        listener_port: 8080,
        scheme: "http",
        trusted,
        client_cert: None,
        early: false,
        request_id: b"0123456789abcdef",
        upstream_keep_alive: true,
        upgrade: true,
        body: head.body,
        via: &Via::new("kakehi"),
        changed: Default::default(),
    };
    let mut out = Vec::new();
    write_request(&mut out, input, head, &forward);
    let mut next = RequestHead::default();
    let reread = parse(&out, &NEXT_HOP, &mut next);
    if head.host(input).is_empty() {
        // HTTP/1.0 without a host: an empty one is sent, for the backend to judge.
        assert_eq!(reread, Err(Reject::InvalidHost));
        return;
    }
    assert_eq!(
        reread,
        Ok(Some(out.len())),
        "sent: {}",
        String::from_utf8_lossy(&out)
    );
    assert_eq!(meaning(&next, &out), meaning(head, input));
    assert_eq!(next.version, Version::Http11);
    assert_eq!(next.method(&out), head.method(input));
    assert_eq!(next.host(&out), head.host(input));
    assert_eq!(next.authority(&out), head.authority(input));
    assert_eq!(next.path(&out), head.path(input));
    assert_eq!(next.query(&out), head.query(input));
    assert!(next.keep_alive || next.upgrade(&out).is_some());
}

const TOKENS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "CONNECT a:443 HTTP/1.1\r\n",
    "GET http://a/ HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "Host: a\r\n",
    "Host: [::1]:80\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding:\u{b}chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: Upgrade, Host\r\n",
    "Connection: Transfer-Encoding\r\n",
    "Upgrade: websocket\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Expect: 100-continue\r\n",
    "TE: trailers\r\n",
    "Trailer: x\r\n",
    "X-Forwarded-For: 192.0.2.1\r\n",
    "Forwarded: for=192.0.2.1;proto=https\r\n",
    "X-Request-Id: a\r\n",
    "Via: 1.1 a\r\n",
    "\r\n\r\n",
    "\r\n ",
    "\n",
    "\r",
    "\0",
    " :",
    "/../",
    "%2f",
    "%2e%2E",
    "//",
    ";",
    "?",
    "#",
    "@",
    "é",
];
