//! What a listener agrees to in a handshake: versions, cipher suites, ALPN, tickets.
//!
//! The profiles are Mozilla's server-side TLS guidelines 5.7: `modern` is TLS 1.3 alone, `intermediate`
//! adds TLS 1.2 with ECDHE and AEAD suites, which are the only ones that rustls has.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};

use super::certificates::{Certificates, Resolver};
use crate::state::entity::{TlsPolicy, TlsProfile};

/// The cryptography that everything here uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What the TLS side of a worker shares: made once, used by every listener's policy.
pub struct Tls {
    /// The cryptography.
    pub provider: Arc<CryptoProvider>,
    /// The certificates in service.
    pub certificates: Arc<Certificates>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Tls {
    /// Nothing in service yet.
    ///
    /// # Errors
    /// When the system gives no random bytes for ticket keys.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            provider: provider(),
            certificates: Arc::default(),
            tickets: aws_lc_rs::Ticketer::new()?,
        })
    }

    /// What a listener with that policy agrees to.
    ///
    /// # Errors
    /// A sentence, when the cryptography cannot serve the policy.
    pub fn server_config(&self, policy: &TlsPolicy) -> Result<Arc<ServerConfig>, String> {
        let versions: &[_] = match policy.profile {
            TlsProfile::Modern => &[&TLS13],
            TlsProfile::Intermediate => &[&TLS13, &TLS12],
        };
        let resolver = Resolver::new(
            self.certificates.clone(),
            policy.default_certificate.clone(),
        );
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| format!("tls: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets alone: what a client brings along costs us no memory.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = self.tickets.clone();
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}
