//! Pipes by which bytes pass from one socket to another without being looked at (splice(2)): pages change
//! hands, and nothing is copied.
//!
//! Rule: a pipe is filled only while it is empty, so that one which cannot take more never looks like a
//! socket that has no more. What is in a pipe when its connection ends goes with it. A socket whose peer
//! has gone raises SIGPIPE here, which can be told of `send` and not of `splice`: the worker ignores it,
//! as every Python and every Rust program does.
//!
//! Invariant of the `unsafe` here: descriptors returned by the kernel are owned exactly once, and the only
//! pointer is that of a live array.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a pipe holds, as the kernel counts it: 4 KiB for each part of a page, however little is in it. Most that
/// it allows to others than root, and not for ever more of them: 64 MiB for all pipes of a user (pipe(7)).
const PIPE_BYTES: usize = 1024 * 1024;

/// Pipes of one engine, two descriptors each: those who find none left copy.
const PIPES_MAX: usize = 64;

/// Pipes that are not asked for after one could not be had.
const TAKES_REFUSED: u32 = 1000;

/// A pipe, which nobody else reads or writes.
#[derive(Debug)]
pub struct Pipe {
    reading: OwnedFd,
    writing: OwnedFd,
    filled: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two descriptors into a live array of two.
        let failed =
            unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0;
        if failed {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us both, and nobody else owns them.
        let [reading, writing] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let size = PIPE_BYTES as libc::c_int;
        // SAFETY: no pointers.
        if unsafe { libc::fcntl(writing.as_raw_fd(), libc::F_SETPIPE_SZ, size) } < 0 {
            // Where many have been made they begin with 8 KiB, by which nothing is gained.
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            reading,
            writing,
            filled: 0,
        })
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes at most so many bytes from a socket; 0 is the end of its stream. There must be none here.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise the connection is dead.
    pub fn fill(&mut self, socket: RawFd, most: usize) -> io::Result<usize> {
        debug_assert!(self.is_empty());
        let count = splice(socket, self.writing.as_raw_fd(), most.min(PIPE_BYTES))?;
        self.filled = count;
        Ok(count)
    }

    /// Gives what it holds to a socket; returns how many bytes that took.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full; otherwise the connection is dead.
    pub fn empty(&mut self, socket: RawFd) -> io::Result<usize> {
        let count = splice(self.reading.as_raw_fd(), socket, self.filled)?;
        self.filled -= count;
        Ok(count)
    }
}

fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    loop {
        // SAFETY: no offsets, which are the only pointers; descriptors are passed by value.
        let count = unsafe {
            libc::splice(
                from,
                std::ptr::null_mut(),
                to,
                std::ptr::null_mut(),
                most,
                flags,
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The pipes of one engine thread.
#[derive(Debug, Default)]
pub struct Pipes {
    spare: Vec<Pipe>,
    lent: usize,
    /// As many times more it is not tried to make one.
    refused: u32,
}

impl Pipes {
    /// An empty pipe, if there may be one more.
    pub fn take(&mut self) -> Option<Pipe> {
        self.take_or_make(Pipe::new)
    }

    fn take_or_make(&mut self, make: impl FnOnce() -> io::Result<Pipe>) -> Option<Pipe> {
        if self.lent >= PIPES_MAX {
            return None;
        }
        let pipe = match self.spare.pop() {
            Some(pipe) => pipe,
            None if self.refused > 0 => {
                self.refused -= 1;
                return None;
            }
            None => match make() {
                Ok(pipe) => pipe,
                Err(_) => {
                    self.refused = TAKES_REFUSED;
                    return None;
                }
            },
        };
        self.lent += 1;
        Some(pipe)
    }

    /// Takes one back: it is closed if bytes are left in it.
    pub fn give(&mut self, pipe: Pipe) {
        self.lent -= 1;
        if pipe.is_empty() {
            self.spare.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let (far, _) = door.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    fn filled(pipe: &mut Pipe, socket: &TcpStream, most: usize) -> usize {
        loop {
            match pipe.fill(socket.as_raw_fd(), most) {
                Ok(count) => return count,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn bytes_pass_as_they_are_and_so_does_an_end() {
        let (from, mut sender) = pair();
        let (to, mut receiver) = pair();
        let mut pipe = Pipe::new().unwrap();
        sender.write_all(b"hello").unwrap();
        assert_eq!(filled(&mut pipe, &from, 4), 4);
        assert_eq!(pipe.empty(to.as_raw_fd()).unwrap(), 4);
        assert!(pipe.is_empty());
        drop(sender);
        assert_eq!(filled(&mut pipe, &from, 100), 1);
        pipe.empty(to.as_raw_fd()).unwrap();
        assert_eq!(filled(&mut pipe, &from, 100), 0);
        drop(to);
        let mut got = Vec::new();
        receiver.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"hello");
    }

    #[test]
    fn a_socket_that_takes_no_more_leaves_the_rest_in_the_pipe() {
        let (from, mut sender) = pair();
        let (to, _receiver) = pair();
        let mut pipe = Pipe::new().unwrap();
        from.set_nonblocking(false).unwrap();
        let left = loop {
            sender.write_all(&[1; 10_000]).unwrap();
            filled(&mut pipe, &from, 10_000);
            while !pipe.is_empty() {
                match pipe.empty(to.as_raw_fd()) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if !pipe.is_empty() {
                break pipe.len();
            }
        };
        assert!((1..=10_000).contains(&left));
    }

    #[test]
    fn after_one_that_could_not_be_had_none_is_asked_for_in_a_while() {
        let mut pipes = Pipes::default();
        let mut asked = 0;
        for _ in 0..2 * (TAKES_REFUSED + 1) {
            let made = pipes.take_or_make(|| {
                asked += 1;
                Err(io::ErrorKind::PermissionDenied.into())
            });
            assert!(made.is_none());
        }
        assert_eq!((asked, pipes.lent), (2, 0));
        pipes.refused = 0;
        let kept = pipes.take().unwrap();
        pipes.give(kept);
        pipes.refused = 1;
        assert!(pipes.take().is_some(), "one that is there");
    }

    #[test]
    fn there_are_so_many_and_those_with_bytes_left_are_closed() {
        let mut pipes = Pipes::default();
        let mut lent: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(lent.len(), PIPES_MAX);
        let (from, mut sender) = pair();
        sender.write_all(b"left").unwrap();
        let mut last = lent.pop().unwrap();
        filled(&mut last, &from, 4);
        pipes.give(last);
        for pipe in lent {
            pipes.give(pipe);
        }
        assert_eq!((pipes.spare.len(), pipes.lent), (PIPES_MAX - 1, 0));
        assert!(pipes.take().unwrap().is_empty());
    }
}
