//! The head of a request as it is sent to a backend.
//!
//! Rule: every byte written here is either part of a field that was parsed and kept, or our own.
//! Neighbouring lines that need no change are copied in one run.

use super::Field;
use super::FieldId;
use super::RequestBody;
use super::RequestHead;
use super::Version;
use super::authority::PORT_DIGITS_MAX;
use super::via::Via;

/// What the session adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Address of the peer, IPv6 without brackets.
    pub client_ip: &'a [u8],
    /// Port of the peer for `Forwarded` (RFC 7239 §6); 0 leaves it out.
    pub client_port: u16,
    /// Port that the request came to.
    pub listener_port: u16,
    /// `http` or `https`, as received.
    pub scheme: &'a str,
    /// The peer is one of `trusted_proxies`: what it says about its client is passed on.
    pub trusted: bool,
    /// The certificate of the client, as the value of `Client-Cert` (RFC 9440); a trusted peer's own
    /// statement goes before it.
    pub client_cert: Option<&'a str>,
    /// It came before a TLS handshake was complete (RFC 8470 §5.1).
    pub early: bool,
    /// Our name for the request, unless a trusted peer gave it one.
    pub request_id: &'a [u8],
    /// The upstream connection is to be used again.
    pub upstream_keep_alive: bool,
    /// Pass the handshake on; the head must hold a valid one.
    pub upgrade: bool,
    /// How the body is sent.
    pub body: RequestBody,
    /// By which name we have passed it on.
    pub via: &'a Via,
    /// What is changed of it.
    pub changed: Changed<'a>,
}

/// What the configuration changes of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changed<'a> {
    /// The normal path that it goes to instead of its own, and its query.
    pub target: Option<&'a [u8]>,
    /// The host that it is sent to instead of the one that was asked for.
    pub host: Option<&'a [u8]>,
    /// Whole lines beside those that are always there, each with its CRLF.
    pub lines: &'a [u8],
}

/// Appends the head of `head` as the next hop is to read it.
pub fn write_request(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, forward: &Forward<'_>) {
    let authority = head.authority(buf);
    out.reserve(
        head.line.end()
            + fields_length(&head.fields)
            + 2 * authority.len()
            + forward.changed.lines.len()
            + OWN_BYTES,
    );
    write_request_line(out, buf, head, forward.changed.target);
    write_fields(out, buf, head, forward);
}

/// Appends the head of a GET of our own for `target`, with the fields of `head`: what somebody is asked about
/// that request. What is about its body, or about which version of what it asks for its client has, is not told,
/// and what the client says in the name of the proxy's lines neither: `forward` changes it by those alone.
pub fn write_question(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    target: &[u8],
    forward: &Forward<'_>,
) {
    let mut asked = head.clone();
    for name in UNTOLD {
        asked.drop_fields(buf, name);
    }
    asked.expect_continue = false;
    asked.te_trailers = false;
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, buf, &asked, forward);
}

/// Fields that a question does not have of the request that it is about.
const UNTOLD: [&[u8]; 14] = [
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-type",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"range",
    b"x-forwarded-method",
    b"x-forwarded-uri",
    b"x-original-method",
    b"x-original-url",
];

fn write_fields(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, forward: &Forward<'_>) {
    let authority = head.authority(buf);
    out.extend_from_slice(b"Host: ");
    out.extend_from_slice(forward.changed.host.unwrap_or(authority));
    out.extend_from_slice(b"\r\n");
    let is_chunked = forward.body == RequestBody::Chunked;
    copy_fields(out, buf, &head.fields, |id| match id {
        FieldId::Trailer => is_chunked,
        FieldId::ForwardedOther | FieldId::ClientCert => forward.trusted,
        _ => false,
    });
    if forward.trusted {
        write_forwarding_appended(out, buf, head, forward);
    } else {
        write_forwarding(out, authority, forward);
    }
    let is_told = |field: &Field| field.id == FieldId::ClientCert && !field.drop;
    if let Some(certificate) = forward.client_cert {
        if !(forward.trusted && head.fields.iter().any(is_told)) {
            write_field(out, b"Client-Cert", certificate.as_bytes());
        }
    }
    if forward.early {
        write_field(out, b"Early-Data", b"1");
    }
    out.extend_from_slice(forward.via.line(head.version));
    out.extend_from_slice(request_id(buf, head, forward));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(forward.changed.lines);
    write_framing(out, buf, head, forward);
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines that are kept. `keeps` decides for [`FieldId::is_conditional`] names.
#[inline]
pub(super) fn copy_fields(
    out: &mut Vec<u8>,
    buf: &[u8],
    fields: &[Field],
    keeps: impl Fn(FieldId) -> bool,
) {
    let mut run = 0..0;
    for field in fields {
        if field.drop || (field.id.is_conditional() && !keeps(field.id)) {
            continue;
        }
        let start = field.name.start();
        if !field.tidy {
            // White space around the value is ours to write, not the peer's (T11).
            out.extend_from_slice(buf.get(run).unwrap_or_default());
            run = 0..0;
            write_field(out, field.name.of(buf), field.value.of(buf));
            continue;
        }
        let end = field.value.end() + 2;
        if run.end == start {
            run.end = end;
        } else {
            out.extend_from_slice(buf.get(run).unwrap_or_default());
            run = start..end;
        }
    }
    out.extend_from_slice(buf.get(run).unwrap_or_default());
}

/// The bytes that [`copy_fields`] writes at most.
pub(super) fn fields_length(fields: &[Field]) -> usize {
    match (fields.first(), fields.last()) {
        (Some(first), Some(last)) => last.value.end() - first.name.start() + fields.len() + 2,
        _ => 0,
    }
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_request_line(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, target: Option<&[u8]>) {
    if head.target.verbatim && head.version != Version::Http10 && target.is_none() {
        out.extend_from_slice(head.line.of(buf));
        return;
    }
    out.extend_from_slice(head.method(buf));
    out.push(b' ');
    out.extend_from_slice(target.unwrap_or(head.path(buf)));
    if let Some(query) = head.query(buf).filter(|_| target.is_none()) {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// From an untrusted peer, all statements about the client are ours (T22).
fn write_forwarding(out: &mut Vec<u8>, authority: &[u8], forward: &Forward<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    out.extend_from_slice(forward.client_ip);
    out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
    out.extend_from_slice(forward.scheme.as_bytes());
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    write_number(out, u64::from(forward.listener_port));
    if !authority.is_empty() {
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        out.extend_from_slice(authority);
    }
    out.extend_from_slice(b"\r\nForwarded: ");
    write_forwarded_element(out, authority, forward);
    out.extend_from_slice(b"\r\n");
}

/// From a trusted peer, lists get our element at their end, and single values stay as they are;
/// of several, the last one is the peer's own. A peer that speaks one of the two languages alone, of
/// `Forwarded` and of `X-Forwarded-*`, is not contradicted in the other, where we would have to say
/// that it is the client (RFC 7239 §7.4).
fn write_forwarding_appended(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    forward: &Forward<'_>,
) {
    let told = Told::by(&head.fields);
    if told != Told::Standard {
        write_x_forwarded_appended(out, buf, head, forward);
    }
    if told != Told::Customary {
        out.extend_from_slice(b"Forwarded: ");
        write_members(out, buf, &head.fields, FieldId::Forwarded);
        write_forwarded_element(out, head.authority(buf), forward);
        out.extend_from_slice(b"\r\n");
    }
}

/// In which words a peer says who its client is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// In both, or in none.
    Evenly,
    /// In `X-Forwarded-*`, `X-Real-IP` and their like alone.
    Customary,
    /// In `Forwarded` alone.
    Standard,
}

impl Told {
    fn by(fields: &[Field]) -> Self {
        let (mut standard, mut customary) = (false, false);
        for field in fields.iter().filter(|field| !field.drop) {
            match field.id {
                FieldId::Forwarded => standard = true,
                FieldId::ForwardedOther
                | FieldId::XForwardedFor
                | FieldId::XForwardedHost
                | FieldId::XForwardedPort
                | FieldId::XForwardedProto => customary = true,
                _ => {}
            }
        }
        match (standard, customary) {
            (true, false) => Self::Standard,
            (false, true) => Self::Customary,
            _ => Self::Evenly,
        }
    }
}

fn write_x_forwarded_appended(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    forward: &Forward<'_>,
) {
    let authority = head.authority(buf);
    // Which port its client has come to only the peer knows: ours may contradict the rest.
    let tells_more = Told::by(&head.fields) == Told::Customary;
    out.extend_from_slice(b"X-Forwarded-For: ");
    write_members(out, buf, &head.fields, FieldId::XForwardedFor);
    out.extend_from_slice(forward.client_ip);
    out.extend_from_slice(b"\r\n");
    let proto = last_value(buf, &head.fields, FieldId::XForwardedProto);
    write_field(
        out,
        b"X-Forwarded-Proto",
        proto.unwrap_or(forward.scheme.as_bytes()),
    );
    let port = last_value(buf, &head.fields, FieldId::XForwardedPort);
    if let Some(port) = port {
        write_field(out, b"X-Forwarded-Port", port);
    } else if !tells_more {
        let mut digits = itoa::Buffer::new();
        let own_port = digits.format(forward.listener_port).as_bytes();
        write_field(out, b"X-Forwarded-Port", own_port);
    }
    let named = last_value(buf, &head.fields, FieldId::XForwardedHost).unwrap_or(authority);
    if !named.is_empty() {
        write_field(out, b"X-Forwarded-Host", named);
    }
}

/// The members that a list field has already, in one line, ready for another one.
fn write_members(out: &mut Vec<u8>, buf: &[u8], fields: &[Field], id: FieldId) {
    for field in fields.iter().filter(|field| field.id == id && !field.drop) {
        let value = field.value.of(buf);
        if !value.is_empty() {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
}

fn last_value<'a>(buf: &'a [u8], fields: &[Field], id: FieldId) -> Option<&'a [u8]> {
    fields
        .iter()
        .rev()
        .find(|field| field.id == id && !field.drop)
        .map(|field| field.value.of(buf))
        .filter(|value| !value.is_empty())
}

/// `for=…;host=…;proto=…` (RFC 7239 §4); what is no token is quoted.
fn write_forwarded_element(out: &mut Vec<u8>, authority: &[u8], forward: &Forward<'_>) {
    let ip = forward.client_ip;
    // No search is worth its call here: it stands among the first, or nowhere.
    let is_ipv6 = ip
        .iter()
        .take(GROUP_DIGITS_MAX + 1)
        .any(|&byte| byte == b':');
    let is_quoted = is_ipv6 || forward.client_port != 0;
    out.extend_from_slice(if is_quoted { b"for=\"" } else { b"for=" });
    if is_ipv6 {
        out.push(b'[');
        out.extend_from_slice(ip);
        out.push(b']');
    } else {
        out.extend_from_slice(ip);
    }
    if forward.client_port != 0 {
        out.push(b':');
        write_number(out, u64::from(forward.client_port));
    }
    if is_quoted {
        out.push(b'"');
    }
    if !authority.is_empty() {
        let is_token = is_token(authority);
        out.extend_from_slice(if is_token { b";host=" } else { b";host=\"" });
        out.extend_from_slice(authority);
        out.extend_from_slice(if is_token { b"" } else { b"\"" });
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(forward.scheme.as_bytes());
}

/// Whether an authority in its normal form is a token: it has neither brackets nor a port, which would be its end.
fn is_token(authority: &[u8]) -> bool {
    let mut port = authority.iter().rev().take(PORT_DIGITS_MAX + 1);
    authority.last() != Some(&b']') && port.all(|&byte| byte != b':')
}

/// The name of the request: that of a trusted peer if it is harmless, else our own.
fn request_id<'a>(buf: &'a [u8], head: &RequestHead, forward: &Forward<'a>) -> &'a [u8] {
    let given = if forward.trusted {
        head.request_id(buf)
    } else {
        None
    };
    given.unwrap_or(forward.request_id)
}

fn write_framing(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, forward: &Forward<'_>) {
    match forward.body {
        RequestBody::None => {}
        RequestBody::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        RequestBody::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if let Some(protocol) = head.upgrade(buf).filter(|_| forward.upgrade) {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(protocol);
        out.extend_from_slice(b"\r\n");
        return;
    }
    // RFC 9110 §10.1.4: who sends TE must list it in Connection.
    out.extend_from_slice(match (head.te_trailers, forward.upstream_keep_alive) {
        (true, true) => b"TE: trailers\r\nConnection: TE\r\n".as_slice(),
        (true, false) => b"TE: trailers\r\nConnection: TE, close\r\n",
        (false, true) => b"",
        (false, false) => b"Connection: close\r\n",
    });
}

/// Bytes of the lines that are always ours, without the authority.
const OWN_BYTES: usize = 512;

/// Of an IPv6 address.
const GROUP_DIGITS_MAX: usize = 4;

#[cfg(test)]
mod tests;
