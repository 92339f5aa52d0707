//! What an answer says of itself: by the head that it came with, and by lines of ours.
//!
//! Rule: both count alike, as their client reads them. Called by `compressing`.

use crate::policy::changes::compression::{Answered, Compression, Reason};
use crate::protocol::h1::ResponseHead;
use crate::protocol::lines::{LineBuf, Lines};

/// What an answer is said to be, by its head and by lines of ours.
pub(super) struct Said<'a> {
    pub(super) head: Option<(&'a ResponseHead, &'a [u8])>,
    pub(super) ours: [Lines<'a>; 3],
}

impl Said<'_> {
    /// Whether any value of a field passes a test.
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let told = |(head, bytes): (&ResponseHead, &[u8]), test: &mut dyn FnMut(&[u8]) -> bool| {
            head.values(bytes, name).any(test)
        };
        self.head.is_some_and(|head| told(head, test))
            || self
                .ours
                .iter()
                .any(|lines| lines.values(name).any(&mut *test))
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

    /// Appends the line that says on what the answer depends, unless that is said.
    pub(super) fn write_vary(&self, out: &mut LineBuf) {
        let is_said = self.any_value("vary", &mut |value| {
            value.split(|&byte| byte == b',').any(|member| {
                let member = member.trim_ascii();
                member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding")
            })
        });
        if !is_said {
            out.push(b"Vary", b"Accept-Encoding");
        }
    }
}

/// Leaves the tag of what an answer was before out of its head: the other has another one, which is as good
/// where bytes do not count (RFC 9110 §8.8.3.3).
pub(super) fn weaken_tag(head: &mut ResponseHead, bytes: &[u8], out: &mut LineBuf) {
    let tag = head.values(bytes, "etag").next();
    let Some(tag) = tag.filter(|tag| !tag.starts_with(b"W/")) else {
        return;
    };
    out.push(b"ETag", &[b"W/", tag].concat());
    head.drop_fields(bytes, b"etag");
}
