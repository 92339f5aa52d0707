//! Invariant: whatever a client sends, it is events that do not depend on how the bytes arrive, or a
//! fault; what leaves is whole frames; and a request that is taken is, written for an HTTP/1.1
//! backend, read there as the same. Nothing more stands between an HTTP/2 client and request smuggling.

use _engine::protocol::h1::Forward;
use _engine::protocol::h1::OwnHead;
use _engine::protocol::h1::RequestHead;
use _engine::protocol::h1::request::parse;
use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::write_request;
use _engine::protocol::h2::Connection;
use _engine::protocol::h2::ErrorCode;
use _engine::protocol::h2::Event;
use _engine::protocol::h2::Heads;
use _engine::protocol::h2::PREFACE;
use _engine::protocol::h2::Settings;

use super::NEXT_HOP;
use super::TIGHT;
use super::h2::run_all_ways;
use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "h2_server",
    check,
    tokens: TOKENS,
};

/// Checks the invariant; the hello is sent for the input.
pub fn check(input: &[u8]) -> Behaviour {
    let mut all = PREFACE.to_vec();
    all.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
    all.extend_from_slice(input);
    let behaviours = [Settings::default(), tight()].map(|settings| {
        let (told, fault) = run_all_ways(|| Connection::server(&settings), &all, session);
        let words: Vec<String> = told.into_iter().map(|(words, _)| words).take(6).collect();
        Behaviour::of((words, fault.map(|fault| fault.as_str())))
    });
    Behaviour::of(behaviours)
}

fn tight() -> Settings {
    Settings {
        head_limits: TIGHT,
        streams_max: 2,
        extended_connect: false,
        ..Settings::default()
    }
}

fn session(
    connection: &mut Connection,
    out: &mut Vec<u8>,
    heads: &Heads,
    event: &Event<'_>,
) -> u64 {
    match *event {
        Event::Request { stream, ends } => {
            check_forwarded(heads);
            connection.set_tag(stream, stream.into());
            let is_short = heads.request.path(heads.text()).len() == 1;
            let head = own_head(200, 40_000);
            connection.send_own(out, stream, &head, !is_short);
            if is_short {
                connection.send_data(out, stream, &[b'a'; 40_000], true);
            }
            u64::from(ends)
        }
        Event::Refused { stream, reject, .. } => {
            assert!((400..=599).contains(&reject.status()));
            connection.send_own(out, stream, &own_head(reject.status(), 0), true);
            connection.reset(stream, ErrorCode::NoError);
            0
        }
        Event::Data { stream, data, .. } => {
            connection.consumed(stream, data.len());
            0
        }
        Event::Writable { stream, tag } => {
            assert_eq!(u64::from(stream), tag);
            connection.send_data(out, stream, b"more", true) as u64
        }
        Event::Trailers { .. } => heads.trailers().count() as u64,
        Event::Response { .. } | Event::Interim { .. } => panic!("a response to a server"),
        _ => 0,
    }
}

fn own_head(status: u16, length: u64) -> OwnHead<'static> {
    OwnHead {
        status,
        date: b"Tue, 15 Nov 1994 08:12:31 GMT",
        content_type: "text/plain",
        request_id: "7",
        extra: Default::default(),
        dropped: &[],
        length: Some(length),
        close: false,
    }
}

fn check_forwarded(heads: &Heads) {
    let (head, text) = (&heads.request, heads.text());
    let forward = Forward {
        client_ip: b"192.0.2.1",
        client_port: 0,
        listener_port: 443,
        scheme: "https",
        trusted: true,
        client_cert: None,
        early: false,
        request_id: b"id",
        upstream_keep_alive: true,
        upgrade: head.upgrade(text).is_some(),
        body: head.body,
        via: &Via::new("kakehi"),
        changed: Default::default(),
    };
    let mut sent = Vec::new();
    write_request(&mut sent, text, head, &forward);
    let mut next = RequestHead::default();
    let reread = parse(&sent, &NEXT_HOP, &mut next);
    assert_eq!(
        reread,
        Ok(Some(sent.len())),
        "sent: {}",
        String::from_utf8_lossy(&sent)
    );
    assert_eq!(next.body, head.body);
    assert_eq!(next.upgrade(&sent), head.upgrade(text));
    assert_eq!(next.expect_continue, head.expect_continue);
    assert_eq!(next.method(&sent), head.method(text));
    assert_eq!(next.host(&sent), head.host(text));
    assert_eq!(next.authority(&sent), head.authority(text));
    assert_eq!(next.path(&sent), head.path(text));
    assert_eq!(next.query(&sent), head.query(text));
}

const TOKENS: &[&str] = &[
    "\0\0\0\0\x01\0\0\0\x01",
    "\0\0\x05\0\0\0\0\0\x01hello",
    "\0\0\x05\0\x01\0\0\0\x01hello",
    "\0\0\x04\0\x08\0\0\0\x01\x02a\0\0",
    "\0\0\x01\x01\x04\0\0\0\x01",
    "\0\0\x01\x01\x05\0\0\0\x03",
    "\0\0\x01\x01\0\0\0\0\x05",
    "\0\0\0\x09\x04\0\0\0\x05",
    "\0\0\x05\x02\0\0\0\0\x01\0\0\0\x03\x10",
    "\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    "\0\0\0\x04\0\0\0\0\0",
    "\0\0\0\x04\x01\0\0\0\0",
    "\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x01",
    "\0\0\x06\x04\0\0\0\0\0\0\x01\0\0\0\0",
    "\0\0\x08\x06\0\0\0\0\0abcdefgh",
    "\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0",
    "\0\0\x04\x08\0\0\0\0\0\0\0\x10\0",
    "\0\0\x04\x08\0\0\0\0\x01\0\0\0\x01",
    "\0\0\x07\x10\0\0\0\0\0\0\0\0\x01u=1",
    "\x04\x01/",
    "\x02\x07CONNECT",
    "\x00\x09:protocol\x09websocket",
    "\x41\x01a",
    "\x00\x04host\x01a",
    "\x0f\x0d\x015",
    "\x00\x06cookie\x01a",
    "\x00\x02te\x08trailers",
    "\x00\x0aconnection\x05close",
    "\x00\x03x_a\x01b",
    "\r\n",
];
