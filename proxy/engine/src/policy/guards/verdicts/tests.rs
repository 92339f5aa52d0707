//! By what a word goes, and for how long.

use super::*;
use crate::policy::tests::Asked;

fn asked(keys: &str) -> ForwardAuth {
    serde_json::from_str(&format!(r#"{{"cluster":"sso",{keys}}}"#)).unwrap()
}

fn by_cookie() -> ForwardAuth {
    asked(r#""cache":{"headers":["cookie","x-key"],"ttl":1000}"#)
}

const USUAL: &str = "GET /a?b HTTP/1.1\r\nHost: a.test\r\nCookie: s=1\r\nX-Key: k";

fn seal(verdicts: &Verdicts, asked: &ForwardAuth, request: &str) -> Option<Seal> {
    Asked::by(request).seen(|facts| verdicts.seal(asked, facts))
}

#[test]
fn a_word_is_about_the_same_question_alone() {
    let verdicts = Verdicts::default();
    let usual = seal(&verdicts, &by_cookie(), USUAL).unwrap();
    assert_eq!(seal(&verdicts, &by_cookie(), USUAL), Some(usual));
    let unasked = format!("{USUAL}\r\nAccept: text/html");
    assert_eq!(seal(&verdicts, &by_cookie(), &unasked), Some(usual));
    for other in [
        USUAL.replace("GET", "HEAD"),
        USUAL.replace("/a?b", "/a?c"),
        USUAL.replace("/a?b", "/a"),
        USUAL.replace("/a?b", "/a?"),
        USUAL.replace("/a?b", "/A?b"),
        USUAL.replace("a.test", "b.test"),
        USUAL.replace("a.test", "a.test:81"),
        USUAL.replace("s=1", "s=2"),
        USUAL.replace("X-Key: k", "X-Key: K"),
        USUAL.replace("X-Key: k", "X-Key: k\r\nX-Key: k"),
        USUAL.replace("\r\nX-Key: k", ""),
        USUAL.replace("Cookie: s=1\r\nX-Key: k", "X-Key: s=1\r\nCookie: k"),
    ] {
        let found = seal(&verdicts, &by_cookie(), &other);
        assert!(found.is_some_and(|found| found != usual), "{other}");
    }
    for other in [
        asked(r#""path":"/verify","cache":{"headers":["cookie","x-key"],"ttl":1000}"#),
        asked(r#""copy_headers":["X-User"],"cache":{"headers":["cookie","x-key"],"ttl":1000}"#),
        asked(r#""cache":{"headers":["cookie","x-key"],"ttl":2000}"#),
    ] {
        assert_ne!(seal(&verdicts, &other, USUAL), Some(usual), "{other:?}");
    }
    let by_trusted = |more: &str| {
        let asked = Asked::by(&format!("{USUAL}\r\n{more}")).from([10, 0, 0, 1]);
        asked.seen(|facts| verdicts.seal(&by_cookie(), facts).unwrap())
    };
    let proxied = by_trusted("X-Forwarded-For: 192.0.2.7");
    for said in [
        "X-Forwarded-For: 192.0.2.8",
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https",
        "X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.8",
        "X-Forwarded-For: 192.0.2.7\r\nClient-Cert: :YQ==:",
    ] {
        assert_ne!(by_trusted(said), proxied, "{said}");
        let by_stranger = seal(&verdicts, &by_cookie(), &format!("{USUAL}\r\n{said}"));
        assert_eq!(
            by_stranger,
            Some(usual),
            "nobody is told what strangers say: {said}"
        );
    }
    let named = by_trusted("X-Forwarded-For: 192.0.2.7\r\nX-Request-Id: a1");
    assert_eq!(named, proxied);
    let somebody_else = Asked::by(USUAL).from([192, 0, 2, 9]);
    let theirs = somebody_else.seen(|facts| verdicts.seal(&by_cookie(), facts));
    assert_ne!(theirs, Some(usual));
    assert_ne!(seal(&Verdicts::default(), &by_cookie(), USUAL), Some(usual));
}

#[test]
fn who_shows_in_anything_else_who_it_is_is_asked_about_each_time() {
    let verdicts = Verdicts::default();
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test",
        "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic YTpi",
        "GET / HTTP/1.1\r\nHost: a.test\r\nCookie: s=1\r\nAuthorization: Basic YTpi",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-Key: k\r\nProxy-Authorization: Basic YTpi",
    ] {
        assert_eq!(seal(&verdicts, &by_cookie(), request), None, "{request}");
    }
    assert_eq!(seal(&verdicts, &asked(r#""path":"/""#), USUAL), None);
}

#[test]
fn a_word_ends_and_the_oldest_makes_room() {
    let verdicts = Verdicts::default();
    let seal = |number: u32| {
        let mut seal = [0; 32];
        seal[..4].copy_from_slice(&number.to_le_bytes());
        seal
    };
    let said = |user: &str| LineBuf::one(b"X-User", user.as_bytes());
    verdicts.remember(seal(0), said("mia").lines(), 100);
    assert_eq!(verdicts.known(&seal(0), 99).as_deref(), Some(&said("mia")));
    assert_eq!(verdicts.known(&seal(0), 100), None);
    assert_eq!(verdicts.known(&seal(1), 0), None);
    // What is given again is not forgotten with its first time.
    for number in 1..=KNOWN_MAX as u32 {
        verdicts.remember(seal(number), Lines::default(), 1000);
        if number == 7 {
            verdicts.remember(seal(0), said("ina").lines(), 200);
        }
    }
    assert_eq!(verdicts.known(&seal(0), 150).as_deref(), Some(&said("ina")));
    assert_eq!(verdicts.known(&seal(1), 0), None);
    assert!(verdicts.known(&seal(KNOWN_MAX as u32), 0).is_some());
    let known = verdicts.known.borrow();
    assert!(known.by_seal.len() <= KNOWN_MAX && known.order.len() <= KNOWN_MAX);
    drop(known);
    verdicts.remember(seal(7), said(&"a".repeat(LINES_BYTES_MAX)).lines(), 5000);
    assert_eq!(
        verdicts.known(&seal(7), 2000),
        None,
        "it is too long to be kept"
    );
}

#[test]
fn whose_word_it_is_may_shorten_its_time() {
    for (said, seconds) in [
        ("max-age=3", 3),
        ("private, Max-Age=\"7\", max-age=5", 5),
        ("no-store", 0),
        ("max-age=3, NO-CACHE", 0),
        ("no-cache=\"set-cookie\"", 0),
        ("max-age=-1", 0),
        ("max-age=", 0),
        ("max-age=99999999999999999999", 0),
    ] {
        assert_eq!(kept_ms(said.as_bytes()), seconds * 1000, "{said}");
    }
    for said in ["", "private", "s-maxage=1, must-revalidate"] {
        assert_eq!(kept_ms(said.as_bytes()), u64::MAX, "{said}");
    }
    assert_eq!(kept_ms(b"max-age=99999999999999999999999"), 0);
    assert_eq!(kept_ms(b"max-age=18446744073709551615"), u64::MAX);
}
