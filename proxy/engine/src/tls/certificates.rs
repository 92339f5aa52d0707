//! The certificates in service and the choice among them by SNI (RFC 6066 §3).
//!
//! Rule: an exact name goes before the wildcard of its parent; within a name ECDSA before RSA, as far
//! as the client can verify it, then by the certificate's name. Costs two lookups whatever the number of
//! certificates; adding one costs its hostnames. Written by the engine's thread at a commit and read
//! by it in handshakes, so the lock is never contended; it is there because rustls wants to share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ahash::AHashMap;
use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Reads a PEM chain (leaf first) and the PEM private key of its leaf.
///
/// # Errors
/// A sentence for the person who committed them; never a part of the key.
pub fn load(
    chain: &[u8],
    private_key: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| "the certificate file is not PEM".to_owned())?;
    if chain.is_empty() {
        return Err("the certificate file holds no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(private_key)
        .map_err(|_| "the private key file holds no PEM private key".to_owned())?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| "the private key is of no kind that can sign in TLS".to_owned())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("the private key is not that of the certificate".to_owned())
        }
        Err(error) => Err(format!("the certificate cannot be read: {error}")),
    }
}

/// One certificate in service.
#[derive(Clone)]
struct Candidate {
    /// Its entity's name.
    name: String,
    key: Arc<CertifiedKey>,
}

impl Candidate {
    /// ECDSA and EdDSA before RSA: shorter, and cheaper to sign with.
    fn rank(&self) -> (bool, &str) {
        let rsa = self.key.key.algorithm() == SignatureAlgorithm::RSA;
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
    by_name: AHashMap<String, Arc<CertifiedKey>>,
    /// Exact names, and wildcards as `*.parent`.
    by_hostname: AHashMap<String, Vec<Candidate>>,
}

impl Certificates {
    /// Adds a certificate.
    pub fn insert(&self, name: &str, hostnames: &[String], key: &Arc<CertifiedKey>) {
        let mut index = self.write();
        index.by_name.insert(name.to_owned(), key.clone());
        for hostname in hostnames {
            let candidates = index.by_hostname.entry(hostname.clone()).or_default();
            candidates.push(Candidate {
                name: name.to_owned(),
                key: key.clone(),
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
        self.read().by_name.get(name).cloned()
    }

    /// The certificate for a host in lower case, the first that `suits` among the best.
    fn by_hostname(
        &self,
        hostname: &str,
        suits: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let index = self.read();
        let choose = |candidates: &Vec<Candidate>| {
            let suitable = candidates.iter().find(|candidate| suits(&candidate.key));
            suitable.or(candidates.first()).map(|it| it.key.clone())
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
    /// Name of the certificate for clients that name no host, or one that nobody has.
    default: Option<String>,
}

impl Resolver {
    /// The resolver of a listener with that default certificate.
    #[must_use]
    pub fn new(certificates: Arc<Certificates>, default: Option<String>) -> Self {
        Self {
            certificates,
            default,
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
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
