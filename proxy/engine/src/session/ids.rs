//! Ids of what the session holds, and the arenas that check them.
//!
//! A place in an arena is used again; an event of this turn, a timer or a neighbour may speak of whoever had
//! it before. So an id is place and serial number together, and names one connection or exchange for as long
//! as the engine runs (2^28 times at least). The arena compares the whole of it at each access.
//!
//! Rule: an id that is out of date finds nobody ([`Arena::get`]), and where somebody was relied on, the fault
//! is ours ([`Arena::index`]): it ends the connection whose turn it is, and never reaches another. The driver
//! and the timers know an id as a [`Token`]; [`Owner::of`] tells what it names.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::ops::{Index, IndexMut};

use crate::runtime::driver::Token;
use crate::session::back::stream::BackStream;
use crate::session::back::upstream::Upstream;
use crate::session::exchange::Exchange;
use crate::session::exchange::call::Call;
use crate::session::exchange::waiting::Ticket;
use crate::session::front::client::Client;
use crate::session::front::stream::Stream;

/// The eventfd by which the control thread wakes the loop.
pub(super) const WAKE: Token = 0;
/// Timer: hand the access log's chunk over.
pub(super) const FLUSH_LOG: Token = 1;
/// Timer: look for drains that are over time.
pub(super) const CHECK_DRAINS: Token = 2;
/// Timer: accept again after descriptors ran out.
pub(super) const RESUME_ACCEPT: Token = 3;
/// Streams whose answers have gone are to be reset.
pub(super) const RESET_STREAMS: Token = 4;

const KIND_SHIFT: u32 = 60;
const SERIAL_SHIFT: u32 = 32;
const SERIAL_MASK: u64 = (1 << (KIND_SHIFT - SERIAL_SHIFT)) - 1;
const PLACE_MASK: u64 = u32::MAX as u64;

const OF_ENGINE: u64 = 0;
const OF_LISTENER: u64 = 1;

/// A kind of things that have ids.
pub(super) trait Kind {
    /// What its tokens begin with; never 0, so that no id is.
    const TAG: u64;
}

impl Kind for Client {
    const TAG: u64 = 2;
}

impl Kind for Upstream {
    const TAG: u64 = 3;
}

impl Kind for Exchange {
    const TAG: u64 = 4;
}

impl Kind for Stream {
    const TAG: u64 = 5;
}

impl Kind for BackStream {
    const TAG: u64 = 6;
}

impl Kind for Ticket {
    const TAG: u64 = 7;
}

impl Kind for Call {
    const TAG: u64 = 8;
}

/// A client's connection.
pub(super) type ClientId = Id<Client>;
/// A stream of one.
pub(super) type StreamId = Id<Stream>;
/// A connection to a backend.
pub(super) type UpstreamId = Id<Upstream>;
/// A stream of one.
pub(super) type BackStreamId = Id<BackStream>;
/// An attempt that waits.
pub(super) type TicketId = Id<Ticket>;
/// A request of our own.
pub(super) type CallId = Id<Call>;
/// An exchange.
pub(super) type ExchangeId = Id<Exchange>;

/// What a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Something of the engine itself.
    Engine,
    /// A listening socket, by its place among those that are accepted from.
    Listener(usize),
    Client(ClientId),
    Stream(StreamId),
    Upstream(UpstreamId),
    BackStream(BackStreamId),
    Call(CallId),
    Exchange(ExchangeId),
    /// None that was made here.
    Nobody,
}

impl Owner {
    /// Whose a token is.
    pub(super) fn of(token: Token) -> Self {
        let id = NonZeroU64::new(token);
        match (token >> KIND_SHIFT, id) {
            (OF_ENGINE, _) => Self::Engine,
            (OF_LISTENER, _) => Self::Listener((token & PLACE_MASK) as usize),
            (Client::TAG, Some(id)) => Self::Client(Id(id, PhantomData)),
            (Stream::TAG, Some(id)) => Self::Stream(Id(id, PhantomData)),
            (Upstream::TAG, Some(id)) => Self::Upstream(Id(id, PhantomData)),
            (BackStream::TAG, Some(id)) => Self::BackStream(Id(id, PhantomData)),
            (Exchange::TAG, Some(id)) => Self::Exchange(Id(id, PhantomData)),
            (Call::TAG, Some(id)) => Self::Call(Id(id, PhantomData)),
            _ => Self::Nobody,
        }
    }
}

/// The token of a listening socket.
pub(super) fn listener_token(place: usize) -> Token {
    OF_LISTENER << KIND_SHIFT | place as u64
}

/// Names one thing of a kind. As large as a place, and so is one that may be missing.
pub(super) struct Id<T>(NonZeroU64, PhantomData<T>);

impl<T: Kind> Id<T> {
    fn new(serial: u32, place: usize) -> Self {
        debug_assert!(place as u64 <= PLACE_MASK);
        let serial = (u64::from(serial) & SERIAL_MASK) << SERIAL_SHIFT;
        let named = T::TAG << KIND_SHIFT | serial | place as u64;
        // A kind's tag is not 0.
        Self(
            NonZeroU64::new(named).unwrap_or(NonZeroU64::MAX),
            PhantomData,
        )
    }

    /// That of a token, if it is one of this kind.
    #[inline]
    pub(super) fn of(token: Token) -> Option<Self> {
        let named = NonZeroU64::new(token).filter(|_| token >> KIND_SHIFT == T::TAG)?;
        Some(Self(named, PhantomData))
    }
}

impl<T> Id<T> {
    /// As the driver, the timers and the streams of HTTP/2 know it.
    #[inline]
    pub(super) fn token(self) -> Token {
        self.0.get()
    }

    fn place(self) -> usize {
        (self.0.get() & PLACE_MASK) as usize
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{:#x}", self.place(), self.0)
    }
}

/// A place, and who has it or had it last.
struct Place<T> {
    id: Id<T>,
    value: Option<T>,
}

/// All things of a kind. What is large lies where it was made but for one move in and one out, which is why this is no
/// crate's.
pub(super) struct Arena<T> {
    places: Vec<Place<T>>,
    /// The places that nobody has; the last one is taken first.
    free: Vec<u32>,
    serial: u32,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            serial: 0,
        }
    }
}

/// A place that is free, and the id that who takes it will have.
pub(super) struct Vacant<'a, T> {
    arena: &'a mut Arena<T>,
    id: Id<T>,
}

impl<T> Vacant<'_, T> {
    /// The id.
    pub(super) fn id(&self) -> Id<T> {
        self.id
    }

    /// Takes the place.
    pub(super) fn insert(self, value: T) {
        let Some(free) = self.arena.free.pop() else {
            let (id, value) = (self.id, Some(value));
            return self.arena.places.push(Place { id, value });
        };
        let place = &mut self.arena.places[free as usize];
        place.id = self.id;
        place.value = Some(value);
    }
}

impl<T: Kind> Arena<T> {
    /// A place for one more.
    pub(super) fn vacant(&mut self) -> Vacant<'_, T> {
        self.serial = self.serial.wrapping_add(1);
        let place = self.free.last().map(|&free| free as usize);
        let id = Id::new(self.serial, place.unwrap_or(self.places.len()));
        Vacant { arena: self, id }
    }
}

impl<T> Arena<T> {
    /// Who has this id, unless it is gone.
    #[inline]
    pub(super) fn get(&self, id: Id<T>) -> Option<&T> {
        let place = self.places.get(id.place())?;
        place.value.as_ref().filter(|_| place.id == id)
    }

    /// See [`Arena::get`].
    #[inline]
    pub(super) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let place = self.places.get_mut(id.place())?;
        place.value.as_mut().filter(|_| place.id == id)
    }

    /// See [`Fate`].
    #[inline]
    pub(super) fn fate_of(&self, id: Id<T>) -> Fate {
        match self.contains(id) {
            true => Fate::Lives,
            false => Fate::Gone,
        }
    }

    /// Whether it is there.
    #[inline]
    pub(super) fn contains(&self, id: Id<T>) -> bool {
        self.get(id).is_some()
    }

    /// Takes it out, if it is there: what it was, its id will never name again.
    pub(super) fn remove(&mut self, id: Id<T>) -> Option<T> {
        let place = self.places.get_mut(id.place())?;
        if place.id != id || place.value.is_none() {
            return None;
        }
        self.free.push(id.place() as u32);
        place.value.take()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        let each = self.places.iter();
        each.filter_map(|place| Some((place.id, place.value.as_ref()?)))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let each = self.places.iter_mut();
        each.filter_map(|place| place.value.as_mut())
    }
}

impl<T> Index<Id<T>> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: Id<T>) -> &T {
        match self.get(id) {
            Some(value) => value,
            None => gone(id),
        }
    }
}

impl<T> IndexMut<Id<T>> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        match self.get_mut(id) {
            Some(value) => value,
            None => gone(id),
        }
    }
}

/// Whether what a function was called for is still there when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what it was called for may be gone"]
pub(super) enum Fate {
    Lives,
    Gone,
}

impl Fate {
    /// Whether it is.
    pub(super) fn lives(self) -> bool {
        self == Self::Lives
    }
}

/// Somebody was relied on who is not there any more; see `mishap`.
#[cold]
#[inline(never)]
fn gone<T>(id: Id<T>) -> ! {
    panic!("{id:?} is gone")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Something that has ids and needs no socket.
    #[derive(Debug, PartialEq)]
    struct Thing(u32);

    impl Kind for Thing {
        const TAG: u64 = 7;
    }

    fn insert(arena: &mut Arena<Thing>, number: u32) -> Id<Thing> {
        let vacant = arena.vacant();
        let id = vacant.id();
        vacant.insert(Thing(number));
        id
    }

    #[test]
    fn a_token_tells_its_owner() {
        let client = ClientId::new(u32::MAX, 123_456);
        assert_eq!(Owner::of(client.token()), Owner::Client(client));
        let upstream = UpstreamId::new(1, 0);
        assert_eq!(Owner::of(upstream.token()), Owner::Upstream(upstream));
        let stream = StreamId::new(2, 1);
        assert_eq!(Owner::of(stream.token()), Owner::Stream(stream));
        let back = BackStreamId::new(3, 2);
        assert_eq!(Owner::of(back.token()), Owner::BackStream(back));
        let call = CallId::new(4, 3);
        assert_eq!(Owner::of(call.token()), Owner::Call(call));
        assert_eq!(Owner::of(listener_token(7)), Owner::Listener(7));
        for token in [WAKE, FLUSH_LOG, CHECK_DRAINS, RESUME_ACCEPT, RESET_STREAMS] {
            assert_eq!(Owner::of(token), Owner::Engine);
        }
        assert_eq!(Owner::of(u64::MAX), Owner::Nobody);
        assert_eq!(ClientId::of(upstream.token()), None);
        assert_eq!(ClientId::of(client.token()), Some(client));
        assert_eq!(ClientId::of(0), None);
    }

    #[test]
    fn an_id_that_may_be_missing_is_no_larger() {
        assert_eq!(size_of::<Option<ClientId>>(), size_of::<Token>());
    }

    #[test]
    #[should_panic(expected = "is gone")]
    fn a_stale_id_reaches_nobody() {
        let mut arena = Arena::default();
        let first = insert(&mut arena, 1);
        arena.remove(first);
        let second = insert(&mut arena, 2);
        assert_eq!(first.place(), second.place());
        let _ = &arena[first];
    }

    proptest! {
        /// Against a map: whatever comes and goes, an id names what it was given for, or nobody.
        #[test]
        fn ids_name_one_thing_for_ever(steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..200)) {
            let mut arena = Arena::default();
            let mut alive = BTreeMap::new();
            let mut given = Vec::new();
            for (number, (inserts, which)) in steps.into_iter().enumerate() {
                if inserts || given.is_empty() {
                    let id = insert(&mut arena, number as u32);
                    prop_assert!(alive.insert(id, number as u32).is_none());
                    given.push(id);
                } else {
                    let id: Id<Thing> = given[which % given.len()];
                    prop_assert_eq!(arena.remove(id).map(|thing| thing.0), alive.remove(&id));
                }
                prop_assert_eq!(arena.len(), alive.len());
                for &id in &given {
                    prop_assert_eq!(arena.get(id).map(|thing| thing.0), alive.get(&id).copied());
                }
            }
            let mut listed: Vec<_> = arena.iter().map(|(id, thing)| (id, thing.0)).collect();
            listed.sort_unstable();
            prop_assert_eq!(listed, alive.into_iter().collect::<Vec<_>>());
        }
    }
}
