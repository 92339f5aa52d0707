//! The certificates in service and the choice among them by SNI (RFC 6066 §3).
//!
//! Rule: an exact name goes before the wildcard of its parent; within a name ECDSA before RSA, as far
//! as the client can verify it, then by the certificate's name. Costs two lookups whatever the number of
//! certificates; adding one costs its hostnames. Written by the engine's thread at a commit and read
//! by it in handshakes, so the lock is never contended; it is there because rustls wants to share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ahash::AHashMap;
use rustls::SignatureAlgorithm;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::challenges::{self, Challenges};

/// Reads a PEM chain (leaf first) and the PEM private key of its leaf.
///
/// # Errors
/// A sentence for the person who committed them; never a part of the key.
pub fn load(
    chain: &[u8],
    private_key: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, String> {
    let certified = read(chain, private_key, provider)?;
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("the private key is not that of the certificate".to_owned())
        }
        Err(error) => Err(format!("the certificate cannot be read: {error}")),
    }
}

/// The same, of files that nobody else has written: what is not checked is that they belong together.
///
/// # Errors
/// As above.
pub fn read(
    chain: &[u8],
    private_key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| "the certificate file is not PEM".to_owned())?;
    let mut chain = chain.into_iter();
    let Some(leaf) = chain.next() else {
        return Err("the certificate file holds no certificate".to_owned());
    };
    let chain = [leaf].into_iter().chain(chain.map(shared)).collect();
    let key = PrivateKeyDer::from_pem_slice(private_key)
        .map_err(|_| "the private key file holds no PEM private key".to_owned())?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| "the private key is of no kind that can sign in TLS".to_owned())?;
    Ok(CertifiedKey::new(chain, key))
}

/// An intermediate certificate as all chains have it. There are few authorities, and rustls takes what is its own
/// or what is there for good: so what has been seen stays, up to a bound.
fn shared(intermediate: CertificateDer<'static>) -> CertificateDer<'static> {
    static KNOWN: Mutex<BTreeSet<&'static [u8]>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(same) = known.get(intermediate.as_ref()) {
        return CertificateDer::from(*same);
    }
    if known.len() >= SHARED_MAX || intermediate.len() > SHARED_BYTES_MAX {
        return intermediate;
    }
    let kept: &'static [u8] = Box::leak(intermediate.as_ref().into());
    known.insert(kept);
    CertificateDer::from(kept)
}

/// Intermediates that a worker keeps for good: 1 MiB at most.
const SHARED_MAX: usize = 256;
const SHARED_BYTES_MAX: usize = 4096;

/// A chain with its key, and what may be stapled to it (RFC 6066 §8).
#[derive(Clone)]
pub struct Identity {
    plain: Arc<CertifiedKey>,
    /// The same with an OCSP response, and the Unix time from which on that is not given any more: a
    /// client that gets an outdated one turns away.
    stapled: Option<(Arc<CertifiedKey>, u64)>,
}

impl Identity {
    /// Without an OCSP response.
    #[must_use]
    pub fn plain(plain: Arc<CertifiedKey>) -> Self {
        Self {
            plain,
            stapled: None,
        }
    }

    /// With an OCSP response in DER that is valid until then.
    #[must_use]
    pub fn stapled(plain: Arc<CertifiedKey>, response: &[u8], until_s: u64) -> Self {
        let mut stapled = (*plain).clone();
        stapled.ocsp = Some(response.to_vec());
        Self {
            plain,
            stapled: Some((Arc::new(stapled), until_s)),
        }
    }

    /// Whether clients that ask for that name, which is no wildcard, would take it.
    #[must_use]
    pub fn is_valid_for(&self, hostname: &str) -> bool {
        let Ok(name) = ServerName::try_from(hostname) else {
            return false;
        };
        let leaf = self
            .plain
            .end_entity_cert()
            .map(ParsedCertificate::try_from);
        matches!(leaf, Ok(Ok(leaf)) if verify_server_name(&leaf, &name).is_ok())
    }

    fn at(&self, now_s: impl FnOnce() -> u64) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, until_s)) if now_s() < *until_s => stapled.clone(),
            _ => self.plain.clone(),
        }
    }

    fn now(&self) -> Arc<CertifiedKey> {
        self.at(|| UnixTime::now().as_secs())
    }
}

/// One certificate in service.
#[derive(Clone)]
struct Candidate {
    /// Its entity's name.
    name: String,
    identity: Identity,
}

impl Candidate {
    /// ECDSA and EdDSA before RSA: shorter, and cheaper to sign with.
    fn rank(&self) -> (bool, &str) {
        let rsa = self.identity.plain.key.algorithm() == SignatureAlgorithm::RSA;
        (rsa, &self.name)
    }
}

/// All certificates of a worker.
#[derive(Default)]
pub struct Certificates {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    by_name: AHashMap<String, Identity>,
    /// Exact names, and wildcards as `*.parent`.
    by_hostname: AHashMap<String, Vec<Candidate>>,
}

impl Certificates {
    /// Adds a certificate.
    pub fn insert(&self, name: &str, hostnames: &[String], identity: &Identity) {
        let mut index = self.write();
        index.by_name.insert(name.to_owned(), identity.clone());
        for hostname in hostnames {
            let candidates = index.by_hostname.entry(hostname.clone()).or_default();
            candidates.push(Candidate {
                name: name.to_owned(),
                identity: identity.clone(),
            });
            candidates.sort_by(|one, other| one.rank().cmp(&other.rank()));
        }
    }

    /// Takes a certificate out; connections that were made with it live on.
    pub fn remove(&self, name: &str, hostnames: &[String]) {
        let mut index = self.write();
        index.by_name.remove(name);
        for hostname in hostnames {
            let Some(candidates) = index.by_hostname.get_mut(hostname) else {
                continue;
            };
            candidates.retain(|candidate| candidate.name != name);
            if candidates.is_empty() {
                index.by_hostname.remove(hostname);
            }
        }
    }

    fn by_name(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.read().by_name.get(name).map(Identity::now)
    }

    /// The certificate for a host in lower case, the first that `suits` among the best.
    fn by_hostname(
        &self,
        hostname: &str,
        suits: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let index = self.read();
        let choose = |candidates: &Vec<Candidate>| {
            let suitable = candidates.iter().find(|it| suits(&it.identity.plain));
            suitable.or(candidates.first()).map(|it| it.identity.now())
        };
        if let Some(candidates) = index.by_hostname.get(hostname) {
            return choose(candidates);
        }
        let (_, parent) = hostname.split_once('.')?;
        index
            .by_hostname
            .get(&format!("*.{parent}"))
            .and_then(choose)
    }

    // The index is consistent after every statement that could panic: a poisoned lock is no reason
    // to stop serving.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The choice for one listener.
pub struct Resolver {
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
    /// Name of the certificate for clients that name no host, or one that nobody has.
    default: Option<String>,
}

impl Resolver {
    /// The resolver of a listener with that default certificate.
    #[must_use]
    pub fn new(
        certificates: Arc<Certificates>,
        challenges: Arc<Challenges>,
        default: Option<String>,
    ) -> Self {
        Self {
            certificates,
            challenges,
            default,
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if challenges::is_asked_for(&hello) {
            return self.challenges.certificate(hello.server_name()?);
        }
        let schemes = hello.signature_schemes();
        let suits = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        hello
            .server_name()
            .and_then(|host| self.certificates.by_hostname(host, suits))
            .or_else(|| self.certificates.by_name(self.default.as_deref()?))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Resolver")
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::policy;

    fn loaded() -> Arc<CertifiedKey> {
        let made = rcgen::generate_simple_self_signed(["shop.example.com".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        load(chain.as_bytes(), key.as_bytes(), &policy::provider()).unwrap()
    }

    #[test]
    fn an_outdated_response_is_not_stapled() {
        let identity = Identity::stapled(loaded(), b"good", 100);
        assert_eq!(identity.at(|| 99).ocsp.as_deref(), Some(&b"good"[..]));
        assert_eq!(identity.at(|| 100).ocsp, None);
    }

    #[test]
    fn it_is_for_its_own_names_alone() {
        let identity = Identity::plain(loaded());
        assert!(identity.is_valid_for("shop.example.com"));
        assert!(!identity.is_valid_for("www.example.com"));
        assert!(!identity.is_valid_for("*.example.com"));
    }
}
