//! Requests at the times of a schedule, over one thread, and what became of each.
//!
//! Rule: nothing that happens to one request moves the moment at which another is due. One that
//! finds no connection free waits here, and its time runs. Whoever has waited for [`Plan::timeout`]
//! leaves, and the connection that owed the answer is closed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use crate::moments::Moments;
use crate::poll::{self, Poller, Ready};
use crate::response::{Progress, Reader};
use crate::tally::{End, Tally};

/// Requests begun before the next look at what has come.
const LAUNCHES_PER_TURN: usize = 32;
const RECEIVE_BYTES: usize = 256 * 1024;
/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many a second, evenly, whatever happens.
    Rate(f64),
    /// As soon as fewer than so many are in flight: a closed loop.
    InFlight(usize),
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who is asked.
    pub address: SocketAddrV4,
    /// The bytes of a request.
    pub request: Vec<u8>,
    /// When.
    pub pace: Pace,
    /// How long before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub measured: Duration,
    /// How long a client waits, from the moment at which its request was due.
    pub timeout: Duration,
    /// Connections at a time; requests beyond them wait.
    pub connections: usize,
    /// A connection for each request.
    pub fresh: bool,
}

/// A request that is due.
#[derive(Clone, Copy, Debug)]
struct Asked {
    due: Instant,
    sent: Option<Instant>,
    serial: u64,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    reader: Reader,
    token: u64,
    connected: bool,
    asked: Option<Asked>,
    /// Bytes of the request that are gone.
    written: usize,
}

/// Carries a plan out.
///
/// # Errors
/// When the machine refuses what the generator itself needs.
pub fn run(plan: &Plan) -> io::Result<Tally> {
    let mut generator = Generator::new(plan)?;
    while !generator.is_over() {
        generator.turn()?;
    }
    Ok(generator.tally)
}

struct Generator<'a> {
    plan: &'a Plan,
    poller: Poller,
    tally: Tally,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Connected, and with nothing to do; the last that was busy is the next.
    idle: Vec<usize>,
    waiting: VecDeque<Asked>,
    /// What was begun, in the order in which its time ends.
    deadlines: VecDeque<(Instant, usize, u64)>,
    buffer: Vec<u8>,
    started: Instant,
    moments: Moments,
    launched: u64,
    in_flight: usize,
    serial: u64,
}

impl<'a> Generator<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        poll::raise_descriptor_limit()?;
        let started = Instant::now();
        Ok(Self {
            plan,
            poller: Poller::new()?,
            tally: Tally::default(),
            connections: Vec::new(),
            vacant: Vec::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            deadlines: VecDeque::new(),
            buffer: vec![0; RECEIVE_BYTES],
            started,
            moments: Moments::new(started + plan.warm_up),
            launched: 0,
            in_flight: 0,
            serial: 0,
        })
    }

    fn first(&self) -> Instant {
        self.started + self.plan.warm_up
    }

    fn last(&self) -> Instant {
        self.first() + self.plan.measured
    }

    fn is_over(&self) -> bool {
        self.in_flight == 0 && self.next_due(Instant::now()).is_none()
    }

    /// When the next request is due, if one is. A closed loop that is full knows only until when.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let due = match self.plan.pace {
            Pace::Rate(rate) => self.started + Duration::from_secs_f64(self.launched as f64 / rate),
            Pace::InFlight(most) if self.in_flight < most => now,
            Pace::InFlight(_) => return (now < self.last()).then(|| self.last()),
        };
        (due < self.last()).then_some(due)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.launch_due();
        self.drop_overdue();
        let now = Instant::now();
        let next_sample = Some(self.moments.next()).filter(|next| *next < self.last());
        let expiry = self
            .waiting
            .front()
            .map(|asked| asked.due + self.plan.timeout);
        let deadline = self.deadlines.front().map(|(deadline, ..)| *deadline);
        let wake = [self.next_due(now), next_sample, expiry, deadline];
        let wake = wake.into_iter().flatten().min().unwrap_or(now);
        let ready: Vec<Ready> = self.poller.wait(Some(wake - now.min(wake)))?.collect();
        // Before what has come is seen: until now it was in flight.
        self.sample();
        for event in ready {
            self.dispatch(&event);
        }
        Ok(())
    }

    fn launch_due(&mut self) {
        for _ in 0..LAUNCHES_PER_TURN {
            let now = Instant::now();
            let Some(due) = self.next_due(now).filter(|due| *due <= now) else {
                return;
            };
            self.launched += 1;
            self.in_flight += 1;
            self.serial += 1;
            if due >= self.first() {
                self.tally.late.record(now - due);
            }
            let asked = Asked {
                due,
                sent: None,
                serial: self.serial,
            };
            self.begin(asked);
        }
    }

    /// Hands a request to a connection, if one can be had.
    fn begin(&mut self, asked: Asked) {
        if let Some(index) = self.idle.pop() {
            self.assign(index, asked);
        } else if self.has_room() {
            self.connect_for(asked);
        } else {
            self.waiting.push_back(asked);
        }
    }

    fn has_room(&self) -> bool {
        self.connections.len() - self.vacant.len() < self.plan.connections
    }

    fn connect_for(&mut self, asked: Asked) {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.serial += 1;
        let token = self.serial << 32 | index as u64;
        let opened = poll::connect(self.plan.address).and_then(|stream| {
            self.poller.watch(&stream, token)?;
            Ok(stream)
        });
        self.tally.connects += 1;
        match opened {
            Ok(stream) => {
                self.connections[index] = Some(Connection {
                    stream,
                    reader: Reader::default(),
                    token,
                    connected: false,
                    asked: None,
                    written: 0,
                });
                self.assign(index, asked);
            }
            Err(_) => {
                self.vacant.push(index);
                self.end(asked, End::NotConnected);
            }
        }
    }

    fn assign(&mut self, index: usize, mut asked: Asked) {
        let deadline = asked.due + self.plan.timeout;
        self.deadlines.push_back((deadline, index, asked.serial));
        asked.sent = Some(Instant::now());
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        connection.asked = Some(asked);
        connection.written = 0;
        if connection.connected {
            self.write(index);
        }
    }

    fn write(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let rest = &self.plan.request[connection.written..];
        if connection.asked.is_none() || rest.is_empty() {
            return;
        }
        match connection.stream.write(rest) {
            Ok(written) => {
                connection.written += written;
                if written < rest.len() {
                    self.write(index);
                }
            }
            Err(error) if is_later(&error) => {}
            // What the peer has said before it hung up may be an answer: the event tells.
            Err(_) => connection.written = self.plan.request.len(),
        }
    }

    fn dispatch(&mut self, event: &Ready) {
        let index = (event.token & u64::from(u32::MAX)) as usize;
        let known = self.connections.get_mut(index).and_then(Option::as_mut);
        // An event may be about a connection that was closed in this turn.
        let Some(connection) = known.filter(|known| known.token == event.token) else {
            return;
        };
        if !connection.connected && event.writable {
            if let Ok(Some(_)) | Err(_) = connection.stream.take_error() {
                return self.close(index, End::NotConnected);
            }
            connection.connected = true;
        }
        if event.writable {
            self.write(index);
        }
        if event.readable {
            self.read(index, event.ended);
        }
    }

    fn read(&mut self, index: usize, to_end: bool) {
        loop {
            let Some(connection) = &mut self.connections[index] else {
                return;
            };
            let came = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return self.ended(index),
                Ok(came) => came,
                Err(error) if is_later(&error) => return,
                Err(_) => return self.close(index, End::Cut),
            };
            let progress = connection.reader.feed(&self.buffer[..came]);
            match progress {
                Ok(Progress::More) => {}
                // Nobody asked.
                _ if connection.asked.is_none() => return self.close(index, End::Malformed),
                Ok(Progress::Done { status, reusable }) => {
                    return self.answered(index, status, reusable);
                }
                Err(_) => return self.close(index, End::Malformed),
            }
            // A read that came short has emptied the socket.
            if came < self.buffer.len() && !to_end {
                return;
            }
        }
    }

    fn ended(&mut self, index: usize) {
        let complete = self.connections[index]
            .as_mut()
            .and_then(|connection| connection.reader.end());
        match complete {
            Some(Progress::Done { status, .. }) => self.answered(index, status, false),
            _ => self.close(index, End::Cut),
        }
    }

    fn answered(&mut self, index: usize, status: u16, reusable: bool) {
        let end = End::Answered(status);
        if self.plan.fresh || !reusable {
            return self.close(index, end);
        }
        let asked = self.connections[index]
            .as_mut()
            .and_then(|connection| connection.asked.take());
        if let Some(asked) = asked {
            self.end(asked, end);
        }
        match self.waiting.pop_front() {
            Some(next) => self.assign(index, next),
            None => self.idle.push(index),
        }
    }

    /// Closes a connection, by which the request that it carried has ended so.
    fn close(&mut self, index: usize, end: End) {
        let Some(connection) = self.connections[index].take() else {
            return;
        };
        drop(connection.stream);
        self.vacant.push(index);
        self.idle.retain(|&idle| idle != index);
        if let Some(asked) = connection.asked {
            self.end(asked, end);
        }
        // One that cannot connect leaves its place to the next.
        while self.has_room() {
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            self.begin(next);
        }
    }

    fn end(&mut self, asked: Asked, end: End) {
        let now = Instant::now();
        self.in_flight -= 1;
        if end.is_served() && (self.first()..self.last()).contains(&now) {
            self.tally.served_meanwhile += 1;
        }
        if asked.due >= self.first() {
            let service = asked.sent.map(|sent| now - sent);
            self.tally.record(end, now - asked.due, service);
        }
    }

    fn drop_overdue(&mut self) {
        let now = Instant::now();
        while let Some(&asked) = self.waiting.front() {
            if asked.due + self.plan.timeout > now {
                break;
            }
            self.waiting.pop_front();
            self.end(asked, End::Timeout);
        }
        while let Some(&(deadline, index, serial)) = self.deadlines.front() {
            let carried = self.connections[index]
                .as_ref()
                .and_then(|connection| connection.asked);
            let is_open = carried.is_some_and(|asked| asked.serial == serial);
            if is_open && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if is_open {
                self.close(index, End::Timeout);
            }
        }
    }

    /// Looks at the moments that have passed since the last time, however late this comes. Who was due
    /// by then counts, whether it was begun or not.
    fn sample(&mut self) {
        let now = Instant::now().min(self.last());
        while let Some(moment) = self.moments.take(now) {
            let not_begun = self.due_by(moment).saturating_sub(self.launched);
            let in_flight = self.in_flight as u64 + not_begun;
            let at = moment - self.first();
            self.tally.in_flight.push((at, in_flight as u32));
        }
    }

    /// How many are due up to a moment by the schedule; a closed loop has none.
    fn due_by(&self, moment: Instant) -> u64 {
        match self.plan.pace {
            Pace::Rate(rate) => ((moment - self.started).as_secs_f64() * rate) as u64 + 1,
            Pace::InFlight(_) => 0,
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_due_while_the_generator_was_held_up_counts_from_then_on() {
        let plan = Plan {
            address: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1),
            request: Vec::new(),
            pace: Pace::Rate(1000.0),
            warm_up: Duration::ZERO,
            measured: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            connections: 1,
            fresh: false,
        };
        let mut generator = Generator::new(&plan).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        generator.sample();
        let samples = &generator.tally.in_flight;
        assert!(samples.len() > 20, "{}", samples.len());
        for &(at, count) in samples {
            assert_eq!(count, at.as_millis() as u32 + 1);
        }
    }
}
