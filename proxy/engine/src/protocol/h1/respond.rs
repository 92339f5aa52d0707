//! The head of a response as it is sent to the client.

use super::Delivery;
use super::FieldId;
use super::ResponseHead;
use super::Version;
use super::forward::fields_length;
use super::forward::kept;
use super::forward::text::write_number;
use super::forward::writer::HeadWriter;
use super::reply::reason_phrase;
use super::via::Via;
use crate::protocol::lines::Lines;

/// What the client is told about its connection (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: the version implies it.
    Implied,
    /// The connection lives on, told to an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// The connection ends after this response.
    Close,
}

/// What the session adds to a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForward<'a> {
    /// How the body is delivered.
    pub delivery: Delivery,
    /// What the client is told about its connection.
    pub persistence: Persistence,
    /// The value of `Date` if the backend gave none (RFC 9110 §6.6.1).
    pub date: &'a [u8],
    /// Lines of our own.
    pub extra: [Lines<'a>; 4],
    /// By which name it is passed on.
    pub via: &'a Via,
    /// What was asked for, for a backend that switches without naming it (HTTP/2).
    pub protocol: &'a [u8],
}

/// Appends the head of `head` as the client is to read it. The caller never passes an interim
/// response on to an HTTP/1.0 client (RFC 9110 §15.2).
pub fn write_response(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &ResponseHead,
    forward: &ResponseForward<'_>,
) {
    let own_bytes = OWN_BYTES + forward.extra.map(Lines::size).iter().sum::<usize>();
    out.reserve(head.line.end() + fields_length(&head.fields) + own_bytes);
    // RFC 9112 §4 wants the space before the reason even where there is none, which a backend may
    // have left out.
    let line = head.line.of(buf);
    if head.version == Version::Http11 && !line.is_empty() && !head.reason(buf).is_empty() {
        out.extend_from_slice(line);
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        write_number(out, u64::from(head.status));
        out.push(b' ');
        out.extend_from_slice(match head.version {
            // It has no words for it.
            Version::Http2 => reason_phrase(head.status).as_bytes(),
            _ => head.reason(buf),
        });
        out.extend_from_slice(b"\r\n");
    }
    let is_chunked = forward.delivery == Delivery::Chunked;
    let keeps = |id| id != FieldId::Trailer || is_chunked;
    out.copy(buf, kept(&head.fields, keeps));
    if head.status >= 200 && !head.has_date && !forward.date.is_empty() {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(forward.date);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(forward.via.line_of_answer(head.version));
    for own in forward.extra {
        own.write(out);
    }
    write_framing(out, head, forward.delivery);
    if head.switching_protocols {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        let named = head.protocol.of(buf);
        out.extend_from_slice(if named.is_empty() {
            forward.protocol
        } else {
            named
        });
        out.extend_from_slice(b"\r\n\r\n");
        return;
    }
    out.extend_from_slice(match forward.persistence {
        _ if head.status < 200 => b"\r\n".as_slice(),
        Persistence::Implied => b"\r\n",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
    });
}

/// Exactly one statement about the length, or none where none may stand (RFC 9110 §8.6, T16).
fn write_framing(out: &mut Vec<u8>, head: &ResponseHead, delivery: Delivery) {
    if head.status < 200 || head.status == 204 {
        return;
    }
    let length = match delivery {
        Delivery::Length(length) => Some(length),
        Delivery::NoBody => head.content_length,
        Delivery::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            None
        }
        Delivery::UntilClose => None,
    };
    if let Some(length) = length {
        out.extend_from_slice(b"Content-Length: ");
        write_number(out, length);
        out.extend_from_slice(b"\r\n");
    }
}

/// Bytes of the lines that are ours.
const OWN_BYTES: usize = 192;

#[cfg(test)]
mod tests;
