//! A request's header list (RFC 7541 §1.3), as it waits to be encoded.
//!
//! Rule: it is what `h1::forward` tells, in that order, without what concerns a connection of HTTP/1.1; names
//! are in lower case, and lengths stand before what they measure, so that nothing has to be looked for. It is
//! written when the head has come, since what that was read from does not stay, and is encoded when there is a
//! connection, whose table that depends on; for another try it is encoded again. It takes no more than the text
//! of HTTP/1.1 would: lengths take the place of separators, and names of our own are numbers. Written by the session, read by `encode`.

use super::encode::is_of_connection;
use super::hpack::Policy;
use crate::protocol::h1::forward::writer::{HeadWriter, OwnField, RequestLine};
use crate::protocol::h1::via::Via;
use crate::protocol::h1::{Field, FieldId, Version};
use crate::protocol::lines::Lines;

/// A list that was written.
#[derive(Clone, Copy, Debug)]
pub struct HeaderList<'a> {
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) authority: &'a [u8],
    fields: Fields<'a>,
}

impl<'a> HeaderList<'a> {
    /// What a [`ListWriter`] has written; `None` if it was something else.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            method: fields.read()?.value,
            path: fields.read()?.value,
            authority: fields.read()?.value,
            fields,
        })
    }

    /// Those that are sent, and how each is to be encoded.
    pub(super) fn sent(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], Policy)> {
        let mut fields = self.fields;
        let all = std::iter::from_fn(move || fields.read());
        all.map(|entry| {
            let own = OWN.get(usize::from(entry.number));
            let (name, policy) = own.map_or((entry.name, Policy::Once), |own| (own.1, own.2));
            (name, entry.value, policy)
        })
    }
}

/// What stands in a list before a name and a value.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    number: u8,
    name: &'a [u8],
    value: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn read(&mut self) -> Option<Entry<'a>> {
        let (&number, rest) = self.0.split_first()?;
        let (number, name_length, value_length, rest) = match number {
            NAMED => {
                let (&[name, low, high], rest) = rest.split_first_chunk()?;
                let value = u16::from_le_bytes([low, high]);
                (number, usize::from(name), usize::from(value), rest)
            }
            LONG => {
                let (&[a, b, c, d, e, f], rest) = rest.split_first_chunk()?;
                (NAMED, long([a, b, c]), long([d, e, f]), rest)
            }
            _ => {
                let (&length, rest) = rest.split_first_chunk()?;
                (number, 0, long(length), rest)
            }
        };
        let (name, rest) = rest.split_at_checked(name_length)?;
        let (value, rest) = rest.split_at_checked(value_length)?;
        self.0 = rest;
        Some(Entry {
            number,
            name,
            value,
        })
    }
}

fn long([a, b, c]: [u8; LENGTH_BYTES]) -> usize {
    u32::from_le_bytes([a, b, c, 0]) as usize
}

/// Writes a list to the end of a buffer.
pub struct ListWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the value of the field begins that was begun.
    value_start: usize,
}

impl<'a> ListWriter<'a> {
    /// Writes to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            value_start: 0,
        }
    }

    /// Begins a value whose name is known by its number.
    fn open(&mut self, number: u8) {
        self.out.extend_from_slice(&[number, 0, 0, 0]);
        self.value_start = self.out.len();
    }

    fn numbered(&mut self, number: u8, value: &[u8]) {
        self.open(number);
        self.part(value);
        self.end();
    }

    /// A field by its name.
    fn put(&mut self, name: &[u8], value: &[u8]) {
        match (u8::try_from(name.len()), u16::try_from(value.len())) {
            (Ok(name), Ok(value)) => {
                let [low, high] = value.to_le_bytes();
                self.out.extend_from_slice(&[NAMED, name, low, high]);
            }
            _ => {
                let [a, b, c, _] = (name.len() as u32).to_le_bytes();
                let [d, e, f, _] = (value.len() as u32).to_le_bytes();
                self.out.extend_from_slice(&[LONG, a, b, c, d, e, f]);
            }
        }
        let name_start = self.out.len();
        self.out.extend_from_slice(name);
        if let Some(name) = self.out.get_mut(name_start..) {
            name.make_ascii_lowercase();
        }
        self.out.extend_from_slice(value);
    }
}

impl HeadWriter for ListWriter<'_> {
    fn make_room(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    fn request_line(&mut self, line: &RequestLine<'_>) {
        self.numbered(PSEUDO, line.method());
        self.open(PSEUDO);
        self.part(line.path());
        if let Some(query) = line.query() {
            self.part(b"?");
            self.part(query);
        }
        self.end();
    }

    fn host(&mut self, host: &[u8]) {
        self.numbered(PSEUDO, host);
    }

    fn copy<'a>(&mut self, buf: &[u8], fields: impl Iterator<Item = &'a Field>) {
        // HTTP/2 has no need of that proof (RFC 8441 §5).
        for field in fields.filter(|field| field.id != FieldId::SecWebSocketKey) {
            self.put(field.name.of(buf), field.value.of(buf));
        }
    }

    fn begin(&mut self, field: OwnField) {
        self.open(field as u8);
    }

    fn next(&mut self, field: OwnField) {
        self.end();
        self.begin(field);
    }

    #[inline]
    fn part(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        let length = self.out.len().saturating_sub(self.value_start) as u32;
        let place = self.value_start.saturating_sub(LENGTH_BYTES)..self.value_start;
        if let (Some(place), [length @ .., _]) = (self.out.get_mut(place), length.to_le_bytes()) {
            place.copy_from_slice(&length);
        }
    }

    fn via(&mut self, via: &Via, version: Version, request_id: &[u8]) {
        self.field(OwnField::Via, via.value(version));
        self.field(OwnField::XRequestId, request_id);
    }

    fn lines(&mut self, lines: Lines<'_>) {
        for line in lines {
            let (name, value) = (line.name(), line.value());
            if !is_of_connection(FieldId::of(name), value) {
                self.put(name, value);
            }
        }
    }

    /// Frames tell where the body ends.
    fn chunked(&mut self) {}

    fn finish(&mut self, te_trailers: bool, _keep_alive: bool) {
        if te_trailers {
            self.field(OwnField::Te, b"trailers");
        }
    }

    /// That is `:protocol`, which whoever opens the stream has to ask for (RFC 8441 §4).
    fn finish_switching(&mut self, _protocol: &[u8]) {}
}

/// What stands before the fields: the values of `:method`, `:path` and `:authority`.
const PSEUDO: u8 = 0xfc;

/// A field whose name or value is longer than most.
const LONG: u8 = 0xfd;

/// A field that was copied.
const NAMED: u8 = 0xff;

/// Bytes of a length: heads are bounded far below 16 MiB.
const LENGTH_BYTES: usize = 3;

/// Fields of ours by their numbers. The requests of many clients meet in one connection: what only one of them has
/// sent is not worth an entry of the table, and would tell it to the others by its length (RFC 7541 §7.1).
static OWN: [(OwnField, &[u8], Policy); 12] = [
    (OwnField::ClientCert, b"client-cert", Policy::Once),
    (OwnField::ContentLength, b"content-length", Policy::Once),
    (OwnField::EarlyData, b"early-data", Policy::Once),
    (OwnField::Expect, b"expect", Policy::Once),
    (OwnField::Forwarded, b"forwarded", Policy::Once),
    (OwnField::Te, b"te", Policy::Once),
    (OwnField::Via, b"via", Policy::Once),
    (OwnField::XForwardedFor, b"x-forwarded-for", Policy::Once),
    // The same for all clients of a listener.
    (
        OwnField::XForwardedHost,
        b"x-forwarded-host",
        Policy::Repeated,
    ),
    (
        OwnField::XForwardedPort,
        b"x-forwarded-port",
        Policy::Repeated,
    ),
    (
        OwnField::XForwardedProto,
        b"x-forwarded-proto",
        Policy::Repeated,
    ),
    (OwnField::XRequestId, b"x-request-id", Policy::Once),
];

#[cfg(test)]
pub(in crate::protocol::h2) mod tests;
