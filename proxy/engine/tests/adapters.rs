//! What is spoken on either side, each by itself: bytes in, and what has come of them, whole and byte by byte.
//!
//! The other side is honest and the simplest that there is. `tests/rig` drives the engine.

mod rig;

use _engine::protocol::h2::{Connection, ErrorCode, Event, Heads, Settings};
use rig::{Answered, Honest, Peer, Rig, Spoken, answers, requests};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// All at once, some bytes at a time, and each by itself.
const PIECES: [usize; 3] = [usize::MAX, 7, 1];

/// A connection of HTTP/2 in the other role, which tells what it has heard.
struct Multiplexed {
    peer: Peer,
    connection: Connection,
    heads: Heads,
    out: Vec<u8>,
    seen: usize,
}

impl Multiplexed {
    fn new(peer: Peer, connection: Connection) -> Self {
        Self {
            peer,
            connection,
            heads: Heads::new(7),
            out: Vec::new(),
            seen: 0,
        }
    }

    /// Sends what is to be sent.
    fn say(&mut self, rig: &mut Rig, piece: usize) {
        self.connection.flush(&mut self.out);
        let out = std::mem::take(&mut self.out);
        rig.say(&mut self.peer, &out, piece);
    }

    /// What has come, a line for each event.
    fn told(&mut self) -> Vec<String> {
        self.peer.hear();
        let mut told = Vec::new();
        loop {
            let rest = &self.peer.got[self.seen..];
            let step = self.connection.next(rest, &mut self.heads).unwrap();
            self.seen += step.consumed;
            let Some(event) = step.event else {
                return told;
            };
            let text = self.heads.text();
            told.push(match event {
                Event::Request { stream, ends } => {
                    let (method, path) = (
                        self.heads.request.method(text),
                        self.heads.request.path(text),
                    );
                    let (method, path) = (method.escape_ascii(), path.escape_ascii());
                    format!("{stream} {method} {path} {ends}")
                }
                Event::Response { stream, ends, .. } => {
                    format!("{stream} {} {ends}", self.heads.response.status)
                }
                Event::Interim { stream, .. } => {
                    format!("{stream} interim {}", self.heads.response.status)
                }
                Event::Data {
                    stream, data, ends, ..
                } => {
                    let line = format!("{stream} data {} {ends}", data.escape_ascii());
                    let length = data.len();
                    self.connection.consumed(stream, length);
                    line
                }
                Event::Trailers { stream, .. } => {
                    format!("{stream} trailers {}", self.heads.trailers().escape_ascii())
                }
                Event::Reset { stream, code, .. } => format!("{stream} reset {code:?}"),
                Event::Settings | Event::Pong | Event::Writable { .. } => continue,
                other => format!("{other:?}"),
            });
        }
    }

    fn get(&mut self, path: &str) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
        let (connection, out) = (&mut self.connection, &mut self.out);
        let stream = connection.send_request(out, text.as_bytes(), "http", 0, true);
        assert!(stream.is_some());
    }

    fn response(&mut self, stream: u32, head: &[u8], ends: bool) {
        use _engine::protocol::h1::{
            Delivery, HeadLimits, Persistence, ResponseForward, ResponseHead, response,
        };
        let limits = HeadLimits {
            head_bytes_max: 4096,
            header_count_max: 20,
        };
        let mut parsed = ResponseHead::default();
        response::parse(head, &limits, false, None, &mut parsed).unwrap();
        let forward = ResponseForward {
            delivery: match parsed.content_length {
                Some(length) => Delivery::Length(length),
                None => Delivery::UntilClose,
            },
            persistence: Persistence::Implied,
            date: b"",
            extra: [b""; 4],
            protocol: b"",
        };
        let (connection, out) = (&mut self.connection, &mut self.out);
        connection.send_response(out, stream, head, &parsed, &forward, ends);
    }

    fn data(&mut self, stream: u32, data: &[u8], ends: bool) {
        let sent = self.connection.send_data(&mut self.out, stream, data, ends);
        assert_eq!(sent, data.len());
    }
}

fn whole(status: u16, body: &str) -> Answered {
    Answered::Whole {
        interim: vec![],
        status,
        body: body.into(),
        trailers: vec![],
    }
}

// Clients of HTTP/1.1.

#[test]
fn requests_in_http_1_arrive_as_they_were_meant() {
    let said = b"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n\
        GET /b?c HTTP/1.1\r\nHost: shop\r\n\r\n\
        PUT /d HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nfgh\
        GET /e HTTP/1.0\r\nHost: shop\r\n\r\n";
    for piece in PIECES {
        let mut rig = Rig::new(Spoken::Http1);
        let mut client = rig.client();
        let mut backend = Honest::default();
        for piece in said.chunks(piece.min(said.len())) {
            rig.say(&mut client, piece, usize::MAX);
            backend.serve(&mut rig);
        }
        let asked: Vec<(&str, &[u8])> = backend
            .asked
            .iter()
            .map(|asked| (asked.line.as_str(), asked.body.as_slice()))
            .collect();
        assert_eq!(
            asked,
            [
                ("POST /a HTTP/1.1", b"abcde".as_slice()),
                ("GET /b?c HTTP/1.1", b""),
                ("PUT /d HTTP/1.1", b"fgh"),
                ("GET /e HTTP/1.1", b""),
            ]
        );
        let got = answers(&mut client, false);
        assert_eq!(got, vec![whole(200, "ok"); 4]);
        assert!(client.ended, "HTTP/1.0 has asked for no more");
        drop((client, backend));
        rig.check_empty();
    }
}

#[test]
fn what_is_no_request_in_http_1_goes_nowhere() {
    for said in [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".as_slice(),
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;=x\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
    ] {
        for piece in PIECES {
            let mut rig = Rig::new(Spoken::Http1);
            let mut client = rig.client();
            rig.say(&mut client, said, piece);
            let mut backend = Honest::default();
            backend.serve(&mut rig);
            assert!(backend.asked.is_empty());
            assert_eq!(answers(&mut client, false)[0].status(), 400);
            drop((client, backend));
            rig.check_empty();
        }
    }
}

// Clients of HTTP/2.

#[test]
fn requests_in_http_2_arrive_as_they_were_meant() {
    for piece in PIECES {
        let mut rig = Rig::new(Spoken::Http1);
        let peer = rig.client();
        let mut client = Multiplexed::new(peer, Connection::client(&Settings::default()));
        let text = b"POST /a HTTP/1.1\r\nHost: shop\r\n\r\n";
        for (text, ends) in [(text.as_slice(), false), (GET, true)] {
            let (connection, out) = (&mut client.connection, &mut client.out);
            connection.send_request(out, text, "http", 0, ends).unwrap();
        }
        client.data(1, b"abc", false);
        let (connection, out) = (&mut client.connection, &mut client.out);
        connection.send_trailers(out, 1, b"x-sum: 3\r\n");
        client.say(&mut rig, piece);
        let mut backend = Honest::default();
        backend.serve(&mut rig);
        let mut asked: Vec<(&str, &[u8])> = backend
            .asked
            .iter()
            .map(|asked| (asked.line.as_str(), asked.body.as_slice()))
            .collect();
        asked.sort_unstable();
        let expected = [
            ("GET /a HTTP/1.1", b"".as_slice()),
            ("POST /a HTTP/1.1", b"abc"),
        ];
        assert_eq!(asked, expected);
        let mut told = client.told();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "1 200 false",
                "1 data ok true",
                "3 200 false",
                "3 data ok true"
            ]
        );
        drop((client, backend));
        rig.check_empty();
    }
}

#[test]
fn who_breaks_http_2_is_told_and_left() {
    for piece in PIECES {
        let mut rig = Rig::new(Spoken::Http1);
        let peer = rig.client();
        let mut client = Multiplexed::new(peer, Connection::client(&Settings::default()));
        client.say(&mut rig, piece);
        client.told();
        // DATA of a stream that nobody has opened (RFC 9113 §5.1).
        rig.say(&mut client.peer, b"\0\0\x01\0\0\0\0\0\x05a", piece);
        assert!(client.told()[0].starts_with("GoAway"));
        drop(client);
        rig.check_empty();
    }
}

// Backends of HTTP/1.1.

/// What a client gets whose backend says this, and nothing more.
fn answered(request: &[u8], said: &[u8], piece: usize) -> Answered {
    let mut rig = Rig::new(Spoken::Http1);
    let mut client = rig.client();
    rig.say(&mut client, request, usize::MAX);
    let mut backend = rig.backend().expect("a connection");
    assert_eq!(requests(&mut backend).len(), 1);
    rig.say(&mut backend, said, piece);
    backend.end();
    rig.settle();
    let mut got = answers(&mut client, request.starts_with(b"HEAD"));
    assert_eq!(got.len(), 1);
    drop((client, backend));
    rig.check_empty();
    got.remove(0)
}

#[test]
fn responses_in_http_1_arrive_as_they_were_meant() {
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n";
    let early = [b"HTTP/1.1 103 Early Hints\r\n\r\n".as_slice(), OK].concat();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    for piece in PIECES {
        assert_eq!(answered(GET, OK, piece), whole(200, "ok"));
        let Answered::Whole { body, trailers, .. } = answered(GET, chunked, piece) else {
            panic!("it was whole");
        };
        assert_eq!(
            (body.as_slice(), trailers.as_slice()),
            (&b"ok"[..], &b"A: b\r\n"[..])
        );
        let until_close = answered(GET, b"HTTP/1.1 200 OK\r\n\r\nok", piece);
        assert_eq!(until_close, whole(200, "ok"));
        let Answered::Whole { interim, .. } = answered(GET, &early, piece) else {
            panic!("it was whole");
        };
        assert_eq!(interim, [103]);
        let head_only = b"HEAD /a HTTP/1.1\r\nHost: shop\r\n\r\n";
        assert_eq!(answered(head_only, head, piece), whole(200, ""));
        assert_eq!(answered(GET, head, piece), Answered::Cut);
        assert_eq!(answered(GET, b"HTTP/1.1 200", piece).status(), 502);
        assert_eq!(
            answered(GET, b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", piece).status(),
            502
        );
    }
}

// Backends of HTTP/2.

/// A client that has asked, and the backend that has its connection.
fn asked(rig: &mut Rig, request: &[u8]) -> (Peer, Multiplexed) {
    let mut client = rig.client();
    rig.say(&mut client, request, usize::MAX);
    let peer = rig.backend().expect("a connection");
    let connection = Connection::server(&Settings::default());
    (client, Multiplexed::new(peer, connection))
}

#[test]
fn responses_in_http_2_arrive_as_they_were_meant() {
    for piece in PIECES {
        let mut rig = Rig::new(Spoken::Http2);
        let (mut client, mut backend) = asked(&mut rig, GET);
        assert_eq!(backend.told(), [""; 0], "it has not said what it takes");
        backend.say(&mut rig, piece);
        assert_eq!(backend.told(), ["1 GET /a true"]);
        backend.response(1, b"HTTP/1.1 103 Early Hints\r\n\r\n", false);
        backend.response(1, b"HTTP/1.1 200 OK\r\n\r\n", false);
        backend.data(1, b"o", false);
        backend.data(1, b"k", false);
        let (connection, out) = (&mut backend.connection, &mut backend.out);
        connection.send_trailers(out, 1, b"a: b\r\n");
        backend.say(&mut rig, piece);
        let expected = Answered::Whole {
            interim: vec![103],
            status: 200,
            body: b"ok".to_vec(),
            trailers: b"a: b\r\n".to_vec(),
        };
        assert_eq!(answers(&mut client, false), [expected]);
        // The next one shares the connection, and is given up halfway.
        rig.say(&mut client, GET, usize::MAX);
        assert_eq!(backend.told(), ["3 GET /a true"]);
        backend.response(3, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false);
        backend.data(3, b"half", false);
        backend.say(&mut rig, piece);
        assert_eq!(answers(&mut client, false)[1..], [Answered::Open]);
        drop(client);
        rig.settle();
        assert_eq!(backend.told(), ["3 reset Cancel"]);
        assert!(rig.backend().is_none());
        drop(backend);
        rig.check_empty();
    }
}

#[test]
fn a_request_waits_until_its_backend_allows_a_stream() {
    let mut rig = Rig::new(Spoken::Http2);
    let (mut first, mut backend) = asked(&mut rig, GET);
    let mut second = rig.client();
    rig.say(&mut second, GET, usize::MAX);
    assert!(rig.backend().is_none(), "they share a connection");
    // None yet; then one.
    rig.say(
        &mut backend.peer,
        b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0",
        1,
    );
    assert_eq!(backend.told(), [""; 0]);
    rig.say(
        &mut backend.peer,
        b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x01",
        1,
    );
    assert_eq!(backend.told(), ["1 GET /a true"], "who came first");
    let other = rig.backend().expect("the second one goes elsewhere");
    backend.response(1, b"HTTP/1.1 204 No Content\r\n\r\n", true);
    backend.say(&mut rig, 1);
    assert_eq!(answers(&mut first, false), [whole(204, "")]);
    assert_eq!(answers(&mut second, false), []);
    drop((first, second, backend, other));
    rig.check_empty();
}

#[test]
fn who_leaves_while_waiting_is_waited_for_by_nobody() {
    let mut rig = Rig::new(Spoken::Http2);
    let peer = rig.client();
    let mut client = Multiplexed::new(peer, Connection::client(&Settings::default()));
    for path in ["/a", "/b"] {
        client.get(path);
    }
    client.say(&mut rig, usize::MAX);
    let peer = rig.backend().expect("a connection for both");
    let mut backend = Multiplexed::new(peer, Connection::server(&Settings::default()));
    client.connection.reset(1, ErrorCode::Cancel);
    client.say(&mut rig, usize::MAX);
    backend.say(&mut rig, usize::MAX);
    assert_eq!(backend.told(), ["1 GET /b true"], "it is still there");
    backend.response(1, b"HTTP/1.1 204 No Content\r\n\r\n", true);
    backend.say(&mut rig, usize::MAX);
    assert_eq!(client.told(), ["3 204 true"]);
    drop(backend);
    rig.settle();

    client.get("/c");
    client.say(&mut rig, usize::MAX);
    let mut backend = rig.backend().expect("a connection");
    client.connection.reset(5, ErrorCode::Cancel);
    client.say(&mut rig, usize::MAX);
    backend.hear();
    assert!(backend.ended, "there is no use for the connection");
    drop((client, backend));
    rig.check_empty();
}

#[test]
fn a_backend_that_leaves_before_it_has_begun_is_one_that_cannot_be_reached() {
    for said in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"\0\0\0\x04\0\0\0\0",
        // SETTINGS that allow nothing, then GOAWAY.
        b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        for piece in PIECES {
            let mut rig = Rig::new(Spoken::Http2);
            let (mut client, mut backend) = asked(&mut rig, GET);
            rig.say(&mut backend.peer, said, piece);
            backend.peer.end();
            rig.settle();
            assert_eq!(answers(&mut client, false)[0].status(), 502);
            drop((client, backend));
            rig.check_empty();
        }
    }
}

// One of many, and who has left.

/// Two requests of one client of HTTP/2, the first of which its backend breaks off.
fn two_streams(rig: &mut Rig) -> Multiplexed {
    let peer = rig.client();
    let mut client = Multiplexed::new(peer, Connection::client(&Settings::default()));
    for path in ["/a", "/b"] {
        client.get(path);
    }
    client.say(rig, usize::MAX);
    client
}

#[test]
fn an_early_end_of_a_backend_costs_one_stream_and_not_its_neighbours() {
    let mut rig = Rig::new(Spoken::Http1);
    let mut client = two_streams(&mut rig);
    let [mut first, mut second] = [rig.backend(), rig.backend()].map(Option::unwrap);
    if requests(&mut first)[0].line != "GET /a HTTP/1.1" {
        std::mem::swap(&mut first, &mut second);
    }
    rig.say(
        &mut first,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        usize::MAX,
    );
    first.end();
    rig.settle();
    assert_eq!(
        client.told(),
        ["1 200 false", "1 data half false", "1 reset Internal"]
    );
    rig.say(&mut second, OK, usize::MAX);
    assert_eq!(client.told(), ["3 200 false", "3 data ok true"]);
    drop((client, first, second));
    rig.check_empty();
}

#[test]
fn a_contradiction_over_frames_costs_one_stream_and_not_its_neighbours() {
    let mut rig = Rig::new(Spoken::Http2);
    let mut client = two_streams(&mut rig);
    let peer = rig.backend().expect("a connection for both");
    let mut backend = Multiplexed::new(peer, Connection::server(&Settings::default()));
    backend.say(&mut rig, usize::MAX);
    assert_eq!(backend.told(), ["1 GET /a true", "3 GET /b true"]);
    backend.response(1, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", false);
    for part in [b"abc", b"def"] {
        // Raw, since a side that keeps to the rules would not send it.
        let frame = [b"\0\0\x03\0\0\0\0\0\x01".as_slice(), part].concat();
        backend.say(&mut rig, usize::MAX);
        rig.say(&mut backend.peer, &frame, usize::MAX);
    }
    assert_eq!(
        client.told(),
        ["1 200 false", "1 data abc false", "1 reset Internal"]
    );
    assert_eq!(backend.told(), ["1 reset Protocol"]);
    backend.response(3, b"HTTP/1.1 204 No Content\r\n\r\n", true);
    backend.say(&mut rig, usize::MAX);
    assert_eq!(client.told(), ["3 204 true"]);
    drop((client, backend));
    rig.check_empty();
}

#[test]
fn a_call_of_grpc_over_http_1_ends_with_the_code_of_its_backend() {
    let call = b"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc\r\n\
        Content-Length: 0\r\n\r\n";
    for (code, expected) in [
        (ErrorCode::Cancel, "grpc-status: 1\r\n"),
        (ErrorCode::EnhanceYourCalm, "grpc-status: 8\r\n"),
        (ErrorCode::Internal, "grpc-status: 13\r\n"),
    ] {
        let mut rig = Rig::new(Spoken::Http2);
        let (mut client, mut backend) = asked(&mut rig, call);
        backend.say(&mut rig, usize::MAX);
        assert_eq!(backend.told(), ["1 POST /a true"]);
        backend.connection.reset(1, code);
        backend.say(&mut rig, usize::MAX);
        assert_eq!(answers(&mut client, false)[0].status(), 502);
        let text = String::from_utf8_lossy(&client.got).into_owned();
        assert!(text.contains(expected), "{code:?}: {text}");
        drop((client, backend));
        rig.check_empty();
    }
}

/// Its backend has not said what it takes: nothing of the body has anywhere to go.
#[test]
fn who_leaves_in_the_middle_of_a_body_while_it_waits_is_not_served() {
    let length = b"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\n".as_slice();
    let chunked = b"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, half, rest) in [
        (length, b"half".as_slice(), b"-done".as_slice()),
        (chunked, b"4\r\nhalf\r\n", b"0\r\n\r\n"),
    ] {
        for is_whole in [true, false] {
            let mut rig = Rig::new(Spoken::Http2);
            let (mut client, mut backend) = asked(&mut rig, head);
            rig.say(&mut client, half, usize::MAX);
            if is_whole {
                rig.say(&mut client, rest, usize::MAX);
            }
            client.end();
            rig.settle();
            backend.peer.hear();
            assert_eq!(
                backend.peer.ended, !is_whole,
                "nobody waits for it any more"
            );
            if is_whole {
                backend.say(&mut rig, usize::MAX);
                assert_eq!(backend.told()[0], "1 POST /a false");
                backend.response(1, b"HTTP/1.1 204 No Content\r\n\r\n", true);
                backend.say(&mut rig, usize::MAX);
                assert_eq!(answers(&mut client, false), [whole(204, "")]);
            }
            drop((client, backend));
            rig.check_empty();
        }
    }
}
