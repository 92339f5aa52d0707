//! The stages and their order, on requests as they come.

use std::net::IpAddr;
use std::sync::Arc;

use super::facts::Facts;
use super::plan::Plan;
use super::{Reason, Verdict, decide};
use crate::protocol::h1::RequestHead;
use crate::protocol::h1::request;
use crate::state::entity::{Entity, Frontend, Kind, Listener};
use crate::state::listener::ListenerSettings;

/// A request of somebody, and what is known of him.
struct Asked {
    text: String,
    peer: IpAddr,
    is_early: bool,
    has_certificate: bool,
}

impl Asked {
    fn by(text: &str) -> Self {
        Self {
            text: format!("{text}\r\n\r\n"),
            peer: [192, 0, 2, 1].into(),
            is_early: false,
            has_certificate: false,
        }
    }

    /// What becomes of it at a frontend with these keys.
    fn at(&self, keys: &str) -> Verdict {
        let frontend = frontend(keys);
        let listener = listener();
        let mut head = RequestHead::default();
        let bytes = self.text.as_bytes();
        request::parse(bytes, &listener.head_limits, &mut head).unwrap();
        let facts = Facts {
            head: &head,
            bytes,
            listener: &listener,
            peer: self.peer,
            is_early: self.is_early,
            has_certificate: self.has_certificate,
            secure_port: &|| 8443,
        };
        decide(&frontend, Plan::of(&frontend).as_deref(), &facts)
    }

    fn answered_at(&self, keys: &str) -> Option<(u16, Reason)> {
        match self.at(keys) {
            Verdict::Continue => None,
            Verdict::Answer(answer) => Some((answer.status, answer.reason)),
        }
    }
}

fn frontend(keys: &str) -> Frontend {
    let value = format!(r#"{{"cluster":"c","listeners":["web"]{keys}}}"#);
    match Entity::from_json(Kind::Frontend, &value).unwrap() {
        Entity::Frontend(frontend) => *frontend,
        _ => panic!("a frontend"),
    }
}

/// It trusts one proxy, and takes bodies of ten bytes.
fn listener() -> ListenerSettings {
    let value =
        r#"{"address":"127.0.0.1:80","limits":{"body_bytes":10},"trusted_proxies":["10.0.0.0/8"]}"#;
    let listener: Listener = serde_json::from_str(value).unwrap();
    ListenerSettings::new(Arc::new(listener), None)
}

const REDIRECT: &str = r#","redirect":"https""#;
const CERTIFICATE: &str = r#","client_certificate":"required""#;
const EARLY: &str = r#","early_data":true"#;

#[test]
fn a_frontend_that_asks_for_nothing_has_no_plan() {
    assert_eq!(Plan::of(&frontend("")), None);
    // Early data is what its connection is asked about, and no stage of a plan.
    assert_eq!(Plan::of(&frontend(EARLY)), None);
    for keys in [REDIRECT, CERTIFICATE, r#","hsts":{"max_age_days":1}"#] {
        assert!(Plan::of(&frontend(keys)).is_some(), "{keys}");
    }
    let request = Asked::by("GET / HTTP/1.1\r\nHost: a.test");
    assert_eq!(request.at(""), Verdict::Continue);
}

#[test]
fn the_first_stage_that_has_an_answer_gives_it() {
    let mut request = Asked::by(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 8",
    );
    request.is_early = true;
    let all = [REDIRECT, CERTIFICATE].concat();
    assert_eq!(request.answered_at(&all), Some((425, Reason::TooEarly)));
    request.is_early = false;
    assert_eq!(request.answered_at(&all), Some((413, Reason::TooLarge)));
    request.text = request.text.replace("Length: 11", "Length: 0");
    assert_eq!(request.answered_at(&all), Some((308, Reason::Redirected)));
    let asks = CERTIFICATE.to_owned();
    let missing = Some((403, Reason::CertificateMissing));
    assert_eq!(request.answered_at(&asks), missing);
}

#[test]
fn nothing_is_asked_of_a_client_in_clear_text() {
    let mut request = Asked::by("GET /a?b HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https");
    let keys = [REDIRECT, CERTIFICATE].concat();
    let Verdict::Answer(answer) = request.at(&keys) else {
        panic!("an answer");
    };
    let line = answer.line.unwrap();
    assert_eq!(&*line, "Location: https://a.test:8443/a?b\r\n");
    // A trusted proxy has got it over TLS: then the certificate is what is missing.
    request.peer = [10, 0, 0, 1].into();
    let missing = Some((403, Reason::CertificateMissing));
    assert_eq!(request.answered_at(&keys), missing);
    request.has_certificate = true;
    assert_eq!(request.answered_at(&keys), None);
}

#[test]
fn early_data_is_taken_where_it_is_allowed_and_safe() {
    let mut safe = Asked::by("GET / HTTP/1.1\r\nHost: a.test");
    safe.is_early = true;
    assert_eq!(safe.answered_at(EARLY), None);
    assert_eq!(safe.answered_at(""), Some((425, Reason::TooEarly)));
    let mut unsafe_one = Asked::by("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0");
    unsafe_one.is_early = true;
    assert_eq!(unsafe_one.answered_at(EARLY), Some((425, Reason::TooEarly)));
}
