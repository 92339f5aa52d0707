//! A connection in clear text: its socket, and what waits for that in a pipe.
//!
//! Rule: what is in the pipe goes first, as records do over TLS, and nothing else is begun before it has gone.
//! Called by `transport`, and by `l4::splice` where neither side's bytes are to be looked at.

use std::io;

use crate::runtime::buffer::BufferPool;
use crate::runtime::pipe::Pipe;
use crate::runtime::socket::Stream;

/// Passed on at once, and the filling of a pipe that exceeds it; what is behind waits for its turn. To fill no more
/// than what is left of this would take 1.4 of the processor time for long bodies.
const BYTES_PER_TURN: usize = 256 * 1024;

/// The socket of a connection in clear text.
pub(super) struct Plain {
    pub(super) stream: Stream,
    /// Passed on, and not yet taken by the socket.
    pipe: Option<Box<Pipe>>,
}

/// Where passing on has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// There may be more.
    More,
    /// There is nothing else for now.
    Drained,
    /// The sender sends no more.
    Ended,
    /// The sender's connection is dead.
    SenderLost,
    /// The receiver's is.
    ReceiverLost,
}

/// What passing on has brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    /// Bytes that the sender has given.
    pub(super) bytes: usize,
    pub(super) then: Then,
}

impl Plain {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, pipe: None }
    }

    /// Bytes that wait for the socket.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.len())
    }

    /// Sends the two parts as one, after what waits; returns how many bytes of both were taken.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub(super) fn send(
        &mut self,
        pool: &mut BufferPool,
        first: &[u8],
        second: &[u8],
    ) -> io::Result<usize> {
        if self.pipe.is_some() {
            self.flush(pool)?;
            if first.is_empty() && second.is_empty() {
                return Ok(0);
            }
        }
        self.stream.send(first, second)
    }

    fn flush(&mut self, pool: &mut BufferPool) -> io::Result<()> {
        while let Some(pipe) = self.pipe.as_mut() {
            pool.release(pipe.empty(self.stream.raw())?);
            if pipe.is_empty() {
                self.release(pool);
            }
        }
        Ok(())
    }

    /// Gives the pipe back, with what is in it.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        if let Some(pipe) = self.pipe.take() {
            pool.release(pipe.len());
            pool.pipes.give(*pipe);
        }
    }

    /// Gives at most so many bytes of what has come to a receiver for whom nothing waits. `None` without a
    /// pipe to do it by.
    pub(super) fn pass_on(
        &mut self,
        receiver: &mut Self,
        pool: &mut BufferPool,
        most: u64,
    ) -> Option<Passed> {
        debug_assert!(receiver.pipe.is_none());
        let mut pipe = pool.pipes.take()?;
        let mut bytes = 0;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let then = loop {
            if bytes >= most || bytes >= BYTES_PER_TURN {
                break Then::More;
            }
            match pipe.fill(self.stream.raw(), most - bytes) {
                Ok(0) => break Then::Ended,
                Ok(count) => bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Then::Drained,
                Err(_) => break Then::SenderLost,
            }
            match empty(&mut pipe, &receiver.stream) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Then::More,
                Err(_) => break Then::ReceiverLost,
            }
        };
        if pipe.is_empty() || then == Then::ReceiverLost {
            pool.pipes.give(pipe);
        } else {
            pool.hold(pipe.len());
            receiver.pipe = Some(Box::new(pipe));
        }
        Some(Passed { bytes, then })
    }
}

/// Until the socket is full: only then will the driver tell when it has room again.
fn empty(pipe: &mut Pipe, stream: &Stream) -> io::Result<()> {
    while !pipe.is_empty() {
        pipe.empty(stream.raw())?;
    }
    Ok(())
}
