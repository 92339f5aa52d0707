//! Why a request goes where it goes: asked by people and rarely, answered by the table that serves.
//!
//! The order of those that match is that of lookups in a table from which each winner is taken out;
//! why another one does not match is asked of a table of it alone. So nothing of routing is written
//! down here. Called by the Python face.

use super::hostname::HostMap;
use super::matcher::HeaderLookup;
use super::matcher::Missed;
use super::matcher::Request;
use super::path::PathMap;
use super::table::Rule;
use super::table::Table;

/// What a frontend is missed by, the first of it: hostname, path, method, header, query parameter, cookie,
/// client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Another hostname.
    Hostname,
    /// Another path.
    Path,
    /// The method, or a field by its name.
    Condition(Missed),
}

/// The names of the rules that match, winner first; of the others, why they do not.
pub struct Ranking {
    /// Those that match.
    pub matching: Vec<String>,
    /// Those that do not, in the order in which they were given.
    pub missed: Vec<(String, Miss)>,
}

/// Ranks all rules for a request.
pub fn rank<H: HeaderLookup>(rules: Vec<Rule>, request: &Request<'_, H>) -> Ranking {
    let mut missed = Vec::new();
    let mut table = Table::new();
    for rule in rules {
        match miss(&rule, request) {
            Some(why) => missed.push((rule.name().to_owned(), why)),
            None => {
                table.insert(rule);
            }
        }
    }
    let mut matching = Vec::with_capacity(table.len());
    while let Some(rule) = table.lookup(request).cloned() {
        table.remove(&rule);
        matching.push(rule.name().to_owned());
    }
    Ranking { matching, missed }
}

fn miss<H: HeaderLookup>(rule: &Rule, request: &Request<'_, H>) -> Option<Miss> {
    let mut hosts = HostMap::<()>::default();
    for host in rule.hosts() {
        hosts.get_or_default(host);
    }
    if hosts.rank(request.host).is_none() {
        return Some(Miss::Hostname);
    }
    let mut paths = PathMap::<()>::default();
    paths.get_or_default(rule.path());
    if paths.find(request.path, |_| Some(())).is_none() || !rule.confirms_path(request.path) {
        return Some(Miss::Path);
    }
    rule.missed_condition(request).map(Miss::Condition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::entity::{Entity, Kind};

    struct Fields(Vec<(&'static str, &'static [u8])>);

    impl HeaderLookup for Fields {
        fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.0
                .iter()
                .any(|(found, value)| *found == name && test(value))
        }

        fn client_address(&self) -> Option<std::net::IpAddr> {
            None
        }
    }

    fn rule(name: &str, hostname: &str, path: &str, rest: &str) -> Rule {
        let comma = if rest.is_empty() { "" } else { "," };
        let value = format!(
            r#"{{"cluster":"c","hostname":"{hostname}","listeners":["l"],"path":{path}{comma}{rest}}}"#
        );
        match Entity::from_json(Kind::Frontend, &value) {
            Ok(Entity::Frontend(frontend)) => Rule::compile(name, &frontend).unwrap(),
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn ranks_by_the_table_and_says_what_is_missed() {
        let rules = vec![
            rule("any", "*", r#"{"prefix":"/"}"#, ""),
            rule("exact", "a.test", r#"{"exact":"/x"}"#, ""),
            rule("regex", "a.test", r#"{"regex":"/x+"}"#, ""),
            rule("slow", "a.test", r#"{"regex":"/(x+)+y?z"}"#, ""),
            rule("other", "b.test", r#"{"prefix":"/"}"#, ""),
            rule("below", "a.test", r#"{"prefix":"/y"}"#, ""),
            rule("post", "*", r#"{"prefix":"/"}"#, r#""methods":["POST"]"#),
            rule(
                "field",
                "*",
                r#"{"prefix":"/"}"#,
                r#""headers":{"a":{"exact":"1"}}"#,
            ),
            rule(
                "client",
                "*",
                r#"{"prefix":"/"}"#,
                r#""client_addresses":["10.0.0.0/8"]"#,
            ),
            rule(
                "cookie",
                "*",
                r#"{"prefix":"/"}"#,
                r#""cookies":{"c":{"present":true}}"#,
            ),
            rule(
                "query",
                "*",
                r#"{"prefix":"/"}"#,
                r#""query":{"q":{"exact":"1"}}"#,
            ),
        ];
        let request = Request {
            host: b"a.test",
            path: b"/x",
            query: Some(b"q=2"),
            method: b"GET",
            headers: &Fields(vec![("a", b"2")]),
        };
        let ranking = rank(rules, &request);
        assert_eq!(ranking.matching, ["exact", "regex", "any"]);
        let missed = |name: &str| {
            let found = ranking.missed.iter().find(|(missed, _)| missed == name);
            found.unwrap().1.clone()
        };
        assert_eq!(missed("slow"), Miss::Path);
        assert_eq!(missed("other"), Miss::Hostname);
        assert_eq!(missed("below"), Miss::Path);
        assert_eq!(missed("post"), Miss::Condition(Missed::Method));
        assert_eq!(missed("field"), Miss::Condition(Missed::Header("a".into())));
        assert_eq!(missed("query"), Miss::Condition(Missed::Query("q".into())));
        assert_eq!(
            missed("cookie"),
            Miss::Condition(Missed::Cookie("c".into()))
        );
        assert_eq!(missed("client"), Miss::Condition(Missed::Client));
    }
}
