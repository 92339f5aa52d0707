//! Passwords, looked up by a thread of their own while the requests that show them wait.
//!
//! Rule: nothing is hashed in the loop. The thread stands back behind it, has a queue of bounded length, and
//! answers everything that it was asked; who shows the same as somebody who waits waits with him. What was right
//! is remembered ([`crate::policy::guards::vault`]), so that a user is looked up once. Called by `authorising`.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use crate::policy::guards::basic::Claim;
use crate::policy::guards::vault::Seal;
use crate::runtime::driver::Driver;
use crate::runtime::{priority, socket};
use crate::session::engine::Engine;
use crate::session::exchange::waiting::Wanted;
use crate::session::ids::{ExchangeId, TicketId};
use crate::telemetry::names::Counter;

/// Passwords that wait to be looked up.
const QUEUE_MAX: usize = 64;

/// The thread, and who waits for it.
pub(in crate::session) struct Verifier {
    claims: SyncSender<Claim>,
    found: Receiver<Found>,
    waiting: HashMap<Seal, Vec<TicketId>, ahash::RandomState>,
}

struct Found {
    seal: Seal,
    is_right: bool,
}

impl Verifier {
    /// `wake` wakes the loop.
    fn start(wake: OwnedFd) -> std::io::Result<Self> {
        let (claims, asked) = mpsc::sync_channel(QUEUE_MAX);
        let (answers, found) = mpsc::channel();
        std::thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(move || look_up_all(&asked, &answers, &wake))?;
        Ok(Self {
            claims,
            found,
            waiting: HashMap::default(),
        })
    }
}

/// What the thread does, until nobody asks any more.
fn look_up_all(asked: &Receiver<Claim>, answers: &Sender<Found>, wake: &OwnedFd) {
    priority::stand_back();
    for claim in asked {
        let Claim {
            book,
            user,
            password,
            seal,
        } = claim;
        let look = AssertUnwindSafe(|| book.knows(&user, &password));
        let is_right = catch_unwind(look).unwrap_or(false);
        if answers.send(Found { seal, is_right }).is_err() {
            return;
        }
        socket::wake(wake.as_raw_fd());
    }
}

impl<D: Driver> Engine<D> {
    /// Has a password looked up, and a request wait for it; none if too many wait already.
    pub(super) fn look_up(&mut self, id: ExchangeId, claim: Claim) -> Option<TicketId> {
        if self.verifier.is_none() {
            let wake = socket::duplicate(self.wake.as_raw_fd());
            self.verifier = wake.and_then(Verifier::start).ok();
        }
        let verifier = self.verifier.as_mut()?;
        let seal = claim.seal;
        if !verifier.waiting.contains_key(&seal) {
            verifier.claims.try_send(claim).ok()?;
            self.metrics.add(Counter::PasswordsHashedTotal, 1);
        }
        let ticket = self.wait(id, Wanted::Password);
        let verifier = self.verifier.as_mut()?;
        verifier.waiting.entry(seal).or_default().push(ticket);
        Some(ticket)
    }

    /// Takes over what the thread has found out; those who waited for it go on.
    pub(in crate::session) fn take_passwords(&mut self) {
        while let Some(verifier) = &mut self.verifier
            && let Ok(Found { seal, is_right }) = verifier.found.try_recv()
        {
            let waiting = verifier.waiting.remove(&seal).unwrap_or_default();
            if is_right {
                self.vault.remember(seal);
            }
            for ticket in waiting {
                if let Some(id) = self.resume(ticket) {
                    self.password_found(id, is_right);
                }
            }
        }
    }
}
