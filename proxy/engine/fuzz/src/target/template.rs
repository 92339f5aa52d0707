//! Invariant: a text with values in braces is refused with a reason, or what it comes to for any request that is
//! one stays a value of a header, a normal path and a query; and a text whose braces are doubled is itself.
//!
//! An input is the text, the end of a line, and the head of a request.

use _engine::policy::changes::template::Template;
use _engine::policy::preview::{Coming, Questions};
use _engine::protocol::h1::RequestHead;
use _engine::protocol::h1::request;
use _engine::state::alike::Alike;
use _engine::state::entity::Entity;
use _engine::state::ops::{Ops, decode};

use super::NEXT_HOP;
use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "template",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let at = input.iter().position(|byte| *byte == b'\n');
    let (text, head) = input.split_at(at.unwrap_or(input.len()));
    let Ok(text) = std::str::from_utf8(text) else {
        return Behaviour::of("no text");
    };
    check_doubled(text);
    let head = head.get(1..).unwrap_or_default();
    // Large classes of characters would take most of the time.
    let groups = r#"{"regex":"/(?P<first>[a-z]*)(/[ -~]*)?"}"#;
    let quoted = quoted(text);
    let parts = [
        written(groups, &format!(r#""path":{{"full":"/{quoted}"}}"#)),
        written(PLAIN, &format!(r#""query":{{"full":"{quoted}"}}"#)),
        written(PLAIN, &format!(r#""hostname":"{quoted}""#)),
    ];
    let seen = parts.map(|ops| match ops {
        Ok(ops) => sent(&ops, text, head),
        Err(reason) => {
            assert!(!reason.is_empty());
            Behaviour::of(("refused", words(&reason)))
        }
    });
    Behaviour::of((Template::parse(text, None).is_ok(), seen))
}

/// Braces that are written twice are braces, and nothing is expanded.
fn check_doubled(text: &str) {
    let doubled = text.replace('{', "{{").replace('}', "}}");
    let template = Template::parse(&doubled, None).expect("nothing stands in braces");
    assert_eq!(template.constant(), Some(text));
}

/// What a worker is told of a frontend that sends requests there.
fn written(path: &str, rewrite: &str) -> Result<Ops, String> {
    let frontend =
        format!(r#"{{"cluster":"c","listeners":["web"],"path":{path},"rewrite":{{{rewrite}}}}}"#);
    let ops = format!(
        r#"{{"puts":[{{"kind":"frontend","name":"f","value":{frontend}}},{{"kind":"listener","name":"web","value":{{"address":"127.0.0.1:80"}}}}],"removes":[]}}"#
    );
    decode(ops.as_bytes(), &mut Alike::default()).map_err(|refused| refused.reason)
}

/// Checks what a request comes to, and where it goes.
fn sent(ops: &Ops, text: &str, head: &[u8]) -> Behaviour {
    let entities = ops.puts.iter().map(|put| &put.entity);
    let (mut frontend, mut listeners) = (None, Vec::new());
    for entity in entities {
        match entity {
            Entity::Frontend(it) => frontend = Some(it),
            Entity::Listener(it) => listeners.push(("web".to_owned(), it.clone())),
            _ => {}
        }
    }
    let frontend = frontend.expect("it is among them");
    let texts = [text.to_owned()];
    let coming = Coming {
        frontend: ("f", frontend),
        listeners,
        head,
        client: None,
    };
    let asked = Questions {
        texts: &texts,
        cors: None,
    };
    let preview = match coming.preview(&asked) {
        Ok(preview) => preview,
        Err(unseen) => return Behaviour::of(words(&format!("{unseen:?}"))),
    };
    // What an operator writes himself has been looked at before.
    let is_plain = !text.bytes().any(|byte| byte < b' ' || byte == 0x7f);
    for value in preview.values.iter().filter(|_| is_plain) {
        let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
        assert!(!value.iter().any(is_control), "a line could end in it");
    }
    if let Some(host) = &preview.host {
        assert!(host.iter().all(u8::is_ascii_graphic));
    }
    if let Some(target) = &preview.target {
        check_target(target);
    }
    let lengths = preview.values.iter().map(|value| value.len().min(16));
    Behaviour::of((
        preview.end.map(|(status, _)| status),
        preview.target.map(|target| target.len().min(16)),
        preview.host.map(|host| host.len().min(16)),
        lengths.collect::<Vec<_>>(),
    ))
}

/// A backend reads the path that is meant, and no other.
fn check_target(target: &[u8]) {
    // `*` is what OPTIONS alone asks about.
    let line = [b"OPTIONS ", target, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
    let mut head = RequestHead::default();
    let read = request::parse(&line, &NEXT_HOP, &mut head).expect("it is a target");
    assert!(read.is_some(), "the head is whole");
    let path = target.split(|byte| *byte == b'?').next();
    assert_eq!(Some(head.path(&line)), path, "the path is a normal one");
}

/// What of a reason is of the code: its beginning up to what it quotes.
fn words(reason: &str) -> &str {
    let quoted = |character: char| matches!(character, '"' | '{' | '`');
    reason.split(quoted).next().unwrap_or_default()
}

/// A text as JSON has it, without its quotes.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out
}

const PLAIN: &str = r#"{"prefix":"/"}"#;

const TOKENS: &[&str] = &[
    "{client_address}",
    "{client_certificate_subject}",
    "{cookie:a}",
    "{frontend}",
    "{header:x-a}",
    "{header:X-A}",
    "{hostname}",
    "{listener}",
    "{path}",
    "{query}",
    "{request_id}",
    "{scheme}",
    "{tls_version}",
    "{first}",
    "{0}",
    "{1}",
    "{2}",
    "{99}",
    "{{",
    "}}",
    "{",
    "}",
    "{}",
    "%2f",
    "%2e%2e/",
    "//",
    "/../",
    "?",
    "#",
    "&",
    "=",
    "\n",
    "\r\n",
    "GET /a/b?c=d HTTP/1.1\r\nHost: a.test\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
    "X-A: b\r\n",
    "X-A: \t\x7f\r\n",
    "Cookie: a=b; a=\"c\"\r\n",
    "X-Forwarded-For: 192.0.2.1\r\n",
    "é",
];
