//! How long a body is: the answers, and the two fields that give them.
//!
//! Every rule that decides where a message ends lives here or in the `frame` functions of
//! `request.rs` and `response.rs`; a value that is not plainly one thing is refused.

use super::fields::is_token;

/// The body of a request (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestBody {
    /// Neither length nor coding was given.
    #[default]
    None,
    /// `Content-Length`; 0 is kept apart from none, because some backends demand the field.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The body of a response (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseBody {
    /// To HEAD, or with 1xx, 204 or 304: none, whatever the fields say.
    #[default]
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The body ends where the connection does.
    UntilClose,
}

/// How a body is delivered to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No body follows. The length that the backend gave for HEAD or with 304 is passed on.
    NoBody,
    /// Exactly so many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// The rest of the connection is the body: for HTTP/1.0 clients and unknown length only.
    UntilClose,
}

/// A value of `Transfer-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Chunked,
    /// Chunked at last, of something else.
    Unknown,
    /// Not chunked at last: nobody can tell where such a body ends (RFC 9112 §6.3).
    Endless,
    Malformed,
}

/// Reads `Content-Length = 1*DIGIT` (RFC 9110 §8.6): no sign, no list, no white space, no
/// overflow (T10). The bound of 2^63 leaves room for arithmetic and for peers with signed lengths.
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (length <= LENGTH_MAX).then_some(length)
}

/// Reads `Transfer-Encoding` (RFC 9112 §6.1, T11): only `chunked` alone is served; a well-formed
/// list that holds something else is unknown or endless, and all the rest an attempt at obfuscation.
pub(super) fn parse_coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let (mut chunked, mut ends_chunked) = (0, false);
    for coding in value.split(|&byte| byte == b',') {
        let coding = coding.trim_ascii();
        if !is_token(coding) {
            return Coding::Malformed;
        }
        ends_chunked = coding.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(ends_chunked);
    }
    match ends_chunked {
        _ if chunked > 1 => Coding::Malformed,
        true => Coding::Unknown,
        false => Coding::Endless,
    }
}

/// The longest length accepted, in bytes.
const LENGTH_MAX: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t10_a_length_is_digits_only() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"0042"), Some(42));
        assert_eq!(parse_length(b"9223372036854775807"), Some(LENGTH_MAX));
        for bad in [
            "",
            "+5",
            "-5",
            "0x5",
            "5,5",
            "5, 5",
            "5 ",
            " 5",
            "5_0",
            "5.0",
            "1e3",
            "\u{665}",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn t11_only_one_chunked_is_served() {
        for good in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(parse_coding(good.as_bytes()), Coding::Chunked);
        }
        for (value, coding) in [
            ("gzip, chunked", Coding::Unknown),
            ("identity, Chunked", Coding::Unknown),
            ("gzip", Coding::Endless),
            ("identity", Coding::Endless),
            ("x", Coding::Endless),
            ("chunked, gzip", Coding::Endless),
            ("xchunked", Coding::Endless),
        ] {
            assert_eq!(parse_coding(value.as_bytes()), coding, "{value:?}");
        }
        for bad in [
            "",
            ",chunked",
            "chunked,",
            "chunked,chunked",
            "chunked, Chunked",
            "chunked;q=1",
            "\"chunked\"",
            "chun ked",
            "chunked chunked",
            "gzip,,chunked",
        ] {
            assert_eq!(parse_coding(bad.as_bytes()), Coding::Malformed, "{bad:?}");
        }
    }
}
