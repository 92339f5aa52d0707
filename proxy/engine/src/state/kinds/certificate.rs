//! The certificate: which files it is, and how it is ordered.

use std::sync::Arc;

use super::language::{defaulted, language};
use super::registry::{Compiling, Swap, Value};
use crate::state::entity::Material;
use crate::state::entity::check::{is_hostname, material};
use crate::state::entry::Entry;
use crate::state::tables::Tables;
use crate::tls::certificates::{self, Identity};

language! {
    /// A certificate chain with its private key.
    pub struct Certificate {
        /// How the reconciler orders it, when nobody brings it; the engine makes nothing of that.
        pub acme: Option<Acme> = None,
        /// The PEM chain, leaf first; `None` when it has not been issued yet.
        pub certificate: Option<Material> = None,
        /// Whom it is served to: exact names and `*.parent`, sorted.
        pub hostnames: Vec<String>,
        /// What its issuer says of its revocation, handed out in handshakes.
        pub ocsp: Option<Staple> = None,
        /// The PEM private key of the leaf; there when the chain is.
        pub private_key: Option<Material> = None,
    }
}

defaulted! {
    /// From whom a certificate is ordered (RFC 8555), as the operator wrote it.
    pub struct Acme {
        /// A file with whom to trust when asking the authority.
        pub ca: Option<String> = None,
        /// How the authority is shown that the hostnames are ours.
        pub challenge: String = "http-01".to_owned(),
        /// Mail addresses.
        pub contact: Vec<String> = Vec::new(),
        /// The authority's first address.
        pub directory: String = "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
    }
}

language! {
    /// An OCSP response in DER (RFC 6960).
    pub struct Staple {
        /// Where the operator keeps it.
        pub path: String,
        /// SHA-256 of its bytes, in hexadecimal.
        pub sha256: String,
        /// Unix time from which on it says nothing any more.
        pub until: u64,
    }
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

impl Value for Certificate {
    /// None, when it has not been issued yet, or a file of it is lost.
    type Compiled = Option<Box<Identity>>;
    type Running = Arc<Entry>;

    fn check(&self) -> Result<(), String> {
        for file in [&self.certificate, &self.private_key].into_iter().flatten() {
            material(file)?;
        }
        if let Some(ocsp) = &self.ocsp {
            material(&ocsp.material())?;
        }
        if self.certificate.is_some() != self.private_key.is_some() {
            return Err("certificate and private_key belong together".to_owned());
        }
        if self.certificate.is_none() && self.acme.is_none() {
            return Err("certificate: nobody brings it".to_owned());
        }
        let hostnames = &self.hostnames;
        if hostnames.is_empty() || !hostnames.is_sorted_by(|a, b| a < b) {
            return Err("hostnames: expected at least one, sorted, each once".to_owned());
        }
        match hostnames
            .iter()
            .find(|name| *name == "*" || !is_hostname(name))
        {
            None => Ok(()),
            Some(name) => Err(format!(
                "hostnames: {name:?} is not like shop.example.com or *.example.com"
            )),
        }
    }

    fn compile(&self, _: &Arc<Entry>, with: &mut Compiling<'_>) -> Result<Self::Compiled, String> {
        let (Some(chain), Some(private_key)) = (&self.certificate, &self.private_key) else {
            return Ok(None);
        };
        let (Some(chain), Some(private_key)) = (with.material(chain)?, with.material(private_key)?)
        else {
            return Ok(None);
        };
        let key = certificates::load(chain, private_key, &with.tls.provider)?;
        let staple = self.ocsp.as_ref();
        let response = staple.map_or(Ok(None), |staple| with.material(&staple.material()))?;
        let identity = match (staple, response) {
            (Some(staple), Some(response)) => Identity::stapled(key, response, staple.until),
            _ => Identity::plain(key),
        };
        Ok(Some(Box::new(identity)))
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, identity: Self::Compiled, swap: &mut Swap) {
        Self::take(tables, &entry.name, swap);
        // One that has not been issued yet, or is lost, is there for nobody.
        if let Some(identity) = identity {
            let certificate = entry.certificate();
            // One that was ordered may be of a time when it had other hostnames.
            let hostnames: Vec<_> = certificate
                .hostnames
                .iter()
                .filter(|hostname| certificate.acme.is_none() || identity.is_valid_for(hostname))
                .cloned()
                .collect();
            tables.in_service.insert(&entry.name, &hostnames, &identity);
        }
        tables.running.certificates.insert(entry);
    }

    fn take(tables: &mut Tables, name: &str, _: &mut Swap) {
        if let Some(entry) = tables.running.certificates.swap_remove(name) {
            tables
                .in_service
                .remove(name, &entry.certificate().hostnames);
        }
    }
}
