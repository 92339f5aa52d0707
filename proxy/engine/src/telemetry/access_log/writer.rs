//! The other end of an access log: a thread that may block, and writes what the engine handed over.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use super::CHUNK_BYTES;
use super::CHUNKS_MAX;
use super::Channel;
use super::Chunk;
use super::LogSink;
use super::Shared;
use super::readable::readable;

/// The writing side of a log, which lives on its own thread.
#[derive(Debug)]
pub struct LogWriter {
    output: Output,
    full: Receiver<Chunk>,
    empty: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
    state: State,
    /// Dropped with the writer, which tells a sink that it has ended.
    _done: SyncSender<()>,
}

impl LogWriter {
    /// Opens the log that the settings name (`stdout`, `off` or a path) and starts its thread, which
    /// takes the CPU affinity of the caller.
    pub fn open(target: &str) -> Result<LogSink, String> {
        if target == "off" {
            return Ok(LogSink::off());
        }
        let output =
            Output::open(target).map_err(|error| format!("access_log {target:?}: {error}"))?;
        Self::begin(output)
            .map_err(|error| format!("access_log {target:?}: no thread to write it: {error}"))
    }

    /// The same for a log that may be missing for now: its records are lost and counted until it can be
    /// opened, which is tried again at most every second.
    pub fn open_in_time(target: &str) -> LogSink {
        if target == "off" {
            return LogSink::off();
        }
        let output = Output::open(target).unwrap_or_else(|error| {
            eprintln!(
                "kakehi: the access log {target:?} cannot be opened, records are lost: {error}"
            );
            Output::missing(target)
        });
        Self::begin(output).unwrap_or_else(|error| {
            eprintln!("kakehi: nothing can write the access log: {error}");
            LogSink::off()
        })
    }

    fn begin(output: Output) -> io::Result<LogSink> {
        let (sink, writer) = Self::connect(output);
        thread::Builder::new()
            .name("kakehi-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(sink)
    }

    /// A sink and its writer, which does not run yet.
    pub(super) fn connect(output: Output) -> (LogSink, Self) {
        let (full_sender, full) = sync_channel(CHUNKS_MAX);
        let (empty, empty_receiver) = sync_channel(CHUNKS_MAX);
        let (done, done_receiver) = sync_channel(0);
        let shared = Arc::new(Shared::default());
        let channel = Channel {
            full: full_sender,
            empty: empty_receiver,
            done: done_receiver,
            shared: Arc::clone(&shared),
        };
        let state = State::Good;
        (
            LogSink::new(Some(channel)),
            Self {
                output,
                full,
                empty,
                shared,
                state,
                _done: done,
            },
        )
    }

    /// Writes until the sink is gone and everything is written.
    pub(super) fn run(mut self) {
        while let Ok(Chunk { mut bytes, records }) = self.full.recv() {
            if self.shared.reopen.swap(false, Ordering::Relaxed) {
                if let Err(error) = self.output.reopen() {
                    // Better the old file than none.
                    eprintln!("kakehi: the access log cannot be opened anew: {error}");
                }
            }
            if self.output.is_for_people() {
                let mut lines = Vec::with_capacity(bytes.len());
                readable(&bytes, &mut lines);
                self.write(&lines, records);
            } else {
                self.write(&bytes, records);
            }
            bytes.clear();
            if bytes.capacity() <= CHUNK_BYTES {
                // No room means that the sink has enough of them.
                let _ = self.empty.try_send(bytes);
            }
        }
    }

    fn write(&mut self, bytes: &[u8], records: u64) {
        let mended = match self.state {
            // The last line may have ended anywhere.
            State::Torn => self.output.write(b"\n"),
            State::Good | State::Failing => Ok(()),
        };
        let before = self.state;
        match mended
            .map_err(|error| (error, 0))
            .and_then(|()| self.output.write_lines(bytes))
        {
            Ok(()) => self.state = State::Good,
            Err((error, written)) => {
                let torn = written > 0 || before == State::Torn;
                self.state = if torn { State::Torn } else { State::Failing };
                let lost = match written {
                    0 => records,
                    _ => memchr::memchr_iter(b'\n', &bytes[written..]).count() as u64,
                };
                self.shared.failed.fetch_add(lost, Ordering::Relaxed);
                if before == State::Good {
                    eprintln!(
                        "kakehi: the access log cannot be written, records are lost: {error}"
                    );
                }
            }
        }
    }
}

/// How the last writing went; a failure is told once, not for each chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    Failing,
    /// Failing, and in the middle of a line.
    Torn,
}

/// Where a log goes.
#[derive(Debug)]
pub(super) struct Output {
    /// `None`: it could not be opened yet.
    opened: Option<Opened>,
    /// `None` for the standard output, which cannot be opened anew.
    path: Option<PathBuf>,
    tried_at: Instant,
}

#[derive(Debug)]
struct Opened {
    file: File,
    /// Largest piece that nobody else's writing can interrupt.
    whole_bytes_max: usize,
    /// The standard output is a terminal; programs read JSON from anything else.
    for_people: bool,
}

impl Output {
    /// Opens the standard output or a file.
    pub(super) fn open(target: &str) -> io::Result<Self> {
        let mut output = Self::missing(target);
        output.opened = Some(match &output.path {
            None => Opened::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), true)?,
            Some(path) => Opened::new(open_file(path)?, false)?,
        });
        Ok(output)
    }

    /// One that is still to be opened.
    fn missing(target: &str) -> Self {
        Self {
            opened: None,
            path: (target != "stdout").then(|| PathBuf::from(target)),
            tried_at: Instant::now(),
        }
    }

    fn is_for_people(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.for_people)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.tried_at = Instant::now();
        if let Some(path) = &self.path {
            self.opened = Some(Opened::new(open_file(path)?, false)?);
        }
        Ok(())
    }

    /// What can be written to; one that is missing is tried again at most every second.
    fn there(&mut self) -> io::Result<&mut Opened> {
        if self.opened.is_none() && self.tried_at.elapsed() >= MISSING_RETRY {
            self.reopen()?;
        }
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is still missing");
        self.opened.as_mut().ok_or_else(missing)
    }

    /// Writes whole lines, as many at once as stay together; tells what was written before an error.
    fn write_lines(&mut self, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
        let opened = self.there().map_err(|error| (error, 0))?;
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let piece = match rest.get(..opened.whole_bytes_max) {
                None => rest,
                Some(fitting) => {
                    // A line that does not fit is written at once all the same.
                    let end =
                        memchr::memrchr(b'\n', fitting).or_else(|| memchr::memchr(b'\n', rest));
                    &rest[..end.map_or(rest.len(), |newline| newline + 1)]
                }
            };
            opened.write(piece).map_err(|error| (error, written))?;
            written += piece.len();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.there()?.write(bytes)
    }
}

impl Opened {
    fn new(file: File, is_standard: bool) -> io::Result<Self> {
        // All workers write into one file. The kernel keeps writes to a regular file apart, whatever
        // their size; on a pipe only those up to PIPE_BUF.
        let whole_bytes_max = match file.metadata()?.is_file() {
            true => usize::MAX,
            false => libc::PIPE_BUF,
        };
        let for_people = is_standard && file.is_terminal();
        Ok(Self {
            file,
            whole_bytes_max,
            for_people,
        })
    }

    /// Writes all, also to a descriptor that somebody who shares it has set to non-blocking.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Opens a file to append to. Without `O_NONBLOCK`, opening a pipe would wait for its reader, and
/// with it the transaction that asked for this log.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok(file);
    }
    Err(io::Error::other("expected a regular file"))
}

/// A log tells who visited what: for its owner and the group that reads logs.
const FILE_MODE: u32 = 0o640;
const RETRY: Duration = Duration::from_millis(5);
const MISSING_RETRY: Duration = Duration::from_secs(1);
