//! An address as an entity has it: `IP:port` or `unix:` and a path, as it was written, in the room that one takes.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::socket_addr;
use crate::runtime::socket::Endpoint;

/// `IP:port`. What is not an address of IPv4 in its one form is kept as the text that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4.
    V4(SocketAddrV4),
    /// All else: [`Address::socket_addr`] tells whether it is one.
    // A pointer alone: an address has no more room than it needs.
    Other(Box<Box<str>>),
}

impl Address {
    /// The address to connect to.
    pub fn socket_addr(&self) -> Result<SocketAddr, String> {
        match self {
            Self::V4(address) if address.port() != 0 => Ok(SocketAddr::V4(*address)),
            Self::V4(address) => socket_addr(&address.to_string()),
            Self::Other(text) => socket_addr(text),
        }
    }
}

impl Address {
    /// Where to connect to, of a backend.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        match self {
            Self::Other(text) if text.starts_with(UNIX) => Endpoint::unix(&text[UNIX.len()..]),
            Self::V4(_) | Self::Other(_) => self.socket_addr().map(Endpoint::Tcp),
        }
    }
}

/// What the address of a Unix socket begins with.
const UNIX: &str = "unix:";

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        match text.parse() {
            // The canonical bytes are those that came, and `1.2.3.4:080` is read as well.
            Ok(address) if is_written(&address, text) => Self::V4(address),
            _ => Self::Other(Box::new(text.into())),
        }
    }
}

/// Whether that is how the address is written here.
fn is_written(address: &SocketAddrV4, text: &str) -> bool {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    address.port() == 0 && port == "0" || !port.starts_with('0')
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(out),
            Self::Other(text) => text.fmt(out),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::V4(address) => address.serialize(serializer),
            Self::Other(text) => text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Reads a text without a copy of it.
struct Text;

impl serde::de::Visitor<'_> for Text {
    type Value = Address;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an address")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_kept_as_it_was() {
        for text in [
            "127.0.0.1:9001",
            "0.0.0.0:0",
            "127.0.0.1:080",
            "127.0.0.1:00",
            "127.0.0.1:+8",
            "[::1]:80",
            "[0:0::1]:80",
            "nowhere",
            "unix:/run/app.sock",
            "",
            "255.255.255.255:65535",
        ] {
            assert_eq!(Address::from(text).to_string(), text);
        }
        assert_eq!(size_of::<Address>(), 16);
    }

    #[test]
    fn is_one_when_it_can_be_connected_to() {
        let read = |text: &str| Address::from(text).socket_addr();
        assert_eq!(read("127.0.0.1:80"), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(read("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        assert!(read("127.0.0.1:0").unwrap_err().contains("port"));
        assert!(read("nowhere").is_err());
        let reach = |text: &str| Address::from(text).endpoint();
        assert_eq!(
            reach("127.0.0.1:80"),
            read("127.0.0.1:80").map(Endpoint::Tcp)
        );
        assert_eq!(reach("unix:/run/app.sock"), Endpoint::unix("/run/app.sock"));
        assert!(read("unix:/run/app.sock").is_err(), "nobody listens there");
        assert!(reach("unix:run").is_err());
    }
}
