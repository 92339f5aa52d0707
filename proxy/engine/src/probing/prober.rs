//! Who is due, who is asked, and what is known of each: the loop of the prober.
//!
//! Rule: one check of a backend at a time, so many of all of them, and none sooner than its turn. What is found
//! is written as a word that workers read (`upstream/health`), by nobody else; what lies there when a prober
//! starts is what the one before it has found, and goes on. Called by [`super::thread`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::Receiver;

use slab::Slab;

use super::judging::Judged;
use super::news::{News, Row, Rows, Turn};
use super::probe::{Probe, said};
use super::talk::Verdict;
use super::target::Target;
use super::thread::Order;
use crate::runtime::clock::Clock;
use crate::runtime::driver::{Driver, Event};
use crate::runtime::epoll::Epoll;
use crate::runtime::socket::{self, Want};
use crate::state::entity::HealthCheck;
use crate::upstream::balance::Random;
use crate::upstream::health::{Found, Health, HealthWords};

/// So many checks are under way at most; others that are due wait for their turn.
const UNDER_WAY_MAX: usize = 512;
/// So many backends are checked at most: half of the places that words have.
pub const BACKENDS_MAX: usize = 65_536;
/// What one read takes: an answer is seldom longer.
const ROOM_BYTES: usize = 16 * 1024;
/// The token of whoever gives orders.
const ORDERS: u64 = u64::MAX;
/// The first checks of backends that may be used already are spread over so long.
const SPREAD_MS: u64 = 1_000;

/// One backend that is checked.
struct Backend {
    target: Target,
    /// Where its word is; `None`: nobody reads it yet.
    place: Option<usize>,
    judged: Judged,
    since_ms: u64,
    last: Option<Last>,
    counts: [u64; 2],
    /// The number of its next check: what was planned before counts no more.
    serial: u32,
    probe: Option<usize>,
    /// It was told of in the whole list that is under way.
    is_told: bool,
}

/// The last check of one.
struct Last {
    at_ms: u64,
    took_us: u64,
    verdict: Verdict,
}

struct Running {
    probe: Probe,
    backend: usize,
    began_us: u64,
    serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A check begins: of a backend, by its serial number.
    Begins(usize, u32),
    /// The time of a check is over: its place, and its serial number.
    Ends(usize, u64),
}

/// All that is known, and what is under way.
pub struct Prober {
    driver: Epoll,
    orders: Receiver<Order>,
    wake: OwnedFd,
    news: News,
    clock: Clock,
    random: Random,
    words: Option<HealthWords>,
    backends: Slab<Backend>,
    names: HashMap<Box<str>, usize>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    running: Slab<Running>,
    serial: u64,
    room: Vec<u8>,
}

impl Prober {
    /// One that knows nobody yet.
    ///
    /// # Errors
    /// What the system denies.
    pub fn new(orders: Receiver<Order>, wake: OwnedFd, news: News, seed: u64) -> io::Result<Self> {
        let mut driver = Epoll::new()?;
        driver.watch_input(wake.as_raw_fd(), ORDERS)?;
        Ok(Self {
            driver,
            orders,
            wake,
            news,
            clock: Clock::new(),
            random: Random::new(seed),
            words: None,
            backends: Slab::new(),
            names: HashMap::new(),
            due: BinaryHeap::new(),
            running: Slab::new(),
            serial: 0,
            room: vec![0; ROOM_BYTES],
        })
    }

    /// Asks, until it is told to end.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let sleep_ms = self.sleep_ms();
            self.driver.wait(sleep_ms, &mut events)?;
            self.clock.tick_after(sleep_ms);
            for event in &events {
                if event.token == ORDERS {
                    socket::quiet(self.wake.as_raw_fd());
                } else {
                    self.advance(event.token);
                }
            }
            while let Ok(order) = self.orders.try_recv() {
                if matches!(order, Order::End) {
                    return Ok(());
                }
                self.obey(order);
            }
            self.begin_and_end();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Share(words) => self.share(words),
            Order::Begin => self
                .backends
                .iter_mut()
                .for_each(|(_, it)| it.is_told = false),
            Order::Put(target) => self.put(*target),
            Order::Remove(name) => self.remove(&name),
            Order::Close => self.forget_untold(),
            Order::Report(names, answer) => {
                // Whoever asked may not wait any more.
                let _ = answer.send(self.report(names.as_deref()));
            }
            Order::End => {}
        }
    }

    // What is checked.

    fn share(&mut self, words: HealthWords) {
        if matches!(&self.words, Some(known) if known.is_same(&words)) {
            return;
        }
        self.words = Some(words);
        for index in self
            .backends
            .iter()
            .map(|(index, _)| index)
            .collect::<Vec<_>>()
        {
            self.backends[index].place = None;
            self.take_place(index);
        }
    }

    /// Finds a backend's word. What somebody has found before is what is known, unless we know better.
    fn take_place(&mut self, index: usize) {
        let Some(words) = &self.words else { return };
        let backend = &mut self.backends[index];
        backend.place = words.claim(backend.target.key);
        let Some(place) = backend.place else { return };
        let left = words.read(place, backend.target.key);
        match left.filter(|_| backend.judged.health == Health::Unknown) {
            Some(left) if left.health != Health::Unknown => {
                backend.judged = Judged::from(left.health);
                backend.since_ms = left.since_ms;
            }
            _ => write_down(words, backend),
        }
    }

    fn put(&mut self, target: Target) {
        let now_ms = self.host_ms();
        let known = self.names.get(&target.name).copied();
        let index = match known {
            Some(index) if self.backends[index].target.key == target.key => {
                let backend = &mut self.backends[index];
                backend.target = target;
                backend.is_told = true;
                index
            }
            _ if self.backends.len() >= BACKENDS_MAX && known.is_none() => return,
            _ => {
                if known.is_some() {
                    // One that has moved is another one.
                    self.remove(&target.name);
                }
                let name = target.name.clone();
                let index = self.backends.insert(Backend {
                    target,
                    place: None,
                    judged: Judged::from(Health::Unknown),
                    since_ms: now_ms,
                    last: None,
                    counts: [0; 2],
                    serial: 0,
                    probe: None,
                    is_told: true,
                });
                self.names.insert(name, index);
                self.take_place(index);
                index
            }
        };
        if self.backends[index].probe.is_none() {
            let wait_ms = self.first_wait_ms(index);
            self.plan(index, wait_ms);
        }
    }

    /// Who is waited for is asked at once; others get requests meanwhile.
    fn first_wait_ms(&mut self, index: usize) -> u64 {
        let backend = &self.backends[index];
        let (check, judged) = (&backend.target.check, backend.judged);
        if judged.is_usable(check.initial) {
            self.random.below(check.interval.min(SPREAD_MS))
        } else {
            0
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(index) = self.names.remove(name) {
            self.forget(index);
        }
    }

    fn forget(&mut self, index: usize) {
        let backend = self.backends.remove(index);
        if let (Some(place), Some(words)) = (backend.place, &self.words) {
            words.release(place);
        }
        if let Some(probe) = backend.probe {
            self.running.remove(probe);
        }
    }

    /// The whole list has come: who was not on it is checked no more.
    fn forget_untold(&mut self) {
        let untold = self.backends.iter().filter(|(_, it)| !it.is_told);
        let untold: Vec<_> = untold.map(|(_, it)| it.target.name.clone()).collect();
        for name in untold {
            self.remove(&name);
        }
        if let Some(words) = &self.words {
            let kept: std::collections::HashSet<_> =
                self.backends.iter().map(|(_, it)| it.target.key).collect();
            words.sweep(|key| kept.contains(&key));
        }
    }

    // Checks.

    fn plan(&mut self, index: usize, wait_ms: u64) {
        let backend = &mut self.backends[index];
        backend.serial = backend.serial.wrapping_add(1);
        let due = Due::Begins(index, backend.serial);
        self.due.push(Reverse((self.clock.ms() + wait_ms, due)));
    }

    fn sleep_ms(&self) -> Option<u64> {
        let Reverse((at_ms, due)) = self.due.peek()?;
        // A check that cannot begin yet waits for one that ends, or for the time of that to be over.
        let is_full = matches!(due, Due::Begins(..)) && self.running.len() >= UNDER_WAY_MAX;
        Some(
            at_ms
                .saturating_sub(self.clock.ms())
                .max(if is_full { FULL_MS } else { 0 }),
        )
    }

    fn begin_and_end(&mut self) {
        let now_ms = self.clock.ms();
        let mut late = Vec::new();
        while let Some(&Reverse((at_ms, due))) = self.due.peek() {
            if at_ms > now_ms {
                break;
            }
            self.due.pop();
            match due {
                Due::Begins(index, serial) => {
                    if self
                        .backends
                        .get(index)
                        .is_none_or(|it| it.serial != serial)
                    {
                        continue;
                    }
                    if self.running.len() < UNDER_WAY_MAX {
                        self.begin(index);
                    } else {
                        late.push(Reverse((at_ms, due)));
                    }
                }
                Due::Ends(place, serial) => {
                    if self
                        .running
                        .get(place)
                        .is_some_and(|it| it.serial == serial)
                    {
                        self.time_is_over(place);
                    }
                }
            }
        }
        self.due.extend(late);
    }

    fn begin(&mut self, index: usize) {
        let gap_ms = self.gap_ms(index);
        self.plan(index, gap_ms);
        let began_us = self.clock.us_now();
        let backend = &self.backends[index];
        let (check, timeout_ms) = (&backend.target.check, backend.target.check.timeout);
        if backend.probe.is_some() {
            // The one before has its time yet: a change has made the interval shorter.
            return;
        }
        let begun = match &backend.target.way {
            Ok(way) => Probe::begin(way, check),
            Err(reason) => {
                let verdict = Err(reason.clone());
                return self.found(index, verdict, 0);
            }
        };
        let probe = match begun {
            Ok(probe) => probe,
            Err(error) => return self.could_not_begin(index, &error),
        };
        self.serial += 1;
        let serial = self.serial;
        let place = self.running.insert(Running {
            probe,
            backend: index,
            began_us,
            serial,
        });
        let raw = self.running[place].probe.raw();
        if let Err(error) = self.driver.watch_stream(raw, token(place, serial)) {
            self.running.remove(place);
            return self.could_not_begin(index, &error);
        }
        self.backends[index].probe = Some(place);
        let ends_ms = self.clock.ms() + timeout_ms;
        self.due.push(Reverse((ends_ms, Due::Ends(place, serial))));
        self.advance(token(place, serial));
    }

    /// What we lack ourselves is no word about a backend.
    fn could_not_begin(&mut self, index: usize, error: &io::Error) {
        match Want::of(error) {
            Some(want) => {
                let reason = format!("not asked: {}", want.as_str().replace('_', " "));
                let at_ms = self.host_ms();
                self.backends[index].last = Some(Last {
                    at_ms,
                    took_us: 0,
                    verdict: Err(reason),
                });
            }
            None => self.found(index, Err(said(error)), 0),
        }
    }

    /// From the beginning of one check to that of the next: a tenth more or less, and never more while it may
    /// be about to turn.
    fn gap_ms(&mut self, index: usize) -> u64 {
        let backend = &self.backends[index];
        let interval_ms = backend.target.check.interval;
        let span_ms = if backend.judged.is_turning() {
            interval_ms / 20
        } else {
            interval_ms / 5
        };
        interval_ms - interval_ms / 10 + self.random.below(span_ms.max(1))
    }

    fn advance(&mut self, token: u64) {
        let place = token as u32 as usize;
        let Some(running) = self.running.get_mut(place) else {
            return;
        };
        if token != self::token(place, running.serial) {
            return;
        }
        if let Some(verdict) = running.probe.advance(&mut self.room) {
            self.end(place, verdict);
        }
    }

    fn time_is_over(&mut self, place: usize) {
        let running = &self.running[place];
        let timeout_ms = self.backends[running.backend].target.check.timeout;
        let what = match running.probe.is_connected() {
            true => "no answer",
            false => "no connection",
        };
        self.end(place, Err(format!("{what} within {}", shown(timeout_ms))));
    }

    fn end(&mut self, place: usize, verdict: Verdict) {
        let running = self.running.remove(place);
        let took_us = self.clock.us_now() - running.began_us;
        self.backends[running.backend].probe = None;
        self.found(running.backend, verdict, took_us);
    }

    fn found(&mut self, index: usize, verdict: Verdict, took_us: u64) {
        let at_ms = self.host_ms();
        let backend = &mut self.backends[index];
        let is_good = verdict.is_ok();
        backend.counts[usize::from(!is_good)] += 1;
        let check: &HealthCheck = &backend.target.check;
        let has_turned = backend.judged.take(is_good, check);
        self.news.count(is_good, took_us);
        if has_turned {
            backend.since_ms = at_ms;
            if let Some(words) = &self.words {
                write_down(words, backend);
            }
            self.news.tell(Turn {
                name: backend.target.name.clone(),
                is_healthy: is_good,
                reason: verdict.as_ref().err().cloned().unwrap_or_default(),
                took_us,
            });
        }
        backend.last = Some(Last {
            at_ms,
            took_us,
            verdict,
        });
    }

    // What is told.

    fn report(&self, names: Option<&[String]>) -> Rows {
        let now_ms = self.host_ms();
        let row = |index: usize| self.row(&self.backends[index], now_ms);
        let rows = match names {
            Some(names) => names
                .iter()
                .filter_map(|name| self.names.get(name.as_str()))
                .map(|&index| row(index))
                .collect(),
            // All of those that get no requests.
            None => self
                .backends
                .iter()
                .filter(|(_, it)| !it.judged.is_usable(it.target.check.initial))
                .take(REPORTED_MAX)
                .map(|(index, _)| row(index))
                .collect(),
        };
        let is_unusable = |it: &Backend| !it.judged.is_usable(it.target.check.initial);
        Rows {
            rows,
            checked: self.backends.len(),
            unusable: self
                .backends
                .iter()
                .filter(|(_, it)| is_unusable(it))
                .count(),
            under_way: self.running.len(),
        }
    }

    fn row(&self, backend: &Backend, now_ms: u64) -> Row {
        let last = backend.last.as_ref();
        Row {
            name: backend.target.name.clone(),
            health: match backend.judged.health {
                Health::Unknown => "unchecked",
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            },
            is_usable: backend.judged.is_usable(backend.target.check.initial),
            for_ms: now_ms.saturating_sub(backend.since_ms),
            good: backend.counts[0],
            bad: backend.counts[1],
            last_ms: last.map(|last| now_ms.saturating_sub(last.at_ms)),
            took_us: last.map(|last| last.took_us),
            fault: last.and_then(|last| last.verdict.as_ref().err().cloned()),
        }
    }

    fn host_ms(&self) -> u64 {
        self.clock.host_ns() / 1_000_000
    }
}

fn write_down(words: &HealthWords, backend: &Backend) {
    if let Some(place) = backend.place {
        words.write(
            place,
            Found {
                health: backend.judged.health,
                since_ms: backend.since_ms,
            },
        );
    }
}

fn token(place: usize, serial: u64) -> u64 {
    // Serial numbers begin at 1 and 31 bits of them tell apart who is there one after the other.
    (serial & 0x7fff_ffff) << 32 | place as u64 & 0xffff_ffff
}

fn shown(ms: u64) -> String {
    match ms % 1000 {
        0 => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// How soon it is looked again whether a check may begin, where too many are under way.
const FULL_MS: u64 = 5;
/// So many rows are told of at most.
const REPORTED_MAX: usize = 1_000;
