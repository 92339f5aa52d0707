//! How large a request may be, and how long each of its steps may take: what listener and cluster say, and
//! policies in their place.
//!
//! Rule: found out once, when a request begins, and kept by its exchange. Of sizes the smallest counts,
//! whoever says it; a timeout is that of whoever is nearest to the frontend.

use crate::runtime::timer::NEVER;
use crate::state::entity::{ClusterTimeouts, Listener};

/// What policies say of it, if they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The largest body.
    pub body_bytes: Option<u64>,
    /// In milliseconds, each.
    pub request: Option<u64>,
    /// See `request`.
    pub request_body: Option<u64>,
    /// See `request`.
    pub response_body: Option<u64>,
    /// See `request`.
    pub response_head: Option<u64>,
    /// See `request`.
    pub tunnel: Option<u64>,
}

impl Said {
    /// Sets what a key of `timeouts` says.
    pub(in crate::policy) fn set(&mut self, key: &str, limit: u64) {
        let step = match key {
            "request" => &mut self.request,
            "request_body" => &mut self.request_body,
            "response_body" => &mut self.response_body,
            "response_head" => &mut self.response_head,
            _ => &mut self.tunnel,
        };
        *step = Some(limit);
    }
}

/// What holds for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest body.
    pub body_bytes: u64,
    /// All of it, from its head to the end of the response; [`NEVER`] is as long as it takes.
    pub request: u64,
    /// Longest pause of a client that sends one, in milliseconds.
    pub request_body: u64,
    /// From the whole request to the head of the response.
    pub response_head: u64,
    /// Longest pause within a response.
    pub response_body: u64,
    /// Longest silence of a tunnel.
    pub tunnel: u64,
}

impl Bounds {
    /// By all who have a word.
    #[inline]
    #[must_use]
    pub fn of(said: Option<&Said>, listener: &Listener, cluster: &ClusterTimeouts) -> Self {
        let bounds = Self {
            body_bytes: listener.limits.body_bytes.unwrap_or(u64::MAX),
            request: NEVER,
            request_body: listener.timeouts.request_body,
            response_head: cluster.response_head,
            response_body: cluster.response_body,
            tunnel: cluster.tunnel,
        };
        match said {
            None => bounds,
            Some(said) => Self {
                body_bytes: bounds.body_bytes.min(said.body_bytes.unwrap_or(u64::MAX)),
                request: said.request.unwrap_or(NEVER),
                request_body: said.request_body.unwrap_or(bounds.request_body),
                response_head: said.response_head.unwrap_or(bounds.response_head),
                response_body: said.response_body.unwrap_or(bounds.response_body),
                tunnel: said.tunnel.unwrap_or(bounds.tunnel),
            },
        }
    }
}
