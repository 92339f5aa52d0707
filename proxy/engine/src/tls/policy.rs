//! What we agree to in handshakes: with clients at a listener, and with the backends of a cluster.
//!
//! The profiles are Mozilla's server-side TLS guidelines 5.7: `modern` is TLS 1.3 alone, `intermediate`
//! adds TLS 1.2 with ECDHE and AEAD suites, which are the only ones that rustls has.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};

use super::anchors::{Anchors, Anybody, Backends, Clients, Nobody};
use super::certificates::{self, Certificates, Resolver};
use super::challenges::{ALPN, Challenges};
use super::tickets::{PolicyTickets, Tickets};
use crate::state::entity::{
    ClientAuth, ClusterProtocol, Content, Material, TlsPolicy, TlsProfile, UpstreamTls,
};

/// The cryptography that everything here uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Early data of one handshake, in bytes: what a request head may have by default.
const EARLY_DATA_BYTES_MAX: u32 = 32 * 1024;

/// Sessions that are kept for early data; the oldest give way.
const EARLY_SESSIONS_MAX: usize = 4096;

/// What a listener agrees to in handshakes.
#[derive(Clone)]
pub struct Agreements {
    /// With most clients.
    pub usual: Arc<ServerConfig>,
    early: Option<Arc<Early>>,
}

impl Agreements {
    /// With clients that ask for a host which takes early data. `None` where clients show certificates: who
    /// it is has to be known first.
    #[must_use]
    pub fn early(&self) -> Option<Arc<ServerConfig>> {
        let early = self.early.as_ref()?;
        Some(early.made.get_or_init(|| early.make()).clone())
    }
}

/// Made when it is asked for first: the place for its sessions is allocated at once.
struct Early {
    /// Without a way to resume sessions.
    common: ServerConfig,
    made: OnceLock<Arc<ServerConfig>>,
}

impl Early {
    fn make(&self) -> Arc<ServerConfig> {
        let mut config = self.common.clone();
        // Held here, one use each, so that early data is taken once at most (RFC 8446 §8.1).
        config.session_storage = ServerSessionMemoryCache::new(EARLY_SESSIONS_MAX);
        config.max_early_data_size = EARLY_DATA_BYTES_MAX;
        config.send_half_rtt_data = true;
        Arc::new(config)
    }
}

/// What the TLS side of a worker shares: made once, used by every listener's policy.
pub struct Tls {
    /// The cryptography.
    pub provider: Arc<CryptoProvider>,
    /// The certificates in service.
    pub certificates: Arc<Certificates>,
    /// The answers to ACME challenges.
    pub challenges: Arc<Challenges>,
    /// The keys of session tickets.
    pub tickets: Arc<Tickets>,
    system_anchors: OnceLock<Anchors>,
}

impl Default for Tls {
    /// Nothing in service yet.
    fn default() -> Self {
        Self {
            provider: provider(),
            certificates: Arc::default(),
            challenges: Arc::default(),
            tickets: Arc::default(),
            system_anchors: OnceLock::new(),
        }
    }
}

impl Tls {
    /// What a listener with that policy agrees to; `material` finds files. What comes is HTTP, or bytes of which
    /// nothing is read.
    ///
    /// # Errors
    /// A sentence, when a file is missing or unreadable, or the cryptography cannot serve the policy.
    pub fn server_config<'a>(
        &self,
        policy: &TlsPolicy,
        is_bytes: bool,
        material: impl Fn(&Material) -> Result<Content<'a>, String>,
    ) -> Result<Agreements, String> {
        let versions: &[_] = match policy.profile {
            TlsProfile::Modern => &[&TLS13],
            TlsProfile::Intermediate => &[&TLS13, &TLS12],
        };
        // Whom it trusts is lost: no handshake finds a certificate, so that nobody comes in unasked.
        let verifier = self.client_verifier(policy, material)?;
        let certificates = match verifier {
            Some(_) => self.certificates.clone(),
            None => Arc::default(),
        };
        let resolver = Resolver::new(
            certificates,
            self.challenges.clone(),
            policy.default_certificate.clone(),
        );
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| format!("tls: {error}"))?
            .with_client_cert_verifier(verifier.unwrap_or_else(|| Arc::new(NoClientAuth)))
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = offered(policy, is_bytes);
        config.send_tls13_tickets = 1;
        let is_asked = is_bytes || policy.client_ca.is_some();
        let early = (!is_asked).then(|| {
            Arc::new(Early {
                common: config.clone(),
                made: OnceLock::new(),
            })
        });
        // Tickets alone: what a client brings along costs us no memory.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(PolicyTickets::new(
            self.tickets.clone(),
            &session_policy(policy, is_bytes),
        ));
        Ok(Agreements {
            usual: Arc::new(config),
            early,
        })
    }

    /// Who may connect at all; none where that is lost.
    fn client_verifier<'a>(
        &self,
        policy: &TlsPolicy,
        material: impl Fn(&Material) -> Result<Content<'a>, String>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let Some(authorities) = &policy.client_ca else {
            return Ok(Some(Arc::new(NoClientAuth)));
        };
        let Some(authorities) = material(authorities)? else {
            return Ok(None);
        };
        let anchors = Anchors::read(authorities, "client_ca")?;
        let mut lists = Vec::new();
        if let Some(revoked) = &policy.client_crl {
            let Some(revoked) = material(revoked)? else {
                return Ok(None);
            };
            for list in CertificateRevocationListDer::pem_slice_iter(revoked) {
                lists.push(list.map_err(|_| "tls.client_crl: the file is not PEM".to_owned())?);
            }
        }
        let may_be_revoked = !lists.is_empty();
        let roots = anchors.roots.clone();
        let builder = WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone())
            .with_crls(lists)
            .only_check_end_entity_revocation();
        let builder = match policy.client_auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        let usual = builder
            .build()
            .map_err(|error| format!("tls.client_ca: {error}"))?;
        Ok(Some(match may_be_revoked {
            true => usual,
            false => Arc::new(Clients { anchors, usual }),
        }))
    }

    /// What is asked of the backends of a cluster with that policy; `material` finds files.
    ///
    /// # Errors
    /// A sentence, when a file is missing or unreadable, or does not fit.
    pub fn client_config<'a>(
        &self,
        policy: &UpstreamTls,
        protocol: ClusterProtocol,
        material: impl Fn(&Material) -> Result<Content<'a>, String>,
    ) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tls: {error}"))?;
        let file = |wanted: &Option<Material>| wanted.as_ref().map(&material).transpose();
        let (ca, certificate, private_key) = (
            file(&policy.ca)?,
            file(&policy.certificate)?,
            file(&policy.private_key)?,
        );
        let is_lost = [ca, certificate, private_key].contains(&Some(None));
        let verifier: Arc<dyn ServerCertVerifier> = if is_lost {
            Arc::new(Nobody(self.provider.clone()))
        } else if policy.verify {
            let anchors = match ca.flatten() {
                Some(ca) => Anchors::read(ca, "ca")?,
                None => self.system_anchors()?,
            };
            Arc::new(Backends::new(anchors, self.provider.clone())?)
        } else {
            Arc::new(Anybody(self.provider.clone()))
        };
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (certificate.flatten(), private_key.flatten()) {
            (Some(certificate), Some(private_key)) => {
                let own = certificates::load(certificate, private_key, &self.provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
            _ => builder.with_no_client_auth(),
        };
        let spoken: &[u8] = match protocol {
            ClusterProtocol::Http => b"http/1.1",
            ClusterProtocol::H2 => b"h2",
        };
        config.alpn_protocols = vec![spoken.to_vec()];
        Ok(Arc::new(config))
    }

    /// The authorities that the system trusts, read once.
    fn system_anchors(&self) -> Result<Anchors, String> {
        let anchors = self.system_anchors.get_or_init(Anchors::of_system);
        if anchors.roots.is_empty() {
            return Err(
                "tls: the system trusts no authority (install ca-certificates, or give tls.ca)"
                    .to_owned(),
            );
        }
        Ok(anchors.clone())
    }
}

/// The protocols that clients may choose from; of none, whatever they speak is no matter of the handshake.
fn offered(policy: &TlsPolicy, is_bytes: bool) -> Vec<Vec<u8>> {
    let mut offered: Vec<Vec<u8>> = match is_bytes {
        true => policy
            .alpn
            .iter()
            .map(|it| it.as_bytes().to_vec())
            .collect(),
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    // An authority that asks at a listener which takes anything gets nothing; it would keep others out.
    if !offered.is_empty() {
        offered.push(ALPN.to_vec());
    }
    offered
}

/// What a session depends on: it is not resumed where anything of it is different, such as after an
/// authority or a client has lost its trust.
fn session_policy(policy: &TlsPolicy, is_bytes: bool) -> Vec<u8> {
    let mut text = policy.profile.as_str().as_bytes().to_vec();
    if is_bytes {
        text.extend_from_slice(format!(" {:?} ", policy.alpn).as_bytes());
    }
    if let Some(authorities) = &policy.client_ca {
        text.extend_from_slice(format!(" {:?} ", policy.client_auth).as_bytes());
        text.extend_from_slice(authorities.sha256.as_bytes());
    }
    if let Some(revoked) = &policy.client_crl {
        text.push(b' ');
        text.extend_from_slice(revoked.sha256.as_bytes());
    }
    text
}
