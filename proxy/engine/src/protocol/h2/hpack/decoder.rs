//! Header blocks to field lines (RFC 7541 §3, §6).
//!
//! Rule: what a block unfolds to is counted as it is written, so that a small one cannot become large.

use super::HpackError;
use super::TABLE_BYTES_MAX;
use super::huffman;
use super::integer;
use super::static_table;
use super::table::Table;

/// Decodes the blocks of one direction of a connection, in their order.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    /// Where in the block we are: size updates come first.
    updates: u8,
}

/// Where a field was written in the text, as `name: value CRLF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Offset of the first byte of the name.
    pub name_start: usize,
    /// Offset after the name; the value begins two bytes on.
    pub name_end: usize,
    /// Offset after the value.
    pub value_end: usize,
}

impl Line {
    /// Offset of the first byte of the value.
    pub fn value_start(self) -> usize {
        self.name_end + SEPARATOR.len()
    }
}

impl Decoder {
    /// Begins a header block.
    pub fn begin(&mut self) {
        self.updates = 0;
    }

    /// Takes the next field from the front of `block` and appends its line to `text`; `None` at the
    /// end of the block.
    ///
    /// The line may be as long as the table ([`TABLE_BYTES_MAX`]) or as eight fifths of `block`:
    /// the caller looks after each line whether the text has become too long.
    ///
    /// # Errors
    /// [`HpackError`]; neither this block nor a later one can be decoded.
    pub fn next(
        &mut self,
        block: &mut &[u8],
        text: &mut Vec<u8>,
    ) -> Result<Option<Line>, HpackError> {
        loop {
            let Some(&first) = block.first() else {
                return Ok(None);
            };
            let line = match first {
                0x80.. => self.indexed(block, text)?,
                0x40..=0x7f => self.literal(block, text, 6)?,
                0x20..=0x3f => {
                    self.size_update(block)?;
                    continue;
                }
                // Never indexed (0x10) or only not here: neither enters the table.
                0x00..=0x1f => self.literal(block, text, 4)?,
            };
            self.updates = UPDATES_MAX;
            return Ok(Some(line));
        }
    }

    /// RFC 7541 §6.1.
    #[inline]
    fn indexed(&self, block: &mut &[u8], text: &mut Vec<u8>) -> Result<Line, HpackError> {
        let index = integer::decode(block, 7)?;
        let (name, value) = self.field(index)?;
        let name_start = text.len();
        text.reserve(name.len() + value.len() + 4);
        text.extend_from_slice(name);
        text.extend_from_slice(SEPARATOR);
        text.extend_from_slice(value);
        text.extend_from_slice(END);
        let name_end = name_start + name.len();
        Ok(Line {
            name_start,
            name_end,
            value_end: name_end + SEPARATOR.len() + value.len(),
        })
    }

    /// RFC 7541 §6.2; the prefix of the index tells the kinds apart.
    fn literal(
        &mut self,
        block: &mut &[u8],
        text: &mut Vec<u8>,
        prefix_bits: u32,
    ) -> Result<Line, HpackError> {
        let index = integer::decode(block, prefix_bits)?;
        let name_start = text.len();
        if index == 0 {
            string(block, text)?;
        } else {
            text.extend_from_slice(self.field(index)?.0);
        }
        let name_end = text.len();
        text.extend_from_slice(SEPARATOR);
        string(block, text)?;
        let line = Line {
            name_start,
            name_end,
            value_end: text.len(),
        };
        if prefix_bits == 6 {
            let name = text.get(name_start..name_end).unwrap_or_default();
            let value = text.get(line.value_start()..).unwrap_or_default();
            self.table.insert(name, value);
        }
        text.extend_from_slice(END);
        Ok(line)
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let known = if index <= static_table::LENGTH {
            static_table::get(index)
        } else {
            self.table.get(index - static_table::LENGTH - 1)
        };
        known.ok_or(HpackError::InvalidIndex)
    }

    /// RFC 7541 §6.3, §4.2: at the start of a block, at most two (the lowest and the last one).
    fn size_update(&mut self, block: &mut &[u8]) -> Result<(), HpackError> {
        let size = integer::decode(block, 5)?;
        if self.updates >= UPDATES_MAX || size > TABLE_BYTES_MAX {
            return Err(HpackError::UnexpectedSizeUpdate);
        }
        self.updates += 1;
        self.table.set_size_max(size);
        Ok(())
    }
}

/// RFC 7541 §5.2.
fn string(block: &mut &[u8], text: &mut Vec<u8>) -> Result<(), HpackError> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer::decode(block, 7)?;
    let (raw, rest) = block
        .split_at_checked(length)
        .ok_or(HpackError::Truncated)?;
    *block = rest;
    if is_huffman {
        return huffman::decode(raw, text);
    }
    text.extend_from_slice(raw);
    Ok(())
}

const UPDATES_MAX: u8 = 2;
const SEPARATOR: &[u8] = b": ";
const END: &[u8] = b"\r\n";
