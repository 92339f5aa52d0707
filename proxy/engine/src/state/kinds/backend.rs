//! The backend: one address in a cluster.

use std::net::SocketAddr;

use super::language::language;
use crate::state::entity::address::Address;

language! {
    /// One address in a cluster.
    pub struct Backend {
        /// `IP:port`, IPv6 in brackets.
        pub address: Address,
        /// Share of the requests; 0 takes no new ones.
        pub weight: u16 = 100,
    }
}

impl Backend {
    /// The address to connect to.
    pub fn socket_addr(&self) -> Result<SocketAddr, String> {
        self.address.socket_addr()
    }
}

impl Backend {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        self.socket_addr().map(drop)
    }
}
