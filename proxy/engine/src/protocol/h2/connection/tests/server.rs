//! The role of a server.

use super::*;
use crate::protocol::h1::OwnHead;
use crate::protocol::h1::via::Via;
use crate::protocol::h2::hpack::Decoder;
use crate::protocol::lines::{LineBuf, Lines};

#[test]
fn a_hello_is_answered() {
    let mut server = Connection::server(&Settings::default());
    let told = feed(&mut server, &Peer::client().bytes, 1).unwrap();
    assert_eq!(told, ["settings"]);
    let sent = flushed(&mut server);
    let kinds: Vec<(Kind, u8)> = sent.iter().map(|frame| (frame.0, frame.1)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::Settings, 0),
            (Kind::WindowUpdate, 0),
            (Kind::Settings, frame::ACK)
        ]
    );
    assert!(!server.settings_acknowledged());
    let mut peer = Peer::default();
    peer.frame(Kind::Settings, frame::ACK, 0, b"");
    super::told(&mut server, &peer).unwrap();
    assert!(server.settings_acknowledged() && !server.has_output());
}

#[test]
fn something_else_is_no_hello() {
    assert_eq!(is_preface(b"PRI * HTTP/2"), None);
    assert_eq!(is_preface(b"GET / HTTP/1.1"), Some(false));
    let mut server = Connection::server(&Settings::default());
    let fault = feed(&mut server, b"PRJ", 1);
    assert_eq!(fault, Err(ConnectionFault::Preface));
    let mut server = Connection::server(&Settings::default());
    let mut peer = Peer::default();
    peer.bytes.extend_from_slice(PREFACE);
    peer.frame(Kind::Ping, 0, 0, b"12345678");
    assert_eq!(
        super::told(&mut server, &peer),
        Err(ConnectionFault::Preface)
    );
}

#[test]
fn an_exchange_goes_both_ways() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.post(1)
        .data(1, b"ab", false)
        .frame(Kind::Data, frame::PADDED, 1, b"\x02cd\0\0")
        .frame(Kind::Data, frame::PADDED | frame::END_STREAM, 1, b"\x01e\0");
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(
        told,
        [
            "1 request false",
            "1 data ab false",
            "1 data cd false",
            "1 data e false",
            "1 data  true"
        ]
    );
    let mut head = ResponseHead::default();
    let text = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: x-b\r\nX-B: 1\r\n\
                 Content-Length: 5\r\n\r\n";
    response::parse(text, &settings().head_limits, false, None, &mut head).unwrap();
    let (line, none) = (LineBuf::one(b"Kakehi-Generation", b"7"), Lines::default());
    let forward = ResponseForward {
        delivery: Delivery::Length(5),
        persistence: Persistence::Close,
        date: b"today",
        extra: [line.lines(), none, none, none],
        protocol: b"",
        via: &Via::new("ours"),
    };
    let mut out = Vec::new();
    server.send_response(&mut out, 1, text, &head, &forward, false);
    assert_eq!(server.send_data(&mut out, 1, b"hello", true), 5);
    assert_eq!(server.stream_count(), 0);
    let sent = frames(&out);
    assert_eq!(
        text_of(&sent[0].3),
        ":status: 200\r\ncontent-type: text/html\r\ndate: today\r\nvia: 1.1 ours\r\n\
         kakehi-generation: 7\r\ncontent-length: 5\r\n"
    );
    assert_eq!(
        sent[1],
        (Kind::Data, frame::END_STREAM, 1, b"hello".to_vec())
    );
}

#[test]
fn an_answer_of_our_own_leaves_as_its_parts() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.head(
        1,
        &[(":method", "GET"), (":scheme", "http"), (":path", "/")],
        true,
    );
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(told, ["1 refused missing_host"]);
    let mut out = Vec::new();
    let mut lines = LineBuf::one(b"Kakehi-Generation", b"7");
    lines.push(b"Connection", b"Upgrade");
    let none = Lines::default();
    let head = OwnHead {
        status: 400,
        date: b"today",
        content_type: "text/html\r\nset-cookie: a",
        request_id: "",
        extra: [lines.lines(), none, none, none],
        dropped: &[],
        length: Some(0),
        close: true,
    };
    server.send_own(&mut out, 1, &head, true);
    let flags = frame::END_STREAM | frame::END_HEADERS;
    let sent = frames(&out);
    assert_eq!((sent[0].0, sent[0].1, sent[0].2), (Kind::Headers, flags, 1));
    assert_eq!(
        text_of(&sent[0].3),
        ":status: 400\r\ndate: today\r\nkakehi-generation: 7\r\ncontent-length: 0\r\n\
         cache-control: no-store\r\n"
    );
    assert_eq!(server.stream_count(), 0);
}

#[test]
fn a_large_head_goes_in_pieces() {
    let mut server = server();
    let mut peer = Peer::default();
    super::told(&mut server, peer.get(1)).unwrap();
    let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
    for at in 0..40 {
        text.extend_from_slice(format!("x-{at}: {}\r\n", "~".repeat(1000)).as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    let mut out = b"before".to_vec();
    super::send_text(&mut server, &mut out, 1, &text, false);
    let sent = frames(&out[6..]);
    let flags: Vec<(Kind, u8)> = sent.iter().map(|frame| (frame.0, frame.1)).collect();
    let middle = (Kind::Continuation, 0);
    let last = (Kind::Continuation, frame::END_HEADERS);
    assert_eq!(flags, [(Kind::Headers, 0), middle, last]);
}

#[test]
fn t07_a_body_waits_for_the_window() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.frame(Kind::Settings, 0, 0, b"\0\x04\0\0\0\x0a")
        .get(1)
        .get(3);
    super::told(&mut server, &peer).unwrap();
    let mut out = Vec::new();
    let text = b"HTTP/1.1 200 OK\r\n\r\n";
    super::send_text(&mut server, &mut out, 1, text, false);
    super::send_text(&mut server, &mut out, 3, text, false);
    assert_eq!(server.send_data(&mut out, 1, &[0; 30], true), 10);
    assert_eq!(server.send_data(&mut out, 3, &[0; 10], true), 10);
    assert!(server.is_blocked());
    assert_eq!(server.send_data(&mut out, 1, &[0; 20], true), 0);
    let mut peer = Peer::default();
    peer.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 15]);
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(told, ["1 writable"]);
    assert_eq!(server.send_data(&mut out, 1, &[0; 20], true), 15);
    // A setting opens windows as well.
    let mut peer = Peer::default();
    peer.frame(Kind::Settings, 0, 0, b"\0\x04\0\0\0\x0f");
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(told, ["settings", "1 writable"]);
    assert_eq!(server.send_data(&mut out, 1, &[0; 5], true), 5);
    assert!(!server.is_blocked() && server.stream_count() == 0);
}

#[test]
fn the_urgent_go_first_when_the_connection_is_the_bound() {
    let mut server = server();
    let mut peer = Peer::default();
    let with = |value| [GET, &[("priority", value)]].concat();
    peer.head(1, &with("u=5"), true)
        .head(3, &with("u=1"), true)
        .head(5, &with("u=5"), true);
    super::told(&mut server, &peer).unwrap();
    let mut out = Vec::new();
    for stream in [1, 3, 5] {
        super::send_ok(&mut server, &mut out, stream);
    }
    assert_eq!(server.send_data(&mut out, 1, &[0; 70_000], true), 65_535);
    assert_eq!(server.send_data(&mut out, 3, &[0; 10], true), 0);
    assert_eq!(server.send_data(&mut out, 5, &[0; 10], true), 0);
    let mut peer = Peer::default();
    peer.frame(Kind::PriorityUpdate, 0, 0, b"\0\0\0\x05u=0")
        .frame(Kind::WindowUpdate, 0, 0, &[0, 0, 1, 0]);
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(told, ["5 writable", "3 writable"]);
    peer.bytes.clear();
    peer.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 1, 0]);
    assert_eq!(super::told(&mut server, &peer).unwrap(), ["1 writable"]);
}

#[test]
fn what_is_of_use_in_parts_takes_turns() {
    let mut server = server();
    let mut peer = Peer::default();
    let with = |value| [GET, &[("priority", value)]].concat();
    peer.frame(Kind::Settings, 0, 0, b"\0\x04\0\x10\0\0")
        .head(1, &with("i"), true)
        .head(3, &with("i"), true)
        .head(5, &with("u=3"), true);
    super::told(&mut server, &peer).unwrap();
    let mut out = Vec::new();
    for stream in [1, 3, 5] {
        super::send_ok(&mut server, &mut out, stream);
    }
    assert_eq!(server.send_data(&mut out, 1, &[0; 70_000], false), 65_535);
    for stream in [3, 5] {
        assert_eq!(server.send_data(&mut out, stream, &[0; 10], false), 0);
    }
    let mut order = Vec::new();
    let mut heads = Heads::default();
    for _ in 0..4 {
        let mut window = Peer::default();
        window.frame(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 10]);
        let mut at = 0;
        loop {
            let step = server.next(&window.bytes[at..], &mut heads).unwrap();
            at += step.consumed;
            let Some(event) = step.event else { break };
            if let Event::Writable { stream, .. } = event {
                order.push(stream);
                let body: &[u8] = if stream == 5 { &[0; 10] } else { &[0; 100] };
                assert_eq!(server.send_data(&mut out, stream, body, stream == 5), 10);
            }
        }
    }
    // What is of use only as a whole goes first, although it was asked for last.
    assert_eq!(order, [5, 1, 3, 1]);
}

#[test]
fn a_window_opens_for_what_was_passed_on() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.post(1);
    for _ in 0..8 {
        peer.data(1, &[0; 16_000], false);
    }
    super::told(&mut server, &peer).unwrap();
    assert_eq!(flushed(&mut server), []);
    server.consumed(1, 65_535);
    assert_eq!(flushed(&mut server), []);
    server.consumed(1, 1);
    let update = (Kind::WindowUpdate, 0, 1, vec![0, 1, 0, 0]);
    assert_eq!(flushed(&mut server), [update]);
    // The rest of 128 000 goes back to the connection when the stream goes.
    server.reset(1, ErrorCode::Cancel);
    server.consumed(1, 1000);
    let sent = flushed(&mut server);
    assert_eq!(sent[0].0, Kind::ResetStream);
    assert_eq!(sent.len(), 1, "below half of the connection's window");
    let mut peer = Peer::default();
    // Late DATA is not lost to the connection's window.
    peer.data(1, &[0; 4000], true);
    super::told(&mut server, &peer).unwrap();
    assert_eq!(
        flushed(&mut server),
        [(Kind::WindowUpdate, 0, 0, vec![0, 2, 3, 160])]
    );
}

#[test]
fn a_server_leaves_in_two_steps() {
    let mut server = server();
    let mut peer = Peer::default();
    super::told(&mut server, peer.get(1)).unwrap();
    server.shut_down();
    server.shut_down();
    let sent = flushed(&mut server);
    assert_eq!(sent[0].3, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!((sent.len(), sent[1].0), (2, Kind::Ping));
    peer.bytes.clear();
    peer.get(3)
        .frame(Kind::Ping, frame::ACK, 0, &sent[1].3)
        .get(5);
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(told, ["3 request true"]);
    let sent = flushed(&mut server);
    assert_eq!(sent[0].3, [0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(sent[1], (Kind::ResetStream, 0, 5, vec![0, 0, 0, 7]));
    let mut out = Vec::new();
    for stream in [1, 3] {
        assert!(!server.is_drained());
        super::send_no_content(&mut server, &mut out, stream);
    }
    assert!(server.is_drained());
}

#[test]
fn trailers_end_a_body() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.post(1)
        .data(1, b"a", false)
        .head(1, &[("x-sum", "1")], true);
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(told, ["1 request false", "1 data a false", "1 trailers"]);
    let mut out = Vec::new();
    super::send_text(&mut server, &mut out, 1, b"HTTP/1.1 200 OK\r\n\r\n", false);
    server.send_trailers(&mut out, 1, LineBuf::one(b"x-sum", b"1").lines());
    let sent = frames(&out);
    assert_eq!(
        (sent[1].0, sent[1].1),
        (Kind::Headers, frame::END_STREAM | frame::END_HEADERS)
    );
    assert_eq!(server.stream_count(), 0);
}

#[test]
fn t17_a_length_is_kept_to() {
    let post = [POST, &[("content-length", "3")]].concat();
    let reset = "1 reset protocol_error by h2_length_mismatch";
    for (data, ends, last) in [
        ("abc", true, "1 data abc true"),
        ("abcd", false, reset),
        ("ab", true, reset),
        ("", true, reset),
    ] {
        let mut server = server();
        let mut peer = Peer::default();
        peer.head(1, &post, false).data(1, data.as_bytes(), ends);
        let told = super::told(&mut server, &peer).unwrap();
        assert_eq!(told.last().unwrap(), last, "{data}");
    }
    let mut server = server();
    let mut peer = Peer::default();
    let told = super::told(&mut server, peer.head(1, &post, true)).unwrap();
    assert_eq!(told, [reset]);
}

#[test]
fn frames_can_be_sent_without_copying() {
    let mut server = server();
    let mut peer = Peer::default();
    super::told(&mut server, peer.get(1)).unwrap();
    let mut out = Vec::new();
    super::send_text(&mut server, &mut out, 1, b"HTTP/1.1 200 OK\r\n\r\n", false);
    let mut left = 70_000;
    let mut lengths = Vec::new();
    while let Some((head, length)) = server.frame_data(1, left, true) {
        assert_eq!(FrameHead::parse(&head).length, length);
        lengths.push(length);
        left -= length;
    }
    assert_eq!(lengths, [16_384, 16_384, 16_384, 16_383]);
    assert!(server.is_blocked());
    assert_eq!(server.frame_data(1, 0, false), None);
}

#[test]
fn memory_of_an_idle_connection_is_small() {
    assert!(
        std::mem::size_of::<Connection>() <= 640,
        "{}",
        std::mem::size_of::<Connection>()
    );
    assert!(
        std::mem::size_of::<Stream>() <= 128,
        "{}",
        std::mem::size_of::<Stream>()
    );
    let mut server = server();
    server.shrink();
    assert_eq!((server.control.capacity(), server.stream_count()), (0, 0));
}

/// A header block as the lines that it stands for.
fn text_of(mut block: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut decoder = Decoder::default();
    while decoder.next(&mut block, &mut lines).unwrap().is_some() {}
    String::from_utf8(lines).unwrap()
}
