//! Texts by which expressions can be told apart: one at least for each set of them that some text matches.
//!
//! The states of all expressions together are walked from the beginning, shortest texts first, and each end that is met
//! by another set of expressions is written down. So what is found is all there is, unless a bound is said to have cut
//! it. Asked by a plan and rarely; called by the Python face.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::state::entity::REGEX_PROGRAM_BYTES_MAX;

/// What people read with ease comes first.
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz/0123456789-_.~ABCDEFGHIJKLMNOPQRSTUVWXYZ%!$&'()*+,;=:@ \"#<>?[\\]^`{|}";
const CACHE_BYTES_MAX: usize = 16 << 20;
/// So many texts of each set: what one of them is taken for elsewhere, another may not be.
const OF_EACH_SET: usize = 2;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Witnesses {
    /// The texts, of printable ASCII.
    pub texts: Vec<String>,
    /// Whether there is no set of expressions that another such text would match.
    pub complete: bool,
}

/// Some expressions, matched against whole texts at one time.
struct Automaton {
    dfa: DFA,
    cache: Cache,
    begin: LazyStateID,
}

impl Automaton {
    fn of(patterns: &[String]) -> Result<Self, String> {
        let whole: Vec<_> = patterns
            .iter()
            .map(|each| format!(r"\A(?:{each})\z"))
            .collect();
        let limit = REGEX_PROGRAM_BYTES_MAX * patterns.len().max(1);
        let dfa = DFA::builder()
            .configure(
                Config::new()
                    .match_kind(MatchKind::All)
                    .unicode_word_boundary(true)
                    .cache_capacity(CACHE_BYTES_MAX)
                    .skip_cache_capacity_check(true),
            )
            .thompson(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(limit)),
            )
            .syntax(syntax::Config::new().utf8(false))
            .build_many(&whole)
            .map_err(|error| error.to_string())?;
        let mut cache = dfa.create_cache();
        let anchored = start::Config::new().anchored(Anchored::Yes);
        let begin = dfa
            .start_state(&mut cache, &anchored)
            .map_err(|error| error.to_string())?;
        Ok(Self { dfa, cache, begin })
    }

    /// The state behind one more byte; `None` where its memory has been full, so that states have lost their meaning.
    fn next(&mut self, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        let next = self.dfa.next_state(&mut self.cache, state, byte).ok()?;
        (self.cache.clear_count() == 0).then_some(next)
    }

    /// Which expressions match a text that ends here.
    fn matched(&mut self, state: LazyStateID) -> Option<Vec<usize>> {
        let end = self.dfa.next_eoi_state(&mut self.cache, state).ok()?;
        if self.cache.clear_count() > 0 {
            return None;
        }
        let number = if end.is_match() {
            self.dfa.match_len(&self.cache, end)
        } else {
            0
        };
        let one = |at| self.dfa.match_pattern(&self.cache, end, at).as_usize();
        let mut found: Vec<_> = (0..number).map(one).collect();
        found.sort_unstable();
        Some(found)
    }
}

/// Texts that all of `musts` match, for each set of `others` that match one of these. At most so many states are looked
/// at. Fails where an expression is not valid or too large.
pub fn witnesses(musts: &[String], others: &[String], states: usize) -> Result<Witnesses, String> {
    let mut automata = Vec::with_capacity(musts.len() + 1);
    for each in musts {
        automata.push(Automaton::of(std::slice::from_ref(each))?);
    }
    automata.push(Automaton::of(others)?);
    let alphabet = representatives(&automata);
    let mut walk = Walk {
        automata,
        found: AHashMap::new(),
        texts: Vec::new(),
    };
    let complete = walk.all(&alphabet, states).is_some();
    Ok(Witnesses {
        texts: walk.texts,
        complete,
    })
}

/// The first byte of each kind: those of one are alike to all expressions.
fn representatives(automata: &[Automaton]) -> Vec<u8> {
    let mut known = AHashSet::new();
    let kind = |byte| -> Vec<u8> {
        let classes = automata.iter().map(|each| each.dfa.byte_classes());
        classes.map(|each| each.get(byte)).collect()
    };
    let new = |byte: &u8| known.insert(kind(*byte));
    ALPHABET.iter().copied().filter(new).collect()
}

struct Walk {
    automata: Vec<Automaton>,
    found: AHashMap<Vec<usize>, usize>,
    texts: Vec<String>,
}

impl Walk {
    /// Looks at all states, or at so many: `None`.
    fn all(&mut self, alphabet: &[u8], most: usize) -> Option<()> {
        let begin: Vec<_> = self.automata.iter().map(|each| each.begin).collect();
        let mut known = AHashSet::from([begin.clone()]);
        let mut queue = VecDeque::from([(begin, String::new())]);
        while let Some((states, text)) = queue.pop_front() {
            self.look(&states, &text)?;
            for &byte in alphabet {
                let Some(next) = self.next(&states, byte)? else {
                    continue;
                };
                if known.contains(&next) {
                    continue;
                }
                if known.len() >= most {
                    return None;
                }
                known.insert(next.clone());
                queue.push_back((next, format!("{text}{}", byte as char)));
            }
        }
        Some(())
    }

    /// The states behind one more byte; nothing where no text that goes on so is matched by all musts.
    fn next(&mut self, states: &[LazyStateID], byte: u8) -> Option<Option<Vec<LazyStateID>>> {
        let musts = self.automata.len() - 1;
        let mut next = Vec::with_capacity(states.len());
        for (at, (automaton, &state)) in self.automata.iter_mut().zip(states).enumerate() {
            let behind = automaton.next(state, byte)?;
            if at < musts && (behind.is_dead() || behind.is_quit()) {
                return Some(None);
            }
            next.push(behind);
        }
        Some(Some(next))
    }

    fn look(&mut self, states: &[LazyStateID], text: &str) -> Option<()> {
        let (others, musts) = self.automata.split_last_mut()?;
        for (automaton, &state) in musts.iter_mut().zip(states) {
            if automaton.matched(state)?.is_empty() {
                return Some(());
            }
        }
        let set = others.matched(*states.last()?)?;
        let number = self.found.entry(set).or_default();
        if *number < OF_EACH_SET {
            *number += 1;
            self.texts.push(text.to_owned());
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(musts: &[&str], others: &[&str], states: usize) -> Witnesses {
        let [musts, others] = [musts, others]
            .map(|each| each.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        witnesses(&musts, &others, states).unwrap()
    }

    /// The sets of `others` that the texts match, by the crate's own matching.
    fn sets(musts: &[&str], others: &[&str]) -> Vec<Vec<bool>> {
        let whole = |each: &&str| regex::Regex::new(&format!(r"\A(?:{each})\z")).unwrap();
        let (all, some): (Vec<_>, Vec<_>) = (
            musts.iter().map(whole).collect(),
            others.iter().map(whole).collect(),
        );
        let found = found(musts, others, 10_000);
        assert!(found.complete);
        let mut sets: Vec<Vec<bool>> = Vec::new();
        for text in &found.texts {
            assert!(all.iter().all(|each| each.is_match(text)), "{text}");
            sets.push(some.iter().map(|each| each.is_match(text)).collect());
        }
        sets.sort();
        sets.dedup();
        sets
    }

    #[test]
    fn each_set_that_some_text_matches_has_one() {
        let both = sets(&["/x(?:/.*)?"], &[r".*\.php", "/x/[0-9]+.*"]);
        assert_eq!(
            both,
            [[false, false], [false, true], [true, false], [true, true]]
        );
        assert_eq!(
            sets(&["[0-9]+"], &["[0-5]+", "1"]),
            [[false, false], [true, false], [true, true]]
        );
        assert_eq!(sets(&["(?i:a)|b{2,3}"], &["A", "b.b", r"\w\b"]).len(), 4);
        assert_eq!(sets(&["[a-z]*", "[0-9]*"], &["x"]), [[false]]);
        assert_eq!(found(&["a"], &[], 10).texts, ["a"]);
    }

    #[test]
    fn what_no_text_matches_has_none() {
        let none = Witnesses {
            texts: vec![],
            complete: true,
        };
        assert_eq!(found(&["[a-z]+", "[0-9]+"], &["x"], 100), none);
        assert_eq!(found(&["[^ -~]+"], &["x"], 100), none);
    }

    #[test]
    fn a_bound_is_told_and_so_is_what_is_no_expression() {
        assert!(!found(&[".*"], &[".*a.{30}"], 2_000).complete);
        assert_eq!(found(&["[a-z]{500}"], &[], 100).texts, Vec::<String>::new());
        assert!(witnesses(&["(".into()], &[], 100).is_err());
        assert!(witnesses(&["a".into()], &["[".into()], 100).is_err());
    }
}
