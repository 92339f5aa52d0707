//! Message bodies on their way through: framed as they came, framed as they leave, never held.
//!
//! Rule: pure. Bytes come in, bytes to send come out; whether they fit anywhere is the caller's
//! matter (it stops reading when the other side is full).

use crate::protocol::h1::{
    Chunk, ChunkError, ChunkedDecoder, write_chunk_header, write_last_chunk,
};
use crate::protocol::lines::{LineBuf, Lines};

/// A part of a body at most this long is copied behind the head instead of sent as a second part:
/// two small pieces in one `send` cost less than a gathering `sendmsg`.
const COPY_BYTES_MAX: usize = 2048;

/// What is still to come of a body, in the framing of its sender.
#[derive(Clone)]
pub(in crate::session) enum Body {
    /// Nothing.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked(Box<ChunkedDecoder>),
    /// Everything until the sender closes.
    UntilClose,
}

/// What was taken from the front of the input.
pub(in crate::session) struct Taken<'a> {
    /// Bytes of input used up.
    pub(in crate::session) consumed: usize,
    /// Bytes to send behind what was written to `out`.
    pub(super) tail: &'a [u8],
    /// Bytes of content among them.
    pub(super) content: u64,
    /// The field lines behind the last chunk, where chunks are not what is sent; mostly none.
    pub(in crate::session) trailers: LineBuf,
}

impl Taken<'_> {
    /// Of nothing that is there.
    pub(super) fn nothing() -> Self {
        Self {
            consumed: 0,
            tail: &[],
            content: 0,
            trailers: LineBuf::default(),
        }
    }
}

impl Body {
    /// Whether all of it has passed.
    pub(in crate::session) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes as much as is there. What is to be sent is what was appended to `out`, then
    /// [`Taken::tail`]; with `chunked_out` it is framed in chunks, otherwise it is the content. `passes` says which
    /// trailers go with it, by their names.
    ///
    /// # Errors
    /// [`ChunkError`] when the sender's chunks are malformed; nothing after it can be trusted.
    pub(in crate::session) fn take<'a>(
        &mut self,
        input: &'a [u8],
        chunked_out: bool,
        out: &mut Vec<u8>,
        passes: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Taken<'a>, ChunkError> {
        match self {
            Self::Done => Ok(Taken::nothing()),
            Self::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= count as u64;
                let done = *left == 0;
                if done {
                    *self = Self::Done;
                }
                let taken = pass(&input[..count], chunked_out, out);
                if done && chunked_out {
                    write_last_chunk(out, Lines::default());
                }
                Ok(taken)
            }
            Self::UntilClose => Ok(pass(input, chunked_out, out)),
            Self::Chunked(decoder) => {
                let (mut taken, done) = pass_chunks(decoder, input, chunked_out, out)?;
                if done {
                    let all = decoder.trailers();
                    let some = all.passing(passes);
                    let trailers = some.as_ref().map_or(all, LineBuf::lines);
                    if chunked_out {
                        write_last_chunk(out, trailers);
                    } else {
                        taken.trailers = trailers.into();
                    }
                    *self = Self::Done;
                }
                Ok(taken)
            }
        }
    }

    /// Whether `input` holds all that is to come.
    pub(in crate::session) fn is_whole_with(&self, input: &[u8]) -> bool {
        // What is wrong with it is said when it is passed on.
        self.look_ahead(input).unwrap_or(true)
    }

    /// The same, without taking anything.
    ///
    /// # Errors
    /// See [`Body::take`].
    pub(super) fn look_ahead(&self, input: &[u8]) -> Result<bool, ChunkError> {
        Ok(match self {
            Self::Done | Self::UntilClose => true,
            Self::Length(left) => *left <= input.len() as u64,
            Self::Chunked(decoder) => {
                let (mut decoder, mut at) = (decoder.clone(), 0);
                loop {
                    match decoder.decode(&input[at..])? {
                        Chunk::Data { end, .. } => at += end,
                        Chunk::NeedMore { .. } => break false,
                        Chunk::Done { .. } => break true,
                    }
                }
            }
        })
    }

    /// So many bytes of it have passed unread, in their own framing; returns whether that was all.
    pub(in crate::session) fn pass(&mut self, bytes: u64) -> bool {
        if let Self::Length(left) = self {
            *left -= bytes;
            if *left == 0 {
                *self = Self::Done;
                return true;
            }
        }
        false
    }

    /// The sender closed: whether that is the body's end.
    pub(super) fn end_of_stream(&mut self, chunked_out: bool, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Done => true,
            Self::UntilClose => {
                if chunked_out {
                    write_last_chunk(out, Lines::default());
                }
                *self = Self::Done;
                true
            }
            Self::Length(_) | Self::Chunked(_) => false,
        }
    }
}

fn pass<'a>(content: &'a [u8], chunked_out: bool, out: &mut Vec<u8>) -> Taken<'a> {
    let consumed = content.len();
    let mut tail = content;
    if chunked_out && consumed > 0 {
        write_chunk_header(out, consumed);
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
        tail = &[];
    } else if consumed <= COPY_BYTES_MAX {
        out.extend_from_slice(content);
        tail = &[];
    }
    Taken {
        consumed,
        tail,
        content: consumed as u64,
        trailers: LineBuf::default(),
    }
}

fn pass_chunks<'a>(
    decoder: &mut ChunkedDecoder,
    input: &[u8],
    chunked_out: bool,
    out: &mut Vec<u8>,
) -> Result<(Taken<'a>, bool), ChunkError> {
    let mut taken = Taken::nothing();
    loop {
        let rest = &input[taken.consumed..];
        match decoder.decode(rest)? {
            Chunk::Data { start, end } => {
                let content = &rest[start..end];
                if chunked_out {
                    write_chunk_header(out, content.len());
                }
                out.extend_from_slice(content);
                if chunked_out {
                    out.extend_from_slice(b"\r\n");
                }
                taken.content += content.len() as u64;
                taken.consumed += end;
            }
            Chunk::NeedMore { consumed } => {
                taken.consumed += consumed;
                return Ok((taken, false));
            }
            Chunk::Done { consumed } => {
                taken.consumed += consumed;
                return Ok((taken, true));
            }
        }
    }
}
