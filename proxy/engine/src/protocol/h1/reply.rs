//! Responses of our own: the errors that the engine answers with.

use super::forward::text::write_field;
use super::forward::text::write_number;
use super::scan::find_control;
use crate::protocol::lines::Lines;

/// The head of an answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct OwnHead<'a> {
    /// The status.
    pub status: u16,
    /// The value of `Date`.
    pub date: &'a [u8],
    /// The value of `Content-Type`.
    pub content_type: &'a str,
    /// The value of `X-Request-Id`; empty for what is no request.
    pub request_id: &'a str,
    /// Lines of our own.
    pub extra: [Lines<'a>; 4],
    /// Names of fields that are left out, in any case; lines in `extra` are not among them.
    pub dropped: &'a [Box<str>],
    /// How long the body is, sent or not. `None` where nothing is to be told of one (RFC 9110 §8.6, §15.4.5).
    pub length: Option<u64>,
    /// The connection ends after it.
    pub close: bool,
}

impl<'a> OwnHead<'a> {
    /// The fields of one value, without those that are not to be sent.
    pub(in crate::protocol) fn fields(&self) -> impl Iterator<Item = (&'static [u8], &'a [u8])> {
        let fields: [(&[u8], &[u8]); 3] = [
            (b"Date", self.date),
            (b"Content-Type", self.content_type.as_bytes()),
            (b"X-Request-Id", self.request_id.as_bytes()),
        ];
        let dropped = self.dropped;
        // The page comes from the configuration, and is the only text here that a person wrote.
        let is_sent = move |(name, value): &(&[u8], &[u8])| {
            !value.is_empty() && find_control(value, 0) == value.len() && !is_among(dropped, name)
        };
        fields.into_iter().filter(is_sent)
    }

    /// The field that keeps answers of our own out of caches.
    pub(in crate::protocol) fn not_stored(&self) -> Option<(&'static [u8], &'static [u8])> {
        const NOT_STORED: (&[u8], &[u8]) = (b"Cache-Control", b"no-store");
        (!is_among(self.dropped, NOT_STORED.0)).then_some(NOT_STORED)
    }
}

fn is_among(dropped: &[Box<str>], name: &[u8]) -> bool {
    dropped
        .iter()
        .any(|drop| drop.as_bytes().eq_ignore_ascii_case(name))
}

/// Appends a head of our own as HTTP/1.1 has it.
pub fn write_own(out: &mut Vec<u8>, head: &OwnHead<'_>) {
    out.reserve(OWN_BYTES + head.content_type.len() + head.request_id.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.fields() {
        write_field(out, name, value);
    }
    for own in head.extra {
        own.write(out);
    }
    if let Some(length) = head.length {
        out.extend_from_slice(b"Content-Length: ");
        write_number(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if let Some((name, value)) = head.not_stored() {
        write_field(out, name, value);
    }
    if head.close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The media type of [`default_error_body`]: text, so that nothing in it can be markup.
pub const DEFAULT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Appends the page for a status that the configuration has none for.
pub fn default_error_body(out: &mut Vec<u8>, status: u16, request_id: &str) {
    write_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.push(b'\n');
    if !request_id.is_empty() {
        out.extend_from_slice(b"request ");
        out.extend_from_slice(request_id.as_bytes());
        out.push(b'\n');
    }
}

/// The phrase of the registry for a status that the engine, an error page, or often a backend of
/// HTTP/2 uses, which has none itself.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ if status < 400 => "",
        _ => "Error",
    }
}

/// Bytes of the lines that are always there.
const OWN_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::lines::LineBuf;

    fn error(content_type: &str, close: bool) -> String {
        let line = LineBuf::one(b"A", b"b");
        let none = Lines::default();
        let head = OwnHead {
            status: 503,
            date: b"today",
            content_type,
            request_id: "id",
            extra: [none, line.lines(), none, none],
            dropped: &[],
            length: Some(4),
            close,
        };
        let mut out = Vec::new();
        write_own(&mut out, &head);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_to_the_byte() {
        assert_eq!(
            error("text/html", true),
            "HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Type: text/html\r\n\
             X-Request-Id: id\r\nA: b\r\nContent-Length: 4\r\nCache-Control: no-store\r\n\
             Connection: close\r\n\r\n"
        );
        assert!(
            error("text/html", false)
                .ends_with("Content-Length: 4\r\nCache-Control: no-store\r\n\r\n")
        );
    }

    #[test]
    fn t16_a_page_cannot_split_the_response() {
        let written = error("text/html\r\nSet-Cookie: a", false);
        assert!(!written.contains("Set-Cookie"));
    }

    #[test]
    fn the_default_page_is_text() {
        let mut out = Vec::new();
        default_error_body(&mut out, 404, "id");
        assert_eq!(out, b"404 Not Found\nrequest id\n");
        assert_eq!(reason_phrase(599), "Error");
    }
}
