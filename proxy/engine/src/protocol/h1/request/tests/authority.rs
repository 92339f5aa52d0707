//! Whom a request is for.

use super::*;

#[test]
fn t18_there_is_one_host() {
    assert_eq!(refuse("GET / HTTP/1.1\r\n\r\n"), Reject::MissingHost);
    assert_eq!(
        refuse("GET http://a/ HTTP/1.1\r\n\r\n"),
        Reject::MissingHost
    );
    assert_eq!(refuse(get("Host: a\r\n")), Reject::DuplicateHost);
    for host in ["", "a b", "a,b", "user@a", "a:99999", "a/b", "[::1", "a%00"] {
        let raw = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(refuse(&raw), Reject::InvalidHost, "{host:?}");
    }
    let old = accept("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.host().as_str(), old.authority().as_str()), ("", ""));
    let upper = accept("GET / HTTP/1.1\r\nHost: SHOP.example.:8080\r\n\r\n");
    assert_eq!(upper.authority(), "shop.example:8080");
}

#[test]
fn t18_the_absolute_form_agrees_with_host() {
    for (target, host, authority, path) in [
        ("http://a/b?c", "a", "a", "/b"),
        ("HTTP://A/b", "a", "a", "/b"),
        ("http://a", "a", "a", "/"),
        ("http://a?q", "a", "a", "/"),
        ("http://a:80/", "a", "a:80", "/"),
        ("http://a/", "a:80", "a", "/"),
        ("https://a/", "a:443", "a", "/"),
        ("http://[::1]:8/x/../y", "[0::1]:8", "[::1]:8", "/y"),
    ] {
        let parsed = accept(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(parsed.authority(), authority, "{target:?}");
        assert_eq!(parsed.path(), path, "{target:?}");
    }
    for (target, host, reject) in [
        ("http://a/", "b", Reject::AuthorityMismatch),
        ("http://a:8080/", "a", Reject::AuthorityMismatch),
        ("https://a/", "a:80", Reject::AuthorityMismatch),
        ("http://u@a/", "a", Reject::InvalidHost),
        ("http:///b", "a", Reject::InvalidHost),
        ("http://a\\b/", "a", Reject::InvalidHost),
        ("ftp://a/", "a", Reject::InvalidTarget),
        ("http:/a", "a", Reject::InvalidTarget),
        ("a:80", "a", Reject::InvalidTarget),
        ("a", "a", Reject::InvalidTarget),
        ("?q", "a", Reject::InvalidTarget),
        ("/a#b", "a", Reject::InvalidTarget),
        ("/a?b#c", "a", Reject::InvalidTarget),
        ("http://a/#b", "a", Reject::InvalidTarget),
        ("*", "a", Reject::InvalidTarget),
    ] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(refuse(&raw), reject, "{target:?}");
        assert_eq!(reject.status(), 400);
    }
    let old = accept("GET http://a:81/ HTTP/1.0\r\n\r\n");
    assert_eq!(old.authority(), "a:81");
}

#[test]
fn t18_options_may_ask_for_the_whole_and_connect_is_off() {
    assert_eq!(accept("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path(), "*");
    assert_eq!(
        accept("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n").path(),
        "*"
    );
    assert_eq!(
        accept("OPTIONS /* HTTP/1.1\r\nHost: a\r\n\r\n").path(),
        "/*"
    );
    for target in ["a:443", "/", "http://a/"] {
        let reject = refuse(format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(reject, Reject::ConnectMethod);
        assert_eq!(reject.status(), 501);
    }
}
