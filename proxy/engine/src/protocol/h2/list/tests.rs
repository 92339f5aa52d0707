//! What HPACK is given is what HTTP/1.1 would send, field by field.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::protocol::h1::forward::{Changed, Forward, write_question};
use crate::protocol::h1::properties::head;
use crate::protocol::h1::{HeadLimits, RequestBody, RequestHead, Slashes, request, write_request};
use crate::protocol::h2::encode;
use crate::protocol::h2::hpack::{Decoder, Encoder};
use crate::protocol::lines::LineBuf;

static VIA: LazyLock<Via> = LazyLock::new(|| Via::new("kakehi"));

/// Lines of the configuration: those that go on, and some about a connection of HTTP/1.1 among others.
static EDITED: LazyLock<[LineBuf; 2]> = LazyLock::new(|| {
    let plain = [("X-Set", &b"1"[..]), ("x-empty-no", b"a b")];
    let mixed = [
        ("X-A", &b"1"[..]),
        ("TE", b"gzip"),
        ("Connection", b"x"),
        ("X-B", b"\xfc"),
    ];
    [&plain[..], &mixed].map(|written| {
        let mut lines = LineBuf::default();
        for (name, value) in written {
            lines.push(name.as_bytes(), value);
        }
        lines
    })
});

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    header_count_max: 32,
};

/// A request that is here as HTTP/1.1 would have it.
pub(in crate::protocol::h2) fn listed(text: &[u8]) -> Vec<u8> {
    let mut head = RequestHead::default();
    request::parse(text, &LIMITS, &mut head).unwrap();
    let line = RequestLine {
        buf: text,
        head: &head,
        method: None,
        target: None,
    };
    let mut list = Vec::new();
    let mut writer = ListWriter::new(&mut list);
    writer.request_line(&line);
    writer.host(head.authority(text));
    let mut lines = LineBuf::default();
    for field in &head.fields {
        lines.push(field.name.of(text), field.value.of(text));
    }
    writer.lines(lines.lines());
    list
}

#[test]
fn fields_of_ours_have_their_numbers() {
    for (number, (own, name, _)) in OWN.iter().enumerate() {
        assert_eq!(*own as usize, number);
        let (next, first) = own.spelled();
        assert_eq!([b"\r\n", first].concat(), next);
        assert_eq!(first.to_ascii_lowercase(), [name, &b": "[..]].concat());
    }
}

#[test]
fn what_is_no_list_is_none() {
    let mut bytes = Vec::new();
    let mut writer = ListWriter::new(&mut bytes);
    writer.numbered(PSEUDO, b"GET");
    writer.numbered(PSEUDO, b"/");
    for end in 0..bytes.len() {
        assert!(HeaderList::of(&bytes[..end]).is_none());
    }
    assert!(HeaderList::of(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_none());
}

#[test]
fn long_fields_are_as_long_as_they_were() {
    let (name, value) = ("N".repeat(300), "v".repeat(70_000));
    let mut bytes = Vec::new();
    let mut writer = ListWriter::new(&mut bytes);
    for value in ["GET", &value, "a"] {
        writer.numbered(PSEUDO, value.as_bytes());
    }
    writer.put(b"short", value.as_bytes());
    writer.put(name.as_bytes(), b"short");
    let list = HeaderList::of(&bytes).unwrap();
    assert_eq!(list.path, value.as_bytes());
    let name = name.to_lowercase();
    let expected = [
        (&b"short"[..], value.as_bytes(), Policy::Once),
        (name.as_bytes(), b"short", Policy::Once),
    ];
    assert!(list.sent().eq(expected));
}

/// How a request goes on; what is not said by its head.
fn forward() -> impl Strategy<Value = Forward<'static>> {
    let peer = (
        prop_oneof![Just(&b"192.0.2.7"[..]), Just(&b"2001:db8::7"[..])],
        prop_oneof![Just(0), Just(4711)],
        prop_oneof![Just("http"), Just("https")],
        any::<bool>(),
        proptest::option::of(Just(":Y2VydA==:")),
        any::<bool>(),
    );
    let sent = (any::<bool>(), any::<bool>(), any::<u16>());
    let changed = (
        proptest::option::of(Just(&b"/other?with=this"[..])),
        proptest::option::of(Just(&b"other.example"[..])),
        prop_oneof![
            3 => Just(Lines::default()),
            1 => Just(EDITED[0].lines()),
            1 => Just(EDITED[1].lines()),
        ],
    );
    (peer, sent, changed).prop_map(
        |(
            (client_ip, client_port, scheme, trusted, client_cert, early),
            (upstream_keep_alive, upgrade, listener_port),
            (target, host, lines),
        )| Forward {
            client_ip,
            client_port,
            listener_port,
            scheme,
            trusted,
            client_cert,
            early,
            request_id: b"0123456789abcdef",
            upstream_keep_alive,
            upgrade,
            body: RequestBody::None,
            via: &VIA,
            changed: Changed {
                target,
                host,
                lines,
            },
        },
    )
}

/// Writes a head in both forms.
fn both(
    buf: &[u8],
    head: &RequestHead,
    forward: &Forward<'_>,
    is_question: bool,
) -> (Vec<u8>, Vec<u8>) {
    let (mut text, mut list) = (Vec::new(), Vec::new());
    let mut writer = ListWriter::new(&mut list);
    match is_question {
        true => {
            write_question(&mut text, buf, head, b"/verify", forward);
            write_question(&mut writer, buf, head, b"/verify", forward);
        }
        false => {
            write_request(&mut text, buf, head, forward);
            write_request(&mut writer, buf, head, forward);
        }
    }
    (text, list)
}

/// The text of HTTP/1.1 as RFC 9113 §8.3.1 translates it, by reading it as a backend does.
fn translated(text: &[u8], scheme: &str) -> Vec<u8> {
    let mut head = RequestHead::default();
    head.slashes = Slashes::Keep;
    let _ = request::parse(text, &LIMITS, &mut head);
    let field = |name: &[u8], value: &[u8]| [name, b": ", value, b"\r\n"].concat();
    let line: Vec<&[u8]> = text.splitn(3, |&byte| byte == b' ').collect();
    let host = head.fields.iter().find(|field| field.id == FieldId::Host);
    let mut out = [
        field(b":method", line[0]),
        field(b":scheme", scheme.as_bytes()),
        field(b":authority", host.unwrap().value.of(text)),
        field(b":path", line[1]),
    ]
    .concat();
    for it in &head.fields {
        let value = it.value.of(text);
        if !encode::is_of_connection(it.id, value) {
            out.extend(field(&it.name.of(text).to_ascii_lowercase(), value));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t17_http_2_sends_what_http_1_would(
        raw in head(),
        forward in forward(),
        slashes in prop_oneof![Just(Slashes::Keep), Just(Slashes::Merge)],
        is_question: bool,
    ) {
        let mut head = RequestHead::default();
        head.slashes = slashes;
        let Ok(Some(_)) = request::parse(&raw, &LIMITS, &mut head) else {
            return Ok(());
        };
        let forward = Forward { body: head.body, ..forward };
        let (text, list) = both(&raw, &head, &forward, is_question);
        prop_assert!(list.len() <= text.len(), "{} > {}", list.len(), text.len());
        let list = HeaderList::of(&list).unwrap();
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        // A second try meets the tables that the first one has left.
        for _ in 0..3 {
            let (mut block, mut lines) = (Vec::new(), Vec::new());
            encode::request(&mut encoder, &mut block, &list, forward.scheme, None);
            let mut block = block.as_slice();
            while decoder.next(&mut block, &mut lines).unwrap().is_some() {}
            let (lines, translated) = (lines.escape_ascii(), translated(&text, forward.scheme));
            prop_assert_eq!(lines.to_string(), translated.escape_ascii().to_string());
        }
    }
}
