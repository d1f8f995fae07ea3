//! Holds a document against the JSON Schema of its structs: every unknown key, wrong type and wrong
//! word at once, where serde would stop at the first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use super::document::{At, Node, Step, Value};
use super::problem::Findings;

/// Everything in the document that does not have the shape of the schema.
pub(super) fn check(root: &Node, at: &At, schema: &Json, out: &mut Findings) {
    let shape = Shape {
        schema,
        choices: RefCell::default(),
    };
    shape.node(root, &Trail::Root(at), schema, out);
}

/// Where the walk is. An [`At`] is made only of what is wrong.
enum Trail<'t> {
    Root(&'t At),
    Key(&'t Self, &'t Arc<str>),
    Item(&'t Self, usize),
}

impl Trail<'_> {
    fn at(&self) -> At {
        match self {
            Self::Root(at) => (*at).clone(),
            Self::Key(before, key) => before.at().with(Step::Key(Arc::clone(key))),
            Self::Item(before, index) => before.at().item(*index),
        }
    }
}

struct Shape<'s> {
    schema: &'s Json,
    /// The alternatives of each schema that was met, by where it is: routes have the same few.
    choices: RefCell<HashMap<*const Json, Rc<[Choice<'s>]>>>,
}

/// One alternative of a schema.
struct Choice<'s> {
    schema: &'s Json,
    anything: bool,
    types: Vec<&'s str>,
}

impl<'s> Shape<'s> {
    fn node(&self, node: &Node, trail: &Trail<'_>, schema: &'s Json, out: &mut Findings) {
        let choices = self.choices(schema);
        if choices.iter().any(|choice| choice.anything) {
            return;
        }
        let fitting = choices.iter().filter(|choice| choice.fits(&node.value));
        let Some(first) = fitting.clone().next() else {
            trail.at().refuse(
                out,
                format!("this is {}", node.value.kind()),
                format!("it must be {}", expected(&choices)),
            );
            return;
        };
        match &node.value {
            Value::Table(entries) => self.table(entries, trail, first.schema, out),
            Value::Array(items) => {
                if let Some(schema) = first.schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.node(item, &Trail::Item(trail, index), schema, out);
                    }
                }
            }
            Value::String(text) => word(text, trail, fitting, out),
            Value::Integer(number) => {
                let least = first.schema.get("minimum").and_then(Json::as_i64);
                match (number, least) {
                    (None, _) => trail.at().refuse(
                        out,
                        "this number is too large",
                        "write a number below 2^63",
                    ),
                    (Some(number), Some(least)) if *number < least => {
                        trail.at().refuse(
                            out,
                            format!("{number} is below {least}"),
                            format!("write {least} or more"),
                        );
                    }
                    _ => {}
                }
            }
            Value::Float | Value::Boolean | Value::Datetime => {}
        }
    }

    fn table(
        &self,
        entries: &[(Arc<str>, std::ops::Range<usize>, Node)],
        trail: &Trail<'_>,
        schema: &'s Json,
        out: &mut Findings,
    ) {
        let known = schema.get("properties").and_then(Json::as_object);
        let further = schema.get("additionalProperties");
        for (key, _, node) in entries {
            let here = Trail::Key(trail, key);
            if let Some(schema) = known.and_then(|known| known.get(&**key)) {
                self.node(node, &here, schema, out);
            } else if let Some(schema) = further.filter(|further| **further != Json::Bool(false)) {
                self.node(node, &here, schema, out);
            } else {
                let names: Vec<&str> = known
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.as_str())
                    .collect();
                let right = match nearest(key, &names) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("known here: {}", names.join(", ")),
                };
                here.at().refuse_key(out, "unknown key", right);
            }
        }
        let required = schema.get("required").and_then(Json::as_array);
        for name in required.into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|(key, _, _)| &**key == name) {
                let meaning = known
                    .and_then(|known| known.get(name))
                    .and_then(|schema| schema.get("description"))
                    .and_then(Json::as_str)
                    .unwrap_or_default();
                let meaning = meaning.lines().next().unwrap_or_default();
                trail.at().refuse_key(
                    out,
                    format!("`{name}` is missing"),
                    format!("add it: {meaning}"),
                );
            }
        }
    }

    fn choices(&self, schema: &'s Json) -> Rc<[Choice<'s>]> {
        let place = std::ptr::from_ref(schema);
        if let Some(known) = self.choices.borrow().get(&place) {
            return Rc::clone(known);
        }
        let found = self.alternatives(schema).into_iter();
        let choices: Rc<[_]> = found
            .map(|schema| Choice {
                schema,
                anything: is_anything(schema),
                types: types(schema),
            })
            .collect();
        self.choices.borrow_mut().insert(place, Rc::clone(&choices));
        choices
    }

    /// The alternatives of a schema, references followed.
    fn alternatives(&self, schema: &'s Json) -> Vec<&'s Json> {
        if let Some(target) = schema.get("$ref").and_then(Json::as_str) {
            let name = target.trim_start_matches("#/$defs/");
            let found = self.schema.get("$defs").and_then(|defs| defs.get(name));
            return found.map_or_else(Vec::new, |found| self.alternatives(found));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(key).and_then(Json::as_array) {
                return choices
                    .iter()
                    .flat_map(|one| self.alternatives(one))
                    .collect();
            }
        }
        vec![schema]
    }
}

impl Choice<'_> {
    fn fits(&self, value: &Value) -> bool {
        let name = match value {
            Value::Table(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Integer(_) => "integer",
            Value::Float => "number",
            Value::Boolean => "boolean",
            Value::Datetime => return false,
        };
        self.types.contains(&name) || (name == "integer" && self.types.contains(&"number"))
    }
}

/// `true` in JSON Schema, with or without annotations.
fn is_anything(schema: &Json) -> bool {
    match schema {
        Json::Bool(any) => *any,
        Json::Object(members) => !["type", "const", "enum", "properties"]
            .iter()
            .any(|key| members.contains_key(*key)),
        _ => false,
    }
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ if schema.get("const").is_some() || schema.get("enum").is_some() => vec!["string"],
        _ => Vec::new(),
    }
}

fn expected(choices: &[Choice<'_>]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for kind in choices.iter().flat_map(|choice| &choice.types) {
        let word = match *kind {
            "object" => "a table",
            "array" => "a list",
            "string" => "a string",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            _ => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}

/// A string where only certain ones are good.
fn word<'c, 's: 'c>(
    text: &str,
    trail: &Trail<'_>,
    choices: impl Iterator<Item = &'c Choice<'s>>,
    out: &mut Findings,
) {
    let mut words = Vec::new();
    for choice in choices {
        if let Some(one) = choice.schema.get("const").and_then(Json::as_str) {
            words.push(one);
        } else if let Some(several) = choice.schema.get("enum").and_then(Json::as_array) {
            words.extend(several.iter().filter_map(Json::as_str));
        } else {
            return;
        }
    }
    if words.contains(&text) {
        return;
    }
    let all = words
        .iter()
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    // One letter for another is rarely a slip among words such as ES256 and PS256.
    let slip = nearest(text, &words)
        .filter(|word| word.len() != text.len() || sorted(word) == sorted(text));
    let right = match slip {
        Some(word) => format!("did you mean {word:?}? It can be {all}"),
        None => format!("it can be {all}"),
    };
    let wrong = format!("{text:?} is not known here");
    trail.at().refuse(out, wrong, right);
}

fn sorted(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.to_lowercase().chars().collect();
    letters.sort_unstable();
    letters
}

/// The known name that a mistyped one stands for, if one is near enough.
pub(super) fn nearest<'n>(typed: &str, known: &[&'n str]) -> Option<&'n str> {
    // Long names are no typing mistakes, and their distance would take its time.
    if typed.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(&typed.to_lowercase(), &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= name.chars().count().div_ceil(3).min(3))
        .min()
        .map(|(_, name)| name)
}

/// Edits between two words, a swap of neighbours counting as one.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, c) in a.chars().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, d) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
            let next = j.saturating_add(1);
            let mut best = at(&last, j).saturating_add(usize::from(c != *d));
            best = best.min(at(&last, next).saturating_add(1));
            best = best.min(at(&row, j).saturating_add(1));
            let swapped = j
                .checked_sub(1)
                .filter(|h| previous == Some(*d) && b.get(*h) == Some(&c));
            if let Some(h) = swapped {
                best = best.min(at(&before, h).saturating_add(1));
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(c);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("profle", &["profile", "address"]), Some("profile"));
        assert_eq!(nearest("adress", &["profile", "address"]), Some("address"));
        assert_eq!(nearest("polcies", &["policies"]), Some("policies"));
        assert_eq!(nearest("upstraem", &["upstream"]), Some("upstream"));
        assert_eq!(nearest("methods", &["listener", "path"]), None);
        assert_eq!(nearest("", &["ca"]), None);
        assert_eq!(distance("abcd", "abdc"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
