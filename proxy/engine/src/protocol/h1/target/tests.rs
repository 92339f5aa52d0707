//! The normal form of paths.

use super::*;

fn normal(raw: &str) -> Result<String, Reject> {
    let mut out = b"before".to_vec();
    normalise_path(raw.as_bytes(), Slashes::Merge, &mut out)?;
    assert!(out.starts_with(b"before/"));
    Ok(String::from_utf8(out[6..].to_vec()).unwrap())
}

#[test]
fn t20_a_path_has_one_spelling() {
    for (raw, path) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("//", "/"),
        ("//a", "/a"),
        ("/a//b///c//", "/a/b/c/"),
        ("/.", "/"),
        ("/./", "/"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../..", "/"),
        ("/a/b/../../c", "/c"),
        ("/a//../b", "/b"),
        ("/%2e/a", "/a"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%41%7a%30%2d%5F%7E", "/Az0-_~"),
        ("/%c3%a4", "/%C3%A4"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/a%20b%3f%23", "/a%20b%3F%23"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%2525", "/%2525"),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/...", "/..."),
        ("/..a/a../.a", "/..a/a../.a"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a[0]!$&'()*+,=:@", "/a[0]!$&'()*+,=:@"),
        ("/A/b", "/A/b"),
        ("/a|b", "/a%7Cb"),
        ("/^`{}<>\"", "/%5E%60%7B%7D%3C%3E%22"),
        ("/a\\b", "/a%5Cb"),
        ("/a%7cb%7C", "/a%7Cb%7C"),
        ("/a.", "/a."),
        ("/100%", "/100%25"),
        ("/100%/b", "/100%25/b"),
        ("/%4", "/%254"),
        ("/%4g", "/%254g"),
        ("/%+1", "/%25+1"),
        ("/%%41", "/%25A"),
        ("/%%%41", "/%25%25A"),
        ("/%u0041", "/%25u0041"),
        ("/%%32e%%32e/a", "/%252e%252e/a"),
        ("/a/%%2e", "/a/%25."),
        ("/..%/a", "/..%25/a"),
        ("/..%2/fa", "/..%252/fa"),
        ("/..%%32fa", "/..%252fa"),
        ("/%c0%%ae", "/%C0%25%AE"),
    ] {
        assert_eq!(normal(raw).as_deref(), Ok(path), "{raw:?}");
        assert_eq!(normal(path).as_deref(), Ok(path), "{path:?}");
    }
}

#[test]
fn t20_what_has_two_readings_is_refused() {
    for raw in [
        "",
        "a",
        "/..",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/%2e%2e",
        "//..",
        "/./..",
        "/%00",
        "/a%00b",
        "/%%00",
        "/%c0%ae",
        "/%C0%AF",
        "/%c1%9c",
        "/%e0%80%ae",
        "/%f0%80%80%ae",
        "/a b",
        "/..\\a",
        "/a\\..",
        "/a\\..\\b",
        "/\u{e4}",
        "/a\x7f",
        "/a\0",
        "/a\r\nb",
        "/a\t",
        "/a?b",
        "/a#b",
        "/..;/a",
        "/a/..;x=y/b",
        "/..%2fa",
        "/a%2f..",
        "/a%2F..%2Fb",
        "/a/..%5cb",
        "/%2e%2e%2f",
        "/%2e.;",
    ] {
        assert_eq!(normal(raw), Err(Reject::InvalidPath), "{raw:?}");
    }
}

#[test]
fn the_fast_path_knows_what_is_normal() {
    for (raw, is_normal) in [
        ("/", true),
        ("/a/b.c", true),
        ("/a/", true),
        ("//", false),
        ("/a//", false),
        ("/.a", false),
        ("/%41", false),
        ("/a|", false),
    ] {
        let scan = scan_path(raw.as_bytes(), 0, Slashes::Merge);
        assert_eq!(
            (scan.end, scan.is_normal),
            (raw.len(), is_normal),
            "{raw:?}"
        );
    }
}

#[test]
fn t20_empty_segments_are_kept_where_a_listener_keeps_them() {
    for (raw, path) in [
        ("/", "/"),
        ("//", "//"),
        ("//a///b//", "//a///b//"),
        ("/http://a/b", "/http://a/b"),
        ("/a//../b", "/a/b"),
        ("//..", "/"),
        ("/a//.//b", "/a///b"),
        ("/a/%2e//%61", "/a//a"),
    ] {
        let mut out = b"before".to_vec();
        assert_eq!(
            normalise_path(raw.as_bytes(), Slashes::Keep, &mut out),
            Ok(())
        );
        assert_eq!(String::from_utf8_lossy(&out[6..]), path, "{raw:?}");
    }
    let mut out = Vec::new();
    for raw in ["/..", "//../..", "/a//..;/b"] {
        let verdict = normalise_path(raw.as_bytes(), Slashes::Keep, &mut out);
        assert_eq!(verdict, Err(Reject::InvalidPath), "{raw:?}");
    }
    assert!(scan_path(b"//a//", 0, Slashes::Keep).is_normal);
    assert!(!scan_path(b"//a//.", 0, Slashes::Keep).is_normal);
}

#[test]
fn t20_a_query_has_no_character_that_must_be_escaped() {
    for (raw, query, verbatim) in [
        ("/?a=b&c[]=%7e%zz", "a=b&c[]=%7e%zz", true),
        ("/?{|}^`<>\"\\", "%7B%7C%7D%5E%60%3C%3E%22%5C", false),
        ("/?a?b/../c", "a?b/../c", true),
        ("http://h?|", "%7C", false),
        ("/?", "", true),
    ] {
        let line = format!("{raw} ");
        let mut scratch = b"before".to_vec();
        let target = parse_target(line.as_bytes(), 0, b"GET", Slashes::Merge, &mut scratch)
            .unwrap()
            .unwrap();
        assert_eq!(target.raw.of(line.as_bytes()), raw.as_bytes());
        let text = target.query.unwrap().of(line.as_bytes(), &scratch);
        assert_eq!(String::from_utf8_lossy(text), query, "{raw:?}");
        assert_eq!(target.verbatim, verbatim, "{raw:?}");
    }
    for raw in ["/?a#b ", "/?a\x01 ", "/?\u{e4} "] {
        let verdict = parse_target(raw.as_bytes(), 0, b"GET", Slashes::Merge, &mut Vec::new());
        assert!(verdict.is_err(), "{raw:?}");
    }
}

#[test]
fn a_target_by_itself_is_the_one_of_a_line() {
    for raw in [
        "/",
        "/a/b?c",
        "/a//b/../c?{",
        "/%61;x",
        "/a b",
        "/a#b",
        "/a\r",
        "/a?b c",
        "/%2",
        "/%zz",
        "*",
        "* ",
        "",
        "a",
        "http://a/",
        "//a",
        "/?",
    ] {
        for method in [&b"GET"[..], b"OPTIONS"] {
            let (mut ours, mut other) = (Vec::new(), Vec::new());
            let whole = parse_whole_target(raw.as_bytes(), 0, method, Slashes::Merge, &mut ours);
            let line = format!("{raw} ");
            let line = line.as_bytes();
            let of_line = parse_target(line, 0, method, Slashes::Merge, &mut other);
            let of_line = of_line.map(|it| it.filter(|it| it.raw.end() == raw.len()));
            match of_line {
                // There is no absolute-form, and no rest behind it.
                Ok(Some(expected)) if !raw.starts_with("http") => {
                    let whole = whole.unwrap();
                    let text = |it: Text, scratch: &[u8]| it.of(line, scratch).to_vec();
                    assert_eq!(
                        text(whole.path, &ours),
                        text(expected.path, &other),
                        "{raw:?}"
                    );
                    let query = whole.query.map(|it| text(it, &ours));
                    assert_eq!(query, expected.query.map(|it| text(it, &other)), "{raw:?}");
                    let kind = |it: Target| (it.raw, it.verbatim, it.is_plain);
                    assert_eq!(kind(whole), kind(expected), "{raw:?}");
                }
                _ => assert!(whole.is_err(), "{raw:?}"),
            }
        }
    }
}
