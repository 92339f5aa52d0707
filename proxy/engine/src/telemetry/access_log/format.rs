//! A record as a line of JSON, written byte by byte: no allocation but for the growth of `out`.
//!
//! The reader of a log is often a terminal. So whatever a client sent, the line is one line of
//! valid UTF-8 JSON without any control character: bytes that are no UTF-8 become `\u00XX`, and so
//! do the controls of Latin-1; line separators and what reverses the direction of text are escaped.

use std::io::Write;
use std::net::SocketAddr;

use super::Record;
use crate::runtime::socket::Endpoint;

/// Appends a record as one line, newline included.
pub fn format_json(record: &Record<'_>, out: &mut Vec<u8>) {
    Formatter::default().format_json(record, out);
}

/// The same for one record after another: the text of the second is kept.
#[derive(Clone, Debug)]
pub struct Formatter {
    second: u64,
    text: [u8; SECOND_BYTES],
}

impl Formatter {
    /// Appends a record as one line, newline included.
    pub fn format_json(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.reserve(TYPICAL_LINE_BYTES);
        out.extend_from_slice(b"{\"time\":\"");
        self.time(record.time_us, out);
        out.extend_from_slice(b"\",\"client\":");
        address(Some(record.client), out);
        text(b",\"method\":", record.method, out);
        text(b",\"host\":", record.host, out);
        text(b",\"path\":", record.path, out);
        text(b",\"protocol\":", record.protocol.as_bytes(), out);
        number(b",\"status\":", u64::from(record.status), out);
        number(b",\"bytes_in\":", record.bytes_in, out);
        number(b",\"bytes_out\":", record.bytes_out, out);
        number(b",\"duration_us\":", record.duration_us, out);
        match record.upstream_us {
            Some(us) => number(b",\"upstream_us\":", us, out),
            None => out.extend_from_slice(b",\"upstream_us\":null"),
        }
        number(b",\"generation\":", record.generation, out);
        optional(b",\"listener\":", record.listener.map(str::as_bytes), out);
        optional(b",\"frontend\":", record.frontend.map(str::as_bytes), out);
        optional(b",\"cluster\":", record.cluster.map(str::as_bytes), out);
        optional(b",\"backend\":", record.backend.map(str::as_bytes), out);
        out.extend_from_slice(b",\"backend_address\":");
        match record.backend_address {
            Some(Endpoint::Tcp(known)) => address(Some(*known), out),
            Some(Endpoint::Unix(path)) => {
                out.extend_from_slice(b"\"unix:");
                escape_text(path.as_bytes(), out);
                out.push(b'"');
            }
            None => address(None, out),
        }
        text(b",\"request_id\":", record.request_id, out);
        optional(b",\"user_agent\":", record.user_agent, out);
        optional(b",\"referer\":", record.referer, out);
        number(b",\"retries\":", u64::from(record.retries), out);
        // Most are served by the first one.
        for (at, backend) in record.tried.iter().enumerate() {
            let key: &[u8] = match at {
                0 => b",\"tried\":[",
                _ => b",",
            };
            out.extend_from_slice(key);
            text(b"", backend.name.as_bytes(), out);
        }
        if !record.tried.is_empty() {
            out.push(b']');
        }
        // Few are any cluster's but their own.
        if let Some(cluster) = record.fallback_of {
            text(b",\"fallback_of\":", cluster.as_bytes(), out);
        }
        text(b",\"outcome\":", record.outcome.as_bytes(), out);
        optional(b",\"reason\":", record.reason.map(str::as_bytes), out);
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC, to the millisecond.
    fn time(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        let second = unix_us / 1_000_000;
        if second != self.second {
            self.second = second;
            self.text = second_text(second);
        }
        let milliseconds = unix_us / 1000 % 1000;
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&[
            b'.',
            b'0' + (milliseconds / 100) as u8,
            b'0' + (milliseconds / 10 % 10) as u8,
            b'0' + (milliseconds % 10) as u8,
            b'Z',
        ]);
    }
}

impl Default for Formatter {
    fn default() -> Self {
        Self {
            second: 0,
            text: second_text(0),
        }
    }
}

/// `2026-01-02T03:04:05`, or the last second of 9999, which is the last of the format.
fn second_text(second: u64) -> [u8; SECOND_BYTES] {
    let second = second.min(SECOND_MAX);
    let (year, month, day) = date(second / 86_400);
    let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
    let mut text = *b"0000-00-00T00:00:00";
    let fields = [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, hour),
        (14, minute),
        (17, second % 60),
    ];
    for (at, value) in fields {
        text[at] += (value / 10) as u8;
        text[at + 1] += (value % 10) as u8;
    }
    text
}

/// Year, month and day, from days since 1970.
///
/// Counts years from March, so that the leap day is their last, in eras of 400 years (Howard
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let day = day - (153 * march_month + 2) / 5 + 1;
    (era * 400 + year + u64::from(month <= 2), month, day)
}

// Inlined, so that the keys become constants in the code rather than copies of unknown length.
#[inline(always)]
fn number(key: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline(always)]
fn optional(key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => text(key, value, out),
        None => {
            out.extend_from_slice(key);
            out.extend_from_slice(b"null");
        }
    }
}

fn address(address: Option<SocketAddr>, out: &mut Vec<u8>) {
    match address {
        // By hand, because nearly all are of this form, and `Display` takes five times as long.
        Some(SocketAddr::V4(address)) => {
            let mut before = b'"';
            for octet in address.ip().octets() {
                out.push(before);
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                before = b'.';
            }
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(address.port()).as_bytes());
            out.push(b'"');
        }
        Some(SocketAddr::V6(address)) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "\"{address}\"");
        }
        None => out.extend_from_slice(b"null"),
    }
}

#[inline(always)]
fn text(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.push(b'"');
    // Nearly all values are plain from end to end. Looking at every byte, without a way out, is what
    // the compiler makes vector instructions of.
    if value
        .iter()
        .fold(true, |plain, byte| plain & is_plain(*byte))
    {
        out.extend_from_slice(value);
    } else {
        escape_text(value, out);
    }
    out.push(b'"');
}

/// Whether a byte stands for itself in a JSON string, whatever is around it.
#[inline]
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\')
}

#[cold]
fn escape_text(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(special) = rest.iter().position(|byte| !is_plain(*byte)) {
        let (plain, after) = rest.split_at(special);
        out.extend_from_slice(plain);
        let end = after
            .iter()
            .position(|byte| is_plain(*byte))
            .unwrap_or(after.len());
        escape_run(&after[..end], out);
        rest = &after[end..];
    }
    out.extend_from_slice(rest);
}

/// Writes a run of bytes none of which is plain.
fn escape_run(run: &[u8], out: &mut Vec<u8>) {
    for piece in run.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                _ if is_harmful(character) => escape_unit(character as u32, out),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in piece.invalid() {
            escape_unit(u32::from(*byte), out);
        }
    }
}

/// Controls, line separators and what reverses the direction of text; all within 16 bits.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

fn escape_unit(unit: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[(unit >> shift & 0xf) as usize]);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const SECOND_BYTES: usize = 19;
/// The last second of the year 9999.
const SECOND_MAX: u64 = 253_402_300_799;
const TYPICAL_LINE_BYTES: usize = 640;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;

    use super::super::tests::record;
    use super::*;

    fn line(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        format_json(record, &mut out);
        let line = String::from_utf8(out).unwrap();
        assert!(line.ends_with("}\n"));
        assert!(!line[..line.len() - 1].chars().any(is_harmful), "{line:?}");
        line
    }

    fn value(record: &Record<'_>) -> Value {
        serde_json::from_str(&line(record)).unwrap()
    }

    #[test]
    fn a_line_has_everything() {
        let expected = json!({
            "time": "2026-07-04T12:34:56.007Z", "client": "192.0.2.7:50123", "method": "GET",
            "host": "shop.example.com", "path": "/cart?id=1", "protocol": "HTTP/1.1",
            "status": 200, "bytes_in": 0, "bytes_out": 1234, "duration_us": 1500,
            "upstream_us": 1200, "generation": 7, "listener": "public-http",
            "frontend": "shop-web", "cluster": "shop", "backend": "shop-1",
            "backend_address": "127.0.0.1:9001", "request_id": "0123456789abcdef",
            "user_agent": "curl/8", "referer": null, "retries": 0, "outcome": "ok", "reason": null,
        });
        assert_eq!(value(&record()), expected);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let record = Record {
            client: "[2001:db8::1]:443".parse().unwrap(),
            upstream_us: None,
            frontend: None,
            cluster: None,
            backend: None,
            backend_address: None,
            ..record()
        };
        let value = value(&record);
        assert_eq!(value["client"], "[2001:db8::1]:443");
        for key in [
            "upstream_us",
            "frontend",
            "cluster",
            "backend",
            "backend_address",
        ] {
            assert_eq!(value[key], Value::Null, "{key}");
        }
    }

    #[test]
    fn a_socket_has_its_path() {
        let socket = Endpoint::unix("/run/\"é.sock").unwrap();
        let record = Record {
            backend_address: Some(&socket),
            ..record()
        };
        assert_eq!(value(&record)["backend_address"], "unix:/run/\"é.sock");
    }

    #[test]
    fn a_client_cannot_write_the_log() {
        let path = "/\r\n{\"status\":200}\\\"\u{7f}\u{9b}2J\u{202e}\u{2028}é".as_bytes();
        let path = [path, b"\xff\xc3\x00"].concat();
        let line = line(&Record {
            path: &path,
            ..record()
        });
        let expected = concat!(
            r#""path":"/\u000d\u000a{\"status\":200}\\\"\u007f\u009b2J\u202e\u2028é"#,
            r#"\u00ff\u00c3\u0000","protocol""#
        );
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn times_follow_the_calendar() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (SECOND_MAX, "9999-12-31T23:59:59"),
            (u64::MAX, "9999-12-31T23:59:59"),
        ] {
            assert_eq!(std::str::from_utf8(&second_text(second)).unwrap(), expected);
        }
    }

    #[test]
    fn milliseconds_have_three_digits() {
        let mut formatter = Formatter::default();
        for (us, expected) in [
            (0, "00.000Z"),
            (59_999_999, "59.999Z"),
            (1_070_999, "01.070Z"),
        ] {
            let mut out = Vec::new();
            formatter.time(us, &mut out);
            assert!(out.ends_with(expected.as_bytes()), "{us}");
        }
    }

    /// The figure printed is the cost of one record (`cargo test --release -- --nocapture`).
    #[test]
    fn formatting_takes_no_time_to_speak_of() {
        let record = record();
        let mut formatter = Formatter::default();
        let mut out = Vec::with_capacity(1 << 20);
        let round = |out: &mut Vec<u8>, formatter: &mut Formatter| {
            out.clear();
            let start = Instant::now();
            for _ in 0..1000 {
                formatter.format_json(&record, out);
            }
            start.elapsed() / 1000
        };
        let best = (0..20)
            .map(|_| round(&mut out, &mut formatter))
            .min()
            .unwrap_or_default();
        println!(
            "access log: {best:?} for a line of {} bytes",
            out.len() / 1000
        );
        assert!(best.as_micros() < 100, "{best:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_valid_line(
            path in prop::collection::vec(any::<u8>(), 0..64),
            agent in ".*",
            time_us: u64,
        ) {
            let user_agent = Some(agent.as_bytes());
            let value = value(&Record { path: &path, user_agent, time_us, ..record() });
            prop_assert_eq!(value["user_agent"].as_str(), Some(agent.as_str()));
            if let Ok(path) = std::str::from_utf8(&path) {
                prop_assert_eq!(value["path"].as_str(), Some(path));
            }
        }
    }
}
