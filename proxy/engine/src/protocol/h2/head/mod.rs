//! Heads: from header blocks into the form that HTTP/1.1 heads have.
//!
//! Rule: there is one form of a head in this engine, a text of field lines and the offsets into it
//! ([`RequestHead`], [`ResponseHead`]), and one place where each decision about it is taken, which
//! is `protocol::h1`. A block is decoded straight into such a text; the decisions on host, path,
//! length and expectation are the very functions that HTTP/1.1 heads pass. So routing, forwarding
//! and `write_request` work on a head whatever it came by, and a rule that holds for one protocol
//! holds for the other (T17).
//!
//! The order in a text does not matter to those who read by offsets: the pseudo-header fields stay
//! where they were decoded, and are read there. A line of HTTP/1.1 is written where one is sent, and nowhere before.

mod request;
mod response;

#[cfg(test)]
mod tests;

use super::error::ConnectionFault;
use super::error::HeadFault;
use super::hpack::Decoder;
use super::hpack::Line;
use super::priority::Priority;
use crate::protocol::h1::Field;
use crate::protocol::h1::FieldFault;
use crate::protocol::h1::FieldId;
use crate::protocol::h1::HeadLimits;
use crate::protocol::h1::Reject;
use crate::protocol::h1::RequestHead;
use crate::protocol::h1::ResponseHead;
use crate::protocol::h1::Span;
use crate::protocol::h1::UpstreamFault;
use crate::protocol::h1::chunked::may_trail;
use crate::protocol::h1::fields::Aliases;
use crate::protocol::h1::fields::lower_token;
use crate::protocol::h1::scan::find_control;
use crate::protocol::lines::{LineBuf, Lines};

pub(super) use response::Asked;

/// The head that was read last: one for all connections of a loop, and reused for each.
#[derive(Debug, Default)]
pub struct Heads {
    /// After [`super::Event::Request`].
    pub request: RequestHead,
    /// After [`super::Event::Response`] and [`super::Event::Interim`].
    pub response: ResponseHead,
    text: Vec<u8>,
    pseudo: [Option<Span>; PSEUDO_COUNT],
    /// The fields of a trailer section.
    section: Vec<Field>,
    trailers: LineBuf,
    /// The crumbs of `cookie`, joined.
    cookie: Vec<u8>,
    priority: Priority,
    has_field: bool,
    nonce: u64,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Request,
    Response,
    Trailers,
    /// That of a stream which is gone: it is only decoded, for the sake of the table.
    Discarded,
}

/// The pseudo-header fields (RFC 9113 §8.3, RFC 8441 §4).
#[derive(Clone, Copy)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

const PSEUDO_COUNT: usize = 6;

impl Heads {
    /// A place for heads. `seed` makes the keys of WebSocket handshakes towards HTTP/1.1 backends
    /// differ between processes (RFC 6455 §4.1).
    pub fn new(seed: u64) -> Self {
        Self {
            nonce: seed,
            ..Self::default()
        }
    }

    /// The buffer that [`Heads::request`] and [`Heads::response`] are offsets into.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// [`Heads::request`], to be changed, and the buffer that it is offsets into.
    pub fn request_and_text(&mut self) -> (&mut RequestHead, &[u8]) {
        (&mut self.request, &self.text)
    }

    /// What was read of a request that is refused: method, authority and path, as they came.
    pub fn attempted(&self) -> (&[u8], &[u8], &[u8]) {
        let said = |pseudo| {
            self.pseudo(pseudo)
                .map_or(&[][..], |span| span.of(&self.text))
        };
        (
            said(Pseudo::Method),
            said(Pseudo::Authority),
            said(Pseudo::Path),
        )
    }

    /// After [`super::Event::Trailers`]: the fields that may be passed on.
    pub fn trailers(&self) -> Lines<'_> {
        self.trailers.lines()
    }

    /// How urgent the request is, as its client sees it (RFC 9218).
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Decodes a whole block. The inner verdict is on the head alone; the block is decoded to its
    /// end in any case, as the next one depends on it (RFC 9113 §4.3), unless that has more than
    /// `bytes_max`, which ends the connection.
    pub(super) fn read(
        &mut self,
        decoder: &mut Decoder,
        mut block: &[u8],
        section: Section,
        limits: &HeadLimits,
        bytes_max: usize,
    ) -> Result<Result<(), HeadFault>, ConnectionFault> {
        self.clear();
        decoder.begin();
        let mut verdict = Ok(());
        let mut size = Size::default();
        while let Some(line) = decoder.next(&mut block, &mut self.text)? {
            size.add(line, self.text[line.name_start] != b':');
            if size.bytes > bytes_max {
                return Err(ConnectionFault::HeaderBlock);
            }
            if verdict.is_ok() && section != Section::Discarded {
                verdict = match size.fault(limits, section) {
                    None => self.line(line, section),
                    Some(fault) => Err(fault),
                };
            }
            if verdict.is_err() || section == Section::Discarded {
                self.text.truncate(line.name_start);
            }
        }
        if verdict.is_ok() && !self.cookie.is_empty() {
            self.join_cookie(section);
        }
        if verdict.is_ok() && section == Section::Trailers {
            self.keep_trailers();
        }
        Ok(verdict)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.pseudo = [None; PSEUDO_COUNT];
        self.cookie.clear();
        self.request.clear();
        self.response.clear();
        self.section.clear();
        self.trailers.clear();
        self.priority = Priority::default();
        self.has_field = false;
    }

    #[inline]
    fn line(&mut self, line: Line, section: Section) -> Result<(), HeadFault> {
        let name = Span::new(line.name_start, line.name_end);
        let value = Span::new(line.value_start(), line.value_end);
        let name_bytes = name.of(&self.text);
        let value_bytes = value.of(&self.text);
        check_value(value_bytes)?;
        if name_bytes.first() == Some(&b':') {
            return self.pseudo_field(name, value, section);
        }
        self.has_field = true;
        let underscore = lower_token(name_bytes).ok_or(HeadFault::InvalidName)?;
        let id = FieldId::of(name_bytes);
        check_connection_field(id, value_bytes)?;
        if id == FieldId::Other {
            match name_bytes {
                b"cookie" => {
                    // RFC 9113 §8.2.3: crumbs, to be joined before they leave HTTP/2.
                    if !self.cookie.is_empty() {
                        self.cookie.extend_from_slice(b"; ");
                    }
                    self.cookie.extend_from_slice(value_bytes);
                    self.text.truncate(line.name_start);
                    return Ok(());
                }
                b"priority" => self.priority = Priority::parse(value_bytes),
                _ => {}
            }
        }
        let aliases = match section {
            Section::Response => Aliases::Keep,
            Section::Request | Section::Trailers | Section::Discarded => Aliases::Drop,
        };
        let drop = id.is_hop_by_hop() || (underscore && aliases.suppress(name_bytes));
        self.fields(section)
            .push(Field::written(name, value, id, drop));
        Ok(())
    }

    fn fields(&mut self, section: Section) -> &mut Vec<Field> {
        match section {
            Section::Request => &mut self.request.fields,
            Section::Response => &mut self.response.fields,
            Section::Trailers | Section::Discarded => &mut self.section,
        }
    }

    fn pseudo_field(&mut self, name: Span, value: Span, section: Section) -> Result<(), HeadFault> {
        let pseudo = match (section, name.of(&self.text)) {
            (Section::Request, b":method") => Pseudo::Method,
            (Section::Request, b":scheme") => Pseudo::Scheme,
            (Section::Request, b":authority") => Pseudo::Authority,
            (Section::Request, b":path") => Pseudo::Path,
            (Section::Request, b":protocol") => Pseudo::Protocol,
            (Section::Response, b":status") => Pseudo::Status,
            _ => return Err(HeadFault::UnexpectedPseudo),
        };
        if self.has_field {
            return Err(HeadFault::UnexpectedPseudo);
        }
        match self.pseudo[pseudo as usize].replace(value) {
            None => Ok(()),
            Some(_) => Err(HeadFault::DuplicatePseudo),
        }
    }

    fn pseudo(&self, pseudo: Pseudo) -> Option<Span> {
        self.pseudo[pseudo as usize]
    }

    fn join_cookie(&mut self, section: Section) {
        let cookie = std::mem::take(&mut self.cookie);
        self.append(section, b"cookie", &cookie);
        self.cookie = cookie;
    }

    /// Appends a line of our own.
    fn append(&mut self, section: Section, name: &[u8], value: &[u8]) {
        let name_start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        let value_start = self.text.len();
        self.text.extend_from_slice(value);
        let value = Span::new(value_start, self.text.len());
        self.text.extend_from_slice(b"\r\n");
        let name = Span::new(name_start, value_start - 2);
        let id = FieldId::of(name.of(&self.text));
        self.fields(section)
            .push(Field::written(name, value, id, id.is_hop_by_hop()));
    }

    fn keep_trailers(&mut self) {
        for field in &self.section {
            let name = field.name.of(&self.text);
            if may_trail(field, name) {
                self.trailers.push(name, field.value.of(&self.text));
            }
        }
    }
}

/// What a block has cost so far.
#[derive(Default)]
struct Size {
    bytes: usize,
    fields: usize,
}

impl Size {
    /// RFC 9113 §6.5.2: 32 bytes for each field, cookie crumbs as well (T04).
    fn add(&mut self, line: Line, is_field: bool) {
        self.bytes += line.value_end - line.name_start + 30;
        self.fields += usize::from(is_field);
    }

    fn fault(&self, limits: &HeadLimits, section: Section) -> Option<HeadFault> {
        let is_response = section == Section::Response;
        if self.bytes > limits.head_bytes_max {
            return Some(if is_response {
                UpstreamFault::HeadTooLarge.into()
            } else {
                Reject::HeadTooLarge.into()
            });
        }
        if self.fields > limits.header_count_max {
            return Some(if is_response {
                UpstreamFault::from(FieldFault::TooMany).into()
            } else {
                Reject::from(FieldFault::TooMany).into()
            });
        }
        None
    }
}

/// RFC 9113 §8.2.1.
#[inline]
fn check_value(value: &[u8]) -> Result<(), HeadFault> {
    let is_padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if find_control(value, 0) < value.len() || is_padded(value.first()) || is_padded(value.last()) {
        return Err(HeadFault::InvalidValue);
    }
    Ok(())
}

/// RFC 9113 §8.2.2.
#[inline]
fn check_connection_field(id: FieldId, value: &[u8]) -> Result<(), HeadFault> {
    match id {
        FieldId::Connection
        | FieldId::KeepAlive
        | FieldId::ProxyConnection
        | FieldId::TransferEncoding
        | FieldId::Upgrade => Err(HeadFault::ConnectionField),
        FieldId::Te if !value.eq_ignore_ascii_case(b"trailers") => Err(HeadFault::ConnectionField),
        _ => Ok(()),
    }
}
