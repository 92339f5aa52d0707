//! Responses: `:status` and HTTP/1.1's decisions on lengths.

use super::HeadFault;
use super::Heads;
use super::Pseudo;
use crate::protocol::h1::ResponseBody;
use crate::protocol::h1::Version;
use crate::protocol::h1::response;

/// What the request was, as far as the response depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::protocol::h2) struct Asked {
    pub(in crate::protocol::h2) is_head: bool,
    pub(in crate::protocol::h2) is_connect: bool,
}

impl Heads {
    /// Fills [`Heads::response`] from what was read. `ends` says that no body follows.
    pub(in crate::protocol::h2) fn finish_response(
        &mut self,
        ends: bool,
        asked: Asked,
    ) -> Result<(), HeadFault> {
        let status = self
            .pseudo(Pseudo::Status)
            .ok_or(HeadFault::MissingPseudo)?;
        let status = match status.of(&self.text) {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(HeadFault::InvalidStatus),
        };
        // RFC 9113 §8.6, §8.1: HTTP/2 switches no protocols, and ends with no interim response.
        if status == 101 || (status < 200 && ends) {
            return Err(HeadFault::InvalidStatus);
        }
        let head = &mut self.response;
        head.status = status;
        head.version = Version::Http2;
        response::decide(&self.text, head, asked.is_head, None)?;
        head.keep_alive = true;
        if asked.is_connect && (200..300).contains(&status) {
            head.switching_protocols = true;
            head.content_length = None;
            head.body = ResponseBody::None;
            return Ok(());
        }
        if head.body == ResponseBody::UntilClose {
            // Frames say where it ends, as chunks do.
            head.body = if ends {
                ResponseBody::Length(0)
            } else {
                ResponseBody::Chunked
            };
        }
        Ok(())
    }
}
