//! Attempts that wait for something: each has a ticket, by which it goes on.
//!
//! Rule: a ticket says who waits for what, and works once. Who has what is waited for keeps the ticket's id, and
//! resumes by it; one that is out of date, since its exchange has ended or gone elsewhere, finds nobody. Nobody
//! waits without an end: who keeps the id has a deadline. Called by `back` for requests that wait for a connection to
//! open, or for a backend to allow a stream, and by `authorising` for those that wait to be let pass.

use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::ids::{CallId, ExchangeId, TicketId, UpstreamId};

/// A request that waits, or an attempt of it.
#[derive(Debug)]
pub(in crate::session) struct Ticket {
    exchange: ExchangeId,
    wanted: Wanted,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Wanted {
    /// A stream of a connection, which is not open, or whose backend allows none yet.
    StreamOf(UpstreamId),
    /// What a call is answered.
    Verdict(CallId),
    /// Whether a password is right, which a thread finds out.
    Password,
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Place {
    Waits(TicketId),
    Carried(Carrier),
}

impl<D: Driver> Engine<D> {
    /// Lets an attempt wait; who has what is wanted resumes it by the ticket.
    pub(in crate::session) fn wait(&mut self, exchange: ExchangeId, wanted: Wanted) -> TicketId {
        let vacant = self.tickets.vacant();
        let id = vacant.id();
        vacant.insert(Ticket { exchange, wanted });
        self.set_place(exchange, Some(Place::Waits(id)));
        id
    }

    /// Takes a ticket: whose attempt goes on, unless it does not wait any more.
    #[must_use]
    pub(in crate::session) fn resume(&mut self, id: TicketId) -> Option<ExchangeId> {
        let ticket = self.tickets.remove(id)?;
        self.set_place(ticket.exchange, None);
        Some(ticket.exchange)
    }

    /// Whose attempt waits by a ticket, if it still does.
    pub(in crate::session) fn who_waits(&self, id: TicketId) -> Option<ExchangeId> {
        self.tickets.get(id).map(|ticket| ticket.exchange)
    }

    /// Waits no more: who was to resume it is told.
    pub(super) fn give_ticket_up(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.remove(id) else {
            return;
        };
        self.set_place(ticket.exchange, None);
        match ticket.wanted {
            Wanted::StreamOf(connection) => self.stop_waiting_for(connection, id),
            Wanted::Verdict(call) => self.end_call(call, Outcome::ClientAborted),
            // Whoever shows it next need not wait.
            Wanted::Password => {}
        }
    }

    /// The connection that an attempt goes by, or is to go by.
    pub(super) fn connection_at(&self, place: Place) -> Option<UpstreamId> {
        match place {
            Place::Carried(carrier) => Some(self.connection_by(carrier)),
            Place::Waits(id) => match self.tickets.get(id)?.wanted {
                Wanted::StreamOf(connection) => Some(connection),
                Wanted::Verdict(_) | Wanted::Password => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{Door, engine_with_clients};

    #[test]
    fn a_ticket_works_once_and_a_stale_one_finds_nobody() {
        let Door { mut engine, .. } = engine_with_clients(1);
        let exchange = engine.exchanges.vacant().id();
        let connection = engine.upstreams.vacant().id();
        let wanted = Wanted::StreamOf(connection);
        let first = engine.wait(exchange, wanted);
        assert_eq!(engine.who_waits(first), Some(exchange));
        assert_eq!(engine.connection_at(Place::Waits(first)), Some(connection));
        assert_eq!(engine.resume(first), Some(exchange));
        assert_eq!(engine.resume(first), None);
        // Its place is another's meanwhile.
        let second = engine.wait(exchange, wanted);
        assert_ne!(first, second);
        assert_eq!(engine.who_waits(first), None);
        engine.give_ticket_up(first);
        assert_eq!(engine.who_waits(second), Some(exchange));
        // The connection is gone, which is nobody's concern any more.
        engine.give_ticket_up(second);
        assert_eq!(engine.resume(second), None);
        assert!(engine.tickets.is_empty());
    }
}
