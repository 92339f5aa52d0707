//! Clients that do not read: how long output waits for them.
//!
//! Rule: the time of a write moves with progress and with nothing else. Neither more output nor more
//! requests nor any other deadline of the connection puts it off. Progress is what the socket or a
//! window has taken, and what the peer has acknowledged meanwhile: the kernel may hold megabytes for a
//! slow reader before it takes more. So `response_write` is looked at in parts, each of which compares
//! what is unacknowledged. Called by whoever leaves output behind (`client`, `stream_out`), and by `timeout`.

use crate::runtime::driver::{Driver, Token};
use crate::runtime::socket;
use crate::runtime::timer::{Deadline, Timers};
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::asker::Asker;
use crate::session::front::client::{Client, Phase};
use crate::session::front::stream::Stream;
use crate::session::ids::{ClientId, StreamId};
use crate::telemetry::names::Counter;

/// Looks within `response_write`: as many in a row without progress end the connection.
const LOOKS: u8 = 4;

/// A write that waits for its peer.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::session) struct WriteWait {
    /// When it is looked at next; 0 while nothing waits.
    look_ms: u64,
    /// What the peer had not acknowledged at the last look; 0 before the first.
    unacknowledged: u32,
    /// Looks in a row that saw no progress.
    silent_looks: u8,
}

impl WriteWait {
    /// Whether something waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.look_ms != 0
    }

    /// Whether it is time to look at it.
    pub(in crate::session) fn is_due(&self, now_ms: u64) -> bool {
        self.look_ms != 0 && self.look_ms <= now_ms
    }
}

/// Sets the time of the next step, which a write that waits brings forward.
fn set(timers: &mut Timers, deadline: &mut Deadline, write: WriteWait, token: Token, at_ms: u64) {
    let at_ms = match write.look_ms {
        0 => at_ms,
        look_ms => at_ms.min(look_ms),
    };
    timers.set(deadline, token, at_ms);
}

/// Waits for no step any more, but for a write.
fn clear(timers: &mut Timers, deadline: &mut Deadline, write: WriteWait, token: Token) {
    match write.look_ms {
        0 => deadline.clear(),
        look_ms => timers.set(deadline, token, look_ms),
    }
}

impl Client {
    /// See [`set`].
    pub(in crate::session) fn set_deadline(
        &mut self,
        timers: &mut Timers,
        id: ClientId,
        at_ms: u64,
    ) {
        set(timers, &mut self.deadline, self.write, id.token(), at_ms);
    }

    /// See [`clear`].
    pub(in crate::session) fn clear_deadline(&mut self, timers: &mut Timers, id: ClientId) {
        clear(timers, &mut self.deadline, self.write, id.token());
    }
}

impl Stream {
    /// See [`set`].
    pub(super) fn set_deadline(&mut self, timers: &mut Timers, id: StreamId, at_ms: u64) {
        set(timers, &mut self.deadline, self.write, id.token(), at_ms);
    }

    /// See [`clear`].
    pub(super) fn clear_deadline(&mut self, timers: &mut Timers, id: StreamId) {
        clear(timers, &mut self.deadline, self.write, id.token());
    }
}

impl<D: Driver> Engine<D> {
    /// Output waits; `progressed` when some has left since it was last said so.
    pub(in crate::session) fn await_write(&mut self, asker: Asker, progressed: bool) {
        // Meanwhile it is not the backend that is slow.
        let exchange = self.exchange_of(asker);
        if let Some(carrier) = exchange.and_then(|it| self.exchanges[it].carrier()) {
            self.clear_carrier_deadline(carrier);
        }
        let look_ms = self.clock.ms() + self.look_interval_ms(asker);
        let write = self.write_of(asker);
        if write.look_ms == 0 || progressed {
            *write = WriteWait {
                look_ms,
                ..WriteWait::default()
            };
        }
        self.clear_asker_deadline(asker);
    }

    fn write_of(&mut self, asker: Asker) -> &mut WriteWait {
        match asker {
            Asker::Connection(id) => &mut self.clients[id].write,
            Asker::Stream(id) => &mut self.streams[id].write,
            Asker::Call(_) => unreachable!("what a call is answered waits for nobody"),
        }
    }

    /// TLS had something to say of its own, and the socket was full.
    pub(super) fn note_unsent_records(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        // In other phases there is a deadline in any case.
        let has_none = matches!(
            client.phase,
            Phase::InExchange | Phase::Tunnel | Phase::Multiplexed
        );
        if has_none && client.stream.unsent_bytes() > 0 {
            self.await_write(Asker::Connection(id), false);
        }
    }

    /// Looks whether the peer has taken something since the last look.
    pub(in crate::session) fn look_at_write(&mut self, asker: Asker) {
        let look_ms = self.clock.ms() + self.look_interval_ms(asker);
        let (progressed, unacknowledged) = match asker {
            Asker::Connection(id) => {
                let client = &self.clients[id];
                let socket = client.stream.raw();
                let now = socket.map_or(0, |socket| socket::sending(socket).unacknowledged);
                (now < client.write.unacknowledged, now)
            }
            // What holds a stream up that waits for its connection is looked at there.
            Asker::Stream(id) => (self.streams[id].blocked, 0),
            Asker::Call(_) => return,
        };
        let write = self.write_of(asker);
        let silent_looks = match progressed {
            true => 0,
            false => write.silent_looks + 1,
        };
        if silent_looks >= LOOKS {
            self.metrics.add(Counter::TimeoutsTotal, 1);
            return self.asker_stalled(asker);
        }
        *write = WriteWait {
            look_ms,
            unacknowledged,
            silent_looks,
        };
        self.clear_asker_deadline(asker);
    }

    fn look_interval_ms(&self, asker: Asker) -> u64 {
        let limit = match self.exchange_of(asker) {
            Some(exchange) => {
                let listener = &self.exchanges[exchange].listener;
                listener.entity.timeouts.response_write
            }
            None => {
                let listener = self.client_of(asker).listener.settings();
                listener.entity.timeouts.response_write
            }
        };
        (limit / u64::from(LOOKS)).max(1)
    }

    /// It does not read its response.
    fn asker_stalled(&mut self, asker: Asker) {
        if let Some(exchange) = self.exchange_of(asker) {
            self.abandon_exchange(exchange, Outcome::WriteTimeout);
        }
        self.cut_asker(asker);
    }
}
