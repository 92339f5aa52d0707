//! Chunked bodies as conversations, each decoded whole and byte by byte.

use super::*;

#[derive(Debug, PartialEq, Eq)]
struct Body {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    /// What followed the body.
    rest: Vec<u8>,
}

/// Decodes `raw` in pieces of `size` bytes; `None` if the body does not end.
fn decode_pieces(raw: &[u8], size: usize) -> Result<Option<Body>, ChunkError> {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    let mut payload = Vec::new();
    let mut done = 0;
    for piece in raw.chunks(size) {
        let mut input = piece;
        while !input.is_empty() {
            let chunk = decoder.decode(input)?;
            done += chunk.consumed();
            match chunk {
                Chunk::Data { start, end } => payload.extend_from_slice(&input[start..end]),
                Chunk::NeedMore { consumed } => assert_eq!(consumed, input.len()),
                Chunk::Done { .. } => {
                    assert!(decoder.is_done());
                    assert_eq!(decoder.decode(b"more"), Ok(Chunk::Done { consumed: 0 }));
                    return Ok(Some(Body {
                        payload,
                        trailers: decoder.trailers().to_text(),
                        rest: raw[done..].to_vec(),
                    }));
                }
            }
            input = &input[chunk.consumed()..];
        }
    }
    Ok(None)
}

fn decode(raw: &[u8]) -> Result<Option<Body>, ChunkError> {
    let whole = decode_pieces(raw, raw.len().max(1));
    for size in [1, 2, 3, 7] {
        assert_eq!(
            decode_pieces(raw, size),
            whole,
            "{:?}",
            String::from_utf8_lossy(raw)
        );
    }
    whole
}

fn accept(raw: &str) -> Body {
    match decode(raw.as_bytes()) {
        Ok(Some(body)) => body,
        other => panic!("{raw:?} is {other:?}"),
    }
}

fn refuse(raw: &str) -> ChunkError {
    decode(raw.as_bytes()).expect_err(raw)
}

#[test]
fn an_ordinary_body_is_decoded() {
    let body = accept("5\r\nhello\r\n06;name=\"v\"\r\n world\r\nA\r\n0123456789\r\n000\r\n\r\nGET");
    assert_eq!(body.payload, b"hello world0123456789");
    assert_eq!(body.trailers, b"");
    assert_eq!(body.rest, b"GET");
    assert_eq!(decode(b"5\r\nhel"), Ok(None));
    assert_eq!(decode(b"0\r\n"), Ok(None));
    assert_eq!(decode(b""), Ok(None));
}

#[test]
fn t12_a_size_is_plain_digits() {
    for raw in [
        "0x5\r\n",
        "+5\r\n",
        "-5\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\t\r\n",
        "5 \t \r\n",
        "5 5\r\n",
        "5 a;b\r\n",
        "\r\n",
        ";a\r\n",
        "g\r\n",
        "5g\r\n",
        "5,\r\n",
        "8000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "00000000000000005\r\n",
        "5_0\r\n",
        "5.\r\n",
        "\u{ff15}\r\n",
        "5\0\r\n",
    ] {
        assert_eq!(refuse(raw), ChunkError::InvalidSize, "{raw:?}");
    }
    assert_eq!(decode(b"7fffffffffffffff\r\nx"), Ok(None));
    assert_eq!(decode(b"0000000000000005\r\n"), Ok(None));
}

#[test]
fn t12_line_ends_are_exact() {
    for raw in [
        "5\nhello\r\n",
        "5\rhello",
        "5\r\rhello",
        "5\r\nhello\n",
        "5\r\nhello\rx",
        "5\r\nhelloX\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;a\nhello",
        "5;a\rhello",
        "0\n\n",
        "0\r\r",
    ] {
        assert_eq!(refuse(raw), ChunkError::InvalidLineEnd, "{raw:?}");
    }
    for raw in ["0\r\n\n", "0\r\na: b\n\r\n", "0\r\na: b\r\n\n"] {
        assert_eq!(
            refuse(raw),
            ChunkError::Trailer(FieldFault::BareLineEnd),
            "{raw:?}"
        );
    }
}

#[test]
fn t12_extensions_are_bounded() {
    let of = |length| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(length));
    assert_eq!(accept(&of(256)).payload, b"x");
    assert_eq!(refuse(&of(257)), ChunkError::ExtensionTooLarge);
    assert_eq!(refuse("1;\r\nx"), ChunkError::InvalidExtension);
    assert_eq!(refuse("1;a\0b\r\nx"), ChunkError::InvalidExtension);
    assert_eq!(refuse("1;\u{e4}\r\nx"), ChunkError::InvalidExtension);
    let flood =
        "1;eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\nx\r\n".repeat(1000);
    assert_eq!(refuse(&flood), ChunkError::ExtensionTooLarge);
    let honest = format!("200;e=0123456789abcdef\r\n{}\r\n", "x".repeat(512)).repeat(1000);
    assert_eq!(decode(honest.as_bytes()), Ok(None));
    let plain = "1\r\nx\r\n".repeat(20_000);
    assert_eq!(decode(plain.as_bytes()), Ok(None));
}

#[test]
fn t26_trailers_carry_nothing_that_decides() {
    let body = accept(
        "0\r\nX-Sum:\tabc \r\nHost: evil\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\
         Authorization: x\r\nCookie: x\r\nSet-Cookie: x\r\nX-Forwarded-For: x\r\nX-Request-Id: x\r\n\
         Connection: x\r\nContent_Length: x\r\nContent-Type: x\r\nTrailer: x\r\nProxy: x\r\nTE: x\r\n\
         grpc-status: 0\r\n\r\nrest",
    );
    assert_eq!(body.trailers, b"X-Sum: abc\r\ngrpc-status: 0\r\n");
    assert_eq!(body.rest, b"rest");
}

#[test]
fn t26_trailers_are_strict_and_bounded() {
    for (section, fault) in [
        ("a\r\n\r\n", FieldFault::InvalidName),
        ("a : b\r\n\r\n", FieldFault::InvalidName),
        ("a: b\r\n c\r\n\r\n", FieldFault::ObsoleteFold),
        ("a: b\rc\r\n\r\n", FieldFault::BareLineEnd),
        ("a: \0\r\n\r\n", FieldFault::InvalidValue),
    ] {
        assert_eq!(
            refuse(&format!("0\r\n{section}")),
            ChunkError::Trailer(fault),
            "{section:?}"
        );
    }
    let many = |count| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    accept(&many(32));
    assert_eq!(refuse(&many(33)), ChunkError::TrailersTooLarge);
    let large = |length| format!("0\r\na: {}\r\n\r\n", "b".repeat(length));
    accept(&large(8192 - 7));
    assert_eq!(refuse(&large(8192 - 6)), ChunkError::TrailersTooLarge);
}

#[test]
fn an_error_is_final() {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    assert_eq!(decoder.decode(b"x"), Err(ChunkError::InvalidSize));
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(ChunkError::InvalidSize));
    assert_eq!(decoder.decode(b""), Err(ChunkError::InvalidSize));
}

#[test]
fn what_is_written_is_read_again() {
    let mut out = Vec::new();
    for length in [1, 15, 16, 255, 4096, 70_000] {
        write_chunk_header(&mut out, length);
        out.extend(std::iter::repeat_n(b'x', length));
        out.extend_from_slice(CHUNK_END);
    }
    write_chunk_header(&mut out, 0);
    write_last_chunk(&mut out, LineBuf::one(b"a", b"b").lines());
    let body = decode(&out).unwrap().unwrap();
    assert_eq!(body.payload.len(), 1 + 15 + 16 + 255 + 4096 + 70_000);
    assert_eq!(body.trailers, b"a: b\r\n");
    let mut line = Vec::new();
    write_chunk_header(&mut line, usize::MAX);
    assert_eq!(line, b"ffffffffffffffff\r\n");
}

#[test]
fn t12_extensions_have_one_grammar() {
    for extension in [
        ";a",
        ";a=b",
        "; a",
        ";a = b",
        ";a;b=c;d",
        ";a ;\tb",
        ";a=\"\"",
        ";a=\"b;\\\" \u{e4}\";c",
        " ;a",
        " \t ; a=b ;c",
    ] {
        assert_eq!(
            accept(&format!("1{extension}\r\nx\r\n0\r\n\r\n")).payload,
            b"x",
            "{extension:?}"
        );
    }
    for extension in [
        ";",
        ";=b",
        "; ; ;",
        ";;",
        ";a=",
        ";a=;b",
        ";a b",
        ";a=b c",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=b\"c\"",
        ";a ",
        ";a=b ",
        ";a=\"b\" ",
        ";a==b",
        ";(",
        ";a=\"\x7f\"",
    ] {
        assert_eq!(
            refuse(&format!("1{extension}\r\nx\r\n")),
            ChunkError::InvalidExtension,
            "{extension:?}"
        );
    }
}

#[test]
fn a_backend_may_pad_its_sizes() {
    let decode = |raw: &str| {
        let mut decoder = ChunkedDecoder::new(ChunkLimits::of_backend());
        let mut payload = Vec::new();
        for byte in raw.as_bytes() {
            if let Chunk::Data { start, end } = decoder.decode(&[*byte])? {
                payload.extend_from_slice(&[*byte][start..end]);
            }
        }
        Ok((payload, decoder.is_done(), decoder.trailers().to_text()))
    };
    for raw in [
        "1   \r\nx\r\n0  \r\n\r\n",
        "1\t\r\nx\r\n0 \r\n\r\n",
        "1 ;a\r\nx\r\n0;a=b \r\n\r\n",
    ] {
        assert_eq!(
            decode(raw),
            Ok((b"x".to_vec(), true, Vec::new())),
            "{raw:?}"
        );
    }
    assert_eq!(
        decode("0\r\nX_A: b\r\n\r\n").unwrap().2,
        b"X_A: b\r\n".to_vec()
    );
    for raw in ["1 x\r\n", " 1\r\n", "1 1\r\n"] {
        assert_eq!(decode(raw), Err(ChunkError::InvalidSize), "{raw:?}");
    }
    assert_eq!(decode("1;a x"), Err(ChunkError::InvalidExtension));
    let endless = format!("1{}", " ".repeat(100_000));
    assert_eq!(decode(&endless), Err(ChunkError::ExtensionTooLarge));
}
