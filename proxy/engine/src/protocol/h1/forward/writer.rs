//! What a request's head is told to on its way to a backend.
//!
//! Rule: a writer decides how something is said, and never what: that is `forward`'s. There is one for each
//! form that heads leave in, `text` and `protocol::h2::list`; a property test holds them against each other.

use crate::protocol::h1::via::Via;
use crate::protocol::h1::{Field, RequestHead, Version};
use crate::protocol::lines::Lines;

/// Takes a head, part by part: its line, its host, and then its fields in their order.
pub trait HeadWriter {
    /// So many bytes of text may come.
    fn make_room(&mut self, bytes: usize);

    /// What is asked for.
    fn request_line(&mut self, line: &RequestLine<'_>);

    /// Of whom it is asked.
    fn host(&mut self, host: &[u8]);

    /// Fields that stay as they came in `buf`.
    fn copy<'a>(&mut self, buf: &[u8], fields: impl Iterator<Item = &'a Field>);

    /// Begins a field of ours, whose value follows.
    fn begin(&mut self, field: OwnField);

    /// Ends the one that was begun, and begins another one.
    fn next(&mut self, field: OwnField);

    /// A part of the value of the field that was begun.
    fn part(&mut self, bytes: &[u8]);

    /// Ends the field that was begun.
    fn end(&mut self);

    /// A whole field of ours.
    #[inline]
    fn field(&mut self, field: OwnField, value: &[u8]) {
        self.begin(field);
        self.part(value);
        self.end();
    }

    /// A part of a value that is a number.
    #[inline]
    fn number(&mut self, number: u64) {
        self.part(itoa::Buffer::new().format(number).as_bytes());
    }

    /// By what it came to us, and what we call it.
    fn via(&mut self, via: &Via, version: Version, request_id: &[u8]);

    /// Lines that the configuration has asked for.
    fn lines(&mut self, lines: Lines<'_>);

    /// The body has no length; of the others a field tells it.
    fn chunked(&mut self);

    /// The last word, on the connection and on trailers.
    fn finish(&mut self, te_trailers: bool, keep_alive: bool);

    /// The last word of a head that asks for another protocol.
    fn finish_switching(&mut self, protocol: &[u8]);
}

/// The first line of a request: what it was read from, and what is said instead.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The bytes of the head.
    pub buf: &'a [u8],
    /// The head that was read there.
    pub head: &'a RequestHead,
    /// Another method.
    pub method: Option<&'a [u8]>,
    /// Another path, with its query.
    pub target: Option<&'a [u8]>,
}

impl<'a> RequestLine<'a> {
    /// The line as it came, with its CRLF, if one came and that is how HTTP/1.1 passes it on.
    #[inline]
    #[must_use]
    pub fn verbatim(&self) -> Option<&'a [u8]> {
        let is_verbatim = self.head.target.verbatim
            && self.head.version == Version::Http11
            && self.target.is_none()
            && self.method.is_none();
        is_verbatim.then(|| self.head.line.of(self.buf))
    }

    /// The method.
    #[inline]
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.method.unwrap_or(self.head.method(self.buf))
    }

    /// The path, with a query if there is none apart.
    #[inline]
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.target.unwrap_or(self.head.path(self.buf))
    }

    /// What stands behind a `?`.
    #[inline]
    #[must_use]
    pub fn query(&self) -> Option<&'a [u8]> {
        self.head.query(self.buf).filter(|_| self.target.is_none())
    }
}

/// A field that the proxy itself has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OwnField {
    /// `Client-Cert` (RFC 9440).
    ClientCert,
    /// `Content-Length`.
    ContentLength,
    /// `Early-Data` (RFC 8470).
    EarlyData,
    /// `Expect`.
    Expect,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `TE`.
    Te,
    /// `Via`.
    Via,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `X-Forwarded-Port`.
    XForwardedPort,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// `X-Request-Id`.
    XRequestId,
}
