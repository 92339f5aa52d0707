//! By which name an instance says that a request has come through it: `Via` (RFC 9110 §7.6.3).
//!
//! Rule: a request is refused for its own name alone. Several of us may stand one behind the other, each by a name of its
//! own, and which way a request goes round is nobody else's business. Called by `forward`, and before a request is routed.

use super::{RequestHead, Version};

/// The name, and the lines in which backends and clients are told it.
#[derive(Debug)]
pub struct Via {
    name: Box<[u8]>,
    /// What is said of what came by HTTP/1.0, 1.1 and 2.
    values: [Box<[u8]>; 3],
    /// The same as lines, each with what the next one begins with, which is always there.
    lines: [Box<[u8]>; 3],
    /// The same for answers, whose next line is any.
    answered: [Box<[u8]>; 3],
}

impl Via {
    /// That of an instance of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let values = ["1.0", "1.1", "2.0"].map(|version| format!("{version} {name}"));
        let line = |next| {
            let lines = values.each_ref();
            lines.map(|value| format!("Via: {value}\r\n{next}").into_bytes().into())
        };
        Self {
            name: name.as_bytes().into(),
            lines: line("X-Request-Id: "),
            answered: line(""),
            values: values.map(|value| value.into_bytes().into()),
        }
    }

    /// For a request that came by this version: its line, and the beginning of that of its id.
    #[inline]
    pub(super) fn line(&self, version: Version) -> &[u8] {
        &self.lines[place_of(version)]
    }

    /// For an answer that came by this version: its line.
    #[inline]
    pub(super) fn line_of_answer(&self, version: Version) -> &[u8] {
        &self.answered[place_of(version)]
    }

    /// What the line says.
    pub(crate) fn value(&self, version: Version) -> &[u8] {
        &self.values[place_of(version)]
    }

    /// Whether a request has been passed on by this instance before.
    #[inline]
    #[must_use]
    pub fn has_passed(&self, head: &RequestHead, buf: &[u8]) -> bool {
        head.is_passed_on && self.is_named(head, buf)
    }

    #[cold]
    fn is_named(&self, head: &RequestHead, buf: &[u8]) -> bool {
        head.values(buf, "via")
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|member| self.is_member(member))
    }

    /// Whether it is named by a member: the version, the name, and maybe a comment.
    fn is_member(&self, member: &[u8]) -> bool {
        let mut words = member
            .trim_ascii()
            .split(|&byte| byte == b' ' || byte == b'\t');
        let name = words.by_ref().skip(1).find(|word| !word.is_empty());
        name.is_some_and(|name| name.eq_ignore_ascii_case(&self.name))
    }
}

#[inline]
fn place_of(version: Version) -> usize {
    match version {
        Version::Http10 => 0,
        Version::Http11 => 1,
        Version::Http2 => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::h1::{HeadLimits, request};

    fn has_passed(lines: &str) -> bool {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let limits = HeadLimits {
            head_bytes_max: 4096,
            header_count_max: 100,
        };
        let mut head = RequestHead::default();
        request::parse(bytes.as_bytes(), &limits, &mut head).unwrap();
        Via::new("kakehi-1a").has_passed(&head, bytes.as_bytes())
    }

    #[test]
    fn an_instance_knows_its_own_name_and_no_other() {
        for ours in [
            "Via: 1.1 kakehi-1a\r\n",
            "Via: 1.0 fred, HTTP/2.0  Kakehi-1A (ours)\r\n",
            "via: 1.1 a\r\nVIA: 1.1 kakehi-1a,1.1 b\r\n",
        ] {
            assert!(has_passed(ours), "{ours}");
        }
        let theirs = "Via: 1.1 kakehi-1b, 1.1 kakehi, kakehi-1a, 1.1 x (kakehi-1a)\r\n";
        assert!(!has_passed(theirs) && !has_passed("") && !has_passed("Via: \r\n"));
        assert!(!has_passed(&theirs.repeat(20)), "however many they are");
    }
}
