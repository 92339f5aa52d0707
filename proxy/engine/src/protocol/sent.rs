//! A request's head as backends get it: in the form of the version that they speak.
//!
//! Called by the session, whose exchanges keep such a head for another try and know no version. `h1` and `h2`
//! read it where it is sent.

use super::h1::forward::Forward;
use super::h1::{RequestHead, write_question, write_request};
use super::h2::ListWriter;

/// What the bytes of such a head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The text of HTTP/1.1.
    Text,
    /// A header list, for HPACK.
    List,
}

impl Form {
    /// That of a connection which requests share, or of one which each has for itself.
    #[inline]
    #[must_use]
    pub fn of(is_multiplexed: bool) -> Self {
        match is_multiplexed {
            true => Self::List,
            false => Self::Text,
        }
    }

    /// See [`write_request`].
    #[inline]
    pub fn write_request(
        self,
        out: &mut Vec<u8>,
        buf: &[u8],
        head: &RequestHead,
        forward: &Forward<'_>,
    ) {
        match self {
            Self::Text => write_request(out, buf, head, forward),
            Self::List => write_request(&mut ListWriter::new(out), buf, head, forward),
        }
    }

    /// See [`write_question`].
    pub fn write_question(
        self,
        out: &mut Vec<u8>,
        buf: &[u8],
        head: &RequestHead,
        target: &[u8],
        forward: &Forward<'_>,
    ) {
        match self {
            Self::Text => write_question(out, buf, head, target, forward),
            Self::List => write_question(&mut ListWriter::new(out), buf, head, target, forward),
        }
    }
}
