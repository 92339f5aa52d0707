//! The table as a whole, held against an implementation that sorts all rules for each request.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::state::entity::FrontendKeys;
use crate::state::entity::ValueMatch;
use crate::state::entity::compile_regex;
use crate::state::entity::{PathMatch, Pattern};

struct Headers(Vec<(&'static str, &'static str)>, IpAddr);

impl HeaderLookup for Headers {
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0
            .iter()
            .any(|(other, value)| *other == name && test(value.as_bytes()))
    }

    fn client_address(&self) -> Option<IpAddr> {
        Some(self.1)
    }
}

const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A request that owns its parts.
#[derive(Debug, Clone)]
struct Asked {
    host: String,
    path: String,
    query: Option<&'static str>,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    client: IpAddr,
}

impl Asked {
    fn of(table: &Table<(Rule, usize)>, asked: &Self) -> Option<usize> {
        let headers = Headers(asked.headers.clone(), asked.client);
        let request = Request {
            host: asked.host.as_bytes(),
            path: asked.path.as_bytes(),
            query: asked.query.map(str::as_bytes),
            method: asked.method.as_bytes(),
            headers: &headers,
        };
        table.lookup(&request).map(|(_, index)| *index)
    }
}

fn get(host: &str, path: &str) -> Asked {
    Asked {
        host: host.to_owned(),
        path: path.to_owned(),
        query: None,
        method: "GET",
        headers: Vec::new(),
        client: NOBODY,
    }
}

fn frontend(hostname: &str, path: PathMatch) -> FrontendKeys {
    let least = r#"{"cluster":"shop","listeners":["web"],"upgrades":[]}"#;
    FrontendKeys {
        hostname: hostname.into(),
        path,
        ..serde_json::from_str(least).unwrap()
    }
}

fn prefix(hostname: &str, path: &str) -> FrontendKeys {
    frontend(hostname, PathMatch::Prefix(path.into()))
}

fn table(frontends: &[FrontendKeys]) -> Table<(Rule, usize)> {
    let mut table = Table::new();
    for (index, frontend) in frontends.iter().enumerate() {
        table.insert((rule(index, frontend), index));
    }
    table
}

/// The rule of a frontend that `table` has made.
fn rule(index: usize, frontend: &FrontendKeys) -> Rule {
    Rule::compile(&name(index), &frontend.clone().into()).unwrap()
}

fn name(index: usize) -> String {
    format!("f{index:06}")
}

/// How well a frontend matches; the winner is the smallest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct NaiveRank {
    hostname: Reverse<usize>,
    path: (Reverse<usize>, u8, Reverse<usize>),
    any_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    cookies: Reverse<usize>,
    any_client: bool,
}

/// The expressions that are tried, with the length of what all their matches begin with.
const EXPRESSIONS: [(&str, bool, usize); 7] = [
    ("/a.*", false, 2),
    ("/.*b", false, 1),
    ("/[ab/]*", false, 1),
    ("/(a|b)/?", false, 1),
    ("/a/a", false, 4),
    ("/A/.*", true, 1),
    ("/.*B", true, 1),
];
const SUFFIXES: [(&str, bool); 5] = [
    ("b", false),
    ("/b", false),
    ("B", true),
    ("B", false),
    ("a/b", false),
];

/// `None` when it does not match. Written from what the guide says alone, on whole strings.
fn naive_rank(frontend: &FrontendKeys, asked: &Asked) -> Option<NaiveRank> {
    let one = std::slice::from_ref(&frontend.hostname);
    let hostnames = frontend.hostnames.as_deref().unwrap_or(one);
    let ranks = hostnames.iter().filter_map(|hostname| match &**hostname {
        "*" => Some(0),
        hostname if hostname == asked.host => Some(usize::MAX),
        hostname if asked.host.ends_with(hostname.strip_prefix('*')?) => Some(hostname.len()),
        _ => None,
    });
    let host = ranks.max()?;
    let (beginning, kind, length) = match &frontend.path {
        PathMatch::Exact(path) if **path == *asked.path => (usize::MAX, 0, path.len()),
        PathMatch::Prefix(path) => {
            let path = path.strip_suffix('/').unwrap_or(path);
            let below = format!("{path}/");
            if !path.is_empty() && asked.path != path && !asked.path.starts_with(&below) {
                return None;
            }
            (path.len().max(1), 2, path.len())
        }
        PathMatch::Regex(pattern) => {
            let (text, ignore_case) = (&*pattern.text, pattern.ignore_case);
            if !regex_matches(text, ignore_case, &asked.path) {
                return None;
            }
            let known = EXPRESSIONS
                .iter()
                .find(|known| (known.0, known.1) == (text, ignore_case))?;
            (known.2, 0, text.len())
        }
        PathMatch::Suffix(pattern) => {
            let folded = |text: &str| match pattern.ignore_case {
                true => text.to_lowercase(),
                false => text.to_owned(),
            };
            if !folded(&asked.path).ends_with(&folded(&pattern.text)) {
                return None;
            }
            (1, 1, pattern.text.len())
        }
        _ => return None,
    };
    let method = frontend.methods.is_empty() || frontend.methods.iter().any(|m| m == asked.method);
    let asks = |expected: &ValueMatch, values: &[&str]| {
        let is_one = |value: &&str| match (&expected.exact, &expected.regex) {
            (Some(exact), _) => **exact == **value,
            (_, Some(pattern)) => regex_matches(pattern, false, value),
            _ => true,
        };
        let wanted = expected.present.unwrap_or(true) && !expected.not;
        values.iter().any(is_one) == wanted
    };
    let all = |conditions: &BTreeMap<String, ValueMatch>,
               of: &dyn Fn(&str) -> Vec<&'static str>| {
        conditions
            .iter()
            .all(|(name, expected)| asks(expected, &of(name)))
    };
    let named = |name: &str| {
        let fields = asked.headers.iter().filter(|(other, _)| *other == name);
        fields.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let headers = all(&frontend.headers, &named);
    let query = all(&frontend.query, &|name| {
        let pairs = asked.query.unwrap_or_default().split('&');
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .take(1)
            .collect()
    });
    let cookies = all(&frontend.cookies, &|name| {
        let pairs = named("cookie")
            .into_iter()
            .flat_map(|line| line.split("; "));
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .take(1)
            .collect()
    });
    // The networks that are tried are of two bytes, or of an address.
    let text = asked.client.to_string();
    let networks = frontend.client_addresses.as_deref();
    let client = networks.is_none_or(|networks| {
        networks
            .iter()
            .any(|network| match network.split_once(".0.0/16") {
                Some((beginning, _)) => text.starts_with(&format!("{beginning}.")),
                None => format!("{text}/32") == **network,
            })
    });
    (method && headers && query && cookies && client).then_some(NaiveRank {
        hostname: Reverse(host),
        path: (Reverse(beginning), kind, Reverse(length)),
        any_method: frontend.methods.is_empty(),
        headers: Reverse(frontend.headers.len()),
        query: Reverse(frontend.query.len()),
        cookies: Reverse(frontend.cookies.len()),
        any_client: networks.is_none(),
    })
}

/// There are few expressions and many comparisons, so each is compiled once.
fn regex_matches(pattern: &str, ignore_case: bool, value: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<BTreeMap<(String, bool), Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let compile = || compile_regex(pattern, ignore_case).unwrap();
        compiled
            .entry((pattern.to_owned(), ignore_case))
            .or_insert_with(compile)
            .is_match(value.as_bytes())
    })
}

/// The winner among the frontends that are still there.
fn naive(frontends: &[FrontendKeys], removed: &[bool], asked: &Asked) -> Option<usize> {
    let ranks = frontends
        .iter()
        .enumerate()
        .filter(|(index, _)| !removed[*index]);
    ranks
        .filter_map(|(index, frontend)| Some((naive_rank(frontend, asked)?, index)))
        .min()
        .map(|(_, index)| index)
}

fn any_host() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "com",
        "a.com",
        "b.a.com",
        "c.b.a.com",
        "b.com",
        "xa.com",
    ])
    .prop_map(str::to_owned)
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["", "a", "b", "ab", "B"]), 1..5)
        .prop_map(|elements| format!("/{}", elements.join("/")))
}

fn any_value() -> impl Strategy<Value = ValueMatch> {
    let exact = prop::sample::select(vec!["1", "2"]).prop_map(|value| ValueMatch {
        exact: Some(value.into()),
        ..ValueMatch::default()
    });
    let regex = prop::sample::select(vec!["[12]", ".*"]).prop_map(|value| ValueMatch {
        regex: Some(value.into()),
        ..ValueMatch::default()
    });
    let present = any::<bool>().prop_map(|present| ValueMatch {
        present: Some(present),
        ..ValueMatch::default()
    });
    prop_oneof![
        (prop_oneof![exact, regex], any::<bool>())
            .prop_map(|(value, not)| ValueMatch { not, ..value }),
        present,
    ]
}

fn any_fields() -> impl Strategy<Value = BTreeMap<String, ValueMatch>> {
    let name = prop::sample::select(vec!["x", "y"]).prop_map(str::to_owned);
    prop_oneof![3 => Just(BTreeMap::new()), 1 => prop::collection::btree_map(name, any_value(), 0..3)]
}

/// The list, unless nothing is in it.
fn some_of<'a, T: From<&'a str>>(texts: impl IntoIterator<Item = &'a str>) -> Option<Vec<T>> {
    let texts: Vec<T> = texts.into_iter().map(Into::into).collect();
    Some(texts).filter(|texts| !texts.is_empty())
}

fn any_frontend() -> impl Strategy<Value = FrontendKeys> {
    let hostname = prop_oneof![
        Just("*".to_owned()),
        prop::sample::select(vec!["*.com", "*.a.com", "*.b.a.com"]).prop_map(str::to_owned),
        prop::sample::select(vec!["com", "a.com", "b.a.com"]).prop_map(str::to_owned),
    ];
    let several = prop::collection::btree_set(
        prop::sample::select(vec!["*.com", "*.a.com", "a.com", "b.a.com", "b.com"]),
        0..4,
    );
    let several = prop_oneof![2 => Just(BTreeSet::new()), 1 => several];
    let pattern = |(text, ignore_case): (&str, bool)| Pattern {
        text: text.into(),
        ignore_case,
    };
    let expressions = EXPRESSIONS.map(|(text, ignore_case, _)| pattern((text, ignore_case)));
    let expression = prop::sample::select(expressions.to_vec());
    let suffix = prop::sample::select(SUFFIXES.map(pattern).to_vec());
    let path = prop_oneof![
        3 => any_path().prop_map(|path| PathMatch::Prefix(path.into())),
        1 => any_path().prop_map(|path| PathMatch::Exact(path.into())),
        1 => expression.prop_map(PathMatch::Regex),
        1 => suffix.prop_map(PathMatch::Suffix),
    ];
    let methods = prop::sample::select(vec![vec![], vec![], vec!["GET"], vec!["GET", "POST"]]);
    let networks = prop::sample::select(vec![
        vec![],
        vec![],
        vec!["10.0.0.0/16"],
        vec!["10.1.0.0/16", "192.0.2.1/32"],
    ]);
    let fields = (any_fields(), any_fields(), any_fields());
    let hostnames = (hostname, several);
    (hostnames, path, methods, fields, networks).prop_map(
        |((hostname, several), path, methods, (headers, query, cookies), networks)| FrontendKeys {
            hostnames: some_of(several.iter().copied()),
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            cookies,
            client_addresses: some_of(networks),
            ..frontend(if several.is_empty() { &hostname } else { "*" }, path)
        },
    )
}

fn any_request() -> impl Strategy<Value = Asked> {
    let path = prop_oneof![9 => any_path(), 1 => Just("*".to_owned())];
    let query = prop::sample::select(vec![
        None,
        Some(""),
        Some("x=1"),
        Some("y=3&x=2&x=1"),
        Some("x=1&y=2"),
        Some("x&y"),
    ]);
    let method = prop::sample::select(vec!["GET", "POST", "get"]);
    let header = prop::sample::select(vec![
        ("x", "1"),
        ("x", "2"),
        ("y", "1"),
        ("y", ""),
        ("cookie", "x=1; y=3"),
        ("cookie", "y=2; x=2; x=1"),
        ("cookie", "x; z=1"),
    ]);
    let client = prop::sample::select(vec!["10.0.0.1", "10.1.0.1", "192.0.2.1", "192.0.2.2"])
        .prop_map(|address| address.parse().unwrap());
    (
        any_host(),
        path,
        query,
        method,
        prop::collection::vec(header, 0..3),
        client,
    )
        .prop_map(|(host, path, query, method, headers, client)| Asked {
            host,
            path,
            query,
            method,
            headers,
            client,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_sorting_all_rules(
        frontends in prop::collection::vec((any_frontend(), any::<bool>()), 0..24),
        requests in prop::collection::vec(any_request(), 1..24),
    ) {
        let (frontends, to_remove): (Vec<_>, Vec<_>) = frontends.into_iter().unzip();
        let mut table = table(&frontends);
        let mut removed = vec![false; frontends.len()];
        for asked in &requests {
            prop_assert_eq!(Asked::of(&table, asked), naive(&frontends, &removed, asked), "{:?}", asked);
        }
        for (index, remove) in to_remove.iter().enumerate() {
            if *remove {
                let rule = rule(index, &frontends[index]);
                prop_assert_eq!(table.remove(&rule).map(|it| it.1), Some(index));
                prop_assert!(table.remove(&rule).is_none());
                removed[index] = true;
            }
        }
        prop_assert_eq!(table.len(), removed.iter().filter(|gone| !**gone).count());
        for asked in &requests {
            prop_assert_eq!(Asked::of(&table, asked), naive(&frontends, &removed, asked), "{:?}", asked);
        }
        for (index, frontend) in frontends.iter().enumerate() {
            table.remove(&rule(index, frontend));
        }
        prop_assert!(table.is_empty() && table.hosts.is_empty(), "something is left behind");
    }
}

#[test]
fn falls_through_to_the_next_hostname() {
    let table = table(&[
        prefix("a.com", "/shop"),
        prefix("*.com", "/"),
        prefix("*", "/old"),
    ]);
    assert_eq!(Asked::of(&table, &get("a.com", "/shop/1")), Some(0));
    assert_eq!(Asked::of(&table, &get("a.com", "/")), Some(1));
    assert_eq!(Asked::of(&table, &get("a.org", "/old")), Some(2));
    assert_eq!(Asked::of(&table, &get("a.org", "/")), None);
}

#[test]
fn falls_through_to_the_next_path() {
    let posts = FrontendKeys {
        methods: vec!["POST".to_owned()],
        ..prefix("*", "/a/b")
    };
    let table = table(&[posts, prefix("*", "/a")]);
    assert_eq!(Asked::of(&table, &get("", "/a/b")), Some(1));
    assert_eq!(
        Asked::of(
            &table,
            &Asked {
                method: "POST",
                ..get("", "/a/b")
            }
        ),
        Some(0)
    );
}

#[test]
fn an_expression_that_is_not_valid_is_refused() {
    assert!(Rule::compile("a", &frontend("*", PathMatch::Regex("(".into())).into()).is_err());
}

/// A shop per hostname, three paths each, as a large site would have it.
fn shops(count: usize) -> Table<(Rule, usize)> {
    let paths = ["/", "/api/v1", "/static/img"];
    let frontends: Vec<_> = (0..count)
        .map(|index| prefix(&format!("shop-{}.example.com", index / 3), paths[index % 3]))
        .collect();
    table(&frontends)
}

fn time_per_lookup(table: &Table<(Rule, usize)>, hostnames: usize) -> Duration {
    let headers = Headers(Vec::new(), NOBODY);
    let hosts: Vec<_> = (0..1000)
        .map(|index| format!("shop-{}.example.com", index * 7919 % hostnames))
        .collect();
    let round = || {
        let start = Instant::now();
        for host in &hosts {
            let request = Request {
                host: host.as_bytes(),
                path: b"/api/v1/orders/4711",
                query: None,
                method: b"GET",
                headers: &headers,
            };
            black_box(table.lookup(black_box(&request)));
        }
        start.elapsed() / 1000
    };
    (0..25).map(|_| round()).min().unwrap_or_default()
}

/// The figure printed is the cost of one lookup (`cargo test --release -- --nocapture`). A scan
/// would be 10,000 times slower with the larger table; cache misses make it a few times.
#[test]
fn a_lookup_costs_about_the_same_in_a_table_of_any_size() {
    let small = time_per_lookup(&shops(9), 3);
    let large = time_per_lookup(&shops(99_999), 33_333);
    println!("lookup: {small:?} among 9 frontends, {large:?} among 99,999");
    assert!(
        large < small * 20,
        "{small:?} among 9 frontends, {large:?} among 99,999"
    );
}
