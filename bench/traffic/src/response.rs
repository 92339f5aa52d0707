//! Where a response over HTTP/1.1 ends, and its status. Bytes in, a verdict out; no body is kept.
//!
//! It reads what proxies and their backends write: lengths, chunks, and bodies until the connection
//! ends. It is no judge of the protocol; what it cannot read is a fault of the answer.

const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What has come of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not all.
    More,
    /// All of it.
    Done {
        /// Its status.
        status: u16,
        /// Whether the connection may be asked again.
        reusable: bool,
    },
}

/// Bytes that are no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Head,
    Length(u64),
    ChunkSize,
    ChunkBody(u64),
    Trailer,
    End,
}

/// Reads one response.
#[derive(Debug)]
pub struct Reader {
    expect: Expect,
    /// The head or the line that is not complete yet.
    kept: Vec<u8>,
    status: u16,
    reusable: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            expect: Expect::Head,
            kept: Vec::new(),
            status: 0,
            reusable: true,
        }
    }
}

impl Reader {
    /// Takes the bytes that have come. Bytes behind the end of a response are malformed: nothing
    /// was asked that they could answer.
    ///
    /// # Errors
    /// When the bytes are no response.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Progress, Malformed> {
        loop {
            let (taken, done) = self.step(bytes)?;
            bytes = &bytes[taken..];
            if done {
                return match bytes {
                    [] => Ok(self.finish()),
                    _ => Err(Malformed),
                };
            }
            if bytes.is_empty() {
                return Ok(Progress::More);
            }
        }
    }

    /// The connection has ended: whether the response is complete by that.
    pub fn end(&mut self) -> Option<Progress> {
        (self.expect == Expect::End).then(|| self.finish())
    }

    fn finish(&mut self) -> Progress {
        let done = Progress::Done {
            status: self.status,
            reusable: self.reusable,
        };
        self.kept.clear();
        self.expect = Expect::Head;
        self.reusable = true;
        done
    }

    /// How many bytes it took, and whether the response is complete with them.
    fn step(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        match self.expect {
            Expect::Head => {
                let (taken, whole) = self.keep(bytes, b"\r\n\r\n")?;
                let is_done = whole && self.head_came()?;
                Ok((taken, is_done))
            }
            Expect::Length(left) => Ok(self.pass(bytes, left, Expect::Length)),
            Expect::ChunkBody(left) => {
                let (taken, whole) = self.pass(bytes, left, Expect::ChunkBody);
                if whole {
                    self.expect = Expect::ChunkSize;
                }
                Ok((taken, false))
            }
            Expect::ChunkSize => {
                let (taken, whole) = self.keep(bytes, b"\r\n")?;
                if whole {
                    self.size_came()?;
                }
                Ok((taken, false))
            }
            Expect::Trailer => {
                let (taken, whole) = self.keep(bytes, b"\r\n")?;
                let is_last = whole && self.kept.len() == 2;
                if whole {
                    self.kept.clear();
                }
                Ok((taken, is_last))
            }
            Expect::End => Ok((bytes.len(), false)),
        }
    }

    /// Passes over a body; whether its last byte was there.
    fn pass(&mut self, bytes: &[u8], left: u64, expect: fn(u64) -> Expect) -> (usize, bool) {
        let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.expect = expect(left - taken as u64);
        (taken, left == taken as u64)
    }

    /// Keeps bytes up to a mark; whether it has come.
    fn keep(&mut self, bytes: &[u8], mark: &[u8]) -> Result<(usize, bool), Malformed> {
        for (index, byte) in bytes.iter().enumerate() {
            self.kept.push(*byte);
            if self.kept.ends_with(mark) {
                return Ok((index + 1, true));
            }
        }
        if self.kept.len() > HEAD_BYTES_MAX {
            return Err(Malformed);
        }
        Ok((bytes.len(), false))
    }

    fn head_came(&mut self) -> Result<bool, Malformed> {
        let kept = std::mem::take(&mut self.kept);
        let text = std::str::from_utf8(&kept).map_err(|_| Malformed)?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let version = first.strip_prefix("HTTP/1.").ok_or(Malformed)?;
        let (minor, rest) = version.split_once(' ').ok_or(Malformed)?;
        let status = rest.split(' ').next().unwrap_or_default();
        self.status = status.parse().map_err(|_| Malformed)?;
        self.reusable = minor != "0";
        let mut length = None;
        let mut chunked = false;
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Malformed)?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().map_err(|_| Malformed)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                self.reusable = !value.eq_ignore_ascii_case("close");
            }
        }
        self.kept = kept;
        self.kept.clear();
        Ok(self.begin_body(length, chunked))
    }

    /// Whether there is none.
    fn begin_body(&mut self, length: Option<u64>, chunked: bool) -> bool {
        self.expect = match (self.status, length) {
            (100..=199, _) => Expect::Head,
            (204 | 304, _) => return true,
            _ if chunked => Expect::ChunkSize,
            (_, Some(0)) => return true,
            (_, Some(length)) => Expect::Length(length),
            (_, None) => {
                self.reusable = false;
                Expect::End
            }
        };
        false
    }

    /// A line before a chunk: its size, or the blank one behind the chunk before.
    fn size_came(&mut self) -> Result<(), Malformed> {
        let line = std::str::from_utf8(&self.kept).map_err(|_| Malformed)?;
        let size = line.split([';', '\r']).next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|_| Malformed)?;
        self.kept.clear();
        self.expect = match size {
            0 => Expect::Trailer,
            // With the line end behind it.
            size => Expect::ChunkBody(size.checked_add(2).ok_or(Malformed)?),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(status: u16, reusable: bool) -> Progress {
        Progress::Done { status, reusable }
    }

    /// Whole, and byte by byte.
    fn read(text: &str) -> Result<Progress, Malformed> {
        let whole = Reader::default().feed(text.as_bytes());
        let mut reader = Reader::default();
        let mut last = Ok(Progress::More);
        for byte in text.bytes() {
            assert_eq!(last, Ok(Progress::More), "ended early: {text:?}");
            last = reader.feed(&[byte]);
            if last.is_err() {
                break;
            }
        }
        assert_eq!(last, whole, "{text:?}");
        whole
    }

    #[test]
    fn the_end_is_found_by_length_and_by_chunks() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(read(length), Ok(done(200, true)));
        let none = "HTTP/1.1 503 No\r\ncontent-length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(read(none), Ok(done(503, false)));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            a;x=y\r\n0123456789\r\n1\r\n!\r\n0\r\nEtag: t\r\n\r\n";
        assert_eq!(read(chunks), Ok(done(200, true)));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), Ok(done(204, true)));
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 204 N\r\n\r\n";
        assert_eq!(read(interim), Ok(done(204, true)));
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let mut reader = Reader::default();
        assert_eq!(
            reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc"),
            Ok(Progress::More)
        );
        assert_eq!(reader.end(), Some(done(200, false)));
        let mut reader = Reader::default();
        let part = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab");
        assert_eq!((part, reader.end()), (Ok(Progress::More), None));
    }

    #[test]
    fn the_next_response_is_read_by_the_same_reader() {
        let mut reader = Reader::default();
        for (status, name) in [(200, "200"), (404, "404")] {
            let text = format!("HTTP/1.1 {name} X\r\nContent-Length: 1\r\n\r\n.");
            assert_eq!(reader.feed(text.as_bytes()), Ok(done(status, true)));
        }
    }

    #[test]
    fn what_is_no_response_is_told() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        ] {
            assert_eq!(
                Reader::default().feed(text.as_bytes()),
                Err(Malformed),
                "{text:?}"
            );
        }
        let long = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert_eq!(Reader::default().feed(&long), Err(Malformed));
    }
}
