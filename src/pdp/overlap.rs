//! Routes beside each other: which could tie, and which hide another's methods.

mod near;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use http::Method;

use self::near::Near;
use super::pattern::Pattern;
use super::policy::{MethodSet, Route};
use super::tree::Leaf;

/// The methods that a route of `"*"` is said to have, where a list must be given.
const COMMON: [Method; 7] = [
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
];

/// Two routes that could tie, so that no table is made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConflict {
    /// Name of the one that came first.
    pub first: Arc<str>,
    /// Name of the other.
    pub second: Arc<str>,
    /// Its pattern.
    pub pattern: Box<str>,
    /// Methods that both have; empty where the patterns differ by letter case and one of the
    /// routes leads to an upstream that takes no account of it.
    pub methods: Vec<Box<str>>,
}

/// Two patterns that match some of the same paths, and methods that only the less specific one
/// has: on those paths they are refused (405).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// The pattern that is chosen.
    pub chosen: Box<str>,
    /// The pattern that is not.
    pub hidden: Box<str>,
    /// The methods that cannot be reached, sorted.
    pub methods: Vec<Box<str>>,
}

/// Pairs of patterns of which one hides methods of the other.
pub(super) fn hidden(leaves: &[&Leaf]) -> Vec<Hidden> {
    let mut found = Vec::new();
    let near = Near::of(leaves);
    for chosen in leaves {
        for (_, hidden) in near.to(&chosen.pattern) {
            let fold = chosen.ignores_case() || hidden.ignores_case();
            if chosen.pattern.precedence(&hidden.pattern, fold) != Some(Ordering::Greater) {
                continue;
            }
            let mut methods = allow(&hidden.routes);
            methods.retain(|name| {
                let method = Method::from_bytes(name.as_bytes());
                method.is_ok_and(|method| !chosen.routes.iter().any(|r| r.methods.has(&method)))
            });
            if !methods.is_empty() {
                found.push(Hidden {
                    chosen: chosen.pattern.as_str().into(),
                    hidden: hidden.pattern.as_str().into(),
                    methods,
                });
            }
        }
    }
    found
}

/// The methods of some routes, sorted, each once.
pub(super) fn allow<'r>(routes: impl IntoIterator<Item = &'r Arc<Route>>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for route in routes {
        let methods = match &route.methods {
            MethodSet::Any => COMMON.as_slice(),
            MethodSet::These(methods) => methods,
        };
        names.extend(methods.iter().map(|method| Box::from(method.as_str())));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Every pair of routes that could tie.
pub(super) fn conflicts(leaves: &[&Leaf]) -> Vec<RouteConflict> {
    let mut found = Vec::new();
    let near = Near::of(leaves);
    for (at, leaf) in leaves.iter().enumerate() {
        for (nth, first) in leaf.routes.iter().enumerate() {
            for second in leaf.routes.iter().skip(nth.saturating_add(1)) {
                let methods = shared(&first.methods, &second.methods);
                if !methods.is_empty() {
                    found.push(conflict(first, second, &leaf.pattern, methods));
                }
            }
        }
        for (_, other) in near.to(&leaf.pattern).filter(|(index, _)| *index > at) {
            let tie = (leaf.ignores_case() || other.ignores_case())
                && leaf.pattern.precedence(&other.pattern, true) == Some(Ordering::Equal);
            if let (true, Some(first), Some(second)) =
                (tie, leaf.routes.first(), other.routes.first())
            {
                found.push(conflict(first, second, &other.pattern, Vec::new()));
            }
        }
    }
    found
}

fn conflict(
    first: &Route,
    second: &Route,
    pattern: &Pattern,
    methods: Vec<Box<str>>,
) -> RouteConflict {
    RouteConflict {
        first: Arc::clone(&first.name),
        second: Arc::clone(&second.name),
        pattern: pattern.as_str().into(),
        methods,
    }
}

fn shared(a: &MethodSet, b: &MethodSet) -> Vec<Box<str>> {
    let named = |methods: &[Method], other: &MethodSet| {
        let both = methods.iter().filter(|method| other.has(method));
        both.map(|method| Box::from(method.as_str())).collect()
    };
    match (a, b) {
        (MethodSet::These(methods), other) | (other, MethodSet::These(methods)) => {
            named(methods, other)
        }
        (MethodSet::Any, MethodSet::Any) => vec!["*".into()],
    }
}

impl fmt::Display for RouteConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first,
            second,
            pattern,
            methods,
        } = self;
        if methods.is_empty() {
            return write!(
                f,
                "routes `{first}` and `{second}` could tie: `{pattern}` differs by letter case \
                 alone, and an upstream of theirs is case_insensitive"
            );
        }
        write!(
            f,
            "routes `{first}` and `{second}` tie: both have {} on `{pattern}`",
            methods.join(", ")
        )
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` hides {} of `{}`: where both match, those are refused with 405",
            self.chosen,
            self.methods.join(", "),
            self.hidden
        )
    }
}
