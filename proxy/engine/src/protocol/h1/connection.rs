//! `Connection` (RFC 9110 §7.6.1): what it says about the connection, and what it takes away.
//!
//! Rule: a client may name only fields of its own making. What frames the message may never be
//! named; what is meant for every recipient, says who somebody is, or is set by the proxy stays
//! where it is, named or not (T23).

use super::Field;
use super::FieldId;
use super::Version;
use super::fields::is_token;

/// The options that we act upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl ConnectionOptions {
    /// Whether the connection may serve another message after this one (RFC 9112 §9.3).
    pub(super) fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 | Version::Http2 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// The field is malformed, or names what it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidConnection;

/// Reads all `Connection` fields and marks the fields that they name as dropped.
pub(super) fn apply_connection(
    buf: &[u8],
    fields: &mut [Field],
) -> Result<ConnectionOptions, InvalidConnection> {
    let mut options = ConnectionOptions::default();
    let mut named = 0;
    let mut index = 0;
    while let Some(&field) = fields.get(index) {
        index += 1;
        if field.id != FieldId::Connection {
            continue;
        }
        for option in field.value.of(buf).split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if !option.is_empty() {
                named += 1;
                if named > NAMED_FIELDS_MAX {
                    return Err(InvalidConnection);
                }
                remove_named(buf, fields, option)?;
            }
        }
    }
    Ok(options)
}

fn remove_named(buf: &[u8], fields: &mut [Field], name: &[u8]) -> Result<(), InvalidConnection> {
    if !is_token(name) {
        return Err(InvalidConnection);
    }
    match FieldId::of(name) {
        FieldId::ContentLength | FieldId::Host | FieldId::TransferEncoding => {
            Err(InvalidConnection)
        }
        FieldId::Other if !is_end_to_end(name) => {
            for field in fields {
                if field.id == FieldId::Other && field.name.of(buf).eq_ignore_ascii_case(name) {
                    field.drop = true;
                }
            }
            Ok(())
        }
        // Dropped in any case, or never at the wish of a peer.
        _ => Ok(()),
    }
}

/// Whether a name is meant for all recipients, so that no option may take it away.
pub(super) fn is_end_to_end(name: &[u8]) -> bool {
    END_TO_END
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// More names than this are an attempt to make us compare: nobody names more than a few, and each
/// costs a pass over all fields.
const NAMED_FIELDS_MAX: usize = 16;

/// Fields that RFC 9110, RFC 9111, RFC 6265 or Fetch direct at the far end. Those that the engine
/// has a [`FieldId`] for are not repeated here.
const END_TO_END: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "allow",
    "authentication-info",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "server",
    "set-cookie",
    "strict-transport-security",
    "user-agent",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::h1::fields::{Aliases, parse_fields};

    fn apply(section: &str) -> Result<(ConnectionOptions, Vec<Field>), InvalidConnection> {
        let mut fields = Vec::new();
        let end = parse_fields(section.as_bytes(), 0, 100, Aliases::Drop, &mut fields);
        assert_eq!(end, Ok(Some(section.len())));
        let options = apply_connection(section.as_bytes(), &mut fields)?;
        Ok((options, fields))
    }

    #[test]
    fn options_are_read_from_all_fields() {
        let (options, _) =
            apply("Connection: Keep-Alive\r\nConnection: ,CLOSE ,\tupgrade\r\n\r\n").unwrap();
        assert!(options.close && options.keep_alive && options.upgrade);
        assert!(!options.persists(Version::Http11) && !options.persists(Version::Http10));
        let (options, _) = apply("A: close\r\n\r\n").unwrap();
        assert_eq!(options, ConnectionOptions::default());
        assert!(options.persists(Version::Http11) && !options.persists(Version::Http10));
    }

    #[test]
    fn t23_every_field_of_that_name_goes() {
        let (_, fields) = apply("x-a: 1\r\nConnection: X-A\r\nX-a: 2\r\nX-B: 3\r\n\r\n").unwrap();
        let dropped: Vec<bool> = fields.iter().map(|field| field.drop).collect();
        assert_eq!(dropped, [true, true, true, false]);
    }

    #[test]
    fn t23_what_is_meant_for_the_far_end_stays() {
        for name in [
            "Authorization",
            "COOKIE",
            "x-forwarded-for",
            "X-Request-Id",
            "Via",
            "Forwarded",
        ] {
            let (_, fields) = apply(&format!("{name}: 1\r\nConnection: {name}\r\n\r\n")).unwrap();
            assert!(!fields[0].drop, "{name}");
        }
        assert!(END_TO_END.is_sorted());
        let known = |name: &&&str| FieldId::of(name.as_bytes()) != FieldId::Other;
        assert_eq!(END_TO_END.iter().find(known), None);
    }
}
