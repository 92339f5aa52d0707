//! What frontends have done with requests before any backend is asked: the stages, and their order.
//!
//! Rule: pure. A head and what is known of its sender come in, and a [`Step`] comes out: on to a backend, an
//! answer, or somebody to be asked first, behind whom the stages go on ([`go_on`]): no socket, no clock,
//! nothing of a session. What few frontends ask for is in a [`plan::Plan`], compiled when
//! a change is prepared; what holds for all of them is in [`general`]. Called by `session/exchange`, and
//! plans are made by `state/incoming`.

pub mod asking;
pub mod changes;
pub mod ends;
pub mod facts;
pub mod general;
pub mod guards;
pub mod limits;
pub mod merged;
pub mod plan;
pub mod preview;

use std::sync::Arc;

use facts::Facts;
use guards::basic::Shown;
use guards::jwt::token::Fault;
use merged::Merged;
use plan::{Changes, Plan};

use crate::protocol::lines::LineBuf;
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
    /// The status; 0 where the connection is closed without an answer.
    pub status: u16,
    /// Which stage has answered it, and why.
    pub reason: Reason,
    /// Which limit says so: the kind of whose it is, the name of that, and what it is called there.
    pub limit: Option<Box<str>>,
    /// More lines of the head.
    pub lines: LineBuf,
    /// In place of any page of an error.
    pub page: Option<Page>,
    /// What is said of the request by those who have let it pass, by which its own lines may go.
    pub said: LineBuf,
}

/// A body, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its bytes.
    pub body: Arc<[u8]>,
    /// Its media type.
    pub content_type: Arc<str>,
}

/// Why a request gets no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It came before a handshake was complete, and may be somebody else's repetition.
    TooEarly,
    /// It asks for itself, with all that the proxy has put into it.
    Trace,
    /// Its body is longer than its listener takes.
    TooLarge,
    /// It goes somewhere else.
    Redirected,
    /// Its client is in a network that may not ask.
    Denied,
    /// Somebody asks too often. Which status says so is his who says how often.
    RateLimited,
    /// Too many of its sort are in flight.
    Crowded,
    /// A browser asks whether it may ask, and it may.
    Preflight,
    /// A browser asks the same for a page that may not.
    OriginRefused,
    /// Its client has shown no password that is right.
    Unauthenticated,
    /// Passwords of too many wait to be looked up.
    TooManyPasswords,
    /// Its client has shown no token.
    TokenMissing,
    /// Its client has shown one that lets nobody pass.
    TokenRefused(Fault),
    /// Its client has shown one that does not allow this.
    TokenInsufficient,
    /// The keys by which tokens are known have not been fetched yet.
    TokenKeysMissing,
    /// What a file says is lost, without which nobody is served.
    ContentMissing,
    /// Its client has shown no certificate.
    CertificateMissing,
    /// Its client has shown a certificate of somebody else than who may ask.
    CertificateRefused,
    /// It is answered by what the configuration says.
    Responded,
    /// It gets no answer at all.
    Closed,
    /// It asks for a version of WebSocket that is not carried.
    WebSocketVersion,
    /// It asks for a protocol that is not passed on.
    UpgradeRefused,
    /// What it would be rewritten to is no normal path.
    Abnormal,
    /// Its own values would make a head too large.
    Overgrown,
}

impl Answer {
    fn new(status: u16, reason: Reason) -> Self {
        Self {
            status,
            reason,
            limit: None,
            lines: LineBuf::default(),
            page: None,
            said: LineBuf::default(),
        }
    }

    /// The same, with more lines.
    fn with(mut self, more: Option<LineBuf>) -> Self {
        if let Some(more) = more {
            self.lines.append(more.lines());
        }
        self
    }
}

impl Verdict {
    fn answer(status: u16, reason: Reason) -> Self {
        Self::Answer(Answer::new(status, reason))
    }

    fn with_lines(status: u16, reason: Reason, told: &[(&str, &str)]) -> Self {
        let mut answer = Answer::new(status, reason);
        for (name, value) in told {
            answer.lines.push(name.as_bytes(), value.as_bytes());
        }
        Self::Answer(answer)
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

/// What becomes of a request behind some stages.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// It goes to a backend, changed to this.
    Forward(Option<Box<Changes>>),
    /// It is answered.
    Answer(Answer),
    /// It waits until this one of [`Merged::basics`], and behind them of [`Merged::asked`], has let it pass; then it
    /// goes on behind that.
    Wait(usize),
}

/// Takes a request through the stages of the frontend that matches it, in the one order that there is:
/// early data, TRACE, a body that is too long, the redirect to TLS (nothing is asked of a client in clear text),
/// networks, rates, preflights, the client's certificate, and whoever else is asked; then what stands behind all who say
/// who it is, rates that go by that among them.
#[inline]
pub fn decide(
    frontend: &Frontend,
    plan: Option<&Plan>,
    merged: Option<&Merged>,
    facts: &Facts<'_>,
) -> Step {
    if plan.is_none() && merged.is_none() {
        // Most frontends ask for nothing.
        let verdict = general::at_the_door(frontend, None, facts);
        return match verdict.or(|| general::switching(frontend, facts)) {
            Verdict::Answer(answer) => Step::Answer(answer),
            Verdict::Continue => Step::Forward(None),
        };
    }
    let to_tls = || plan.map_or(Verdict::Continue, |plan| plan.to_tls(facts));
    let admitted = || merged.map_or(Verdict::Continue, |merged| merged.admit(facts));
    let in_time = || merged.map_or(Verdict::Continue, |merged| merged.keep_pace(facts));
    let preflight = || merged.map_or(Verdict::Continue, |merged| merged.preflight(facts));
    let identified = || merged.map_or(Verdict::Continue, |merged| merged.identify(facts));
    let verdict = general::at_the_door(frontend, merged, facts)
        .or(to_tls)
        .or(admitted)
        .or(in_time);
    if let Verdict::Answer(answer) = verdict {
        return Step::Answer(answer);
    }
    match preflight().or(identified) {
        Verdict::Answer(answer) => Step::Answer(counted(answer, merged, facts)),
        Verdict::Continue => go_on(frontend, plan, merged, facts, 0),
    }
}

/// An answer to a request that has been counted by what does not go by who asks: it tells what is left.
fn counted(answer: Answer, merged: Option<&Merged>, facts: &Facts<'_>) -> Answer {
    answer.with(merged.and_then(|merged| merged.quotas_before(facts)))
}

/// Takes a request on that so many of those have let pass who are asked: to the next of them, or through the
/// stages behind: rates of who it is, redirects and answers of the configuration, protocols that may not be switched to, and then
/// what it is changed to on its way.
#[inline]
pub fn go_on(
    frontend: &Frontend,
    plan: Option<&Plan>,
    merged: Option<&Merged>,
    facts: &Facts<'_>,
    passed: usize,
) -> Step {
    let Some(merged) = merged else {
        return behind_all(frontend, plan, None, facts);
    };
    let mut next = passed;
    while let Some(basic) = merged.basics().get(next) {
        match basic.look(facts) {
            Shown::Known => next += 1,
            Shown::Unknown(_) => return Step::Wait(next),
            Shown::Nothing => {
                return Step::Answer(counted(basic.refusal(), Some(merged), facts));
            }
        }
    }
    let mut told = match merged.verify(facts) {
        Ok(known) => known,
        Err(answer) => return Step::Answer(counted(answer, Some(merged), facts)),
    };
    if merged.basics().len() + merged.asked().len() > next {
        return Step::Wait(next);
    }
    // From here on it is known who asks.
    if told.is_nothing() {
        return behind_all(frontend, plan, Some(merged), facts);
    }
    told.lines.append(facts.said);
    let known = Facts {
        said: told.lines.lines(),
        claims: &told.claims,
        ..*facts
    };
    behind_all(frontend, plan, Some(merged), &known)
}

/// Takes a request through the stages behind all who say who it is.
#[inline(always)]
fn behind_all(
    frontend: &Frontend,
    plan: Option<&Plan>,
    merged: Option<&Merged>,
    facts: &Facts<'_>,
) -> Step {
    let in_time = merged.map_or(Verdict::Continue, |merged| merged.keep_pace_behind(facts));
    let told = || merged.and_then(|merged| merged.quotas(facts));
    let end = || plan.map_or(Verdict::Continue, |plan| plan.end(facts));
    let answer = match in_time.or(end).or(|| general::switching(frontend, facts)) {
        Verdict::Answer(answer) if answer.reason == Reason::RateLimited => answer,
        Verdict::Answer(answer) => answer.with(told()),
        Verdict::Continue => match changes(plan, merged, facts) {
            Ok(changes) => return Step::Forward(told_to_client(changes, told())),
            Err(answer) => answer,
        },
    };
    Step::Answer(Answer {
        said: facts.said.into(),
        ..answer
    })
}

/// Adds lines to the head of the answer, if there are some.
#[inline]
fn told_to_client(changes: Option<Box<Changes>>, told: Option<LineBuf>) -> Option<Box<Changes>> {
    let Some(told) = told else {
        return changes;
    };
    let mut changes = changes.unwrap_or_default();
    changes.answered = Some(told);
    Some(changes)
}

/// What a request that goes to a backend is changed to.
#[inline]
fn changes(
    plan: Option<&Plan>,
    merged: Option<&Merged>,
    facts: &Facts<'_>,
) -> Result<Option<Box<Changes>>, Answer> {
    let changes = plan.map_or(Ok(None), |plan| plan.changes(facts))?;
    let mut lines = match merged {
        Some(merged) => merged.request_lines(facts)?,
        None => None,
    };
    let crowd = merged.and_then(|merged| merged.keys_behind(facts));
    if let Some(merged) = merged.filter(|_| !facts.said.is_empty()) {
        let mut all = merged.unedited(facts.said);
        if let Some(lines) = lines {
            all.append(lines.lines());
        }
        lines = Some(all.into());
    }
    if changes.is_none() && lines.is_none() && crowd.is_none() {
        return Ok(None);
    }
    let changes = changes.unwrap_or_default();
    Ok(Some(Box::new(Changes {
        lines,
        said: facts.said.into(),
        crowd,
        ..changes
    })))
}

#[cfg(test)]
mod tests;
