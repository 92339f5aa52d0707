//! TLS records in, plaintext out, and the other way round: rustls without its I/O.
//!
//! Pure: bytes that came and bytes to send are the caller's. Between two calls a machine holds the
//! key schedule and nothing else; neither plaintext nor records wait in it, so an idle connection
//! costs no buffer. Used by `session::transport`.

use rustls::Error;
use rustls::client::UnbufferedClientConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

/// Most plaintext of one record (RFC 8446 §5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Most bytes that a record adds to its plaintext with the AEAD suites that rustls has: header,
/// explicit nonce, content type, tag (RFC 8446 §5.2, RFC 5288 §3), rounded up.
const RECORD_OVERHEAD_MAX: usize = 64;

/// A fatal alert in clear text, as it is before keys are agreed on (RFC 8446 §6).
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Records to send, in a buffer that keeps its length: only growing it costs anything.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    filled: usize,
}

impl Records {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// What has been written.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Room behind it; what is written there counts once it is [`Records::add`]ed.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.filled + bytes;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.filled..end]
    }

    fn add(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Says by its name what rustls calls a denial of access, and denies for no other reason: there is no
    /// certificate for the host that a client asks for (RFC 6066 §3).
    fn name_the_alert(&mut self) {
        if let Some(rest) = self.bytes[..self.filled].strip_suffix(&ACCESS_DENIED) {
            let start = rest.len();
            self.bytes[start..self.filled].copy_from_slice(&UNRECOGNIZED_NAME);
        }
    }
}

/// One end of a TLS connection.
pub enum Machine {
    /// Towards a client.
    Server(Box<UnbufferedServerConnection>),
    /// Towards a backend.
    Client(Box<UnbufferedClientConnection>),
}

/// What one call of [`Machine::receive`] made of the bytes.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records used up at the front of the input.
    pub consumed: usize,
    /// Plaintext written to the front of the room.
    pub plaintext: usize,
    /// It came before the handshake was complete: whoever saw it on its way can send it again.
    pub early: bool,
    /// The peer has said that it sends no more (`close_notify`).
    pub ended: bool,
}

impl Machine {
    /// Takes what is complete at the front of `input`, which is overwritten; plaintext goes to the
    /// front of `room`, records to send (of the handshake, alerts) are appended to `out`. What is not
    /// consumed must be given again, unchanged, with what comes behind it.
    ///
    /// `room` must be at least as long as `input`.
    ///
    /// # Errors
    /// The peer broke the protocol, or cannot agree with us; the alert to send is in `out`.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        room: &mut [u8],
        out: &mut Records,
    ) -> Result<Progress, Error> {
        let mut progress = Progress::default();
        loop {
            let rest = &mut input[progress.consumed..];
            let room = &mut room[progress.plaintext..];
            let step = match self {
                Self::Server(tls) => advance_server(tls.process_tls_records(rest), room, out),
                Self::Client(tls) => advance(tls.process_tls_records(rest), room, out),
            };
            progress.consumed += step.discard;
            match step.outcome {
                Ok(Outcome::Plaintext(count)) => progress.plaintext += count,
                Ok(Outcome::EarlyData(count)) => {
                    progress.plaintext += count;
                    progress.early = true;
                }
                Ok(Outcome::GoOn) => {}
                Ok(Outcome::PeerClosed) => progress.ended = true,
                Ok(Outcome::Blocked) => return Ok(progress),
                Err(error) => {
                    self.append_alerts(out);
                    out.name_the_alert();
                    return Err(error);
                }
            }
        }
    }

    /// Encrypts `plaintext` behind `out`. `pending` is what [`Machine::receive`] left unconsumed:
    /// rustls keeps positions in it.
    ///
    /// # Errors
    /// The keys have been used too often, or the connection is not open.
    pub fn send(
        &mut self,
        plaintext: &[u8],
        pending: &mut [u8],
        out: &mut Records,
    ) -> Result<(), EncryptError> {
        let records = plaintext.len().div_ceil(RECORD_BYTES_MAX);
        let room = plaintext.len() + records * RECORD_OVERHEAD_MAX;
        self.write(pending, out, room, Write::Data(plaintext))
    }

    /// Appends the alert that says that we send no more; nothing if that cannot be said.
    pub fn close(&mut self, pending: &mut [u8], out: &mut Records) {
        // Closing comes after whatever could be lost by failing.
        let _ = self.write(pending, out, RECORD_OVERHEAD_MAX, Write::Close);
    }

    /// What has been agreed on so far.
    #[must_use]
    pub fn common(&self) -> &CommonState {
        match self {
            Self::Server(tls) => tls,
            Self::Client(tls) => tls,
        }
    }

    /// Whether the handshake is complete.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.common().is_handshaking()
    }

    /// The protocol that was agreed on (RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// The version that was agreed on, as configurations and logs call it.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.common().protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "",
        }
    }

    /// What the peer has proved to be: its certificate in DER, without the chain.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = self.common().peer_certificates()?;
        chain.first().map(AsRef::as_ref)
    }

    /// Whether the handshake was shortened by a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn write(
        &mut self,
        pending: &mut [u8],
        out: &mut Records,
        room: usize,
        what: Write<'_>,
    ) -> Result<(), EncryptError> {
        loop {
            let done = match self {
                Self::Server(tls) => write(tls.process_tls_records(pending), out, room, what),
                Self::Client(tls) => write(tls.process_tls_records(pending), out, room, what),
            }?;
            if done {
                return Ok(());
            }
        }
    }

    /// The alerts that an error has queued. Records are looked at only after the last of them, which
    /// must not happen any more.
    fn append_alerts(&mut self, out: &mut Records) {
        while self.common().wants_write() {
            let step = match self {
                Self::Server(tls) => advance(tls.process_tls_records(&mut []), &mut [], out),
                Self::Client(tls) => advance(tls.process_tls_records(&mut []), &mut [], out),
            };
            if step.outcome.is_err() {
                return;
            }
        }
    }
}

/// One state of rustls, acted on.
struct Step {
    discard: usize,
    outcome: Result<Outcome, Error>,
}

enum Outcome {
    Plaintext(usize),
    EarlyData(usize),
    GoOn,
    PeerClosed,
    Blocked,
}

/// As [`advance`], with what only a server can meet.
fn advance_server(
    status: UnbufferedStatus<'_, '_, ServerConnectionData>,
    room: &mut [u8],
    out: &mut Records,
) -> Step {
    match status {
        UnbufferedStatus {
            mut discard,
            state: Ok(ConnectionState::ReadEarlyData(mut early)),
        } => {
            let mut count = 0;
            while let Some(Ok(record)) = early.next_record() {
                room[count..count + record.payload.len()].copy_from_slice(record.payload);
                count += record.payload.len();
                discard += record.discard;
            }
            Step {
                discard,
                outcome: Ok(Outcome::EarlyData(count)),
            }
        }
        status => advance(status, room, out),
    }
}

fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    room: &mut [u8],
    out: &mut Records,
) -> Step {
    let UnbufferedStatus { mut discard, state } = status;
    let outcome = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut count = 0;
            while let Some(record) = traffic.next_record() {
                let record = record?;
                room[count..count + record.payload.len()].copy_from_slice(record.payload);
                count += record.payload.len();
                discard += record.discard;
            }
            Ok(Outcome::Plaintext(count))
        }
        ConnectionState::EncodeTlsData(mut data) => {
            encode(&mut data, out)?;
            Ok(Outcome::GoOn)
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is in `out`, which the caller sends in order.
            data.done();
            Ok(Outcome::GoOn)
        }
        ConnectionState::PeerClosed => Ok(Outcome::PeerClosed),
        ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_)
        | ConnectionState::Closed => Ok(Outcome::Blocked),
        // rustls may add states.
        _ => Err(Error::General("an unexpected state of rustls".into())),
    });
    Step { discard, outcome }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Records) -> Result<(), Error> {
    let mut room = 4096;
    loop {
        match data.encode(out.room(room)) {
            Ok(count) => {
                out.add(count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => room = size.required_size,
            Err(error @ EncodeError::AlreadyEncoded) => {
                return Err(Error::General(error.to_string()));
            }
        }
    }
}

/// What to write when the connection lets us.
#[derive(Clone, Copy)]
enum Write<'a> {
    Data(&'a [u8]),
    Close,
}

/// Whether it is done; something of the protocol's own may have to go first.
fn write<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Records,
    room: usize,
    what: Write<'_>,
) -> Result<bool, EncryptError> {
    debug_assert_eq!(status.discard, 0);
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let written = match what {
                Write::Data(plaintext) => traffic.encrypt(plaintext, out.room(room)),
                Write::Close => traffic.queue_close_notify(out.room(room)),
            }?;
            out.add(written);
            Ok(true)
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out)
            .map(|()| false)
            .map_err(|_| EncryptError::EncryptExhausted),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(false)
        }
        // Nothing can be sent on a connection that is not open.
        _ => Err(EncryptError::EncryptExhausted),
    }
}
