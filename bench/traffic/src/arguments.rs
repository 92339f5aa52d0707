//! The arguments of the programs: `--name value` and `--switch`, in any order.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// What was said on the command line.
#[derive(Debug)]
pub struct Arguments {
    values: HashMap<String, String>,
    switches: Vec<String>,
}

impl Arguments {
    /// Takes the words apart. A name of `known` has a value, one of `switches` has none.
    ///
    /// # Errors
    /// A sentence about the word that is neither.
    pub fn parse(
        words: impl IntoIterator<Item = String>,
        known: &[&str],
        switches: &[&str],
    ) -> Result<Self, String> {
        let mut found = Self {
            values: HashMap::new(),
            switches: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or_default();
            if switches.contains(&name) {
                found.switches.push(name.into());
            } else if known.contains(&name) {
                let value = words.next().ok_or(format!("--{name} wants a value"))?;
                found.values.insert(name.into(), value);
            } else {
                let all = [known, switches].concat().join(", --");
                return Err(format!("{word:?} is not one of --{all}"));
            }
        }
        Ok(found)
    }

    /// Whether a switch was given.
    pub fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|each| each == switch)
    }

    /// The value of a name, if it was given.
    ///
    /// # Errors
    /// A sentence about a value that is none of this type.
    pub fn find<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.values.get(name) else {
            return Ok(None);
        };
        let value = text.parse::<T>();
        value
            .map(Some)
            .map_err(|error| format!("--{name} {text}: {error}"))
    }

    /// The value of a name that must be given.
    ///
    /// # Errors
    /// As [`Arguments::find`], and when it is missing.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, String> {
        self.find(name)?.ok_or(format!("--{name} is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Arguments, String> {
        let words = text.split(' ').map(str::to_owned);
        Arguments::parse(words, &["rate", "path"], &["fresh"])
    }

    #[test]
    fn values_and_switches_come_in_any_order() {
        let found = parse("--rate 2.5 --fresh").unwrap();
        assert_eq!(found.get::<f64>("rate"), Ok(2.5));
        assert!(found.has("fresh"));
        assert_eq!(found.find::<String>("path"), Ok(None));
        assert!(!parse("--rate 1").unwrap().has("fresh"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse("--speed 1").unwrap_err().contains("--speed"));
        assert!(parse("rate 1").unwrap_err().contains("\"rate\""));
        assert!(parse("--rate").unwrap_err().contains("wants a value"));
        let found = parse("--rate much").unwrap();
        assert!(found.get::<f64>("rate").unwrap_err().contains("much"));
        assert!(found.get::<f64>("path").unwrap_err().contains("missing"));
    }
}
