//! Which pages of other origins may ask, and what they may read of the answers (Fetch standard, §3.2).
//!
//! Rule: a browser's question before a request (a preflight) is answered here, and what backends say of it
//! is left out of their answers, so that there is one word about it. An origin is told back only if it is
//! allowed; what depends on it says so (`Vary`), also to who has none.

use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason, Verdict};
use crate::protocol::lines::LineBuf;
use crate::state::entity;

/// Fields that nobody else has a word about.
pub const FIELDS: [&str; 6] = [
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
];

/// What is said to browsers, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    /// Lines of every answer to a page that may ask.
    always: LineBuf,
    /// Those of answers to preflights.
    before: LineBuf,
    /// Those of all others.
    after: LineBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origins {
    Any,
    Some(Box<[Origin]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Exact(Box<str>),
    /// What stands before the labels that are left open, and behind them.
    Below(Box<str>, Box<str>),
}

impl Origin {
    fn of(text: &str) -> Self {
        match text.split_once('*') {
            Some((scheme, parent)) => Self::Below(scheme.into(), parent.into()),
            None => Self::Exact(text.into()),
        }
    }

    fn covers(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == origin,
            Self::Below(scheme, parent) => origin
                .strip_prefix(scheme.as_bytes())
                .and_then(|rest| rest.strip_suffix(parent.as_bytes()))
                .is_some_and(|labels| !labels.is_empty() && labels.iter().all(is_of_hostname)),
        }
    }
}

fn is_of_hostname(byte: &u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
}

impl Cors {
    /// What a policy says, which has been checked.
    pub(in crate::policy) fn of(said: &entity::Cors) -> Self {
        let [mut always, mut before, mut after] = [const { LineBuf::new() }; 3];
        let tell = |lines: &mut LineBuf, name: &str, texts: &[Box<str>]| {
            if !texts.is_empty() {
                lines.push(name.as_bytes(), texts.join(", ").as_bytes());
            }
        };
        if said.credentials {
            always.push(b"Access-Control-Allow-Credentials", b"true");
        }
        tell(&mut before, "Access-Control-Allow-Methods", &said.methods);
        tell(&mut before, "Access-Control-Allow-Headers", &said.headers);
        if let Some(ms) = said.max_age {
            let seconds = (ms / 1000).to_string();
            before.push(b"Access-Control-Max-Age", seconds.as_bytes());
        }
        tell(&mut after, "Access-Control-Expose-Headers", &said.expose);
        let is_any = said.origins.iter().any(|origin| **origin == *"*");
        Self {
            origins: match is_any {
                true => Origins::Any,
                false => Origins::Some(said.origins.iter().map(|it| Origin::of(it)).collect()),
            },
            always,
            before,
            after,
        }
    }

    /// What a page may be told that asks, if it may ask.
    pub(in crate::policy) fn allowed<'a>(&self, facts: &Facts<'a>) -> Option<&'a [u8]> {
        match &self.origins {
            Origins::Any => Some(b"*"),
            Origins::Some(origins) => {
                let asked = origin_of(facts)?;
                let is_allowed = origins.iter().any(|origin| origin.covers(asked));
                is_allowed.then_some(asked)
            }
        }
    }

    /// Answers a preflight.
    pub(in crate::policy) fn decide(&self, facts: &Facts<'_>) -> Verdict {
        if !is_preflight(facts) {
            return Verdict::Continue;
        }
        Verdict::Answer(match self.allowed(facts) {
            Some(_) => Answer::new(204, Reason::Preflight),
            None => Answer::new(403, Reason::OriginRefused),
        })
    }

    /// Appends the lines that the answer to a request gets.
    pub(in crate::policy) fn write(&self, facts: &Facts<'_>, out: &mut LineBuf) {
        if let Some(origin) = self.allowed(facts) {
            out.push(b"Access-Control-Allow-Origin", origin);
            out.append(self.always.lines());
            let more = match is_preflight(facts) {
                true => &self.before,
                false => &self.after,
            };
            out.append(more.lines());
        }
        if self.origins != Origins::Any {
            out.push(b"Vary", b"Origin");
        }
    }
}

/// The origin of the page that asks; of several it is unknown which is meant.
fn origin_of<'a>(facts: &Facts<'a>) -> Option<&'a [u8]> {
    let mut found = facts.head.values(facts.bytes, "origin");
    let origin = found.next()?;
    found.next().is_none().then_some(origin)
}

/// Whether a browser asks before it sends a request.
fn is_preflight(facts: &Facts<'_>) -> bool {
    let has = |name: &str| facts.head.values(facts.bytes, name).next().is_some();
    facts.head.method(facts.bytes) == b"OPTIONS"
        && has("origin")
        && has("access-control-request-method")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn below_is_any_label_and_never_the_parent_or_another(
            labels in "[a-z0-9.-]{0,12}",
            other in "[a-z:/@.?#-]{0,6}",
        ) {
            let origin = Origin::of("https://*.a.test:81");
            let text = format!("https://{labels}.a.test:81");
            prop_assert_eq!(origin.covers(text.as_bytes()), !labels.is_empty());
            // Whatever has a place of its own in a URL ends the hostname before ours.
            let text = format!("https://x{other}.a.test:81");
            let is_hostname = other.bytes().all(|byte| is_of_hostname(&byte));
            prop_assert_eq!(origin.covers(text.as_bytes()), is_hostname);
            let outside = ["", ":82", ".evil.test:81"].map(|end| format!("https://x.a.test{end}"));
            for text in outside.iter().map(String::as_str).chain(["https://a.test:81", "null", "*"]) {
                prop_assert!(!origin.covers(text.as_bytes()), "{}", text);
            }
            prop_assert!(!origin.covers(b"http://x.a.test:81"));
        }
    }

    #[test]
    fn nobody_is_trusted_by_chance() {
        let refused = |text: &str| {
            let cors: entity::Cors = serde_json::from_str(text).unwrap();
            cors.check().err()
        };
        assert_eq!(
            refused(r#"{"origins":["https://*.a.test"],"credentials":true}"#),
            None
        );
        assert_eq!(refused(r#"{"origins":["*"]}"#), None);
        for text in [
            r#"{"origins":[]}"#,
            r#"{"origins":["*"],"credentials":true}"#,
            r#"{"origins":["*","https://a.test"]}"#,
            r#"{"origins":["https://a.test"],"headers":["*"],"credentials":true}"#,
            r#"{"origins":["https://a.test"],"headers":["a\r\nb"]}"#,
            r#"{"origins":["https://a.test\r\nx"]}"#,
            r#"{"origins":["https://*"]}"#,
            r#"{"origins":["null"]}"#,
            r#"{"origins":["https://a.test:0"]}"#,
            r#"{"origins":["https://a.test"],"max_age":1}"#,
        ] {
            assert!(refused(text).is_some(), "{text}");
        }
    }
}
