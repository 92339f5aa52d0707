//! How a frontend matches requests beside their hostname: by their path, and by the values of fields.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{PATH_BYTES_MAX, within};
use crate::state::entity::compile_regex;
use crate::state::kinds::language::{defaulted, language};

/// What the path of a request must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathKeys", into = "PathKeys")]
pub enum PathMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// This, or anything below it, whole elements only.
    Prefix(Arc<str>),
    /// Wholly matched by this expression.
    Regex(Pattern),
    /// Anything that ends with this.
    Suffix(Pattern),
}

/// An expression or a text, for which letters may be alike, large and small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As it is written.
    pub text: Arc<str>,
    /// Whether `A` is as good as `a`.
    pub ignore_case: bool,
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self {
            text: text.into(),
            ignore_case: false,
        }
    }
}

language! {
    /// A path's match as it is written.
    pub struct PathKeys {
        /// See [`PathMatch::Exact`].
        pub exact: Option<Arc<str>> = None,
        /// See [`Pattern::ignore_case`].
        pub ignore_case: bool = false,
        /// See [`PathMatch::Prefix`].
        pub prefix: Option<Arc<str>> = None,
        /// See [`PathMatch::Regex`].
        pub regex: Option<Arc<str>> = None,
        /// See [`PathMatch::Suffix`].
        pub suffix: Option<Arc<str>> = None,
    }
}

impl TryFrom<PathKeys> for PathMatch {
    type Error = &'static str;

    fn try_from(keys: PathKeys) -> Result<Self, Self::Error> {
        let ignore_case = keys.ignore_case;
        let pattern = |text| Pattern { text, ignore_case };
        match (keys.exact, keys.prefix, keys.regex, keys.suffix) {
            (Some(path), None, None, None) if !ignore_case => Ok(Self::Exact(path)),
            (None, Some(path), None, None) if !ignore_case => Ok(Self::Prefix(path)),
            (None, None, Some(text), None) => Ok(Self::Regex(pattern(text))),
            (None, None, None, Some(text)) => Ok(Self::Suffix(pattern(text))),
            _ => Err(
                "path: expected one of exact, prefix, regex, suffix; ignore_case with the latter two",
            ),
        }
    }
}

impl From<PathMatch> for PathKeys {
    fn from(path: PathMatch) -> Self {
        let mut keys = Self {
            exact: None,
            ignore_case: false,
            prefix: None,
            regex: None,
            suffix: None,
        };
        match path {
            PathMatch::Exact(path) => keys.exact = Some(path),
            PathMatch::Prefix(path) => keys.prefix = Some(path),
            PathMatch::Regex(pattern) => {
                keys.ignore_case = pattern.ignore_case;
                keys.regex = Some(pattern.text);
            }
            PathMatch::Suffix(pattern) => {
                keys.ignore_case = pattern.ignore_case;
                keys.suffix = Some(pattern.text);
            }
        }
        keys
    }
}

impl PathMatch {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Exact(path) | Self::Prefix(path) => {
                if !path.starts_with('/') || path.contains(['?', '#']) {
                    return Err(format!(
                        "path {path:?}: expected a slash first and no query"
                    ));
                }
                within("path length", path.len(), 1..=PATH_BYTES_MAX)
            }
            Self::Regex(pattern) => compile_regex(&pattern.text, pattern.ignore_case).map(drop),
            Self::Suffix(pattern) => {
                within("suffix length", pattern.text.len(), 1..=PATH_BYTES_MAX)
            }
        }
    }

    /// The text of it, whatever that means.
    pub fn text_mut(&mut self) -> &mut Arc<str> {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regex(pattern) | Self::Suffix(pattern) => &mut pattern.text,
        }
    }
}

defaulted! {
    /// What the value of a header, of a query parameter or of a cookie must be: one of exact, present, regex.
    pub struct ValueMatch {
        /// Exactly this.
        pub exact: Option<Box<str>> = None,
        /// What is asked for must not be so.
        pub not: bool = false,
        /// Whether there is any.
        pub present: Option<bool> = None,
        /// Wholly matched by this expression.
        pub regex: Option<Box<str>> = None,
    }
}

impl ValueMatch {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        match (&self.exact, self.present, &self.regex) {
            (Some(_), None, None) => Ok(()),
            (None, Some(_), None) if !self.not => Ok(()),
            (None, None, Some(pattern)) => compile_regex(pattern, false).map(drop),
            _ => Err(
                "expected one of exact, present, regex; not with the first or the last".to_owned(),
            ),
        }
    }
}
