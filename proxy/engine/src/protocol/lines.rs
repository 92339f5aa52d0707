//! Field lines beside those that a head came with: trailers, and what is added to heads.
//!
//! Rule: a line knows where its name and its value are, from when it is written to when it is sent, and nobody looks for
//! them again: HTTP/1.1 sends the text of a line as it stands here, and HPACK takes its name and its value. One buffer holds all of
//! them, each behind its two lengths. Whoever writes a line has checked that neither part has a line end in it. Written by
//! the parsers of trailers (`h1::chunked`, `h2::head`) and by who adds something to a head (`policy`, `session/exchange`, `state`);
//! read where a head or a body is sent.

/// Lines, one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines<'a>(&'a [u8]);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// `name: value CRLF`.
    text: &'a [u8],
    name_length: usize,
}

impl<'a> Line<'a> {
    /// Its name, in any case.
    #[inline]
    #[must_use]
    pub fn name(self) -> &'a [u8] {
        self.text.get(..self.name_length).unwrap_or_default()
    }

    /// Its value.
    #[inline]
    #[must_use]
    pub fn value(self) -> &'a [u8] {
        let start = self.name_length + SEPARATOR.len();
        let end = self.text.len().saturating_sub(END.len());
        self.text.get(start..end).unwrap_or_default()
    }

    /// Whether it has this name.
    #[inline]
    #[must_use]
    pub fn is_named(self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }
}

impl<'a> Lines<'a> {
    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Those of some name, in any case.
    pub fn values(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.filter(move |line| line.is_named(name))
            .map(Line::value)
    }

    /// Appends them as HTTP/1.1 has them.
    #[inline]
    pub fn write(self, out: &mut Vec<u8>) {
        for line in self {
            out.extend_from_slice(line.text);
        }
    }

    /// The same by themselves.
    #[must_use]
    pub fn to_text(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len());
        self.write(&mut out);
        out
    }

    /// How many bytes they take here.
    #[must_use]
    pub fn size(self) -> usize {
        self.0.len()
    }

    /// Those that were written before the buffer had this size.
    #[inline]
    #[must_use]
    pub fn before(self, size: usize) -> Self {
        Self(self.0.get(..size).unwrap_or_default())
    }

    /// Those whose names pass, if not all do.
    #[must_use]
    pub fn passing(mut self, passes: impl Fn(&[u8]) -> bool) -> Option<LineBuf> {
        let all = self;
        let passes = |line: &Line<'_>| passes(line.name());
        if self.all(|line| passes(&line)) {
            return None;
        }
        let mut kept = LineBuf::default();
        for line in all.filter(passes) {
            kept.push(line.name(), line.value());
        }
        Some(kept)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline]
    fn next(&mut self) -> Option<Line<'a>> {
        let (name, rest) = self.0.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let name_length = u32::from_le_bytes(*name) as usize;
        let length = name_length + SEPARATOR.len() + u32::from_le_bytes(*value) as usize;
        let (text, rest) = rest.split_at_checked(length + END.len())?;
        self.0 = rest;
        Some(Line { text, name_length })
    }
}

/// Lines that are being written, or have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineBuf(Vec<u8>);

impl LineBuf {
    /// No lines.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No lines, and room for so many bytes.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// One line.
    #[must_use]
    pub fn one(name: &[u8], value: &[u8]) -> Self {
        let mut lines = Self::default();
        lines.push(name, value);
        lines
    }

    /// The lines.
    #[inline]
    #[must_use]
    pub fn lines(&self) -> Lines<'_> {
        Lines(&self.0)
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves none, and the room for some.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends a line.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_with(name, |out| out.extend_from_slice(value));
    }

    /// Appends a line whose value is appended to what is given for it.
    pub fn push_with(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(&(name.len() as u32).to_le_bytes());
        let place = self.0.len();
        self.0.extend_from_slice(&[0; LENGTH_BYTES]);
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(SEPARATOR);
        let start = self.0.len();
        write(&mut self.0);
        let length = self.0.len().saturating_sub(start) as u32;
        if let Some(place) = self.0.get_mut(place..place + LENGTH_BYTES) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.0.extend_from_slice(END);
    }

    /// Appends other lines.
    pub fn append(&mut self, lines: Lines<'_>) {
        self.0.extend_from_slice(lines.0);
    }
}

impl From<Lines<'_>> for LineBuf {
    fn from(lines: Lines<'_>) -> Self {
        Self(lines.0.to_vec())
    }
}

/// Bytes of a length.
const LENGTH_BYTES: usize = size_of::<u32>();

/// What stands between a name and its value.
const SEPARATOR: &[u8] = b": ";

/// What stands behind a value.
const END: &[u8] = b"\r\n";

#[cfg(test)]
mod tests;
