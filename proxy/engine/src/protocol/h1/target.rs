//! The request target (RFC 9112 §3.2) and the one normal form of its path (T18, T20).
//!
//! A path is normalised here and nowhere else; what comes out is matched and forwarded, so that no
//! filter can be passed by spelling a path in another way. Characters that browsers and libraries
//! send although RFC 3986 has them escaped are escaped here, in path and query alike; the escapes
//! of a query are left as they came, for it is opaque and may be signed. What could be read in two
//! ways by the next hop is refused rather than repaired.

use super::Span;
use super::Text;
use super::error::Reject;
use super::scan::find_unplain_in_query;

/// A target taken apart.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::protocol) struct Target {
    /// As it came.
    pub(in crate::protocol) raw: Span,
    /// The normal path, or `*`.
    pub(super) path: Text,
    /// What follows the first `?`, without characters that must be escaped.
    pub(super) query: Option<Text>,
    /// In absolute-form, or from `:authority`: the authority, and the default port of the scheme.
    pub(in crate::protocol) authority: Option<(Span, u16)>,
    /// The target was in origin-form and normal, it can be sent on as it came.
    pub(super) verbatim: bool,
    /// The target was in origin-form, and its path is as it came and has no parameters.
    pub(super) is_plain: bool,
}

/// Parses the target at `at`, which ends at a space; `None` if that has not arrived.
pub(in crate::protocol) fn parse_target(
    buf: &[u8],
    at: usize,
    method: &[u8],
    slashes: Slashes,
    scratch: &mut Vec<u8>,
) -> Result<Option<Target>, Reject> {
    match buf.get(at) {
        Some(b'/') => parse_origin::<false>(buf, at, slashes, scratch),
        _ => parse_other_form(buf, at, method, slashes, scratch),
    }
}

/// Parses a target that has all of `buf` from `at` on: a path, or an asterisk (RFC 9113 §8.3.1).
pub(in crate::protocol) fn parse_whole_target(
    buf: &[u8],
    at: usize,
    method: &[u8],
    slashes: Slashes,
    scratch: &mut Vec<u8>,
) -> Result<Target, Reject> {
    let raw = Span::new(at, buf.len());
    match raw.of(buf) {
        b"*" if method == b"OPTIONS" => Ok(Target {
            raw,
            path: Text::Received(raw),
            ..Target::default()
        }),
        [b'/', ..] => parse_origin::<true>(buf, at, slashes, scratch)?.ok_or(Reject::InvalidPath),
        _ => Err(Reject::InvalidTarget),
    }
}

/// Parses a path and its query. A `WHOLE` one ends where `buf` does, any other at a space.
#[inline(always)]
fn parse_origin<const WHOLE: bool>(
    buf: &[u8],
    at: usize,
    slashes: Slashes,
    scratch: &mut Vec<u8>,
) -> Result<Option<Target>, Reject> {
    let path = scan_path(buf, at, slashes);
    let query = match buf.get(path.end) {
        Some(b'?') => Some(scan_query(buf, path.end + 1)),
        _ => None,
    };
    let end = query.map_or(path.end, |query| query.end);
    match buf.get(end) {
        None if WHOLE => {}
        None => return Ok(None),
        Some(b' ') if !WHOLE => {}
        Some(&byte) => return Err(misplaced(byte)),
    }
    let mut target = Target {
        raw: Span::new(at, end),
        path: Text::Received(Span::new(at, path.end)),
        query: query.map(|query| query_text(buf, path.end + 1, query, scratch)),
        authority: None,
        verbatim: path.is_normal && query.is_none_or(|query| query.is_normal),
        is_plain: path.is_normal && !path.has_parameters,
    };
    if !path.is_normal {
        let raw_path = buf.get(at..path.end).unwrap_or_default();
        target.path = rewrite(raw_path, slashes, scratch)?;
    }
    Ok(Some(target))
}

/// What becomes of empty segments, which many take for none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slashes {
    /// `//` is `/`, so that `//admin` cannot pass where `/admin` may not.
    #[default]
    Merge,
    /// `//` is two: for keys of objects, for addresses within a path, for signed paths.
    Keep,
}

/// `*` and the absolute-form; the authority-form belongs to CONNECT, which is refused before.
fn parse_other_form(
    buf: &[u8],
    at: usize,
    method: &[u8],
    slashes: Slashes,
    scratch: &mut Vec<u8>,
) -> Result<Option<Target>, Reject> {
    let end = scan_query(buf, at).end;
    match buf.get(end) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(&byte) => return Err(misplaced(byte)),
    }
    let raw = buf.get(at..end).unwrap_or_default();
    let mut target = Target {
        raw: Span::new(at, end),
        ..Target::default()
    };
    if raw == b"*" {
        if method != b"OPTIONS" {
            return Err(Reject::InvalidTarget);
        }
        target.path = Text::Received(target.raw);
        return Ok(Some(target));
    }
    let (scheme_length, port) = match raw {
        _ if starts_with(raw, b"http://") => (7, 80),
        _ if starts_with(raw, b"https://") => (8, 443),
        _ => return Err(Reject::InvalidTarget),
    };
    let authority_start = at + scheme_length;
    let rest = buf.get(authority_start..end).unwrap_or_default();
    let authority_length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let path_start = authority_start + authority_length;
    target.authority = Some((Span::new(authority_start, path_start), port));
    let path = scan_path(buf.get(..end).unwrap_or_default(), path_start, slashes);
    match buf.get(path.end) {
        Some(b'?') => {
            let query = scan_query(buf, path.end + 1);
            target.query = Some(query_text(buf, path.end + 1, query, scratch));
        }
        Some(b' ') => {}
        _ => return Err(Reject::InvalidPath),
    }
    target.path = match buf.get(path_start..path.end).unwrap_or_default() {
        // RFC 9112 §3.2.4: the absolute spelling of `OPTIONS *`.
        b"" if method == b"OPTIONS" && target.query.is_none() => append(b"*", scratch),
        b"" => append(b"/", scratch),
        _ if path.is_normal => Text::Received(Span::new(path_start, path.end)),
        raw_path => rewrite(raw_path, slashes, scratch)?,
    };
    Ok(Some(target))
}

/// Whose fault a byte is that can stand nowhere in a target.
fn misplaced(byte: u8) -> Reject {
    match byte {
        b'\r' | b'\n' => Reject::InvalidRequestLine,
        b'#' => Reject::InvalidTarget,
        _ => Reject::InvalidPath,
    }
}

fn starts_with(raw: &[u8], prefix: &[u8]) -> bool {
    raw.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn append(bytes: &[u8], scratch: &mut Vec<u8>) -> Text {
    let start = scratch.len();
    scratch.extend_from_slice(bytes);
    Text::Rewritten(Span::new(start, scratch.len()))
}

fn rewrite(raw: &[u8], slashes: Slashes, scratch: &mut Vec<u8>) -> Result<Text, Reject> {
    let start = scratch.len();
    normalise_path(raw, slashes, scratch)?;
    Ok(Text::Rewritten(Span::new(start, scratch.len())))
}

#[derive(Clone, Copy)]
struct Scan {
    /// Offset of the first byte that does not belong to it.
    end: usize,
    is_normal: bool,
    has_parameters: bool,
}

/// The fast path: most paths have no escape, no empty segment and no segment that begins with a
/// dot, and are normal as they are.
fn scan_path(buf: &[u8], at: usize, slashes: Slashes) -> Scan {
    let mut is_normal = true;
    let mut has_parameters = false;
    let mut end = at;
    while let Some(&byte) = buf.get(end) {
        match PATH[usize::from(byte)] {
            PLAIN => {}
            SLASH => {
                is_normal &= match buf.get(end + 1) {
                    Some(b'/') => slashes == Slashes::Keep,
                    Some(b'.') => false,
                    _ => true,
                };
            }
            ESCAPE | UNESCAPED => is_normal = false,
            PARAMETERS => has_parameters = true,
            _ => break,
        }
        end += 1;
    }
    Scan {
        end,
        is_normal,
        has_parameters,
    }
}

fn scan_query(buf: &[u8], at: usize) -> Scan {
    let mut is_normal = true;
    let mut end = at;
    loop {
        end = find_unplain_in_query(buf, end);
        match buf.get(end) {
            Some(&byte) if PATH[usize::from(byte)] == UNESCAPED => is_normal = false,
            _ => {
                return Scan {
                    end,
                    is_normal,
                    has_parameters: false,
                };
            }
        }
        end += 1;
    }
}

fn query_text(buf: &[u8], at: usize, query: Scan, scratch: &mut Vec<u8>) -> Text {
    let span = Span::new(at, query.end);
    if query.is_normal {
        return Text::Received(span);
    }
    let start = scratch.len();
    for &byte in span.of(buf) {
        match PATH[usize::from(byte)] {
            UNESCAPED => escape(byte, scratch),
            _ => scratch.push(byte),
        }
    }
    Text::Rewritten(Span::new(start, scratch.len()))
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

/// Appends the normal form of the absolute path `raw` to `out` (RFC 3986 §6.2.2, T20).
///
/// Escaped unreserved characters are decoded, other escapes are written in capitals, visible
/// characters that no path may hold are escaped, `//` becomes `/` where slashes are merged, dot
/// segments are resolved. `%2F` and `%5C` stay escaped: they are bytes of a segment. A `%` without
/// two digits stands for itself, as in the URLs of browsers, and is escaped, so that nobody behind
/// us reads anything else in it (`%u002e`). Refused are: `%00`, overlong UTF-8, a byte that is no
/// visible ASCII, `..` above the root, and a `..` that the next hop would find where we see none
/// (`..;x`, `..%2F`).
///
/// The normal form is its own normal form: it is decoded once, and what comes out of that is not read again.
pub fn normalise_path(raw: &[u8], slashes: Slashes, out: &mut Vec<u8>) -> Result<(), Reject> {
    let Some((b'/', rest)) = raw.split_first() else {
        return Err(Reject::InvalidPath);
    };
    let root = out.len() + 1;
    out.push(b'/');
    let mut segments = rest.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        decode_segment(segment, out)?;
        match out.get(start..).unwrap_or_default() {
            b"" if slashes == Slashes::Keep && segments.peek().is_some() => out.push(b'/'),
            b"" | b"." => out.truncate(start),
            b".." => {
                if start == root {
                    return Err(Reject::InvalidPath);
                }
                out.truncate(start - 1);
                let parent = memchr::memrchr(b'/', out).map_or(root, |slash| slash + 1);
                out.truncate(parent);
            }
            decoded if hides_parent(decoded) => return Err(Reject::InvalidPath),
            _ if segments.peek().is_some() => out.push(b'/'),
            _ => {}
        }
    }
    Ok(())
}

fn decode_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
    let mut rest = segment;
    let mut escaped_before = 0;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let Some(value) = escaped(byte, behind) else {
            match PATH[usize::from(byte)] {
                FOREIGN => return Err(Reject::InvalidPath),
                UNESCAPED | ESCAPE => escape(byte, out),
                _ => out.push(byte),
            }
            escaped_before = 0;
            continue;
        };
        rest = behind.get(2..).unwrap_or_default();
        if value == 0 || is_overlong(escaped_before, value) {
            return Err(Reject::InvalidPath);
        }
        escaped_before = value;
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
            out.push(value);
        } else {
            escape(value, out);
        }
    }
    Ok(())
}

/// The byte that an escape stands for; a `%` without two digits behind it is none.
fn escaped(byte: u8, behind: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    match *behind {
        [high, low, ..] if byte == b'%' => Some((digit(high)? * 16 + digit(low)?) as u8),
        _ => None,
    }
}

/// Whether two bytes begin an UTF-8 sequence that spells a shorter one's character (RFC 3629 §3):
/// a lenient decoder takes `%C0%AE` for a dot.
fn is_overlong(lead: u8, next: u8) -> bool {
    matches!(
        (lead, next),
        (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f)
    )
}

/// Whether a segment holds a `..` for those who decode `%2F` or `%5C`, or cut off parameters.
fn hides_parent(segment: &[u8]) -> bool {
    if memchr::memmem::find(segment, b"..").is_none() {
        return false;
    }
    let mut rest = segment;
    loop {
        let next = memchr::memchr_iter(b'%', rest)
            .find(|&at| matches!(rest.get(at + 1..at + 3), Some(b"2F" | b"5C")));
        let part = rest.get(..next.unwrap_or(rest.len())).unwrap_or_default();
        let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
        if name == b".." {
            return true;
        }
        match next {
            Some(at) => rest = rest.get(at + 3..).unwrap_or_default(),
            None => return false,
        }
    }
}

/// A byte that no target may hold.
const FOREIGN: u8 = 0;
const PLAIN: u8 = 1;
const SLASH: u8 = 2;
const ESCAPE: u8 = 3;
/// A visible character that RFC 3986 wants escaped, and that browsers and Node send as it is.
const UNESCAPED: u8 = 4;
/// `;`, plain as well: behind it some find parameters.
const PARAMETERS: u8 = 5;

/// `pchar` of RFC 3986 §3.3, and the brackets that many clients leave as they are.
static PATH: [u8; 256] = {
    let mut table = [FOREIGN; 256];
    let mut byte = 0;
    while byte < 256 {
        let is_plain = matches!(
            byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\''
                | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' | b'[' | b']'
        );
        let is_unescaped = matches!(
            byte as u8,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        );
        if is_plain {
            table[byte] = PLAIN;
        } else if is_unescaped {
            table[byte] = UNESCAPED;
        }
        byte += 1;
    }
    table[b'/' as usize] = SLASH;
    table[b'%' as usize] = ESCAPE;
    table[b';' as usize] = PARAMETERS;
    table
};

#[cfg(test)]
mod tests;
