//! Requests of a client of HTTP/2 that are here as HTTP/1.1 would have them, be they good or bad.

use _engine::protocol::h1::RequestHead;
use _engine::protocol::h1::forward::writer::{HeadWriter, RequestLine};
use _engine::protocol::h2::{Connection, HeaderList, ListWriter};

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
    let lines = &text[line_end + 1..];
    let mut names = lines.split(|&byte| byte == b'\n');
    let host = names.find_map(|line| line.strip_prefix(b"Host: "));
    let mut list = Vec::new();
    let mut writer = ListWriter::new(&mut list);
    writer.request_line(&RequestLine {
        buf: text,
        head: &RequestHead::default(),
        method,
        target,
    });
    writer.host(host.unwrap_or_default().trim_ascii_end());
    writer.lines(lines);
    let request = HeaderList::of(&list).expect("a list");
    client.send_request(out, &request, scheme, tag, ends)
}
