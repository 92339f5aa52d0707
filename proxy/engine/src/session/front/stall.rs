//! Clients that do not read: how long output waits for them.
//!
//! Rule: the time of a write moves with progress and with nothing else. Neither more output nor more
//! requests nor any other deadline of the connection puts it off. Progress is what the socket or a
//! window has taken, and what the peer has acknowledged meanwhile: the kernel may hold megabytes for a
//! slow reader before it takes more. So `response_write` is looked at in parts, each of which compares
//! what is unacknowledged. Called by whoever leaves output behind (`client`, `lane`), and by `timeout`.

use crate::runtime::driver::Driver;
use crate::runtime::socket;
use crate::runtime::timer::Timers;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::client::{Client, Phase};
use crate::session::ids::ClientId;
use crate::telemetry::names::Counter;

/// Looks within `response_write`: as many in a row without progress end the connection.
const LOOKS: u8 = 4;

/// A write that waits for its peer.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::session) struct WriteWait {
    /// When it is looked at next; 0 while nothing waits.
    look_ms: u64,
    /// What the peer had not acknowledged at the last look; `None` before the first.
    unacknowledged: Option<u32>,
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

impl Client {
    /// Sets the time of the next step, which a write that waits brings forward.
    pub(in crate::session) fn set_deadline(
        &mut self,
        timers: &mut Timers,
        id: ClientId,
        at_ms: u64,
    ) {
        let at_ms = match self.write.look_ms {
            0 => at_ms,
            look_ms => at_ms.min(look_ms),
        };
        timers.set(&mut self.deadline, id.token(), at_ms);
    }

    /// Waits for no step any more, but for a write.
    pub(in crate::session) fn clear_deadline(&mut self, timers: &mut Timers, id: ClientId) {
        match self.write.look_ms {
            0 => self.deadline.clear(),
            look_ms => timers.set(&mut self.deadline, id.token(), look_ms),
        }
    }
}

impl<D: Driver> Engine<D> {
    /// Output waits; `progressed` when some has left since it was last said so.
    pub(in crate::session) fn await_client_write(&mut self, id: ClientId, progressed: bool) {
        let client = &self.clients[id];
        // Meanwhile it is not the backend that is slow.
        if let Some(upstream) = client
            .exchange
            .and_then(|exchange| self.exchanges[exchange].upstream())
        {
            self.upstreams[upstream].deadline.clear();
        }
        if client.write.look_ms == 0 || progressed {
            let look_ms = self.clock.ms() + self.look_interval_ms(id);
            self.clients[id].write = WriteWait {
                look_ms,
                ..WriteWait::default()
            };
        }
        self.clients[id].clear_deadline(&mut self.timers, id);
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
            self.await_client_write(id, false);
        }
    }

    /// Looks whether the peer has taken something since the last look.
    pub(in crate::session) fn look_at_write(&mut self, id: ClientId) {
        let look_ms = self.clock.ms() + self.look_interval_ms(id);
        let client = &mut self.clients[id];
        let unacknowledged = client
            .stream
            .raw()
            .map(|socket| socket::sending(socket).unacknowledged);
        // What holds a lane up that waits for its connection is looked at there.
        let progressed = client.stream.has_unsent() && client.stream.lane().is_some()
            || unacknowledged < client.write.unacknowledged;
        let silent_looks = match progressed {
            true => 0,
            false => client.write.silent_looks + 1,
        };
        if silent_looks >= LOOKS {
            self.metrics.add(Counter::TimeoutsTotal, 1);
            return self.client_stalled(id);
        }
        client.write = WriteWait {
            look_ms,
            unacknowledged,
            silent_looks,
        };
        client.clear_deadline(&mut self.timers, id);
    }

    fn look_interval_ms(&self, id: ClientId) -> u64 {
        let client = &self.clients[id];
        let limit = match client.exchange {
            Some(exchange) => {
                let listener = &self.exchanges[exchange].listener;
                listener.entity.timeouts.response_write
            }
            None => client.listener.settings().entity.timeouts.response_write,
        };
        (limit / u64::from(LOOKS)).max(1)
    }

    /// The client does not read its response.
    fn client_stalled(&mut self, id: ClientId) {
        self.clients[id].stream.reset_on_close();
        if let Some(exchange) = self.clients[id].exchange {
            self.abandon_exchange(exchange, Outcome::WriteTimeout);
        }
        self.close_client(id);
    }
}
