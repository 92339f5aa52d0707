//! Requests of a client of HTTP/2 that are here as HTTP/1.1 would have them, be they good or bad.

use _engine::protocol::h1::RequestHead;
use _engine::protocol::h1::forward::writer::{HeadWriter, RequestLine};
use _engine::protocol::h2::{Connection, HeaderList, ListWriter};
use _engine::protocol::lines::LineBuf;

/// Opens a stream by a request whose fields are sent as they are.
pub fn ask(
    client: &mut Connection,
    out: &mut Vec<u8>,
    text: &[u8],
    scheme: &str,
    tag: u64,
    ends: bool,
) -> Option<u32> {
    let mut words = text.split(|&byte| byte == b' ');
    let (method, target) = (words.next(), words.next());
    let line_end = text.iter().position(|&byte| byte == b'\n').expect("a line");
    let lines = lines_of(&text[line_end + 1..]);
    let host = lines.lines().values("host").next();
    let mut list = Vec::new();
    let mut writer = ListWriter::new(&mut list);
    writer.request_line(&RequestLine {
        buf: text,
        head: &RequestHead::default(),
        method,
        target,
    });
    writer.host(host.unwrap_or_default());
    writer.lines(lines.lines());
    let request = HeaderList::of(&list).expect("a list");
    client.send_request(out, &request, scheme, tag, ends)
}

/// The lines of a text up to the first one that is none.
fn lines_of(text: &[u8]) -> LineBuf {
    let mut lines = LineBuf::default();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or_default();
        let Some(at) = line.windows(2).position(|two| two == b": ") else {
            break;
        };
        lines.push(&line[..at], &line[at + 2..]);
    }
    lines
}
