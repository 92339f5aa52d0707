//! Forward authentication: a cluster is asked whether a request may pass; part of frontend and policy.

use super::edits::{Of, is_ours};
use crate::state::entity::check::{is_name, is_token, within};
use crate::state::kinds::language::language;

language! {
    /// Who is asked whether requests may pass, and how.
    pub struct ForwardAuth {
        /// For how long its word counts, and by what it goes; `None` is once.
        pub cache: Option<VerdictCache> = None,
        /// The cluster that is asked.
        pub cluster: Box<str>,
        /// Headers of its answer that the request has from then on, in place of the client's.
        pub copy_headers: Vec<Box<str>> = Vec::new(),
        /// What it is asked for, perhaps with a query.
        pub path: Box<str> = "/".into(),
        /// Within so many milliseconds it has answered.
        pub timeout: u64 = 5000,
    }
}

language! {
    /// For how long a word counts that lets requests pass.
    pub struct VerdictCache {
        /// In which headers clients show who they are.
        pub headers: Vec<Box<str>>,
        /// In milliseconds.
        pub ttl: u64,
    }
}

impl VerdictCache {
    fn check(&self) -> Result<(), String> {
        let is_lower = |name: &str| !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if !self
            .headers
            .iter()
            .all(|name| is_token(name) && is_lower(name))
        {
            return Err("cache: headers: expected names of headers, in lower case".to_owned());
        }
        if !self.headers.is_sorted_by(|a, b| a < b) {
            return Err("cache: headers: expected names, sorted, each once".to_owned());
        }
        within("cache: headers", self.headers.len(), 1..=CACHED_BY_MAX)?;
        within("cache: ttl", self.ttl, 1000..=TTL_MS_MAX)
    }
}

impl ForwardAuth {
    /// Checks the values: what is written into heads as it is.
    pub fn check(&self) -> Result<(), String> {
        if !is_name(&self.cluster) {
            let name = &self.cluster;
            return Err(format!("{name:?} is not the name of a cluster"));
        }
        let is_path = self.path.starts_with('/')
            && self.path.len() <= PATH_BYTES_MAX
            && self
                .path
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_path {
            return Err("path: expected a path of printable ASCII that begins with /".to_owned());
        }
        self.cache.as_ref().map_or(Ok(()), VerdictCache::check)?;
        let mut seen = Vec::new();
        for name in &self.copy_headers {
            if !is_token(name) {
                return Err(format!(
                    "copy_headers: {name:?} is not the name of a header"
                ));
            }
            if is_ours(name, Of::Requests) {
                return Err(format!("copy_headers: {name} is the proxy's own to say"));
            }
            let lower = name.to_ascii_lowercase();
            if seen.contains(&lower) {
                return Err(format!("copy_headers: {name} is named twice"));
            }
            seen.push(lower);
        }
        if !self.copy_headers.is_sorted_by(|a, b| a < b) {
            return Err("copy_headers: expected names, sorted".to_owned());
        }
        within("copy_headers", seen.len(), 0..=COPIED_MAX)?;
        within("timeout", self.timeout, 1..=TIMEOUT_MS_MAX)
    }
}

/// Longest path, query included.
const PATH_BYTES_MAX: usize = 1024;
/// Each costs a look at every line.
const COPIED_MAX: usize = 32;
/// By which a word goes.
const CACHED_BY_MAX: usize = 8;
/// So long somebody may pass who may no more.
const TTL_MS_MAX: u64 = 3_600_000;
/// A client waits all that time.
const TIMEOUT_MS_MAX: u64 = 60_000;
