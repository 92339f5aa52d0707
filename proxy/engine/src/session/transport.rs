//! A connection's bytes as the session sees them: plaintext, whatever travels below.
//!
//! Sending and receiving mean the same in clear text and over TLS, with two differences that the
//! caller has to know: a receive may bring nothing but protocol ([`Received::bytes`] 0 without an
//! end), and what was taken for sending may still wait here as records ([`Transport::has_unsent`]).

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};

use crate::protocol::tls::{Machine, RECORD_BYTES_MAX, Records};
use crate::runtime::buffer::{BufferPool, ByteQueue};
use crate::runtime::socket::Stream;
use crate::session::front::client::split_left;
use crate::session::plain::Plain;
use crate::tls::fault::TlsFault;

/// Plaintext encrypted for one `send`; what is behind it waits for the socket first.
const PLAINTEXT_PER_SEND: usize = 16 * RECORD_BYTES_MAX;

/// Most bytes of an incomplete record or handshake message that may wait: rustls refuses handshake
/// messages of 64 KiB, and a record is at most 18 KiB.
const PENDING_BYTES_MAX: usize = 96 * 1024;

/// Read at once for a stream of a connection that carries many, and for all when much waits.
const SMALL_READ_BYTES: usize = 32 * 1024;

/// What one receive brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// Bytes of plaintext in the room.
    pub(super) bytes: usize,
    /// The socket may hold more.
    pub(super) more: bool,
    /// The peer sends no more.
    pub(super) ended: bool,
}

/// Buffers that all TLS connections of an engine share; none are held without one.
#[derive(Default)]
pub(super) struct TlsBuffers {
    /// Records as they came.
    input: Vec<u8>,
    /// Records to send.
    output: Records,
}

/// One connection, in clear text or over TLS.
pub(super) enum Transport {
    /// TCP alone.
    Plain(Plain),
    /// TLS over TCP.
    Tls(Box<Secure>),
    /// What is left while it becomes another kind; never seen.
    Gone,
}

/// A connection over TLS.
pub(super) struct Secure {
    stream: Stream,
    machine: Machine,
    /// Received and not yet complete.
    pending: ByteQueue,
    /// Encrypted and not yet taken by the socket.
    unsent: ByteQueue,
    /// Whether the handshake is complete, as far as the session has been told.
    told_open: bool,
    /// Data came before the handshake was complete, and may be answered before that (RFC 8446 §2.3).
    early: bool,
    /// The peer has said that it sends no more; the end of its stream may never come.
    peer_ended: bool,
    /// Why it can go on no more.
    fault: Option<TlsFault>,
    /// What it was asked for, where that is needed when it is open.
    name: Option<Box<str>>,
}

impl Transport {
    /// The server's end of a TLS connection.
    ///
    /// # Errors
    /// When rustls cannot begin, for want of random bytes.
    pub(super) fn accept_tls(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Secure::new(
            stream,
            Machine::Server(Box::new(tls)),
        ))))
    }

    /// The client's end of a TLS connection to `name`; [`Transport::begin`] sends the first record.
    ///
    /// # Errors
    /// When rustls cannot begin, for want of random bytes.
    pub(super) fn connect_tls(
        stream: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Secure::new(
            stream,
            Machine::Client(Box::new(tls)),
        ))))
    }

    /// Leaves TLS to others, before any byte of it was taken: what comes is passed on unread.
    pub(super) fn leave_tls(&mut self) {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Tls(secure) => Self::Plain(Plain::new(secure.stream)),
            other => other,
        };
    }

    /// Begins the server's handshake by other rules, before any byte of it was taken. Without random bytes
    /// the ones there are stay.
    pub(super) fn restart_tls(&mut self, config: Arc<ServerConfig>) {
        if let (Self::Tls(secure), Ok(tls)) = (self, UnbufferedServerConnection::new(config)) {
            secure.machine = Machine::Server(Box::new(tls));
        }
    }

    /// Keeps the name that a client has asked for.
    pub(super) fn keep_name(&mut self, name: &str) {
        if let Self::Tls(secure) = self {
            secure.name = Some(name.into());
        }
    }

    /// Takes that name.
    pub(super) fn take_name(&mut self) -> Option<Box<str>> {
        match self {
            Self::Plain(_) | Self::Gone => None,
            Self::Tls(secure) => secure.name.take(),
        }
    }

    /// Whether what has come may have been sent by somebody else, who once saw it on its way: the
    /// handshake that tells has begun and is not complete.
    pub(super) fn is_early(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Gone => false,
            Self::Tls(secure) => secure.early && !secure.machine.is_open(),
        }
    }

    /// The version of TLS that was agreed on; empty in clear text.
    pub(super) fn tls_version(&self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Gone => "",
            Self::Tls(secure) => secure.machine.version(),
        }
    }

    /// Starts the client's handshake on a socket that may still be connecting; `preamble` goes before
    /// it.
    ///
    /// # Errors
    /// `WouldBlock` while it is connecting; otherwise the connect has failed.
    pub(super) fn begin(
        &mut self,
        buffers: &mut TlsBuffers,
        pool: &mut BufferPool,
        preamble: &[u8],
    ) -> io::Result<()> {
        let Self::Tls(secure) = self else {
            return Ok(());
        };
        if secure.unsent.is_empty() {
            buffers.output.clear();
            secure
                .machine
                .receive(&mut [], &mut [], &mut buffers.output)
                .map_err(io::Error::other)?;
            secure.unsent.push(pool, preamble);
            secure.unsent.push(pool, buffers.output.as_slice());
        }
        secure.flush(pool)
    }

    fn stream(&self) -> Option<&Stream> {
        match self {
            Self::Plain(plain) => Some(&plain.stream),
            Self::Tls(secure) => Some(&secure.stream),
            Self::Gone => None,
        }
    }

    /// The descriptor, for registration with the driver.
    pub(super) fn raw(&self) -> Option<RawFd> {
        self.stream().map(Stream::raw)
    }

    /// See [`Stream::peek`]: what has come, whatever is spoken above.
    ///
    /// # Errors
    /// As [`Stream::receive`].
    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = self.stream().ok_or(io::ErrorKind::WouldBlock)?;
        stream.peek(buffer)
    }

    /// Takes bytes that have been looked at, exactly as many as `buffer` has room for.
    ///
    /// # Errors
    /// When they are not there any more, which nobody else can have done.
    pub(super) fn discard(&self, buffer: &mut [u8]) -> io::Result<()> {
        let stream = self.stream().ok_or(io::ErrorKind::WouldBlock)?;
        match stream.receive(buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// See [`Stream::is_quiet`]; over TLS a record may be half there.
    pub(super) fn is_quiet(&self) -> bool {
        self.stream().is_some_and(Stream::is_quiet)
    }

    /// Whether the peer's end of stream is one that nobody between us can have made: over TLS it has
    /// to be announced (RFC 8446 §6.1).
    pub(super) fn ended_in_order(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Gone => true,
            Self::Tls(secure) => secure.peer_ended,
        }
    }

    /// See [`Stream::reset_on_close`].
    pub(super) fn reset_on_close(&self) {
        if let Some(stream) = self.stream() {
            stream.reset_on_close();
        }
    }

    /// The TLS side of it, if there is one.
    pub(super) fn tls(&self) -> Option<&Machine> {
        match self {
            Self::Plain(_) | Self::Gone => None,
            Self::Tls(secure) => Some(&secure.machine),
        }
    }

    /// Whether the handshake has been completed since this was last asked.
    pub(super) fn has_just_opened(&mut self) -> bool {
        match self {
            Self::Plain(_) | Self::Gone => false,
            Self::Tls(secure) => {
                let opened = !secure.told_open && secure.machine.is_open();
                secure.told_open |= opened;
                opened
            }
        }
    }

    /// What was wrong with TLS, if that is why it has failed.
    pub(super) fn tls_fault(&self) -> Option<TlsFault> {
        match self {
            Self::Plain(_) | Self::Gone => None,
            Self::Tls(secure) => secure.fault,
        }
    }

    /// Whether records wait for the socket, or bytes that have been passed on.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Gone => false,
            Self::Plain(plain) => plain.unsent_bytes() > 0,
            Self::Tls(secure) => !secure.unsent.is_empty(),
        }
    }

    /// How many bytes of them wait for the socket.
    pub(super) fn unsent_bytes(&self) -> usize {
        match self {
            Self::Gone => 0,
            Self::Plain(plain) => plain.unsent_bytes(),
            Self::Tls(secure) => secure.unsent.len(),
        }
    }

    /// Room for a small read: behind what has come of a record, or of a message of the handshake, there
    /// must be some for the rest of it.
    pub(super) fn room_min(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Gone => SMALL_READ_BYTES,
            Self::Tls(secure) => secure.pending.len() + SMALL_READ_BYTES,
        }
    }

    /// Receives plaintext into `room`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise the connection is dead, and the peer has been
    /// told why as far as it listens.
    pub(super) fn receive(
        &mut self,
        buffers: &mut TlsBuffers,
        pool: &mut BufferPool,
        room: &mut [u8],
    ) -> io::Result<Received> {
        match self {
            Self::Plain(plain) => plain.stream.receive(room).map(|bytes| Received {
                bytes,
                more: bytes == room.len(),
                ended: bytes == 0,
            }),
            Self::Tls(secure) => secure.receive(buffers, pool, room),
            Self::Gone => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends the two parts as one; returns how many bytes of both were taken.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be taken now; otherwise the connection is dead.
    pub(super) fn send(
        &mut self,
        buffers: &mut TlsBuffers,
        pool: &mut BufferPool,
        first: &[u8],
        second: &[u8],
    ) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.send(pool, first, second),
            Self::Tls(secure) => secure.send(buffers, pool, first, second),
            Self::Gone => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ends our sending side; everything sent must have been taken by the socket.
    pub(super) fn shutdown_write(&mut self, buffers: &mut TlsBuffers) {
        if let Self::Tls(secure) = self {
            secure.say_goodbye(buffers);
        }
        if let Some(stream) = self.stream() {
            stream.shutdown_write();
        }
    }

    /// Gives the buffers back.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        match self {
            Self::Plain(plain) => plain.release(pool),
            Self::Tls(secure) => {
                secure.pending.clear(pool);
                secure.unsent.clear(pool);
            }
            Self::Gone => {}
        }
    }
}

impl Secure {
    fn new(stream: Stream, machine: Machine) -> Self {
        Self {
            stream,
            machine,
            pending: ByteQueue::default(),
            unsent: ByteQueue::default(),
            told_open: false,
            early: false,
            peer_ended: false,
            fault: None,
            name: None,
        }
    }

    fn receive(
        &mut self,
        buffers: &mut TlsBuffers,
        pool: &mut BufferPool,
        room: &mut [u8],
    ) -> io::Result<Received> {
        if self.peer_ended {
            return Ok(Received {
                ended: true,
                ..Received::default()
            });
        }
        let waiting = self.pending.len();
        // Plaintext is shorter than its records: what is received here fits into the room.
        let limit = room.len();
        if waiting >= limit {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if buffers.input.len() < limit {
            buffers.input.resize(limit, 0);
        }
        buffers.input[..waiting].copy_from_slice(self.pending.as_slice());
        let space = &mut buffers.input[waiting..limit];
        let count = self.stream.receive(space)?;
        if count == 0 {
            return Ok(Received {
                ended: true,
                ..Received::default()
            });
        }
        let more = count == space.len();
        let input = &mut buffers.input[..waiting + count];
        buffers.output.clear();
        let outcome = self.machine.receive(input, room, &mut buffers.output);
        self.fault = outcome.as_ref().err().map(TlsFault::of);
        self.pass_on(pool, buffers.output.as_slice())?;
        let progress =
            outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let rest = &input[progress.consumed..];
        if rest.len() > PENDING_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.pending.replace(pool, rest);
        self.peer_ended = progress.ended;
        self.early |= progress.early;
        Ok(Received {
            bytes: progress.plaintext,
            more,
            ended: progress.ended,
        })
    }

    fn send(
        &mut self,
        buffers: &mut TlsBuffers,
        pool: &mut BufferPool,
        first: &[u8],
        second: &[u8],
    ) -> io::Result<usize> {
        self.flush(pool)?;
        if !self.machine.is_open() && !self.early {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let total = first.len() + second.len();
        let mut taken = 0;
        // Until the socket is full: only then will the driver tell when it has room again.
        while taken < total && self.unsent.is_empty() {
            let (first_left, second_left) = split_left(first, second, taken);
            let first_part = &first_left[..first_left.len().min(PLAINTEXT_PER_SEND)];
            let second_room = PLAINTEXT_PER_SEND - first_part.len();
            let second_part = match first_part.len() == first_left.len() {
                true => &second_left[..second_left.len().min(second_room)],
                false => &[],
            };
            buffers.output.clear();
            for part in [first_part, second_part] {
                if !part.is_empty() {
                    self.machine
                        .send(part, self.pending.as_mut_slice(), &mut buffers.output)
                        .map_err(|_| io::ErrorKind::ConnectionAborted)?;
                }
            }
            taken += first_part.len() + second_part.len();
            self.pass_on(pool, buffers.output.as_slice())?;
        }
        Ok(taken)
    }

    /// Sends what waits.
    fn flush(&mut self, pool: &mut BufferPool) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = self.stream.send(self.unsent.as_slice(), &[])?;
            self.unsent.consume(pool, count);
        }
        Ok(())
    }

    /// Sends records behind what waits; what the socket does not take waits too.
    fn pass_on(&mut self, pool: &mut BufferPool, records: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        if self.unsent.is_empty() && !records.is_empty() {
            match self.stream.send(records, &[]) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.push(pool, &records[sent..]);
        Ok(())
    }

    fn say_goodbye(&mut self, buffers: &mut TlsBuffers) {
        if !self.unsent.is_empty() || !self.machine.is_open() {
            return;
        }
        buffers.output.clear();
        self.machine
            .close(self.pending.as_mut_slice(), &mut buffers.output);
        // A peer that takes no alert now will see the end of the stream instead.
        let _ = self.stream.send(buffers.output.as_slice(), &[]);
    }
}
