//! Connections: conversations in frames, what abuse comes to, and both roles against each other.

mod abuse;
mod client;
mod honest;
mod pair;
mod server;

use super::*;
use crate::protocol::h1::Delivery;
use crate::protocol::h1::HeadLimits;
use crate::protocol::h1::Persistence;
use crate::protocol::h1::ResponseForward;
use crate::protocol::h1::ResponseHead;
use crate::protocol::h1::response;
use crate::protocol::h1::via::Via;
use crate::protocol::h2::frame::FRAME_BYTES_MAX;
use crate::protocol::h2::frame::FRAME_HEAD_BYTES;
use crate::protocol::h2::frame::FrameHead;
use crate::protocol::h2::head::Heads;
use crate::protocol::h2::hpack::Policy;
use crate::protocol::h2::list::HeaderList;
use crate::protocol::h2::list::tests::listed;
use crate::protocol::h2::stream::Tag;

/// Begins an answer that has a body.
fn send_ok(server: &mut Connection, out: &mut Vec<u8>, stream: u32) {
    send_text(server, out, stream, b"HTTP/1.1 200 OK\r\n\r\n", false);
}

/// Sends an answer that is its head.
fn send_no_content(server: &mut Connection, out: &mut Vec<u8>, stream: u32) {
    send_text(server, out, stream, b"HTTP/1.1 204 No\r\n\r\n", true);
}

/// Opens a stream by a request that is here as HTTP/1.1 would have it.
fn ask(
    client: &mut Connection,
    out: &mut Vec<u8>,
    text: &[u8],
    scheme: &str,
    tag: Tag,
    ends: bool,
) -> Option<u32> {
    let list = listed(text);
    client.send_request(out, &HeaderList::of(&list).unwrap(), scheme, tag, ends)
}

/// Sends a head that a backend of HTTP/1.1 has written.
fn send_text(server: &mut Connection, out: &mut Vec<u8>, stream: u32, text: &[u8], ends: bool) {
    let limits = HeadLimits {
        head_bytes_max: 1 << 20,
        header_count_max: 100,
    };
    let mut head = ResponseHead::default();
    let parsed = response::parse(text, &limits, false, None, &mut head);
    assert_eq!(parsed, Ok(Some(text.len())));
    let forward = ResponseForward {
        delivery: Delivery::UntilClose,
        persistence: Persistence::Implied,
        date: b"",
        extra: Default::default(),
        protocol: b"",
        via: &Via::new("ours"),
    };
    server.send_response(out, stream, text, &head, &forward, ends);
}

/// A peer that writes frames by hand.
#[derive(Default)]
struct Peer {
    bytes: Vec<u8>,
    encoder: Encoder,
}

impl Peer {
    /// A client that has said hello.
    fn client() -> Self {
        let mut peer = Self::default();
        peer.bytes.extend_from_slice(PREFACE);
        peer.frame(Kind::Settings, 0, 0, b"");
        peer
    }

    fn server() -> Self {
        let mut peer = Self::default();
        peer.frame(Kind::Settings, 0, 0, b"");
        peer
    }

    fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        frame::write(&mut self.bytes, kind, flags, stream, payload);
        self
    }

    fn block(&mut self, lines: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in lines {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            self.encoder.field(&mut block, name, value, Policy::Once);
        }
        block
    }

    fn head(&mut self, stream: u32, lines: &[(&str, &str)], ends: bool) -> &mut Self {
        let block = self.block(lines);
        let flags = frame::END_HEADERS | u8::from(ends);
        self.frame(Kind::Headers, flags, stream, &block)
    }

    fn get(&mut self, stream: u32) -> &mut Self {
        self.head(stream, GET, true)
    }

    fn post(&mut self, stream: u32) -> &mut Self {
        self.head(stream, POST, false)
    }

    fn data(&mut self, stream: u32, data: &[u8], ends: bool) -> &mut Self {
        self.frame(Kind::Data, u8::from(ends), stream, data)
    }
}

const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/"),
    (":authority", "a"),
];

const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/"),
    (":authority", "a"),
];

/// An event without its borrow, in words.
type Told = Result<Vec<String>, ConnectionFault>;

/// Gives all of `input`, in pieces of at most `piece` bytes, and tells what came of it.
fn feed(connection: &mut Connection, input: &[u8], piece: usize) -> Told {
    let mut heads = Heads::default();
    let mut told = Vec::new();
    let (mut at, mut there) = (0, 0);
    loop {
        let step = connection.next(&input[at..there], &mut heads)?;
        at += step.consumed;
        match step.event {
            Some(event) => told.push(words(event)),
            None if there == input.len() => {
                assert!(input.len() - at <= FRAME_BYTES_MAX + FRAME_HEAD_BYTES);
                return Ok(told);
            }
            None => there = input.len().min(there + piece),
        }
    }
}

fn words(event: Event<'_>) -> String {
    match event {
        Event::Request { stream, ends } => format!("{stream} request {ends}"),
        Event::Refused { stream, reject, .. } => format!("{stream} refused {reject}"),
        Event::Interim { stream, .. } => format!("{stream} interim"),
        Event::Response { stream, ends, .. } => format!("{stream} response {ends}"),
        Event::Data {
            stream, data, ends, ..
        } => {
            format!("{stream} data {} {ends}", String::from_utf8_lossy(data))
        }
        Event::Trailers { stream, .. } => format!("{stream} trailers"),
        Event::Reset {
            stream,
            code,
            fault,
            ..
        } => {
            let by = fault.map_or("peer", StreamFault::as_str);
            format!("{stream} reset {} by {by}", code.as_str())
        }
        Event::Writable { stream, .. } => format!("{stream} writable"),
        Event::Settings => "settings".to_owned(),
        Event::GoAway { code } => format!("goaway {}", code.as_str()),
        Event::Pong => "pong".to_owned(),
    }
}

fn told(connection: &mut Connection, peer: &Peer) -> Told {
    feed(connection, &peer.bytes, usize::MAX / 2)
}

/// The frames in what was sent: kind, flags, stream, payload.
fn frames(mut sent: &[u8]) -> Vec<(Kind, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    sent = sent.strip_prefix(PREFACE).unwrap_or(sent);
    while let Some(head) = sent.first_chunk() {
        let head = FrameHead::parse(head);
        let (payload, rest) = sent[FRAME_HEAD_BYTES..].split_at(head.length);
        frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
        sent = rest;
    }
    assert!(sent.is_empty());
    frames
}

fn flushed(connection: &mut Connection) -> Vec<(Kind, u8, u32, Vec<u8>)> {
    let mut out = Vec::new();
    connection.flush(&mut out);
    frames(&out)
}

fn settings() -> Settings {
    Settings {
        head_limits: HeadLimits {
            head_bytes_max: 4096,
            header_count_max: 20,
        },
        streams_max: 3,
        ..Settings::default()
    }
}

/// A server that has exchanged settings.
fn server() -> Connection {
    let mut server = Connection::server(&settings());
    let mut peer = Peer::client();
    peer.frame(Kind::Settings, frame::ACK, 0, b"");
    assert_eq!(told(&mut server, &peer).unwrap(), ["settings"]);
    flushed(&mut server);
    server
}

fn client() -> Connection {
    let mut client = Connection::client(&settings());
    assert_eq!(told(&mut client, &Peer::server()).unwrap(), ["settings"]);
    flushed(&mut client);
    client
}
