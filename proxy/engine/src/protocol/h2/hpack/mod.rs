//! HPACK (RFC 7541): header blocks to field lines and back.
//!
//! Rule: this module knows the compression and nothing of HTTP. The decoder writes each field as
//! the line `name: value CRLF` at the end of a text, which is the form in which heads are kept and
//! sent on; whether the bytes are valid is for the caller to judge. The encoder is given names and
//! values. Both are bounded: no integer, table or update can be made to cost more than its bytes.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod static_table;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;

pub use decoder::Decoder;
pub use decoder::Line;
pub use encoder::Encoder;
pub use encoder::Policy;
pub use table::TABLE_BYTES_MAX;

/// Why a header block cannot be decoded: the state of both sides differs from here on, so that
/// the connection is lost (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// An integer with more bytes than any length or index needs.
    IntegerTooLarge,
    /// Padding that is not, or an end-of-string symbol within a string (§5.2).
    InvalidHuffman,
    /// An index that neither table has (§2.3.3).
    InvalidIndex,
    /// The block ends within a field.
    Truncated,
    /// A new table size after the first field, a third one, or one above the limit (§4.2).
    UnexpectedSizeUpdate,
}

impl HpackError {
    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IntegerTooLarge => "hpack_integer_too_large",
            Self::InvalidHuffman => "hpack_invalid_huffman",
            Self::InvalidIndex => "hpack_invalid_index",
            Self::Truncated => "hpack_truncated",
            Self::UnexpectedSizeUpdate => "hpack_unexpected_size_update",
        }
    }
}

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for HpackError {}
