//! What is done with cookies that backends set; part of frontend and policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{is_token, within};
use crate::state::kinds::language::language;

/// By the name of a cookie; [`ANY_COOKIE`] is for all that are not named. None leaves a cookie as it is.
pub type SetCookie = BTreeMap<Box<str>, Option<CookieChange>>;

/// In place of a name: every other cookie.
pub const ANY_COOKIE: &str = "*";

language! {
    /// What is done with the attributes of a cookie.
    pub struct CookieChange {
        /// In place of a domain that it has: another one, or none where this is [`DROP`].
        pub domain: Option<Box<str>> = None,
        /// Scripts do not see it.
        pub http_only: bool = false,
        /// Beginnings of its path, and what stands in their place; of several the longest.
        pub path: BTreeMap<Box<str>, Box<str>> = BTreeMap::new(),
        /// With which requests of other sites it is sent.
        pub same_site: Option<SameSite> = None,
        /// It is sent over TLS only.
        pub secure: bool = false,
    }
}

/// In place of a domain: there is none.
pub const DROP: &str = "drop";

/// With which requests of other sites a cookie is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// When somebody goes there.
    Lax,
    /// With all.
    None,
    /// With none.
    Strict,
}

/// Checks the values: what is written into heads as it is.
pub fn check(said: &SetCookie) -> Result<(), String> {
    within("set_cookie", said.len(), 0..=COOKIES_MAX)?;
    for (name, change) in said {
        if !is_token(name) {
            return Err(format!("set_cookie: {name:?} is not the name of a cookie"));
        }
        let change = change.as_ref().map_or(Ok(()), CookieChange::check);
        change.map_err(|reason| format!("set_cookie: {name}: {reason}"))?;
    }
    Ok(())
}

impl CookieChange {
    fn check(&self) -> Result<(), String> {
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if let Some(domain) = &self.domain {
            if domain.is_empty() || domain.len() > 253 || !domain.bytes().all(is_host) {
                return Err(format!("{domain:?} is no domain"));
            }
        }
        let is_path = |path: &str| {
            path.starts_with('/')
                && path.len() <= PATH_BYTES_MAX
                && path
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b';')
        };
        within("path", self.path.len(), 0..=PATHS_MAX)?;
        let mut paths = self.path.iter().flat_map(|(from, to)| [from, to]);
        if !paths.all(|path| is_path(path)) {
            return Err("path: expected paths that begin with /".to_owned());
        }
        if self.same_site == Some(SameSite::None) && !self.secure {
            return Err("same_site: none needs secure: true".to_owned());
        }
        Ok(())
    }
}

const COOKIES_MAX: usize = 32;
const PATHS_MAX: usize = 16;
const PATH_BYTES_MAX: usize = 1024;
