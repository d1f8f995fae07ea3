//! A route's path as the operator writes it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use super::path;

/// Segments that a pattern may have.
const SEGMENTS: usize = 64;

/// A checked pattern: literal segments, `{name}` for one segment of any content, and `**` at the
/// end for what stands before it and all below.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    pub(super) segments: Vec<Segment>,
    pub(super) end: End,
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Its text, decoded: `%C3%A9` and `%c3%a9` are one.
    Literal(Box<str>),
    /// `{name}`: any one segment that is not empty.
    Parameter(Box<str>),
}

/// What a pattern asks for after its last segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Plain,
    /// A slash and nothing.
    Slash,
    /// `**`.
    Below,
}

/// Why a text is no pattern, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with `/`.
    #[error("a path begins with `/`")]
    Relative,
    /// It has a query or a fragment.
    #[error("a path has neither `?` nor `#`: queries take no part in the choice of a route")]
    Query,
    /// `//`.
    #[error("a path has no empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a path has no segment `.` or `..`: requests that have one are always refused")]
    DotSegment,
    /// `*` where it means nothing.
    #[error(
        "`*` in `{0}`: write `{{name}}` for one segment, or `**` as the last one for all below"
    )]
    Star(Box<str>),
    /// A brace that is no whole `{name}`.
    #[error(
        "`{0}`: a segment is either literal or one whole `{{name}}` of letters, digits and `_`"
    )]
    Brace(Box<str>),
    /// The same name twice.
    #[error("`{{{0}}}` comes more than once")]
    NameRepeated(Box<str>),
    /// A literal in which a request could be read in two ways.
    #[error(
        "`{0}` holds `;`, `%25`, or an encoded slash, `?` or `#`: use `{{name}}`, and path_allow of the route"
    )]
    Ambiguous(Box<str>),
    /// A literal that no request can have.
    #[error("no request can have this path: {0}")]
    Unreachable(Box<str>),
    /// Too many segments.
    #[error("a path has at most 64 segments")]
    TooLong,
}

impl Pattern {
    /// Reads a pattern such as `/accounts/**` or `/accounts/{id}/balances`.
    ///
    /// A slash at the end is part of what is named: `/accounts/` is not `/accounts`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut rest = text.strip_prefix('/').ok_or(PatternError::Relative)?;
        if rest.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        let mut segments = Vec::new();
        let end = loop {
            if rest.is_empty() {
                break End::Slash;
            }
            let (segment, after) = match rest.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (rest, None),
            };
            if segment == "**" && after.is_none() {
                break End::Below;
            }
            segments.push(Segment::parse(segment, &segments)?);
            if segments.len() > SEGMENTS {
                return Err(PatternError::TooLong);
            }
            match after {
                Some(after) => rest = after,
                None => break End::Plain,
            }
        };
        Ok(Self {
            text: text.into(),
            segments,
            end,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether both match exactly the same paths: equal up to the names in braces.
    #[must_use]
    pub fn same_paths(&self, other: &Self) -> bool {
        self.end == other.end
            && self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|pair| match pair {
                    (Segment::Literal(a), Segment::Literal(b)) => a == b,
                    (Segment::Parameter(_), Segment::Parameter(_)) => true,
                    (Segment::Literal(_), Segment::Parameter(_))
                    | (Segment::Parameter(_), Segment::Literal(_)) => false,
                })
    }

    /// Which of two patterns is chosen for the paths that both match; `None` where no path matches
    /// both. Equal only if [`Pattern::same_paths`].
    ///
    /// `fold` says that letter case makes no difference.
    pub(super) fn precedence(&self, other: &Self, fold: bool) -> Option<Ordering> {
        let mut decided = Ordering::Equal;
        let mut left = self.segments.iter();
        let mut right = other.segments.iter();
        loop {
            let step = match (left.next(), right.next()) {
                (Some(Segment::Literal(a)), Some(Segment::Literal(b))) => {
                    let same = if fold {
                        folded(a).eq(folded(b))
                    } else {
                        a == b
                    };
                    if !same {
                        return None;
                    }
                    Ordering::Equal
                }
                (Some(Segment::Parameter(_)), Some(Segment::Parameter(_))) => Ordering::Equal,
                (Some(Segment::Literal(_)), Some(Segment::Parameter(_))) => Ordering::Greater,
                (Some(Segment::Parameter(_)), Some(Segment::Literal(_))) => Ordering::Less,
                (Some(_), None) if other.end == End::Below => {
                    return Some(decided.then(Ordering::Greater));
                }
                (None, Some(_)) if self.end == End::Below => {
                    return Some(decided.then(Ordering::Less));
                }
                (Some(_), None) | (None, Some(_)) => return None,
                (None, None) => {
                    return match (self.end, other.end) {
                        (a, b) if a == b => Some(decided),
                        (End::Below, _) => Some(decided.then(Ordering::Less)),
                        (_, End::Below) => Some(decided.then(Ordering::Greater)),
                        _ => None,
                    };
                }
            };
            decided = decided.then(step);
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn parse(text: &str, before: &[Self]) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::EmptySegment);
        }
        if matches!(text, "." | "..") {
            return Err(PatternError::DotSegment);
        }
        if text.contains('*') {
            return Err(PatternError::Star(text.into()));
        }
        if text.contains(['{', '}']) {
            let name = text
                .strip_prefix('{')
                .and_then(|text| text.strip_suffix('}'))
                .filter(|name| {
                    !name.is_empty()
                        && name
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                })
                .ok_or_else(|| PatternError::Brace(text.into()))?;
            let parameter = Self::Parameter(name.into());
            if before.contains(&parameter) {
                return Err(PatternError::NameRepeated(name.into()));
            }
            return Ok(parameter);
        }
        // The same rules as for the paths of requests, or the route would wait in vain.
        let shape = path::inspect(&format!("/{text}"))
            .map_err(|flaw| PatternError::Unreachable(flaw.to_string().into()))?;
        if !shape.is_plain() {
            return Err(PatternError::Ambiguous(text.into()));
        }
        let literal = String::from_utf8(path::decoded(text).collect())
            .map_err(|_not_utf8| PatternError::Unreachable(path::Flaw::Utf8.to_string().into()))?;
        Ok(Self::Literal(literal.into()))
    }
}

/// A text as a server that ignores case might compare it: by Unicode, so that the long s and the
/// Kelvin sign are an s and a k here too.
pub(super) fn folded(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().flat_map(fold)
}

/// The same as a text. Most of what stands in a configuration is folded as it is.
pub(super) fn folded_text(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(folded(text).collect())
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// One character of [`folded`].
pub(super) fn fold(c: char) -> impl Iterator<Item = char> {
    c.to_uppercase().flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests;
