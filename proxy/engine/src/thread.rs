//! The engine as the control side sees it: a pinned thread that is asked things by messages.
//!
//! Rule: everything that may fail has failed in [`Ledger`] before a message is sent; the thread
//! answers within one loop turn. Called by `python`, and by tests that need no Python.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::policy::limits::meter::CommonTable;
use crate::policy::limits::refused::Meant;
use crate::runtime::common::CommonFile;
use crate::runtime::epoll::Epoll;
use crate::runtime::socket;
use crate::session::{Command, Engine, Limited, Served};
use crate::state::audit::Audited;
use crate::state::digest::Digest;
use crate::state::entity::{Kind, Materials};
use crate::state::ledger::Ledger;
use crate::state::ops::Refused;
use crate::state::reading::Part;
use crate::telemetry::counters::Metrics;
use crate::tls::certificates;
use crate::tls::challenges::{Answers, Challenges};
use crate::tls::policy::{self, Tls};
use crate::tls::tickets::Tickets;
use crate::upstream::health::HealthWords;

/// How long the loop may take to answer before it counts as hung; a turn takes milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How much longer for each entity that is swapped in: ten times of what it takes.
const SWAP_TIMEOUT: Duration = Duration::from_micros(50);

/// A running engine and what the control side knows of it.
pub struct EngineThread {
    /// The committed state and the staged change.
    pub ledger: Ledger,
    /// The answers to ACME challenges; no part of the state.
    pub challenges: Arc<Challenges>,
    /// The keys of TLS session tickets; no part of the state.
    pub tickets: Arc<Tickets>,
    metrics_fd: OwnedFd,
    commands: Sender<Command>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
    /// Our own copies of the listening sockets, for a reconciler that comes back.
    listeners: HashMap<String, OwnedFd>,
    staged_listeners: HashMap<String, OwnedFd>,
    staged_removals: Vec<String>,
}

impl EngineThread {
    /// Starts the thread, pinned to `cpu` if given.
    ///
    /// # Errors
    /// A sentence for the operator when the system denies a thread, memory or descriptors.
    pub fn start(worker: u32, cpu: Option<usize>) -> Result<Self, String> {
        let say = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        // Refused by a sandbox: then the limit that it set is the one wanted.
        let _ = socket::raise_descriptor_limit();
        let metrics = Metrics::create(worker).map_err(say("cannot make the shared counters"))?;
        let metrics_fd =
            socket::duplicate(metrics.fd()).map_err(say("cannot share the counters"))?;
        let tls = Tls::default();
        let tickets = tls.tickets.clone();
        let challenges = tls.challenges.clone();
        let served = Served {
            certificates: tls.certificates.clone(),
            challenges: challenges.clone(),
        };
        let wake = socket::wake_descriptor().map_err(say("cannot make an eventfd"))?;
        let wake_inside =
            socket::duplicate(wake.as_raw_fd()).map_err(say("cannot copy an eventfd"))?;
        let (commands, inbox) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let seed = random_seed(worker);
        let thread = std::thread::Builder::new()
            .name(format!("engine-{worker}"))
            .spawn(move || {
                let make = |epoll| Engine::new(epoll, wake_inside, inbox, metrics, served, seed);
                run(cpu, make, &started);
            })
            .map_err(say("cannot start the engine thread"))?;
        match outcome.recv() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(reason),
            Err(_) => return Err("the engine thread ended while starting".into()),
        }
        Ok(Self {
            ledger: Ledger::new(tls),
            challenges,
            tickets,
            metrics_fd,
            commands,
            wake,
            thread: Some(thread),
            listeners: HashMap::new(),
            staged_listeners: HashMap::new(),
            staged_removals: Vec::new(),
        })
    }

    /// The memfd of the shared counters.
    #[must_use]
    pub fn metrics_fd(&self) -> RawFd {
        self.metrics_fd.as_raw_fd()
    }

    /// The listening sockets by listener.
    pub fn listener_fds(&self) -> impl Iterator<Item = (&str, RawFd)> {
        self.listeners
            .iter()
            .map(|(name, fd)| (name.as_str(), fd.as_raw_fd()))
    }

    /// Takes a chunk of a change; see [`Ledger::stage`].
    ///
    /// # Errors
    /// [`Refused`] with the entity and the reason.
    pub fn stage(
        &mut self,
        generation: u64,
        number: u64,
        ops: &[u8],
        materials: &Materials,
    ) -> Result<(), Refused> {
        if number == 0 {
            self.forget_staged();
        }
        self.ledger.stage(generation, number, ops, materials)
    }

    /// Checks a change and keeps it; see [`Ledger::prepare`]. The descriptors are copied.
    ///
    /// # Errors
    /// [`Refused`] with the entity and the reason.
    pub fn prepare(
        &mut self,
        generation: u64,
        base: (u64, Digest),
        commit: &str,
        chunks: u64,
        sockets: &HashMap<String, RawFd>,
    ) -> Result<Digest, Refused> {
        // Those of a worker that does not serve yet come with the order to.
        let none = HashMap::new();
        let sockets = if self.ledger.serving { sockets } else { &none };
        let (inside, outside) = (copied(sockets)?, copied(sockets)?);
        let digest = self
            .ledger
            .prepare(generation, base, commit, chunks, inside)?;
        if self.ledger.staged_generation() == Some(generation) {
            self.staged_listeners = outside;
            self.staged_removals = self.ledger.staged_removals(Kind::Listener);
        }
        Ok(digest)
    }

    /// Swaps a staged generation in and returns the digest of what the loop then holds.
    ///
    /// # Errors
    /// [`Refused`] when that generation is neither staged nor committed.
    pub fn commit(&mut self, generation: u64) -> Result<Digest, Refused> {
        let Some(staged) = self.ledger.take_staged(generation) else {
            if generation == self.ledger.generation {
                return Ok(self.ledger.digest);
            }
            return Err(state_refused(format!(
                "generation {generation} is not staged"
            )));
        };
        for name in std::mem::take(&mut self.staged_removals) {
            self.listeners.remove(&name);
        }
        self.listeners
            .extend(std::mem::take(&mut self.staged_listeners));
        let (answer, digest) = mpsc::channel();
        let patience = ANSWER_TIMEOUT + SWAP_TIMEOUT * staged.puts.len() as u32;
        self.send(Command::Commit(Box::new(staged), answer));
        await_answer_for(patience, &digest)
    }

    /// Drops a staged generation.
    pub fn abort(&mut self, generation: u64) {
        if self.ledger.staged_generation() == Some(generation) {
            self.forget_staged();
        }
        self.ledger.abort(generation);
    }

    /// Accepts connections from now on: with these sockets at listeners that have none yet. One for which
    /// none comes takes no connections until a later call brings it.
    ///
    /// # Errors
    /// [`Refused`] when the loop does not answer.
    pub fn serve(&mut self, sockets: &HashMap<String, RawFd>) -> Result<(), Refused> {
        let (inside, outside) = (copied(sockets)?, copied(sockets)?);
        for (name, fd) in outside {
            self.listeners.entry(name).or_insert(fd);
        }
        self.ledger.serving = true;
        let (answer, done) = mpsc::channel();
        self.send(Command::Serve(inside, answer));
        await_answer(&done)
    }

    /// Lets go of what committed generations removed.
    ///
    /// # Errors
    /// [`Refused`] when the loop does not answer.
    pub fn release(&mut self) -> Result<(), Refused> {
        let (answer, done) = mpsc::channel();
        self.send(Command::Release(answer));
        await_answer(&done)
    }

    /// Replaces the list of backends that get no new requests.
    ///
    /// # Errors
    /// [`Refused`] when the loop does not answer.
    pub fn overlay(&mut self, drained: Vec<String>) -> Result<(), Refused> {
        let (answer, done) = mpsc::channel();
        self.send(Command::Overlay(drained, answer));
        await_answer(&done)
    }

    /// Takes other answers to ACME challenges in place of those held: key authorizations by token, and by
    /// hostname the PEM chain and key of what is shown in handshakes.
    ///
    /// # Errors
    /// A sentence, when they are unreadable or too many; those held are kept then.
    pub fn take_challenges(
        &self,
        http: HashMap<String, String>,
        tls: &HashMap<String, (Vec<u8>, Vec<u8>)>,
    ) -> Result<(), String> {
        let provider = policy::provider();
        let shown = tls.iter().map(|(hostname, (chain, key))| {
            let key = certificates::read(chain, key, &provider)?;
            Ok((hostname.clone(), Arc::new(key)))
        });
        self.challenges.replace(Answers {
            http: http
                .into_iter()
                .map(|(token, answer)| (token.into_bytes(), answer))
                .collect(),
            tls: shown.collect::<Result<_, String>>()?,
        })
    }

    /// Who is limited now, of those who are meant, and how many milliseconds each has to wait; with `begin_anew` they
    /// have used nothing from then on; and who has requests in flight, of those that are counted.
    ///
    /// # Errors
    /// [`Refused`] when the loop does not answer.
    pub fn limits(&self, meant: Meant, begin_anew: bool) -> Result<Limited, Refused> {
        let (answer, found) = mpsc::channel();
        self.send(Command::Limits(meant, begin_anew, answer));
        await_answer(&found)
    }

    /// Has rates, and requests in flight, counted in the table of this file, which all workers of the host have in common,
    /// and each of them has opened for itself. The descriptor is copied.
    ///
    /// # Errors
    /// A sentence, when it is no such table; the one that is held is kept then.
    pub fn share_rates(&self, file: RawFd) -> Result<(), String> {
        let taken = CommonFile::of(file).and_then(|file| Ok((CommonTable::of(&file)?, file)));
        let (table, file) =
            taken.map_err(|error| format!("the table of rates cannot be used: {error}"))?;
        self.send(Command::ShareRates(table, file));
        Ok(())
    }

    /// Has it read of this file what the prober of the host finds. The descriptor is copied.
    ///
    /// # Errors
    /// A sentence, when it is no such table; the one that is held is kept then.
    pub fn share_health(&self, file: RawFd) -> Result<(), String> {
        let words = CommonFile::of(file).and_then(|file| HealthWords::of(&file));
        let words =
            words.map_err(|error| format!("the table of health cannot be used: {error}"))?;
        self.send(Command::ShareHealth(words));
        Ok(())
    }

    /// Has the access log's file opened anew before the next line is written.
    pub fn reopen_log(&self) {
        self.send(Command::ReopenLog);
    }

    /// Has the digest computed anew from every entity that the loop holds, where an audit that was
    /// interrupted has not come to. Nobody needs to wait for it who holds us: [`Auditing::wait`] does.
    #[must_use]
    pub fn begin_audit(&self) -> Auditing {
        let (answer, found) = mpsc::channel();
        self.send(Command::Audit(answer));
        Auditing(found)
    }

    /// Interrupts the audit that is under way: the next one goes on from there.
    pub fn interrupt_audit(&self) {
        self.send(Command::InterruptAudit);
    }

    /// A part of the entities that the loop holds, from a position on.
    ///
    /// # Errors
    /// [`Refused`] when the loop does not answer.
    pub fn read(&self, position: usize) -> Result<Part, Refused> {
        let (answer, part) = mpsc::channel();
        self.send(Command::Read(position, answer));
        await_answer(&part)
    }

    /// Stops accepting, lets requests end for at most `grace`, ends the thread.
    pub fn shutdown(&mut self, grace: Duration) {
        self.listeners.clear();
        self.send(Command::Shutdown(grace));
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    fn forget_staged(&mut self) {
        self.staged_listeners.clear();
        self.staged_removals.clear();
    }

    fn send(&self, command: Command) {
        // A closed channel means that the thread has ended; the missing answer says so.
        let _ = self.commands.send(command);
        socket::wake(self.wake.as_raw_fd());
    }
}

/// An audit that was asked for.
pub struct Auditing(Receiver<Option<Audited>>);

impl Auditing {
    /// What it finds; None when it was interrupted before.
    ///
    /// # Errors
    /// [`Refused`] when the loop does not answer.
    pub fn wait(self) -> Result<Option<Audited>, Refused> {
        await_answer(&self.0)
    }
}

fn copied(sockets: &HashMap<String, RawFd>) -> Result<HashMap<String, OwnedFd>, Refused> {
    let copy = |(name, &fd): (&String, &RawFd)| match socket::duplicate(fd) {
        Ok(copy) => Ok((name.clone(), copy)),
        Err(error) => {
            let reason = format!("the listening socket cannot be taken over: {error}");
            Err(Refused::new("listener", name, reason))
        }
    };
    sockets.iter().map(copy).collect()
}

fn await_answer<T>(answer: &Receiver<T>) -> Result<T, Refused> {
    await_answer_for(ANSWER_TIMEOUT, answer)
}

fn await_answer_for<T>(patience: Duration, answer: &Receiver<T>) -> Result<T, Refused> {
    answer
        .recv_timeout(patience)
        .map_err(|_| state_refused("the engine thread does not answer".into()))
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shutdown(Duration::ZERO);
        }
    }
}

fn run(
    cpu: Option<usize>,
    make: impl FnOnce(Epoll) -> std::io::Result<Engine<Epoll>>,
    started: &Sender<Result<(), String>>,
) {
    let start = || -> Result<Engine<Epoll>, String> {
        if let Some(cpu) = cpu {
            socket::pin_to_cpu(cpu)
                .map_err(|error| format!("cannot pin the engine to core {cpu}: {error}"))?;
        }
        let epoll = Epoll::new().map_err(|error| format!("cannot open epoll: {error}"))?;
        make(epoll).map_err(|error| format!("cannot start the event loop: {error}"))
    };
    match start() {
        Err(reason) => {
            let _ = started.send(Err(reason));
        }
        Ok(mut engine) => {
            let _ = started.send(Ok(()));
            // A worker whose loop has failed or panicked serves nothing: it must end so that the
            // reconciler replaces it, instead of living on as a shell.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.run()));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    eprintln!("engine: the event loop failed: {error}");
                    std::process::abort();
                }
                Err(_) => std::process::abort(),
            }
        }
    }
}

/// Unlike any other worker's and any earlier run's: taken from the randomly keyed hasher.
fn random_seed(worker: u32) -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one((worker, std::process::id()))
}

fn state_refused(reason: String) -> Refused {
    Refused {
        kind: "state".into(),
        name: String::new(),
        reason,
    }
}
