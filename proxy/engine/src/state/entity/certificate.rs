//! The certificate as an entity: which files it is, and how it is ordered. By the rule of [`super`].

use serde::Deserialize;
use serde::Serialize;

use super::Material;

/// A certificate chain with its private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// How the reconciler orders it, when nobody brings it; the engine makes nothing of that.
    pub acme: Option<Acme>,
    /// The PEM chain, leaf first; `None` when it has not been issued yet.
    pub certificate: Option<Material>,
    /// Whom it is served to: exact names and `*.parent`, sorted.
    pub hostnames: Vec<String>,
    /// What its issuer says of its revocation, handed out in handshakes.
    pub ocsp: Option<Staple>,
    /// The PEM private key of the leaf; there when the chain is.
    pub private_key: Option<Material>,
}

/// From whom a certificate is ordered (RFC 8555), as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// A file with whom to trust when asking the authority.
    pub ca: Option<String>,
    /// How the authority is shown that the hostnames are ours.
    pub challenge: String,
    /// Mail addresses.
    pub contact: Vec<String>,
    /// The authority's first address.
    pub directory: String,
}

/// An OCSP response in DER (RFC 6960).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staple {
    /// Where the operator keeps it.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Unix time from which on it says nothing any more.
    pub until: u64,
}

impl Staple {
    /// The file that it is.
    #[must_use]
    pub fn material(&self) -> Material {
        Material {
            path: self.path.clone(),
            sha256: self.sha256.clone(),
        }
    }
}
