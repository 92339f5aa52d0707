//! What can be wrong, typed by how much of the connection it costs.
//!
//! [`ConnectionFault`] ends the connection, [`StreamFault`] one stream; a request that is merely
//! refused is an [`h1::Reject`] and is answered. One variant per rule; `as_str` is the token for
//! logs and counters and never holds bytes of the peer (T35).

use std::fmt;

use super::hpack::HpackError;
use crate::protocol::h1;

/// RFC 9113 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Nothing is wrong.
    NoError,
    /// The peer broke a rule that has no code of its own.
    Protocol,
    /// Our fault.
    Internal,
    /// More was sent than the window allowed.
    FlowControl,
    /// Settings were not acknowledged in time.
    SettingsTimeout,
    /// A frame for a stream that has ended.
    StreamClosed,
    /// A frame whose size is none of its type.
    FrameSize,
    /// Nothing was done about the stream: it may be tried again elsewhere.
    RefusedStream,
    /// Nobody waits for the stream any more.
    Cancel,
    /// The header compression is out of step.
    Compression,
    /// The connection of a CONNECT was lost.
    Connect,
    /// The peer makes more work than it has a right to.
    EnhanceYourCalm,
    /// The TLS connection is too weak.
    InadequateSecurity,
    /// The request has to be made over HTTP/1.1.
    Http11Required,
    /// A code of some extension.
    Unknown(u32),
}

impl ErrorCode {
    /// The code of a frame.
    pub fn of(code: u32) -> Self {
        KNOWN
            .get(code as usize)
            .copied()
            .unwrap_or(Self::Unknown(code))
    }

    /// The number for a frame.
    pub fn code(self) -> u32 {
        match self {
            Self::Unknown(code) => code,
            known => KNOWN.iter().position(|&other| other == known).unwrap_or(2) as u32,
        }
    }

    /// The name as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "no_error",
            Self::Protocol => "protocol_error",
            Self::Internal => "internal_error",
            Self::FlowControl => "flow_control_error",
            Self::SettingsTimeout => "settings_timeout",
            Self::StreamClosed => "stream_closed",
            Self::FrameSize => "frame_size_error",
            Self::RefusedStream => "refused_stream",
            Self::Cancel => "cancel",
            Self::Compression => "compression_error",
            Self::Connect => "connect_error",
            Self::EnhanceYourCalm => "enhance_your_calm",
            Self::InadequateSecurity => "inadequate_security",
            Self::Http11Required => "http_1_1_required",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// By their numbers.
const KNOWN: [ErrorCode; 14] = [
    ErrorCode::NoError,
    ErrorCode::Protocol,
    ErrorCode::Internal,
    ErrorCode::FlowControl,
    ErrorCode::SettingsTimeout,
    ErrorCode::StreamClosed,
    ErrorCode::FrameSize,
    ErrorCode::RefusedStream,
    ErrorCode::Cancel,
    ErrorCode::Compression,
    ErrorCode::Connect,
    ErrorCode::EnhanceYourCalm,
    ErrorCode::InadequateSecurity,
    ErrorCode::Http11Required,
];

/// Why the connection ends. The peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFault {
    /// A frame for a stream that nobody has opened, or with a number that its sender may not use.
    BadStream,
    /// A frame on stream 0 that belongs to a stream, or the other way round.
    BadScope,
    /// Padding as long as the frame.
    BadPadding,
    /// A setting out of its range (RFC 9113 §6.5.2).
    BadSetting,
    /// A frame for a stream that its sender has ended.
    Closed,
    /// Something else than CONTINUATION within a header block, or CONTINUATION outside of one.
    Continuation,
    /// More control frames are answered than the peer reads.
    Deaf,
    /// More faults, resets and frames without use than the budget has (T01, T02, T06).
    Flood,
    /// A frame longer than we allow, or of a size that its type does not have.
    FrameSize,
    /// A header block with more bytes or frames than any head needs (T03), or one that
    /// decompresses to many times the limit (T04).
    HeaderBlock,
    /// The header block cannot be decoded.
    Hpack(HpackError),
    /// The first bytes are not those of HTTP/2 (RFC 9113 §3.4).
    Preface,
    /// PUSH_PROMISE, which we have switched off.
    Push,
    /// More DATA than the connection's window allows.
    Window,
    /// An update of the connection's window by nothing, or beyond 2^31-1.
    WindowUpdate,
}

impl ConnectionFault {
    /// What the peer is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::BadStream
            | Self::BadScope
            | Self::BadPadding
            | Self::BadSetting
            | Self::Continuation
            | Self::Preface
            | Self::Push
            | Self::WindowUpdate => ErrorCode::Protocol,
            Self::Closed => ErrorCode::StreamClosed,
            Self::Deaf | Self::Flood | Self::HeaderBlock => ErrorCode::EnhanceYourCalm,
            Self::FrameSize => ErrorCode::FrameSize,
            Self::Hpack(_) => ErrorCode::Compression,
            Self::Window => ErrorCode::FlowControl,
        }
    }

    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadStream => "h2_bad_stream",
            Self::BadScope => "h2_bad_scope",
            Self::BadPadding => "h2_bad_padding",
            Self::BadSetting => "h2_bad_setting",
            Self::Closed => "h2_stream_closed",
            Self::Continuation => "h2_continuation",
            Self::Deaf => "h2_answers_not_read",
            Self::Flood => "h2_flood",
            Self::FrameSize => "h2_frame_size",
            Self::HeaderBlock => "h2_header_block_too_large",
            Self::Hpack(error) => error.as_str(),
            Self::Preface => "h2_preface",
            Self::Push => "h2_push",
            Self::Window => "h2_connection_window",
            Self::WindowUpdate => "h2_window_update",
        }
    }
}

/// Why we have reset a stream. The peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// A frame after the end of the stream.
    Closed,
    /// DATA before the head of a response, or a body that must not be.
    Data,
    /// A frame of a size that its type does not have.
    FrameSize,
    /// A head or a trailer section that RFC 9113 §8 calls malformed.
    Head(HeadFault),
    /// The body is shorter or longer than `content-length` (RFC 9113 §8.1.1).
    Length,
    /// The limit on concurrent streams, or the connection is about to end. Nobody is to blame.
    Refused,
    /// The stream depends on itself (RFC 7540 §5.3.1).
    SelfDependency,
    /// A second head without the end of the stream (RFC 9113 §8.1).
    Trailers,
    /// More DATA than the window allows.
    Window,
    /// An update of the window by nothing, or beyond 2^31-1.
    WindowUpdate,
    /// An update of the window beyond 2^31-1.
    WindowOverflow,
}

impl StreamFault {
    /// What the peer is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Closed => ErrorCode::StreamClosed,
            Self::Data
            | Self::Head(_)
            | Self::Length
            | Self::SelfDependency
            | Self::Trailers
            | Self::WindowUpdate => ErrorCode::Protocol,
            Self::FrameSize => ErrorCode::FrameSize,
            Self::Refused => ErrorCode::RefusedStream,
            Self::Window | Self::WindowOverflow => ErrorCode::FlowControl,
        }
    }

    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "h2_frame_after_end",
            Self::Data => "h2_unexpected_data",
            Self::FrameSize => "h2_frame_size",
            Self::Head(fault) => fault.as_str(),
            Self::Length => "h2_length_mismatch",
            Self::Refused => "h2_refused_stream",
            Self::SelfDependency => "h2_self_dependency",
            Self::Trailers => "h2_unexpected_head",
            Self::Window => "h2_stream_window",
            Self::WindowUpdate => "h2_window_update",
            Self::WindowOverflow => "h2_window_overflow",
        }
    }
}

/// What is wrong with a head. The variants without a payload make it malformed (RFC 9113 §8.1.1):
/// nothing can be answered that is sure to be understood, and the stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// A field of HTTP/1.1 connections (§8.2.2), or `TE` with something else than `trailers`.
    ConnectionField,
    /// A pseudo-header field came twice.
    DuplicatePseudo,
    /// A name that is no token in lower case (§8.2.1).
    InvalidName,
    /// A value with a control character, or with white space around it (§8.2.1).
    InvalidValue,
    /// `:status` is not three digits, is 101, or that of an interim response at the stream's end.
    InvalidStatus,
    /// A pseudo-header field that must be there is not, or is empty.
    MissingPseudo,
    /// A pseudo-header field after a field, in trailers, or one that is not ours to read.
    UnexpectedPseudo,
    /// A rule that HTTP/1.1 has as well: a request that is refused, and answered.
    Request(h1::Reject),
    /// The same for a response, which is not passed on.
    Response(h1::UpstreamFault),
}

impl HeadFault {
    /// The reason as a token for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionField => "h2_connection_field",
            Self::DuplicatePseudo => "h2_duplicate_pseudo_field",
            Self::InvalidName => "invalid_field_name",
            Self::InvalidValue => "invalid_field_value",
            Self::InvalidStatus => "h2_invalid_status",
            Self::MissingPseudo => "h2_missing_pseudo_field",
            Self::UnexpectedPseudo => "h2_unexpected_pseudo_field",
            Self::Request(reject) => reject.as_str(),
            Self::Response(fault) => fault.as_str(),
        }
    }
}

impl From<HpackError> for ConnectionFault {
    fn from(error: HpackError) -> Self {
        Self::Hpack(error)
    }
}

impl From<h1::Reject> for HeadFault {
    fn from(reject: h1::Reject) -> Self {
        Self::Request(reject)
    }
}

impl From<h1::UpstreamFault> for HeadFault {
    fn from(fault: h1::UpstreamFault) -> Self {
        Self::Response(fault)
    }
}

impl fmt::Display for ConnectionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for ConnectionFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_comes_back() {
        for code in (0..20).chain([u32::MAX]) {
            assert_eq!(ErrorCode::of(code).code(), code);
        }
        assert_eq!(ErrorCode::of(11), ErrorCode::EnhanceYourCalm);
        assert_eq!(ErrorCode::of(14), ErrorCode::Unknown(14));
    }
}
