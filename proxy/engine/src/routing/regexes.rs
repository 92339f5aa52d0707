//! Expressions that have been compiled, by their text: one that many frontends have is compiled once.

use std::sync::{Arc, Weak};

use ahash::AHashMap;
use regex::bytes::Regex;

use crate::state::entity::compile_regex;

/// Expressions as long as somebody uses them.
#[derive(Default)]
pub struct Regexes {
    known: AHashMap<Box<str>, Weak<Regex>>,
    /// So many before those that are used by nobody are looked for.
    enough: usize,
}

impl Regexes {
    /// The expression, compiled.
    pub fn compile(&mut self, pattern: &str) -> Result<Arc<Regex>, String> {
        if let Some(regex) = self.known.get(pattern).and_then(Weak::upgrade) {
            return Ok(regex);
        }
        if self.known.len() >= self.enough {
            self.known.retain(|_, regex| regex.strong_count() > 0);
            self.enough = 64.max(2 * self.known.len());
        }
        let regex = Arc::new(compile_regex(pattern)?);
        self.known.insert(pattern.into(), Arc::downgrade(&regex));
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
        assert!(regexes.known.len() < 200, "{}", regexes.known.len());
        assert!(Arc::ptr_eq(&one, &regexes.compile("/a[0-9]+").unwrap()));
    }
}
