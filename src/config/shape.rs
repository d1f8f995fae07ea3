//! Holds a document against the JSON Schema of its structs: every unknown key, wrong type and wrong
//! word at once, where serde would stop at the first.

use serde_json::Value as Json;

use super::document::{At, Node, Step, Value};
use super::problem::Findings;

/// Everything in the document that does not have the shape of the schema.
pub(super) fn check(root: &Node, at: &At, schema: &Json, out: &mut Findings) {
    Shape { schema }.node(root, at, schema, out);
}

struct Shape<'s> {
    schema: &'s Json,
}

impl<'s> Shape<'s> {
    fn node(&self, node: &Node, at: &At, schema: &'s Json, out: &mut Findings) {
        let choices = self.choices(schema);
        if choices.iter().any(|choice| is_anything(choice)) {
            return;
        }
        let fitting: Vec<_> = choices
            .iter()
            .copied()
            .filter(|choice| fits(choice, &node.value))
            .collect();
        let Some(first) = fitting.first().copied() else {
            at.refuse(
                out,
                format!("this is {}", node.value.kind()),
                format!("it must be {}", expected(&choices)),
            );
            return;
        };
        match &node.value {
            Value::Table(entries) => self.table(entries, at, first, out),
            Value::Array(items) => {
                if let Some(schema) = first.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.node(item, &at.item(index), schema, out);
                    }
                }
            }
            Value::String(text) => word(text, at, &fitting, out),
            Value::Integer(number) => {
                let least = first.get("minimum").and_then(Json::as_i64);
                match (number, least) {
                    (None, _) => {
                        at.refuse(out, "this number is too large", "write a number below 2^63")
                    }
                    (Some(number), Some(least)) if *number < least => {
                        at.refuse(
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
        entries: &[(Box<str>, std::ops::Range<usize>, Node)],
        at: &At,
        schema: &'s Json,
        out: &mut Findings,
    ) {
        let known = schema.get("properties").and_then(Json::as_object);
        let further = schema.get("additionalProperties");
        for (key, _, node) in entries {
            let here = at.with(Step::Key(key.clone()));
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
                here.refuse_key(out, "unknown key", right);
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
                at.refuse_key(
                    out,
                    format!("`{name}` is missing"),
                    format!("add it: {meaning}"),
                );
            }
        }
    }

    /// The alternatives of a schema, references followed.
    fn choices(&self, schema: &'s Json) -> Vec<&'s Json> {
        if let Some(target) = schema.get("$ref").and_then(Json::as_str) {
            let name = target.trim_start_matches("#/$defs/");
            let found = self.schema.get("$defs").and_then(|defs| defs.get(name));
            return found.map_or_else(Vec::new, |found| self.choices(found));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(key).and_then(Json::as_array) {
                return choices.iter().flat_map(|one| self.choices(one)).collect();
            }
        }
        vec![schema]
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

fn fits(schema: &Json, value: &Value) -> bool {
    let types = types(schema);
    let name = match value {
        Value::Table(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Integer(_) => "integer",
        Value::Float => "number",
        Value::Boolean => "boolean",
        Value::Datetime => return false,
    };
    types.contains(&name) || (name == "integer" && types.contains(&"number"))
}

fn expected(choices: &[&Json]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for kind in choices.iter().flat_map(|choice| types(choice)) {
        let word = match kind {
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
fn word(text: &str, at: &At, choices: &[&Json], out: &mut Findings) {
    let mut words = Vec::new();
    for choice in choices {
        if let Some(one) = choice.get("const").and_then(Json::as_str) {
            words.push(one);
        } else if let Some(several) = choice.get("enum").and_then(Json::as_array) {
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
    at.refuse(out, format!("{text:?} is not known here"), right);
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
