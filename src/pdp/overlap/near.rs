//! Which patterns may match a path that another one matches: those that are compared. Of ten thousand
//! routes most have nothing to do with each other, and fifty million comparisons take seconds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::pdp::pattern::{End, Pattern, Segment, folded_text};
use crate::pdp::tree::Leaf;

/// Patterns by their segments, letter case aside.
pub(super) struct Near<'l> {
    leaves: &'l [&'l Leaf],
    root: Node<'l>,
}

#[derive(Default)]
struct Node<'l> {
    literals: BTreeMap<Cow<'l, str>, Self>,
    parameter: Option<Box<Self>>,
    /// Those that have no further segment: places among the leaves.
    here: Vec<usize>,
}

impl<'l> Near<'l> {
    pub(super) fn of(leaves: &'l [&'l Leaf]) -> Self {
        let mut root = Node::default();
        for (index, leaf) in leaves.iter().enumerate() {
            let mut node = &mut root;
            for segment in &leaf.pattern.segments {
                node = match segment {
                    Segment::Literal(text) => node.literals.entry(folded_text(text)).or_default(),
                    Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                };
            }
            node.here.push(index);
        }
        Self { leaves, root }
    }

    /// The leaves among which all are that share a path with this pattern, in their order.
    pub(super) fn to(&self, pattern: &Pattern) -> impl Iterator<Item = (usize, &'l Leaf)> {
        let mut found = Vec::new();
        self.root.find(&pattern.segments, pattern.end, &mut found);
        found.sort_unstable();
        let leaves = self.leaves;
        found
            .into_iter()
            .filter_map(move |index| Some((index, *leaves.get(index)?)))
    }
}

impl Node<'_> {
    /// As deep as a pattern has segments.
    fn find(&self, segments: &[Segment], end: End, found: &mut Vec<usize>) {
        found.extend(&self.here);
        match segments.split_first() {
            Some((Segment::Literal(text), rest)) => {
                let both = [
                    self.literals.get(&*folded_text(text)),
                    self.parameter.as_deref(),
                ];
                for node in both.into_iter().flatten() {
                    node.find(rest, end, found);
                }
            }
            Some((Segment::Parameter(_), rest)) => {
                for node in self.children() {
                    node.find(rest, end, found);
                }
            }
            None if end == End::Below => {
                for node in self.children() {
                    node.find(&[], end, found);
                }
            }
            None => {}
        }
    }

    fn children(&self) -> impl Iterator<Item = &Self> {
        self.literals.values().chain(self.parameter.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(text: &str) -> Leaf {
        Leaf {
            pattern: Pattern::parse(text).unwrap(),
            routes: Vec::new(),
        }
    }

    fn near(texts: &[&str], to: &str) -> Vec<usize> {
        let leaves: Vec<_> = texts.iter().map(|text| leaf(text)).collect();
        let leaves: Vec<_> = leaves.iter().collect();
        let near = Near::of(&leaves);
        near.to(&Pattern::parse(to).unwrap())
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn what_differs_in_a_literal_is_not_compared() {
        let texts = ["/a/b", "/A/{x}", "/c/**", "/c/d/e", "/{x}/b", "/**"];
        for (to, expected) in [
            ("/a/b", &[0, 1, 4, 5][..]),
            ("/c/d", &[2, 5]),
            ("/c/**", &[2, 3, 4, 5]),
            ("/x/y", &[5]),
            ("/**", &[0, 1, 2, 3, 4, 5]),
        ] {
            assert_eq!(near(&texts, to), expected, "{to}");
        }
    }

    fn some_pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            "[abAB]",
            "\\{[xy]\\}",
            Just("%E2%84%AA".to_owned()),
            Just("k".to_owned())
        ];
        let end = prop::sample::select(vec!["", "/", "/**"]);
        (prop::collection::vec(segment, 0..4), end).prop_map(|(segments, end)| {
            let mut text = String::new();
            for (at, segment) in segments.iter().enumerate() {
                text.push('/');
                text.push_str(&segment.replace('}', &format!("{at}}}")));
            }
            text.push_str(end);
            if text.is_empty() {
                "/".to_owned()
            } else {
                text
            }
        })
    }

    proptest! {
        #[test]
        fn none_that_shares_a_path_is_left_out(
            texts in prop::collection::vec(some_pattern(), 1..8),
            to in some_pattern(),
            fold: bool,
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let found = near(&texts, &to);
            prop_assert!(found.is_sorted());
            let pattern = Pattern::parse(&to).unwrap();
            for (index, text) in texts.iter().enumerate() {
                let other = Pattern::parse(text).unwrap();
                let both = pattern.precedence(&other, fold).or(other.precedence(&pattern, fold));
                prop_assert!(both.is_none() || found.contains(&index), "{text} is near {to}");
            }
        }
    }
}
