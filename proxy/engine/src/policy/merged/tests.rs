//! What levels come to, against the words of each.

use proptest::prelude::*;

use super::*;

#[test]
fn whoever_is_named_is_asked_the_outermost_first_and_nobody_twice() {
    let asking = |cluster: &str| Policy {
        forward_auth: Some(serde_json::from_str(&format!(r#"{{"cluster":"{cluster}"}}"#)).unwrap()),
        ..Policy::default()
    };
    let (gate, sso) = (asking("gate"), asking("sso"));
    let (near, far) = ([("near", &gate)], [("far", &sso)]);
    let both = [("a", &gate), ("b", &sso)];
    let levels = |own, policies, beyond| Levels {
        own,
        policies,
        beyond,
        beyond_pages: None,
    };
    for (levels, expected) in [
        (levels(Some(&sso), &[], &[]), vec!["sso"]),
        (levels(Some(&sso), &near, &[]), vec!["gate", "sso"]),
        (levels(Some(&gate), &[], &far), vec!["sso", "gate"]),
        (levels(Some(&sso), &near, &far), vec!["gate", "sso"]),
        (levels(None, &near, &far), vec!["sso", "gate"]),
        (levels(None, &both, &[]), vec!["sso", "gate"]),
    ] {
        let merged = Merged::of(&levels, None).unwrap().unwrap();
        let asked: Vec<&str> = merged.asked().iter().map(|it| &*it.cluster).collect();
        assert_eq!(asked, expected);
    }
}

/// What a policy may do with one of a few headers: nothing, a null, or something.
fn words() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0u8..6, 3)
}

fn policy(words: &[u8]) -> Policy {
    let mut policy = Policy::default();
    let edits = &mut policy.response_headers;
    for (number, word) in words.iter().enumerate() {
        // Names are the same in any case.
        let name = match word % 2 {
            0 => format!("X-{number}"),
            _ => format!("x-{number}"),
        };
        match word {
            1 => drop(edits.set.insert(name, None)),
            2 => drop(
                edits
                    .set
                    .insert(name, Some(entity::Line::Text("a".to_owned()))),
            ),
            3 => drop(
                edits
                    .set
                    .insert(name, Some(entity::Line::Text("b".to_owned()))),
            ),
            4 => drop(
                edits
                    .add
                    .insert(name, Some(entity::Line::Text("a".to_owned()))),
            ),
            5 => edits.remove.push(name),
            _ => {}
        }
    }
    policy
}

/// What one header comes to, by the words of each level: none is a contradiction.
fn expected(levels: &[Vec<u8>]) -> Option<u8> {
    for level in levels {
        let said: BTreeSet<u8> = level.iter().copied().filter(|word| *word != 0).collect();
        if let Some(word) = said.first() {
            return (said.len() == 1).then_some(*word);
        }
    }
    Some(0)
}

fn as_made(edits: &HeaderEdits, number: usize) -> u8 {
    let is_it = |name: &String| name.eq_ignore_ascii_case(&format!("x-{number}"));
    let of = |lines: &BTreeMap<String, Option<Line>>| {
        let found = lines.iter().find(|(name, _)| is_it(name));
        found.map(|(_, line)| line.as_ref().unwrap().texts()[0].clone())
    };
    match (of(&edits.set).as_deref(), of(&edits.add)) {
        (Some("a"), None) => 2,
        (Some("b"), None) => 3,
        (None, Some(_)) => 4,
        (None, None) => 5 * u8::from(edits.remove.iter().any(is_it)),
        _ => panic!("one header is done two things with"),
    }
}

proptest! {
    #[test]
    fn the_nearest_word_counts_and_contradictions_are_refused(
        own in words(),
        policies in proptest::collection::vec(words(), 0..3),
        beyond in proptest::collection::vec(words(), 0..3),
    ) {
        let spoken: Vec<Policy> = policies.iter().map(|words| policy(words)).collect();
        let further: Vec<Policy> = beyond.iter().map(|words| policy(words)).collect();
        let own_policy = policy(&own);
        let levels = Levels {
            own: Some(&own_policy),
            policies: &spoken.iter().map(|policy| ("p", policy)).collect::<Vec<_>>(),
            beyond: &further.iter().map(|policy| ("l", policy)).collect::<Vec<_>>(),
            beyond_pages: None,
        };
        let of = |number: usize, all: &[Vec<u8>]| all.iter().map(|each| each[number]).collect();
        let expected: Vec<Option<u8>> = (0..3)
            .map(|number| {
                expected(&[vec![own[number]], of(number, &policies), of(number, &beyond)])
            })
            .collect();
        match Said::by(&levels) {
            Err(_) => prop_assert!(expected.contains(&None)),
            Ok(said) => {
                let edits = edits_of(said.response);
                for (number, expected) in expected.iter().enumerate() {
                    // A null comes to nothing.
                    let expected = expected.map(|word| if word == 1 { 0 } else { word });
                    prop_assert_eq!(Some(as_made(&edits, number)), expected);
                }
            }
        }
    }
}

fn said(text: &str) -> Policy {
    serde_json::from_str(text).unwrap()
}

#[test]
fn pages_of_a_listener_go_before_those_of_its_policies() {
    let pages =
        r#"{"error_pages":{"404":{"body":"p"},"410":{"body":"p"},"503":{"body":"p"},"502":null}}"#;
    let policy = said(pages);
    let own = ErrorPage {
        body: "l".into(),
        content_type: "text/plain".into(),
    };
    let listener = BTreeMap::from([("404".to_owned(), Some(own)), ("410".to_owned(), None)]);
    let levels = Levels {
        beyond: &[("p", &policy)],
        beyond_pages: Some(&listener),
        ..Levels::default()
    };
    let merged = Merged::of(&levels, None).unwrap().unwrap();
    assert!(merged.page(404).is_none(), "the listener is asked");
    assert!(merged.page(410).is_none(), "which switches it off");
    assert_eq!(&*merged.page(503).unwrap().unwrap().body, b"p");
    assert_eq!(merged.page(502), Some(None));
}

#[test]
fn the_smallest_limit_counts_and_the_nearest_timeout() {
    let own = said(r#"{"limits":{"body_bytes":9},"timeouts":{"tunnel":null,"request_body":1}}"#);
    let near = said(r#"{"timeouts":{"tunnel":2,"response_head":2}}"#);
    let far = said(
        r#"{"limits":{"body_bytes":3},"timeouts":{"request_body":3,"response_head":3,"response_body":3}}"#,
    );
    let levels = Levels {
        own: Some(&own),
        policies: &[("near", &near)],
        beyond: &[("far", &far)],
        ..Levels::default()
    };
    let merged = Merged::of(&levels, None).unwrap().unwrap();
    let expected = bounds::Said {
        body_bytes: Some(3),
        request: None,
        request_body: Some(1),
        response_head: Some(2),
        response_body: Some(3),
        tunnel: None,
    };
    assert_eq!(merged.bounds(), Some(&expected));
    let both = Levels {
        policies: &[("far", &far), ("near", &near)],
        ..Levels::default()
    };
    let refused = Merged::of(&both, None).unwrap_err();
    assert_eq!(
        refused,
        r#"the policies "far" and "near" say different things about timeouts.response_head"#
    );
}

#[test]
fn a_null_switches_off_what_is_said_further_away() {
    let (off, on) = (
        said(r#"{"hsts":null}"#),
        said(r#"{"hsts":{"max_age_days":1}}"#),
    );
    let policies = [("p", &on)];
    let levels = |own| Levels {
        own,
        policies: &policies,
        ..Levels::default()
    };
    assert!(
        Merged::of(&levels(None), None)
            .unwrap()
            .unwrap()
            .hsts()
            .is_some()
    );
    assert!(Merged::of(&levels(Some(&off)), None).unwrap().is_none());
    let both = Levels {
        policies: &[("off", &off), ("on", &on)],
        ..Levels::default()
    };
    let refused = Merged::of(&both, None).unwrap_err();
    assert_eq!(
        refused,
        r#"the policies "off" and "on" say different things about hsts"#
    );
}

#[test]
fn a_policy_of_the_listener_lets_nearer_ones_have_the_word() {
    let far = r#"{"allow":["10.0.0.0/8"],"client_certificate":"required","concurrency":{"requests":1},
        "deny":["::1/128"],"forward_auth":{"cluster":"gate"},"limits":{"body_bytes":1},"overridable":true,
        "rate_limit":[{"requests":1},{"name":"b","requests":2}]}"#;
    let (lets, insists) = (said(far), said(&far.replace("true", "false")));
    let says = |text: &str, far: &Policy, is_own: bool| {
        let near = said(text);
        let levels = Levels {
            own: is_own.then_some(&near),
            policies: if is_own { &[] } else { &[("near", &near)] },
            beyond: &[("far", far)],
            ..Levels::default()
        };
        let merged = Merged::of(&levels, None).unwrap().unwrap();
        let access = merged.access().unwrap();
        let clients = ["10.0.0.1", "192.0.2.1", "::1"];
        (
            clients.map(|client| access.admits(client.parse().unwrap())),
            merged.rates.len(),
            merged.crowds.len(),
            merged.asked().len() + merged.certificates.len(),
            merged.bounds().and_then(|said| said.body_bytes),
        )
    };
    for is_own in [true, false] {
        let told = |text: &str| says(text, &lets, is_own);
        assert_eq!(told("{}"), ([true, false, false], 2, 1, 2, Some(1)));
        let allows = r#"{"allow":["0.0.0.0/0","::/0"]}"#;
        assert_eq!(
            told(allows).0,
            [true, true, false],
            "who is denied stays so"
        );
        assert_eq!(told(r#"{"deny":["10.0.0.0/8"]}"#).0, [false; 3]);
        assert_eq!(told(r#"{"rate_limit":{"requests":9}}"#).1, 1);
        assert_eq!(told(r#"{"concurrency":{"requests":9}}"#).2, 1);
        // One who shows who he is need not do it in the other ways as well.
        assert_eq!(told(r#"{"forward_auth":{"cluster":"sso"}}"#).3, 1);
        assert_eq!(told(r#"{"limits":{"body_bytes":9}}"#).4, Some(9));
        let all =
            r#"{"allow":["2001:db8::/32"],"limits":{"body_bytes":9},"rate_limit":{"requests":9}}"#;
        let added = says(all, &insists, is_own);
        assert_eq!(added, ([false; 3], 3, 1, 2, Some(1)), "nobody is lifted");
    }
}

/// Whose word counts about `X-User`, by who says it in each level.
fn author(own: &str, policies: &[&str], beyond: &[&str]) -> Result<Option<Author>, String> {
    let of = |texts: &[&str]| -> Vec<Policy> { texts.iter().map(|text| said(text)).collect() };
    let (own, policies, beyond) = (said(own), of(policies), of(beyond));
    fn named(all: &[Policy]) -> Vec<(&str, &Policy)> {
        ["a", "b", "c"].into_iter().zip(all).collect()
    }
    let levels = Levels {
        own: Some(&own),
        policies: &named(&policies),
        beyond: &named(&beyond),
        beyond_pages: None,
    };
    let merged = Merged::of(&levels, None)?.unwrap_or_default();
    let mut all = [
        Author::Token(0),
        Author::Token(1),
        Author::Asked(0),
        Author::Asked(1),
    ]
    .into_iter()
    .filter(|author| merged.is_said_by("x-user", *author));
    let found = all.next();
    assert!(all.next().is_none(), "a header has one author");
    Ok(found)
}

#[test]
fn the_nearest_says_who_asks_and_nobody_else() {
    let token = |claim: &str| {
        format!(
            r#"{{"jwt":{{"issuer":"i","audiences":[],"keys":{{"url":"https://i/"}},"headers":{{"X-User":"{claim}"}}}}}}"#
        )
    };
    let gate = r#"{"forward_auth":{"cluster":"gate","copy_headers":["X-USER"]}}"#;
    let sso = r#"{"forward_auth":{"cluster":"sso","copy_headers":["x-user"]}}"#;
    let (sub, mail) = (token("sub"), token("mail"));
    let (sub, mail) = (sub.as_str(), mail.as_str());
    let none = "{}";
    for (own, policies, beyond, expected) in [
        (none, &[][..], &[sub][..], Some(Author::Token(0))),
        (none, &[gate], &[sub], Some(Author::Asked(0))),
        (none, &[sub], &[gate], Some(Author::Token(0))),
        (mail, &[gate], &[sub], Some(Author::Token(1))),
        (sso, &[gate], &[sub], Some(Author::Asked(1))),
        (sso, &[gate, sub], &[], Some(Author::Asked(1))),
        (sub, &[sub, gate], &[sub], Some(Author::Token(0))),
        (none, &[sub, sub], &[], Some(Author::Token(0))),
        (
            r#"{"request_headers":{"remove":["x-User"]}}"#,
            &[sub, mail],
            &[],
            None,
        ),
    ] {
        assert_eq!(
            author(own, policies, beyond),
            Ok(expected),
            "{own} {policies:?}"
        );
    }
    let refused = author(none, &[sub, mail], &[]).unwrap_err();
    assert_eq!(
        refused,
        r#"the policies "a" and "b" tell different things in X-User"#
    );
    let unedited = r#"{"request_headers":{"set":{"X-User":null},"add":{"X-User":"more"}}}"#;
    for own in [none, unedited] {
        assert!(author(own, &[sub, gate], &[]).is_err(), "{own}");
        assert!(author(own, &[], &[gate, sso]).is_err(), "{own}");
    }
    let both = sub.replace("}}}", &format!("}}}},{}", gate.trim_start_matches('{')));
    let refused = author(&both, &[], &[]).unwrap_err();
    assert_eq!(refused, "X-USER is told in two ways");
}
