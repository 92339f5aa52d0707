//! What can be wrong with a message, typed by who is to blame for it.
//!
//! One variant per rule, so that a log line names the rule that was broken; `as_str` is the
//! token for logs and counters and never holds bytes of the message (T35).

use std::error::Error;
use std::fmt;

/// Why a request is refused. The client is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Absolute-form whose authority is not the one of `Host` (RFC 9112 §3.2.2).
    AuthorityMismatch,
    /// A chunked body that does not follow RFC 9112 §7.1.
    Chunk(ChunkError),
    /// A transfer coding that does not end in `chunked`, so that the body has no end (RFC 9112 §6.3).
    CodingNotChunked,
    /// `Connection` is no list of tokens, is too long, or names a field that frames the message.
    Connection,
    /// `CONNECT`: Kakehi is no tunnel (RFC 9110 §9.3.6).
    ConnectMethod,
    /// More than one `Content-Length`, even an equal one (RFC 9112 §6.3).
    DuplicateContentLength,
    /// More than one `Host` (RFC 9112 §3.2).
    DuplicateHost,
    /// More than one `Transfer-Encoding` field (RFC 9112 §6.1).
    DuplicateTransferEncoding,
    /// An expectation that is not `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// A line of the header section.
    Field(FieldFault),
    /// The head is longer than `head_bytes_max`.
    HeadTooLarge,
    /// The body is longer than the listener allows; the caller counts and decides.
    BodyTooLarge,
    /// `Content-Length` is not made of digits only or does not fit (RFC 9110 §8.6).
    InvalidContentLength,
    /// A host that is no name, IPv4 or bracketed IPv6 address with an optional port.
    InvalidHost,
    /// The method is not made of capitals, digits, `-` and `_`.
    InvalidMethod,
    /// The method is longer than any that there is (RFC 9112 §3).
    MethodTooLong,
    /// A path with a bad escape, a forbidden byte, or dot segments that leave the root.
    InvalidPath,
    /// The request line is not `method SP target SP version CRLF` (RFC 9112 §3).
    InvalidRequestLine,
    /// The target has none of the forms of RFC 9112 §3.2, or a fragment.
    InvalidTarget,
    /// `Transfer-Encoding` is no list of codings, or repeats `chunked`.
    InvalidTransferEncoding,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 §6.3, rule 3).
    LengthAndCoding,
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    MissingHost,
    /// The request line alone is longer than `head_bytes_max`.
    TargetTooLong,
    /// `Transfer-Encoding` in HTTP/1.0, which knows none (RFC 9112 §6.1).
    TransferEncodingInHttp10,
    /// A transfer coding beside `chunked`.
    UnknownCoding,
    /// Another major version than 1.
    UnsupportedVersion,
}

impl Reject {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge
            | Self::Field(FieldFault::TooMany)
            | Self::Chunk(ChunkError::TrailersTooLarge) => 431,
            Self::ConnectMethod | Self::MethodTooLong | Self::UnknownCoding => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }

    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorityMismatch => "authority_mismatch",
            Self::Chunk(error) => error.as_str(),
            Self::CodingNotChunked => "coding_not_chunked",
            Self::Connection => "invalid_connection",
            Self::ConnectMethod => "connect_method",
            Self::DuplicateContentLength => "duplicate_content_length",
            Self::DuplicateHost => "duplicate_host",
            Self::DuplicateTransferEncoding => "duplicate_transfer_encoding",
            Self::Expectation => "unknown_expectation",
            Self::Field(fault) => fault.as_str(),
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::InvalidContentLength => "invalid_content_length",
            Self::InvalidHost => "invalid_host",
            Self::InvalidMethod => "invalid_method",
            Self::MethodTooLong => "method_too_long",
            Self::InvalidPath => "invalid_path",
            Self::InvalidRequestLine => "invalid_request_line",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidTransferEncoding => "invalid_transfer_encoding",
            Self::LengthAndCoding => "length_and_coding",
            Self::MissingHost => "missing_host",
            Self::TargetTooLong => "target_too_long",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http10",
            Self::UnknownCoding => "unknown_coding",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }
}

/// Why a response is not passed on. The backend is to blame, the client gets a 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// A chunked body that does not follow RFC 9112 §7.1.
    Chunk(ChunkError),
    /// `Connection` is no list of tokens, is too long, or names a field that frames the message.
    Connection,
    /// More than one `Content-Length`.
    DuplicateContentLength,
    /// A line of the header section.
    Field(FieldFault),
    /// A 1xx that claims to have a body (RFC 9112 §6.1, RFC 9110 §8.6).
    FramedWithoutBody,
    /// The head is longer than `head_bytes_max`.
    HeadTooLarge,
    /// `Content-Length` is not made of digits only or does not fit.
    InvalidContentLength,
    /// The status line is not `version SP status SP reason CRLF` (RFC 9112 §4).
    InvalidStatusLine,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndCoding,
    /// A transfer coding that is not exactly one `chunked`, or any in HTTP/1.0.
    TransferEncoding,
    /// 101 to a request that asked for no upgrade, or to another protocol than it asked for.
    UnaskedUpgrade,
}

impl UpstreamFault {
    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chunk(error) => error.as_str(),
            Self::Connection => "invalid_connection",
            Self::DuplicateContentLength => "duplicate_content_length",
            Self::Field(fault) => fault.as_str(),
            Self::FramedWithoutBody => "framed_without_body",
            Self::HeadTooLarge => "head_too_large",
            Self::InvalidContentLength => "invalid_content_length",
            Self::InvalidStatusLine => "invalid_status_line",
            Self::LengthAndCoding => "length_and_coding",
            Self::TransferEncoding => "invalid_transfer_encoding",
            Self::UnaskedUpgrade => "unasked_upgrade",
        }
    }
}

/// What is wrong with a line of a header or trailer section, whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFault {
    /// CR without LF, or LF without CR (RFC 9112 §2.2).
    BareLineEnd,
    /// No token before the colon, no colon, or a space before it (RFC 9112 §5.1).
    InvalidName,
    /// A control character in the value (RFC 9110 §5.5).
    InvalidValue,
    /// A line that continues the one before (RFC 9112 §5.2).
    ObsoleteFold,
    /// More fields than `header_count_max`.
    TooMany,
}

impl FieldFault {
    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLineEnd => "bare_line_end",
            Self::InvalidName => "invalid_field_name",
            Self::InvalidValue => "invalid_field_value",
            Self::ObsoleteFold => "obsolete_fold",
            Self::TooMany => "too_many_fields",
        }
    }
}

/// What is wrong with a chunked body, whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// Extensions longer than a chunk, or a body, may carry.
    ExtensionTooLarge,
    /// An extension with a control character, or without a name.
    InvalidExtension,
    /// CR LF is missing after a size, an extension or the payload.
    InvalidLineEnd,
    /// The size is not 1 to 16 hexadecimal digits below 2^63.
    InvalidSize,
    /// A line of the trailer section.
    Trailer(FieldFault),
    /// The trailer section is longer than its limits.
    TrailersTooLarge,
}

impl ChunkError {
    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExtensionTooLarge => "chunk_extension_too_large",
            Self::InvalidExtension => "invalid_chunk_extension",
            Self::InvalidLineEnd => "invalid_chunk_line_end",
            Self::InvalidSize => "invalid_chunk_size",
            Self::Trailer(_) => "invalid_trailer",
            Self::TrailersTooLarge => "trailers_too_large",
        }
    }
}

impl From<FieldFault> for Reject {
    fn from(fault: FieldFault) -> Self {
        Self::Field(fault)
    }
}

impl From<ChunkError> for Reject {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl From<FieldFault> for UpstreamFault {
    fn from(fault: FieldFault) -> Self {
        Self::Field(fault)
    }
}

impl From<ChunkError> for UpstreamFault {
    fn from(error: ChunkError) -> Self {
        Self::Chunk(error)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error for Reject {}

impl Error for UpstreamFault {}

impl Error for ChunkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t27_the_status_says_what_was_too_large() {
        for (reject, status) in [
            (Reject::BodyTooLarge, 413),
            (Reject::TargetTooLong, 414),
            (Reject::Expectation, 417),
            (Reject::HeadTooLarge, 431),
            (Reject::Field(FieldFault::TooMany), 431),
            (Reject::Chunk(ChunkError::TrailersTooLarge), 431),
            (Reject::ConnectMethod, 501),
            (Reject::MethodTooLong, 501),
            (Reject::UnknownCoding, 501),
            (Reject::CodingNotChunked, 400),
            (Reject::UnsupportedVersion, 505),
            (Reject::LengthAndCoding, 400),
            (Reject::from(ChunkError::InvalidSize), 400),
            (Reject::from(FieldFault::ObsoleteFold), 400),
        ] {
            assert_eq!(reject.status(), status, "{reject}");
        }
    }

    #[test]
    fn t35_a_reason_is_a_token() {
        for reason in [
            Reject::from(ChunkError::ExtensionTooLarge).to_string(),
            Reject::from(FieldFault::InvalidValue).to_string(),
            UpstreamFault::from(ChunkError::Trailer(FieldFault::TooMany)).to_string(),
            UpstreamFault::from(FieldFault::BareLineEnd).to_string(),
        ] {
            assert!(
                reason
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{reason}"
            );
        }
    }
}
