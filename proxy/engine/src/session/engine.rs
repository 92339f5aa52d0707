//! The loop of one engine thread and its tables, nothing else: what an event means is said in the rooms.
//!
//! Words. A *client* is a connection that was accepted, a *stream* one of the requests on one of HTTP/2, and an
//! *asker* whichever of the two has a request. An *exchange* is a request and its response; an *attempt* is one
//! try of it at a backend. An *upstream* is a connection to a backend, a *back stream* one of the requests on one
//! of HTTP/2, and a *carrier* whichever of the two has an attempt. An attempt that waits has a *ticket*, by which it
//! is resumed. A *call* is a request that we ask ourselves, beside that of a client. They know each other by ids,
//! which the arenas here check.
//!
//! Rules. One thread owns everything here: no lock, no atomic read-modify-write, no allocation that
//! a pool can serve. A function that may end what it was called for returns its `Fate`.
//! Work per connection and turn is bounded ([`READS_PER_TURN`]); what is left over waits in `queue`.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use slab::Slab;

use crate::policy::guards::vault::Vault;
use crate::policy::guards::verdicts::Verdicts;
use crate::policy::limits::bandwidth::Totals;
use crate::policy::limits::in_flight::InFlight;
use crate::policy::limits::meter::{self, Meter};
use crate::policy::limits::refused::Refused;
use crate::protocol::coding::pool::Encoders;
use crate::protocol::h1::request::RequestHead;
use crate::protocol::h1::response::ResponseHead;
use crate::protocol::h2::Heads;
use crate::runtime::buffer::BufferPool;
use crate::runtime::clock::Clock;
use crate::runtime::driver::{Driver, EVENTS_PER_WAIT, Event, Token};
use crate::runtime::socket;
use crate::runtime::timer::Timers;
use crate::session::back::stream::BackStream;
use crate::session::back::upstream::Upstream;
use crate::session::control::{Command, Drain, Leaving};
use crate::session::exchange::Exchange;
use crate::session::exchange::auth::verifying::Verifier;
use crate::session::exchange::call::Call;
use crate::session::exchange::filters::compressing::BYTES_PER_TURN;
use crate::session::exchange::identity::naming::RequestIds;
use crate::session::exchange::waiting::Ticket;
use crate::session::front::client::Client;
use crate::session::front::multiplex::AnsweredEarly;
use crate::session::front::stream::Stream;
use crate::session::ids::{self, Arena, ExchangeId, Owner};
use crate::session::transport::TlsBuffers;
use crate::state::audit::{Audit, Audited};
use crate::state::listener::Listener;
use crate::state::tables::Tables;
use crate::telemetry::access_log::LogSink;
use crate::telemetry::counters::Metrics;
use crate::telemetry::names::Counter;
use crate::tls::certificates::Certificates;
use crate::tls::challenges::Challenges;
use crate::upstream::Random;

/// The receive buffer that all connections share. 256 KiB took a third off the cost of large bodies
/// against 16 KiB.
pub(super) const RECEIVE_BYTES: usize = 256 * 1024;

/// Read at most while a head is awaited: a long body need not be read at all (`l4::splice`), and one of 64 KiB
/// comes with its head.
pub(super) const READ_WITH_HEAD_BYTES: usize = 80 * 1024;

/// Reads of one connection in one turn; after them it waits for the others.
pub(super) const READS_PER_TURN: usize = 2;

/// Turns after which frames leave although there are events all the time.
const UNFLUSHED_TURNS_MAX: u32 = 4;

/// Turns after which deadlines are looked at although there is more to hear of: some 30,000 events.
const UNJUDGED_TURNS_MAX: u32 = 64;

/// A turn with at most so many events is not followed by a look whether there are more: frames leave at once.
const FEW_EVENTS_MAX: usize = 2;

/// What handshakes are made with, which rustls shares.
pub struct Served {
    /// The certificates in service.
    pub certificates: Arc<Certificates>,
    /// The answers to ACME challenges.
    pub challenges: Arc<Challenges>,
}

/// The engine of one worker: one thread, one event loop.
pub struct Engine<D> {
    pub(super) driver: D,
    pub(super) wake: OwnedFd,
    pub(super) commands: Receiver<Command>,
    pub(super) clock: Clock,
    pub(super) timers: Timers,
    pub(super) pool: BufferPool,
    pub(super) random: Random,
    pub(super) metrics: Rc<Metrics>,
    pub(super) tables: Tables,
    pub(super) challenges: Arc<Challenges>,
    pub(super) log: LogSink,
    pub(super) log_flush_queued: bool,
    pub(super) clients: Arena<Client>,
    pub(super) streams: Arena<Stream>,
    pub(super) exchanges: Arena<Exchange>,
    pub(super) tickets: Arena<Ticket>,
    pub(super) calls: Arena<Call>,
    /// Calls that nobody waits for.
    pub(super) mirrors_now: usize,
    pub(super) upstreams: Arena<Upstream>,
    pub(super) back_streams: Arena<BackStream>,
    pub(super) accepting: Slab<Rc<Listener>>,
    /// What the driver has told last, and how much of it has been seen to.
    pub(super) events: Vec<Event>,
    pub(super) events_seen: usize,
    /// Whose turn it is; see `mishap`.
    pub(super) at_work: Token,
    /// Connections with work left over, or whose peer made room.
    pub(super) ready: VecDeque<Token>,
    /// Large transfers that wait for their turn, and what they have brought in this one.
    pub(super) bulk: VecDeque<Token>,
    pub(super) bulk_bytes: usize,
    /// Connections whose handshakes wait for their turn, and whether it is theirs.
    pub(super) handshakes: VecDeque<Token>,
    pub(super) shakes_hands: bool,
    pub(super) receive: Box<[u8]>,
    pub(super) tls: TlsBuffers,
    pub(super) scratch: Vec<u8>,
    pub(super) heads: Heads,
    pub(super) request_head: RequestHead,
    pub(super) response_head: ResponseHead,
    /// The head that is seen to has come with some of its body behind it.
    pub(super) body_at_hand: bool,
    /// What compresses answers, how many bytes of them may be in this turn, and those of which a part waits to be.
    pub(super) encoders: Encoders,
    pub(super) compressing_left: usize,
    pub(super) holding_back: Vec<ExchangeId>,
    /// Who has shown a password that was right.
    pub(super) vault: Vault,
    /// Tokens whose signatures were right.
    pub(super) tokens: Vault,
    /// What those have said who were asked whether requests may pass.
    pub(super) verdicts: Verdicts,
    /// Who finds out whether others are; none before somebody asks.
    pub(super) verifier: Option<Verifier>,
    /// How many requests there are, of those that are counted.
    pub(super) in_flight: InFlight,
    /// Who has asked how often.
    pub(super) meter: Meter,
    /// Who is limited now.
    pub(super) refused: Refused,
    /// What has left of frontends whose bandwidth is bounded.
    pub(super) totals: Totals,
    pub(super) request_seed: u64,
    pub(super) request_ids: RequestIds,
    pub(super) refused_now: usize,
    /// Multiplexed connections, of clients and to backends, with something to send at the end of the
    /// turn.
    pub(super) unflushed: Vec<Token>,
    /// So much is to be sent that it must not wait.
    pub(super) flush_now: bool,
    /// Turns since frames have left.
    turns_unflushed: u32,
    /// Streams that were answered before all of their requests had come, the first one first.
    pub(super) answered_early: VecDeque<AnsweredEarly>,
    /// Turns since deadlines were last looked at.
    turns_unjudged: u32,
    pub(super) accept_paused: bool,
    /// What commits removed and no release has let go of yet.
    pub(super) removed: Vec<Leaving>,
    pub(super) drains: Vec<Drain>,
    /// The audit that is under way, also while nobody waits for it.
    pub(super) audit: Option<Audit>,
    pub(super) auditors: Vec<Sender<Option<Audited>>>,
    pub(super) drained: Vec<String>,
    /// Whether connections are accepted.
    pub(super) serving: bool,
    pub(super) stopping: bool,
    pub(super) stop_at_ms: Option<u64>,
}

impl<D: Driver> Engine<D> {
    /// An engine that serves nothing yet. `seed` makes its request ids unlike any other engine's.
    ///
    /// # Errors
    /// When the driver does not take the wake descriptor.
    pub fn new(
        mut driver: D,
        wake: OwnedFd,
        commands: Receiver<Command>,
        metrics: Metrics,
        served: Served,
        seed: u64,
    ) -> std::io::Result<Self> {
        driver.watch_input(wake.as_raw_fd(), ids::WAKE)?;
        let metrics = Rc::new(metrics);
        let mut tables = Tables::new(served.certificates, metrics.clone());
        // Until it is told of what it shares with others.
        tables.be_named(&meter::name_by(&seed.to_le_bytes()));
        Ok(Self {
            driver,
            wake,
            commands,
            clock: Clock::new(),
            timers: Timers::default(),
            pool: BufferPool::default(),
            random: Random::new(seed),
            tables,
            metrics,
            challenges: served.challenges,
            log: LogSink::off(),
            log_flush_queued: false,
            clients: Arena::default(),
            streams: Arena::default(),
            exchanges: Arena::default(),
            tickets: Arena::default(),
            calls: Arena::default(),
            mirrors_now: 0,
            upstreams: Arena::default(),
            back_streams: Arena::default(),
            accepting: Slab::new(),
            events: Vec::new(),
            events_seen: 0,
            at_work: ids::WAKE,
            ready: VecDeque::new(),
            bulk: VecDeque::new(),
            bulk_bytes: 0,
            handshakes: VecDeque::new(),
            shakes_hands: false,
            tls: TlsBuffers::default(),
            receive: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            scratch: Vec::with_capacity(16 * 1024),
            heads: Heads::new(seed),
            request_head: RequestHead::default(),
            response_head: ResponseHead::default(),
            body_at_hand: false,
            encoders: Encoders::default(),
            compressing_left: BYTES_PER_TURN,
            holding_back: Vec::new(),
            vault: Vault::default(),
            tokens: Vault::default(),
            verdicts: Verdicts::default(),
            verifier: None,
            in_flight: InFlight::default(),
            meter: Meter::default(),
            refused: Refused::default(),
            totals: Totals::default(),
            request_seed: seed,
            request_ids: RequestIds::new(seed),
            refused_now: 0,
            unflushed: Vec::new(),
            flush_now: false,
            turns_unflushed: 0,
            answered_early: VecDeque::new(),
            turns_unjudged: 0,
            accept_paused: false,
            removed: Vec::new(),
            drains: Vec::new(),
            audit: None,
            auditors: Vec::new(),
            drained: Vec::new(),
            serving: false,
            stopping: false,
            stop_at_ms: None,
        })
    }

    /// Serves until told to shut down. What goes wrong about one connection costs that connection.
    ///
    /// # Errors
    /// When the driver fails, which leaves nothing to serve with.
    pub fn run(&mut self) -> std::io::Result<()> {
        loop {
            if let Some(outcome) = self.survive(Self::turns) {
                return outcome;
            }
        }
    }

    fn turns(&mut self) -> std::io::Result<()> {
        while !self.turn(true)? {}
        Ok(())
    }

    /// One turn that waits for nothing, of an engine that does not run: whether there was something to do.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn turn_by_hand(&mut self) -> std::io::Result<bool> {
        let had_work = self.has_work();
        let is_over = self.turn(false)?;
        Ok(!is_over && (had_work || !self.events.is_empty()))
    }

    /// Whether nobody is connected or served, and nothing waits for anybody or is to be looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
            && self.streams.is_empty()
            && self.exchanges.is_empty()
            && self.tickets.is_empty()
            && self.calls.is_empty()
            && self.upstreams.is_empty()
            && self.back_streams.is_empty()
            && self.encoders.in_use_bytes() == 0
            && self.pool.queued_bytes() == 0
            && self.timers.is_empty()
            && self.answered_early.is_empty()
    }

    /// Whether the end has come.
    fn turn(&mut self, waits: bool) -> std::io::Result<bool> {
        let left_over = self.ready.len();
        // Events are left of a turn that a mishap has ended, and are told once.
        if self.events_seen == self.events.len() {
            self.await_events(waits)?;
        }
        // What was left over from the last turn comes first, and only as much as there was.
        while let Some(&event) = self.events.get(self.events_seen) {
            self.events_seen += 1;
            self.at_work = event.token;
            self.dispatch(&event);
        }
        self.drive_left_over(left_over);
        self.drive_bulk();
        if self.has_read_all() {
            self.run_timers();
        }
        self.drive_handshakes();
        self.flush_compressed();
        // Frames wait while there is more to put behind them: what a wake-up costs the other side
        // is then paid for many of them.
        self.turns_unflushed += 1;
        let is_due =
            self.events.len() <= FEW_EVENTS_MAX || self.turns_unflushed >= UNFLUSHED_TURNS_MAX;
        if is_due || self.flush_now {
            self.flush_multiplexed();
            self.turns_unflushed = 0;
        }
        self.at_work = ids::WAKE;
        self.audit_some();
        let queued = self.pool.queued_bytes() as u64;
        self.metrics.set(Counter::BufferedBytesNow, queued);
        if self
            .stop_at_ms
            .is_some_and(|at_ms| self.clients.is_empty() || at_ms <= self.clock.ms())
        {
            self.flush_multiplexed();
            self.close_log();
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether nothing has come that this turn did not hear of, so that who is late by the clock is late: not
    /// one of thousands that are told in turns of [`EVENTS_PER_WAIT`]. Who is never at the end of them judges
    /// all the same, now and then.
    fn has_read_all(&mut self) -> bool {
        self.turns_unjudged += 1;
        let may = self.events.len() < EVENTS_PER_WAIT || self.turns_unjudged >= UNJUDGED_TURNS_MAX;
        if may {
            self.turns_unjudged = 0;
        }
        may
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.bulk.is_empty()
            || !self.handshakes.is_empty()
            || !self.auditors.is_empty()
            || !self.unflushed.is_empty()
    }

    fn await_events(&mut self, waits: bool) -> std::io::Result<()> {
        let timeout = match waits && !self.has_work() {
            true => self.timers.next_in(self.clock.ms()),
            false => Some(0),
        };
        self.events_seen = 0;
        self.driver.wait(timeout, &mut self.events)?;
        self.clock.tick_after(timeout);
        self.metrics.add(Counter::LoopTurnsTotal, 1);
        Ok(())
    }

    fn dispatch(&mut self, event: &Event) {
        match Owner::of(event.token) {
            Owner::Engine => {
                socket::quiet(self.wake.as_raw_fd());
                while let Ok(command) = self.commands.try_recv() {
                    self.run_command(command);
                }
                self.take_passwords();
            }
            Owner::Listener(place) => {
                if let Some(listener) = self.accepting.get(place).cloned() {
                    self.accept_clients(&listener);
                }
            }
            Owner::Client(id) => {
                if self.clients.contains(id) {
                    self.client_ready(id, event.readable, event.writable, event.hangup);
                }
            }
            Owner::Upstream(id) => {
                if self.upstreams.contains(id) {
                    self.upstream_ready(id, event.readable, event.writable, event.hangup);
                }
            }
            // A stream has no socket, and a call or an exchange none of its own.
            Owner::Stream(_)
            | Owner::BackStream(_)
            | Owner::Call(_)
            | Owner::Exchange(_)
            | Owner::Nobody => {}
        }
    }
}
