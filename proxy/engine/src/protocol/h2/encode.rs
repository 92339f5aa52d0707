//! Heads on their way out: into header blocks.
//!
//! Rule: what is sent on is what `protocol::h1` would send on, field by field. A request comes as the list that
//! `h1::forward` was told into (`list`), and a response as its head, whoever has made it: neither has ever been a
//! text of HTTP/1.1, and lines beside them know their names and values.

use super::hpack::Encoder;
use super::hpack::Policy;
use super::list::HeaderList;
use crate::protocol::h1::Delivery;
use crate::protocol::h1::FieldId;
use crate::protocol::h1::OwnHead;
use crate::protocol::h1::ResponseForward;
use crate::protocol::h1::ResponseHead;
use crate::protocol::lines::Lines;

/// A response as `write_response` has it.
pub(super) fn response(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &ResponseHead,
    forward: &ResponseForward<'_>,
) {
    // RFC 8441 §5: what HTTP/1.1 calls 101 is a 200 to an extended CONNECT.
    let is_switch = head.switching_protocols;
    encoder.status(out, if is_switch { 200 } else { head.status });
    let sends_trailer = forward.delivery == Delivery::Chunked;
    for field in &head.fields {
        if field.drop || (field.id == FieldId::Trailer && !sends_trailer) {
            continue;
        }
        let name = field.name.of(buf);
        if is_switch && name.eq_ignore_ascii_case(b"sec-websocket-accept") {
            continue;
        }
        field_of(encoder, out, name, field.value.of(buf), Policy::Repeated);
    }
    if head.status >= 200 && !head.has_date && !forward.date.is_empty() {
        encoder.date(out, forward.date);
    }
    encoder.via(out, forward.via.value(head.version));
    for own in forward.extra {
        lines(encoder, out, own, Policy::Repeated);
    }
    if head.status < 200 || head.status == 204 {
        return;
    }
    let length = match forward.delivery {
        Delivery::Length(length) => Some(length),
        Delivery::NoBody => head.content_length,
        Delivery::Chunked | Delivery::UntilClose => None,
    };
    if let Some(length) = length {
        encoder.content_length(out, length);
    }
}

/// A head of our own as `write_own` has it.
pub(super) fn own(encoder: &mut Encoder, out: &mut Vec<u8>, head: &OwnHead<'_>) {
    encoder.status(out, head.status);
    for (name, value) in head.fields() {
        field_of(encoder, out, name, value, Policy::Repeated);
    }
    for own in head.extra {
        lines(encoder, out, own, Policy::Repeated);
    }
    if let Some(length) = head.length {
        encoder.content_length(out, length);
    }
    if let Some((name, value)) = head.not_stored() {
        field_of(encoder, out, name, value, Policy::Repeated);
    }
}

/// A request as it was listed. With a `protocol` it becomes an extended CONNECT (RFC 8441 §4).
pub(super) fn request(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    request: &HeaderList<'_>,
    scheme: &str,
    protocol: Option<&[u8]>,
) {
    let method = match protocol {
        Some(_) => b"CONNECT",
        None => request.method,
    };
    encoder.method(out, method);
    encoder.scheme(out, scheme.as_bytes());
    encoder.authority(out, request.authority);
    encoder.path(out, request.path);
    if let Some(protocol) = protocol {
        encoder.field(out, b":protocol", protocol, Policy::Repeated);
    }
    for (name, value, policy) in request.sent() {
        encoder.field(out, name, value, policy);
    }
}

pub(super) fn trailers(encoder: &mut Encoder, out: &mut Vec<u8>, section: Lines<'_>) {
    lines(encoder, out, section, Policy::Once);
}

/// Encodes lines without those that concern a connection of HTTP/1.1.
fn lines(encoder: &mut Encoder, out: &mut Vec<u8>, lines: Lines<'_>, policy: Policy) {
    for line in lines {
        let (name, value) = (line.name(), line.value());
        if !is_of_connection(FieldId::of(name), value) {
            field_of(encoder, out, name, value, policy);
        }
    }
}

/// Whether a field is about a connection of HTTP/1.1, so that HTTP/2 has none (RFC 9113 §8.2.2).
pub(super) fn is_of_connection(id: FieldId, value: &[u8]) -> bool {
    match id {
        FieldId::Connection
        | FieldId::Host
        | FieldId::Http2Settings
        | FieldId::KeepAlive
        | FieldId::ProxyConnection
        | FieldId::TransferEncoding
        | FieldId::Upgrade => true,
        // RFC 8441 §5: HTTP/2 has no need of this proof.
        FieldId::SecWebSocketKey => true,
        FieldId::Te => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

/// Encodes a field, its name in any case (RFC 9113 §8.2).
fn field_of(encoder: &mut Encoder, out: &mut Vec<u8>, name: &[u8], value: &[u8], policy: Policy) {
    let mut lower = [0; NAME_BYTES_FAST];
    match lower.get_mut(..name.len()) {
        Some(lower) => {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            encoder.field(out, lower, value, policy);
        }
        None => encoder.field(out, &name.to_ascii_lowercase(), value, policy),
    }
}

/// Names that are longer are lowered at the cost of an allocation; there are none in use.
const NAME_BYTES_FAST: usize = 64;

#[cfg(test)]
mod tests;
