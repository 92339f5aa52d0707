//! Invariant: what is taken by HTTP/2 is taken by HTTP/1.1 when it is written as such, means the same,
//! and is read by a backend as it was meant.

use proptest::prelude::*;

use super::*;
use crate::protocol::h1::{Chunk, ChunkLimits, ChunkedDecoder, write_last_chunk};
use crate::protocol::h2::encode;

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("content-length: 5".to_owned()),
        Just("expect: 100-continue".to_owned()),
        Just("te: trailers".to_owned()),
        Just("cookie: a=b".to_owned()),
        Just("sec-websocket-version: 13".to_owned()),
        "host: [a-cA-C.:0-9]{0,4}",
        "(x-forwarded-for|forwarded|x-request-id|x-own|x_own|via): [!-~]{0,8}",
        "[!-~]{1,3}: [ -~\t\r\n]{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t17_both_protocols_decide_alike(
        method in prop_oneof![4 => Just("GET"), 2 => Just("POST"), 1 => Just("OPTIONS"), 1 => Just("get")],
        path in "(/([a-z.;]|%2[efEF5]|/|//|/\\.\\./| |#){0,8}(\\?[a-z=./]{0,6})?|\\*)",
        authority in proptest::option::of("[a-cA-C.:0-9@]{0,4}"),
        lines in proptest::collection::vec(line(), 0..6),
        ends: bool,
    ) {
        let pseudo = [
            Some(format!(":method: {method}")),
            Some(":scheme: http".to_owned()),
            Some(format!(":path: {path}")),
            authority.as_ref().map(|authority| format!(":authority: {authority}")),
        ];
        let all: Vec<&str> = pseudo.iter().flatten().chain(&lines).map(String::as_str).collect();
        let Ok(heads) = request(&all, ends) else {
            return Ok(());
        };
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if let Some(authority) = authority.filter(|_| !lines.iter().any(|line| line.starts_with("host:"))) {
            text.push_str(&format!("Host: {authority}\r\n"));
        }
        if !ends && !lines.iter().any(|line| line.starts_with("content-length")) {
            text.push_str("Transfer-Encoding: chunked\r\n");
        }
        for line in lines.iter().filter(|line| !line.starts_with("cookie")) {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut other = RequestHead::default();
        prop_assert_eq!(parse(text.as_bytes(), &WIDE, &mut other), Ok(Some(text.len())), "{}", text);
        let (ours, buf, text) = (&heads.request, heads.text(), text.as_bytes());
        prop_assert_eq!(ours.method(buf), other.method(text));
        prop_assert_eq!(ours.path(buf), other.path(text));
        prop_assert_eq!(ours.query(buf), other.query(text));
        prop_assert_eq!(ours.host(buf), other.host(text));
        prop_assert_eq!(ours.body, other.body);
        prop_assert_eq!(ours.expect_continue, other.expect_continue);
        prop_assert_eq!(ours.te_trailers, other.te_trailers);
        // And what is sent on is read by a backend.
        let sent = forwarded(&heads);
        prop_assert_eq!(parse(sent.as_bytes(), &WIDE, &mut other), Ok(Some(sent.len())), "{}", sent);
        prop_assert_eq!(ours.body, other.body);
    }

    /// What ends a body says the same behind the last chunk and in a block, whoever had it first.
    #[test]
    fn t26_both_protocols_trail_alike(
        written in proptest::collection::vec(("[A-Za-z-]{1,9}", "([!-~][ -~]{0,6}[!-~])?"), 0..5),
    ) {
        let mut section = LineBuf::default();
        for (name, value) in &written {
            section.push(name.as_bytes(), value.as_bytes());
        }
        let (mut chunks, mut block) = (Vec::new(), Vec::new());
        write_last_chunk(&mut chunks, section.lines());
        encode::trailers(&mut Encoder::default(), &mut block, section.lines());
        let mut chunked = ChunkedDecoder::new(ChunkLimits::default());
        prop_assert_eq!(chunked.decode(&chunks), Ok(Chunk::Done { consumed: chunks.len() }));
        let mut heads = Heads::default();
        let (section, decoder) = (Section::Trailers, &mut Decoder::default());
        let read = heads.read(decoder, &block, section, &LIMITS, BYTES_MAX);
        prop_assert_eq!(read, Ok(Ok(())));
        let lower = |lines: Lines<'_>| -> Vec<_> {
            lines.map(|line| (line.name().to_ascii_lowercase(), line.value().to_vec())).collect()
        };
        prop_assert_eq!(lower(chunked.trailers()), lower(heads.trailers()));
        // And once more, by the other one.
        chunks.clear();
        write_last_chunk(&mut chunks, heads.trailers());
        let mut again = ChunkedDecoder::new(ChunkLimits::default());
        prop_assert_eq!(again.decode(&chunks), Ok(Chunk::Done { consumed: chunks.len() }));
        prop_assert_eq!(again.trailers(), heads.trailers());
    }
}
