//! The stages and their order, templates, and what is made of requests.

mod asking;

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::changes::template::{Escape, Template, Values};
use super::facts::Facts;
use super::guards::vault::Vault;
use super::limits::in_flight::InFlight;
use super::limits::meter::Meter;
use super::limits::refused::Refused;
use super::plan::{Changes, Plan};
use super::{Answer, Reason, Step, decide};
use crate::protocol::h1::request;
use crate::protocol::h1::target::normalise_path;
use crate::protocol::h1::{RequestHead, Slashes};
use crate::protocol::lines::Lines;
use crate::routing::regexes::Regexes;
use crate::state::entity::{Entity, Frontend, Kind, Listener};
use crate::state::kinds::registry::Value as _;
use crate::state::listener::ListenerSettings;
use crate::state::named::Named;
use crate::tls::client_identity::ClientIdentity;

/// A request of somebody, and what is known of him.
pub(super) struct Asked {
    text: Vec<u8>,
    peer: IpAddr,
    is_early: bool,
    client: Option<ClientIdentity>,
}

type Decided = Result<Option<Box<Changes>>, Answer>;

/// Where a redirect leads.
fn place_of(answer: &Answer) -> String {
    let all: Vec<_> = answer.lines.lines().collect();
    assert!(all.len() == 1 && all[0].is_named("location"), "{all:?}");
    String::from_utf8(all[0].value().to_vec()).unwrap()
}

impl Asked {
    pub(super) fn by(text: &str) -> Self {
        Self {
            text: format!("{text}\r\n\r\n").into_bytes(),
            peer: [192, 0, 2, 1].into(),
            is_early: false,
            client: None,
        }
    }

    fn get(target: &str) -> Self {
        Self::by(&format!("GET {target} HTTP/1.1\r\nHost: Shop.test:81"))
    }

    pub(super) fn from(mut self, peer: impl Into<IpAddr>) -> Self {
        self.peer = peer.into();
        self
    }

    fn by_trusted(mut self) -> Self {
        self.peer = [10, 0, 0, 1].into();
        self
    }

    /// Has it looked at as the stages see it.
    pub(super) fn seen<T>(&self, look: impl FnOnce(&Facts<'_>) -> T) -> T {
        let listener = listener();
        let mut head = RequestHead::default();
        let parsed = request::parse(&self.text, &listener.head_limits, &mut head);
        assert_eq!(parsed, Ok(Some(self.text.len())));
        look(&Facts {
            head: &head,
            bytes: &self.text,
            said: Lines::default(),
            claims: &[],
            listener: &listener,
            listener_name: "web",
            peer: self.peer,
            is_early: self.is_early,
            client: self.client.as_ref(),
            tls_version: "",
            own_id: b"0123",
            frontend_name: "shop",
            frontend_listeners: &[],
            vault: &Vault::default(),
            tokens: &Vault::default(),
            meter: &Meter::default(),
            refused: &Refused::default(),
            in_flight: &InFlight::default(),
            now_ns: 0,
            unix_us: 0,
            listeners: &Named::default(),
        })
    }

    /// What becomes of it at a frontend with these keys.
    fn at(&self, keys: &str) -> Decided {
        let frontend = frontend(keys);
        let plan = plan(&frontend).unwrap();
        self.seen(|facts| {
            let merged = plan.as_deref().and_then(Plan::merged);
            match decide(&frontend, plan.as_deref(), merged, facts) {
                Step::Forward(changes) => Ok(changes),
                Step::Answer(answer) => Err(answer),
                Step::Wait(_) => panic!("nobody is asked"),
            }
        })
    }

    fn answered_at(&self, keys: &str) -> Option<(u16, Reason)> {
        self.at(keys)
            .err()
            .map(|answer| (answer.status, answer.reason))
    }

    /// Where a redirect sends it.
    fn sent_by(&self, redirect: &str) -> String {
        let keys = format!(r#""redirect":{redirect}"#);
        place_of(&self.at(&keys).unwrap_err())
    }

    /// The path to which it is rewritten, at a frontend with this path.
    fn path_by(&self, path: &str, rewrite: &str) -> Result<String, u16> {
        self.target_by(path, &format!(r#""path":{rewrite},"query":"drop""#))
    }

    /// The same with its query, by the keys of a rewrite.
    fn target_by(&self, path: &str, rewrite: &str) -> Result<String, u16> {
        let keys = format!(r#""cluster":"c","path":{path},"rewrite":{{{rewrite}}}"#);
        match self.at(&keys) {
            Ok(changes) => Ok(String::from_utf8(changes.unwrap().target.unwrap()).unwrap()),
            Err(answer) => Err(answer.status),
        }
    }

    fn expanded(&self, template: &str, escape: Escape) -> String {
        let template = Template::parse(template, None).unwrap();
        let mut out = Vec::new();
        let fits = self.seen(|facts| template.write(&Values::new(facts, None), escape, &mut out));
        assert_eq!(fits, Ok(()));
        String::from_utf8(out).unwrap()
    }
}

fn frontend(keys: &str) -> Frontend {
    let value = format!(r#"{{"listeners":["web"],{keys}}}"#);
    match Entity::from_json(Kind::Frontend, &value).unwrap() {
        Entity::Frontend(frontend) => {
            frontend.check().unwrap();
            *frontend
        }
        _ => panic!("a frontend"),
    }
}

fn plan(frontend: &Frontend) -> Result<Option<Box<Plan>>, String> {
    Plan::of(frontend, &mut Regexes::default(), |_| {
        Ok(Some(b"from a file"))
    })
}

/// It trusts some proxies, and takes bodies of ten bytes.
fn listener() -> ListenerSettings {
    let value =
        r#"{"address":"127.0.0.1:80","limits":{"body_bytes":10},"trusted_proxies":["10.0.0.0/8"]}"#;
    let listener: Listener = serde_json::from_str(value).unwrap();
    ListenerSettings::new(Arc::new(listener), None)
}

const CLUSTER: &str = r#""cluster":"c""#;
const REDIRECT: &str = r#""cluster":"c","redirect":"https""#;
const CERTIFICATE: &str = r#""cluster":"c","client_certificate":"required""#;
const EARLY: &str = r#""cluster":"c","early_data":true"#;
const BOTH: &str = r#""cluster":"c","client_certificate":"required","redirect":"https""#;

#[test]
fn a_frontend_that_asks_for_nothing_has_no_plan() {
    let has_plan = |keys: &str| plan(&frontend(keys)).unwrap().is_some();
    assert!(!has_plan(CLUSTER));
    // What its connection is asked about is no stage of a plan, nor is what routing has seen to.
    assert!(!has_plan(EARLY));
    assert!(!has_plan(r#""cluster":"c","methods":["GET"]"#));
    for keys in [
        REDIRECT,
        CERTIFICATE,
        r#""cluster":"c","deny":["10.0.0.0/8"]"#,
        r#""cluster":"c","hsts":{"max_age_days":1}"#,
        r#""respond":{}"#,
        r#""cluster":"c","request_headers":{"remove":["X-A"]}"#,
    ] {
        assert!(has_plan(keys), "{keys}");
    }
    assert_eq!(Asked::get("/").at(CLUSTER), Ok(None));
}

#[test]
fn the_first_stage_that_has_an_answer_gives_it() {
    let mut request = Asked::by(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 8",
    );
    request.is_early = true;
    assert_eq!(request.answered_at(BOTH), Some((425, Reason::TooEarly)));
    request.is_early = false;
    assert_eq!(request.answered_at(BOTH), Some((413, Reason::TooLarge)));
    let text = String::from_utf8(request.text).unwrap();
    request.text = text.replace("Length: 11", "Length: 9").into();
    let limited = format!(r#"{BOTH},"limits":{{"body_bytes":8}}"#);
    assert_eq!(request.answered_at(&limited), Some((413, Reason::TooLarge)));
    let wide = format!(r#"{BOTH},"limits":{{"body_bytes":9}}"#);
    assert_eq!(request.answered_at(&wide), Some((308, Reason::Redirected)));
    request.text = text.replace("Length: 11", "Length: 0").into();
    let all = format!(r#"{BOTH},"deny":["0.0.0.0/0"]"#);
    assert_eq!(request.answered_at(&all), Some((308, Reason::Redirected)));
    let all = format!(r#"{CERTIFICATE},"deny":["0.0.0.0/0"]"#);
    assert_eq!(request.answered_at(&all), Some((403, Reason::Denied)));
    let missing = Some((403, Reason::CertificateMissing));
    assert_eq!(request.answered_at(CERTIFICATE), missing);
    let answers = r#""client_certificate":"required","respond":{"status":200}"#;
    assert_eq!(request.answered_at(answers), missing);
    let both = r#""redirect":"https","respond":{"status":200}"#;
    assert_eq!(request.answered_at(both), Some((308, Reason::Redirected)));
}

#[test]
fn nothing_is_asked_of_a_client_in_clear_text() {
    let mut request =
        Asked::by("GET /a?b HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https").by_trusted();
    let missing = Some((403, Reason::CertificateMissing));
    assert_eq!(
        request.answered_at(BOTH),
        missing,
        "a proxy got it over TLS"
    );
    request.client = Some(ClientIdentity::default());
    assert_eq!(request.answered_at(BOTH), None);
    request.peer = [192, 0, 2, 1].into();
    let answer = request.at(BOTH).unwrap_err();
    assert_eq!(place_of(&answer), "https://a.test/a?b");
}

#[test]
fn early_data_is_taken_where_it_is_allowed_and_safe() {
    let mut safe = Asked::get("/");
    safe.is_early = true;
    assert_eq!(safe.answered_at(EARLY), None);
    assert_eq!(safe.answered_at(CLUSTER), Some((425, Reason::TooEarly)));
    let mut unsafe_one = Asked::by("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0");
    unsafe_one.is_early = true;
    assert_eq!(unsafe_one.answered_at(EARLY), Some((425, Reason::TooEarly)));
}

#[test]
fn a_request_is_sent_back_by_nobody_who_does_not_say_so() {
    let trace = Asked::by("TRACE / HTTP/1.1\r\nHost: a.test");
    assert_eq!(trace.answered_at(CLUSTER), Some((405, Reason::Trace)));
    let named = format!(r#"{CLUSTER},"methods":["TRACE"]"#);
    assert_eq!(trace.answered_at(&named), None);
}

#[test]
fn what_is_asked_of_a_host_is_asked_of_a_host() {
    let asked = Asked::by("OPTIONS * HTTP/1.1\r\nHost: shop.test:81");
    for (said, expected) in [
        (r#"{"scheme":"https"}"#, "https://shop.test"),
        (r#"{"hostname":"b.test"}"#, "http://b.test:81"),
    ] {
        assert_eq!(asked.sent_by(said), expected, "{said}");
    }
}

#[test]
fn a_redirect_changes_what_it_names() {
    let asked = Asked::get("/a/b?x=%20");
    for (redirect, expected) in [
        (r#"{"scheme":"https"}"#, "https://shop.test/a/b?x=%20"),
        (r#"{"hostname":"b.test"}"#, "http://b.test:81/a/b?x=%20"),
        (
            r#"{"hostname":"www.{hostname}"}"#,
            "http://www.shop.test:81/a/b?x=%20",
        ),
        (r#"{"port":8080}"#, "http://shop.test:8080/a/b?x=%20"),
        (r#"{"port":80}"#, "http://shop.test/a/b?x=%20"),
        (
            r#"{"port":8443,"scheme":"https"}"#,
            "https://shop.test:8443/a/b?x=%20",
        ),
        (
            r#"{"path":{"full":"/n"},"query":"drop"}"#,
            "http://shop.test:81/n",
        ),
        (
            r#"{"path":{"full":"/n"},"query":{"full":"p={path}&{query}"}}"#,
            "http://shop.test:81/n?p=/a/b&x=%20",
        ),
        (
            r#"{"path":{"prefix":"/n"}}"#,
            "http://shop.test:81/n/a/b?x=%20",
        ),
        (
            r#"{"path":{"full":"/n{path}"}}"#,
            "http://shop.test:81/n/a/b?x=%20",
        ),
    ] {
        assert_eq!(asked.sent_by(redirect), expected, "{redirect}");
    }
    assert_eq!(
        asked.answered_at(r#""redirect":{"path":{"full":"/n"},"status":301}"#),
        Some((301, Reason::Redirected))
    );
}

#[test]
fn a_redirect_stays_at_its_host_without_one() {
    let nowhere = Asked::by("GET //evil.test/x HTTP/1.0");
    assert_eq!(nowhere.sent_by(r#"{"path":{"full":"/n"}}"#), "/n");
    assert_eq!(nowhere.sent_by(r#"{"scheme":"https"}"#), "/evil.test/x");
    assert_eq!(
        nowhere.sent_by(r#"{"hostname":"a.{hostname}"}"#),
        "/evil.test/x"
    );
}

/// Gateway API's table of `ReplacePrefixMatch`.
#[test]
fn a_prefix_is_replaced_element_by_element() {
    for (path, prefix, other, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/foo%2Fa/b", "/foo%2Fa", "/", "/b"),
    ] {
        let (matched, change) = (
            format!(r#"{{"prefix":"{prefix}"}}"#),
            format!(r#"{{"prefix":"{other}"}}"#),
        );
        let made = Asked::get(path).path_by(&matched, &change);
        assert_eq!(made.as_deref(), Ok(expected), "{path} {prefix} {other}");
    }
}

#[test]
fn groups_of_the_path_stand_in_another() {
    let matched = r#"{"regex":"/(?P<kind>[a-z]+)/([0-9]+)(\\.html)?"}"#;
    let full = |text: &str| format!(r#"{{"full":"{text}"}}"#);
    let asked = Asked::get("/item/42");
    let made = |text: &str| asked.path_by(matched, &full(text));
    assert_eq!(made("/{2}/{kind}{3}").as_deref(), Ok("/42/item"));
    assert_eq!(made("/{1}{{{0}}}").as_deref(), Ok("/item%7B/item/42%7D"));
    let nothing =
        frontend(r#""cluster":"c","path":{"regex":"/a"},"rewrite":{"path":{"full":"/{1}"}}"#);
    assert!(plan(&nothing).unwrap_err().contains("{1} is neither"));
}

#[test]
fn a_query_is_kept_dropped_or_made() {
    let matched = r#"{"regex":"/user/([^/]+)(/.*)?"}"#;
    let asked = Asked::get("/user/a%26b=c&d?x=1");
    let by = |rewrite: &str| asked.target_by(matched, rewrite).unwrap();
    assert_eq!(by(r#""path":{"full":"/u"}"#), "/u?x=1");
    assert_eq!(by(r#""path":{"full":"/u"},"query":"drop""#), "/u");
    assert_eq!(
        by(r#""path":{"full":"/u"},"query":{"full":"id={1}&of={2}"}"#),
        "/u?id=a%26b%3Dc%26d&of="
    );
    assert_eq!(
        by(r#""query":{"full":"{query}&id={client_address}"}"#),
        "/user/a%26b=c&d?x=1&id=192.0.2.1"
    );
    assert_eq!(
        asked.target_by(matched, r#""query":"drop""#).unwrap(),
        "/user/a%26b=c&d"
    );
    // One that asks about no path has no query.
    let nothing = Asked::by("OPTIONS * HTTP/1.1\r\nHost: a");
    let made = nothing.target_by(r#"{"prefix":"/"}"#, r#""query":{"full":"a=b"}"#);
    assert_eq!(made.as_deref(), Ok("*"));
    for query in ["?a", "a b", "a#b"] {
        let keys = format!(
            r#"{{"listeners":["web"],"cluster":"c","rewrite":{{"query":{{"full":"{query}"}}}}}}"#
        );
        let Entity::Frontend(frontend) = Entity::from_json(Kind::Frontend, &keys).unwrap() else {
            panic!("a frontend");
        };
        assert!(frontend.check().unwrap_err().contains("query"), "{query}");
    }
}

#[test]
fn a_client_can_make_no_path_that_is_none() {
    let with = |value: &str| {
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\nX-P: {value}");
        Asked::by(&text).path_by(r#"{"prefix":"/"}"#, r#"{"full":"/b/{header:x-p}/c"}"#)
    };
    assert_eq!(with("x").as_deref(), Ok("/b/x/c"));
    assert_eq!(with("a/b?c#d").as_deref(), Ok("/b/a%2Fb%3Fc%23d/c"));
    // Segments that mean another one are resolved as in any path; what hides one is refused.
    assert_eq!(with("..").as_deref(), Ok("/c"));
    assert_eq!(with("../..;x"), Err(400));
    assert_eq!(with("%2e%2e").as_deref(), Ok("/b/%252e%252e/c"));
}

#[test]
fn templates_say_what_a_request_is() {
    let asked = Asked::by(
        "GET /a%20b?c=d HTTP/1.1\r\nHost: Shop.test:81\r\nX-A: one\r\nx-a: two\r\n\
         Cookie: a=1; sid=x y; sid=2\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.9\r\n\
         X-Request-Id: given",
    );
    let text = |template: &str| asked.expanded(template, Escape::Header);
    assert_eq!(text("{hostname}{path}?{query}"), "shop.test/a%20b?c=d");
    assert_eq!(
        text("{header:X-A}|{header:none}|{cookie:sid}"),
        "one, two||x y"
    );
    assert_eq!(
        text("{listener}/{frontend}/{scheme}/{tls_version}"),
        "web/shop/http/"
    );
    assert_eq!(text("{{{client_address}}}"), "{192.0.2.1}");
    assert_eq!(text("{request_id}"), "0123");
    let asked = asked.by_trusted();
    let text = |template: &str| asked.expanded(template, Escape::Header);
    assert_eq!(text("{client_address} {request_id}"), "198.51.100.7 given");
    for wrong in [
        "{",
        "}",
        "{nobody}",
        "{1}",
        "{header:}",
        "{header:a b}",
        "{other:a}",
        "a}b",
    ] {
        assert!(Template::parse(wrong, None).is_err(), "{wrong}");
    }
}

#[test]
fn an_answer_of_the_configuration() {
    let asked = Asked::get("/");
    let answer = asked.at(r#""respond":{"body":"ok\n"}"#).unwrap_err();
    assert_eq!((answer.status, answer.reason), (200, Reason::Responded));
    let page = answer.page.unwrap();
    assert_eq!(
        (&*page.body, &*page.content_type),
        (&b"ok\n"[..], "text/plain; charset=utf-8")
    );
    let file = format!(
        r#""respond":{{"file":{{"path":"a","sha256":"{}"}}}}"#,
        "0".repeat(64)
    );
    assert_eq!(
        &*asked.at(&file).unwrap_err().page.unwrap().body,
        b"from a file"
    );
    assert_eq!(
        asked.at(r#""respond":{"status":404}"#).unwrap_err().page,
        None
    );
    let closed = Some((0, Reason::Closed));
    assert_eq!(asked.answered_at(r#""respond":{"close":true}"#), closed);
}

proptest! {
    /// Whatever stands in a header, no line of a head ends before its end.
    #[test]
    fn no_value_ends_a_line(value in "[ -~\u{80}-\u{ff}\t]{0,20}", template in "(a|\\{header:x-a\\}|\\{path\\}|\\{cookie:a\\}|\\{query\\}){1,4}") {
        let text = format!("GET /p?q HTTP/1.1\r\nHost: a\r\nX-A: {value}\r\nCookie: a={value}");
        let template = Template::parse(&template, None).unwrap();
        for escape in [Escape::Header, Escape::Path, Escape::Hostname, Escape::Query] {
            let mut out = Vec::new();
            let fits = Asked::by(&text).seen(|facts| template.write(&Values::new(facts, None), escape, &mut out));
            prop_assert_eq!(fits, Ok(()));
            prop_assert!(out.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t'));
            if escape == Escape::Path {
                prop_assert!(!out.iter().any(|byte| b" \t?#".contains(byte)));
            }
            if escape == Escape::Query {
                // No parameter ends before its end.
                prop_assert!(!out.iter().any(|byte| b" \t&;=+#".contains(byte)));
            }
        }
    }

    /// What is forwarded is its own normal form (T20), whatever the path is made of.
    #[test]
    fn a_path_that_is_made_is_normal(
        path in "/([a-z.;]|%2[efEF5]|/|\\.\\.){0,10}",
        header in "([a-z./;%]|\\.\\.){0,8}",
        full in "/(a|\\.|\\.\\.|/|\\{path\\}|\\{header:x-a\\}|\\{query\\}|%2F){0,4}",
    ) {
        let text = format!("GET {path}?../a HTTP/1.1\r\nHost: a\r\nX-A: {header}");
        let mut head = RequestHead::default();
        let bytes = format!("{text}\r\n\r\n");
        prop_assume!(request::parse(bytes.as_bytes(), &listener().head_limits, &mut head).is_ok());
        if let Ok(made) = Asked::by(&text).path_by(r#"{"prefix":"/"}"#, &format!(r#"{{"full":"{full}"}}"#)) {
            let mut again = Vec::new();
            prop_assert_eq!(normalise_path(made.as_bytes(), Slashes::Merge, &mut again), Ok(()));
            prop_assert_eq!(made.as_bytes(), &again[..]);
            prop_assert!(!made.contains(['?', '#', ' ']));
        }
    }

    /// No text makes the reader of templates fall, and one without braces is what it was.
    #[test]
    fn any_text_is_read_or_refused(text in "[{}a-z:_1]{0,16}") {
        if let Ok(template) = Template::parse(&text, None) {
            if !text.contains(['{', '}']) {
                prop_assert_eq!(template.constant(), Some(&*text));
            }
        }
    }
}

mod header_edits;
