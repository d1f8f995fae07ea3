//! A TOML file with the place of every key in it. The serde structs stay plain: what a check has to
//! say of a value it says of a key path, and the place is looked up here.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::problem::{Findings, Place, Problem, Report, ReportKind};

/// One step of a key path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A key of a table.
    Key(Arc<str>),
    /// An element of an array, from 0.
    Item(usize),
}

/// A value's place and what it is made of.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What a [`Node`] is.
#[derive(Debug)]
pub(super) enum Value {
    Table(Vec<(Arc<str>, Range<usize>, Node)>),
    Array(Vec<Node>),
    String(Box<str>),
    Integer(Option<i64>),
    Float,
    Boolean,
    Datetime,
}

impl Value {
    /// The word for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "a table",
            Self::Array(_) => "a list",
            Self::String(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with a fraction",
            Self::Boolean => "true or false",
            Self::Datetime => "a date",
        }
    }
}

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) root: Node,
    /// Where its lines begin, once somebody asks: there may be something to say of every route.
    lines: OnceLock<Vec<usize>>,
}

/// A parsed file: places, what is no TOML in it, and what the rest of it was read as.
pub(super) struct Parsed<T> {
    pub(super) document: Arc<Document>,
    pub(super) problems: Vec<Problem>,
    pub(super) read: Result<T, toml::de::Error>,
}

impl Document {
    /// Parses a text. What the parser could make sense of is in the document even where it is not
    /// whole, so that places can be named.
    pub(super) fn parse<T: DeserializeOwned>(name: String, text: String) -> Parsed<T> {
        let (table, errors) = DeTable::parse_recoverable(&text);
        let root = Node {
            span: 0..0,
            value: table_of(table.get_ref()),
        };
        let errors: Vec<_> = errors
            .into_iter()
            .map(|error| (error.span().unwrap_or(0..0), error.message().to_owned()))
            .collect();
        let read = T::deserialize(toml::de::Deserializer::from(table));
        let document = Self {
            name,
            text,
            root,
            lines: OnceLock::new(),
        };
        let problems = errors
            .into_iter()
            .map(|(span, message)| Problem {
                place: document.place(&span, document.path_at(span.start)),
                wrong: format!("this is no TOML: {}", message.replace('\n', ", ")),
                right: "see https://toml.io for the syntax".to_owned(),
            })
            .collect();
        Parsed {
            document: Arc::new(document),
            problems,
            read,
        }
    }

    /// The document of a file that cannot be read, or not as text: its name is what matters.
    pub(super) fn unparsed(name: String, text: String) -> Arc<Self> {
        Self::parse::<toml::Table>(name, text).document
    }

    fn place(&self, span: &Range<usize>, path: String) -> Place {
        let lines = self.lines.get_or_init(|| {
            let ends = self.text.match_indices('\n');
            let after = ends.map(|(at, _)| at.saturating_add(1));
            std::iter::once(0).chain(after).collect()
        });
        let at = match self.text.is_char_boundary(span.start) {
            true => span.start,
            false => self.text.len(),
        };
        let line = lines.partition_point(|begin| *begin <= at);
        let begin = line
            .checked_sub(1)
            .and_then(|at| lines.get(at).copied())
            .unwrap_or_default();
        Place {
            file: self.name.clone(),
            line,
            column: self
                .text
                .get(begin..at)
                .map_or(0, |line| line.chars().count())
                .saturating_add(1),
            path,
        }
    }

    /// The path of the innermost value around a byte, for errors that know only where they are.
    fn path_at(&self, at: usize) -> String {
        let mut path = Vec::new();
        let mut node = &self.root;
        loop {
            let inner = match &node.value {
                Value::Table(entries) => entries
                    .iter()
                    .find(|(_, key, node)| key.contains(&at) || node.span.contains(&at))
                    .map(|(key, _, node)| (Step::Key(key.clone()), node)),
                Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .find(|(_, node)| node.span.contains(&at))
                    .map(|(index, node)| (Step::Item(index), node)),
                _ => None,
            };
            let Some((step, next)) = inner else {
                return self.render(&path.iter().collect::<Vec<_>>());
            };
            path.push(step);
            node = next;
        }
    }

    /// The path as text: an element of an array of tables goes by its `name`, where it has one.
    fn render(&self, path: &[&Step]) -> String {
        let mut text = String::new();
        let mut node = Some(&self.root);
        for step in path {
            match step {
                Step::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                    if !key.is_empty() && key.chars().all(bare) {
                        text.push_str(key);
                    } else {
                        text.push_str(&format!("{key:?}"));
                    }
                }
                Step::Item(index) => {
                    let name = node
                        .and_then(|node| node.step(step))
                        .and_then(|node| node.step(&Step::Key("name".into())));
                    match name.map(|node| &node.value) {
                        Some(Value::String(name)) => text.push_str(&format!("[{name}]")),
                        _ => text.push_str(&format!("[{index}]")),
                    }
                }
            }
            node = node.and_then(|node| node.step(step));
        }
        text
    }

    /// Place of a path; where the path does not exist, of the nearest that does. A key's place is
    /// the key itself, where it is not found under `value`.
    fn find(&self, path: &[&Step], value: bool) -> Place {
        let mut span = self.root.span.clone();
        let mut node = &self.root;
        for step in path {
            let Some(next) = node.step(step) else { break };
            span = match (step, &node.value) {
                (Step::Key(key), Value::Table(entries)) if !value => entries
                    .iter()
                    .find(|(name, _, _)| name == key)
                    .map_or_else(|| next.span.clone(), |(_, at, _)| at.clone()),
                _ => next.span.clone(),
            };
            node = next;
        }
        self.place(&span, self.render(path))
    }

    /// The problem that serde saw, with the path it stands at.
    pub(super) fn unread(&self, error: &toml::de::Error) -> Problem {
        let span = error.span().unwrap_or(0..0);
        Problem {
            place: self.place(&span, self.path_at(span.start)),
            wrong: error.message().replace('\n', ", "),
            right: "`portcullis schema` prints what each key may be".to_owned(),
        }
    }
}

impl Node {
    fn step(&self, step: &Step) -> Option<&Self> {
        match (step, &self.value) {
            (Step::Key(key), Value::Table(entries)) => entries
                .iter()
                .find(|(name, _, _)| name == key)
                .map(|(_, _, node)| node),
            (Step::Item(index), Value::Array(items)) => items.get(*index),
            _ => None,
        }
    }
}

fn table_of(table: &DeTable<'_>) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let node = Node {
            span: value.span(),
            value: value_of(value.get_ref()),
        };
        (key.get_ref().as_ref().into(), key.span(), node)
    });
    Value::Table(entries.collect())
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.as_ref().into()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(_) => Value::Boolean,
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| Node {
                    span: item.span(),
                    value: value_of(item.get_ref()),
                })
                .collect(),
        ),
        DeValue::Table(table) => table_of(table),
    }
}

/// A key path in a document: what checks carry along to say where they are. Cheap to make: most are
/// of values with which nothing is wrong.
#[derive(Debug, Clone)]
pub(super) struct At {
    document: Arc<Document>,
    last: Option<Arc<Link>>,
}

/// A step with those before it.
#[derive(Debug)]
struct Link {
    step: Step,
    before: Option<Arc<Self>>,
}

impl At {
    /// The document as a whole.
    pub(super) const fn root(document: Arc<Document>) -> Self {
        Self {
            document,
            last: None,
        }
    }

    /// A key below.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.into()))
    }

    /// An element below.
    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    pub(super) fn with(&self, step: Step) -> Self {
        Self {
            document: Arc::clone(&self.document),
            last: Some(Arc::new(Link {
                step,
                before: self.last.clone(),
            })),
        }
    }

    fn path(&self) -> Vec<&Step> {
        let links = std::iter::successors(self.last.as_deref(), |link| link.before.as_deref());
        let mut path: Vec<_> = links.map(|link| &link.step).collect();
        path.reverse();
        path
    }

    /// Whether the file has it.
    pub(super) fn written(&self) -> bool {
        let mut node = Some(&self.document.root);
        for step in self.path() {
            node = node.and_then(|node| node.step(step));
        }
        node.is_some()
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.document.find(&self.path(), true)
    }

    /// Where its key stands.
    pub(super) fn key_place(&self) -> Place {
        self.document.find(&self.path(), false)
    }

    /// Says what is wrong here, and what would be right.
    pub(super) fn refuse(
        &self,
        out: &mut Findings,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        out.problems.push(Problem {
            place: self.place(),
            wrong: wrong.into(),
            right: right.into(),
        });
    }

    /// The same, of the key and not of its value.
    pub(super) fn refuse_key(
        &self,
        out: &mut Findings,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        out.problems.push(Problem {
            place: self.key_place(),
            wrong: wrong.into(),
            right: right.into(),
        });
    }

    /// Says what deserves a look here.
    pub(super) fn report(&self, out: &mut Findings, kind: ReportKind, text: impl Into<String>) {
        out.reports.push(Report {
            kind,
            place: self.place(),
            text: text.into(),
        });
    }
}
