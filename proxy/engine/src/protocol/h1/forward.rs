//! The head of a request as it is sent to a backend.
//!
//! Rule: what of a request goes on is told once, here, part by part, to a [`HeadWriter`]: `text` makes
//! HTTP/1.1 of it, and `protocol::h2::list` what HPACK encodes. Every byte that is told is either part of
//! a field that was parsed and kept, or our own.

pub mod text;
pub mod writer;

use self::writer::HeadWriter;
use self::writer::OwnField;
use self::writer::RequestLine;
use super::Field;
use super::FieldId;
use super::RequestBody;
use super::RequestHead;
use super::authority::PORT_DIGITS_MAX;
use super::request::METHOD_BYTES_MAX;
use super::via::Via;
use crate::protocol::lines::Lines;

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
    /// Lines beside those that are always there.
    pub lines: Lines<'a>,
}

/// Appends the head of `head` as the next hop is to read it.
pub fn write_request(
    out: &mut impl HeadWriter,
    buf: &[u8],
    head: &RequestHead,
    forward: &Forward<'_>,
) {
    let authority = head.authority(buf);
    out.make_room(
        LINE_BYTES
            + head.target_raw(buf).len()
            + fields_length(&head.fields)
            + 2 * authority.len()
            + forward.changed.lines.size()
            + OWN_BYTES,
    );
    out.request_line(&RequestLine {
        buf,
        head,
        method: None,
        target: forward.changed.target,
    });
    write_fields(out, buf, head, forward);
}

/// Appends the head of a GET of our own for `target`, with the fields of `head`: what somebody is asked about
/// that request. What is about its body, or about which version of what it asks for its client has, is not told,
/// and what the client says in the name of the proxy's lines neither: `forward` changes it by those alone.
pub fn write_question(
    out: &mut impl HeadWriter,
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
    out.request_line(&RequestLine {
        buf,
        head,
        method: Some(b"GET"),
        target: Some(target),
    });
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

fn write_fields(out: &mut impl HeadWriter, buf: &[u8], head: &RequestHead, forward: &Forward<'_>) {
    let authority = head.authority(buf);
    out.host(forward.changed.host.unwrap_or(authority));
    let is_chunked = forward.body == RequestBody::Chunked;
    let kept = kept(&head.fields, |id| match id {
        FieldId::Trailer => is_chunked,
        FieldId::ForwardedOther | FieldId::ClientCert => forward.trusted,
        _ => false,
    });
    out.copy(buf, kept);
    if forward.trusted {
        write_forwarding_appended(out, buf, head, forward);
    } else {
        write_forwarding(out, authority, forward);
    }
    let is_told = |field: &Field| field.id == FieldId::ClientCert && !field.drop;
    if let Some(certificate) = forward.client_cert {
        if !(forward.trusted && head.fields.iter().any(is_told)) {
            out.field(OwnField::ClientCert, certificate.as_bytes());
        }
    }
    if forward.early {
        out.field(OwnField::EarlyData, b"1");
    }
    out.via(forward.via, head.version, request_id(buf, head, forward));
    out.lines(forward.changed.lines);
    write_framing(out, buf, head, forward);
}

/// The fields that go on. `keeps` decides for [`FieldId::is_conditional`] names.
#[inline]
pub(super) fn kept(
    fields: &[Field],
    keeps: impl Fn(FieldId) -> bool,
) -> impl Iterator<Item = &Field> {
    fields
        .iter()
        .filter(move |field| !field.drop && (!field.id.is_conditional() || keeps(field.id)))
}

/// The bytes that [`HeadWriter::copy`] makes text of at most.
pub(super) fn fields_length(fields: &[Field]) -> usize {
    match (fields.first(), fields.last()) {
        (Some(first), Some(last)) => last.value.end() - first.name.start() + fields.len() + 2,
        _ => 0,
    }
}

/// From an untrusted peer, all statements about the client are ours (T22).
fn write_forwarding(out: &mut impl HeadWriter, authority: &[u8], forward: &Forward<'_>) {
    out.begin(OwnField::XForwardedFor);
    out.part(forward.client_ip);
    out.next(OwnField::XForwardedProto);
    out.part(forward.scheme.as_bytes());
    out.next(OwnField::XForwardedPort);
    out.number(u64::from(forward.listener_port));
    if !authority.is_empty() {
        out.next(OwnField::XForwardedHost);
        out.part(authority);
    }
    out.next(OwnField::Forwarded);
    write_forwarded_element(out, authority, forward);
    out.end();
}

/// From a trusted peer, lists get our element at their end, and single values stay as they are;
/// of several, the last one is the peer's own. A peer that speaks one of the two languages alone, of
/// `Forwarded` and of `X-Forwarded-*`, is not contradicted in the other, where we would have to say
/// that it is the client (RFC 7239 §7.4).
fn write_forwarding_appended(
    out: &mut impl HeadWriter,
    buf: &[u8],
    head: &RequestHead,
    forward: &Forward<'_>,
) {
    let told = Told::by(&head.fields);
    if told != Told::Standard {
        write_x_forwarded_appended(out, buf, head, forward);
    }
    if told != Told::Customary {
        out.begin(OwnField::Forwarded);
        write_members(out, buf, &head.fields, FieldId::Forwarded);
        write_forwarded_element(out, head.authority(buf), forward);
        out.end();
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
    out: &mut impl HeadWriter,
    buf: &[u8],
    head: &RequestHead,
    forward: &Forward<'_>,
) {
    let authority = head.authority(buf);
    // Which port its client has come to only the peer knows: ours may contradict the rest.
    let tells_more = Told::by(&head.fields) == Told::Customary;
    out.begin(OwnField::XForwardedFor);
    write_members(out, buf, &head.fields, FieldId::XForwardedFor);
    out.part(forward.client_ip);
    out.next(OwnField::XForwardedProto);
    let proto = last_value(buf, &head.fields, FieldId::XForwardedProto);
    out.part(proto.unwrap_or(forward.scheme.as_bytes()));
    let port = last_value(buf, &head.fields, FieldId::XForwardedPort);
    if let Some(port) = port {
        out.next(OwnField::XForwardedPort);
        out.part(port);
    } else if !tells_more {
        out.next(OwnField::XForwardedPort);
        out.number(u64::from(forward.listener_port));
    }
    let named = last_value(buf, &head.fields, FieldId::XForwardedHost).unwrap_or(authority);
    if !named.is_empty() {
        out.next(OwnField::XForwardedHost);
        out.part(named);
    }
    out.end();
}

/// The members that a list field has already, in one line, ready for another one.
fn write_members(out: &mut impl HeadWriter, buf: &[u8], fields: &[Field], id: FieldId) {
    for field in fields.iter().filter(|field| field.id == id && !field.drop) {
        let value = field.value.of(buf);
        if !value.is_empty() {
            out.part(value);
            out.part(b", ");
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
fn write_forwarded_element(out: &mut impl HeadWriter, authority: &[u8], forward: &Forward<'_>) {
    let ip = forward.client_ip;
    // No search is worth its call here: it stands among the first, or nowhere.
    let is_ipv6 = ip
        .iter()
        .take(GROUP_DIGITS_MAX + 1)
        .any(|&byte| byte == b':');
    let is_quoted = is_ipv6 || forward.client_port != 0;
    out.part(if is_quoted { b"for=\"" } else { b"for=" });
    if is_ipv6 {
        out.part(b"[");
        out.part(ip);
        out.part(b"]");
    } else {
        out.part(ip);
    }
    if forward.client_port != 0 {
        out.part(b":");
        out.number(u64::from(forward.client_port));
    }
    if is_quoted {
        out.part(b"\"");
    }
    if !authority.is_empty() {
        let is_token = is_token(authority);
        out.part(if is_token { b";host=" } else { b";host=\"" });
        out.part(authority);
        out.part(if is_token { b"" } else { b"\"" });
    }
    out.part(b";proto=");
    out.part(forward.scheme.as_bytes());
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

fn write_framing(out: &mut impl HeadWriter, buf: &[u8], head: &RequestHead, forward: &Forward<'_>) {
    match forward.body {
        RequestBody::None => {}
        RequestBody::Length(length) => {
            out.begin(OwnField::ContentLength);
            out.number(length);
            out.end();
        }
        RequestBody::Chunked => out.chunked(),
    }
    if head.expect_continue {
        out.field(OwnField::Expect, b"100-continue");
    }
    match head.upgrade(buf).filter(|_| forward.upgrade) {
        Some(protocol) => out.finish_switching(protocol),
        None => out.finish(head.te_trailers, forward.upstream_keep_alive),
    }
}

/// Bytes of a request line, without the target.
const LINE_BYTES: usize = METHOD_BYTES_MAX + b"  HTTP/1.1\r\n".len();

/// Bytes of the lines that are always ours, without the authority.
const OWN_BYTES: usize = 512;

/// Of an IPv6 address.
const GROUP_DIGITS_MAX: usize = 4;

#[cfg(test)]
mod tests;
