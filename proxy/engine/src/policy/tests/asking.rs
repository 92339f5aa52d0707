//! Who asks, as those say whose word counts.

use super::Asked;
use crate::policy::Reason;
use crate::policy::changes::template::Escape;

#[test]
fn who_may_ask_is_who_the_last_that_is_not_trusted_says() {
    let some = r#""cluster":"c","allow":["198.51.100.0/24"],"deny":["198.51.100.7/32"]"#;
    let denied = Some((403, Reason::Denied));
    let by = |forwarded: &str| {
        Asked::by(&format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: {forwarded}"
        ))
    };
    assert_eq!(by("198.51.100.1").by_trusted().answered_at(some), None);
    assert_eq!(by("198.51.100.1").answered_at(some), denied, "T22");
    assert_eq!(by("198.51.100.7").by_trusted().answered_at(some), denied);
    // As balancers write it.
    for told in [
        "198.51.100.1:8080",
        "198.51.100.1, ,",
        "\"198.51.100.1:_x\"",
    ] {
        assert_eq!(by(told).by_trusted().answered_at(some), None, "{told}");
    }
    let spoofed = by("198.51.100.1, 192.0.2.1").by_trusted();
    assert_eq!(spoofed.answered_at(some), denied);
}

/// The balancer's own network is none of the client's: what it says and nobody can read is denied.
#[test]
fn a_client_that_nobody_knows_is_denied() {
    let denied = Some((403, Reason::Denied));
    let rules = [
        r#""cluster":"c","allow":["10.0.0.0/8"]"#,
        r#""cluster":"c","deny":["192.0.2.0/24"]"#,
    ];
    for line in [
        "X-Forwarded-For: unknown",
        "X-Forwarded-For: 10.0.0.7, _hidden",
        "X-Forwarded-For: 10.0.0.7, unknown, 10.0.0.9",
        "Forwarded: for=unknown",
        "Forwarded: for=10.0.0.7, proto=https",
        "Forwarded: for=\"10.0.0.7,10.0.0.8\"",
    ] {
        let asked = Asked::by(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{line}")).by_trusted();
        for rule in rules {
            assert_eq!(asked.answered_at(rule), denied, "{line} {rule}");
        }
        assert_eq!(
            asked.expanded("{client_address}", Escape::Header),
            "unknown"
        );
    }
}

#[test]
fn who_speaks_by_forwarded_alone_is_heard() {
    let some = r#""cluster":"c","allow":["198.51.100.0/24"]"#;
    let asked = |lines: &str| {
        Asked::by(&format!("GET /a HTTP/1.1\r\nHost: a.test\r\n{lines}")).by_trusted()
    };
    let told = asked("Forwarded: for=192.0.2.1;proto=http, For=\"198.51.100.1:99\"; proto=https");
    assert_eq!(told.answered_at(some), None);
    assert_eq!(
        told.expanded("{client_address} {scheme}", Escape::Header),
        "198.51.100.1 https"
    );
    let both = asked("Forwarded: for=198.51.100.1\r\nX-Forwarded-For: 192.0.2.1");
    assert_eq!(
        both.answered_at(some),
        Some((403, Reason::Denied)),
        "the customary one counts"
    );
    assert_eq!(
        asked("X-A: b").answered_at(some),
        Some((403, Reason::Denied)),
        "its own request"
    );
}
