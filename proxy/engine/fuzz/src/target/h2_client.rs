//! Invariant: whatever a backend sends, it is events that do not depend on how the bytes arrive, or a
//! fault; what leaves is whole frames; and a response that is taken is, written for an HTTP/1.1
//! client, read there as the same.

use _engine::protocol::h1::Delivery;
use _engine::protocol::h1::Persistence;
use _engine::protocol::h1::ResponseBody;
use _engine::protocol::h1::ResponseForward;
use _engine::protocol::h1::ResponseHead;
use _engine::protocol::h1::response::parse;
use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::write_response;
use _engine::protocol::h2::Connection;
use _engine::protocol::h2::Event;
use _engine::protocol::h2::Heads;
use _engine::protocol::h2::Settings;
use _engine::protocol::lines::{LineBuf, Lines};

use super::NEXT_HOP;
use super::TIGHT;
use super::h2::run_all_ways;
use crate::Behaviour;
use crate::Target;
use crate::rig::asking::ask;

/// The target.
pub const TARGET: Target = Target {
    name: "h2_client",
    check,
    tokens: TOKENS,
};

/// Checks the invariant; the settings are sent for the input, and three requests wait for it: a GET
/// on stream 1, a HEAD on stream 3 and a POST, whose body is on its way, on stream 5.
pub fn check(input: &[u8]) -> Behaviour {
    let mut all = b"\0\0\0\x04\0\0\0\0\0".to_vec();
    all.extend_from_slice(input);
    let tight = Settings {
        head_limits: TIGHT,
        ..Settings::default()
    };
    let behaviours = [Settings::default(), tight].map(|settings| {
        let (told, fault) = run_all_ways(|| client(&settings), &all, session);
        let words: Vec<String> = told.into_iter().map(|(words, _)| words).take(6).collect();
        Behaviour::of((words, fault.map(|fault| fault.as_str())))
    });
    Behaviour::of(behaviours)
}

fn client(settings: &Settings) -> Connection {
    let mut client = Connection::client(settings);
    let mut out = Vec::new();
    for (method, ends) in [("GET", true), ("HEAD", true), ("POST", false)] {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let stream = ask(&mut client, &mut out, text.as_bytes(), "http", HEAD, ends);
        let stream = stream.expect("a hundred streams may be opened");
        client.set_tag(stream, if method == "HEAD" { HEAD } else { 0 });
    }
    client.send_data(&mut out, 5, &[b'a'; 70_000], true);
    client
}

/// The tag of the request that is a HEAD.
const HEAD: u64 = 1;

fn session(
    connection: &mut Connection,
    out: &mut Vec<u8>,
    heads: &Heads,
    event: &Event<'_>,
) -> u64 {
    match *event {
        Event::Interim { tag, .. } | Event::Response { tag, .. } => {
            check_forwarded(heads, tag == HEAD);
            u64::from(heads.response.status)
        }
        Event::Data {
            stream, data, tag, ..
        } => {
            assert!(data.is_empty() || tag != HEAD);
            connection.consumed(stream, data.len());
            0
        }
        Event::Writable { stream, .. } => {
            connection.send_data(out, stream, &[b'b'; 5000], true) as u64
        }
        Event::Trailers { .. } => heads.trailers().count() as u64,
        Event::Request { .. } | Event::Refused { .. } => panic!("a request to a client"),
        _ => 0,
    }
}

fn check_forwarded(heads: &Heads, is_head: bool) {
    let (head, text) = (&heads.response, heads.text());
    assert!((100..1000).contains(&head.status) && head.status != 101);
    let delivery = match head.body {
        ResponseBody::None => Delivery::NoBody,
        ResponseBody::Length(length) => Delivery::Length(length),
        ResponseBody::Chunked => Delivery::Chunked,
        ResponseBody::UntilClose => panic!("frames have an end"),
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
    let mut sent = Vec::new();
    write_response(&mut sent, text, head, &forward);
    let mut next = ResponseHead::default();
    let reread = parse(&sent, &NEXT_HOP, is_head, None, &mut next);
    assert_eq!(
        reread,
        Ok(Some(sent.len())),
        "sent: {}",
        String::from_utf8_lossy(&sent)
    );
    assert_eq!((next.status, next.interim), (head.status, head.interim));
    assert_eq!(next.body, head.body);
}

const TOKENS: &[&str] = &[
    "\0\0\0\0\x01\0\0\0\x01",
    "\0\0\x05\0\0\0\0\0\x01hello",
    "\0\0\x05\0\x01\0\0\0\x01hello",
    "\0\0\x05\x01\x04\0\0\0\x01\x08\x03200",
    "\0\0\x05\x01\x05\0\0\0\x03\x08\x03204",
    "\0\0\x05\x01\x04\0\0\0\x05\x08\x03103",
    "\0\0\x04\x03\0\0\0\0\x05\0\0\0\x07",
    "\0\0\0\x04\0\0\0\0\0",
    "\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x01",
    "\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x01",
    "\0\0\x08\x06\x01\0\0\0\0kakehi-p",
    "\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0",
    "\0\0\x04\x08\0\0\0\0\0\0\0\x10\0",
    "\0\0\x04\x08\0\0\0\0\x05\0\0\0\x01",
    "\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02",
    "\x08\x03200",
    "\x0f\x0d\x015",
    "\x0f\x28\x03a=b",
    "\x00\x04date\x01a",
    "\x00\x07trailer\x01a",
    "\x00\x07upgrade\x01a",
    "\r\n",
];
