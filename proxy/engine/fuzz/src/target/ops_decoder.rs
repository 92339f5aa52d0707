//! Invariant: bytes are refused with a reason, or they are operations that can be staged. Then
//! every value is in bounds, compiles, re-serialises to bytes that decode to the same hash, and a
//! routing table takes it and gives it back without a trace.

use _engine::policy::plan::Plan;
use _engine::routing::regexes::Regexes;
use _engine::routing::table::HeaderLookup;
use _engine::routing::table::Request;
use _engine::routing::table::Rule;
use _engine::routing::table::Table;
use _engine::state::alike::Alike;
use _engine::state::digest::Digest;
use _engine::state::entity::Entity;
use _engine::state::entity::{Frontend, ValueMatch};
use _engine::state::entry::Entry;
use _engine::state::ops::decode;

use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "ops_decoder",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let ops = match decode(input, &mut Alike::default()) {
        Ok(ops) => ops,
        Err(refused) => {
            assert!(!refused.reason.is_empty());
            return Behaviour::of(words(&refused.reason));
        }
    };
    let mut kinds = Vec::new();
    for put in &ops.puts {
        check_put(put);
        kinds.push(put.entity.kind());
    }
    kinds.sort_unstable();
    kinds.dedup();
    Behaviour::of((kinds, ops.removes.len().min(3)))
}

/// What of a reason is of the code: its beginning up to what it quotes, and the verdict on an
/// expression, which stands under a drawing of it.
fn words(reason: &str) -> (&str, Option<&str>) {
    let quoted = |character: char| matches!(character, '"' | '`') || character.is_ascii_digit();
    let verdict = reason.lines().find_map(|line| line.strip_prefix("error: "));
    (reason.split(quoted).next().unwrap_or_default(), verdict)
}

fn check_put(put: &Entry) {
    let canonical = put.entity.canonical();
    let kind = put.entity.kind();
    assert!(put.hash == Digest::from_entity(kind, &put.name, &canonical));
    let value = String::from_utf8(canonical).expect("canonical bytes are UTF-8");
    let name = &put.name;
    let again = format!(
        r#"{{"puts":[{{"kind":"{}","name":"{name}","value":{value}}}],"removes":[]}}"#,
        kind.as_str()
    );
    let again = decode(again.as_bytes(), &mut Alike::default())
        .expect("what was taken once is taken again");
    assert!(again.puts[0].hash == put.hash && again.puts[0].entity == put.entity);
    match &put.entity {
        Entity::Listener(listener) => {
            listener.socket_addr().expect("the address was checked");
            listener
                .trusted_networks()
                .expect("the networks were checked");
        }
        Entity::Backend(backend) => {
            backend.endpoint().expect("the address was checked");
        }
        Entity::Frontend(frontend) => check_frontend(name, frontend),
        Entity::Settings(_) | Entity::Certificate(_) | Entity::Policy(_) | Entity::Cluster(_) => {}
    }
}

fn check_frontend(name: &str, frontend: &Frontend) {
    let rule = Rule::compile(name, frontend).expect("the expressions were checked");
    // What cannot be compiled is refused, and nothing falls over it.
    let _ = Plan::of(frontend, &mut Regexes::default(), |_| {
        Ok(Some(b"".as_slice()))
    });
    let mut table = Table::new();
    table.insert(rule.clone());
    assert_eq!(table.len(), 1);
    let request = Request {
        host: frontend.hostname.as_bytes(),
        path: b"/a/b",
        query: Some(b"a=b"),
        method: b"GET",
        headers: &NoHeaders,
    };
    let found = table.lookup(&request).is_some();
    // Nothing is there, so that nothing but an absence is met.
    let is_absence = |wanted: &ValueMatch| wanted.not || wanted.present == Some(false);
    assert!(!found || frontend.rare().headers.values().all(is_absence));
    assert!(table.remove(&rule).is_some() && table.remove(&rule).is_none());
    assert!(table.is_empty() && table.lookup(&request).is_none());
}

struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn any_value(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client_address(&self) -> Option<std::net::IpAddr> {
        None
    }
}

const TOKENS: &[&str] = &[
    r#"{"puts":["#,
    r#"],"removes":["#,
    r#"{"kind":"frontend","name":"a","value":{"#,
    r#"{"kind":"backend","name":"a/b"}"#,
    r#""settings""#,
    r#"{"kind":"policy","name":"p","value":{"hsts":null}}"#,
    r#""policies":["p"]"#,
    r#""error_pages":{"503":null}"#,
    r#""allow":["0.0.0.0/0"]"#,
    r#""basic_auth":{"realm":"a","users":{"path":"u","sha256":"#,
    r#""rate_limit":{"requests":1,"by":{"header":"a"}}"#,
    r#""compression":{"encodings":["br"],"types":["text/*"]}"#,
    r#""cors":{"origins":["https://*.a"]}"#,
    r#""timeouts":{"response_head":null}"#,
    r#""limits":{"body_bytes":1}"#,
    r#""deny":["::/0"]"#,
    r#""certificate""#,
    r#""exact":"#,
    r#""prefix":"/""#,
    r#""regex":"(a|b)*""#,
    r#""\u0000""#,
    r#""127.0.0.1:80""#,
    r#""[::1]:80""#,
    r#""0.0.0.0/0""#,
    r#""*.a""#,
    r#""auto""#,
    "null",
    "true",
    "-1",
    "1e9",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\\u00e9",
    "é",
    "(?i)",
    "{1000}",
    "[^/]+",
    r#""redirect":{"path":{"full":"/{1}"}}"#,
    r#""rewrite":{"path":{"prefix":"/{path}"}}"#,
    r#""request_headers":{"set":{"X-A":"{header:a}{{"}}"#,
    r#""respond":{"close":true}"#,
];
