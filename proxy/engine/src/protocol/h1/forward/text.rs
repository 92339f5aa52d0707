//! Heads as the text of HTTP/1.1: lines behind one another.
//!
//! Neighbouring lines that need no change are copied in one run, and what is always said together is
//! appended as one.

use super::writer::{HeadWriter, OwnField, RequestLine};
use crate::protocol::h1::via::Via;
use crate::protocol::h1::{Field, Version};
use crate::protocol::lines::Lines;

impl HeadWriter for Vec<u8> {
    #[inline]
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    #[inline]
    fn request_line(&mut self, line: &RequestLine<'_>) {
        if let Some(verbatim) = line.verbatim() {
            self.extend_from_slice(verbatim);
            return;
        }
        self.extend_from_slice(line.method());
        self.push(b' ');
        self.extend_from_slice(line.path());
        if let Some(query) = line.query() {
            self.push(b'?');
            self.extend_from_slice(query);
        }
        self.extend_from_slice(b" HTTP/1.1\r\n");
    }

    #[inline]
    fn host(&mut self, host: &[u8]) {
        self.extend_from_slice(b"Host: ");
        self.extend_from_slice(host);
        self.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn copy<'a>(&mut self, buf: &[u8], fields: impl Iterator<Item = &'a Field>) {
        let mut run = 0..0;
        for field in fields {
            let start = field.name.start();
            if !field.tidy {
                // White space around the value is ours to write, not the peer's (T11).
                self.extend_from_slice(buf.get(run).unwrap_or_default());
                run = 0..0;
                write_field(self, field.name.of(buf), field.value.of(buf));
                continue;
            }
            let end = field.value.end() + 2;
            if run.end == start {
                run.end = end;
            } else {
                self.extend_from_slice(buf.get(run).unwrap_or_default());
                run = start..end;
            }
        }
        self.extend_from_slice(buf.get(run).unwrap_or_default());
    }

    #[inline(always)]
    fn begin(&mut self, field: OwnField) {
        self.extend_from_slice(field.spelled().1);
    }

    #[inline(always)]
    fn next(&mut self, field: OwnField) {
        self.extend_from_slice(field.spelled().0);
    }

    #[inline(always)]
    fn part(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn end(&mut self) {
        self.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn via(&mut self, via: &Via, version: Version, request_id: &[u8]) {
        self.extend_from_slice(via.line(version));
        self.extend_from_slice(request_id);
        self.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn lines(&mut self, lines: Lines<'_>) {
        lines.write(self);
    }

    #[inline]
    fn chunked(&mut self) {
        self.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }

    #[inline]
    fn finish(&mut self, te_trailers: bool, keep_alive: bool) {
        // RFC 9110 §10.1.4: who sends TE must list it in Connection.
        self.extend_from_slice(match (te_trailers, keep_alive) {
            (true, true) => b"TE: trailers\r\nConnection: TE\r\n\r\n".as_slice(),
            (true, false) => b"TE: trailers\r\nConnection: TE, close\r\n\r\n",
            (false, true) => b"\r\n",
            (false, false) => b"Connection: close\r\n\r\n",
        });
    }

    #[inline]
    fn finish_switching(&mut self, protocol: &[u8]) {
        self.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        self.extend_from_slice(protocol);
        self.extend_from_slice(b"\r\n\r\n");
    }
}

impl OwnField {
    /// Its name behind another line's value, and at the beginning of a line.
    #[inline(always)]
    pub(in crate::protocol) const fn spelled(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::ClientCert => (b"\r\nClient-Cert: ", b"Client-Cert: "),
            Self::ContentLength => (b"\r\nContent-Length: ", b"Content-Length: "),
            Self::EarlyData => (b"\r\nEarly-Data: ", b"Early-Data: "),
            Self::Expect => (b"\r\nExpect: ", b"Expect: "),
            Self::Forwarded => (b"\r\nForwarded: ", b"Forwarded: "),
            Self::Te => (b"\r\nTE: ", b"TE: "),
            Self::Via => (b"\r\nVia: ", b"Via: "),
            Self::XForwardedFor => (b"\r\nX-Forwarded-For: ", b"X-Forwarded-For: "),
            Self::XForwardedHost => (b"\r\nX-Forwarded-Host: ", b"X-Forwarded-Host: "),
            Self::XForwardedPort => (b"\r\nX-Forwarded-Port: ", b"X-Forwarded-Port: "),
            Self::XForwardedProto => (b"\r\nX-Forwarded-Proto: ", b"X-Forwarded-Proto: "),
            Self::XRequestId => (b"\r\nX-Request-Id: ", b"X-Request-Id: "),
        }
    }
}

pub(in crate::protocol::h1) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(in crate::protocol::h1) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
