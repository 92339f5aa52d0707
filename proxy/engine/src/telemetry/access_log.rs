//! The access log: one JSON object a line for each request, formatted by the engine, written by a
//! thread of its own.
//!
//! The rule: the engine never waits for a disk or a pipe. It appends to a piece of memory; a full
//! one goes to the writer through a bounded channel, and comes back to be filled again. When the
//! writer does not keep up, records are dropped and counted, and requests go on.

mod format;
mod readable;
mod writer;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::runtime::socket::Endpoint;
use crate::upstream::Backend;

pub use self::format::Formatter;
pub use self::format::format_json;
pub use self::writer::LogWriter;

/// What is told about one request. Bytes of the client are given as they came; the formatter makes
/// them harmless.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Microseconds since 1970.
    pub time_us: u64,
    /// Who asked: the peer, or whom a trusted proxy named.
    pub client: SocketAddr,
    /// Method.
    pub method: &'a [u8],
    /// Hostname asked for.
    pub host: &'a [u8],
    /// Request target, query included.
    pub path: &'a [u8],
    /// Protocol of the client, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// Status of the response; 0 when there was none.
    pub status: u16,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the response.
    pub bytes_out: u64,
    /// From the first byte of the request to the last of the response.
    pub duration_us: u64,
    /// From handing the request to a backend to the head of its response.
    pub upstream_us: Option<u64>,
    /// The generation that served the request.
    pub generation: u64,
    /// Where it came in.
    pub listener: Option<&'a str>,
    /// What matched it.
    pub frontend: Option<&'a str>,
    /// What served it.
    pub cluster: Option<&'a str>,
    /// Which of the cluster's backends.
    pub backend: Option<&'a str>,
    /// The backend's address.
    pub backend_address: Option<&'a Endpoint>,
    /// The id that the request carried to the backend.
    pub request_id: &'a [u8],
    /// `User-Agent` of the request.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer` of the request.
    pub referer: Option<&'a [u8]>,
    /// Further backends tried.
    pub retries: u32,
    /// The backends that were tried before, where there were further attempts.
    pub tried: &'a [Rc<Backend>],
    /// The cluster in whose place it was served, if it was.
    pub fallback_of: Option<&'a str>,
    /// How it ended, in a word.
    pub outcome: &'a str,
    /// What was wrong in particular, in a word.
    pub reason: Option<&'a str>,
}

/// The engine's end of an access log. Dropping it hands over what is there; the writer ends when it
/// has written that.
#[derive(Debug)]
pub struct LogSink {
    /// `None` when the log is off.
    channel: Option<Channel>,
    current: Vec<u8>,
    records: u64,
    formatter: Formatter,
}

impl LogSink {
    /// A sink that keeps nothing.
    pub fn off() -> Self {
        Self::new(None)
    }

    fn new(channel: Option<Channel>) -> Self {
        Self {
            channel,
            current: Vec::new(),
            records: 0,
            formatter: Formatter::default(),
        }
    }

    /// Whether records go anywhere; asked before one is put together.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.channel.is_some()
    }

    /// Appends a record. Returns how many records had to be dropped, see [`LogSink::flush`].
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) -> u64 {
        if self.channel.is_none() {
            return 0;
        }
        self.formatter.format_json(record, &mut self.current);
        self.records += 1;
        if self.current.len() < CHUNK_FULL_BYTES {
            return 0;
        }
        self.flush()
    }

    /// Whether records wait for [`LogSink::flush`], which the engine calls a moment after the first.
    #[inline]
    pub fn pending(&self) -> bool {
        self.records > 0
    }

    /// Hands what is there to the writer. Returns how many records were dropped since the last
    /// time: because the writer is too far behind, or because it could not write.
    pub fn flush(&mut self) -> u64 {
        let Some(channel) = &self.channel else {
            return 0;
        };
        let failed = channel.shared.failed.swap(0, Ordering::Relaxed);
        if self.records == 0 {
            return failed;
        }
        let records = std::mem::take(&mut self.records);
        let bytes = std::mem::replace(&mut self.current, channel.empty_chunk());
        match channel.full.try_send(Chunk { bytes, records }) {
            Ok(()) => failed,
            Err(_) => failed + records,
        }
    }

    /// Makes the writer open its file anew before it writes again, after the file was moved away.
    pub fn reopen(&self) {
        if let Some(channel) = &self.channel {
            channel.shared.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the log; waits at most `wait` for the writer, and tells whether it has written all that
    /// it was given.
    pub fn close(mut self, wait: Duration) -> bool {
        self.flush();
        let Some(Channel { full, done, .. }) = self.channel.take() else {
            return true;
        };
        drop(full);
        done.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What connects a sink with its writer.
#[derive(Debug)]
struct Channel {
    full: SyncSender<Chunk>,
    empty: Receiver<Vec<u8>>,
    /// Nothing is ever sent; it is closed when the writer has ended.
    done: Receiver<()>,
    shared: Arc<Shared>,
}

impl Channel {
    fn empty_chunk(&self) -> Vec<u8> {
        self.empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES))
    }
}

/// Whole lines, and how many.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    records: u64,
}

/// What both sides see without the channel.
#[derive(Debug, Default)]
struct Shared {
    /// Records that could not be written, since the engine last asked.
    failed: AtomicU64,
    reopen: AtomicBool,
}

/// Room of a chunk. A single record can be larger; then its chunk is, and is not kept.
const CHUNK_BYTES: usize = 64 << 10;
/// A chunk is handed over from here on, so that the next record nearly always fits.
const CHUNK_FULL_BYTES: usize = 48 << 10;
/// Chunks that may wait for the writer: with [`CHUNK_BYTES`], 4 MiB of memory.
const CHUNKS_MAX: usize = 64;

#[cfg(test)]
mod tests;
