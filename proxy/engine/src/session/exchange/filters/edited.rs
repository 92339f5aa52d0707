//! What a backend says beside its final head, where policies have a word about that: interim heads, and trailers.
//!
//! Rule: nothing comes in there that is left out of the head. What is set there anew is not said twice, and a cookie is
//! put right wherever it is set, since browsers keep those of a 103. Called by `response` and
//! `compressing`.

use crate::policy::changes::edits::Reach;
use crate::policy::merged::Merged;
use crate::protocol::h1::ResponseHead;
use crate::protocol::lines::{LineBuf, Lines};
use crate::session::exchange::body::Taken;
use crate::session::exchange::{Exchange, Reply, hsts_of};
use crate::state::listener::ListenerSettings;

const HSTS: &str = "strict-transport-security";

impl Exchange {
    /// Leaves out of a head what others say in its place.
    #[inline]
    pub(in crate::session::exchange) fn leave_out(&self, head: &mut ResponseHead, bytes: &[u8]) {
        if let Some(merged) = self.merged() {
            self.leave_out_what_is_said(merged, head, bytes);
        }
    }

    fn leave_out_what_is_said(&self, merged: &Merged, head: &mut ResponseHead, bytes: &[u8]) {
        if hsts_of(Some(merged), &self.listener).is_some() {
            head.drop_fields(bytes, HSTS.as_bytes());
        }
        if let Some(edits) = merged.response_edits() {
            for name in edits.drops(Reach::of(head.status, false)) {
                head.drop_fields(bytes, name.as_bytes());
            }
        }
    }

    /// Puts the cookies right that a head sets; the lines of these are appended.
    #[inline]
    pub(in crate::session::exchange) fn put_cookies_right(
        &self,
        head: &mut ResponseHead,
        bytes: &[u8],
        lines: &mut Option<LineBuf>,
    ) {
        if let Some(cookies) = self.merged().and_then(Merged::cookies) {
            cookies.change(head, bytes, lines.get_or_insert_default());
        }
    }

    /// Takes a part of the body, as [`Body::take`] does; `None` if there is none, or a malformed one.
    pub(in crate::session::exchange) fn take_body<'a>(
        &mut self,
        data: &'a [u8],
        chunked_out: bool,
        out: &mut Vec<u8>,
    ) -> Option<Taken<'a>> {
        let (is_call, status) = (self.is_call(), self.record.status);
        let (frontend, listener) = (&self.frontend, &self.listener);
        let passes = |name: &[u8]| {
            let merged = frontend.merged(listener).filter(|_| !is_call);
            may_trail(merged, listener, status, name)
        };
        let Reply::Body(body) = &mut self.reply else {
            return None;
        };
        match body.take(data, chunked_out, out, &passes) {
            Ok(taken) => Some(taken),
            Err(error) => {
                self.record.reason = Some(error.as_str());
                None
            }
        }
    }

    /// The trailers that pass, if not all do.
    pub(in crate::session::exchange) fn passing_trailers(
        &self,
        trailers: Lines<'_>,
    ) -> Option<LineBuf> {
        let (merged, status) = (self.merged(), self.record.status);
        trailers.passing(|name| may_trail(merged, &self.listener, status, name))
    }
}

/// Whether a field may stand behind the body of an answer of some status.
fn may_trail(
    merged: Option<&Merged>,
    listener: &ListenerSettings,
    status: u16,
    name: &[u8],
) -> bool {
    let is = |it: &str| name.eq_ignore_ascii_case(it.as_bytes());
    let edits = merged.and_then(Merged::response_edits);
    let mut drops = edits
        .into_iter()
        .flat_map(|it| it.drops(Reach::of(status, false)));
    let is_left_out = drops.any(|it| is(it)) || is(HSTS) && hsts_of(merged, listener).is_some();
    !is_left_out
}
