//! Answers that are compressed: whatever comes out decompresses to what went in, whoever speaks what on either side.

#[path = "support/decoding.rs"]
mod decoding;
mod rig;

use _engine::protocol::coding::Coding;
use _engine::protocol::h1::write_chunk_header;
use _engine::protocol::h2::{Connection, Settings};
use decoding::decoded;
use proptest::prelude::*;
use rig::multiplexed::Multiplexed;
use rig::{Answered, Peer, Rig, Spoken, answers};

const ASKED: &str = r#""compression":{"min_bytes":1},"#;

/// How a backend frames its body.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    Close,
}

/// Who asks, and by what.
#[derive(Clone, Copy, Debug)]
enum Asking {
    Http10,
    Http11,
    Http2,
}

/// A client that has asked once, and reads.
enum Client {
    Text(Asking, Peer),
    Frames(Box<Multiplexed>),
}

impl Client {
    fn ask(rig: &mut Rig, asking: Asking, coding: &str) -> Self {
        let version = match asking {
            Asking::Http10 => "1.0",
            Asking::Http11 | Asking::Http2 => "1.1",
        };
        let text =
            format!("GET /a HTTP/{version}\r\nHost: shop\r\nAccept-Encoding: {coding}\r\n\r\n");
        let mut peer = rig.client();
        if let Asking::Http10 | Asking::Http11 = asking {
            rig.say(&mut peer, text.as_bytes(), usize::MAX);
            return Self::Text(asking, peer);
        }
        let connection = Connection::client(&Settings::default());
        let mut frames = Multiplexed::new(peer, connection);
        frames.ask(&text);
        frames.say(rig, usize::MAX);
        Self::Frames(Box::new(frames))
    }

    /// Takes what has come, and makes room for more.
    fn hear(&mut self, rig: &mut Rig) {
        match self {
            Self::Text(_, peer) => {
                peer.hear();
            }
            Self::Frames(frames) => {
                frames.told();
                frames.say(rig, usize::MAX);
            }
        }
        rig.settle();
    }

    /// What has come of the body.
    fn body(&mut self) -> Vec<u8> {
        match self {
            Self::Text(Asking::Http10, peer) => {
                let end = peer.got.windows(4).position(|four| four == b"\r\n\r\n");
                end.map_or(Vec::new(), |end| peer.got[end + 4..].to_vec())
            }
            Self::Text(_, peer) => match answers(peer, false).pop() {
                Some(Answered::Whole { body, .. }) => body,
                _ => unchunked(&peer.got),
            },
            Self::Frames(frames) => frames.bodies.get(&1).cloned().unwrap_or_default(),
        }
    }

    /// The head, in lower case.
    fn head(&self) -> String {
        let bytes = match self {
            Self::Text(_, peer) => &peer.got,
            Self::Frames(frames) => &frames.lines[&1],
        };
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        text.split("\r\n\r\n").next().unwrap().to_owned()
    }
}

/// The content of chunks of which the last has not come.
fn unchunked(got: &[u8]) -> Vec<u8> {
    let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Vec::new();
    };
    let (mut rest, mut body) = (&got[end + 4..], Vec::new());
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
    body
}

/// A backend that answers one request, a piece at a time.
enum Backend {
    Text(Peer, Framing),
    Frames(Box<Multiplexed>),
}

impl Backend {
    fn begin(
        rig: &mut Rig,
        client: &mut Client,
        spoken: Spoken,
        framing: Framing,
        length: usize,
    ) -> Self {
        let mut peer = rig.backend().expect("a connection");
        let line = match framing {
            Framing::Length => format!("Content-Length: {length}\r\n"),
            Framing::Chunked if spoken == Spoken::Http1 => "Transfer-Encoding: chunked\r\n".into(),
            Framing::Chunked | Framing::Close => String::new(),
        };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\n{line}\r\n");
        if spoken == Spoken::Http1 {
            rig.say(&mut peer, head.as_bytes(), usize::MAX);
            client.hear(rig);
            return Self::Text(peer, framing);
        }
        let mut frames = Multiplexed::new(peer, Connection::server(&Settings::default()));
        frames.told();
        frames.say(rig, usize::MAX);
        frames.told();
        frames.response(1, head.as_bytes(), false);
        frames.say(rig, usize::MAX);
        client.hear(rig);
        Self::Frames(Box::new(frames))
    }

    fn send(&mut self, rig: &mut Rig, client: &mut Client, piece: &[u8]) {
        match self {
            Self::Text(peer, framing) => {
                let mut bytes = Vec::new();
                if let Framing::Chunked = framing {
                    write_chunk_header(&mut bytes, piece.len());
                }
                bytes.extend_from_slice(piece);
                if let Framing::Chunked = framing {
                    bytes.extend_from_slice(b"\r\n");
                }
                rig.say(peer, &bytes, usize::MAX);
                client.hear(rig);
            }
            Self::Frames(frames) => {
                let mut rest = piece;
                while !rest.is_empty() {
                    frames.told();
                    let (connection, out) = (&mut frames.connection, &mut frames.out);
                    let sent = connection.send_data(out, 1, rest, false);
                    rest = &rest[sent..];
                    frames.say(rig, usize::MAX);
                    client.hear(rig);
                }
            }
        }
    }

    fn end(&mut self, rig: &mut Rig, client: &mut Client) {
        match self {
            Self::Text(peer, Framing::Chunked) => rig.say(peer, b"0\r\n\r\n", usize::MAX),
            Self::Text(peer, Framing::Close) => peer.end(),
            Self::Text(_, Framing::Length) => {}
            Self::Frames(frames) => {
                frames.data(1, b"", true);
                frames.say(rig, usize::MAX);
            }
        }
        rig.settle();
        client.hear(rig);
    }
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec!["the ", "<td>", "\n", "42", "\u{e9}"]);
    let words = prop::collection::vec(words, 1..3000);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..60_000),
        words.prop_map(|words| words.concat().into_bytes()),
        (1..400_000_usize).prop_map(|length| vec![b'x'; length]),
    ]
}

fn spoken() -> impl Strategy<Value = Spoken> {
    prop::sample::select(vec![Spoken::Http1, Spoken::Http2])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_comes_out_is_what_went_in(
        body in bodies(),
        pieces in prop::collection::vec(1..40_000_usize, 1..8),
        coding in prop::sample::select(Coding::ALL.to_vec()),
        asking in prop::sample::select(vec![Asking::Http10, Asking::Http11, Asking::Http2]),
        framing in prop::sample::select(vec![Framing::Length, Framing::Chunked, Framing::Close]),
        spoken in spoken(),
    ) {
        let name = coding.as_str();
        let mut rig = Rig::asking(spoken, ASKED, "");
        let mut client = Client::ask(&mut rig, asking, name);
        let mut backend = Backend::begin(&mut rig, &mut client, spoken, framing, body.len());
        let mut at = 0;
        for length in pieces.into_iter().cycle() {
            let end = body.len().min(at + length);
            backend.send(&mut rig, &mut client, &body[at..end]);
            at = end;
            if !matches!(framing, Framing::Length) {
                // The backend pauses: what it has said so far is there.
                let (got, _) = decoded(name, &client.body());
                prop_assert_eq!(got.len(), at);
            }
            if at == body.len() {
                break;
            }
        }
        backend.end(&mut rig, &mut client);
        let head = client.head();
        for line in [&format!("content-encoding: {name}")[..], "vary: accept-encoding", "etag: w/\"a\""] {
            prop_assert!(head.contains(line), "{}", head);
        }
        prop_assert!(!head.contains("content-length"), "{}", head);
        let (got, is_all) = decoded(name, &client.body());
        prop_assert!(is_all);
        prop_assert!(got == body);
        drop((client, backend));
        rig.check_empty();
    }
}

/// An answer that is cut on its way cannot be taken for whole.
#[test]
fn a_body_that_breaks_off_is_cut() {
    for coding in Coding::ALL {
        let mut rig = Rig::asking(Spoken::Http1, ASKED, "");
        let mut client = Client::ask(&mut rig, Asking::Http11, coding.as_str());
        let (spoken, framing) = (Spoken::Http1, Framing::Length);
        let mut backend = Backend::begin(&mut rig, &mut client, spoken, framing, 100_000);
        backend.send(&mut rig, &mut client, &[b'x'; 50_000]);
        drop(backend);
        rig.settle();
        let Client::Text(_, mut peer) = client else {
            unreachable!();
        };
        assert_eq!(answers(&mut peer, false), [Answered::Cut]);
        drop(peer);
        rig.check_empty();
    }
}

/// Where the memory is spent, an answer is as it is, and says that it might have been another.
#[test]
fn encoders_are_as_many_as_their_memory_may_be() {
    let most = format!(
        r#""max_compression_bytes":{},"#,
        Coding::Gzip.usual().weight()
    );
    let mut rig = Rig::asking(Spoken::Http1, ASKED, &most);
    let begin = |rig: &mut Rig| {
        let mut client = Client::ask(rig, Asking::Http11, "gzip");
        let backend = Backend::begin(rig, &mut client, Spoken::Http1, Framing::Length, 9);
        (client, backend)
    };
    let (mut first, mut behind) = begin(&mut rig);
    let (mut second, other) = begin(&mut rig);
    first.hear(&mut rig);
    second.hear(&mut rig);
    assert!(first.head().contains("content-encoding: gzip"));
    assert!(!second.head().contains("content-encoding"));
    assert!(second.head().contains("vary: accept-encoding"));
    behind.send(&mut rig, &mut first, b"123456789");
    drop(behind);
    rig.settle();
    let (third, last) = begin(&mut rig);
    assert!(third.head().contains("content-encoding: gzip"));
    drop((first, second, third, other, last));
    rig.check_empty();
}

/// All that waits for its turn gets it, and no turn has more than its share.
#[test]
fn a_large_body_takes_many_turns() {
    takes_turns(ASKED, 128 * 1024);
}

/// The highest level, which some bodies keep busy a hundred times as long, gets less of each.
#[test]
fn a_high_level_has_less_of_a_turn() {
    let asked = r#""compression":{"levels":{"gzip":9},"min_bytes":1},"#;
    takes_turns(asked, 2 * 1024 + 512);
}

fn takes_turns(asked: &str, bytes_per_turn: usize) {
    let mut rig = Rig::asking(Spoken::Http1, asked, "");
    let mut client = Client::ask(&mut rig, Asking::Http11, "gzip");
    let mut peer = rig.backend().expect("a connection");
    let mut said =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 1000000\r\n\r\n".to_vec();
    said.resize(said.len() + 1_000_000, b'x');
    let (mut turns, mut rest) = (0, said.as_slice());
    while !rest.is_empty() {
        rest = &rest[peer.send_some(rest)..];
        turns += usize::from(rig.turn());
    }
    while rig.turn() {
        turns += 1;
    }
    assert!(turns >= 1_000_000 / bytes_per_turn, "{turns} turns");
    client.hear(&mut rig);
    assert_eq!(
        decoded("gzip", &client.body()),
        (vec![b'x'; 1_000_000], true)
    );
    drop((client, peer));
    rig.check_empty();
}
