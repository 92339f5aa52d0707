//! Cookies as requests have them (RFC 6265 §4.2.1): pure, and nothing is decoded.

/// The pairs of a `Cookie` line, in their order; what is no pair is passed over.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at(at);
        Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let found: Vec<_> = pairs(b"a=1; b = x=y ;;flag; c=;=d").collect();
        let expected: [(&[u8], &[u8]); 4] =
            [(b"a", b"1"), (b"b", b"x=y"), (b"c", b""), (b"", b"d")];
        assert_eq!(found, expected);
    }
}
