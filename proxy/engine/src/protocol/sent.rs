//! A request's head as backends get it: in the form of the version that they speak.
//!
//! Called by the session, whose exchanges keep such a head for another try and know no version. `h1` and `h2`
//! read it where it is sent.

use super::h1::forward::Forward;
use super::h1::{RequestHead, write_question, write_request};
use super::h2::{HeaderList, ListWriter};

/// What the bytes of such a head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The text of HTTP/1.1.
    Text,
    /// A header list, for HPACK.
    List,
}

impl Form {
    /// That of a connection which requests share, or of one which each has for itself.
    #[inline]
    #[must_use]
    pub fn of(is_multiplexed: bool) -> Self {
        match is_multiplexed {
            true => Self::List,
            false => Self::Text,
        }
    }

    /// See [`write_request`].
    #[inline]
    pub fn write_request(
        self,
        out: &mut Vec<u8>,
        buf: &[u8],
        head: &RequestHead,
        forward: &Forward<'_>,
    ) {
        match self {
            Self::Text => write_request(out, buf, head, forward),
            Self::List => write_request(&mut ListWriter::new(out), buf, head, forward),
        }
    }

    /// See [`write_question`].
    pub fn write_question(
        self,
        out: &mut Vec<u8>,
        buf: &[u8],
        head: &RequestHead,
        target: &[u8],
        forward: &Forward<'_>,
    ) {
        match self {
            Self::Text => write_question(out, buf, head, target, forward),
            Self::List => write_question(&mut ListWriter::new(out), buf, head, target, forward),
        }
    }

    /// The value of a field that was copied; its name in lower case.
    #[must_use]
    pub fn value<'a>(self, sent: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        if self == Self::List {
            return HeaderList::of(sent)?.value(name);
        }
        sent.split(|&byte| byte == b'\n').find_map(|line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            found
                .eq_ignore_ascii_case(name)
                .then_some(value.trim_ascii())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::h1::via::Via;
    use crate::protocol::h1::{HeadLimits, RequestBody, request};

    const RAW: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nX: application/json\r\n\
        Content-Type: application/grpc\r\n\r\n";

    #[test]
    fn a_value_is_found_in_either_form() {
        let limits = HeadLimits {
            head_bytes_max: 1024,
            header_count_max: 10,
        };
        let mut head = RequestHead::default();
        request::parse(RAW, &limits, &mut head).unwrap();
        let forward = Forward {
            client_ip: b"192.0.2.7",
            client_port: 0,
            listener_port: 80,
            scheme: "http",
            trusted: false,
            client_cert: None,
            early: false,
            request_id: b"id",
            upstream_keep_alive: true,
            upgrade: false,
            body: RequestBody::None,
            via: &Via::new("kakehi"),
            changed: Default::default(),
        };
        for form in [Form::of(false), Form::of(true)] {
            let mut sent = Vec::new();
            form.write_request(&mut sent, RAW, &head, &forward);
            let value = |name: &str| form.value(&sent, name.as_bytes());
            assert_eq!(value("content-type"), Some(&b"application/grpc"[..]));
            assert_eq!(value("content"), None);
        }
    }
}
