//! Fields of heads that are edited.

use std::borrow::Cow;

use super::*;
use crate::policy::changes::edits::{Edits, Reach};
use crate::policy::changes::room::Overgrown;
use crate::protocol::lines::LineBuf;
use crate::state::entity::HeaderEdits;

fn edits(value: &str) -> Edits {
    let edits: HeaderEdits = serde_json::from_str(value).unwrap();
    Edits::of(&edits, None).unwrap().unwrap()
}

#[test]
fn lines_that_are_written_are_edited() {
    let edits = edits(
        r#"{"add":{"Vary":"X"},"remove":["location"],"set":{"X-Frame-Options":"DENY","X-Gone":"{header:x-none}"}}"#,
    );
    let lines = Asked::get("/").seen(|facts| edits.lines(&Values::new(facts, None)).unwrap());
    assert_eq!(
        lines.at(Reach::All).to_text(),
        b"X-Frame-Options: DENY\r\nVary: X\r\n"
    );
    let named: Vec<&str> = edits.drops(Reach::All).iter().map(|name| &**name).collect();
    assert_eq!(named, ["X-Frame-Options", "X-Gone", "location"]);
    let kept = LineBuf::one(b"Upgrade", b"b");
    let mut written = LineBuf::one(b"Location", b"/a");
    written.append(kept.lines());
    written.push(b"x-gone", b"c");
    let without = |lines| edits.without(Cow::Borrowed(lines), Reach::All);
    assert_eq!(*without(&written), kept);
    assert!(matches!(without(&kept), Cow::Borrowed(_)));
    assert!(without(&LineBuf::default()).is_empty());
}

#[test]
fn an_edit_may_be_for_some_answers_only() {
    let edits = edits(
        r#"{"add":{"Vary":"X"},"remove":["Expires"],"set":{"Cache-Control":"{path}","X-A":{"answers":"success","text":"a"},"CDN-Cache-Control":{"answers":"all","text":"b"}}}"#,
    );
    let lines = Asked::get("/").seen(|facts| edits.lines(&Values::new(facts, None)).unwrap());
    let seen = |status: u16, is_own: bool| {
        let reach = Reach::of(status, is_own);
        let lines = String::from_utf8(lines.at(reach).to_text()).unwrap();
        (lines, edits.drops(reach).join(" "))
    };
    let all = "CDN-Cache-Control: b\r\nVary: X\r\n";
    let kept = format!("{all}Cache-Control: /\r\n");
    let success = format!("{kept}X-A: a\r\n");
    let names = "CDN-Cache-Control Cache-Control Expires";
    for (status, is_own) in [(200, true), (200, false), (301, true), (101, false)] {
        assert_eq!(
            seen(status, is_own),
            (success.clone(), format!("{names} X-A"))
        );
    }
    assert_eq!(seen(404, false), (kept, names.to_owned()));
    assert_eq!(
        seen(502, true),
        (all.to_owned(), "CDN-Cache-Control".to_owned())
    );
}

#[test]
fn requests_know_of_no_answers() {
    let keys = |key: &str| {
        let said = r#"{"set":{"X-A":{"answers":"success","text":"a"}}}"#;
        let frontend = format!(r#"{{{CLUSTER},"listeners":["web"],"{key}":{said}}}"#);
        serde_json::from_str::<Frontend>(&frontend).unwrap().check()
    };
    assert!(keys("response_headers").is_ok());
    assert!(keys("request_headers").is_err());
}

#[test]
fn the_proxys_own_fields_are_not_to_be_edited() {
    let checked = |key: &str, name: &str| {
        let keys = format!(r#"{CLUSTER},"listeners":["web"],"{key}":{{"remove":["{name}"]}}"#);
        let frontend: Frontend = serde_json::from_str(&format!("{{{keys}}}")).unwrap();
        frontend.check().is_ok()
    };
    for name in [
        "Host",
        "connection",
        "Content-Length",
        "TE",
        "Upgrade",
        "Transfer_Encoding",
        "Via",
    ] {
        assert!(!checked("request_headers", name), "{name}");
        assert!(!checked("response_headers", name), "{name}");
    }
    for name in [
        "X-Forwarded-For",
        "forwarded",
        "X_Forwarded_Proto",
        "Client-Cert",
        "X-Request-Id",
    ] {
        assert!(!checked("request_headers", name), "{name}");
    }
    assert!(!checked("response_headers", "Strict-Transport-Security"));
    for name in ["X-Real-IP", "Cookie", "Server"] {
        assert!(checked("request_headers", name), "{name}");
    }
}

/// Keys of a frontend by which a header's value goes to so many places.
fn repeating(key: &str, times: usize) -> String {
    let text = "{header:x-in}".repeat(times);
    match key {
        "redirect" => format!(r#""redirect":{{"path":{{"full":"/{text}"}}}}"#),
        "query" => format!(r#""redirect":{{"hostname":"b","query":{{"full":"a={text}"}}}}"#),
        "rewrite" => format!(r#""cluster":"c","rewrite":{{"path":{{"full":"/{text}"}}}}"#),
        _ => {
            let fields = format!(r#""X-A":"{{header:x-in}}","X-B":"{}""#, &text[13..]);
            format!(r#""cluster":"c","request_headers":{{"set":{{{fields}}}}}"#)
        }
    }
}

#[test]
fn what_a_client_sends_is_not_multiplied_beyond_the_bound_of_heads() {
    let long = "a".repeat(1000);
    let asked = Asked::by(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-In: {long}"));
    let bound = listener().head_limits.head_bytes_max;
    for key in ["redirect", "query", "rewrite", "request_headers"] {
        let fits = asked.answered_at(&repeating(key, bound / 1000));
        assert!(
            fits.is_none_or(|(_, reason)| reason == Reason::Redirected),
            "{key}"
        );
        let grown = asked.answered_at(&repeating(key, bound / 1000 + 1));
        assert_eq!(grown, Some((431, Reason::Overgrown)), "{key}");
    }
    // What is written for a character that cannot stand there counts as well.
    let escaped = Asked::by(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-In: {}",
        "/".repeat(1000)
    ));
    let keys = repeating("redirect", bound / 3000 + 1);
    assert_eq!(escaped.answered_at(&keys), Some((431, Reason::Overgrown)));
}

#[test]
fn what_an_answer_gets_has_the_same_bound_and_text_does_not_count() {
    let asked = Asked::get("/");
    let text = "x".repeat(8000);
    let fields: Vec<String> = (0..8)
        .map(|it| format!(r#""X-{it}":"{text}{{path}}""#))
        .collect();
    let edits = edits(&format!(r#"{{"set":{{{}}}}}"#, fields.join(",")));
    let lines = asked.seen(|facts| edits.lines(&Values::new(facts, None)));
    assert!(lines.unwrap().all().lines().size() > listener().head_limits.head_bytes_max);
    let long = Asked::by(&format!("GET /{} HTTP/1.1\r\nHost: a", "a".repeat(5000)));
    let lines = long.seen(|facts| edits.lines(&Values::new(facts, None)));
    assert_eq!(lines.unwrap_err(), Overgrown);
}

#[test]
fn what_is_said_of_a_body_is_true_of_one_that_is_compressed() {
    let edits = edits(
        r#"{"add":{"Accept-Ranges":"bytes"},"set":{"ETag":"\"abc\"","Cache-Control":"no-cache","Content-Encoding":"identity","X-Own":{"answers":"success","text":"x"}}}"#,
    );
    let made = Asked::get("/").seen(|facts| edits.lines(&Values::new(facts, None)).unwrap());
    let lines = |reach| String::from_utf8(made.of_compressed().at(reach).to_text()).unwrap();
    assert_eq!(lines(Reach::All), "ETag: W/\"abc\"\r\n");
    let kept = "ETag: W/\"abc\"\r\nCache-Control: no-cache\r\n";
    assert_eq!(lines(Reach::Kept), kept);
    assert_eq!(lines(Reach::Success), format!("{kept}X-Own: x\r\n"));
    let again = made.of_compressed();
    assert_eq!(again.of_compressed(), again);
}
