//! A line is what it was written as, by its parts and as text.

use proptest::prelude::*;

use super::*;

fn lines(written: &[(String, Vec<u8>)]) -> LineBuf {
    let mut lines = LineBuf::default();
    for (name, value) in written {
        lines.push(name.as_bytes(), value);
    }
    lines
}

proptest! {
    /// Whatever is in a value, even what would end it for who reads text.
    #[test]
    fn a_line_has_the_parts_that_it_was_written_of(
        written in proptest::collection::vec(("[A-Za-z:-]{0,9}", any::<Vec<u8>>()), 0..5),
    ) {
        let lines = lines(&written);
        prop_assert_eq!(lines.is_empty(), written.is_empty());
        let read: Vec<_> = lines.lines().map(|it| (it.name(), it.value())).collect();
        let expected: Vec<_> = written.iter().map(|(name, value)| (name.as_bytes(), &**value)).collect();
        prop_assert_eq!(read, expected);
        let text: Vec<u8> = written
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat())
            .collect();
        prop_assert_eq!(lines.lines().to_text(), text);
    }

    #[test]
    fn what_is_cut_off_has_no_half_of_a_line(end in 0_usize..60) {
        let lines = lines(&[("A".into(), b"1".to_vec()), ("B".into(), b"22".to_vec())]);
        let part = Lines(lines.0.get(..end).unwrap_or(&lines.0));
        let text = part.to_text();
        prop_assert!([&b""[..], b"A: 1\r\n", b"A: 1\r\nB: 22\r\n"].contains(&&*text));
    }
}

#[test]
fn lines_are_found_by_their_names() {
    let written = [
        ("X-User", "a: b"),
        ("x-user2", "c"),
        ("X-USER", "d"),
        ("X-Empty", ""),
    ];
    let lines = lines(&written.map(|(name, value)| (name.into(), value.into())));
    let found = |name| lines.lines().values(name).collect::<Vec<_>>();
    assert_eq!(found("x-user"), [&b"a: b"[..], b"d"]);
    assert_eq!(found("X-User2"), [b"c"]);
    assert_eq!(found("x-empty"), [b""]);
    assert!(found("x-use").is_empty() && found("").is_empty());
}

#[test]
fn those_that_pass_are_written_anew_only_if_others_do_not() {
    let lines = lines(&[("A".into(), b"1".to_vec()), ("B".into(), b"2".to_vec())]);
    assert_eq!(lines.lines().passing(|_| true), None);
    let passing = lines.lines().passing(|name| name == b"B");
    assert_eq!(passing, Some(LineBuf::one(b"B", b"2")));
    assert_eq!(lines.lines().passing(|_| false), Some(LineBuf::default()));
}
