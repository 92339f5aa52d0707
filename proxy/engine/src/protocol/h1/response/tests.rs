//! Responses as conversations, each parsed whole and byte by byte.

use super::*;
use crate::protocol::h1::FieldFault;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    header_count_max: 16,
};

#[derive(Clone, Copy)]
enum To {
    Get,
    Head,
    Upgrade,
}

fn read(raw: impl AsRef<[u8]>, to: To) -> Result<ResponseHead, UpstreamFault> {
    let raw = raw.as_ref();
    let mut head = ResponseHead::default();
    let is_head = matches!(to, To::Head);
    let asked = matches!(to, To::Upgrade).then_some(&b"websocket"[..]);
    let mut piecemeal = Ok(None);
    for end in 0..=raw.len() {
        piecemeal = parse(&raw[..end], &LIMITS, is_head, asked, &mut head);
        if piecemeal != Ok(None) {
            break;
        }
    }
    let whole = parse(raw, &LIMITS, is_head, asked, &mut head);
    assert_eq!(whole, piecemeal, "{:?}", String::from_utf8_lossy(raw));
    assert!(
        whole?.is_some(),
        "{:?} is not complete",
        String::from_utf8_lossy(raw)
    );
    Ok(head)
}

fn accept(raw: impl AsRef<[u8]>, to: To) -> ResponseHead {
    read(raw, to).expect("accepted")
}

fn refuse(raw: impl AsRef<[u8]>, to: To) -> UpstreamFault {
    read(raw, to).expect_err("refused")
}

fn response(status: &str, lines: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{lines}\r\n")
}

#[test]
fn an_ordinary_response_is_read() {
    let raw = response("200 OK", "Content-Length: 3\r\nX-Name: v\r\n");
    let head = accept(&raw, To::Get);
    assert_eq!(
        (head.status, head.reason(raw.as_bytes())),
        (200, b"OK".as_slice())
    );
    assert_eq!(head.body, ResponseBody::Length(3));
    assert!(head.keep_alive && !head.interim && !head.switching_protocols);
    assert_eq!(head.values(raw.as_bytes(), "x-name").count(), 1);
}

#[test]
fn a_status_line_is_exact_but_for_the_reason() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.0 404 ", 404),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 999 \u{e4}  b\tc", 999),
    ] {
        assert_eq!(
            accept(format!("{line}\r\n\r\n"), To::Get).status,
            status,
            "{line:?}"
        );
    }
    for line in [
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000\r\n",
        "HTTP/1.1 099 X\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 O\rK\r\n",
        " HTTP/1.1 200 OK\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "http/1.1 200 OK\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert_eq!(
            refuse(line, To::Get),
            UpstreamFault::InvalidStatusLine,
            "{line:?}"
        );
    }
}

/// RFC 9110 §6.2: a later minor version is read as the highest that we know.
#[test]
fn a_later_minor_version_is_read_as_1_1() {
    let head = accept("HTTP/1.2 200 OK\r\nContent-Length: 1\r\n\r\n", To::Get);
    assert_eq!((head.version, head.status), (Version::Http11, 200));
}

#[test]
fn t13_lines_are_exact() {
    for (lines, fault) in [
        ("A: b\nSet-Cookie: c\r\n", FieldFault::BareLineEnd),
        ("A: b\rSet-Cookie: c\r\n", FieldFault::BareLineEnd),
        ("A: b\0\r\n", FieldFault::InvalidValue),
        ("A: b\r\n c\r\n", FieldFault::ObsoleteFold),
        ("A : b\r\n", FieldFault::InvalidName),
        (": b\r\n", FieldFault::InvalidName),
    ] {
        let raw = response("200 OK", lines);
        assert_eq!(
            refuse(raw, To::Get),
            UpstreamFault::Field(fault),
            "{lines:?}"
        );
    }
}

#[test]
fn t16_the_length_follows_the_table() {
    const LENGTH: &str = "Content-Length: 5\r\n";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    for (status, lines, to, body) in [
        ("200 OK", LENGTH, To::Get, ResponseBody::Length(5)),
        ("200 OK", CHUNKED, To::Get, ResponseBody::Chunked),
        ("200 OK", "", To::Get, ResponseBody::UntilClose),
        ("200 OK", LENGTH, To::Head, ResponseBody::None),
        ("200 OK", CHUNKED, To::Head, ResponseBody::None),
        ("200 OK", "", To::Head, ResponseBody::None),
        ("304 Not Modified", LENGTH, To::Get, ResponseBody::None),
        ("304 Not Modified", "", To::Get, ResponseBody::None),
        ("204 No Content", "", To::Get, ResponseBody::None),
        (
            "204 No Content",
            "Content-Length: 0\r\n",
            To::Get,
            ResponseBody::None,
        ),
        ("100 Continue", "", To::Get, ResponseBody::None),
        (
            "103 Early Hints",
            "Content-Length: 0\r\n",
            To::Get,
            ResponseBody::None,
        ),
        (
            "205 Reset Content",
            "Content-Length: 0\r\n",
            To::Get,
            ResponseBody::Length(0),
        ),
        (
            "404 Not Found",
            LENGTH,
            To::Upgrade,
            ResponseBody::Length(5),
        ),
    ] {
        let head = accept(response(status, lines), to);
        assert_eq!(head.body, body, "{status} {lines:?}");
        assert_eq!(head.interim, status.starts_with('1'));
        assert_eq!(head.keep_alive, body != ResponseBody::UntilClose);
    }
    assert_eq!(
        accept(response("200 OK", LENGTH), To::Head).content_length,
        Some(5)
    );
    assert_eq!(
        accept(response("304 X", LENGTH), To::Get).content_length,
        Some(5)
    );
    for lines in [LENGTH, CHUNKED] {
        let head = accept(response("204 No Content", lines), To::Get);
        assert_eq!((head.body, head.keep_alive), (ResponseBody::None, false));
        assert_eq!(head.content_length, None);
        let fault = refuse(response("103 Early Hints", lines), To::Get);
        assert_eq!(fault, UpstreamFault::FramedWithoutBody);
    }
}

#[test]
fn t16_an_ambiguous_length_is_a_fault() {
    for (lines, fault) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            UpstreamFault::LengthAndCoding,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            UpstreamFault::DuplicateContentLength,
        ),
        (
            "Content-Length: 5, 5\r\n",
            UpstreamFault::InvalidContentLength,
        ),
        (
            "Content-Length: -1\r\n",
            UpstreamFault::InvalidContentLength,
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            UpstreamFault::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            UpstreamFault::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            UpstreamFault::TransferEncoding,
        ),
        (
            "Connection: content-length\r\nContent-Length: 5\r\n",
            UpstreamFault::Connection,
        ),
    ] {
        for to in [To::Get, To::Head] {
            assert_eq!(refuse(response("200 OK", lines), to), fault, "{lines:?}");
        }
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refuse(old, To::Get), UpstreamFault::TransferEncoding);
}

#[test]
fn t14_a_switch_has_to_be_asked_for() {
    const SWITCH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = accept(response("101 Switching Protocols", SWITCH), To::Upgrade);
    assert!(head.switching_protocols && !head.interim);
    for (lines, to) in [
        (SWITCH, To::Get),
        (SWITCH, To::Head),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", To::Upgrade),
        ("Upgrade: websocket\r\n", To::Upgrade),
        ("Connection: Upgrade\r\n", To::Upgrade),
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
            To::Upgrade,
        ),
        ("", To::Upgrade),
    ] {
        let fault = refuse(response("101 Switching Protocols", lines), to);
        assert_eq!(fault, UpstreamFault::UnaskedUpgrade, "{lines:?}");
    }
    let framed = response(
        "101 X",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    );
    assert_eq!(
        refuse(framed, To::Upgrade),
        UpstreamFault::FramedWithoutBody
    );
}

#[test]
fn persistence_follows_the_version_and_the_framing() {
    for (version, lines, keep_alive) in [
        ("1.1", "Content-Length: 0\r\n", true),
        ("1.1", "Content-Length: 0\r\nConnection: close\r\n", false),
        ("1.0", "Content-Length: 0\r\n", false),
        (
            "1.0",
            "Content-Length: 0\r\nConnection: keep-alive\r\n",
            true,
        ),
        ("1.0", "Connection: keep-alive\r\n", false),
    ] {
        let raw = format!("HTTP/{version} 200 OK\r\n{lines}\r\n");
        assert_eq!(accept(&raw, To::Get).keep_alive, keep_alive, "{raw:?}");
    }
}

#[test]
fn t23_connection_takes_away_only_what_is_the_backends() {
    let raw = response(
        "200 OK",
        "Connection: X-Own, Set-Cookie\r\nX-Own: 1\r\nSet-Cookie: a\r\n",
    );
    let head = accept(&raw, To::Get);
    assert_eq!(head.values(raw.as_bytes(), "x-own").count(), 0);
    assert_eq!(head.values(raw.as_bytes(), "set-cookie").count(), 1);
}

#[test]
fn t36_limits_are_exact() {
    let mut head = ResponseHead::default();
    let raw = response("200 OK", "A: b\r\n");
    let mut verdict = |bytes, count| {
        let limits = HeadLimits {
            head_bytes_max: bytes,
            header_count_max: count,
        };
        parse(raw.as_bytes(), &limits, false, None, &mut head)
    };
    assert_eq!(verdict(raw.len(), 1), Ok(Some(raw.len())));
    assert_eq!(verdict(raw.len() - 1, 1), Err(UpstreamFault::HeadTooLarge));
    assert_eq!(verdict(5, 1), Err(UpstreamFault::HeadTooLarge));
    assert_eq!(
        verdict(raw.len(), 0),
        Err(UpstreamFault::Field(FieldFault::TooMany))
    );
}
