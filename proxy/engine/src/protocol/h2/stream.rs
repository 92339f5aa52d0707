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

/// What the session calls a stream: a name of its own, of which nothing is known here.
pub type Tag = u64;

/// The tag of a stream that the session has given none.
pub const NO_TAG: Tag = 0;

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
    pub(super) tag: Tag,
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
    /// Frames of DATA that we have sent.
    pub(super) data_frames: u32,
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
    by_peer: Last<Left>,
    by_us: Last<GivenUp>,
}

/// A stream that the peer has ended.
#[derive(Clone, Copy, Debug)]
struct Left {
    number: u32,
    /// Frames of DATA of ours that it may have had yet to see, each of which it may answer by a reset.
    late_resets: u32,
}

/// A stream that we have reset.
#[derive(Clone, Copy, Debug)]
struct GivenUp {
    left: Left,
    /// Bytes that the peer may still send for it without knowing.
    late: u32,
}

impl Ended {
    /// `late` is what the stream's window still allowed, `sent` the frames of DATA that it was sent.
    pub(super) fn push(&mut self, number: u32, end: End, late: u32, sent: u32) {
        let left = Left {
            number,
            late_resets: sent,
        };
        match end {
            End::ByPeer => self.by_peer.push(left),
            End::ByUs => self.by_us.push(GivenUp {
                left,
                late: late.saturating_add(LATE_HEAD_BYTES),
            }),
        }
    }

    pub(super) fn find(&self, number: u32) -> Option<End> {
        let is_it = |entry: &Left| entry.number == number;
        if self.by_peer.entries.iter().any(is_it) {
            return Some(End::ByPeer);
        }
        let mut given_up = self.by_us.entries.iter();
        given_up
            .any(|entry| is_it(&entry.left))
            .then_some(End::ByUs)
    }

    /// Whether so much may still come for a stream because its peer could not know: once only.
    pub(super) fn takes_late(&mut self, number: u32, bytes: usize) -> bool {
        let entries = self.by_us.entries.iter_mut();
        let found = entries.rev().find(|entry| entry.left.number == number);
        let (Some(found), Ok(bytes)) = (found, u32::try_from(bytes)) else {
            return false;
        };
        match found.late.checked_sub(bytes) {
            Some(late) => found.late = late,
            None => return false,
        }
        true
    }

    /// Whether a reset may be the answer to DATA that was on its way when the stream ended: once a frame.
    pub(super) fn takes_late_reset(&mut self, number: u32) -> bool {
        let by_us = self.by_us.entries.iter_mut().map(|entry| &mut entry.left);
        let mut all = self.by_peer.entries.iter_mut().chain(by_us);
        let Some(found) = all.find(|left| left.number == number) else {
            return false;
        };
        let allowed = found.late_resets > 0;
        found.late_resets = found.late_resets.saturating_sub(1);
        allowed
    }
}

/// So many entries; the oldest one is at `next` once all places are taken.
#[derive(Debug)]
struct Last<T> {
    entries: Vec<T>,
    next: usize,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            next: 0,
        }
    }
}

impl<T> Last<T> {
    fn push(&mut self, entry: T) {
        if self.entries.len() < ENDED_COUNT_MAX {
            self.entries.push(entry);
            return;
        }
        if let Some(place) = self.entries.get_mut(self.next) {
            *place = entry;
        }
        self.next = (self.next + 1) % ENDED_COUNT_MAX;
    }
}

/// More than a usual client has at a time.
const ENDED_COUNT_MAX: usize = 128;

/// A head and trailers may come late as well.
const LATE_HEAD_BYTES: u32 = 8 << 10;

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
            ended.push(number, end, 10, 0);
        }
        assert_eq!(ended.find(198), Some(End::ByUs));
        assert_eq!(ended.find(200), Some(End::ByPeer));
        // Those of the peer do not push out ours.
        assert_eq!(ended.find(3), Some(End::ByUs));
        assert_eq!((ended.find(1), ended.find(201)), (None, None));
        assert_eq!(ended.by_peer.entries.len(), ENDED_COUNT_MAX);
    }

    #[test]
    fn what_is_late_is_taken_as_far_as_the_window_had_allowed_it() {
        let mut ended = Ended::default();
        ended.push(1, End::ByUs, 100, 0);
        ended.push(3, End::ByPeer, 100, 0);
        let most = 100 + LATE_HEAD_BYTES as usize;
        assert!(ended.takes_late(1, most - 1) && !ended.takes_late(1, 2));
        assert!(ended.takes_late(1, 1) && !ended.takes_late(1, 1));
        assert!(!ended.takes_late(3, 1) && !ended.takes_late(5, 1));
        assert!(!ended.takes_late(1, usize::MAX));
    }

    #[test]
    fn a_late_reset_answers_a_frame_that_was_sent() {
        let mut ended = Ended::default();
        ended.push(1, End::ByPeer, 0, 2);
        ended.push(3, End::ByUs, 0, 1);
        assert!(ended.takes_late_reset(1) && ended.takes_late_reset(1));
        assert!(ended.takes_late_reset(3));
        assert!(
            [1, 3, 5]
                .iter()
                .all(|&number| !ended.takes_late_reset(number))
        );
    }
}
