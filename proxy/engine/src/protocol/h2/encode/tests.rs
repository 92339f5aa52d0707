//! A head says the same to a client of HTTP/2 as to one of HTTP/1.1, field by field and in the same order.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::protocol::h1::via::Via;
use crate::protocol::h1::{HeadLimits, Persistence, response, write_own, write_response};
use crate::protocol::h2::hpack::Decoder;
use crate::protocol::lines::LineBuf;

static VIA: LazyLock<Via> = LazyLock::new(|| Via::new("kakehi"));

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 8192,
    header_count_max: 64,
};

/// A name in lower case, and a value.
type Told = (Vec<u8>, Vec<u8>);

/// What a client of HTTP/1.1 reads, without what is about its connection.
fn read_as_text(text: &[u8]) -> (u16, Vec<Told>) {
    let mut head = ResponseHead::default();
    let read = response::parse(text, &LIMITS, false, None, &mut head);
    assert_eq!(read, Ok(Some(text.len())), "{}", text.escape_ascii());
    let fields = head.fields.iter().filter_map(|field| {
        let (name, value) = (field.name.of(text), field.value.of(text));
        let told = || (name.to_ascii_lowercase(), value.to_vec());
        (!is_of_connection(field.id, value)).then(told)
    });
    (head.status, fields.collect())
}

/// What a client of HTTP/2 reads, with the tables that earlier heads have left.
fn read_as_block(decoder: &mut Decoder, mut block: &[u8]) -> (u16, Vec<Told>) {
    let (mut text, mut told) = (Vec::new(), Vec::new());
    decoder.begin();
    while let Some(line) = decoder.next(&mut block, &mut text).unwrap() {
        let part = |from, to| text[from..to].to_vec();
        let name = part(line.name_start, line.name_end);
        told.push((name, part(line.value_start(), line.value_end)));
    }
    let (name, status) = told.remove(0);
    assert_eq!(name, b":status");
    (String::from_utf8(status).unwrap().parse().unwrap(), told)
}

/// Lines of our own, some of which are about a connection.
fn lines() -> impl Strategy<Value = LineBuf> {
    let name = prop_oneof![
        8 => "[A-Z][a-z]{1,6}-[A-Za-z]{1,6}",
        1 => "[a-z]{70,80}-x",
        1 => Just("Upgrade".to_owned()),
        1 => Just("connection".to_owned()),
        1 => Just("Set-Cookie".to_owned()),
    ];
    let value = "([!-~][ -~]{0,9}[!-~])?";
    proptest::collection::vec((name, value), 0..4).prop_map(|written| {
        let mut lines = LineBuf::default();
        for (name, value) in written {
            let of_connection = ["Upgrade", "connection"].contains(&&*name);
            let value = if of_connection { "x-none" } else { &value };
            lines.push(name.as_bytes(), value.as_bytes());
        }
        lines
    })
}

fn line_of_backend() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Server:x ".to_owned()),
        Just("date: today".to_owned()),
        Just("Trailer: x-sum".to_owned()),
        Just("connection: x-a".to_owned()),
        Just("Via: 1.0 fred".to_owned()),
        "X-[A-Ba-b]: [!-~]{0,5}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t17_a_backends_answer_is_the_same_to_both(
        status in prop_oneof![Just(103), Just(200), Just(204), Just(304), Just(404)],
        came in proptest::collection::vec(line_of_backend(), 0..5),
        more in (lines(), lines()),
        delivery in prop_oneof![
            Just(Delivery::Length(5)), Just(Delivery::Chunked), Just(Delivery::NoBody), Just(Delivery::UntilClose),
        ],
    ) {
        let came: String = came.iter().map(|line| format!("{line}\r\n")).collect();
        let framing = match status {
            103 | 204 => "",
            _ => "Content-Length: 5\r\n",
        };
        let raw = format!("HTTP/1.1 {status} Any\r\n{came}{framing}\r\n");
        let mut head = ResponseHead::default();
        response::parse(raw.as_bytes(), &LIMITS, false, None, &mut head).unwrap();
        let none = Lines::default();
        let forward = ResponseForward {
            delivery,
            persistence: Persistence::Close,
            date: b"now",
            extra: [none, more.0.lines(), none, more.1.lines()],
            via: &VIA,
            protocol: b"",
        };
        let mut text = Vec::new();
        write_response(&mut text, raw.as_bytes(), &head, &forward);
        let told = read_as_text(&text);
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for _ in 0..3 {
            let mut block = Vec::new();
            response(&mut encoder, &mut block, raw.as_bytes(), &head, &forward);
            prop_assert_eq!(read_as_block(&mut decoder, &block), told.clone());
        }
    }

    #[test]
    fn t17_an_answer_of_our_own_is_the_same_to_both(
        more in (lines(), lines()),
        length in proptest::option::of(0_u64..9),
        drops: bool,
    ) {
        let dropped: [Box<str>; 1] = ["cache-control".into()];
        let none = Lines::default();
        let head = OwnHead {
            status: 503,
            date: b"today",
            content_type: "text/plain",
            request_id: "id",
            extra: [more.0.lines(), none, more.1.lines(), none],
            dropped: if drops { &dropped } else { &[] },
            length,
            close: true,
        };
        let (mut text, mut block) = (Vec::new(), Vec::new());
        write_own(&mut text, &head);
        own(&mut Encoder::default(), &mut block, &head);
        prop_assert_eq!(read_as_block(&mut Decoder::default(), &block), read_as_text(&text));
    }
}
