//! Who says each header in which a backend is told who asks.
//!
//! Rule: one does, as with everything that is merged by leaf: the nearest to the frontend, and where it has nothing to
//! say nobody does. Two policies of one list that would say different things are refused, unless the frontend says or
//! edits the header itself, and so is one that says it in two ways. Made when a change is prepared.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::Levels;
use super::levels::Word;
use crate::policy::guards::basic::Basic;
use crate::policy::guards::jwt::Jwt;
use crate::state::entity::{ForwardAuth, Policy, TokenIn};

/// One of those who say who asks, by its number among its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The token that convinces this one of `Merged::tokens`.
    Token(usize),
    /// This one of [`super::Merged::asked`].
    Asked(usize),
    /// The password that convinces this one of [`super::Merged::basics`].
    User(usize),
}

/// The author of each header.
#[derive(Debug, Default)]
pub(super) struct Authors(Box<[(Box<str>, Author)]>);

/// What is said: the same claim of the same token is, whoever has looked at that, and so are the same answer and the user, since a request names one.
#[derive(PartialEq, Eq)]
enum Told<'a> {
    Claim(&'a TokenIn, &'a str),
    Answer(&'a str, &'a str),
    User,
}

/// What is said in a header, whose word it is, and the author, if all agree.
type Leaf<'a> = (Told<'a>, (u8, &'a str), Option<Author>);

impl Authors {
    /// Those of some levels, among whom these are left.
    pub(super) fn of(
        levels: &Levels<'_>,
        tokens: &[Jwt],
        asked: &[Arc<ForwardAuth>],
        basics: &[Basic],
    ) -> Result<Self, String> {
        let mut found: BTreeMap<String, Leaf<'_>> = BTreeMap::new();
        for (by, policy) in levels.spoken(Word::Authentication) {
            for (name, told, author) in told_by(policy, tokens, asked, basics) {
                match found.entry(name.to_ascii_lowercase()) {
                    Entry::Vacant(free) => drop(free.insert((told, by, Some(author)))),
                    Entry::Occupied(mut taken) => {
                        let (other, whose, author) = taken.get_mut();
                        if whose.0 != by.0 || *other == told {
                            continue;
                        }
                        // What the backend is told is another matter then, and so nobody says it.
                        *author = None;
                        if !levels.edit_themselves(name) {
                            return Err(match by.1 {
                                "" => format!("{name} is told in two ways"),
                                _ => format!(
                                    "the policies {:?} and {:?} tell different things in {name}",
                                    whose.1, by.1
                                ),
                            });
                        }
                    }
                }
            }
        }
        let found = found.into_iter();
        Ok(Self(
            found
                .filter_map(|(name, (_, _, author))| Some((name.into(), author?)))
                .collect(),
        ))
    }

    /// Whether somebody is who says a header.
    pub(super) fn has(&self, name: &str, author: Author) -> bool {
        let mut all = self.0.iter();
        all.any(|(it, whose)| *whose == author && it.eq_ignore_ascii_case(name))
    }
}

/// The headers in which a policy has backends told who asks, what they are told, and by whom.
fn told_by<'a>(
    policy: &'a Policy,
    tokens: &[Jwt],
    asked: &[Arc<ForwardAuth>],
    basics: &[Basic],
) -> Vec<(&'a str, Told<'a>, Author)> {
    let mut found = Vec::new();
    if let Some(jwt) = &policy.jwt
        && let Some(number) = tokens.iter().position(|it| it.is_of(jwt))
    {
        found.extend(jwt.headers.iter().map(|(name, claim)| {
            let told = Told::Claim(&jwt.from, claim);
            (&**name, told, Author::Token(number))
        }));
    }
    if let Some(auth) = &policy.forward_auth
        && let Some(number) = asked.iter().position(|it| **it == *auth)
    {
        found.extend(auth.copy_headers.iter().map(|name| {
            let told = Told::Answer(&auth.cluster, &auth.path);
            (&**name, told, Author::Asked(number))
        }));
    }
    if let Some(auth) = &policy.basic_auth
        && let Some(name) = &auth.header
        && let Some(number) = basics.iter().position(|it| it.is_of(auth))
    {
        found.push((&**name, Told::User, Author::User(number)));
    }
    found
}
