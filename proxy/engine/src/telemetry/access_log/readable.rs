//! A line of the log as a person reads it on a terminal: what happened to whom, and by whom.
//!
//! Runs on the log's own thread, and only where the standard output is a terminal. Every text is
//! taken over as the JSON has it, escapes included, so that nothing in it can drive the terminal.

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    time: &'a RawValue,
    #[serde(borrow)]
    method: &'a RawValue,
    #[serde(borrow)]
    host: &'a RawValue,
    #[serde(borrow)]
    path: &'a RawValue,
    status: u64,
    duration_us: u64,
    bytes_out: u64,
    #[serde(borrow)]
    frontend: &'a RawValue,
    #[serde(borrow)]
    backend: &'a RawValue,
    #[serde(borrow)]
    outcome: &'a RawValue,
    #[serde(borrow)]
    reason: &'a RawValue,
}

/// Appends whole lines of JSON as lines for people; one that is no record stays as it is.
pub(super) fn readable(lines: &[u8], out: &mut Vec<u8>) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice::<Line<'_>>(line) {
            Ok(line) => out.extend_from_slice(sentence(&line).as_bytes()),
            Err(_) => out.extend_from_slice(line),
        }
    }
}

fn sentence(line: &Line<'_>) -> String {
    // Of the time, hours to milliseconds: who sits in front of it knows the day.
    let time = text(line.time);
    let clock = time.get(11..23).unwrap_or(time);
    let (millis, micros) = (line.duration_us / 1000, line.duration_us / 100 % 10);
    let mut sentence = format!(
        "{clock} {} {} {}{} {millis}.{micros} ms, {} B",
        line.status,
        text(line.method),
        text(line.host),
        text(line.path),
        line.bytes_out,
    );
    let (frontend, backend) = (text(line.frontend), text(line.backend));
    match (frontend, backend) {
        ("", _) => {}
        (frontend, "") => sentence.push_str(&format!(" by {frontend}")),
        (frontend, backend) => sentence.push_str(&format!(" by {frontend} from {backend}")),
    }
    let (outcome, reason) = (text(line.outcome), text(line.reason));
    if outcome != "ok" {
        sentence.push_str(&format!(" ({outcome}"));
        if !reason.is_empty() {
            sentence.push_str(&format!(": {reason}"));
        }
        sentence.push(')');
    }
    sentence.push('\n');
    sentence
}

/// What stands between the quotes, escaped as it is; nothing for null.
fn text(value: &RawValue) -> &str {
    let raw = value.get();
    raw.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::readable;

    fn read(line: &str) -> String {
        let mut out = Vec::new();
        readable(line.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    const LINE: &str = concat!(
        r#"{"time":"2026-01-02T03:04:05.678Z","client":"10.0.0.1:1","method":"GET","#,
        r#""host":"shop.test","path":"/a\u001b[2J","protocol":"HTTP/1.1","status":200,"#,
        r#""bytes_in":0,"bytes_out":12,"duration_us":1234,"upstream_us":null,"generation":1,"#,
        r#""listener":"web","frontend":"shop","cluster":"shop","backend":"shop/one","#,
        r#""backend_address":null,"request_id":"x","user_agent":null,"referer":null,"#,
        r#""retries":0,"outcome":"OUTCOME","reason":REASON}"#,
        "\n"
    );

    #[test]
    fn a_line_tells_what_happened_and_stays_escaped() {
        let ok = LINE.replace("OUTCOME", "ok").replace("REASON", "null");
        assert_eq!(
            read(&ok),
            "03:04:05.678 200 GET shop.test/a\\u001b[2J 1.2 ms, 12 B by shop from shop/one\n"
        );
    }

    #[test]
    fn what_went_wrong_is_told() {
        let failed = LINE
            .replace("OUTCOME", "tls_failed")
            .replace("REASON", "\"expired\"")
            .replace("\"shop/one\"", "null");
        assert!(read(&failed).ends_with("by shop (tls_failed: expired)\n"));
    }

    #[test]
    fn each_line_is_one_and_others_stay() {
        let ok = LINE.replace("OUTCOME", "ok").replace("REASON", "null");
        let text = read(&format!("{ok}torn\n{ok}"));
        assert_eq!(text.lines().count(), 3);
        assert_eq!(text.lines().nth(1), Some("torn"));
    }
}
