//! What an answer says of itself: by the head that it came with, and by lines of ours that are written already.
//!
//! Rule: both count alike, as their client reads them. Called by `compressing`.

use crate::policy::changes::compression::{Answered, Compression, Reason};
use crate::protocol::h1::ResponseHead;

/// The values of a field among lines that are written already.
fn values_in<'a>(lines: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    lines.split(|&byte| byte == b'\n').filter_map(move |line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| value.trim_ascii())
    })
}

/// What an answer is said to be, by its head and by lines of ours.
pub(super) struct Lines<'a> {
    pub(super) head: Option<(&'a ResponseHead, &'a [u8])>,
    pub(super) ours: [&'a [u8]; 2],
}

impl Lines<'_> {
    /// Whether any value of a field passes a test.
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let told = |(head, bytes): (&ResponseHead, &[u8]), test: &mut dyn FnMut(&[u8]) -> bool| {
            head.values(bytes, name).any(test)
        };
        self.head.is_some_and(|head| told(head, test))
            || self
                .ours
                .iter()
                .any(|lines| values_in(lines, name).any(&mut *test))
    }

    /// Whether it may be compressed.
    pub(super) fn verdict(
        &self,
        compression: &Compression,
        status: u16,
        length: Option<u64>,
    ) -> Result<(), Reason> {
        compression.may_compress(&Answered {
            status,
            length,
            any_value: &|name: &str, test: &mut dyn FnMut(&[u8]) -> bool| {
                self.any_value(name, test)
            },
        })
    }

    /// The line that says on what the answer depends, unless that is said.
    pub(super) fn vary(&self) -> &'static [u8] {
        let is_said = self.any_value("vary", &mut |value| {
            value.split(|&byte| byte == b',').any(|member| {
                let member = member.trim_ascii();
                member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding")
            })
        });
        match is_said {
            true => b"",
            false => b"Vary: Accept-Encoding\r\n",
        }
    }
}

/// Leaves the tag of what an answer was before out of its head: the other has another one, which is as good
/// where bytes do not count (RFC 9110 §8.8.3.3).
pub(super) fn weaken_tag(head: &mut ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    let tag = head.values(bytes, "etag").next();
    let Some(tag) = tag.filter(|tag| !tag.starts_with(b"W/")) else {
        return;
    };
    for part in [b"ETag: W/", tag, b"\r\n"] {
        out.extend_from_slice(part);
    }
    head.drop_fields(bytes, b"etag");
}
