//! The head of a request (RFC 9112 §3, §5): one strict pass, then the decisions that it takes.
//!
//! The session calls [`parse`] with all bytes received so far and its reusable [`RequestHead`].
//! Everything that leaves this file is decided: one host, one normal path, one framing.

use super::Field;
use super::FieldId;
use super::RequestBody;
use super::Span;
use super::Version;
use super::authority::Authority;
use super::authority::parse_authority;
use super::connection::ConnectionOptions;
use super::connection::apply_connection;
use super::error::Reject;
use super::fields::Aliases;
use super::fields::end_of_line;
use super::fields::is_token;
use super::fields::once;
use super::fields::parse_fields;
use super::framing::Coding;
use super::framing::parse_coding;
use super::framing::parse_length;
use super::target::Slashes;
use super::target::Target;
use super::target::parse_target;

/// What a head may cost. For the requests of a listener and for the responses of a cluster alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, from the first one to the empty line inclusive.
    pub head_bytes_max: usize,
    /// Field lines.
    pub header_count_max: usize,
}

/// A parsed head; keep it and parse the next one into it.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// How the next head is read; the caller sets it before, and it stays.
    pub slashes: Slashes,
    /// Of the request line.
    pub version: Version,
    /// All field lines in their order, the dropped ones included.
    pub fields: Vec<Field>,
    /// How the body is framed.
    pub body: RequestBody,
    /// The client lets the connection live (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// A valid handshake for another protocol: its name. Whether it is passed on is not decided here.
    pub(in crate::protocol) upgrade: Option<Span>,
    /// A handshake for WebSocket in a version that is not carried: its client is told which one is
    /// (RFC 6455 §4.4).
    pub wants_other_websocket: bool,
    /// Others say that it has come through them ([`super::via`]).
    pub is_passed_on: bool,
    /// The client takes a trailer section (RFC 9110 §10.1.4).
    pub te_trailers: bool,
    pub(in crate::protocol) method: Span,
    pub(in crate::protocol) target: Target,
    /// From the method to the first field.
    pub(in crate::protocol) line: Span,
    pub(super) authority: Authority,
    pub(in crate::protocol) scratch: Vec<u8>,
}

impl RequestHead {
    /// The protocol that the client asks to switch to, as it wrote it (RFC 9110 §7.8).
    pub fn upgrade<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        self.upgrade.map(|protocol| protocol.of(buf))
    }

    /// The method, case-sensitive.
    pub fn method<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.method.of(buf)
    }

    /// The host for routing: lower case, no trailing dot, IPv6 in brackets and in the spelling of
    /// RFC 5952; empty for HTTP/1.0 without `Host`.
    pub fn host<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        self.authority.host(buf, &self.scratch)
    }

    /// The same host with its port, if it has one: what is sent on as `Host`.
    pub fn authority<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        self.authority.text.of(buf, &self.scratch)
    }

    /// The normal path (see [`super::target::normalise_path`]), or `*`.
    pub fn path<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        self.target.path.of(buf, &self.scratch)
    }

    /// Whether its path came without escapes and parameters, so that nobody reads another one in it.
    #[inline]
    pub fn has_plain_path(&self) -> bool {
        self.target.is_plain
    }

    /// What follows the first `?`: as it came, but for characters that have to be escaped.
    pub fn query<'a>(&'a self, buf: &'a [u8]) -> Option<&'a [u8]> {
        self.target.query.map(|query| query.of(buf, &self.scratch))
    }

    /// The target as it came, for logs.
    pub fn target_raw<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.target.raw.of(buf)
    }

    /// The values of a field, in their order; the name in any case. Suppressed fields are not
    /// seen, so that nothing is matched that the backend will not get (T20).
    pub fn values<'a>(&'a self, buf: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        super::fields::values(&self.fields, buf, name)
    }

    /// The name that the peer gave to the request, if there is one and it is harmless. To be asked
    /// for only if the peer is trusted.
    pub fn request_id<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        let mut ids = self
            .fields
            .iter()
            .filter(|field| field.id == FieldId::XRequestId);
        let id = ids.next()?.value.of(buf);
        let is_harmless = ids.next().is_none()
            && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.iter().all(u8::is_ascii_graphic);
        is_harmless.then_some(id)
    }

    /// Suppresses all that an untrusted peer says about the client (T22): to be called before
    /// routing, so that no frontend matches it.
    pub fn drop_forwarding_fields(&mut self) {
        for field in &mut self.fields {
            if field.id.is_about_client() {
                field.drop = true;
            }
        }
    }

    /// Leaves a field out of what is passed on: the name in any case, and spelled with `_`, too, which a
    /// backend may take for the same (T21).
    pub fn drop_fields(&mut self, buf: &[u8], name: &[u8]) {
        for field in &mut self.fields {
            field.drop |= is_alias(field.name.of(buf), name);
        }
    }

    /// Suppresses all fields whose names have an underscore, for listeners that want none.
    pub fn drop_underscores(&mut self, buf: &[u8]) {
        for field in &mut self.fields {
            field.drop |= memchr::memchr(b'_', field.name.of(buf)).is_some();
        }
    }

    /// What a refused request was, as far as it can be told from `buf`, which begins with it: the
    /// method and the target, cut where they are no words of a request line.
    pub fn attempted<'a>(&self, buf: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let method = self.method.of(buf);
        let from = buf.get(self.method.end() + 1..).unwrap_or_default();
        let end = from
            .iter()
            .position(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
        let target = from
            .get(..end.unwrap_or(from.len()).min(TARGET_TOLD_BYTES_MAX))
            .filter(|_| !method.is_empty())
            .unwrap_or_default();
        (method, target)
    }

    pub(in crate::protocol) fn clear(&mut self) {
        self.version = Version::Http11;
        self.fields.clear();
        self.body = RequestBody::None;
        self.keep_alive = false;
        self.expect_continue = false;
        self.upgrade = None;
        self.wants_other_websocket = false;
        self.is_passed_on = false;
        self.te_trailers = false;
        self.method = Span::default();
        self.target = Target::default();
        self.line = Span::default();
        self.authority = Authority::default();
        self.scratch.clear();
    }
}

/// Whether two names are one for those who read `_` as `-`, and letters in any case.
fn is_alias(one: &[u8], other: &[u8]) -> bool {
    let read = |byte: &u8| match byte {
        b'_' => b'-',
        _ => byte.to_ascii_lowercase(),
    };
    one.len() == other.len() && one.iter().map(read).eq(other.iter().map(read))
}

/// Parses a request head at the start of `buf` into `head`.
///
/// `Ok(None)` asks for more bytes; `Ok(Some(length))` says where the body begins, empty lines
/// before the request line included. The verdict does not depend on how the bytes arrive. See
/// [`super::is_worth_parsing`] for peers that send a byte at a time.
pub fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Option<usize>, Reject> {
    head.clear();
    let bytes_max = limits.head_bytes_max.min(u32::MAX as usize);
    let window = buf.get(..bytes_max).unwrap_or(buf);
    let is_full = buf.len() >= bytes_max;
    let Some(fields_start) = parse_request_line(window, head)? else {
        // Exact: a head of `head_bytes_max` bytes would have been complete (T27).
        return if is_full {
            Err(Reject::TargetTooLong)
        } else {
            Ok(None)
        };
    };
    let end = parse_fields(
        window,
        fields_start,
        limits.header_count_max,
        Aliases::Drop,
        &mut head.fields,
    )?;
    let Some(end) = end else {
        return if is_full {
            Err(Reject::HeadTooLarge)
        } else {
            Ok(None)
        };
    };
    decide(window, head)?;
    Ok(Some(end))
}

/// `method SP request-target SP HTTP-version CRLF`, with exactly one space each; returns the
/// offset after it.
fn parse_request_line(buf: &[u8], head: &mut RequestHead) -> Result<Option<usize>, Reject> {
    let Some(start) = skip_empty_lines(buf)? else {
        return Ok(None);
    };
    let mut at = start;
    while buf.get(at).is_some_and(is_method_byte) {
        at += 1;
    }
    if at - start > METHOD_BYTES_MAX {
        return Err(Reject::MethodTooLong);
    }
    match buf.get(at) {
        None => return Ok(None),
        Some(b' ') if at > start => {}
        Some(_) => return Err(Reject::InvalidMethod),
    }
    head.method = Span::new(start, at);
    let method = head.method.of(buf);
    if method == b"CONNECT" {
        return Err(Reject::ConnectMethod);
    }
    let target = parse_target(buf, at + 1, method, head.slashes, &mut head.scratch)?;
    let Some(target) = target else {
        return Ok(None);
    };
    head.target = target;
    let Some((version, minor, after)) = parse_version(buf, target.raw.end() + 1)? else {
        return Ok(None);
    };
    head.version = version;
    // The line of a later minor version is not ours to say.
    head.target.verbatim &= minor == 1;
    let end = end_of_line(buf, after).map_err(|_| Reject::InvalidRequestLine)?;
    head.line = Span::new(start, end.unwrap_or_default());
    Ok(end)
}

/// RFC 9110 §9.1 allows any token. Registered methods are capitals, and a method such as `head` or
/// `connect` that some backend takes for the real one changes the framing.
#[inline]
pub(in crate::protocol) fn is_method_byte(byte: &u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_')
}

/// RFC 9112 §2.2: a server should ignore at least one empty line before the request line.
fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, Reject> {
    let mut at = 0;
    loop {
        match (buf.get(at), buf.get(at + 1)) {
            (None, _) | (Some(b'\r'), None) => return Ok(None),
            (Some(b'\r'), Some(b'\n')) if at < EMPTY_LINES_MAX * 2 => at += 2,
            (Some(b'\r' | b'\n'), _) => return Err(Reject::InvalidRequestLine),
            _ => return Ok(Some(at)),
        }
    }
}

/// `HTTP/DIGIT.DIGIT` (RFC 9112 §2.3): the version, its minor digit, and the offset after it. A later
/// minor version is served as the highest one that we know (RFC 9110 §6.2).
pub(super) fn parse_version(buf: &[u8], at: usize) -> Result<Option<(Version, u8, usize)>, Reject> {
    const NAME: &[u8] = b"HTTP/";
    let rest = buf.get(at..).unwrap_or_default();
    let Some(text) = rest.first_chunk::<8>() else {
        let known = rest.len().min(NAME.len());
        return if rest.get(..known) == NAME.get(..known) {
            Ok(None)
        } else {
            Err(Reject::InvalidRequestLine)
        };
    };
    let (version, minor) = match text {
        b"HTTP/1.1" => (Version::Http11, 1),
        b"HTTP/1.0" => (Version::Http10, 0),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match major {
                b'1' => (Version::Http11, minor - b'0'),
                _ => return Err(Reject::UnsupportedVersion),
            }
        }
        _ => return Err(Reject::InvalidRequestLine),
    };
    Ok(Some((version, minor, at + text.len())))
}

/// The fields that take part in a decision, each at most once unless said otherwise.
#[derive(Default)]
struct Deciding<'a> {
    host: Option<Span>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    upgrade: Option<Span>,
    websocket_key: Option<&'a [u8]>,
    websocket_version: Option<&'a [u8]>,
    /// It is there, and says `keep-alive`.
    keeps_alive: bool,
    /// It is there, and says something else.
    has_connection: bool,
    expects: bool,
    /// A field of the handshake came twice: no handshake.
    ambiguous: bool,
}

/// What stands in `head.body` is the body without a length and a coding.
pub(in crate::protocol) fn decide(buf: &[u8], head: &mut RequestHead) -> Result<(), Reject> {
    let deciding = collect(buf, head)?;
    head.authority = decide_authority(buf, head, deciding.host)?;
    head.body = frame(buf, head, &deciding)?;
    let options = if deciding.has_connection {
        apply_connection(buf, &mut head.fields).map_err(|_| Reject::Connection)?
    } else {
        ConnectionOptions {
            keep_alive: deciding.keeps_alive,
            ..ConnectionOptions::default()
        }
    };
    head.keep_alive = options.persists(head.version);
    head.upgrade = decide_upgrade(buf, head, options, &deciding);
    if let Some(protocol) = head.upgrade.filter(|_| wants_other_websocket(&deciding)) {
        head.wants_other_websocket = is_websocket(protocol.of(buf));
        head.upgrade = head.upgrade.filter(|_| !head.wants_other_websocket);
    }
    // RFC 9110 §10.1.1: to be ignored from an HTTP/1.0 client, and idle without a body.
    head.expect_continue = deciding.expects
        && head.version != Version::Http10
        && !matches!(head.body, RequestBody::None | RequestBody::Length(0));
    Ok(())
}

fn collect<'a>(buf: &'a [u8], head: &mut RequestHead) -> Result<Deciding<'a>, Reject> {
    let mut found = Deciding::default();
    for field in &head.fields {
        let value = field.value.of(buf);
        match field.id {
            FieldId::Other => {}
            FieldId::Host => once(&mut found.host, field.value, Reject::DuplicateHost)?,
            FieldId::ContentLength => {
                once(&mut found.length, value, Reject::DuplicateContentLength)?;
            }
            FieldId::TransferEncoding => {
                once(&mut found.coding, value, Reject::DuplicateTransferEncoding)?;
            }
            FieldId::Expect if found.expects => return Err(Reject::Expectation),
            FieldId::Expect if value.eq_ignore_ascii_case(b"100-continue") => found.expects = true,
            FieldId::Expect => return Err(Reject::Expectation),
            // What most say, and nothing else.
            FieldId::Connection if value == b"keep-alive" => found.keeps_alive = true,
            FieldId::Connection => found.has_connection = true,
            FieldId::Via => head.is_passed_on = true,
            FieldId::Upgrade => found.ambiguous |= found.upgrade.replace(field.value).is_some(),
            FieldId::SecWebSocketKey => {
                found.ambiguous |= found.websocket_key.replace(value).is_some();
            }
            FieldId::SecWebSocketVersion => {
                found.ambiguous |= found.websocket_version.replace(value).is_some();
            }
            FieldId::Te => {
                head.te_trailers |= value
                    .split(|&byte| byte == b',')
                    .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// RFC 9112 §3.2 and §3.2.2: exactly one host, from the target if it names one (T18).
fn decide_authority(
    buf: &[u8],
    head: &mut RequestHead,
    host: Option<Span>,
) -> Result<Authority, Reject> {
    let from_host = match host {
        Some(span) => Some(parse_authority(buf, span, &mut head.scratch)?),
        None if head.version != Version::Http10 => return Err(Reject::MissingHost),
        None => None,
    };
    let Some((span, port)) = head.target.authority else {
        return Ok(from_host.unwrap_or_default());
    };
    let from_target = parse_authority(buf, span, &mut head.scratch)?;
    match from_host {
        Some(host) if !host.is_same(&from_target, port, buf, &head.scratch) => {
            Err(Reject::AuthorityMismatch)
        }
        _ => Ok(from_target),
    }
}

/// RFC 9112 §6.3 for requests, without its repairs (T09, T10, T11).
fn frame(buf: &[u8], head: &RequestHead, deciding: &Deciding<'_>) -> Result<RequestBody, Reject> {
    match (deciding.coding, deciding.length) {
        // Where content means something it is said that there is none (RFC 9110 §8.6): some backends
        // demand a length, and HTTP/2 ends such a request with its head.
        (None, None)
            if head.body == RequestBody::None
                && matches!(head.method.of(buf), b"POST" | b"PUT" | b"PATCH") =>
        {
            Ok(RequestBody::Length(0))
        }
        (None, None) => Ok(head.body),
        (None, Some(length)) => parse_length(length)
            .map(RequestBody::Length)
            .ok_or(Reject::InvalidContentLength),
        (Some(_), Some(_)) => Err(Reject::LengthAndCoding),
        (Some(_), None) if head.version == Version::Http10 => Err(Reject::TransferEncodingInHttp10),
        (Some(coding), None) => match parse_coding(coding) {
            Coding::Chunked => Ok(RequestBody::Chunked),
            Coding::Unknown => Err(Reject::UnknownCoding),
            Coding::Endless => Err(Reject::CodingNotChunked),
            Coding::Malformed => Err(Reject::InvalidTransferEncoding),
        },
    }
}

/// RFC 9110 §7.8, and RFC 6455 §4.2.1 for WebSocket. What is no valid handshake is no upgrade: the field
/// is dropped, and the backend answers an ordinary request (T14). Other readings of HTTP itself, and
/// TLS, are never switched to: what follows would be requests that nobody has looked at.
fn decide_upgrade(
    buf: &[u8],
    head: &RequestHead,
    options: ConnectionOptions,
    deciding: &Deciding<'_>,
) -> Option<Span> {
    let protocol = deciding.upgrade?;
    let name = protocol.of(buf);
    let valid = if is_websocket(name) {
        head.method.of(buf) == b"GET"
            && deciding.websocket_version.is_some()
            && deciding.websocket_key.is_some_and(is_websocket_key)
    } else {
        is_protocol(name)
    };
    let alone = !deciding.ambiguous
        && options.upgrade
        && head.version == Version::Http11
        && matches!(head.body, RequestBody::None | RequestBody::Length(0));
    (valid && alone).then_some(protocol)
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// Whether a version of WebSocket is asked for, and not the one that there is.
fn wants_other_websocket(deciding: &Deciding<'_>) -> bool {
    deciding
        .websocket_version
        .is_some_and(|version| version != b"13")
}

/// One name of a protocol, perhaps with a version, that is neither HTTP nor TLS.
fn is_protocol(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 4] = [b"h2c", b"h2", b"http", b"tls"];
    let (first, version) = match memchr::memchr(b'/', name) {
        Some(slash) => (&name[..slash], Some(&name[slash + 1..])),
        None => (name, None),
    };
    is_token(first)
        && version.is_none_or(is_token)
        && !NEVER.iter().any(|never| first.eq_ignore_ascii_case(never))
}

/// 16 bytes in base64: 22 characters, the last of which carries two bits, and the padding.
fn is_websocket_key(key: &[u8]) -> bool {
    let Some(([start @ .., last], b"==")) = key.split_at_checked(22) else {
        return false;
    };
    matches!(last, b'A' | b'Q' | b'g' | b'w')
        && start
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Bytes of the longest method; the longest registered one has 17.
pub(in crate::protocol) const METHOD_BYTES_MAX: usize = 64;

/// Empty lines before a request line, as sent by clients that end a body with one too many.
const EMPTY_LINES_MAX: usize = 2;

/// Bytes of a refused target that are told.
const TARGET_TOLD_BYTES_MAX: usize = 4096;

/// Bytes of the longest request name that is passed on.
const REQUEST_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
