//! What frontends have done with requests before any backend is asked: the stages, and their order.
//!
//! Rule: pure. A head and what is known of its sender come in, `Continue` or an answer comes out: no
//! socket, no clock, nothing of a session. What few frontends ask for is in a [`plan::Plan`], compiled when
//! a change is prepared; what holds for all of them is in [`general`]. Called by `session/exchange`, and
//! plans are made by `state/incoming`.

pub mod facts;
pub mod general;
pub mod plan;
mod secure;

use facts::Facts;
use plan::Plan;

use crate::state::entity::Frontend;

/// Where TLS is spoken if nobody says otherwise.
pub const HTTPS_PORT: u16 = 443;

/// What becomes of a request at a stage.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It goes on to the next one.
    Continue,
    /// It is answered here.
    Answer(Answer),
}

/// How a request is answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Which stage has answered it, and why.
    pub reason: Reason,
    /// One more line of the head, with its CRLF.
    pub line: Option<Box<str>>,
}

/// Why a request gets no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It came before a handshake was complete, and may be somebody else's repetition.
    TooEarly,
    /// Its body is longer than its listener takes.
    TooLarge,
    /// It goes somewhere else.
    Redirected,
    /// Its client has shown no certificate.
    CertificateMissing,
    /// It asks for a version of WebSocket that is not carried.
    WebSocketVersion,
    /// It asks for a protocol that is not passed on.
    UpgradeRefused,
}

impl Verdict {
    fn answer(status: u16, reason: Reason) -> Self {
        Self::Answer(Answer {
            status,
            reason,
            line: None,
        })
    }

    fn with_line(status: u16, reason: Reason, line: impl Into<Box<str>>) -> Self {
        Self::Answer(Answer {
            status,
            reason,
            line: Some(line.into()),
        })
    }

    /// Asks the next stage, unless this one has answered.
    #[inline]
    fn or(self, next: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Continue => next(),
            Self::Answer(_) => self,
        }
    }
}

/// Takes a request through the stages of the frontend that matches it, in the one order that there is:
/// early data, a body that is too long, the redirect to TLS (nothing is asked of a client in clear text),
/// the client's certificate, protocols that may not be switched to.
#[inline]
pub fn decide(frontend: &Frontend, plan: Option<&Plan>, facts: &Facts<'_>) -> Verdict {
    let planned = || plan.map_or(Verdict::Continue, |plan| plan.decide(facts));
    general::at_the_door(frontend, facts)
        .or(planned)
        .or(|| general::switching(frontend, facts))
}

#[cfg(test)]
mod tests;
