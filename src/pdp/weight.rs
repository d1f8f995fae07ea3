//! How much a remembered token holds.

use serde_json::{Map, Value};

use super::VerifiedToken;

impl VerifiedToken {
    /// About how many bytes it keeps, claims included: what the cache of verified tokens is
    /// bounded by.
    #[must_use]
    pub fn weight(&self) -> usize {
        // What is kept beside the claims repeats some of them, so they are counted twice.
        size_of::<Self>().saturating_add(of_map(&self.claims).saturating_mul(2))
    }
}

fn of_map(map: &Map<String, Value>) -> usize {
    map.iter().fold(0, |sum, (name, value)| {
        // 32: the entry and its place in the tree.
        sum.saturating_add(name.len())
            .saturating_add(32)
            .saturating_add(of_value(value))
    })
}

fn of_value(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items
            .iter()
            .fold(0, |sum: usize, item| sum.saturating_add(of_value(item))),
        Value::Object(map) => of_map(map),
    };
    inside.saturating_add(size_of::<Value>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_counts() {
        let value = serde_json::json!({"a": ["x".repeat(1000), {"b": "y".repeat(500)}]});
        assert!((1500..2000).contains(&of_value(&value)));
    }
}
