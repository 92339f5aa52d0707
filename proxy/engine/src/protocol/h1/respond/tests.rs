//! What a client gets to read.

use super::*;
use crate::protocol::h1::HeadLimits;
use crate::protocol::h1::response;
use crate::protocol::lines::LineBuf;

const DATE: &[u8] = b"Tue, 15 Nov 1994 08:12:31 GMT";

fn respond(raw: &str, is_head: bool, delivery: Delivery, persistence: Persistence) -> String {
    let limits = HeadLimits {
        head_bytes_max: 4096,
        header_count_max: 32,
    };
    let mut head = ResponseHead::default();
    let length = response::parse(
        raw.as_bytes(),
        &limits,
        is_head,
        Some(b"websocket"),
        &mut head,
    )
    .unwrap();
    assert_eq!(length, Some(raw.len()));
    let (line, none) = (LineBuf::one(b"Kakehi-Generation", b"7"), Lines::default());
    let forward = ResponseForward {
        delivery,
        persistence,
        date: DATE,
        extra: [line.lines(), none, none, none],
        protocol: b"",
        via: &Via::new("ours"),
    };
    let mut out = Vec::new();
    write_response(&mut out, raw.as_bytes(), &head, &forward);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_ordinary_response_to_the_byte() {
    let raw = "HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length:5\r\nConnection: close, y\r\nY: z\r\nA:b\r\n\r\n";
    assert_eq!(
        respond(raw, false, Delivery::Length(5), Persistence::Implied),
        "HTTP/1.1 200 OK\r\n\
         server: x\r\n\
         A: b\r\n\
         Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n\
         Via: 1.1 ours\r\n\
         Kakehi-Generation: 7\r\n\
         Content-Length: 5\r\n\
         \r\n"
    );
}

#[test]
fn an_old_backend_speaks_through_a_new_status_line() {
    let raw = "HTTP/1.0 404 Nicht da\r\nDate: x\r\n\r\n";
    assert_eq!(
        respond(raw, false, Delivery::Chunked, Persistence::Close),
        "HTTP/1.1 404 Nicht da\r\nDate: x\r\nVia: 1.0 ours\r\nKakehi-Generation: 7\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn t16_the_framing_is_our_own() {
    const LENGTH: &str = "Content-Length: 5\r\n";
    for (status, lines, is_head, delivery, framing) in [
        (
            "200 OK",
            LENGTH,
            true,
            Delivery::NoBody,
            Some("Content-Length: 5"),
        ),
        (
            "304 X",
            LENGTH,
            false,
            Delivery::NoBody,
            Some("Content-Length: 5"),
        ),
        ("304 X", "", false, Delivery::NoBody, None),
        ("200 OK", "", true, Delivery::NoBody, None),
        (
            "204 X",
            "Content-Length: 0\r\n",
            false,
            Delivery::NoBody,
            None,
        ),
        ("204 X", "", false, Delivery::Chunked, None),
        ("100 X", "", false, Delivery::NoBody, None),
        (
            "200 OK",
            "Transfer-Encoding: chunked\r\n",
            false,
            Delivery::UntilClose,
            None,
        ),
        (
            "200 OK",
            LENGTH,
            false,
            Delivery::Chunked,
            Some("Transfer-Encoding: chunked"),
        ),
        (
            "200 OK",
            "",
            false,
            Delivery::Length(0),
            Some("Content-Length: 0"),
        ),
    ] {
        let raw = format!("HTTP/1.1 {status}\r\n{lines}\r\n");
        let written = respond(&raw, is_head, delivery, Persistence::Implied);
        let mut lines = written.lines();
        let found = lines.find(|line| {
            line.starts_with("Content-Length") || line.starts_with("Transfer-Encoding")
        });
        assert_eq!(found, framing, "{raw:?}");
    }
}

#[test]
fn a_switch_names_its_protocol_and_nothing_else() {
    let raw = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade, x\r\n\
               X: y\r\nSec-WebSocket-Accept: z\r\n\r\n";
    assert_eq!(
        respond(raw, false, Delivery::NoBody, Persistence::Close),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: z\r\nVia: 1.1 ours\r\n\
         Kakehi-Generation: 7\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    );
}

#[test]
fn the_client_is_told_about_its_connection() {
    let raw = "HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: 3\r\n\r\n";
    for (persistence, line) in [
        (Persistence::Implied, None),
        (Persistence::KeepAlive, Some("Connection: keep-alive")),
        (Persistence::Close, Some("Connection: close")),
    ] {
        let written = respond(raw, false, Delivery::Length(0), persistence);
        let found = written.lines().find(|line| line.starts_with("Connection"));
        assert_eq!(found, line);
        assert!(!written.contains("Keep-Alive"));
    }
}
