//! What those have said who were asked whether a request may pass, for as long as that counts.
//!
//! Rule: only that a request may pass is remembered, by the seal of a question: who is asked and how, who asks by all in
//! which he shows it (what a trusted proxy says of him among that), and for what. A seal is by a key that no other process has, so that nobody makes two
//! questions one, and nothing of what was shown is kept; what was said is, since backends are told it. A
//! request that shows who it is in anything else, or in nothing, has no seal, and is asked about each time. What is
//! configured otherwise has other seals. Bounded: the oldest goes first. Time is an argument. Called by
//! `session/exchange/auth/authorising`.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use crate::policy::facts::Facts;
use crate::protocol::h1::FieldId;
use crate::protocol::lines::{LineBuf, Lines};
use crate::state::entity::ForwardAuth;

/// The seal of a question.
pub type Seal = [u8; 32];

/// Those that were answered by a word that counts for a time.
#[derive(Default)]
pub struct Verdicts {
    key: OnceCell<Option<hmac::Key>>,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    by_seal: HashMap<Seal, Verdict, ahash::RandomState>,
    /// The oldest first, each with when it ends: one that was given again is there twice.
    order: VecDeque<(Seal, u64)>,
}

struct Verdict {
    /// What was said of the request, as lines of its head.
    lines: Arc<LineBuf>,
    ends_ns: u64,
}

impl Verdicts {
    /// The seal of the question about a request; none where the word about it counts once.
    pub fn seal(&self, asked: &ForwardAuth, facts: &Facts<'_>) -> Option<Seal> {
        let cache = asked.cache.as_ref()?;
        let (head, bytes) = (facts.head, facts.bytes);
        let is_named = |name: &str| cache.headers.iter().any(|it| it.eq_ignore_ascii_case(name));
        let shows = |name: &str| head.values(bytes, name).next().is_some();
        if CREDENTIALS
            .iter()
            .any(|name| shows(name) && !is_named(name))
            || !cache.headers.iter().any(|name| shows(name))
        {
            return None;
        }
        let make = || hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        let mut context = hmac::Context::with_key(self.key.get_or_init(make).as_ref()?);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        add(&serde_json::to_vec(asked).ok()?);
        let client = facts.asking();
        add(facts.peer.to_string().as_bytes());
        add(format!("{:?} {}", client.client(), client.told).as_bytes());
        add(facts.client.map_or("", |client| client.header()).as_bytes());
        add(facts.listener_name.as_bytes());
        add(facts.scheme().as_bytes());
        add(head.method(bytes));
        add(head.authority(bytes));
        add(head.path(bytes));
        add(head.query(bytes).map_or(b"", |_| b"?"));
        add(head.query(bytes).unwrap_or_default());
        for name in &cache.headers {
            // How many lines there are keeps them apart from those of the next.
            let count = head.values(bytes, name).count() as u64;
            add(&count.to_be_bytes());
            head.values(bytes, name).for_each(&mut add);
        }
        let is_told_on = |id: FieldId| id.is_about_client() && id != FieldId::XRequestId;
        let told = head.fields.iter().filter(|_| facts.is_trusted());
        for field in told.filter(|field| !field.drop && is_told_on(field.id)) {
            add(field.name.of(bytes));
            add(field.value.of(bytes));
        }
        context.sign().as_ref().try_into().ok()
    }

    /// What was said of a request that may pass, if that counts.
    pub fn known(&self, seal: &Seal, now_ns: u64) -> Option<Arc<LineBuf>> {
        let known = self.known.borrow();
        let verdict = known.by_seal.get(seal)?;
        (now_ns < verdict.ends_ns).then(|| verdict.lines.clone())
    }

    /// A request may pass, of which this is said, and so may all with this seal until then.
    pub fn remember(&self, seal: Seal, lines: Lines<'_>, ends_ns: u64) {
        if lines.size() > LINES_BYTES_MAX {
            return;
        }
        let mut known = self.known.borrow_mut();
        let lines = Arc::new(lines.into());
        known.by_seal.insert(seal, Verdict { lines, ends_ns });
        known.order.push_back((seal, ends_ns));
        while known.order.len() > KNOWN_MAX {
            let Some((oldest, ended_ns)) = known.order.pop_front() else {
                break;
            };
            let is_it = known.by_seal.get(&oldest).map(|it| it.ends_ns) == Some(ended_ns);
            if is_it {
                known.by_seal.remove(&oldest);
            }
        }
    }
}

/// For how long somebody says that his word counts, by a line of `Cache-Control`; what cannot be read is not at all.
pub fn kept_ms(cache_control: &[u8]) -> u64 {
    let members = cache_control.split(|&byte| byte == b',');
    members.fold(u64::MAX, |kept, member| {
        let member = member.trim_ascii();
        let is = |name: &[u8]| {
            let known = member.get(..name.len());
            known.is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        if is(b"no-store") || is(b"no-cache") {
            return 0;
        }
        if !is(b"max-age=") {
            return kept;
        }
        let seconds = std::str::from_utf8(&member[b"max-age=".len()..]).ok();
        let seconds = seconds.and_then(|text| text.trim_matches('"').parse::<u64>().ok());
        kept.min(seconds.unwrap_or_default().saturating_mul(1000))
    })
}

/// In these clients show who they are: where one is not among those that a word goes by, it is about somebody else.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Questions at a time.
const KNOWN_MAX: usize = 4096;
/// Of a word that is remembered.
const LINES_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests;
