//! The chunked transfer coding (RFC 9112 §7.1): a strict decoder, and the encoder.
//!
//! Rule: every byte of the framing is looked at on its own, so that it makes no difference how
//! the bytes arrive. Extensions are read by their grammar and dropped; a trailer section is kept
//! only as far as its fields may be passed on (T12, T26).

use std::mem;

use super::Field;
use super::FieldId;
use super::connection::is_end_to_end;
use super::error::ChunkError;
use super::error::FieldFault;
use super::fields::Aliases;
use super::fields::is_token_byte;
use super::fields::parse_fields;
use crate::protocol::lines::{LineBuf, Lines};

/// What the framing of a body may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of the extensions of one chunk.
    pub extension_bytes_max: usize,
    /// Bytes of the trailer section.
    pub trailer_bytes_max: usize,
    /// Field lines of the trailer section.
    pub trailer_count_max: usize,
    /// Blanks behind a whole size line are read over, as servers pad theirs: what a backend sends is framed
    /// anew, and there is nobody to be confused. From a client they are refused.
    pub from_backend: bool,
    /// A trailer section is checked and dropped.
    pub drops_trailers: bool,
}

impl ChunkLimits {
    /// The usual limits, for what a backend sends.
    #[must_use]
    pub fn of_backend() -> Self {
        Self {
            from_backend: true,
            ..Self::default()
        }
    }
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            extension_bytes_max: 256,
            trailer_bytes_max: 8192,
            trailer_count_max: 32,
            from_backend: false,
            drops_trailers: false,
        }
    }
}

/// What a call of [`ChunkedDecoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// `input[start..end]` is payload, `end` bytes are consumed; call again with the rest.
    Data {
        /// Offset of the first byte of payload.
        start: usize,
        /// Offset after the last one.
        end: usize,
    },
    /// The input is consumed to its end, and the body goes on.
    NeedMore {
        /// The length of the input.
        consumed: usize,
    },
    /// The body ended, trailer section included; what follows is the next message.
    Done {
        /// Bytes of the input that belonged to the body.
        consumed: usize,
    },
}

impl Chunk {
    /// How many bytes at the start of the input are done with.
    pub fn consumed(self) -> usize {
        match self {
            Self::Data { end, .. } => end,
            Self::NeedMore { consumed } | Self::Done { consumed } => consumed,
        }
    }
}

/// Decodes the chunked body of one message.
///
/// Each call consumes a prefix of its input, whose length is [`Chunk::consumed`]; the rest is to be
/// given again, more bytes behind it or not. Nothing is buffered but the trailer section. After
/// `Done` each call returns `Done` with 0, after an error each returns that error.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    limits: ChunkLimits,
    state: State,
    /// Cost of the framing so far that the payload did not pay for, see [`OVERHEAD_BYTES_MAX`].
    overhead: u64,
    section: Vec<u8>,
    trailers: LineBuf,
}

/// What the next byte has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ExpectSize {
        digits: u8,
        size: u64,
    },
    /// Blanks have come behind a size.
    ExpectPadding {
        size: u64,
    },
    ExpectExtension {
        bytes: usize,
        size: u64,
        at: Extension,
    },
    ExpectSizeLineFeed {
        size: u64,
    },
    ExpectData {
        left: u64,
    },
    ExpectDataCarriageReturn,
    ExpectDataLineFeed,
    ExpectTrailers,
    Done,
    Failed(ChunkError),
}

/// Where in `chunk-ext` the next byte stands (RFC 9112 §7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// A name has to begin; blanks before it.
    NameStart,
    Name,
    /// Blanks behind a name.
    NameEnd,
    /// A value has to begin; blanks before it.
    ValueStart,
    Value,
    Quoted,
    /// Behind a backslash.
    QuotedPair,
    /// Behind the second quote.
    QuotedEnd,
    /// Blanks behind a value.
    ValueEnd,
}

impl Extension {
    /// Where the byte after `byte` stands, unless that is the carriage return behind it all.
    fn next(self, byte: u8) -> Option<Self> {
        let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::QuotedPair,
            (Self::Quoted | Self::QuotedPair, _) if is_text => Self::Quoted,
            (Self::NameStart, b' ' | b'\t') => Self::NameStart,
            (Self::Name | Self::NameEnd, b' ' | b'\t') => Self::NameEnd,
            (Self::ValueStart, b' ' | b'\t') => Self::ValueStart,
            (Self::Value | Self::QuotedEnd | Self::ValueEnd, b' ' | b'\t') => Self::ValueEnd,
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::ValueStart | Self::Value, _) if is_token_byte(byte) => Self::Value,
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::Name | Self::NameEnd | Self::Value | Self::QuotedEnd | Self::ValueEnd, b';') => {
                Self::NameStart
            }
            _ => return None,
        })
    }

    /// Whether all of it may be over. Blanks at its end are no part of the grammar.
    fn may_end(self, takes_padding: bool) -> bool {
        match self {
            Self::Name | Self::Value | Self::QuotedEnd => true,
            Self::NameEnd | Self::ValueEnd => takes_padding,
            Self::NameStart | Self::ValueStart | Self::Quoted | Self::QuotedPair => false,
        }
    }
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            state: State::ExpectSize { digits: 0, size: 0 },
            overhead: 0,
            section: Vec::new(),
            trailers: LineBuf::default(),
        }
    }

    /// Decodes until a run of payload, the end of the body, or the end of the input.
    pub fn decode(&mut self, input: &[u8]) -> Result<Chunk, ChunkError> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// The fields of the trailer section that may be passed on; complete after [`Chunk::Done`].
    pub fn trailers(&self) -> Lines<'_> {
        self.trailers.lines()
    }

    /// The body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn advance(&mut self, input: &[u8]) -> Result<Chunk, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            self.state = match self.state {
                State::ExpectSize { digits, size } => self.read_size(byte, digits, size)?,
                // RFC 9112 §7.1.1 has blanks before a semicolon, and nowhere else.
                State::ExpectPadding { .. } if byte == b'\r' && !self.limits.from_backend => {
                    return Err(ChunkError::InvalidSize);
                }
                State::ExpectPadding { size } => self.read_padding(byte, size)?,
                State::ExpectExtension { bytes, size, at } => {
                    self.read_extension(byte, bytes, size, at)?
                }
                State::ExpectSizeLineFeed { size } => match byte {
                    b'\n' if size == 0 => State::ExpectTrailers,
                    b'\n' => {
                        let paid = size.saturating_mul(2).saturating_add(FREE_BYTES);
                        self.overhead = self.overhead.saturating_sub(paid);
                        State::ExpectData { left: size }
                    }
                    _ => return Err(ChunkError::InvalidLineEnd),
                },
                State::ExpectData { left } => {
                    let available = (input.len() - at) as u64;
                    let taken = left.min(available);
                    self.state = if taken == left {
                        State::ExpectDataCarriageReturn
                    } else {
                        State::ExpectData { left: left - taken }
                    };
                    return Ok(Chunk::Data {
                        start: at,
                        end: at + taken as usize,
                    });
                }
                State::ExpectDataCarriageReturn if byte == b'\r' => State::ExpectDataLineFeed,
                State::ExpectDataLineFeed if byte == b'\n' => {
                    State::ExpectSize { digits: 0, size: 0 }
                }
                State::ExpectDataCarriageReturn | State::ExpectDataLineFeed => {
                    return Err(ChunkError::InvalidLineEnd);
                }
                State::ExpectTrailers => return self.read_trailers(input, at),
                State::Done => return Ok(Chunk::Done { consumed: at }),
                State::Failed(error) => return Err(error),
            };
            at += 1;
        }
        Ok(match self.state {
            State::Done => Chunk::Done { consumed: at },
            State::Failed(error) => return Err(error),
            _ => Chunk::NeedMore { consumed: at },
        })
    }

    /// `chunk-size = 1*HEXDIG`: no sign, no prefix, no overflow, no white space before it.
    fn read_size(&mut self, byte: u8, digits: u8, size: u64) -> Result<State, ChunkError> {
        self.overhead += 1;
        if let Some(digit) = (byte as char).to_digit(16) {
            let size = size
                .checked_mul(16)
                .map(|size| size | u64::from(digit))
                .filter(|&size| size <= SIZE_MAX && digits < SIZE_DIGITS_MAX)
                .ok_or(ChunkError::InvalidSize)?;
            return Ok(State::ExpectSize {
                digits: digits + 1,
                size,
            });
        }
        match byte {
            _ if digits == 0 => Err(ChunkError::InvalidSize),
            _ => self.read_padding(byte, size),
        }
    }

    /// What may follow the digits of a size.
    fn read_padding(&mut self, byte: u8, size: u64) -> Result<State, ChunkError> {
        self.overhead += 1;
        match byte {
            b'\r' => Ok(State::ExpectSizeLineFeed { size }),
            b';' => Ok(State::ExpectExtension {
                bytes: 0,
                size,
                at: Extension::NameStart,
            }),
            b'\n' => Err(ChunkError::InvalidLineEnd),
            b' ' | b'\t' => {
                if self.overhead > OVERHEAD_BYTES_MAX {
                    return Err(ChunkError::ExtensionTooLarge);
                }
                Ok(State::ExpectPadding { size })
            }
            _ => Err(ChunkError::InvalidSize),
        }
    }

    /// Reads over `chunk-ext` (RFC 9112 §7.1.1), whose meaning ends at this hop.
    fn read_extension(
        &mut self,
        byte: u8,
        bytes: usize,
        size: u64,
        at: Extension,
    ) -> Result<State, ChunkError> {
        self.overhead += 1;
        match byte {
            b'\r' if at.may_end(self.limits.from_backend) => {
                return Ok(State::ExpectSizeLineFeed { size });
            }
            b'\n' => return Err(ChunkError::InvalidLineEnd),
            _ => {}
        }
        let next = at.next(byte).ok_or(ChunkError::InvalidExtension)?;
        if bytes >= self.limits.extension_bytes_max || self.overhead > OVERHEAD_BYTES_MAX {
            return Err(ChunkError::ExtensionTooLarge);
        }
        Ok(State::ExpectExtension {
            bytes: bytes + 1,
            size,
            at: next,
        })
    }

    /// Collects the trailer section up to its empty line, byte by byte as it is bounded and rare.
    fn read_trailers(&mut self, input: &[u8], mut at: usize) -> Result<Chunk, ChunkError> {
        while let Some(&byte) = input.get(at) {
            if self.section.len() >= self.limits.trailer_bytes_max.max(EMPTY_LINE.len()) {
                return Err(ChunkError::TrailersTooLarge);
            }
            if byte == b'\n' && self.section.last() != Some(&b'\r') {
                return Err(ChunkError::Trailer(FieldFault::BareLineEnd));
            }
            self.section.push(byte);
            at += 1;
            let may_end = byte == b'\n';
            if may_end && (self.section == EMPTY_LINE || self.section.ends_with(SECTION_END)) {
                self.keep_trailers()?;
                self.state = State::Done;
                return Ok(Chunk::Done { consumed: at });
            }
        }
        Ok(Chunk::NeedMore { consumed: at })
    }

    fn keep_trailers(&mut self) -> Result<(), ChunkError> {
        let section = mem::take(&mut self.section);
        let mut fields = Vec::new();
        let aliases = match self.limits.from_backend {
            true => Aliases::Keep,
            false => Aliases::Drop,
        };
        let count_max = self.limits.trailer_count_max;
        let end = parse_fields(&section, 0, count_max, aliases, &mut fields);
        match end {
            Ok(Some(end)) if end == section.len() => {}
            Ok(_) => return Err(ChunkError::Trailer(FieldFault::BareLineEnd)),
            Err(FieldFault::TooMany) => return Err(ChunkError::TrailersTooLarge),
            Err(fault) => return Err(ChunkError::Trailer(fault)),
        }
        for field in fields.iter().filter(|_| !self.limits.drops_trailers) {
            let name = field.name.of(&section);
            if may_trail(field, name) {
                self.trailers.push(name, field.value.of(&section));
            }
        }
        Ok(())
    }
}

/// Whether a field of a trailer section may be passed on: it says nothing of the message, of the
/// hop or of who somebody is (RFC 9110 §6.5.1, T26).
pub(in crate::protocol) fn may_trail(field: &Field, name: &[u8]) -> bool {
    field.id == FieldId::Other && !field.drop && !is_end_to_end(name)
}

/// Appends the line before the payload of a chunk; the caller appends [`CHUNK_END`] after it.
/// A chunk of 0 bytes would end the body: it has no header, and is not to be sent.
pub fn write_chunk_header(out: &mut Vec<u8>, length: usize) {
    if length == 0 {
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [b'0'; SIZE_DIGITS_MAX as usize];
    let mut rest = length;
    let mut start = line.len();
    for place in line.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *place = DIGITS[rest & 15];
        rest >>= 4;
        start -= 1;
    }
    out.extend_from_slice(line.get(start..).unwrap_or_default());
    out.extend_from_slice(CHUNK_END);
}

/// Appends the last chunk and the trailer section; `trailers` are empty for a recipient that did not ask
/// for them (RFC 9110 §6.5.1).
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Lines<'_>) {
    out.extend_from_slice(b"0\r\n");
    trailers.write(out);
    out.extend_from_slice(b"\r\n");
}

/// What stands after the payload of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

const EMPTY_LINE: &[u8] = b"\r\n";

const SECTION_END: &[u8] = b"\r\n\r\n";

/// Enough for 2^63 - 1; more would only be zeros.
const SIZE_DIGITS_MAX: u8 = 16;

const SIZE_MAX: u64 = i64::MAX as u64;

/// Bytes of size lines and extensions beyond [`FREE_BYTES`] a chunk and twice the payload: as Go's
/// net/http, against bodies that are all framing (CVE-2023-39326).
const OVERHEAD_BYTES_MAX: u64 = 16 * 1024;

const FREE_BYTES: u64 = 16;

#[cfg(test)]
mod tests;
