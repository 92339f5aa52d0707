//! Where a request goes: another path, another hostname, for a redirect or for a rewrite.
//!
//! Rule: what comes out is a normal path (T20), so that nothing is forwarded that no frontend could have
//! matched; where a client's bytes make it none, the request is refused.

use std::borrow::Cow;

use regex::bytes::Regex;

use super::room::Overgrown;
use super::template::{Escape, Template, Values};
use crate::policy::{Answer, Reason};
use crate::protocol::h1::Slashes;
use crate::protocol::h1::target::normalise_path;
use crate::state::entity::{self, PathMatch};

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum PathChange {
    /// In place of the whole one.
    Full(Template),
    /// In place of so many bytes at its beginning, which are those that the frontend matches.
    Prefix(usize, Template),
}

/// Another hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct HostChange(Template);

/// What becomes of the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) enum QueryChange {
    /// It goes on.
    #[default]
    Keep,
    /// It is left out.
    Drop,
    /// This one in its place.
    Full(Template),
}

/// Why a request goes nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy) enum Unfit {
    /// Its path would not be a normal one.
    Abnormal,
    /// It would be too long.
    Overgrown,
}

impl From<Overgrown> for Unfit {
    fn from(_: Overgrown) -> Self {
        Self::Overgrown
    }
}

impl From<Unfit> for Answer {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Abnormal => Self::new(400, Reason::Abnormal),
            Unfit::Overgrown => Overgrown.into(),
        }
    }
}

impl PathChange {
    /// What is asked for by a frontend that matches these paths.
    pub(in crate::policy) fn of(
        change: &entity::PathChange,
        matched: &PathMatch,
        expression: Option<&Regex>,
    ) -> Result<Self, String> {
        Ok(match change {
            entity::PathChange::Full(text) => Self::Full(Template::parse(text, expression)?),
            entity::PathChange::Prefix(text) => {
                let PathMatch::Prefix(prefix) = matched else {
                    return Err("path.prefix: the frontend matches no prefix".to_owned());
                };
                let text = text.strip_suffix('/').unwrap_or(text);
                let matched = prefix.strip_suffix('/').unwrap_or(prefix);
                Self::Prefix(matched.len(), Template::parse(text, expression)?)
            }
        })
    }

    pub(in crate::policy) fn template(&self) -> &Template {
        match self {
            Self::Full(template) | Self::Prefix(_, template) => template,
        }
    }

    /// Appends the path that a request goes to.
    pub(in crate::policy) fn write(
        &self,
        values: &Values<'_>,
        slashes: Slashes,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        let path = values.facts.head.path(values.facts.bytes);
        if !path.starts_with(b"/") {
            // `OPTIONS *` asks about no path.
            out.extend_from_slice(path);
            return Ok(());
        }
        let mut made = Vec::with_capacity(path.len() + 64);
        self.template().write(values, Escape::Path, &mut made)?;
        if let Self::Prefix(length, _) = self {
            let rest = path.get(*length..).unwrap_or_default();
            // What stands alone is the root.
            let is_empty = made.is_empty() && rest.is_empty();
            made.extend_from_slice(if is_empty { b"/" } else { rest });
        }
        normalise_path(&made, slashes, out).map_err(|_| Unfit::Abnormal)
    }
}

impl QueryChange {
    /// What is asked for by a frontend whose path has this expression.
    pub(in crate::policy) fn of(
        change: &entity::QueryUse,
        expression: Option<&Regex>,
    ) -> Result<Self, String> {
        Ok(match change {
            entity::QueryUse::Keep => Self::Keep,
            entity::QueryUse::Drop => Self::Drop,
            entity::QueryUse::Full(text) => Self::Full(Template::parse(text, expression)?),
        })
    }

    pub(in crate::policy) fn has_captures(&self) -> bool {
        matches!(self, Self::Full(template) if template.has_captures())
    }

    /// The query that a request goes on with.
    pub(in crate::policy) fn made<'a>(
        &self,
        values: &Values<'a>,
    ) -> Result<Option<Cow<'a, [u8]>>, Overgrown> {
        let facts = values.facts;
        Ok(match self {
            Self::Keep => facts.head.query(facts.bytes).map(Cow::Borrowed),
            Self::Drop => None,
            Self::Full(template) => {
                let mut made = Vec::with_capacity(64);
                template.write(values, Escape::Query, &mut made)?;
                Some(Cow::Owned(made))
            }
        })
    }
}

impl HostChange {
    /// What is asked for; nothing but the request's own hostname may stand in it.
    pub(in crate::policy) fn of(text: &str) -> Result<Self, String> {
        let template = Template::parse(text, None)?;
        match template.is_of_hostnames() {
            true => Ok(Self(template)),
            false => Err(format!(
                "hostname {text:?}: only {{hostname}} may stand in it"
            )),
        }
    }

    /// The hostname that a request goes to. One that is an address, or none, is in no other name.
    pub(in crate::policy) fn made(
        &self,
        values: &Values<'_>,
    ) -> Result<Option<Vec<u8>>, Overgrown> {
        let host = values.facts.head.host(values.facts.bytes);
        let is_address = host.starts_with(b"[") || host.is_empty();
        if self.0.constant().is_none() && is_address {
            return Ok(None);
        }
        let mut made = Vec::with_capacity(64);
        self.0.write(values, Escape::Hostname, &mut made)?;
        Ok(Some(made))
    }
}
