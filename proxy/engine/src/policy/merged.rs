//! What holds for the requests of a frontend at a listener: its own word, its policies', the listener's.
//!
//! Rule: merged by leaf (the name of a header, the status of a page, HSTS and CORS as a whole). Whoever is nearer to
//! the frontend goes first, and a written null switches off; two policies of one list that differ are
//! refused, unless the frontend itself decides. Who may ask, and how much, is no leaf: there everybody's word
//! counts ([`super::access`], [`super::bounds`]). The reconciler says the same, with file and line
//! (`reconciler/catalog/policies.py`). Made when a change is prepared, by `state/merging`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::bytes::Regex;

use super::access::Access;
use super::bounds;
use super::edits::Edits;
use super::facts::Facts;
use super::rate::Rate;
use super::template::Values;
use super::{Page, Verdict};
use crate::state::entity::{Cors, ErrorPage, HeaderEdits, Hsts, Inherited, Policy};

/// What holds, compiled.
#[derive(Debug, Default)]
pub struct Merged {
    access: Option<Box<Access>>,
    bounds: Option<Box<bounds::Said>>,
    /// The listener's first.
    rates: Box<[Rate]>,
    request: Option<Edits>,
    response: Option<Edits>,
    hsts: Option<Box<str>>,
    /// By status; none: the built-in one.
    pages: BTreeMap<u16, Option<Page>>,
    /// That of the frontend's path, if its groups are named.
    expression: Option<Arc<Regex>>,
}

/// What holds for a frontend, by the listener that a request came to.
#[derive(Clone, Debug, Default)]
pub struct ByListener {
    /// Where the listener says nothing.
    pub here: Option<Arc<Merged>>,
    /// Where it says something, by its name.
    pub at: Box<[AtListener]>,
}

/// What holds at a listener of that name.
pub type AtListener = (Box<str>, Option<Arc<Merged>>);

/// Who has a word, the nearest first; those of a level by their names.
#[derive(Clone, Copy, Default)]
pub struct Levels<'a> {
    /// What the frontend says itself.
    pub own: Option<&'a Policy>,
    /// Its policies.
    pub policies: &'a [(&'a str, &'a Policy)],
    /// Those of the listener.
    pub beyond: &'a [(&'a str, &'a Policy)],
    /// Pages that the listener has itself, which go before those of its policies.
    pub beyond_pages: Option<&'a BTreeMap<String, ErrorPage>>,
}

impl<'a> Levels<'a> {
    /// All who have a word.
    fn all(&self) -> Vec<&'a Policy> {
        let named = self.policies.iter().chain(self.beyond);
        self.own
            .into_iter()
            .chain(named.map(|(_, policy)| *policy))
            .collect()
    }

    /// The rates that all of them name; whoever is listed twice counts once.
    fn rates(&self) -> Box<[Rate]> {
        let mut rates: Vec<Rate> = Vec::new();
        let named = self.beyond.iter().chain(self.policies);
        for (name, policy) in named {
            if let Some(said) = &policy.rate_limit
                && rates.iter().all(|rate| rate.policy() != Some(name))
            {
                rates.push(Rate::of(Some(name), said));
            }
        }
        let own = self.own.and_then(|own| own.rate_limit.as_ref());
        rates.extend(own.map(|said| Rate::of(None, said)));
        rates.into()
    }
}

impl Merged {
    /// What holds by some levels, if anything is said. `expression` is that of the frontend's path.
    ///
    /// # Errors
    /// A sentence about who contradicts whom, or about what cannot be compiled.
    pub fn of(
        levels: &Levels<'_>,
        expression: Option<&Arc<Regex>>,
    ) -> Result<Option<Self>, String> {
        let said = Said::by(levels)?;
        let groups = expression.map(Arc::as_ref);
        let cors = said.cors.into_values().find_map(|(cors, _)| cors);
        let request = Edits::of(&edits_of(said.request), groups);
        let response = Edits::with(&edits_of(said.response), cors, groups);
        let hsts = said.hsts.into_values().find_map(|(hsts, _)| hsts);
        let pages = said.pages.into_iter().filter_map(|(status, (page, _))| {
            let page = page.map(|page| Page {
                body: page.body.as_bytes().into(),
                content_type: page.content_type.as_str().into(),
            });
            Some((status.parse().ok()?, page))
        });
        let access = Access::of(&levels.all())?;
        let mut bounds = bounds::Said {
            body_bytes: levels
                .all()
                .iter()
                .filter_map(|it| it.limits.body_bytes)
                .min(),
            ..bounds::Said::default()
        };
        for (key, (limit, _)) in said.timeouts {
            limit.into_iter().for_each(|limit| bounds.set(&key, limit));
        }
        let mut merged = Self {
            access: access.map(Box::new),
            rates: levels.rates(),
            bounds: (bounds != bounds::Said::default()).then(|| Box::new(bounds)),
            request: request.map_err(|reason| format!("request_headers: {reason}"))?,
            response: response.map_err(|reason| format!("response_headers: {reason}"))?,
            hsts: hsts.map(|hsts| hsts.line().into()),
            pages: pages.collect(),
            expression: None,
        };
        let edits = [&merged.request, &merged.response];
        if edits.into_iter().flatten().any(Edits::has_captures) {
            merged.expression = expression.cloned();
        }
        let is_empty = merged.access.is_none()
            && merged.bounds.is_none()
            && merged.rates.is_empty()
            && merged.request.is_none()
            && merged.response.is_none()
            && merged.hsts.is_none()
            && merged.pages.is_empty();
        Ok((!is_empty).then_some(merged))
    }

    /// Who may ask, if not everybody may.
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        self.access.as_deref()
    }

    /// How large requests may be and how long their steps may take, if anything is said of it.
    #[inline]
    #[must_use]
    pub fn bounds(&self) -> Option<&bounds::Said> {
        self.bounds.as_deref()
    }

    /// Whether a request comes from where it may.
    pub(super) fn admit(&self, facts: &Facts<'_>) -> Verdict {
        self.access().map_or(Verdict::Continue, |access| {
            access.decide(facts.client_address())
        })
    }

    /// Whether there are rates that requests have to keep.
    #[inline]
    #[must_use]
    pub fn is_metered(&self) -> bool {
        !self.rates.is_empty()
    }

    /// Whether a request does not come too early.
    pub(super) fn keep_pace(&self, facts: &Facts<'_>) -> Verdict {
        let mut verdict = Verdict::Continue;
        for rate in &self.rates {
            verdict = verdict.or(|| rate.decide(facts));
        }
        verdict
    }

    /// Answers a browser that asks whether a page may.
    pub(super) fn preflight(&self, facts: &Facts<'_>) -> Verdict {
        let cors = self.response.as_ref().and_then(Edits::cors);
        cors.map_or(Verdict::Continue, |cors| cors.decide(facts))
    }

    /// The line of Strict-Transport-Security that answers over TLS have, with its CRLF.
    #[must_use]
    pub fn hsts(&self) -> Option<&str> {
        self.hsts.as_deref()
    }

    /// What is done with the fields of a request.
    #[must_use]
    pub fn request_edits(&self) -> Option<&Edits> {
        self.request.as_ref()
    }

    /// What is done with the fields of answers, whoever has given them.
    #[must_use]
    pub fn response_edits(&self) -> Option<&Edits> {
        self.response.as_ref()
    }

    /// The page of a status, if anything is said of it; none within: the built-in one.
    #[must_use]
    pub fn page(&self, status: u16) -> Option<Option<&Page>> {
        self.pages.get(&status).map(Option::as_ref)
    }

    /// The lines that a request gets on its way to a backend.
    #[must_use]
    pub fn request_lines(&self, facts: &Facts<'_>) -> Option<Arc<[u8]>> {
        let edits = self.request.as_ref()?;
        Some(edits.lines(&Values::new(facts, self.expression.as_ref())))
    }

    /// The lines that the answer to a request gets.
    #[must_use]
    pub fn response_lines<'a>(&self, facts: impl Fn() -> Facts<'a>) -> Option<Arc<[u8]>> {
        let edits = self.response.as_ref()?;
        Some(edits.lines(&Values::new(&facts(), self.expression.as_ref())))
    }
}

/// What is done with a field; its name as it is written.
#[derive(Clone, Copy)]
enum Edit<'a> {
    Set(&'a str, &'a str),
    Add(&'a str, &'a str),
    Remove(&'a str),
}

impl PartialEq for Edit<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Set(_, one), Self::Set(_, other)) | (Self::Add(_, one), Self::Add(_, other)) => {
                one == other
            }
            (Self::Remove(_), Self::Remove(_)) => true,
            _ => false,
        }
    }
}

/// The last word about each leaf, none switching off, and whose it is.
type Leaves<'a, T> = BTreeMap<String, (Option<T>, Speaker<'a>)>;

/// Whose word it is: the number of the level, and the name.
type Speaker<'a> = (u8, &'a str);

#[derive(Default)]
struct Said<'a> {
    request: Leaves<'a, Edit<'a>>,
    response: Leaves<'a, Edit<'a>>,
    cors: Leaves<'a, &'a Cors>,
    hsts: Leaves<'a, &'a Hsts>,
    pages: Leaves<'a, &'a ErrorPage>,
    timeouts: Leaves<'a, u64>,
    /// Statuses of which the listener has pages of its own.
    beyond: BTreeSet<&'a str>,
}

impl<'a> Said<'a> {
    fn by(levels: &Levels<'a>) -> Result<Self, String> {
        let mut said = Self::default();
        if let Some(own) = levels.own {
            said.hear(own, (0, ""))?;
        }
        for (name, policy) in levels.policies {
            said.hear(policy, (1, name))?;
        }
        for status in levels.beyond_pages.into_iter().flat_map(BTreeMap::keys) {
            // The listener is asked where nobody here has a page.
            said.beyond.insert(status);
        }
        for (name, policy) in levels.beyond {
            said.hear(policy, (2, name))?;
        }
        Ok(said)
    }

    fn hear(&mut self, policy: &'a Policy, by: Speaker<'a>) -> Result<(), String> {
        match &policy.cors {
            Inherited::Inherit => {}
            Inherited::Off => say(&mut self.cors, "cors", "", None, by)?,
            Inherited::Is(cors) => say(&mut self.cors, "cors", "", Some(cors), by)?,
        }
        match &policy.hsts {
            Inherited::Inherit => {}
            Inherited::Off => say(&mut self.hsts, "hsts", "", None, by)?,
            Inherited::Is(hsts) => say(&mut self.hsts, "hsts", "", Some(hsts), by)?,
        }
        for (key, limit) in policy.timeouts.steps() {
            match limit {
                Inherited::Inherit => {}
                Inherited::Off => say(&mut self.timeouts, "timeouts", key, None, by)?,
                Inherited::Is(limit) => {
                    say(&mut self.timeouts, "timeouts", key, Some(*limit), by)?;
                }
            }
        }
        for (status, page) in &policy.error_pages {
            if by.0 < BEYOND || !self.beyond.contains(status.as_str()) {
                say(&mut self.pages, "error_pages", status, page.as_ref(), by)?;
            }
        }
        edits(
            &mut self.request,
            "request_headers",
            &policy.request_headers,
            by,
        )?;
        edits(
            &mut self.response,
            "response_headers",
            &policy.response_headers,
            by,
        )
    }
}

fn edits<'a>(
    leaves: &mut Leaves<'a, Edit<'a>>,
    key: &str,
    edits: &'a HeaderEdits,
    by: Speaker<'a>,
) -> Result<(), String> {
    let set = edits.set.iter().map(|(name, text)| {
        let edit = text.as_deref().map(|text| Edit::Set(name, text));
        (name, edit)
    });
    let add = edits.add.iter().map(|(name, text)| {
        let edit = text.as_deref().map(|text| Edit::Add(name, text));
        (name, edit)
    });
    let remove = edits
        .remove
        .iter()
        .map(|name| (name, Some(Edit::Remove(name))));
    for (name, edit) in set.chain(add).chain(remove) {
        say(leaves, key, &name.to_ascii_lowercase(), edit, by)?;
    }
    Ok(())
}

/// Takes a word in, unless somebody nearer has spoken.
fn say<'a, T: Copy + PartialEq>(
    leaves: &mut Leaves<'a, T>,
    key: &str,
    leaf: &str,
    word: Option<T>,
    by: Speaker<'a>,
) -> Result<(), String> {
    match leaves.entry(leaf.to_owned()) {
        Entry::Vacant(free) => {
            free.insert((word, by));
            Ok(())
        }
        Entry::Occupied(taken) => {
            let (other, whose) = taken.get();
            if whose.0 != by.0 || *other == word {
                return Ok(());
            }
            let point = if leaf.is_empty() { "" } else { "." };
            Err(format!(
                "the policies {:?} and {:?} say different things about {key}{point}{leaf}",
                whose.1, by.1
            ))
        }
    }
}

fn edits_of(leaves: Leaves<'_, Edit<'_>>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for (edit, _) in leaves.into_values() {
        match edit {
            None => {}
            Some(Edit::Set(name, text)) => {
                edits.set.insert(name.to_owned(), Some(text.to_owned()));
            }
            Some(Edit::Add(name, text)) => {
                edits.add.insert(name.to_owned(), Some(text.to_owned()));
            }
            Some(Edit::Remove(name)) => edits.remove.push(name.to_owned()),
        }
    }
    edits
}

/// The number of the listener's level.
const BEYOND: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a policy may do with one of a few headers: nothing, a null, or something.
    fn words() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..6, 3)
    }

    fn policy(words: &[u8]) -> Policy {
        let mut policy = Policy::default();
        let edits = &mut policy.response_headers;
        for (number, word) in words.iter().enumerate() {
            // Names are the same in any case.
            let name = match word % 2 {
                0 => format!("X-{number}"),
                _ => format!("x-{number}"),
            };
            match word {
                1 => drop(edits.set.insert(name, None)),
                2 => drop(edits.set.insert(name, Some("a".to_owned()))),
                3 => drop(edits.set.insert(name, Some("b".to_owned()))),
                4 => drop(edits.add.insert(name, Some("a".to_owned()))),
                5 => edits.remove.push(name),
                _ => {}
            }
        }
        policy
    }

    /// What one header comes to, by the words of each level: none is a contradiction.
    fn expected(levels: &[Vec<u8>]) -> Option<u8> {
        for level in levels {
            let said: BTreeSet<u8> = level.iter().copied().filter(|word| *word != 0).collect();
            if let Some(word) = said.first() {
                return (said.len() == 1).then_some(*word);
            }
        }
        Some(0)
    }

    fn as_made(edits: &HeaderEdits, number: usize) -> u8 {
        let is_it = |name: &String| name.eq_ignore_ascii_case(&format!("x-{number}"));
        let of = |lines: &BTreeMap<String, Option<String>>| {
            let found = lines.iter().find(|(name, _)| is_it(name));
            found.map(|(_, text)| text.clone().unwrap())
        };
        match (of(&edits.set).as_deref(), of(&edits.add)) {
            (Some("a"), None) => 2,
            (Some("b"), None) => 3,
            (None, Some(_)) => 4,
            (None, None) => 5 * u8::from(edits.remove.iter().any(is_it)),
            _ => panic!("one header is done two things with"),
        }
    }

    proptest! {
        #[test]
        fn the_nearest_word_counts_and_contradictions_are_refused(
            own in words(),
            policies in proptest::collection::vec(words(), 0..3),
            beyond in proptest::collection::vec(words(), 0..3),
        ) {
            let spoken: Vec<Policy> = policies.iter().map(|words| policy(words)).collect();
            let further: Vec<Policy> = beyond.iter().map(|words| policy(words)).collect();
            let own_policy = policy(&own);
            let levels = Levels {
                own: Some(&own_policy),
                policies: &spoken.iter().map(|policy| ("p", policy)).collect::<Vec<_>>(),
                beyond: &further.iter().map(|policy| ("l", policy)).collect::<Vec<_>>(),
                beyond_pages: None,
            };
            let of = |number: usize, all: &[Vec<u8>]| all.iter().map(|each| each[number]).collect();
            let expected: Vec<Option<u8>> = (0..3)
                .map(|number| {
                    expected(&[vec![own[number]], of(number, &policies), of(number, &beyond)])
                })
                .collect();
            match Said::by(&levels) {
                Err(_) => prop_assert!(expected.contains(&None)),
                Ok(said) => {
                    let edits = edits_of(said.response);
                    for (number, expected) in expected.iter().enumerate() {
                        // A null comes to nothing.
                        let expected = expected.map(|word| if word == 1 { 0 } else { word });
                        prop_assert_eq!(Some(as_made(&edits, number)), expected);
                    }
                }
            }
        }
    }

    fn said(text: &str) -> Policy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn pages_of_a_listener_go_before_those_of_its_policies() {
        let pages = r#"{"error_pages":{"404":{"body":"p"},"503":{"body":"p"},"502":null}}"#;
        let policy = said(pages);
        let own = ErrorPage {
            body: "l".into(),
            content_type: "text/plain".into(),
        };
        let listener = BTreeMap::from([("404".to_owned(), own)]);
        let levels = Levels {
            beyond: &[("p", &policy)],
            beyond_pages: Some(&listener),
            ..Levels::default()
        };
        let merged = Merged::of(&levels, None).unwrap().unwrap();
        assert!(merged.page(404).is_none(), "the listener is asked");
        assert_eq!(&*merged.page(503).unwrap().unwrap().body, b"p");
        assert_eq!(merged.page(502), Some(None));
    }

    #[test]
    fn the_smallest_limit_counts_and_the_nearest_timeout() {
        let own =
            said(r#"{"limits":{"body_bytes":9},"timeouts":{"tunnel":null,"request_body":1}}"#);
        let near = said(r#"{"timeouts":{"tunnel":2,"response_head":2}}"#);
        let far = said(
            r#"{"limits":{"body_bytes":3},"timeouts":{"request_body":3,"response_head":3,"response_body":3}}"#,
        );
        let levels = Levels {
            own: Some(&own),
            policies: &[("near", &near)],
            beyond: &[("far", &far)],
            ..Levels::default()
        };
        let merged = Merged::of(&levels, None).unwrap().unwrap();
        let expected = bounds::Said {
            body_bytes: Some(3),
            request_body: Some(1),
            response_head: Some(2),
            response_body: Some(3),
            tunnel: None,
        };
        assert_eq!(merged.bounds(), Some(&expected));
        let both = Levels {
            policies: &[("far", &far), ("near", &near)],
            ..Levels::default()
        };
        let refused = Merged::of(&both, None).unwrap_err();
        assert_eq!(
            refused,
            r#"the policies "far" and "near" say different things about timeouts.response_head"#
        );
    }

    #[test]
    fn a_null_switches_off_what_is_said_further_away() {
        let (off, on) = (
            said(r#"{"hsts":null}"#),
            said(r#"{"hsts":{"max_age_days":1}}"#),
        );
        let policies = [("p", &on)];
        let levels = |own| Levels {
            own,
            policies: &policies,
            ..Levels::default()
        };
        assert!(
            Merged::of(&levels(None), None)
                .unwrap()
                .unwrap()
                .hsts()
                .is_some()
        );
        assert!(Merged::of(&levels(Some(&off)), None).unwrap().is_none());
        let both = Levels {
            policies: &[("off", &off), ("on", &on)],
            ..Levels::default()
        };
        let refused = Merged::of(&both, None).unwrap_err();
        assert_eq!(
            refused,
            r#"the policies "off" and "on" say different things about hsts"#
        );
    }
}
