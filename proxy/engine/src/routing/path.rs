//! The second level of a lookup: from a path to what is known under it.
//!
//! Prefixes are a tree of whole elements, so a lookup hashes each element of the path once, and
//! stops where the tree ends. (A map of whole prefixes would hash a long path as many times as it
//! has elements.) Paths come normalised and without query; they are compared byte by byte.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use regex::bytes::Regex;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;

use super::regexes::Regexes;
use super::text::Text;
use crate::state::entity::check::PATH_BYTES_MAX;
use crate::state::entity::{PathMatch, Pattern};

/// Which paths a frontend serves.
#[derive(Clone, Copy, Debug)]
pub enum PathPattern<'a> {
    /// This one only.
    Exact(&'a Arc<str>),
    /// This one and all below it. `/` is all paths; one slash at the end means nothing.
    Prefix(&'a [u8]),
    /// Those that an expression matches wholly, or that end in some way.
    Expression(ExpressionRank),
}

/// What no index has: it matches a path or not, and is tried.
#[derive(Debug)]
pub struct Expression {
    test: Test,
    /// Where it stands among prefixes and other expressions.
    rank: ExpressionRank,
}

/// What is tried.
#[derive(Debug)]
enum Test {
    /// The expression matches the whole path.
    Regex(Arc<Regex>),
    /// The path ends with this.
    Suffix(Pattern),
}

impl Expression {
    /// That of a frontend's path, if it is one: compiled, or what has been before.
    pub fn of(path: &PathMatch, regexes: &mut Regexes) -> Result<Option<Self>, String> {
        let test = match path {
            PathMatch::Regex(pattern) => Test::Regex(regexes.compile_pattern(pattern)?),
            PathMatch::Suffix(pattern) => Test::Suffix(pattern.clone()),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => return Ok(None),
        };
        Ok(ExpressionRank::of(path).map(|rank| Self { test, rank }))
    }

    /// Whether it matches a path.
    #[inline]
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.test {
            Test::Regex(regex) => regex.is_match(path),
            Test::Suffix(pattern) => {
                let wanted = pattern.text.as_bytes();
                let end = path.len().checked_sub(wanted.len());
                let end = end.map_or(&[][..], |start| &path[start..]);
                match pattern.ignore_case {
                    true => end.eq_ignore_ascii_case(wanted),
                    false => end == wanted,
                }
            }
        }
    }
}

/// How specific an expression is; the smallest is the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpressionRank {
    /// Length of the text with which everything that it matches begins. It competes with prefixes of
    /// this length, and goes before one of the same.
    beginning: Reverse<usize>,
    /// A suffix comes behind any expression.
    is_suffix: bool,
    /// Length of the expression as written.
    length: Reverse<usize>,
}

impl ExpressionRank {
    fn of(path: &PathMatch) -> Option<Self> {
        let (pattern, is_suffix) = match path {
            PathMatch::Regex(pattern) => (pattern, false),
            PathMatch::Suffix(pattern) => (pattern, true),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => return None,
        };
        // Every path begins with a slash, whatever can be told of the expression.
        let beginning = if is_suffix { 1 } else { beginning_of(pattern) };
        Some(Self {
            beginning: Reverse(beginning),
            is_suffix,
            length: Reverse(pattern.text.len()),
        })
    }
}

/// Length of the text with which everything begins that an expression matches.
fn beginning_of(pattern: &Pattern) -> usize {
    let mut builder = ParserBuilder::new();
    let mut parser = builder.case_insensitive(pattern.ignore_case).build();
    parser.parse(&pattern.text).map_or(1, |parsed| {
        let texts = Extractor::new().extract(&parsed);
        texts.longest_common_prefix().map_or(1, <[u8]>::len).max(1)
    })
}

impl<'a> PathPattern<'a> {
    /// Reads the `path` of a frontend, with its expression if it is one.
    pub fn of(path: &'a PathMatch, expression: Option<&Expression>) -> Self {
        match path {
            PathMatch::Exact(path) => Self::Exact(path),
            PathMatch::Prefix(path) => Self::Prefix(path.as_bytes()),
            PathMatch::Regex(_) | PathMatch::Suffix(_) => {
                let rank = expression.map(|expression| expression.rank);
                let rank = rank.or_else(|| ExpressionRank::of(path));
                rank.map_or(Self::Prefix(b"/"), Self::Expression)
            }
        }
    }
}

/// Values by [`PathPattern`]; expressions of one rank share a value.
#[derive(Debug)]
pub struct PathMap<V> {
    prefix: Node<V>,
    // Most hostnames have prefixes alone, and there may be 100,000 hostnames.
    others: Option<Box<Others<V>>>,
}

/// Values by whole paths and by expressions.
#[derive(Debug)]
struct Others<V> {
    exact: AHashMap<Text, V>,
    expressions: BTreeMap<ExpressionRank, V>,
}

impl<V> PathMap<V> {
    /// Offers every value whose pattern may match `path`, most specific first, until one is taken.
    ///
    /// That is the exact path, then what has the longer literal beginning, prefix or expression; of
    /// two alike the expression, since it says more, and a suffix between both.
    ///
    /// Costs one hash for the path and one per element of it, and the expressions one by one: an
    /// expression cannot be indexed.
    #[inline]
    pub fn find<'a, R>(
        &'a self,
        path: &[u8],
        mut visit: impl FnMut(&'a V) -> Option<R>,
    ) -> Option<R> {
        // What does not begin with a slash (`*` of OPTIONS) has no elements: `/` alone covers it.
        let elements = path.strip_prefix(b"/");
        let Some(others) = &self.others else {
            return self.prefix.find(elements, 0, &mut |_, value| visit(value));
        };
        if !others.exact.is_empty() && path.len() <= PATH_BYTES_MAX {
            if let Some(found) = others.exact.get(path).and_then(&mut visit) {
                return Some(found);
            }
        }
        let mut expressions = others.expressions.iter().peekable();
        let found = self.prefix.find(elements, 0, &mut |length, value| {
            while let Some((_, expression)) =
                expressions.next_if(|(rank, _)| rank.beginning.0 >= length)
            {
                if let Some(found) = visit(expression) {
                    return Some(found);
                }
            }
            visit(value)
        });
        found.or_else(|| expressions.find_map(|(_, expression)| visit(expression)))
    }

    /// The value of a pattern itself.
    pub fn get(&self, pattern: PathPattern<'_>) -> Option<&V> {
        match pattern {
            PathPattern::Exact(path) => self.others.as_ref()?.exact.get(path.as_bytes()),
            PathPattern::Prefix(path) => self.prefix.get(elements(path)),
            PathPattern::Expression(rank) => self.others.as_ref()?.expressions.get(&rank),
        }
    }

    /// The value of a pattern, made when there is none.
    pub fn get_or_default(&mut self, pattern: PathPattern<'_>) -> &mut V
    where
        V: Default,
    {
        match pattern {
            PathPattern::Exact(path) => {
                let exact = &mut self.others.get_or_insert_default().exact;
                exact.entry(Text(path.clone())).or_default()
            }
            PathPattern::Prefix(path) => {
                let node = elements(path).fold(&mut self.prefix, |node, element| {
                    node.children
                        .get_or_insert_default()
                        .entry(element.into())
                        .or_default()
                });
                node.value.get_or_insert_default()
            }
            PathPattern::Expression(rank) => {
                let expressions = &mut self.others.get_or_insert_default().expressions;
                expressions.entry(rank).or_default()
            }
        }
    }

    /// Runs `change` on the value of a pattern, and drops the value when `is_empty` holds after it.
    pub fn change<R>(
        &mut self,
        pattern: PathPattern<'_>,
        change: impl FnOnce(&mut V) -> R,
        is_empty: impl FnOnce(&V) -> bool,
    ) -> Option<R> {
        if let PathPattern::Prefix(path) = pattern {
            return self.prefix.change(elements(path), change, is_empty);
        }
        let others = self.others.as_mut()?;
        let value = match pattern {
            PathPattern::Exact(path) => others.exact.get_mut(path.as_bytes())?,
            PathPattern::Expression(rank) => others.expressions.get_mut(&rank)?,
            PathPattern::Prefix(_) => return None,
        };
        let result = change(value);
        if is_empty(value) {
            match pattern {
                PathPattern::Exact(path) => drop(others.exact.remove(path.as_bytes())),
                PathPattern::Expression(rank) => drop(others.expressions.remove(&rank)),
                PathPattern::Prefix(_) => {}
            }
        }
        self.others
            .take_if(|others| others.exact.is_empty() && others.expressions.is_empty());
        Some(result)
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.others.is_none() && self.prefix.is_empty()
    }
}

impl<V> Default for PathMap<V> {
    fn default() -> Self {
        Self {
            prefix: Node::default(),
            others: None,
        }
    }
}

impl<V> Default for Others<V> {
    fn default() -> Self {
        Self {
            exact: AHashMap::new(),
            expressions: BTreeMap::new(),
        }
    }
}

/// The elements of a prefix; none for `/`.
fn elements(prefix: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = match prefix {
        [] | [b'/'] => None,
        [b'/', inner @ ..] | inner => Some(inner.strip_suffix(b"/").unwrap_or(inner)),
    };
    inner
        .into_iter()
        .flat_map(|inner| inner.split(|byte| *byte == b'/'))
}

/// One element of the tree of prefixes. The tree is as deep as the longest prefix, which is at most
/// [`PATH_BYTES_MAX`] long, so recursion down to its leaves is bounded.
#[derive(Debug)]
struct Node<V> {
    value: Option<V>,
    // Most nodes are leaves: an empty map in each would double the tree.
    children: Option<Box<AHashMap<Box<[u8]>, Self>>>,
}

impl<V> Node<V> {
    /// `visit` gets the length of each prefix with its value; `taken` is that of this one.
    fn find<'a, R, F>(&'a self, elements: Option<&[u8]>, taken: usize, visit: &mut F) -> Option<R>
    where
        F: FnMut(usize, &'a V) -> Option<R>,
    {
        if let (Some(elements), Some(children)) = (elements, &self.children) {
            let (element, rest) = match memchr::memchr(b'/', elements) {
                Some(slash) => (&elements[..slash], Some(&elements[slash + 1..])),
                None => (elements, None),
            };
            if let Some(found) = children
                .get(element)
                .and_then(|child| child.find(rest, taken + 1 + element.len(), visit))
            {
                return Some(found);
            }
        }
        let value = self.value.as_ref()?;
        // That of all paths is a slash.
        visit(taken.max(1), value)
    }

    fn get<'a>(&self, mut elements: impl Iterator<Item = &'a [u8]>) -> Option<&V> {
        let node = elements.try_fold(self, |node, element| node.children.as_ref()?.get(element))?;
        node.value.as_ref()
    }

    fn change<'a, R>(
        &mut self,
        mut elements: impl Iterator<Item = &'a [u8]>,
        change: impl FnOnce(&mut V) -> R,
        is_empty: impl FnOnce(&V) -> bool,
    ) -> Option<R> {
        let Some(element) = elements.next() else {
            let value = self.value.as_mut()?;
            let result = change(value);
            self.value.take_if(|value| is_empty(value));
            return Some(result);
        };
        let children = self.children.as_mut()?;
        let child = children.get_mut(element)?;
        let result = child.change(elements, change, is_empty);
        if child.is_empty() {
            children.remove(element);
        }
        self.children.take_if(|children| children.is_empty());
        result
    }

    fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.is_none()
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self {
            value: None,
            children: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(path: &str) -> PathMatch {
        PathMatch::Prefix(path.into())
    }

    fn exact(path: &str) -> PathMatch {
        PathMatch::Exact(path.into())
    }

    fn regex(pattern: &str) -> PathMatch {
        PathMatch::Regex(pattern.into())
    }

    fn suffix(text: &str) -> PathMatch {
        PathMatch::Suffix(text.into())
    }

    fn map(patterns: &[(PathMatch, &'static str)]) -> PathMap<&'static str> {
        let mut map = PathMap::default();
        for (pattern, name) in patterns {
            *map.get_or_default(PathPattern::of(pattern, None)) = *name;
        }
        map
    }

    /// Everything that is offered for a path, in order.
    fn offered(map: &PathMap<&'static str>, path: &str) -> Vec<&'static str> {
        let mut offered = Vec::new();
        let none: Option<()> = map.find(path.as_bytes(), |name| {
            offered.push(*name);
            None
        });
        assert_eq!(none, None);
        offered
    }

    #[test]
    fn prefixes_are_of_whole_elements() {
        let map = map(&[
            (prefix("/foo"), "foo"),
            (prefix("/foo/bar/"), "bar"),
            (prefix("/"), "root"),
        ]);
        assert_eq!(offered(&map, "/foo"), ["foo", "root"]);
        assert_eq!(offered(&map, "/foo/"), ["foo", "root"]);
        assert_eq!(offered(&map, "/foo/x"), ["foo", "root"]);
        assert_eq!(offered(&map, "/foobar"), ["root"]);
        assert_eq!(offered(&map, "/foo/bar"), ["bar", "foo", "root"]);
        assert_eq!(offered(&map, "/foo/bar/x"), ["bar", "foo", "root"]);
        assert_eq!(offered(&map, "/"), ["root"]);
        assert_eq!(offered(&map, "*"), ["root"]);
        assert_eq!(offered(&map, ""), ["root"]);
    }

    #[test]
    fn exact_then_the_longest_beginning_then_the_longest_expression() {
        let map = map(&[
            (regex("/.*"), "short"),
            (regex("/[a-z]*"), "long"),
            (regex("/foo/v[0-9]+"), "version"),
            (regex("/foo.*"), "foo and more"),
            (prefix("/"), "root"),
            (prefix("/foo"), "foo"),
            (prefix("/foo/vault"), "vault"),
            (exact("/foo"), "exact"),
        ]);
        let rest = ["version", "foo and more", "foo", "long", "short", "root"];
        assert_eq!(offered(&map, "/foo"), [&["exact"], &rest[..]].concat());
        assert_eq!(offered(&map, "/foo/"), rest);
        assert_eq!(
            offered(&map, "/foo/vault/x"),
            [&["vault"], &rest[..]].concat()
        );
        let others = ["version", "foo and more", "long", "short", "root"];
        assert_eq!(offered(&map, "/bar"), others);
    }

    #[test]
    fn a_suffix_stands_between_expressions_and_prefixes() {
        let map = map(&[
            (prefix("/"), "root"),
            (suffix(".js"), "js"),
            (suffix(".min.js"), "min"),
            (regex("/.*"), "any"),
            (regex("/a/.*"), "below a"),
            (prefix("/a"), "a"),
        ]);
        let order = ["below a", "a", "any", "min", "js", "root"];
        assert_eq!(offered(&map, "/a/x.min.js"), order);
    }

    #[test]
    fn a_suffix_ends_paths() {
        let ends = |path: &str, ignore_case, with: &str| {
            let text = with.into();
            let path_match = PathMatch::Suffix(Pattern { text, ignore_case });
            let expression = Expression::of(&path_match, &mut Regexes::default());
            expression.unwrap().unwrap().matches(path.as_bytes())
        };
        assert!(ends("/a.php", false, ".php"));
        assert!(ends("/a.php", false, "/a.php"));
        assert!(ends("/.php", false, ".php"));
        assert!(!ends("/a.PHP", false, ".php"));
        assert!(ends("/a.PhP", true, ".pHp"));
        assert!(!ends("/a.php/", true, ".php"));
        assert!(!ends("php", true, ".php"));
        assert!(!ends("*", false, ".php"));
    }

    #[test]
    fn without_a_catch_all_expressions_are_offered_all_the_same() {
        let map = map(&[(regex("/a.*"), "a"), (prefix("/b"), "b")]);
        assert_eq!(offered(&map, "/b"), ["a", "b"]);
        assert_eq!(offered(&map, "/c"), ["a"]);
        assert_eq!(offered(&map, "*"), ["a"]);
    }

    #[test]
    fn the_beginning_of_an_expression_is_what_all_its_matches_share() {
        for (pattern, length) in [
            ("/item/[0-9]+", 6),
            ("/item/[0-9]{4}", 6),
            ("/item/?", 5),
            ("/items?", 5),
            ("/(item|it)/x", 3),
            ("/a|/b", 1),
            ("/api|other", 1),
            (".*", 1),
            ("(?i)/api", 1),
            ("/(?:api)/v1", 7),
            ("^/api", 4),
            ("/a\\.b", 4),
            ("/é.*", 3),
        ] {
            let rank = ExpressionRank::of(&regex(pattern)).unwrap();
            assert_eq!(rank.beginning.0, length, "{pattern}");
        }
    }

    #[test]
    fn a_path_of_slashes_alone_ends_with_the_tree() {
        let map = map(&[(prefix("/a"), "a"), (prefix("/"), "root")]);
        assert_eq!(offered(&map, &"/a".repeat(1 << 20)), ["a", "root"]);
    }

    #[test]
    fn drops_what_became_empty() {
        let patterns = [
            prefix("/"),
            prefix("/a/b/c"),
            prefix("/a/b"),
            exact("/a"),
            regex("/a"),
            suffix("/a"),
        ];
        let mut map = map(&patterns.clone().map(|pattern| (pattern, "")));
        for pattern in &patterns {
            let pattern = PathPattern::of(pattern, None);
            assert!(map.get(pattern).is_some());
            assert_eq!(map.change(pattern, |_| 7, |_| false), Some(7));
            assert!(map.get(pattern).is_some());
            assert_eq!(map.change(pattern, |_| 7, |_| true), Some(7));
            assert_eq!(map.change(pattern, |_| 7, |_| true), None);
        }
        assert!(map.is_empty());
    }
}
