//! One check under way: a connection, TLS over it where that is asked for, and what is said there.
//!
//! Rule: it never waits; whoever has the loop calls [`Probe::advance`] when its socket is ready, and drops it when its
//! time is over. Called by [`super::prober`].

use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use rustls::ClientConnection;

use super::talk::{Talk, Verdict, preamble};
use super::target::Way;
use crate::runtime::socket::Stream;
use crate::state::entity::HealthCheck;
use crate::tls::fault::TlsFault;

/// A check under way.
pub struct Probe {
    stream: Stream,
    tls: Option<Box<ClientConnection>>,
    talk: Talk,
    is_connected: bool,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Probe {
    /// Begins one.
    ///
    /// # Errors
    /// When no connection can be begun.
    pub fn begin(way: &Way, check: &HealthCheck) -> io::Result<Self> {
        let (talk, first) = Talk::begin(check, &way.host)
            .ok_or_else(|| io::Error::other("this version cannot ask so"))?;
        let mut tls = match &way.tls {
            None => None,
            Some((config, name)) => {
                let tls = ClientConnection::new(config.clone(), name.clone());
                Some(Box::new(tls.map_err(io::Error::other)?))
            }
        };
        let mut unsent = way.proxy_protocol.map_or(&b""[..], preamble).to_vec();
        match &mut tls {
            None => unsent.extend_from_slice(&first),
            // Kept there until the handshake is complete.
            Some(tls) => tls.writer().write_all(&first)?,
        }
        Ok(Self {
            stream: way.endpoint.connect()?,
            tls,
            talk,
            is_connected: false,
            unsent,
        })
    }

    /// The socket, for the driver.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.stream.raw()
    }

    /// Whether a connection has been made: what is waited for since is an answer.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Does what can be done by now; a verdict, if there is one.
    pub fn advance(&mut self, room: &mut [u8]) -> Option<Verdict> {
        match self.go_on(room) {
            Ok(verdict) => verdict,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(said(&error))),
        }
    }

    fn go_on(&mut self, room: &mut [u8]) -> io::Result<Option<Verdict>> {
        if !self.is_connected {
            // Of no bytes at all: it tells how the connect has ended, if it has.
            self.stream.send(b"", b"")?;
            self.is_connected = true;
        }
        loop {
            if self.flush()? && self.is_open() {
                let opened = self.talk.opened();
                if opened.is_some() {
                    return Ok(opened);
                }
            }
            let count = self.stream.receive(room)?;
            if count == 0 {
                return Ok(Some(self.talk.ended()));
            }
            let verdict = match self.tls.is_some() {
                false => self.talk.take(&room[..count]),
                true => match self.decrypted(&room[..count])? {
                    Ok(verdict) => verdict,
                    Err(fault) => Some(Err(fault)),
                },
            };
            if verdict.is_some() {
                return Ok(verdict);
            }
        }
    }

    fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Sends what there is; whether all of it went.
    fn flush(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.unsent)?;
            }
        }
        while !self.unsent.is_empty() {
            match self.stream.send(&self.unsent, b"") {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What is said in records; the inner error is a fault of TLS.
    fn decrypted(&mut self, mut records: &[u8]) -> io::Result<Result<Option<Verdict>, String>> {
        let Some(tls) = &mut self.tls else {
            return Ok(Ok(None));
        };
        let mut plain = Vec::new();
        while !records.is_empty() {
            tls.read_tls(&mut records)?;
            if let Err(error) = tls.process_new_packets() {
                let fault = TlsFault::of(&error).as_str();
                return Ok(Err(format!("TLS failed: {fault}")));
            }
            match tls.reader().read_to_end(&mut plain) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let verdict = match plain.as_slice() {
            [] => None,
            plain => self.talk.take(plain),
        };
        Ok(Ok(verdict))
    }
}

/// An error of the system, as people read it.
pub(super) fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it refused the connection".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "it reset the connection".to_owned()
        }
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::TimedOut => "it did not answer".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}
