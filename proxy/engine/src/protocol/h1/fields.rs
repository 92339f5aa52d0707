//! Header and trailer fields: the strict reading of their lines, and which of them matter to us.
//!
//! A name is classified once, when it is parsed; nobody compares names afterwards, except for
//! the lookups that the configuration asks for.

use super::Span;
use super::error::FieldFault;
use super::scan::find_control;
use super::scan::find_uncommon;

/// One field line of a head.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name as it came.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
    /// What the name means to us.
    pub id: FieldId,
    /// It is not copied to the next hop: consumed, written anew, or suppressed.
    pub drop: bool,
    /// The line is `name: value CRLF` to the byte, so that it can be copied in one run.
    pub(in crate::protocol::h1) tidy: bool,
}

impl Field {
    /// A field of another protocol, whose line is in the text as `name: value CRLF`; the caller
    /// has checked both.
    #[inline]
    pub(in crate::protocol) fn written(name: Span, value: Span, id: FieldId, drop: bool) -> Self {
        Self {
            name,
            value,
            id,
            drop,
            tidy: true,
        }
    }

    /// Whether a lookup must not see it: suppressed, rather than consumed or written anew.
    ///
    /// `Upgrade` may be matched by a frontend though it is written anew; a field that the
    /// backend will never see because it is spoofed may not (T20, T22).
    pub(super) fn is_suppressed(&self) -> bool {
        self.drop && (self.id == FieldId::Other || self.id >= FieldId::Proxy)
    }
}

/// A field name that the engine treats apart. The order is meant: see [`FieldId::is_hop_by_hop`]
/// and [`FieldId::is_conditional`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldId {
    /// Any name that has no meaning to the engine; copied.
    Other,
    /// `Date`.
    Date,
    /// `Sec-WebSocket-Key`.
    SecWebSocketKey,
    /// `Sec-WebSocket-Version`.
    SecWebSocketVersion,
    /// `Via`; copied, our own line comes after.
    Via,
    /// `Connection`, the first of those that are consumed or written anew.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Expect`.
    Expect,
    /// `Host`.
    Host,
    /// `HTTP2-Settings` (h2c, which is never forwarded).
    Http2Settings,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Proxy-Authenticate`, `Proxy-Authentication-Info`, `Proxy-Authorization`.
    ProxyAuthentication,
    /// `Proxy-Connection`.
    ProxyConnection,
    /// `TE`.
    Te,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// `Proxy`, which CGI takes for a variable of its environment (T25); always suppressed.
    Proxy,
    /// `Trailer`, the first of those that are copied only in certain cases.
    Trailer,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Any other statement about who the client is or what it asked for: `X-Real-IP`,
    /// `X-Forwarded-Prefix`, `X-Original-URL`, …
    ForwardedOther,
    /// `Client-Cert` (RFC 9440).
    ClientCert,
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

impl FieldId {
    /// Meant for this hop only, or written anew for the next one.
    pub fn is_hop_by_hop(self) -> bool {
        self >= Self::Connection && self <= Self::Proxy
    }

    /// Whether it is copied depends on the peer or on the body.
    pub fn is_conditional(self) -> bool {
        self >= Self::Trailer
    }

    /// A statement about the client, to be believed only if a trusted proxy makes it (T22).
    pub fn is_about_client(self) -> bool {
        self >= Self::Forwarded
    }

    /// Classifies a name: one comparison at most for nearly all names.
    pub fn of(name: &[u8]) -> Self {
        let Some(&first) = name.first() else {
            return Self::Other;
        };
        let (id, spelled): (Self, &[u8]) = match (name.len(), first | 0x20) {
            (2, b't') => (Self::Te, b"te"),
            (3, b'v') => (Self::Via, b"via"),
            (4, b'd') => (Self::Date, b"date"),
            (4, b'h') => (Self::Host, b"host"),
            (5, b'p') => (Self::Proxy, b"proxy"),
            (6, b'e') => (Self::Expect, b"expect"),
            (7, b't') => (Self::Trailer, b"trailer"),
            (7, b'u') => (Self::Upgrade, b"upgrade"),
            (9, b'f') => (Self::Forwarded, b"forwarded"),
            (9, b'x') => (Self::ForwardedOther, b"x-real-ip"),
            (10, b'c') => (Self::Connection, b"connection"),
            (10, b'k') => (Self::KeepAlive, b"keep-alive"),
            (11, b'c') => (Self::ClientCert, b"client-cert"),
            (11, b'x') => (Self::ForwardedOther, b"x-client-ip"),
            (12, b'x') => (Self::XRequestId, b"x-request-id"),
            (13, b'x') => (Self::ForwardedOther, b"x-rewrite-url"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (14, b'h') => (Self::Http2Settings, b"http2-settings"),
            (14, b't') => (Self::ForwardedOther, b"true-client-ip"),
            (14, b'x') => (Self::ForwardedOther, b"x-original-url"),
            (15, b'x') => (Self::ForwardedOther, b"x-original-host"),
            (16, b'c') => (Self::ForwardedOther, b"cf-connecting-ip"),
            (16, b'p') => (Self::ProxyConnection, b"proxy-connection"),
            (17, b'c') => (Self::ForwardedOther, b"client-cert-chain"),
            (17, b's') => (Self::SecWebSocketKey, b"sec-websocket-key"),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            (18, b'p') => (Self::ProxyAuthentication, b"proxy-authenticate"),
            (19, b'p') => (Self::ProxyAuthentication, b"proxy-authorization"),
            (19, b'x') => (Self::ForwardedOther, b"x-cluster-client-ip"),
            (21, b's') => (Self::SecWebSocketVersion, b"sec-websocket-version"),
            (24, b'x') => (Self::ForwardedOther, b"x-original-forwarded-for"),
            (25, b'p') => (Self::ProxyAuthentication, b"proxy-authentication-info"),
            (_, b'x') => return Self::of_x_forwarded(name),
            _ => return Self::Other,
        };
        // Setting 0x20 makes a letter small, and no other token character one of these names.
        let differs = name
            .iter()
            .zip(spelled)
            .fold(0, |bits, (byte, lower)| bits | ((byte | 0x20) ^ lower));
        if differs == 0 {
            id
        } else if first | 0x20 == b'x' {
            Self::of_x_forwarded(name)
        } else {
            Self::Other
        }
    }

    fn of_x_forwarded(name: &[u8]) -> Self {
        const PREFIX: &[u8] = b"x-forwarded-";
        let Some((prefix, rest)) = name.split_at_checked(PREFIX.len()) else {
            return Self::Other;
        };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Self::Other;
        }
        match rest {
            _ if rest.eq_ignore_ascii_case(b"for") => Self::XForwardedFor,
            _ if rest.eq_ignore_ascii_case(b"host") => Self::XForwardedHost,
            _ if rest.eq_ignore_ascii_case(b"port") => Self::XForwardedPort,
            _ if rest.eq_ignore_ascii_case(b"proto") => Self::XForwardedProto,
            _ => Self::ForwardedOther,
        }
    }
}

/// The values of the fields called `name` that are not suppressed, in their order.
pub(super) fn values<'a>(
    fields: &'a [Field],
    buf: &'a [u8],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| {
            !field.is_suppressed() && field.name.of(buf).eq_ignore_ascii_case(name.as_bytes())
        })
        .map(move |field| field.value.of(buf))
}

/// Takes the value of a field that may come only once.
pub(super) fn once<T, E>(slot: &mut Option<T>, value: T, fault: E) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(fault),
    }
}

/// Whether `bytes` are a token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Whether a byte may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    NAME[usize::from(byte)] != NO_TOKEN
}

/// What becomes of a field whose name is that of a field of the proxy's own for those who read `_`
/// as `-`, as CGI does (T21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Aliases {
    /// From a backend: clients know no such reading.
    Keep,
    /// Suppressed, whoever sends it: a backend would take it for what the proxy says.
    Drop,
}

impl Aliases {
    /// Whether a field is suppressed whose name has an underscore.
    #[cold]
    pub(in crate::protocol) fn suppress(self, name: &[u8]) -> bool {
        if self == Self::Keep {
            return false;
        }
        let mut spelled = [b'-'; ALIAS_BYTES_MAX];
        let length = name.len().min(spelled.len());
        for (place, byte) in spelled.iter_mut().zip(name) {
            *place = if *byte == b'_' { b'-' } else { *byte };
        }
        let spelled = &spelled[..length];
        FieldId::of(spelled) != FieldId::Other || spelled.eq_ignore_ascii_case(b"early-data")
    }
}

/// Longer than any name that is of our own, apart from those that begin with `X-Forwarded-`.
const ALIAS_BYTES_MAX: usize = 32;

/// Whether a name is a token in lower case, as HTTP/2 wants it, and if so, whether it has an
/// underscore (T21).
#[inline]
pub(in crate::protocol) fn lower_token(name: &[u8]) -> Option<bool> {
    let mut underscore = false;
    let common = find_uncommon(name, 0);
    for &byte in name.get(common..).unwrap_or_default() {
        match NAME[usize::from(byte)] {
            NO_TOKEN => return None,
            TOKEN => {}
            _ => underscore = true,
        }
    }
    let has_capital = |any: bool, byte: &u8| any | byte.is_ascii_uppercase();
    if name.iter().fold(false, has_capital) {
        return None;
    }
    (!name.is_empty()).then_some(underscore)
}

/// Parses the field lines of `buf` from `at` to the empty line that ends the section, and returns
/// the offset after that; `None` if the section is not complete yet.
///
/// Lines are read from left to right and the first fault is reported, so that the verdict is the
/// same however the bytes arrive (T13).
pub(super) fn parse_fields(
    buf: &[u8],
    mut at: usize,
    count_max: usize,
    aliases: Aliases,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, FieldFault> {
    loop {
        let start = at;
        at = find_uncommon(buf, at);
        let mut underscore = false;
        let stop = loop {
            let Some(&byte) = buf.get(at) else {
                let is_too_many = at > start && fields.len() >= count_max;
                return if is_too_many {
                    Err(FieldFault::TooMany)
                } else {
                    Ok(None)
                };
            };
            match NAME[usize::from(byte)] {
                NO_TOKEN => break byte,
                TOKEN => {}
                _ => underscore = true,
            }
            at += 1;
        };
        if at == start {
            return end_of_section(buf, at, stop);
        }
        if fields.len() >= count_max {
            return Err(FieldFault::TooMany);
        }
        if stop != b':' {
            return Err(FieldFault::InvalidName);
        }
        let name = Span::new(start, at);
        at += 1;
        let tidy_start = at + 1;
        while matches!(buf.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        let value_start = at;
        at = find_control(buf, at);
        let Some(after) = end_of_line(buf, at)? else {
            return Ok(None);
        };
        let mut value_end = at;
        while value_end > value_start && matches!(buf.get(value_end - 1), Some(b' ' | b'\t')) {
            value_end -= 1;
        }
        let id = FieldId::of(name.of(buf));
        fields.push(Field {
            name,
            value: Span::new(value_start, value_end),
            id,
            drop: id.is_hop_by_hop() || (underscore && aliases.suppress(name.of(buf))),
            tidy: value_start == tidy_start
                && value_end == at
                && buf.get(value_start - 1) == Some(&b' '),
        });
        at = after;
    }
}

/// What stands where a name should: the empty line that ends the section, or a fault.
fn end_of_section(buf: &[u8], at: usize, stop: u8) -> Result<Option<usize>, FieldFault> {
    match stop {
        b'\r' => match buf.get(at + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(at + 2)),
            Some(_) => Err(FieldFault::BareLineEnd),
        },
        b'\n' => Err(FieldFault::BareLineEnd),
        b' ' | b'\t' => Err(FieldFault::ObsoleteFold),
        _ => Err(FieldFault::InvalidName),
    }
}

/// The offset after the CRLF that must stand at `at`, where a value ended (RFC 9112 §2.2: a
/// recipient may take a bare LF for a line end; we may not, since others do not, T12, T13).
pub(super) fn end_of_line(buf: &[u8], at: usize) -> Result<Option<usize>, FieldFault> {
    match buf.get(at) {
        None => Ok(None),
        Some(b'\r') => match buf.get(at + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(at + 2)),
            Some(_) => Err(FieldFault::BareLineEnd),
        },
        Some(b'\n') => Err(FieldFault::BareLineEnd),
        Some(_) => Err(FieldFault::InvalidValue),
    }
}

const NO_TOKEN: u8 = 0;
const TOKEN: u8 = 1;
/// A token character as well, but one that turns a name into the alias of another one (T21).
const UNDERSCORE: u8 = 2;

/// The token characters of RFC 9110 §5.6.2.
static NAME: [u8; 256] = {
    let mut table = [NO_TOKEN; 256];
    let mut byte = 0;
    while byte < 256 {
        let is_tchar = matches!(
            byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
                | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~'
        );
        if is_tchar {
            table[byte] = TOKEN;
        }
        byte += 1;
    }
    table[b'_' as usize] = UNDERSCORE;
    table
};

#[cfg(test)]
mod tests;
