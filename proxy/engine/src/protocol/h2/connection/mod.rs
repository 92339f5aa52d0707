//! One connection, in the role of a server or of a client: bytes in, one event at a time; frames out.
//!
//! Rule: the connection holds no body bytes. DATA is handed on as slices of the caller's buffer, as
//! it comes; of an incomplete frame of another type the caller keeps the bytes, and of a header
//! block in several frames they are collected here, bounded.
//!
//! What the connection itself has to say (acknowledgements, window updates, resets) is collected in
//! `control` and leaves before the next frame that is sent, or by [`Connection::flush`]. So all
//! that a loop turn produces leaves in one write, frames are never out of order, and a peer that
//! does not read its answers is found out by the length of what waits (T06).

mod body;
mod control;
mod event;
mod headers;
mod receive;
mod send;
mod shutdown;

#[cfg(test)]
mod tests;

use super::budget::Budget;
use super::budget::FAULT;
use super::error::ConnectionFault;
use super::error::ErrorCode;
use super::error::StreamFault;
use super::flow::ReceiveWindow;
use super::flow::SendWindow;
use super::flow::WINDOW_DEFAULT;
use super::frame;
use super::frame::FrameHead;
use super::frame::Kind;
use super::frame::PREFACE;
use super::hpack::Decoder;
use super::hpack::Encoder;
use super::settings::PeerSettings;
use super::settings::Settings;
use super::stream::End;
use super::stream::Ended;
use super::stream::Stream;
use super::stream::Streams;
use crate::protocol::h2::stream::Tag;
use body::Payload;
pub use event::Event;
pub use event::Step;
use headers::Block;
pub use receive::is_preface;
use shutdown::Shutdown;

/// See the head of this file.
#[derive(Debug)]
pub struct Connection {
    is_server: bool,
    phase: Phase,
    settings: Settings,
    peer: PeerSettings,
    streams: Streams,
    ended: Ended,
    /// The highest number of a stream of the peer.
    last_peer: u32,
    /// The number of the next stream of ours.
    next_own: u32,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    decoder: Decoder,
    encoder: Encoder,
    /// The frame that is being read.
    payload: Payload,
    /// The header block that is being collected.
    block: Block,
    /// A HEADERS frame has begun and is not here whole.
    head_waits: bool,
    /// The frame behind the head that is being read, if it is for the same stream and here.
    follows: Option<FrameHead>,
    control: Vec<u8>,
    budget: Budget,
    /// The stream that was opened last, if it was in this turn; else 0.
    newest: u32,
    shutdown: Shutdown,
    /// The peer has said GOAWAY.
    peer_leaves: bool,
    /// Streams of ours above this number have to be given up: the peer goes away.
    sweep: Option<u32>,
    /// Some window was opened: a blocked stream may go on.
    may_write: bool,
    /// Turns that streams have had.
    turns: u64,
    settings_acknowledged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's first bytes.
    ExpectPreface,
    /// The first frame has to be SETTINGS.
    ExpectSettings,
    Open,
    Failed(ConnectionFault),
}

impl Connection {
    /// The side of a server, before the first byte.
    pub fn server(settings: &Settings) -> Self {
        Self::new(settings, true)
    }

    /// The side of a client, before the first byte; it may send at once.
    pub fn client(settings: &Settings) -> Self {
        Self::new(settings, false)
    }

    fn new(settings: &Settings, is_server: bool) -> Self {
        let settings = settings.normalised(is_server);
        let mut control = Vec::new();
        if !is_server {
            control.extend_from_slice(PREFACE);
        }
        settings.write(&mut control, is_server);
        Self {
            is_server,
            phase: if is_server {
                Phase::ExpectPreface
            } else {
                Phase::ExpectSettings
            },
            peer: PeerSettings::default(),
            streams: Streams::default(),
            ended: Ended::default(),
            last_peer: 0,
            next_own: if is_server { 2 } else { 1 },
            send_window: SendWindow::new(WINDOW_DEFAULT),
            receive_window: ReceiveWindow::new(settings.connection_window),
            settings,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            payload: Payload::default(),
            block: Block::default(),
            head_waits: false,
            follows: None,
            control,
            budget: if is_server {
                Budget::of_client()
            } else {
                Budget::of_backend()
            },
            newest: 0,
            shutdown: Shutdown::No,
            peer_leaves: false,
            sweep: None,
            may_write: false,
            turns: 0,
            settings_acknowledged: false,
        }
    }

    /// Tells the time, before the bytes of a turn are given: the budget grows with it.
    pub fn pass_time(&mut self, now_s: u64) {
        self.newest = 0;
        self.budget.pass_time(now_s);
    }

    /// Gives a stream the name by which the session wants to be told of it.
    pub fn set_tag(&mut self, stream: u32, tag: Tag) {
        if let Some(stream) = self.streams.get(stream) {
            stream.tag = tag;
        }
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// How many the peer may have open: before it has read that, more.
    pub fn streams_max(&self) -> usize {
        let limit = self.settings.streams_max as usize;
        match self.settings_acknowledged {
            true => limit,
            false => limit.max(STREAMS_UNTOLD_MAX),
        }
    }

    /// Half a head is here: the time for the rest of it runs (T08).
    pub fn head_pending(&self) -> bool {
        self.head_waits || self.block.is_open()
    }

    /// Some stream waits for the peer to open a window: the time for that runs (T04, T07).
    pub fn is_blocked(&self) -> bool {
        self.streams.iter().any(|(_, stream)| stream.is_blocked)
    }

    /// The peer knows our settings.
    pub fn settings_acknowledged(&self) -> bool {
        self.settings_acknowledged
    }

    /// What comes before what when not all can be sent: the lower, the sooner (RFC 9218 §10). The more
    /// urgent first; of those as urgent, one after the other as they were asked for, and then in turns
    /// those whose parts are of use by themselves.
    pub fn place(&mut self, stream: u32) -> (u8, u64, u32) {
        let Some(found) = self.streams.get(stream) else {
            return (u8::MAX, 0, stream);
        };
        found.place(stream)
    }

    /// A stream has had its turn, which is of interest when it shares with others.
    pub fn had_turn(&mut self, stream: u32) {
        self.turns += 1;
        let turns = self.turns;
        if let Some(found) = self.streams.get(stream) {
            found.turn = turns;
        }
    }

    /// Whether there is something to [`Connection::flush`].
    pub fn has_output(&self) -> bool {
        !self.control.is_empty()
    }

    /// Appends what the connection itself has to say. Everything that sends does it first.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
    }

    /// How many bytes of them there are.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.control.len()
    }

    /// Gives memory back while there are no streams. The tables of HPACK stay, as the peer has
    /// theirs.
    pub fn shrink(&mut self) {
        self.streams.shrink();
        self.block.shrink();
        if self.control.is_empty() {
            self.control = Vec::new();
        }
    }

    /// Charges for a frame that costs no more than reading it.
    fn charge(&mut self, price: u32) -> Result<(), ConnectionFault> {
        if self.budget.chat(price) {
            return Ok(());
        }
        Err(ConnectionFault::Flood)
    }

    /// Charges for work that was in vain.
    fn charge_trouble(&mut self, price: u32) -> Result<(), ConnectionFault> {
        if self.budget.trouble(price) {
            return Ok(());
        }
        Err(ConnectionFault::Flood)
    }

    /// Whether the number is that of a stream which nobody has opened yet.
    fn is_idle(&self, stream: u32) -> bool {
        if self.is_own(stream) {
            stream >= self.next_own
        } else {
            stream > self.last_peer
        }
    }

    fn is_own(&self, stream: u32) -> bool {
        (stream % 2 == 0) == self.is_server
    }

    /// Resets a stream for what the peer did; charges it, as a peer can make us do it (T02).
    fn fault_stream(
        &mut self,
        stream: u32,
        fault: StreamFault,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        let code = fault.code();
        let gone = self.remove(stream, End::ByUs);
        if gone.is_none() {
            self.ended
                .push(stream, End::ByUs, self.settings.stream_window, 0);
        }
        self.write_reset(stream, code);
        self.charge_trouble(FAULT)?;
        Ok(gone.map(|gone| Event::Reset {
            stream,
            tag: gone.tag,
            code,
            fault: Some(fault),
        }))
    }

    fn write_reset(&mut self, stream: u32, code: ErrorCode) {
        let payload = code.code().to_be_bytes();
        frame::write(&mut self.control, Kind::ResetStream, 0, stream, &payload);
    }

    /// Forgets a stream; what it held goes back to the connection's window.
    fn remove(&mut self, stream: u32, end: End) -> Option<Stream> {
        let gone = self.streams.remove(stream)?;
        let late = gone.receive_window.left();
        self.ended.push(stream, end, late, gone.data_frames);
        self.pass_to_connection(gone.held);
        Some(gone)
    }

    fn fail(&mut self, fault: ConnectionFault) {
        if matches!(self.phase, Phase::Failed(_)) {
            return;
        }
        self.phase = Phase::Failed(fault);
        self.write_go_away(self.last_peer, fault.code(), fault.as_str());
    }
}

/// Streams that a peer may open before it has read how many it may. All of them count among the requests in
/// flight and the memory of the worker, as those of ten connections would.
const STREAMS_UNTOLD_MAX: usize = 1024;

/// What may wait for a peer that does not read: far more than all streams together ever need.
const CONTROL_BYTES_MAX: usize = 16 << 10;

/// Those that are refused to a client who could not know better come on top, each by a frame.
const REFUSAL_BYTES: usize = 13;
