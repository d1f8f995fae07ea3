//! What is wrong with a configuration, and what deserves a second look: values, never log lines.

use std::fmt;

/// Where in the configuration something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Key path such as `listener.bank.tls.certificate` or `route[accounts].policy`; empty for the
    /// file as a whole.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", Plain(&self.file), self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, ": {}", Plain(&self.path))?;
        }
        Ok(())
    }
}

/// A text without what a terminal would do: names and words of a file may hold anything.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| {
            if c.is_control() {
                write!(f, "{}", c.escape_default())
            } else {
                f.write_char(c)
            }
        })
    }
}

/// A reason why the configuration cannot be loaded.
///
/// Its printed form is stable, two lines: where and what is wrong; what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, Plain(&self.wrong))?;
        if !self.right.is_empty() {
            write!(f, "\n    {}", Plain(&self.right))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// What kind of thing a [`Report`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportKind {
    /// A route without a policy.
    OpenRoute,
    /// A route that passes for now what its policy would refuse.
    Observed,
    /// An upstream without TLS.
    Plaintext,
    /// A pattern of which another hides methods.
    HiddenMethods,
    /// A rule that is weaker than the profile or policy it stands on.
    Weaker,
    /// A key, certificate or CRL that needs care: dates, file permissions.
    Material,
    /// Something that has no effect, or another one than it may seem.
    Note,
    /// How many duties of a profile are enforced.
    Duties,
}

impl ReportKind {
    /// The word in front of the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenRoute => "open",
            Self::Observed => "observed",
            Self::Plaintext => "plaintext",
            Self::HiddenMethods => "hidden",
            Self::Weaker => "weaker",
            Self::Material => "material",
            Self::Note => "note",
            Self::Duties => "duties",
        }
    }
}

/// Something that loads, and that the operator must know of: listed by `check` and at each start
/// (CFG-03).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    /// What it is about.
    pub kind: ReportKind,
    /// Where.
    pub place: Place,
    /// What it is.
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Plain(&self.text);
        write!(f, "{}: {}: {text}", self.kind.name(), self.place)
    }
}

/// Everything found so far. Checks go on after a problem, so that the operator sees all at once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) reports: Vec<Report>,
}

impl Findings {
    /// Both lists, sorted by place, each entry once.
    pub(super) fn settle(&mut self) {
        self.problems.sort();
        self.problems.dedup();
        self.reports.sort();
        self.reports.dedup();
    }
}
