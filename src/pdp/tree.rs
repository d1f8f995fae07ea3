//! The patterns of one listener as a tree of segments, and the search for the best one.
//!
//! Literals are kept folded and bare, so that one search meets both the pattern that is meant and
//! every more specific one that a careless reader could take instead: of another letter case, with
//! blanks or dots around a segment, or with the other slash at the end. The caller decides what to
//! make of those.

use std::borrow::Cow;
use std::sync::Arc;

use super::path;
use super::pattern::{End, Pattern, Segment, fold, folded_text};
use super::policy::Route;

/// A tree of patterns.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// By folded and bare text, sorted.
    literals: Vec<(Box<str>, Self)>,
    parameter: Option<Box<Self>>,
    /// Patterns that end here, with or without a slash.
    ends: Vec<Leaf>,
    /// Patterns that go on with `**`.
    below: Vec<Leaf>,
}

/// One pattern with its routes: no two of them have a method in common.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) pattern: Pattern,
    pub(super) routes: Vec<Arc<Route>>,
}

/// What a search found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection<'t> {
    /// The best pattern that matches.
    pub(super) leaf: &'t Leaf,
    /// It matches only because some of its routes take no account of case.
    pub(super) folded: bool,
    /// A more specific one that would match with the other slash at the end.
    pub(super) but_for_slash: Option<&'t Leaf>,
    /// Whether a more specific one would match if case made no difference.
    pub(super) but_for_case: bool,
    /// Whether a more specific one would match if blanks and dots were trimmed off segments.
    pub(super) but_for_padding: bool,
}

/// A path in the form of a search: split at `/`, each segment decoded or already so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought<'p> {
    /// Begins with `/`.
    pub(super) path: &'p str,
    /// Whether its segments are still percent-encoded.
    pub(super) encoded: bool,
}

impl Tree {
    /// Adds a route; to the leaf that matches the same paths if there is one.
    pub(super) fn insert(&mut self, pattern: Pattern, route: Arc<Route>) {
        let mut node = &mut self.root;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                Segment::Literal(text) => node.literal(&folded_text(bare(text))),
            };
        }
        let leaves = match pattern.end {
            End::Below => &mut node.below,
            End::Plain | End::Slash => &mut node.ends,
        };
        match leaves.iter_mut().find(|l| l.pattern.same_paths(&pattern)) {
            Some(leaf) => leaf.routes.push(route),
            None => leaves.push(Leaf {
                pattern,
                routes: vec![route],
            }),
        }
    }

    /// Every pattern.
    pub(super) fn leaves(&self) -> Vec<&Leaf> {
        let mut found = Vec::new();
        self.root.collect(&mut found);
        found
    }

    /// The best pattern for a path: literal before `{name}` before `**`, segment by segment. A node
    /// of the tree is entered at most once a search, so the work is bounded by the configuration.
    pub(super) fn select(&self, sought: Sought<'_>) -> Option<Selection<'_>> {
        let mut passed = Passed {
            sought,
            slash: None,
            case: false,
            padding: false,
        };
        let (leaf, folded) = self.root.search(sought.rest(), &mut passed)?;
        Some(Selection {
            leaf,
            folded,
            but_for_slash: passed.slash,
            but_for_case: passed.case,
            but_for_padding: passed.padding,
        })
    }
}

/// What a search met on its way.
struct Passed<'t, 'p> {
    sought: Sought<'p>,
    slash: Option<&'t Leaf>,
    case: bool,
    padding: bool,
}

impl Node {
    fn literal(&mut self, key: &str) -> &mut Self {
        let at = match self.literals.binary_search_by(|(k, _)| (**k).cmp(key)) {
            Ok(at) => at,
            Err(at) => {
                self.literals.insert(at, (key.into(), Self::default()));
                at
            }
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "found or inserted at this very place"
        )]
        &mut self.literals[at].1
    }

    fn collect<'t>(&'t self, found: &mut Vec<&'t Leaf>) {
        found.extend(self.ends.iter().chain(&self.below));
        for (_, child) in &self.literals {
            child.collect(found);
        }
        if let Some(child) = &self.parameter {
            child.collect(found);
        }
    }

    /// `rest` is what follows the slash after the segments so far: `None` without one.
    fn search<'t>(
        &'t self,
        rest: Option<&str>,
        passed: &mut Passed<'t, '_>,
    ) -> Option<(&'t Leaf, bool)> {
        let found = match rest {
            None | Some("") => choose(&self.ends, Some(rest.is_some()), passed),
            Some(rest) => {
                let (segment, after) = split(rest);
                self.literal_child(&passed.sought.text(segment))
                    .and_then(|child| child.search(after, passed))
                    .or_else(|| {
                        let child = self.parameter.as_ref().filter(|_| !segment.is_empty())?;
                        child.search(after, passed)
                    })
            }
        };
        found.or_else(|| choose(&self.below, None, passed))
    }

    fn literal_child(&self, text: &str) -> Option<&Self> {
        let text = bare(text);
        let at = if text.is_ascii() {
            let key = text.bytes().map(|byte| byte.to_ascii_lowercase());
            self.literals
                .binary_search_by(|(k, _)| k.bytes().cmp(key.clone()))
        } else {
            self.literals
                .binary_search_by(|(k, _)| k.chars().cmp(text.chars().flat_map(fold)))
        };
        self.literals.get(at.ok()?).map(|(_, child)| child)
    }
}

/// The leaf of a group that matches, and whether only without case; those that fail by a hair are
/// noted if none does. `slash`: whether the path ends in one, where that counts.
fn choose<'t>(
    leaves: &'t [Leaf],
    slash: Option<bool>,
    passed: &mut Passed<'t, '_>,
) -> Option<(&'t Leaf, bool)> {
    let mut near_slash = None;
    let (mut near_case, mut near_padding) = (false, false);
    for leaf in leaves {
        let folded = match leaf.letters(passed.sought) {
            Letters::Exact => false,
            Letters::Folded if leaf.ignores_case() => true,
            Letters::Padded => {
                near_padding = true;
                continue;
            }
            Letters::Folded | Letters::Other => {
                near_case = true;
                continue;
            }
        };
        if slash.is_none_or(|slash| slash == (leaf.pattern.end == End::Slash)) {
            return Some((leaf, folded));
        }
        near_slash = Some(leaf);
    }
    passed.slash = passed.slash.or(near_slash);
    passed.case |= near_case;
    passed.padding |= near_padding;
    None
}

/// How the literals of a pattern compare with a path of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    Exact,
    /// But for the case of ASCII letters.
    Folded,
    /// But for blanks around a segment, or dots at its end.
    Padded,
    /// But for both, or for case outside ASCII.
    Other,
}

impl Leaf {
    /// Whether any of its routes takes no account of case.
    pub(super) fn ignores_case(&self) -> bool {
        self.routes.iter().any(|route| route.case_insensitive)
    }

    fn letters(&self, sought: Sought<'_>) -> Letters {
        let mut rest = sought.rest();
        let mut worst = Letters::Exact;
        for segment in &self.pattern.segments {
            let (sent, after) = split(rest.unwrap_or_default());
            rest = after;
            let Segment::Literal(text) = segment else {
                continue;
            };
            let sent = sought.text(sent);
            let letters = if *sent == **text {
                continue;
            } else if sent.eq_ignore_ascii_case(text) {
                Letters::Folded
            } else if bare(&sent) == bare(text) {
                Letters::Padded
            } else {
                Letters::Other
            };
            worst = if worst == Letters::Exact || worst == letters {
                letters
            } else {
                Letters::Other
            };
        }
        worst
    }
}

impl<'p> Sought<'p> {
    fn rest(self) -> Option<&'p str> {
        self.path.strip_prefix('/')
    }

    /// A segment as it is compared.
    fn text(self, segment: &'p str) -> Cow<'p, str> {
        if self.encoded && segment.contains('%') {
            let bytes: Vec<u8> = path::decoded(segment).collect();
            Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
        } else {
            Cow::Borrowed(segment)
        }
    }
}

/// The first segment, and what follows the slash after it.
fn split(rest: &str) -> (&str, Option<&str>) {
    match rest.split_once('/') {
        Some((segment, after)) => (segment, Some(after)),
        None => (rest, None),
    }
}

/// A segment without what some servers trim off it.
fn bare(text: &str) -> &str {
    let text = text.trim_start();
    text.trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}
