//! Expressions that have been compiled, by their text: one that many frontends have is compiled once.

use std::sync::{Arc, Weak};

use ahash::AHashMap;
use regex::bytes::Regex;

use crate::state::entity::{Pattern, compile_regex};

/// Expressions as long as somebody uses them.
#[derive(Default)]
pub struct Regexes {
    known: Known,
    /// The same of those for which `A` is as good as `a`.
    ignoring_case: Known,
}

/// Those of one kind.
#[derive(Default)]
struct Known {
    regexes: AHashMap<Box<str>, Weak<Regex>>,
    /// So many before those that are used by nobody are looked for.
    enough: usize,
}

impl Regexes {
    /// The expression, compiled.
    pub fn compile(&mut self, pattern: &str) -> Result<Arc<Regex>, String> {
        self.known.compile(pattern, false)
    }

    /// The same of one that may ignore case.
    pub fn compile_pattern(&mut self, pattern: &Pattern) -> Result<Arc<Regex>, String> {
        match pattern.ignore_case {
            true => self.ignoring_case.compile(&pattern.text, true),
            false => self.known.compile(&pattern.text, false),
        }
    }
}

impl Known {
    fn compile(&mut self, pattern: &str, ignore_case: bool) -> Result<Arc<Regex>, String> {
        if let Some(regex) = self.regexes.get(pattern).and_then(Weak::upgrade) {
            return Ok(regex);
        }
        if self.regexes.len() >= self.enough {
            self.regexes.retain(|_, regex| regex.strong_count() > 0);
            self.enough = 64.max(2 * self.regexes.len());
        }
        let regex = Arc::new(compile_regex(pattern, ignore_case)?);
        self.regexes.insert(pattern.into(), Arc::downgrade(&regex));
        Ok(regex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_one_expression_while_it_is_used() {
        let mut regexes = Regexes::default();
        let one = regexes.compile("/a[0-9]+").unwrap();
        assert!(Arc::ptr_eq(&one, &regexes.compile("/a[0-9]+").unwrap()));
        assert!(regexes.compile("(").is_err());
        for number in 0..1000 {
            drop(regexes.compile(&format!("/{number}")).unwrap());
        }
        let kept = regexes.known.regexes.len();
        assert!(kept < 200, "{kept}");
        assert!(Arc::ptr_eq(&one, &regexes.compile("/a[0-9]+").unwrap()));
        let ignore_case = true;
        let text = "/a[0-9]+".into();
        let other = regexes.compile_pattern(&Pattern { text, ignore_case });
        assert!(other.unwrap().is_match(b"/A1") && !one.is_match(b"/A1"));
    }
}
