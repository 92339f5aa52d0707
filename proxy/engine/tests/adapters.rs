//! What is spoken on either side, each by itself: bytes in, and what has come of them, whole and byte by byte.
//!
//! The other side is honest and the simplest that there is. `tests/rig` drives the engine.

mod rig;

use _engine::protocol::h2::{Connection, ErrorCode, Settings};
use _engine::protocol::lines::LineBuf;
use rig::asking::ask;
use rig::multiplexed::Multiplexed;
use rig::{Answered, Honest, Peer, Rig, Spoken, answers, requests};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// All at once, some bytes at a time, and each by itself.
const PIECES: [usize; 3] = [usize::MAX, 7, 1];

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
            ask(connection, out, text, "http", 0, ends).unwrap();
        }
        client.data(1, b"abc", false);
        let (connection, out) = (&mut client.connection, &mut client.out);
        connection.send_trailers(out, 1, LineBuf::one(b"x-sum", b"3").lines());
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
        connection.send_trailers(out, 1, LineBuf::one(b"a", b"b").lines());
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
