//! The role of a client.

use super::*;
use crate::protocol::h2::hpack::Decoder;

const REQUEST: &[u8] =
    b"GET /a?b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Forwarded-Proto: https\r\n\
                         TE: trailers\r\nConnection: TE\r\n\r\n";

fn open(client: &mut Connection, out: &mut Vec<u8>, text: &[u8], ends: bool) -> u32 {
    super::ask(client, out, text, "http", 7, ends).unwrap()
}

#[test]
fn a_request_is_what_http_1_would_send() {
    let mut client = Connection::client(&settings());
    let mut out = Vec::new();
    assert_eq!(open(&mut client, &mut out, REQUEST, true), 1);
    assert!(out.starts_with(PREFACE));
    let sent = frames(&out);
    let kinds: Vec<Kind> = sent.iter().map(|frame| frame.0).collect();
    assert_eq!(kinds, [Kind::Settings, Kind::WindowUpdate, Kind::Headers]);
    let mut lines = Vec::new();
    let mut block = sent[2].3.as_slice();
    let mut decoder = Decoder::default();
    while decoder.next(&mut block, &mut lines).unwrap().is_some() {}
    assert_eq!(
        String::from_utf8(lines).unwrap(),
        ":method: GET\r\n:scheme: http\r\n:authority: a\r\n:path: /a?b\r\naccept: */*\r\n\
         x-forwarded-proto: https\r\nte: trailers\r\n"
    );
}

#[test]
fn responses_come_with_their_tags() {
    let mut client = client();
    let mut out = Vec::new();
    let stream = open(&mut client, &mut out, REQUEST, true);
    let mut peer = Peer::default();
    peer.head(stream, &[(":status", "103")], false)
        .head(
            stream,
            &[(":status", "200"), ("content-length", "2")],
            false,
        )
        .data(stream, b"ab", true);
    let mut heads = Heads::default();
    let mut at = 0;
    let mut next = |client: &mut Connection| {
        let step = client.next(&peer.bytes[at..], &mut heads).unwrap();
        at += step.consumed;
        step.event.unwrap()
    };
    assert_eq!(next(&mut client), Event::Interim { stream, tag: 7 });
    let ends = false;
    assert_eq!(
        next(&mut client),
        Event::Response {
            stream,
            tag: 7,
            ends
        }
    );
    let (data, ends) = (&b"ab"[..], true);
    assert_eq!(
        next(&mut client),
        Event::Data {
            stream,
            tag: 7,
            data,
            ends
        }
    );
    assert_eq!(client.stream_count(), 0);
}

#[test]
fn t16_what_must_have_no_body_has_none() {
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (text, fields, data, last) in [
        (
            &head[..],
            &[("content-length", "5")][..],
            "",
            "1 data  true",
        ),
        (
            head,
            &[],
            "a",
            "1 reset protocol_error by h2_length_mismatch",
        ),
        (
            REQUEST,
            &[("content-length", "1")],
            "ab",
            "1 reset protocol_error by h2_length_mismatch",
        ),
    ] {
        let mut client = client();
        open(&mut client, &mut Vec::new(), text, true);
        let mut peer = Peer::default();
        let fields = [&[(":status", "200")], fields].concat();
        peer.head(1, &fields, false).data(1, data.as_bytes(), true);
        let told = super::told(&mut client, &peer).unwrap();
        assert_eq!(told.last().unwrap(), last);
    }
}

#[test]
fn a_malformed_response_costs_its_stream() {
    for (lines, ends, fault) in [
        (&[(":status", "101")][..], false, "h2_invalid_status"),
        (
            &[(":status", "200"), ("connection", "close")],
            false,
            "h2_connection_field",
        ),
        (&[("server", "x")], false, "h2_missing_pseudo_field"),
        (
            &[(":status", "200"), ("content-length", "1")],
            true,
            "h2_length_mismatch",
        ),
        (
            &[(":status", "200"), ("content-length", "x")],
            true,
            "invalid_content_length",
        ),
    ] {
        let mut client = client();
        open(&mut client, &mut Vec::new(), REQUEST, true);
        let mut peer = Peer::default();
        let told = super::told(&mut client, peer.head(1, lines, ends)).unwrap();
        assert_eq!(told, [format!("1 reset protocol_error by {fault}")]);
    }
    let mut client = client();
    open(&mut client, &mut Vec::new(), REQUEST, true);
    let mut peer = Peer::default();
    let told = super::told(&mut client, peer.data(1, b"a", false)).unwrap();
    assert_eq!(told, ["1 reset protocol_error by h2_unexpected_data"]);
}

#[test]
fn a_server_limits_its_streams() {
    let mut client = client();
    assert_eq!(client.can_open(), 100);
    let mut peer = Peer::default();
    peer.frame(Kind::Settings, 0, 0, b"\0\x03\0\0\0\x01\0\x08\0\0\0\x01");
    assert_eq!(super::told(&mut client, &peer).unwrap(), ["settings"]);
    assert!(client.takes_extended_connect());
    let mut out = Vec::new();
    open(&mut client, &mut out, REQUEST, true);
    assert_eq!(client.can_open(), 0);
    assert_eq!(
        super::ask(&mut client, &mut out, REQUEST, "http", 0, true),
        None
    );
}

#[test]
fn what_a_leaving_server_has_not_seen_may_be_tried_again() {
    let mut client = client();
    let mut out = Vec::new();
    for _ in 0..3 {
        open(&mut client, &mut out, REQUEST, true);
    }
    let mut peer = Peer::default();
    peer.frame(Kind::GoAway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let told = super::told(&mut client, &peer).unwrap();
    assert_eq!(
        told,
        [
            "goaway no_error",
            "3 reset refused_stream by peer",
            "5 reset refused_stream by peer"
        ]
    );
    assert_eq!((client.can_open(), client.stream_count()), (0, 1));
    peer.bytes.clear();
    peer.head(1, &[(":status", "204")], true);
    assert_eq!(
        super::told(&mut client, &peer).unwrap(),
        ["1 response true"]
    );
    assert!(client.is_drained());
}

#[test]
fn a_ping_comes_back() {
    let mut client = client();
    client.ping();
    let sent = flushed(&mut client);
    let mut peer = Peer::default();
    peer.frame(Kind::Ping, frame::ACK, 0, &sent[0].3);
    assert_eq!(super::told(&mut client, &peer).unwrap(), ["pong"]);
}

#[test]
fn nobody_is_pushed() {
    for (kind, fault) in [
        (Kind::PushPromise, ConnectionFault::Push),
        (Kind::Headers, ConnectionFault::BadStream),
    ] {
        let mut client = client();
        let mut peer = Peer::default();
        peer.frame(kind, frame::END_HEADERS, 2, b"");
        assert_eq!(super::told(&mut client, &peer), Err(fault));
    }
}
