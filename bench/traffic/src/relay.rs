//! Bytes passed on unread, at once or after a time.
//!
//! At once it is the floor under any proxy: one connection to the other side for each that comes, what
//! a read has brought is written, and nothing is looked at. After a time it is a network that is far:
//! whatever comes is passed on so much later, in both directions, and in its order.
//!
//! Rule: what waits of a direction is bounded. Beyond [`WAITING_BYTES_MAX`] its sender is not read,
//! which is the whole of flow control.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::poll::{self, Poller, Ready};

/// As large as the engine's.
const RECEIVE_BYTES: usize = 256 * 1024;
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Reads of one socket before the others have their turn.
const READS_PER_TURN: usize = 2;
const LISTENER: u64 = u64::MAX;

/// What has come from one side and goes to the other.
#[derive(Debug, Default)]
struct Direction {
    /// With the moment at which it may go.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Of the first of them, what is gone.
    written: usize,
    /// The sender has said that nothing more comes, and whether that was told.
    ended: bool,
    told: bool,
}

#[derive(Debug)]
struct Pair {
    /// The client and the backend; a direction is known by the side that sends.
    sides: [TcpStream; 2],
    directions: [Direction; 2],
    serial: u64,
}

/// Passes on between whoever connects and one backend.
pub struct Relay {
    poller: Poller,
    listener: TcpListener,
    backend: SocketAddrV4,
    delay: Duration,
    pairs: Vec<Option<Pair>>,
    vacant: Vec<usize>,
    /// Sockets that may have more than they were read of.
    unread: Vec<(u64, bool)>,
    /// What is due when, in the order in which it came.
    due: VecDeque<(Instant, u64)>,
    buffer: Vec<u8>,
    serial: u64,
}

impl Relay {
    /// # Errors
    /// When the address is in use.
    pub fn new(listen: SocketAddrV4, backend: SocketAddrV4, delay: Duration) -> io::Result<Self> {
        poll::raise_descriptor_limit()?;
        let listener = poll::listen(listen)?;
        let poller = Poller::new()?;
        poller.watch(&listener, LISTENER)?;
        Ok(Self {
            poller,
            listener,
            backend,
            delay,
            pairs: Vec::new(),
            vacant: Vec::new(),
            unread: Vec::new(),
            due: VecDeque::new(),
            buffer: vec![0; RECEIVE_BYTES],
            serial: 0,
        })
    }

    /// Passes on until the process ends.
    ///
    /// # Errors
    /// When the kernel refuses to wait, which it has no reason to.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            let due = self.due.front().map(|(due, _)| *due);
            let timeout = match self.unread.is_empty() {
                true => due.map(|due| due.saturating_duration_since(Instant::now())),
                false => Some(Duration::ZERO),
            };
            let ready: Vec<Ready> = self.poller.wait(timeout)?.collect();
            for (token, to_end) in std::mem::take(&mut self.unread) {
                self.read(token, to_end);
            }
            for event in ready {
                match event.token {
                    LISTENER => self.accept(),
                    token => self.pass(&event, token),
                }
            }
            self.pass_due();
        }
    }

    fn accept(&mut self) {
        while let Ok(client) = poll::accept(&self.listener) {
            let Ok(backend) = poll::connect(self.backend) else {
                continue;
            };
            let index = self.vacant.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            self.serial += 1;
            let token = self.serial << 33 | (index as u64) << 1;
            let is_watched = self.poller.watch(&client, token).is_ok()
                && self.poller.watch(&backend, token | 1).is_ok();
            if !is_watched {
                self.vacant.push(index);
                continue;
            }
            self.pairs[index] = Some(Pair {
                sides: [client, backend],
                directions: Default::default(),
                serial: self.serial,
            });
        }
    }

    fn pass(&mut self, event: &Ready, token: u64) {
        if event.writable {
            // What waits for this side has come from the other.
            self.flush(token ^ 1);
        }
        if event.readable {
            self.read(token, event.ended);
        }
    }

    fn pass_due(&mut self) {
        let now = Instant::now();
        while self.due.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, token)) = self.due.pop_front() {
                self.flush(token);
            }
        }
    }

    fn find(&mut self, token: u64) -> Option<(&mut Pair, usize)> {
        let index = (token as u32 >> 1) as usize;
        let pair = self.pairs.get_mut(index)?.as_mut()?;
        (pair.serial == token >> 33).then_some((pair, (token & 1) as usize))
    }

    /// Reads from the side of this token, to its end if that is known to have come.
    fn read(&mut self, token: u64, to_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for turn in 0.. {
            if turn == READS_PER_TURN {
                self.unread.push((token, to_end));
                break;
            }
            if !self.read_once(token, &mut buffer, to_end) {
                break;
            }
        }
        self.buffer = buffer;
    }

    /// Whether there may be more.
    fn read_once(&mut self, token: u64, buffer: &mut [u8], to_end: bool) -> bool {
        let delay = self.delay;
        // Once it has gone, `flush` reads on.
        let is_full = self.is_full(token);
        let Some((pair, side)) = self.find(token) else {
            return false;
        };
        let direction = &mut pair.directions[side];
        if direction.ended || is_full {
            return false;
        }
        let came = match pair.sides[side].read(buffer) {
            Ok(came) => came,
            Err(error) if is_later(&error) => return false,
            Err(_) => {
                self.close(token);
                return false;
            }
        };
        if came == 0 {
            direction.ended = true;
        }
        if delay.is_zero() {
            self.send_now(token, &buffer[..came]);
        } else {
            let due = Instant::now() + delay;
            let direction = &mut pair.directions[side];
            direction.waiting.push_back((due, buffer[..came].to_vec()));
            direction.bytes += came;
            self.due.push_back((due, token));
        }
        came == buffer.len() || (to_end && came > 0)
    }

    /// Writes what has just come; what does not go waits.
    fn send_now(&mut self, token: u64, bytes: &[u8]) {
        let Some((pair, side)) = self.find(token) else {
            return;
        };
        if bytes.is_empty() {
            return self.write_waiting(token);
        }
        let written = match pair.sides[1 - side].write(bytes) {
            Ok(written) => written,
            Err(error) if is_later(&error) => 0,
            Err(_) => return self.close(token),
        };
        if written < bytes.len() {
            let direction = &mut pair.directions[side];
            let rest = bytes[written..].to_vec();
            direction.bytes += rest.len();
            direction.waiting.push_back((Instant::now(), rest));
        }
    }

    /// Writes what waits and may go, and reads on if that was held up; `token` is of the side that it
    /// has come from.
    fn flush(&mut self, token: u64) {
        let was_full = self.is_full(token);
        self.write_waiting(token);
        if was_full {
            // Its end may have been told while it was not read.
            self.read(token, true);
        }
    }

    fn write_waiting(&mut self, token: u64) {
        let Some((pair, side)) = self.find(token) else {
            return;
        };
        let is_over = write_waiting(pair, side).map_or(true, |()| {
            pair.directions.iter().all(|direction| direction.told)
        });
        if is_over {
            self.close(token);
        }
    }

    /// Whether as much waits as may, of what the side of this token sent.
    fn is_full(&mut self, token: u64) -> bool {
        let most = match self.delay.is_zero() {
            true => 1,
            false => WAITING_BYTES_MAX,
        };
        self.find(token)
            .is_some_and(|(pair, side)| pair.directions[side].bytes >= most)
    }

    fn close(&mut self, token: u64) {
        if self.find(token).is_some() {
            let index = (token as u32 >> 1) as usize;
            self.pairs[index] = None;
            self.vacant.push(index);
        }
    }
}

fn write_waiting(pair: &mut Pair, side: usize) -> io::Result<()> {
    let direction = &mut pair.directions[side];
    let mut to = &pair.sides[1 - side];
    let now = Instant::now();
    while let Some((due, bytes)) = direction.waiting.front() {
        if *due > now {
            return Ok(());
        }
        match to.write(&bytes[direction.written..]) {
            Ok(written) => {
                direction.written += written;
                direction.bytes -= written;
            }
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        if direction.written == bytes.len() {
            direction.waiting.pop_front();
            direction.written = 0;
        }
    }
    if direction.ended && !direction.told {
        direction.told = true;
        to.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
