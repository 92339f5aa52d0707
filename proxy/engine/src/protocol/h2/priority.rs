//! Extensible priorities (RFC 9218): the reading of the signal.
//!
//! A signal that is malformed is no signal: it only says in which order a client would like to have
//! what it asked for (§4), and nothing is refused for it.

/// In which order responses are sent when the connection's window is the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// 0, the most urgent, to 7.
    pub urgency: u8,
    /// The response is of use as it comes, and may share with others.
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            urgency: 3,
            incremental: false,
        }
    }
}

impl Priority {
    /// Reads a `priority` field (§5): the members `u` and `i` of a structured dictionary
    /// (RFC 9651 §3.2); of several the last one counts.
    pub fn parse(value: &[u8]) -> Self {
        let mut priority = Self::default();
        for member in value.split(|&byte| byte == b',') {
            // Parameters behind `;` have no meaning yet.
            let member = member
                .split(|&byte| byte == b';')
                .next()
                .unwrap_or_default();
            match member.trim_ascii() {
                [b'u', b'=', digit @ b'0'..=b'7'] => priority.urgency = digit - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=5, i", 5, true),
            ("i;x=1,u=0", 0, true),
            ("u=1,u=2, i=?1 ,i=?0", 2, false),
            ("u=8, i=1", 3, false),
            ("U=1, \"u=1\", u = 1", 3, false),
        ] {
            let expected = Priority {
                urgency,
                incremental,
            };
            assert_eq!(Priority::parse(value.as_bytes()), expected, "{value:?}");
        }
    }
}
