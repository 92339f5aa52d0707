//! What holds between requests: those beside one another, one behind the other, and who leaves before the end.

mod rig;
mod support;

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use _engine::protocol::h2::{Connection, ErrorCode, Settings};
use _engine::protocol::lines::LineBuf;
use rig::asking::ask;
use rig::multiplexed::Multiplexed;
use rig::{Answered, Honest, Peer, Rig, Spoken, answers, listen, requests};
use support::{LISTENER, SETTINGS, backend, cluster, frontend, ops};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// More than any window, and than any read.
const LARGE: usize = 600_000;

fn whole(status: u16, body: &[u8]) -> Answered {
    Answered::Whole {
        interim: vec![],
        status,
        body: body.into(),
        trailers: vec![],
    }
}

/// A client that has asked, and the backend that has its connection.
fn asked(rig: &mut Rig, request: &[u8]) -> (Peer, Multiplexed) {
    let mut client = rig.client();
    rig.say(&mut client, request, usize::MAX);
    let peer = rig.backend().expect("a connection");
    (
        client,
        Multiplexed::new(peer, Connection::server(&Settings::default())),
    )
}

fn multiplexed(rig: &mut Rig) -> Multiplexed {
    let peer = rig.client();
    Multiplexed::new(peer, Connection::client(&Settings::default()))
}

// One of many, and who has left.

/// Two requests of one client of HTTP/2, the first of which its backend breaks off.
fn two_streams(rig: &mut Rig) -> Multiplexed {
    let mut client = multiplexed(rig);
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
                assert_eq!(answers(&mut client, false), [whole(204, b"")]);
            }
            drop((client, backend));
            rig.check_empty();
        }
    }
}

// What comes of a connection for the next request.

#[test]
fn a_backend_that_wants_no_more_gets_no_more() {
    let mut rig = Rig::new(Spoken::Http1);
    let mut client = rig.client();
    rig.say(&mut client, GET, usize::MAX);
    let mut first = rig.backend().unwrap();
    let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    rig.say(&mut first, last, usize::MAX);
    rig.say(&mut client, GET, usize::MAX);
    assert_eq!(requests(&mut first).len(), 1);
    let mut second = rig.backend().expect("another connection");
    rig.say(&mut second, OK, usize::MAX);
    assert_eq!(answers(&mut client, false), vec![whole(200, b"ok"); 2]);
    drop((client, first, second));
    rig.check_empty();

    let mut rig = Rig::new(Spoken::Http2);
    let (mut client, mut first) = asked(&mut rig, GET);
    first.say(&mut rig, usize::MAX);
    assert_eq!(first.told(), ["1 GET /a true"]);
    first.connection.go_away(ErrorCode::NoError);
    first.response(1, b"HTTP/1.1 204 No Content\r\n\r\n", true);
    first.say(&mut rig, usize::MAX);
    first.peer.hear();
    assert!(first.peer.ended, "it is of no more use");
    rig.say(&mut client, GET, usize::MAX);
    assert_eq!(answers(&mut client, false), [whole(204, b"")]);
    let second = rig.backend().expect("another connection");
    drop((client, first, second));
    rig.check_empty();
}

#[test]
fn a_response_that_is_none_is_told_while_its_backend_is_still_there() {
    let mut rig = Rig::new(Spoken::Http1);
    let mut client = rig.client();
    rig.say(&mut client, GET, usize::MAX);
    let mut backend = rig.backend().unwrap();
    let none = b"HTTP/1.1 200 OK\r\nA b\r\n\r\n";
    rig.say(&mut backend, none, usize::MAX);
    assert_eq!(answers(&mut client, false)[0].status(), 502);
    backend.hear();
    assert!(backend.ended, "nothing that it says can be trusted");
    drop((client, backend));
    rig.check_empty();
}

// What strangers say.

/// Neither a backend nor a match of a frontend gets to see it.
#[test]
fn nobody_says_for_whom_he_asks_but_who_is_trusted() {
    let head = b"GET /a HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 203.0.113.6\r\n\r\n";
    for of_http_2 in [false, true] {
        for is_matched in [false, true] {
            let mut rig = one_frontend(is_matched);
            let mut client = multiplexed(&mut rig);
            if of_http_2 {
                let (connection, out) = (&mut client.connection, &mut client.out);
                ask(connection, out, head, "http", 0, true).unwrap();
                client.say(&mut rig, usize::MAX);
            } else {
                rig.say(&mut client.peer, head, usize::MAX);
            }
            let mut backend = rig.backend();
            assert_eq!(backend.is_none(), is_matched, "nobody has said that");
            if let Some(backend) = &mut backend {
                backend.hear();
                let text = String::from_utf8_lossy(&backend.got).into_owned();
                assert!(text.contains("127.0.0.1"), "{text}");
                assert!(!text.contains("203.0.113.6"), "{text}");
            }
            drop((client, backend));
            rig.check_empty();
        }
    }
}

/// Its frontend takes all requests, or those of one client that a proxy has told of.
fn one_frontend(is_matched: bool) -> Rig {
    let (door, behind) = (listen(), listen());
    let address = door.local_addr().unwrap();
    let told = r#""headers":{"x-forwarded-for":{"exact":"203.0.113.6"}}"#;
    let all = frontend("blue");
    let puts = [
        SETTINGS.into(),
        LISTENER
            .replace("ADDRESS", &address.to_string())
            .replace(r#""h2c":false"#, r#""h2c":true"#),
        cluster("blue"),
        backend("blue/1", behind.local_addr().unwrap()),
        match is_matched {
            true => all.replace(r#""headers":{}"#, told),
            false => all,
        },
    ];
    let sockets = HashMap::from([("web".to_owned(), OwnedFd::from(door))]);
    Rig::of(&ops(&puts, &[]), sockets, &HashMap::new(), address, behind)
}

#[test]
fn what_is_no_request_in_http_2_costs_one_stream() {
    let mut rig = Rig::new(Spoken::Http1);
    let mut client = multiplexed(&mut rig);
    for path in ["/%00", "/b"] {
        client.get(path);
    }
    client.say(&mut rig, usize::MAX);
    let mut backend = Honest::default();
    backend.serve(&mut rig);
    assert_eq!(backend.asked.len(), 1);
    let told = client.told();
    assert_eq!(told[0], "1 400 false");
    assert_eq!(told[told.len() - 2..], ["3 200 false", "3 data ok true"]);
    drop((client, backend));
    rig.check_empty();
}

// Ends and windows.

#[test]
fn trailers_of_clients_arrive() {
    let chunked = b"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n0\r\nx-sum: 2\r\n\r\n";
    for of_http_2 in [false, true] {
        let mut rig = Rig::new(Spoken::Http1);
        let mut client = multiplexed(&mut rig);
        if of_http_2 {
            let head = b"POST /a HTTP/1.1\r\nHost: shop\r\n\r\n";
            let (connection, out) = (&mut client.connection, &mut client.out);
            ask(connection, out, head, "http", 0, false).unwrap();
            connection.send_data(out, 1, b"ab", false);
            connection.send_trailers(out, 1, LineBuf::one(b"x-sum", b"2").lines());
            client.say(&mut rig, usize::MAX);
        } else {
            rig.say(&mut client.peer, chunked, usize::MAX);
        }
        let mut backend = rig.backend().unwrap();
        assert_eq!(requests(&mut backend)[0].body, b"ab");
        assert!(backend.got.ends_with(b"0\r\nx-sum: 2\r\n\r\n"));
        drop((client, backend));
        rig.check_empty();
    }
}

#[test]
fn bodies_longer_than_any_window_pass() {
    let body = vec![b'x'; LARGE];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");

    // Up, from a client of HTTP/2.
    let mut rig = Rig::new(Spoken::Http1);
    let mut client = multiplexed(&mut rig);
    let asking = format!("POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: {LARGE}\r\n\r\n");
    let (connection, out) = (&mut client.connection, &mut client.out);
    ask(connection, out, asking.as_bytes(), "http", 0, false);
    let (mut sent, mut backend) = (0, None);
    for _ in 0..1000 {
        let (connection, out) = (&mut client.connection, &mut client.out);
        sent += connection.send_data(out, 1, &body[sent..], true);
        client.say(&mut rig, usize::MAX);
        client.told();
        backend = backend.or_else(|| rig.backend());
        if let Some(backend) = &mut backend {
            Peer::hear(backend);
        }
        rig.settle();
    }
    assert_eq!(sent, LARGE);
    let mut backend = backend.unwrap();
    assert_eq!(requests(&mut backend)[0].body, body);

    // Down, to the same one.
    rig.say(&mut backend, head.as_bytes(), usize::MAX);
    let mut got = 0;
    for part in body.chunks(10_000) {
        backend.send(part);
        rig.settle();
        got += heard(&mut client, &mut rig);
    }
    for _ in 0..1000 {
        got += heard(&mut client, &mut rig);
    }
    assert_eq!(got, LARGE);
    drop((client, backend));
    rig.check_empty();

    // Down, from a backend of HTTP/2.
    let mut rig = Rig::new(Spoken::Http2);
    let (mut client, mut backend) = asked(&mut rig, GET);
    backend.say(&mut rig, usize::MAX);
    assert_eq!(backend.told(), ["1 GET /a true"]);
    backend.response(1, head.as_bytes(), false);
    let mut sent = 0;
    for _ in 0..1000 {
        let (connection, out) = (&mut backend.connection, &mut backend.out);
        sent += connection.send_data(out, 1, &body[sent..], true);
        backend.say(&mut rig, usize::MAX);
        client.hear();
        rig.settle();
        backend.told();
    }
    assert_eq!(sent, LARGE);
    assert_eq!(answers(&mut client, false), [whole(200, &body)]);
    drop((client, backend));
    rig.check_empty();
}

/// It makes room only when all that it has room for has come.
#[test]
fn who_reads_late_gets_all_of_it() {
    let settings = Settings {
        stream_window: 16 * 1024,
        ..Settings::default()
    };
    let mut rig = Rig::new(Spoken::Http1);
    let peer = rig.client();
    let mut client = Multiplexed::new(peer, Connection::client(&settings));
    client.get("/a");
    client.say(&mut rig, usize::MAX);
    let mut backend = rig.backend().unwrap();
    let body = vec![b'x'; 100_000];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    rig.say(&mut backend, head.as_bytes(), usize::MAX);
    rig.say(&mut backend, &body, usize::MAX);
    let mut got = 0;
    for _ in 0..100 {
        got += heard(&mut client, &mut rig);
    }
    assert_eq!(got, body.len());
    drop((client, backend));
    rig.check_empty();
}

/// How much of a body a client is told of, which makes room for as much again.
fn heard(client: &mut Multiplexed, rig: &mut Rig) -> usize {
    let told = client.told();
    client.say(rig, usize::MAX);
    let parts = told.iter().filter_map(|line| line.strip_prefix("1 data "));
    parts
        .map(|part| part.split(' ').next().unwrap().len())
        .sum()
}
