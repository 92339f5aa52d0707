//! Expressions: compiled for workers, and weighed for the control plane, which asks before any worker does.
//!
//! The rule: both have one configuration, so that what was weighed is what is compiled, and a reason reads the same
//! wherever it is told. It names no more of an expression than a line holds.

use regex::bytes::{Regex, RegexBuilder};
use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::{Error, ParserBuilder};

/// Largest compiled expression. The crate's own default is ten times that, for one expression;
/// here there may be one per frontend.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Largest cache of the lazily built automaton. When it is full, the crate goes on with slower,
/// still linear means.
const REGEX_CACHE_BYTES_MAX: usize = 256 << 10;

/// So much of an expression stands in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// Compiles an expression so that it matches a value wholly or not at all.
///
/// The engine of `regex` is linear in the length of the value, whatever the expression; what can
/// still be large is the compiled program, so that is limited.
pub fn compile_regex(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    let compiled = whole(pattern, ignore_case).and_then(|whole| {
        RegexBuilder::new(&whole)
            .case_insensitive(ignore_case)
            .size_limit(REGEX_PROGRAM_BYTES_MAX)
            .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
            .build()
            .map_err(|_| too_large())
    });
    compiled.map_err(|reason| format!("regex {}: {reason}", shown(pattern)))
}

/// How many bytes an expression takes when it is compiled, without what matching adds; else why it cannot be.
///
/// What [`compile_regex`] makes does not tell, so it is made once more, by the same crate: nothing here is guessed.
pub fn weigh_regex(pattern: &str, ignore_case: bool) -> Result<usize, String> {
    let config = meta::Config::new()
        .nfa_size_limit(Some(REGEX_PROGRAM_BYTES_MAX))
        .hybrid_cache_capacity(REGEX_CACHE_BYTES_MAX)
        .utf8_empty(false);
    let syntax = syntax::Config::new()
        .utf8(false)
        .case_insensitive(ignore_case);
    let compiled = meta::Regex::builder()
        .configure(config)
        .syntax(syntax)
        .build(&whole(pattern, ignore_case)?)
        .map_err(|_| too_large())?;
    Ok(compiled.memory_usage())
}

/// The expression between its anchors, if it is one.
fn whole(pattern: &str, ignore_case: bool) -> Result<String, String> {
    // Alone first: `a)|(b` would become two balanced groups inside the anchors.
    ParserBuilder::new()
        .utf8(false)
        .case_insensitive(ignore_case)
        .build()
        .parse(pattern)
        .map_err(|error| worded(pattern, &error))?;
    Ok(format!(r"\A(?:{pattern})\z"))
}

/// What is wrong, and where; the crate draws it over several lines, with the whole expression.
fn worded(pattern: &str, error: &Error) -> String {
    let (span, what) = match error {
        Error::Parse(error) => (error.span(), error.kind().to_string()),
        Error::Translate(error) => (error.span(), error.kind().to_string()),
        other => return other.to_string().lines().last().unwrap_or("").to_owned(),
    };
    let before = pattern.get(..span.start.offset).unwrap_or("");
    format!("{what}, at character {}", before.chars().count() + 1)
}

/// What was parsed and cannot be compiled is that.
fn too_large() -> String {
    format!(
        "compiled it takes more than {} MiB",
        REGEX_PROGRAM_BYTES_MAX >> 20
    )
}

fn shown(pattern: &str) -> String {
    let quoted = format!("\"{pattern}\"");
    match quoted.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &quoted[..end]),
        None => quoted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_refused_by_both_for_one_reason() {
        for (pattern, reason) in [
            ("(?:a{1000}){1000}", "compiled it takes more than 1 MiB"),
            (r"/(?:\pL{500}){30}", "compiled it takes more than 1 MiB"),
            (
                r"/ü\p{Nothing}",
                "Unicode property not found, at character 3",
            ),
            (
                "(?P<a>x)(?P<a>y)",
                "duplicate capture group name, at character 13",
            ),
            (
                "/[z-a]",
                "invalid character class range, the start must be <= the end, at character 3",
            ),
            ("a)|(b", "unopened group, at character 2"),
        ] {
            let found = weigh_regex(pattern, false).unwrap_err();
            assert_eq!(found, reason, "{pattern}");
            let told = compile_regex(pattern, false).unwrap_err();
            assert_eq!(told, format!("regex \"{pattern}\": {reason}"));
        }
        let long = format!("/{}(", "a".repeat(2000));
        assert!(compile_regex(&long, false).unwrap_err().len() < 150);
    }

    #[test]
    fn what_has_more_to_it_weighs_more() {
        let weigh = |pattern| weigh_regex(pattern, false).unwrap();
        assert!((500..4_000).contains(&weigh("/item/[0-9]+")));
        assert!((400_000..800_000).contains(&weigh("/1/(?:[a-z]{1000}){12}")));
        assert!(weigh_regex("/abc", true).unwrap() >= weigh("/abc"));
    }
}
