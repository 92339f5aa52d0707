//! The head of a response (RFC 9112 §4, §6.3): as strict towards a backend as towards a client.
//!
//! The session calls [`parse`] with all bytes received so far, and with what it asked for: the
//! same bytes have another length after a HEAD.

use super::Field;
use super::FieldId;
use super::HeadLimits;
use super::ResponseBody;
use super::Span;
use super::Version;
use super::connection::ConnectionOptions;
use super::connection::apply_connection;
use super::error::UpstreamFault;
use super::fields::Aliases;
use super::fields::end_of_line;
use super::fields::once;
use super::fields::parse_fields;
use super::framing::Coding;
use super::framing::parse_coding;
use super::framing::parse_length;
use super::request::parse_version;
use super::scan::find_control;

/// A parsed head; keep it and parse the next one into it.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Of the status line.
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// All field lines in their order, the dropped ones included.
    pub fields: Vec<Field>,
    /// How the body is framed.
    pub body: ResponseBody,
    /// `Content-Length`, if it was given: HEAD and 304 pass it on without a body.
    pub content_length: Option<u64>,
    /// The backend lets the connection live, and its framing permits it.
    pub keep_alive: bool,
    /// A 1xx other than 101: another head follows.
    pub interim: bool,
    /// 101 to a request for it: the bytes that follow are those of the other protocol.
    pub switching_protocols: bool,
    /// The name of that protocol.
    pub(super) protocol: Span,
    pub(in crate::protocol) has_date: bool,
    pub(super) reason: Span,
    pub(super) line: Span,
}

impl ResponseHead {
    /// The reason phrase, perhaps empty.
    pub fn reason<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.reason.of(buf)
    }

    /// Leaves a field out of what is passed on; the name in any case.
    pub fn drop_fields(&mut self, buf: &[u8], name: &[u8]) {
        for field in &mut self.fields {
            field.drop |= field.name.of(buf).eq_ignore_ascii_case(name);
        }
    }

    /// The values of a field, in their order; the name in any case.
    pub fn values<'a>(&'a self, buf: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        super::fields::values(&self.fields, buf, name)
    }

    pub(in crate::protocol) fn clear(&mut self) {
        self.version = Version::Http11;
        self.status = 0;
        self.fields.clear();
        self.body = ResponseBody::None;
        self.content_length = None;
        self.keep_alive = false;
        self.interim = false;
        self.switching_protocols = false;
        self.protocol = Span::default();
        self.has_date = false;
        self.reason = Span::default();
        self.line = Span::default();
    }
}

/// Parses a response head at the start of `buf` into `head`; results as of
/// [`super::request::parse`].
pub fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    request_method_is_head: bool,
    asked_protocol: Option<&[u8]>,
    head: &mut ResponseHead,
) -> Result<Option<usize>, UpstreamFault> {
    head.clear();
    let bytes_max = limits.head_bytes_max.min(u32::MAX as usize);
    let window = buf.get(..bytes_max).unwrap_or(buf);
    let end = match parse_status_line(window, head)? {
        Some(start) => parse_fields(
            window,
            start,
            limits.header_count_max,
            Aliases::Keep,
            &mut head.fields,
        )?,
        None => None,
    };
    let Some(end) = end else {
        return if buf.len() >= bytes_max {
            Err(UpstreamFault::HeadTooLarge)
        } else {
            Ok(None)
        };
    };
    decide(window, head, request_method_is_head, asked_protocol)?;
    Ok(Some(end))
}

/// `HTTP-version SP status-code SP [reason-phrase] CRLF`. The space before an absent reason is
/// often left out, which nobody can read in another way.
fn parse_status_line(buf: &[u8], head: &mut ResponseHead) -> Result<Option<usize>, UpstreamFault> {
    let Some((version, minor, at)) =
        parse_version(buf, 0).map_err(|_| UpstreamFault::InvalidStatusLine)?
    else {
        return Ok(None);
    };
    head.version = version;
    let Some(status) = buf.get(at..at + 4) else {
        return Ok(None);
    };
    head.status = match status {
        [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => return Err(UpstreamFault::InvalidStatusLine),
    };
    let after = at + status.len();
    let reason_start = match buf.get(after) {
        None => return Ok(None),
        Some(b' ') => after + 1,
        Some(b'\r') => after,
        Some(_) => return Err(UpstreamFault::InvalidStatusLine),
    };
    let reason_end = find_control(buf, reason_start);
    head.reason = Span::new(reason_start, reason_end);
    let end = end_of_line(buf, reason_end).map_err(|_| UpstreamFault::InvalidStatusLine)?;
    // The line of a later minor version is not ours to say.
    if minor <= 1 {
        head.line = Span::new(0, end.unwrap_or_default());
    }
    Ok(end)
}

/// The fields that take part in a decision.
#[derive(Default)]
struct Deciding<'a> {
    coding: Option<&'a [u8]>,
    upgrade: Option<Span>,
    /// It is there, and says `keep-alive`.
    keeps_alive: bool,
    /// It is there, and says something else.
    has_connection: bool,
}

pub(in crate::protocol) fn decide(
    buf: &[u8],
    head: &mut ResponseHead,
    request_method_is_head: bool,
    asked_protocol: Option<&[u8]>,
) -> Result<(), UpstreamFault> {
    let deciding = collect(buf, head)?;
    let options = if deciding.has_connection {
        apply_connection(buf, &mut head.fields).map_err(|_| UpstreamFault::Connection)?
    } else {
        ConnectionOptions {
            keep_alive: deciding.keeps_alive,
            ..ConnectionOptions::default()
        }
    };
    head.keep_alive = options.persists(head.version);
    frame(head, &deciding, request_method_is_head)?;
    head.interim = (100..200).contains(&head.status) && head.status != 101;
    if head.status == 101 {
        let chosen = deciding.upgrade.filter(|protocol| {
            asked_protocol.is_some_and(|asked| protocol.of(buf).eq_ignore_ascii_case(asked))
        });
        let Some(protocol) = chosen.filter(|_| head.version == Version::Http11 && options.upgrade)
        else {
            return Err(UpstreamFault::UnaskedUpgrade);
        };
        head.switching_protocols = true;
        head.protocol = protocol;
    }
    Ok(())
}

fn collect<'a>(buf: &'a [u8], head: &mut ResponseHead) -> Result<Deciding<'a>, UpstreamFault> {
    let mut found = Deciding::default();
    for field in &head.fields {
        let value = field.value.of(buf);
        match field.id {
            FieldId::Other => {}
            FieldId::ContentLength => {
                let length = parse_length(value).ok_or(UpstreamFault::InvalidContentLength)?;
                let fault = UpstreamFault::DuplicateContentLength;
                once(&mut head.content_length, length, fault)?;
            }
            FieldId::TransferEncoding => {
                once(&mut found.coding, value, UpstreamFault::TransferEncoding)?;
            }
            // What most say, and nothing else.
            FieldId::Connection if value == b"keep-alive" => found.keeps_alive = true,
            FieldId::Connection => found.has_connection = true,
            FieldId::Upgrade if head.status == 101 => {
                once(
                    &mut found.upgrade,
                    field.value,
                    UpstreamFault::UnaskedUpgrade,
                )?;
            }
            FieldId::Date => head.has_date = true,
            _ => {}
        }
    }
    Ok(found)
}

/// RFC 9112 §6.3 for responses, without its repairs (T16).
fn frame(
    head: &mut ResponseHead,
    deciding: &Deciding<'_>,
    request_method_is_head: bool,
) -> Result<(), UpstreamFault> {
    if let Some(coding) = deciding.coding {
        if head.content_length.is_some() {
            return Err(UpstreamFault::LengthAndCoding);
        }
        if head.version == Version::Http10 || parse_coding(coding) != Coding::Chunked {
            return Err(UpstreamFault::TransferEncoding);
        }
    }
    if head.status < 200 || head.status == 204 {
        // A length of 0 is a harmless habit; anything else promises bytes that must not come.
        if deciding.coding.is_some() || head.content_length.is_some_and(|length| length > 0) {
            if head.status < 200 {
                return Err(UpstreamFault::FramedWithoutBody);
            }
            // Frameworks do frame a 204. It has no body, but what may follow is no response.
            head.keep_alive = false;
        }
        head.content_length = None;
        head.body = ResponseBody::None;
        return Ok(());
    }
    head.body = match head.content_length {
        _ if request_method_is_head || head.status == 304 => ResponseBody::None,
        Some(length) => ResponseBody::Length(length),
        None if deciding.coding.is_some() => ResponseBody::Chunked,
        None => ResponseBody::UntilClose,
    };
    head.keep_alive &= head.body != ResponseBody::UntilClose;
    Ok(())
}

#[cfg(test)]
mod tests;
