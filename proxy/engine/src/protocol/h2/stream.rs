//! Streams: what each half of one may do next, and the streams of a connection by number.
//!
//! Rule: everything that affects the state of a stream is in [`Half::after`]. A stream exists while
//! one of its halves is open; one that is not here is idle or closed, which its number tells
//! (RFC 9113 §5.1).

use super::error::StreamFault;
use super::flow::ReceiveWindow;
use super::flow::SendWindow;
use super::head::Asked;
use super::priority::Priority;

/// The tag of a stream that the session has given none.
pub const NO_TAG: u32 = u32::MAX;

/// One direction of a stream: what is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Head,
    Body,
    Done,
}

/// What comes, or is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Interim,
    Head,
    Data,
    Trailers,
}

impl Half {
    /// The table of states (RFC 9113 §5.1, §8.1).
    pub(super) fn after(self, part: Part, ends: bool) -> Result<Self, StreamFault> {
        let next = if ends { Self::Done } else { Self::Body };
        match (self, part) {
            (Self::Head, Part::Interim) => Ok(Self::Head),
            (Self::Head, Part::Head) => Ok(next),
            (Self::Head, Part::Data | Part::Trailers) => Err(StreamFault::Data),
            (Self::Body, Part::Data) => Ok(next),
            (Self::Body, Part::Trailers) if ends => Ok(Self::Done),
            (Self::Body, Part::Interim | Part::Head | Part::Trailers) => Err(StreamFault::Trailers),
            (Self::Done, _) => Err(StreamFault::Closed),
        }
    }
}

/// One exchange on a connection.
#[derive(Debug)]
pub(super) struct Stream {
    /// What the session calls it.
    pub(super) tag: u32,
    pub(super) receives: Half,
    pub(super) sends: Half,
    pub(super) send_window: SendWindow,
    pub(super) receive_window: ReceiveWindow,
    /// Received and not yet passed on.
    pub(super) held: u32,
    /// What `content-length` says is still to come.
    pub(super) body_left: Option<u64>,
    pub(super) asked: Asked,
    pub(super) priority: Priority,
    /// When it last had its turn; see `Connection::place`.
    pub(super) turn: u64,
    /// It has more to send than a window allowed.
    pub(super) is_blocked: bool,
}

impl Stream {
    /// See `Connection::place`.
    pub(super) fn place(&self, number: u32) -> (u8, u64, u32) {
        let turn = if self.priority.incremental {
            self.turn + 1
        } else {
            0
        };
        (self.priority.urgency, turn, number)
    }
}

impl Stream {
    pub(super) fn is_done(&self) -> bool {
        self.receives == Half::Done && self.sends == Half::Done
    }
}

/// The open streams. A connection has few, so that looking through their numbers, which lie side
/// by side, is faster than hashing one; the number before is tried first.
#[derive(Debug, Default)]
pub(super) struct Streams {
    numbers: Vec<u32>,
    streams: Vec<Stream>,
    last: usize,
}

impl Streams {
    #[inline]
    pub(super) fn find(&mut self, number: u32) -> Option<usize> {
        if self.numbers.get(self.last) == Some(&number) {
            return Some(self.last);
        }
        self.last = self.numbers.iter().position(|&other| other == number)?;
        Some(self.last)
    }

    #[inline]
    pub(super) fn get(&mut self, number: u32) -> Option<&mut Stream> {
        let index = self.find(number)?;
        self.streams.get_mut(index)
    }

    pub(super) fn insert(&mut self, number: u32, stream: Stream) {
        self.last = self.streams.len();
        self.numbers.push(number);
        self.streams.push(stream);
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Stream> {
        let index = self.find(number)?;
        self.numbers.swap_remove(index);
        Some(self.streams.swap_remove(index))
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Stream)> {
        self.numbers.iter().copied().zip(&self.streams)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream)> {
        self.numbers.iter().copied().zip(&mut self.streams)
    }

    /// Gives the memory back, if there is no stream.
    pub(super) fn shrink(&mut self) {
        if self.streams.is_empty() {
            *self = Self::default();
        }
    }
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer has ended it: it has no right to send anything more.
    ByPeer,
    /// We have reset it: what the peer has sent before it knew is still to come.
    ByUs,
}

/// The last streams that ended, to tell what is late from what is wrong (RFC 9113 §5.1, T37).
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// With [`BY_US`]; the oldest one is at `next` once all places are taken.
    numbers: Vec<u32>,
    next: usize,
}

impl Ended {
    pub(super) fn push(&mut self, number: u32, end: End) {
        let entry = match end {
            End::ByPeer => number,
            End::ByUs => number | BY_US,
        };
        if self.numbers.len() < ENDED_COUNT_MAX {
            self.numbers.push(entry);
            return;
        }
        if let Some(place) = self.numbers.get_mut(self.next) {
            *place = entry;
        }
        self.next = (self.next + 1) % ENDED_COUNT_MAX;
    }

    pub(super) fn find(&self, number: u32) -> Option<End> {
        let is_it = |entry: &&u32| **entry & !BY_US == number;
        self.numbers.iter().rev().find(is_it).map(|entry| {
            if entry & BY_US == 0 {
                End::ByPeer
            } else {
                End::ByUs
            }
        })
    }
}

const BY_US: u32 = 1 << 31;

/// More than a usual client has at a time.
const ENDED_COUNT_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_goes_from_head_to_body_to_its_end() {
        for (half, part, ends, next) in [
            (Half::Head, Part::Interim, false, Ok(Half::Head)),
            (Half::Head, Part::Head, false, Ok(Half::Body)),
            (Half::Head, Part::Head, true, Ok(Half::Done)),
            (Half::Head, Part::Data, true, Err(StreamFault::Data)),
            (Half::Body, Part::Data, false, Ok(Half::Body)),
            (Half::Body, Part::Data, true, Ok(Half::Done)),
            (Half::Body, Part::Trailers, true, Ok(Half::Done)),
            (
                Half::Body,
                Part::Trailers,
                false,
                Err(StreamFault::Trailers),
            ),
            (Half::Body, Part::Head, true, Err(StreamFault::Trailers)),
            (Half::Done, Part::Data, true, Err(StreamFault::Closed)),
        ] {
            assert_eq!(half.after(part, ends), next, "{half:?} {part:?} {ends}");
        }
    }

    #[test]
    fn the_last_ends_are_known() {
        let mut ended = Ended::default();
        for number in 1..=200 {
            let end = if number % 3 == 0 {
                End::ByUs
            } else {
                End::ByPeer
            };
            ended.push(number, end);
        }
        assert_eq!(ended.find(198), Some(End::ByUs));
        assert_eq!(ended.find(200), Some(End::ByPeer));
        assert_eq!(ended.find(73), Some(End::ByPeer));
        assert_eq!((ended.find(72), ended.find(201)), (None, None));
        assert_eq!(ended.numbers.len(), ENDED_COUNT_MAX);
    }
}
