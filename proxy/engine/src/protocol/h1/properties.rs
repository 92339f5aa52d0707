//! Properties that hold for any bytes, generated from fragments that make heads likely.
//!
//! Invariant: an input is refused, or incomplete, or read in one way that does not depend on how
//! the bytes arrive, and what is written for the next hop is read in that same way.

use crate::protocol::h1::via::Via;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    header_count_max: 12,
};

/// What is written has our lines too.
const NEXT_HOP: HeadLimits = HeadLimits {
    head_bytes_max: 16 * 1024,
    header_count_max: 64,
};

static VIA: LazyLock<Via> = LazyLock::new(|| Via::new("kakehi"));

fn forward(body: RequestBody, trusted: bool) -> Forward<'static> {
    Forward {
        client_ip: b"2001:db8::7",
        client_port: 0,
        listener_port: 8080,
        scheme: "http",
        trusted,
        client_cert: None,
        early: false,
        request_id: b"0123456789abcdef",
        upstream_keep_alive: true,
        upgrade: true,
        body,
        via: &VIA,
        changed: Default::default(),
    }
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "/([a-z.;]|%2[efEF5]|%[0-9a-f]{2}|/|//|/\\.\\./|/\\./){0,12}(\\?[a-z=./]{0,6})?",
        1 => "(http|https)://[a-cA-C.]{1,3}(:[0-9]{0,3})?(/[a-z.%]{0,5})?",
        1 => Just("*".to_owned()),
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Content-Length: 5".to_owned()),
        Just("Content-Length:\t0".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("Expect: 100-continue".to_owned()),
        Just("TE: trailers".to_owned()),
        Just("Upgrade: websocket".to_owned()),
        Just("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
        Just("Sec-WebSocket-Version: 13".to_owned()),
        Just("Proxy: x".to_owned()),
        "Host: [a-cA-C.:0-9]{0,4}",
        "Connection: (close|keep-alive|upgrade|x-own|host|te|,|, ){1,4}",
        "(X-Forwarded-For|Forwarded|X-Real-IP|X-Request-Id|x-own|x_own|Via):[ \t]{0,2}[ -~]{0,8}",
        "[!-~]{1,3}[: ]{1,2}[ -~\t\r\n]{0,4}",
    ]
}

/// Heads, most of which are taken.
pub(in crate::protocol) fn head() -> impl Strategy<Value = Vec<u8>> {
    let start = (
        prop_oneof![4 => Just("GET"), 2 => Just("POST"), 1 => Just("OPTIONS"), 1 => Just("CONNECT")],
        target(),
        prop_oneof![6 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0")],
    );
    let lines = proptest::collection::vec(line(), 0..6);
    let noise = proptest::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (start, any::<bool>(), lines, noise).prop_map(
        |((method, target, version), host, lines, noise)| {
            let mut raw = format!("{method} {target} {version}\r\n");
            if host {
                raw.push_str("Host: a\r\n");
            }
            for line in lines {
                raw.push_str(&line);
                raw.push_str("\r\n");
            }
            raw.push_str("\r\n");
            let mut raw = raw.into_bytes();
            if let Some((at, byte)) = noise {
                let at = at.index(raw.len());
                raw[at] = byte;
            }
            raw
        },
    )
}

/// Everything that a head decides.
fn meaning(buf: &[u8], head: &RequestHead) -> impl PartialEq + std::fmt::Debug {
    (
        head.method(buf).to_vec(),
        head.host(buf).to_vec(),
        head.authority(buf).to_vec(),
        head.path(buf).to_vec(),
        head.query(buf).map(<[u8]>::to_vec),
        head.body,
        head.expect_continue,
        head.upgrade(buf).map(<[u8]>::to_vec),
        head.te_trailers && head.upgrade.is_none(),
    )
}

fn end_to_end(buf: &[u8], fields: &[Field]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .iter()
        .filter(|field| !field.drop && field.id <= FieldId::SecWebSocketVersion)
        .map(|field| (field.name.of(buf).to_vec(), field.value.of(buf).to_vec()))
        .collect()
}

fn check_request(raw: &[u8], trusted: bool) {
    let mut head = RequestHead::default();
    let mut piecemeal = Ok(None);
    let mut seen = 0;
    for end in 0..=raw.len() {
        let part = &raw[..end];
        let verdict = request::parse(part, &LIMITS, &mut head);
        if verdict.is_ok_and(|length| length.is_some()) {
            assert!(is_worth_parsing(part, seen, &LIMITS));
        }
        seen = end;
        piecemeal = verdict;
        if verdict != Ok(None) {
            break;
        }
    }
    let whole = request::parse(raw, &LIMITS, &mut head);
    assert_eq!(whole, piecemeal);
    let Ok(Some(length)) = whole else {
        return;
    };
    check_against_httparse(&raw[..length], &head);
    let mut out = Vec::new();
    write_request(&mut out, raw, &head, &forward(head.body, trusted));
    let mut next = RequestHead::default();
    let reread = request::parse(&out, &NEXT_HOP, &mut next);
    if head.host(raw).is_empty() {
        // HTTP/1.0 without Host: an empty one is sent, which is for the backend to judge.
        assert_eq!(reread, Err(Reject::InvalidHost));
        return;
    }
    assert_eq!(
        reread,
        Ok(Some(out.len())),
        "{}",
        String::from_utf8_lossy(&out)
    );
    assert_eq!(meaning(&out, &next), meaning(raw, &head));
    assert!(next.keep_alive && next.version == Version::Http11);
    let own = |(name, _): &(Vec<u8>, Vec<u8>)| name.as_slice() != b"Date";
    let sent = end_to_end(raw, &head.fields);
    let read = end_to_end(&out, &next.fields);
    assert!(
        sent.iter()
            .filter(|field| own(field))
            .eq(read.iter().filter(|field| own(field)))
    );
    let mut again = Vec::new();
    write_request(&mut again, &out, &next, &forward(next.body, false));
    let vias = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("Via: 1.1 kakehi\r\n", "");
    if !trusted && head.version == Version::Http11 {
        assert_eq!(vias(&again), vias(&out));
    }
}

/// An independent reader sees the same lines: nothing that we accept is read in another way. It knows no later minor
/// version than ours, which we serve as ours (RFC 9110 §6.2).
fn check_against_httparse(raw: &[u8], head: &RequestHead) {
    let mut raw = raw.to_vec();
    let minor = head.line.end() - b"1\r\n".len();
    if raw[minor] != b'0' {
        raw[minor] = b'1';
    }
    let raw = raw.as_slice();
    let mut slots = [httparse::EMPTY_HEADER; 16];
    let mut theirs = httparse::Request::new(&mut slots);
    assert_eq!(theirs.parse(raw), Ok(httparse::Status::Complete(raw.len())));
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method(raw)));
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target_raw(raw)));
    assert_eq!(theirs.headers.len(), head.fields.len());
    for (theirs, ours) in theirs.headers.iter().zip(&head.fields) {
        assert_eq!(theirs.name.as_bytes(), ours.name.of(raw));
        assert_eq!(theirs.value, ours.value.of(raw));
    }
}

#[test]
fn a_later_minor_version_is_read_as_ours() {
    check_request(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", false);
}

fn check_response(raw: &[u8], is_head: bool, was_upgrade: bool) {
    let asked = was_upgrade.then_some(&b"websocket"[..]);
    let mut head = ResponseHead::default();
    let mut piecemeal = Ok(None);
    for end in 0..=raw.len() {
        piecemeal = response::parse(&raw[..end], &LIMITS, is_head, asked, &mut head);
        if piecemeal != Ok(None) {
            break;
        }
    }
    let whole = response::parse(raw, &LIMITS, is_head, asked, &mut head);
    assert_eq!(whole, piecemeal);
    if !matches!(whole, Ok(Some(_))) {
        return;
    }
    let delivery = match head.body {
        ResponseBody::None => Delivery::NoBody,
        ResponseBody::Length(length) => Delivery::Length(length),
        ResponseBody::Chunked | ResponseBody::UntilClose => Delivery::Chunked,
    };
    let mut out = Vec::new();
    let forward = ResponseForward {
        delivery,
        persistence: Persistence::Implied,
        date: b"Tue, 15 Nov 1994 08:12:31 GMT",
        extra: Default::default(),
        protocol: b"",
        via: &VIA,
    };
    write_response(&mut out, raw, &head, &forward);
    let mut next = ResponseHead::default();
    let reread = response::parse(&out, &NEXT_HOP, is_head, asked, &mut next);
    assert_eq!(
        reread,
        Ok(Some(out.len())),
        "{}",
        String::from_utf8_lossy(&out)
    );
    assert_eq!((next.status, next.interim), (head.status, head.interim));
    assert_eq!(next.switching_protocols, head.switching_protocols);
    let body = match head.body {
        ResponseBody::UntilClose => ResponseBody::Chunked,
        body => body,
    };
    assert_eq!(next.body, body);
    assert!(next.keep_alive);
}

fn chunk_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"5\r\nhello\r\n".to_vec()),
        2 => Just(b"0\r\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"3;a=b\r\nabc\r\n".to_vec()),
        1 => Just(b"x-a: b\r\n".to_vec()),
        1 => "[0-9a-fx;\r\n ]{0,4}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

type Decoded = (Vec<u8>, Vec<u8>, usize, Option<ChunkError>, bool);

fn decode(raw: &[u8], sizes: &[usize]) -> Decoded {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    let (mut payload, mut at, mut available) = (Vec::new(), 0, 0);
    let mut sizes = sizes.iter().cycle();
    loop {
        available = raw
            .len()
            .min(available.max(at) + sizes.next().copied().unwrap_or(raw.len()));
        let input = &raw[at..available];
        match decoder.decode(input) {
            Err(error) => return (payload, Vec::new(), 0, Some(error), false),
            Ok(chunk) => {
                if let Chunk::Data { start, end } = chunk {
                    assert!(start < end && end <= input.len());
                    payload.extend_from_slice(&input[start..end]);
                }
                at += chunk.consumed();
                if matches!(chunk, Chunk::Done { .. }) || at == raw.len() {
                    let done = decoder.is_done();
                    return (payload, decoder.trailers().to_text(), at, None, done);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t13_a_request_has_one_reading(raw in head(), trusted: bool) {
        check_request(&raw, trusted);
    }

    #[test]
    fn t13_random_bytes_do_no_harm(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_request(&raw, false);
        check_response(&raw, false, false);
        decode(&raw, &[1]);
    }

    #[test]
    fn t13_random_bytes_in_a_field_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        for start in ["GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: ", "GET /", "GET http://a"] {
            let mut raw = start.as_bytes().to_vec();
            raw.extend_from_slice(&bytes);
            raw.extend_from_slice(b"\r\n\r\n");
            check_request(&raw, true);
        }
        let mut raw = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
        raw.extend_from_slice(&bytes);
        raw.extend_from_slice(b"\r\n\r\n");
        check_response(&raw, false, false);
    }

    #[test]
    fn t16_a_response_has_one_reading(
        status in prop_oneof![Just(200u16), Just(101), Just(204), Just(304), 100u16..600],
        version in prop_oneof![Just("1.1"), Just("1.0")],
        lines in proptest::collection::vec(line(), 0..6),
        is_head: bool,
        was_upgrade: bool,
    ) {
        let raw = format!("HTTP/{version} {status} X\r\n{}\r\n\r\n", lines.join("\r\n"));
        check_response(raw.as_bytes(), is_head, was_upgrade);
    }

    #[test]
    fn t20_a_normal_path_is_its_own_normal_form(raw in "/([a-z.~;:%]|%[0-9a-fA-F]{2}|/|//|\\.\\.|/\\./){0,24}") {
        let mut once = Vec::new();
        if target::normalise_path(raw.as_bytes(), Slashes::Merge, &mut once).is_ok() {
            let mut twice = Vec::new();
            prop_assert_eq!(target::normalise_path(&once, Slashes::Merge, &mut twice), Ok(()));
            prop_assert_eq!(&once, &twice);
            let text = String::from_utf8(once).unwrap();
            prop_assert!(text.starts_with('/') && !text.contains("//"));
            prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."));
            let digits = |at: usize| text.get(at + 1..at + 3).unwrap_or_default();
            let is_escape = |at| digits(at).len() == 2 && digits(at).bytes().all(|it| it.is_ascii_hexdigit());
            prop_assert!(text.match_indices('%').all(|(at, _)| is_escape(at)), "{text:?}");
        }
    }

    #[test]
    fn t12_a_chunked_body_has_one_reading(
        raw in chunk_bytes(),
        sizes in proptest::collection::vec(1usize..9, 1..5),
    ) {
        let whole = decode(&raw, &[raw.len().max(1)]);
        prop_assert_eq!(decode(&raw, &[1]), whole.clone());
        prop_assert_eq!(decode(&raw, &sizes), whole);
    }
}
