//! What a client of gRPC is told where the proxy itself has the answer: a status that it understands.
//!
//! Such a client reads `grpc-status` and shows `grpc-message`; a page is nothing to it. The status of
//! HTTP stays what it is beside them, for logs and for proxies on the way. Called by the session when
//! it makes up an answer; requests that are answered by backends never come here.

use super::h2::ErrorCode;
use super::lines::LineBuf;

/// Whether a `Content-Type` is that of a gRPC call; the form for browsers has trailers of its own.
#[must_use]
pub fn is_call(content_type: &[u8]) -> bool {
    let Some((name, rest)) = content_type.split_at_checked(CONTENT_TYPE.len()) else {
        return false;
    };
    name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
        && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The status that a call ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// Where the answer is one of HTTP. As the project of gRPC maps them ("HTTP to gRPC Status Code Mapping"),
    /// and what it says nothing of: too large is exhausted, too late is the deadline.
    #[must_use]
    pub fn of_http(status: u16) -> Self {
        Self(match status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 | 501 => 12,
            408 => 4,
            413 | 431 => 8,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    /// Where a backend has given the call up by a code of HTTP/2, as the same project maps these ("Errors").
    #[must_use]
    pub fn of_reset(code: ErrorCode) -> Self {
        Self(match code {
            ErrorCode::RefusedStream => 14,
            ErrorCode::Cancel => 1,
            ErrorCode::EnhanceYourCalm => 8,
            ErrorCode::InadequateSecurity => 7,
            _ => 13,
        })
    }

    /// Appends the lines that say it. `message` is printable ASCII without `%`.
    pub fn write(self, message: &str, lines: &mut LineBuf) {
        let Self(status) = self;
        lines.push(b"grpc-status", status.to_string().as_bytes());
        lines.push(b"grpc-message", message.as_bytes());
    }
}

/// The `Content-Type` of such an answer.
pub const CONTENT_TYPE: &str = "application/grpc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_type() {
        for call in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC;charset=x",
        ] {
            assert!(is_call(call.as_bytes()), "{call}");
        }
        for other in ["application/grpc-web", "application/json", "", "text/plain"] {
            assert!(!is_call(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_status_of_http_has_one_of_grpc() {
        let mut lines = LineBuf::default();
        Status::of_http(503).write("Service Unavailable", &mut lines);
        assert_eq!(
            lines.lines().to_text(),
            b"grpc-status: 14\r\ngrpc-message: Service Unavailable\r\n"
        );
        let of_http = [404, 413, 408, 500].map(Status::of_http);
        assert_eq!(of_http, [12, 8, 4, 2].map(Status));
    }

    #[test]
    fn a_code_of_http_2_has_one_of_grpc() {
        use ErrorCode::{Cancel, EnhanceYourCalm, InadequateSecurity, Internal, RefusedStream};
        let codes = [
            Cancel,
            EnhanceYourCalm,
            InadequateSecurity,
            Internal,
            RefusedStream,
        ];
        let expected = [1, 8, 7, 13, 14].map(Status);
        assert_eq!(codes.map(Status::of_reset), expected);
    }
}
