//! Invariant: a chunked body is refused, or goes on, or ends, and its payload, its trailers and its
//! end do not depend on how the bytes arrive; written anew, they are read as the same.

use _engine::protocol::h1::CHUNK_END;
use _engine::protocol::h1::Chunk;
use _engine::protocol::h1::ChunkError;
use _engine::protocol::h1::ChunkLimits;
use _engine::protocol::h1::ChunkedDecoder;
use _engine::protocol::h1::write_chunk_header;
use _engine::protocol::h1::write_last_chunk;
use _engine::protocol::lines::LineBuf;

use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "chunked",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let tight = ChunkLimits {
        extension_bytes_max: 8,
        trailer_bytes_max: 64,
        trailer_count_max: 3,
        from_backend: false,
        drops_trailers: false,
    };
    let kinds = [tight, ChunkLimits::default(), ChunkLimits::of_backend()];
    let behaviours = kinds.map(|limits| check_limits(input, limits));
    Behaviour::of(behaviours)
}

fn check_limits(input: &[u8], limits: ChunkLimits) -> Behaviour {
    let whole = decode(input, limits, &[input.len().max(1)]);
    for sizes in [&[1][..], &[7], &[3, 1, 100]] {
        assert_eq!(
            decode(input, limits, sizes),
            whole,
            "another body in pieces of {sizes:?}"
        );
    }
    match whole {
        Err(error) => Behaviour::of(error.as_str()),
        Ok(Decoded {
            end: None, payload, ..
        }) => Behaviour::of(payload.len().min(64)),
        Ok(body) => {
            check_again(&body, limits.from_backend);
            Behaviour::of((body.payload.len().min(64), body.trailers.lines().count()))
        }
    }
}

/// A body as far as it came.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    payload: Vec<u8>,
    trailers: LineBuf,
    /// Where it ended.
    end: Option<usize>,
}

/// Decodes `input`, of which more and more is there: by `sizes`, over and over.
fn decode(input: &[u8], limits: ChunkLimits, sizes: &[usize]) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut sizes = sizes.iter().cycle();
    let (mut payload, mut at, mut there) = (Vec::new(), 0, 0);
    loop {
        if at == there {
            if there == input.len() {
                return Ok(Decoded {
                    payload,
                    trailers: LineBuf::default(),
                    end: None,
                });
            }
            there = input.len().min(there + sizes.next().copied().unwrap_or(1));
        }
        let part = &input[at..there];
        let chunk = decoder.decode(part)?;
        assert!(chunk.consumed() <= part.len());
        at += chunk.consumed();
        match chunk {
            Chunk::Data { start, end } => {
                assert!(
                    start < end,
                    "an empty run of payload would be a loop without end"
                );
                payload.extend_from_slice(&part[start..end]);
            }
            Chunk::NeedMore { .. } => assert_eq!(at, there, "asks for more with bytes unread"),
            Chunk::Done { .. } => {
                assert!(decoder.is_done());
                assert_eq!(decoder.decode(b"0"), Ok(Chunk::Done { consumed: 0 }));
                let trailers = LineBuf::from(decoder.trailers());
                return Ok(Decoded {
                    payload,
                    trailers,
                    end: Some(at),
                });
            }
        }
    }
}

/// Whose body it was is kept: what strangers send loses the trailers that alias a field of framing, what a backend
/// sends keeps them.
fn check_again(body: &Decoded, from_backend: bool) {
    let mut out = Vec::new();
    for piece in body.payload.chunks(17) {
        write_chunk_header(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(CHUNK_END);
    }
    write_last_chunk(&mut out, body.trailers.lines());
    let limits = ChunkLimits {
        from_backend,
        ..ChunkLimits::default()
    };
    let again = decode(&out, limits, &[out.len()]);
    let expected = Decoded {
        payload: body.payload.clone(),
        trailers: body.trailers.clone(),
        end: Some(out.len()),
    };
    assert_eq!(again, Ok(expected));
}

const TOKENS: &[&str] = &[
    "0\r\n\r\n",
    "0\r\n",
    "5\r\nhello\r\n",
    "1\r\na\r\n",
    "a\r\n0123456789\r\n",
    "00000000000000001\r\n",
    "7fffffffffffffff\r\n",
    "ffffffffffffffff\r\n",
    "-1\r\n",
    "0x5\r\n",
    "+5\r\n",
    "5 \r\n",
    ";a=b",
    ";a=\"b\"",
    "\r\n",
    "\n",
    "\r",
    "x-a: b\r\n",
    "Content-Length: 1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: a\r\n",
    " x\r\n",
    "\0",
];
