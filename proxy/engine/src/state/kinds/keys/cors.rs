//! Which pages of other origins may ask; part of frontend and policy.

use crate::state::entity::check::{is_hostname, is_token, within};
use crate::state::kinds::language::language;

language! {
    /// Which pages of other origins may ask, and what they may read of the answers.
    pub struct Cors {
        /// Cookies may come along.
        pub credentials: bool = false,
        /// Headers of answers that pages may read.
        pub expose: Vec<Box<str>> = Vec::new(),
        /// Headers that pages may send.
        pub headers: Vec<Box<str>> = Vec::new(),
        /// How long a preflight is remembered, in milliseconds.
        pub max_age: Option<u64> = None,
        /// Methods that pages may use.
        pub methods: Vec<Box<str>> = Vec::new(),
        /// Whose pages may ask.
        pub origins: Vec<Box<str>>,
    }
}

impl Cors {
    /// Checks what becomes lines of a head, and that nobody is trusted by chance.
    pub fn check(&self) -> Result<(), String> {
        let lists = [
            ("expose", &self.expose),
            ("headers", &self.headers),
            ("methods", &self.methods),
            ("origins", &self.origins),
        ];
        for (key, list) in lists {
            within(key, list.len(), 0..=LISTED_MAX)?;
            let has_any = list.iter().any(|text| **text == *"*");
            if has_any && (list.len() > 1 || self.credentials) {
                return Err(format!(
                    "{key}: \"*\" stands alone, and without credentials"
                ));
            }
            if !list.is_sorted_by(|a, b| a < b) {
                return Err(format!("{key}: expected texts, sorted, each once"));
            }
        }
        let tokens = [&self.expose, &self.headers, &self.methods];
        if let Some(text) = tokens.into_iter().flatten().find(|text| !is_token(text)) {
            return Err(format!("{text:?} is no name"));
        }
        if let Some(origin) = self.origins.iter().find(|origin| !is_origin(origin)) {
            return Err(format!("origins: {origin:?} is no origin"));
        }
        within("origins", self.origins.len(), 1..=LISTED_MAX)?;
        within("max_age", self.max_age.unwrap_or(1000), 1000..=DAY_MS)
    }
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    is_token(scheme)
        && host != "*"
        && is_hostname(host)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Texts in one list.
const LISTED_MAX: usize = 256;
/// Longer is remembered by no browser.
const DAY_MS: u64 = 24 * 3_600_000;
