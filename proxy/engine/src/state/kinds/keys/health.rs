//! Whether backends are well, asked of each of them again and again; part of a cluster.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{is_hostname, within};
use crate::state::kinds::language::defaulted;

/// The method of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckMethod {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `OPTIONS`.
    Options,
}

impl CheckMethod {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// What a backend is before its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initial {
    /// It gets requests until checks fail.
    Healthy,
    /// It gets none before one was good.
    Unchecked,
}

defaulted! {
    /// A request of HTTP, and what has to be answered.
    pub struct RequestCheck {
        /// The method.
        pub method: CheckMethod = CheckMethod::Get,
        /// What is asked for, with its query.
        pub path: String = "/".to_owned(),
        /// The statuses of a backend that is well; none: 200 to 299.
        pub status: Vec<u16> = Vec::new(),
    }
}

defaulted! {
    /// A connection, and what is said there.
    pub struct TcpCheck {
        /// How what comes has to begin.
        pub expect: Option<String> = None,
        /// What is sent first.
        pub send: Option<String> = None,
    }
}

defaulted! {
    /// How each backend is asked, how often, and what follows from that.
    pub struct HealthCheck {
        /// So many good checks in a row make a backend healthy.
        pub healthy_after: u32 = 2,
        /// The name that is asked for; `None`: that of the cluster's TLS, or the address.
        pub hostname: Option<String> = None,
        /// Over HTTP/1.1.
        pub http: Option<RequestCheck> = None,
        /// Over HTTP/1.1, and over TLS in any case.
        pub https: Option<RequestCheck> = None,
        /// What a backend is before its first check.
        pub initial: Initial = Initial::Healthy,
        /// From the beginning of one check to that of the next, in milliseconds.
        pub interval: u64 = 5_000,
        /// Where it is asked; `None`: at its own port.
        pub port: Option<u16> = None,
        /// By a connection.
        pub tcp: Option<TcpCheck> = None,
        /// Within which it has to answer, in milliseconds.
        pub timeout: u64 = 2_000,
        /// So many bad ones in a row make it unhealthy.
        pub unhealthy_after: u32 = 3,
    }
}

/// What is done to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking<'a> {
    /// A request over HTTP/1.1.
    Http(&'a RequestCheck),
    /// A request over HTTP/1.1, and over TLS.
    Https(&'a RequestCheck),
    /// A connection.
    Tcp(&'a TcpCheck),
}

impl HealthCheck {
    /// What is done to find out; `None` where it is none or several, which no check may say.
    #[must_use]
    pub fn asking(&self) -> Option<Asking<'_>> {
        let said = [
            self.http.as_ref().map(Asking::Http),
            self.https.as_ref().map(Asking::Https),
            self.tcp.as_ref().map(Asking::Tcp),
        ];
        let mut said = said.into_iter().flatten();
        said.next().filter(|_| said.next().is_none())
    }

    /// Checks the value.
    ///
    /// # Errors
    /// A sentence, when something is not as it has to be.
    pub fn check(&self) -> Result<(), String> {
        within("health_check.interval", self.interval, PERIOD_MS)?;
        within("health_check.timeout", self.timeout, PERIOD_MS)?;
        within("health_check.healthy_after", self.healthy_after, IN_A_ROW)?;
        within(
            "health_check.unhealthy_after",
            self.unhealthy_after,
            IN_A_ROW,
        )?;
        if self.port == Some(0) {
            return Err("health_check.port: nobody listens at 0".to_owned());
        }
        if let Some(name) = &self.hostname
            && !is_hostname(name)
        {
            return Err(format!("health_check.hostname {name:?} is no hostname"));
        }
        match self.asking() {
            None => Err("health_check: expected one of http, https, tcp".to_owned()),
            Some(Asking::Http(asked) | Asking::Https(asked)) => request_check(asked),
            Some(Asking::Tcp(_)) => Ok(()),
        }
    }
}

fn request_check(asked: &RequestCheck) -> Result<(), String> {
    let is_path = asked.path.starts_with('/') && asked.path.bytes().all(|it| it.is_ascii_graphic());
    if !is_path || asked.path.len() > PATH_BYTES_MAX {
        return Err(format!("health_check: {:?} is no path", asked.path));
    }
    let is_status = |status: &u16| (200..=599).contains(status);
    if !asked.status.iter().all(is_status) {
        return Err("health_check: expected statuses from 200 to 599".to_owned());
    }
    Ok(())
}

const PERIOD_MS: RangeInclusive<u64> = 100..=3_600_000;
const IN_A_ROW: RangeInclusive<u32> = 1..=100;
const PATH_BYTES_MAX: usize = 1024;
