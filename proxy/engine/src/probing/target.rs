//! Who is asked, and how: what the reconciler says of a backend, made ready for its checks.
//!
//! Rule: everything that can fail fails here, on the control thread; a backend that cannot be asked is told why
//! by each of its checks. Called by [`super::thread`].

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;

use crate::runtime::socket::Endpoint;
use crate::state::entity::address::Address;
use crate::state::entity::{
    Asking, ClusterProtocol, HealthCheck, Materials, ProxyProtocol, UpstreamTls,
};
use crate::state::kinds::registry;
use crate::tls::policy::Tls;
use crate::upstream::health::BackendKey;

/// What the reconciler says of a backend.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// `CLUSTER/BACKEND`.
    pub name: String,
    address: String,
    check: HealthCheck,
    #[serde(default)]
    tls: Option<UpstreamTls>,
    #[serde(default)]
    proxy_protocol: Option<ProxyProtocol>,
}

/// Who is asked, and how.
pub struct Target {
    /// `CLUSTER/BACKEND`.
    pub name: Box<str>,
    /// By which its word is found.
    pub key: BackendKey,
    /// How often, and what follows from it.
    pub check: HealthCheck,
    /// Where, and with what; or why it cannot be asked.
    pub way: Result<Way, String>,
}

/// Where somebody is asked.
pub struct Way {
    /// Where.
    pub endpoint: Endpoint,
    /// The name that is asked for.
    pub host: String,
    /// TLS, and the name of the certificate.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What precedes all else.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Makes targets of a message: those of one policy share it.
#[derive(Default)]
pub struct Making {
    agreed: HashMap<String, Arc<ClientConfig>>,
}

impl Making {
    /// Makes one ready.
    ///
    /// # Errors
    /// A sentence, when it has no address.
    pub fn target(
        &mut self,
        told: Told,
        tls: &Tls,
        materials: &Materials,
    ) -> Result<Target, String> {
        told.check.check()?;
        let endpoint = Address::from(&*told.address).endpoint()?;
        Ok(Target {
            key: BackendKey::of(&told.name, &endpoint),
            way: self.way(&told, endpoint, tls, materials),
            name: told.name.into(),
            check: told.check,
        })
    }

    fn way(
        &mut self,
        told: &Told,
        own: Endpoint,
        tls: &Tls,
        materials: &Materials,
    ) -> Result<Way, String> {
        let check = &told.check;
        let endpoint = match (&own, check.port) {
            (Endpoint::Tcp(address), Some(port)) => {
                Endpoint::Tcp(SocketAddr::new(address.ip(), port))
            }
            _ => own.clone(),
        };
        let shown = match &endpoint {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(_) => "localhost".to_owned(),
        };
        let server_name = told.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        let named = check.hostname.as_ref().or(server_name);
        let is_secure = match check.asking() {
            Some(Asking::Tcp(_)) | None => false,
            Some(Asking::Https(_)) => true,
            Some(Asking::Http(_)) => told.tls.is_some(),
        };
        let agreed = is_secure.then(|| {
            let config = self.agreed(told, tls, materials)?;
            let name = named.and_then(|name| ServerName::try_from(name.clone()).ok());
            let name = name.unwrap_or_else(|| match &endpoint {
                Endpoint::Tcp(address) => ServerName::IpAddress(address.ip().into()),
                Endpoint::Unix(_) => ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into()),
            });
            Ok::<_, String>((config, name))
        });
        Ok(Way {
            host: named.cloned().unwrap_or(shown),
            tls: agreed.transpose()?,
            // Who listens at another port is another one.
            proxy_protocol: told.proxy_protocol.filter(|_| check.port.is_none()),
            endpoint,
        })
    }

    fn agreed(
        &mut self,
        told: &Told,
        tls: &Tls,
        materials: &Materials,
    ) -> Result<Arc<ClientConfig>, String> {
        let usual = UpstreamTls::default();
        let policy = told.tls.as_ref().unwrap_or(&usual);
        let written = serde_json::to_string(policy).map_err(|error| error.to_string())?;
        if let Some(known) = self.agreed.get(&written) {
            return Ok(known.clone());
        }
        let made = tls.client_config(policy, ClusterProtocol::Http, |wanted| {
            registry::material(materials, wanted)
        })?;
        self.agreed.insert(written, made.clone());
        Ok(made)
    }
}
