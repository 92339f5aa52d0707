//! Frames (RFC 9113 §4, §6): the nine bytes before each, and the writing of those without state.
//!
//! Rule: layout only. What a frame may do where is decided in `connection`.

/// Bytes before each payload.
pub const FRAME_HEAD_BYTES: usize = 9;

/// The longest payload that we take and send: what RFC 9113 §4.2 lets everybody send. A longer one
/// would only hold up other streams, and make a caller keep more of an incomplete frame.
pub const FRAME_BYTES_MAX: usize = 16_384;

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types that have a meaning to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// RFC 9218 §7.1.
    PriorityUpdate,
    /// Any other one: read over (RFC 9113 §4.1).
    Unknown,
}

impl Kind {
    fn of(code: u8) -> Self {
        match code {
            0x00 => Self::Data,
            0x01 => Self::Headers,
            0x02 => Self::Priority,
            0x03 => Self::ResetStream,
            0x04 => Self::Settings,
            0x05 => Self::PushPromise,
            0x06 => Self::Ping,
            0x07 => Self::GoAway,
            0x08 => Self::WindowUpdate,
            0x09 => Self::Continuation,
            0x10 => Self::PriorityUpdate,
            _ => Self::Unknown,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Data => 0x00,
            Self::Headers => 0x01,
            Self::Priority => 0x02,
            Self::ResetStream => 0x03,
            Self::Settings => 0x04,
            Self::PushPromise => 0x05,
            Self::Ping => 0x06,
            Self::GoAway => 0x07,
            Self::WindowUpdate => 0x08,
            Self::Continuation => 0x09,
            Self::PriorityUpdate => 0x10,
            Self::Unknown => 0xff,
        }
    }
}

pub(super) const ACK: u8 = 0x01;
pub(super) const END_STREAM: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
pub(super) const PRIORITY: u8 = 0x20;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    #[inline]
    pub(super) fn parse(bytes: &[u8; FRAME_HEAD_BYTES]) -> Self {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::of(kind),
            flags,
            // The reserved bit is ignored (RFC 9113 §4.1).
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MAX,
        }
    }

    #[inline]
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    pub(super) fn bytes(self) -> [u8; FRAME_HEAD_BYTES] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind.code(), self.flags, s0, s1, s2, s3]
    }
}

/// Appends a frame whose payload is a few numbers or bytes.
pub(super) fn write(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    let head = FrameHead {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&head.bytes());
    out.extend_from_slice(payload);
}

/// The payload without its padding (RFC 9113 §6.1); `None` if the padding is as long as all of it.
pub(super) fn strip_padding(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    let length = rest.len().checked_sub(usize::from(padding))?;
    rest.get(..length)
}

/// The number in the last four bytes of a payload that has to be so long.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// The highest number of a stream, and the mask of the reserved bit.
pub(super) const STREAM_MAX: u32 = 0x7fff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_head_comes_back() {
        for code in 0..=0x11 {
            let bytes = [0x12, 0x34, 0x56, code, 0x2d, 0xff, 0x00, 0x00, 0x01];
            let head = FrameHead::parse(&bytes);
            assert_eq!((head.length, head.stream), (0x12_3456, 0x7f00_0001));
            assert!(head.has(PADDED));
            assert!(!head.has(0x10));
            let again = FrameHead::parse(&head.bytes());
            assert_eq!(again, head);
        }
    }

    #[test]
    fn padding_is_not_payload() {
        let head = |flags| FrameHead {
            length: 0,
            kind: Kind::Data,
            flags,
            stream: 1,
        };
        assert_eq!(strip_padding(head(0), b"\x02abc"), Some(&b"\x02abc"[..]));
        for (payload, stripped) in [
            (&b"\x02abc"[..], Some(&b"a"[..])),
            (b"\x03abc", Some(b"")),
            (b"\x00", Some(b"")),
            (b"\x04abc", None),
            (b"", None),
        ] {
            assert_eq!(strip_padding(head(PADDED), payload), stripped);
        }
    }
}
