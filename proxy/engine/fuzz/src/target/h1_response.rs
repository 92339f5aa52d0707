//! Invariant: a response head is refused, or incomplete, or read in one way that does not depend on
//! how its bytes arrive; and what is written for the client is read in that same way.

use _engine::protocol::h1::Delivery;
use _engine::protocol::h1::HeadLimits;
use _engine::protocol::h1::Persistence;
use _engine::protocol::h1::ResponseBody;
use _engine::protocol::h1::ResponseForward;
use _engine::protocol::h1::ResponseHead;
use _engine::protocol::h1::UpstreamFault;
use _engine::protocol::h1::response::parse;
use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::write_response;
use _engine::protocol::lines::{LineBuf, Lines};

use super::NEXT_HOP;
use super::TIGHT;
use super::WIDE;
use super::arrivals;
use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "h1_response",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let mut behaviours = Vec::new();
    for limits in [TIGHT, WIDE] {
        for request in [
            Asked {
                head: false,
                upgrade: None,
            },
            HEAD,
            UPGRADE,
        ] {
            behaviours.push(check_asked(input, &limits, request));
        }
    }
    Behaviour::of(behaviours)
}

/// What the request was, as far as the response depends on it.
#[derive(Clone, Copy)]
struct Asked {
    head: bool,
    upgrade: Option<&'static [u8]>,
}

const HEAD: Asked = Asked {
    head: true,
    upgrade: None,
};
const UPGRADE: Asked = Asked {
    head: false,
    upgrade: Some(b"websocket"),
};

fn check_asked(input: &[u8], limits: &HeadLimits, asked: Asked) -> Behaviour {
    let mut head = ResponseHead::default();
    let whole = parse(input, limits, asked.head, asked.upgrade, &mut head);
    assert_eq!(
        in_pieces(input, limits, asked),
        whole,
        "another verdict when it comes in pieces"
    );
    let length = match whole {
        Ok(Some(length)) => length,
        Ok(None) => return Behaviour::of("incomplete"),
        Err(fault) => return Behaviour::of(fault.as_str()),
    };
    assert!(length <= input.len() && length <= limits.head_bytes_max);
    assert!((100..1000).contains(&head.status));
    assert!(!head.switching_protocols || asked.upgrade.is_some());
    check_forwarded(input, &head, asked);
    let kinds = format!("{:?}", (head.version, std::mem::discriminant(&head.body)));
    Behaviour::of((
        kinds,
        head.status / 100,
        head.fields.len(),
        head.keep_alive,
        head.interim,
    ))
}

fn in_pieces(
    input: &[u8],
    limits: &HeadLimits,
    asked: Asked,
) -> Result<Option<usize>, UpstreamFault> {
    let mut head = ResponseHead::default();
    let mut verdict = Ok(None);
    for end in arrivals(input.len()) {
        verdict = parse(&input[..end], limits, asked.head, asked.upgrade, &mut head);
        if verdict != Ok(None) {
            break;
        }
    }
    verdict
}

fn check_forwarded(input: &[u8], head: &ResponseHead, asked: Asked) {
    let delivery = match head.body {
        ResponseBody::None => Delivery::NoBody,
        ResponseBody::Length(length) => Delivery::Length(length),
        ResponseBody::Chunked | ResponseBody::UntilClose => Delivery::Chunked,
    };
    let (line, none) = (LineBuf::one(b"Kakehi-Generation", b"7"), Lines::default());
    let forward = ResponseForward {
        delivery,
        persistence: Persistence::Implied,
        date: b"Tue, 15 Nov 1994 08:12:31 GMT",
        extra: [line.lines(), none, none, none],
        via: &Via::new("kakehi"),
        protocol: b"",
    };
    let mut out = Vec::new();
    write_response(&mut out, input, head, &forward);
    let mut next = ResponseHead::default();
    let reread = parse(&out, &NEXT_HOP, asked.head, asked.upgrade, &mut next);
    assert_eq!(
        reread,
        Ok(Some(out.len())),
        "sent: {}",
        String::from_utf8_lossy(&out)
    );
    assert_eq!((next.status, next.interim), (head.status, head.interim));
    assert_eq!(next.switching_protocols, head.switching_protocols);
    let body = match head.body {
        ResponseBody::UntilClose => ResponseBody::Chunked,
        body => body,
    };
    assert_eq!(next.body, body);
}

const TOKENS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 999 \r\n",
    "HTTP/2 200\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 5,5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x-a\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n",
    "Trailer: x\r\n",
    "Keep-Alive: timeout=5\r\n",
    "Set-Cookie: a=b\r\n",
    "Kakehi-Generation: 1\r\n",
    "\r\n\r\n",
    "\r\n ",
    "\n",
    "\r",
    "\0",
    " :",
    "é",
];
