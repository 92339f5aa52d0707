//! What is said in a check, and what has to come: bytes in, a verdict out.
//!
//! Pure: no clock and no socket. Who is asked over TLS says the same within it. Called by [`super::probe`].

use crate::protocol::h1::HeadLimits;
use crate::protocol::h1::ResponseHead;
use crate::protocol::h1::response::parse;
use crate::state::entity::{Asking, CheckMethod, HealthCheck, ProxyProtocol, RequestCheck};

/// What has come of a check.
pub type Verdict = Result<(), String>;

/// One check, as far as it has come.
pub enum Talk {
    /// A connection, and perhaps how what comes there has to begin.
    Tcp {
        /// What is awaited.
        expect: Option<Box<[u8]>>,
        /// What has come of it.
        came: Vec<u8>,
    },
    /// A request of HTTP/1.1.
    Http {
        /// Whether a head comes without a body whatever it says.
        is_head: bool,
        /// Statuses of a backend that is well; none: 200 to 299.
        status: Box<[u16]>,
        /// What has come of its head.
        came: Vec<u8>,
    },
}

impl Talk {
    /// Begins a check: with what is to be sent first. `host` is the name that is asked for.
    #[must_use]
    pub fn begin(check: &HealthCheck, host: &str) -> Option<(Self, Vec<u8>)> {
        Some(match check.asking()? {
            Asking::Tcp(asked) => {
                let expect = asked.expect.as_ref().map(|text| text.as_bytes().into());
                let sent = asked.send.as_ref().map_or(&[][..], |text| text.as_bytes());
                let came = Vec::new();
                (Self::Tcp { expect, came }, sent.to_vec())
            }
            Asking::Http(asked) | Asking::Https(asked) => (
                Self::Http {
                    is_head: asked.method == CheckMethod::Head,
                    status: asked.status.clone().into(),
                    came: Vec::new(),
                },
                request(asked, host),
            ),
        })
    }

    /// The connection is made, and all that is to be sent first has been: a verdict, if nothing is awaited.
    #[must_use]
    pub fn opened(&self) -> Option<Verdict> {
        matches!(self, Self::Tcp { expect: None, .. }).then_some(Ok(()))
    }

    /// Takes what has come: a verdict, as soon as there is one.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Verdict> {
        match self {
            Self::Tcp { expect: None, .. } => Some(Ok(())),
            Self::Tcp {
                expect: Some(expect),
                came,
            } => {
                let room = expect.len() - came.len();
                came.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if !expect.starts_with(came) {
                    return Some(Err(format!("it answered {}", shown(came))));
                }
                (came.len() == expect.len()).then_some(Ok(()))
            }
            Self::Http {
                is_head,
                status,
                came,
            } => {
                came.extend_from_slice(bytes);
                answered(came, *is_head, status)
            }
        }
    }

    /// Nothing more comes.
    pub fn ended(&self) -> Verdict {
        Err(match self {
            Self::Tcp { came, .. } | Self::Http { came, .. } if came.is_empty() => {
                "it closed the connection without an answer".to_owned()
            }
            Self::Tcp { came, .. } => format!("it answered {}", shown(came)),
            Self::Http { .. } => "it closed the connection within its answer".to_owned(),
        })
    }
}

/// What precedes all else where backends are told who the client is: that it is the proxy itself.
#[must_use]
pub fn preamble(version: ProxyProtocol) -> &'static [u8] {
    match version {
        ProxyProtocol::V1 => b"PROXY UNKNOWN\r\n",
        ProxyProtocol::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

fn request(asked: &RequestCheck, host: &str) -> Vec<u8> {
    let (method, path) = (asked.method.as_str(), &asked.path);
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kakehi-health-check\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

fn answered(came: &mut Vec<u8>, is_head: bool, status: &[u16]) -> Option<Verdict> {
    let mut head = ResponseHead::default();
    loop {
        match parse(came, &LIMITS, is_head, None, &mut head) {
            Ok(Some(length)) if head.interim => drop(came.drain(..length)),
            Ok(Some(_)) => return Some(judged(head.status, status)),
            Ok(None) => return None,
            Err(_) if is_h2(came) => {
                return Some(Err(
                    "it speaks HTTP/2, and was asked over HTTP/1.1".to_owned()
                ));
            }
            Err(fault) => {
                return Some(Err(format!(
                    "its answer is out of order: {}",
                    fault.as_str()
                )));
            }
        }
    }
}

/// Whether a status is one of a backend that is well.
pub(super) fn judged(status: u16, expected: &[u16]) -> Verdict {
    let is_well = match expected {
        [] => (200..300).contains(&status),
        _ => expected.contains(&status),
    };
    is_well
        .then_some(())
        .ok_or_else(|| format!("it answered {status}"))
}

/// Whether it begins like SETTINGS of HTTP/2 (RFC 9113 §3.4).
fn is_h2(came: &[u8]) -> bool {
    matches!(came, [_, _, _, 4, 0 | 1, 0, 0, 0, 0, ..])
}

/// The beginning of what came, as a line can show it.
fn shown(came: &[u8]) -> String {
    let start = &came[..came.len().min(SHOWN_BYTES)];
    format!("\"{}\"", start.escape_ascii())
}

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 32 * 1024,
    header_count_max: 256,
};
const SHOWN_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(check: &str) -> (Talk, String) {
        let check: HealthCheck = serde_json::from_str(check).unwrap();
        let (talk, sent) = Talk::begin(&check, "shop.internal").unwrap();
        (talk, String::from_utf8(sent).unwrap())
    }

    #[test]
    fn a_request_is_judged_by_the_status_of_its_answer() {
        let (mut talk, sent) = begin(r#"{"http":{"method":"HEAD","path":"/up?x=1"}}"#);
        assert!(sent.starts_with("HEAD /up?x=1 HTTP/1.1\r\nHost: shop.internal\r\n"));
        assert_eq!(talk.opened(), None);
        assert_eq!(talk.take(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2"), None);
        assert_eq!(talk.take(b"04 No Content\r\n"), None);
        assert_eq!(talk.take(b"\r\n"), Some(Ok(())));
        for (check, answer, said) in [
            (
                r#"{"http":{}}"#,
                "500 No",
                Err("it answered 500".to_owned()),
            ),
            (
                r#"{"http":{}}"#,
                "302 Go",
                Err("it answered 302".to_owned()),
            ),
            (r#"{"http":{"status":[302]}}"#, "302 Go", Ok(())),
            (
                r#"{"http":{"status":[302]}}"#,
                "200 OK",
                Err("it answered 200".to_owned()),
            ),
        ] {
            let (mut talk, _) = begin(check);
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 3\r\n\r\n");
            assert_eq!(talk.take(answer.as_bytes()), Some(said));
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let (mut talk, _) = begin(r#"{"http":{}}"#);
        let said = talk.take(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap().unwrap_err();
        assert!(said.starts_with("its answer is out of order: "), "{said}");
        let (mut talk, _) = begin(r#"{"http":{}}"#);
        let said = talk.take(b"\0\0\0\x04\0\0\0\0\0").unwrap().unwrap_err();
        assert_eq!(said, "it speaks HTTP/2, and was asked over HTTP/1.1");
        let (mut talk, _) = begin(r#"{"http":{}}"#);
        assert_eq!(
            talk.ended().unwrap_err(),
            "it closed the connection without an answer"
        );
        assert_eq!(talk.take(b"HTTP/1.1 200"), None);
        assert_eq!(
            talk.ended().unwrap_err(),
            "it closed the connection within its answer"
        );
        let (mut talk, _) = begin(r#"{"http":{}}"#);
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(40_000));
        assert!(talk.take(endless.as_bytes()).unwrap().is_err());
    }

    #[test]
    fn a_connection_is_enough_or_what_comes_there() {
        let (talk, sent) = begin(r#"{"tcp":{}}"#);
        assert_eq!((talk.opened(), sent.as_str()), (Some(Ok(())), ""));
        let (mut talk, sent) = begin(r#"{"tcp":{"expect":"+PONG","send":"PING\r\n"}}"#);
        assert_eq!((talk.opened(), sent.as_str()), (None, "PING\r\n"));
        assert_eq!(talk.take(b"+P"), None);
        assert_eq!(talk.take(b"ONG\r\n"), Some(Ok(())));
        let (mut talk, _) = begin(r#"{"tcp":{"expect":"+PONG"}}"#);
        let said = talk.take(b"-ERR\r\n").unwrap().unwrap_err();
        assert_eq!(said, "it answered \"-ERR\\r\"");
    }
}
