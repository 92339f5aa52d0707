//! The backend: one address in a cluster.

use std::net::SocketAddr;

use super::language::language;
use crate::state::entity::check::socket_addr;

language! {
    /// One address in a cluster.
    pub struct Backend {
        /// `IP:port`, IPv6 in brackets.
        pub address: String,
        /// Share of the requests; 0 takes no new ones.
        pub weight: u16 = 100,
    }
}

impl Backend {
    /// The address to connect to.
    pub fn socket_addr(&self) -> Result<SocketAddr, String> {
        socket_addr(&self.address)
    }
}

impl Backend {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        self.socket_addr().map(drop)
    }
}
