//! What is heard of somebody who was asked whether a request may pass, and whether that is a verdict.
//!
//! Called by `authorising`, with the parts of an answer as they come.

use crate::protocol::h1::ResponseHead;
use crate::session::exchange::Outcome;
use crate::session::ids::TicketId;

/// Bytes of a refusal's body; it is passed on whole.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// What is heard of who was asked.
#[derive(Default)]
pub(in crate::session) struct Heard {
    pub(super) ticket: Option<TicketId>,
    /// The final head, and the text that it is offsets into.
    pub(super) head: Option<(ResponseHead, Vec<u8>)>,
    /// The body of a refusal.
    pub(super) body: Vec<u8>,
    is_too_long: bool,
}

impl Heard {
    pub(super) fn hear_head(&mut self, text: &[u8], head: &ResponseHead) {
        if head.status < 200 {
            return;
        }
        // With the end of the last line.
        let end = head.fields.iter().map(|field| field.value.end() + 2).max();
        let text = text.get(..end.unwrap_or_default()).unwrap_or_default();
        self.head = Some((head.clone(), text.to_vec()));
    }

    /// Returns how much more is kept.
    pub(super) fn hear_body(&mut self, bytes: &[u8]) -> usize {
        let is_kept = self
            .head
            .as_ref()
            .is_some_and(|(head, _)| refuses(head.status));
        if !is_kept || self.is_too_long {
            return 0;
        }
        self.is_too_long = self.body.len() + bytes.len() > REFUSAL_BYTES_MAX;
        if self.is_too_long {
            return 0;
        }
        self.body.extend_from_slice(bytes);
        bytes.len()
    }

    /// Why it is no verdict, if it is none.
    pub(super) fn fault(&self, outcome: Outcome) -> Option<&'static str> {
        if outcome != Outcome::Complete {
            return Some(match outcome {
                Outcome::ResponseTimeout | Outcome::ConnectTimeout => "authoriser_timeout",
                _ => "authoriser_failed",
            });
        }
        match &self.head {
            Some((head, _)) if (200..300).contains(&head.status) => None,
            Some((head, _)) if refuses(head.status) => {
                self.is_too_long.then_some("authoriser_answer_too_long")
            }
            Some(_) | None => Some("authoriser_status"),
        }
    }
}

/// Whether a status says that a request may not pass, and what its client is to do. A 304 says nothing, since
/// nobody has asked whether something is new.
pub(super) fn refuses(status: u16) -> bool {
    matches!(status, 300..=303 | 305..=399 | 401 | 403)
}
