//! Requests: the pseudo-header fields say what a request line does, and HTTP/1.1's decisions are taken.

use super::HeadFault;
use super::Heads;
use super::Pseudo;
use super::Section;
use crate::protocol::h1::Field;
use crate::protocol::h1::FieldId;
use crate::protocol::h1::Reject;
use crate::protocol::h1::RequestBody;
use crate::protocol::h1::Span;
use crate::protocol::h1::Version;
use crate::protocol::h1::request;
use crate::protocol::h1::target::parse_whole_target;

impl Heads {
    /// Fills [`Heads::request`] from what was read. `ends` says that no body follows.
    pub(in crate::protocol::h2) fn finish_request(
        &mut self,
        ends: bool,
        takes_extended_connect: bool,
    ) -> Result<(), HeadFault> {
        let method = self
            .pseudo(Pseudo::Method)
            .ok_or(HeadFault::MissingPseudo)?;
        let is_connect = method.of(&self.text) == b"CONNECT";
        let protocol = self.pseudo(Pseudo::Protocol);
        if protocol.is_some() && !(is_connect && takes_extended_connect) {
            return Err(HeadFault::UnexpectedPseudo);
        }
        if is_connect && protocol.is_none() {
            return Err(Reject::ConnectMethod.into());
        }
        let port = self.default_port()?;
        let path = self.pseudo(Pseudo::Path).filter(|path| !path.is_empty());
        let path = path.ok_or(HeadFault::MissingPseudo)?;
        self.place_line(method, path, protocol.is_some())?;
        self.place_host(port);
        self.request.version = Version::Http2;
        if !ends {
            // Unknown length: chunked is how HTTP/1.1 says so.
            self.request.body = RequestBody::Chunked;
        }
        request::decide(&self.text, &mut self.request)?;
        self.request.keep_alive = true;
        match protocol {
            None => Ok(()),
            Some(protocol) => self.finish_connect(protocol),
        }
    }

    fn default_port(&self) -> Result<u16, HeadFault> {
        let scheme = self
            .pseudo(Pseudo::Scheme)
            .ok_or(HeadFault::MissingPseudo)?;
        match scheme.of(&self.text) {
            b"https" => Ok(443),
            b"http" => Ok(80),
            _ => Err(Reject::InvalidTarget.into()),
        }
    }

    /// Takes what a line would say in HTTP/1.1. None is written, since there is nobody to read it.
    fn place_line(&mut self, method: Span, path: Span, is_connect: bool) -> Result<(), HeadFault> {
        let method = match is_connect {
            true => self.write(b"GET"),
            false => method,
        };
        let method_bytes = method.of(&self.text);
        if method_bytes.is_empty() || !method_bytes.iter().all(request::is_method_byte) {
            return Err(Reject::InvalidMethod.into());
        }
        if method_bytes.len() > request::METHOD_BYTES_MAX {
            return Err(Reject::MethodTooLong.into());
        }
        let head = &mut self.request;
        head.method = method;
        head.target = parse_whole_target(
            self.text.get(..path.end()).unwrap_or_default(),
            path.start(),
            method_bytes,
            head.slashes,
            &mut head.scratch,
        )?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        Span::new(start, self.text.len())
    }

    /// RFC 9113 §8.3.1: `:authority` says the host; who sends `Host` too has to say the same there.
    fn place_host(&mut self, port: u16) {
        let Some(authority) = self.pseudo(Pseudo::Authority) else {
            return;
        };
        if self
            .request
            .fields
            .iter()
            .any(|field| field.id == FieldId::Host)
        {
            self.request.target.authority = Some((authority, port));
            return;
        }
        // For those who match on the field; hop by hop, so that its line is never copied.
        // It is the last one in the text as well, which who makes room for all of them goes by.
        let name = self.write(b"host");
        let start = self.text.len();
        self.text
            .extend_from_within(authority.start()..authority.end());
        let value = Span::new(start, self.text.len());
        let field = Field::written(name, value, FieldId::Host, true);
        self.request.fields.push(field);
    }

    /// RFC 8441 §5: the handshake that HTTP/1.1 has for the same.
    fn finish_connect(&mut self, protocol: Span) -> Result<(), HeadFault> {
        if !protocol.of(&self.text).eq_ignore_ascii_case(b"websocket") {
            return Err(Reject::ConnectMethod.into());
        }
        let is_other = |field: &Field| {
            field.id == FieldId::SecWebSocketVersion && field.value.of(&self.text) != b"13"
        };
        if self.request.fields.iter().any(is_other) {
            self.request.wants_other_websocket = true;
            return Ok(());
        }
        for field in &mut self.request.fields {
            field.drop |= matches!(
                field.id,
                FieldId::SecWebSocketKey | FieldId::SecWebSocketVersion
            );
        }
        let key = self.websocket_key();
        self.append(Section::Request, b"sec-websocket-key", &key);
        self.append(Section::Request, b"sec-websocket-version", b"13");
        self.request.body = RequestBody::None;
        self.request.expect_continue = false;
        self.request.upgrade = Some(protocol);
        Ok(())
    }

    /// Sixteen bytes in base64. Against caches that confuse two handshakes, and no secret.
    fn websocket_key(&mut self) -> [u8; 24] {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.nonce = self.nonce.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.nonce ^ (self.nonce >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = u128::from(mixed ^ (mixed >> 31)) << 64 | u128::from(self.nonce);
        let mut key = [b'='; 24];
        for (place, digit) in key.iter_mut().take(22).enumerate() {
            let shifted = match 122usize.checked_sub(6 * place) {
                Some(shift) => bits >> shift,
                // The last digit has two bits only.
                None => bits << 4,
            };
            *digit = DIGITS[shifted as usize & 63];
        }
        key
    }
}
