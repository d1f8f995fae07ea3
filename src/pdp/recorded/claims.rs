//! Claims as they are recorded: those that rules look at, and of the others the names.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::facts::Private;
use crate::pdp::policy::{ClaimRule, Policy};
use crate::pdp::token::VerifiedToken;

/// Claims that the core itself looks at.
pub(super) const CORE: [&str; 14] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "auth_time",
    "acr",
    "amr",
    "scope",
    "client_id",
    "cnf",
    "authorization_details",
];

/// Bytes of one claim, as JSON, that are recorded.
const CLAIM_BYTES: usize = 8 * 1024;
/// Bytes of all.
const ALL_BYTES: usize = 24 * 1024;
/// Names of other claims that are recorded, and letters of one.
const NAMES: usize = 64;
const NAME_LETTERS: usize = 128;

/// Claims of a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClaimFacts {
    /// Those that rules look at, as they came, but for those under `digests`.
    pub claims: Map<String, Value>,
    /// Claims of which a keyed digest stands in place of the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<String>,
    /// Names of claims whose values are not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// How many more there were, that have not even their names recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
    /// Names of claims with a control character in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unprintable: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl ClaimFacts {
    /// The claims of a token. `named`: those that rules look at beside the core's own.
    pub(super) fn of(
        token: &VerifiedToken,
        named: &BTreeSet<Box<str>>,
        private: &dyn Private,
    ) -> Self {
        let mut facts = Self::default();
        let mut left = ALL_BYTES;
        // The client's own name is nobody's personal datum, also where it is its subject.
        let own = |text: &str| *text == *token.client_id;
        for (name, value) in &token.claims {
            if has_control(value) {
                facts.unprintable.push(name.clone());
            }
            let looked_at = CORE.contains(&name.as_str()) || named.contains(name.as_str());
            let size = size(value);
            if !looked_at || size > CLAIM_BYTES || size > left || holds_token(value, private) {
                if facts.others.len() < NAMES
                    && name.len() <= NAME_LETTERS
                    && !private.is_token(name)
                {
                    facts.others.push(name.clone());
                } else {
                    facts.more = facts.more.saturating_add(1);
                }
                continue;
            }
            left = left.saturating_sub(size);
            let kind = match name.as_str() {
                "sub" if !private.plain_subject() => Some("subject"),
                "jti" => Some("jti"),
                _ => None,
            };
            let value = match (kind, value) {
                (Some(kind), Value::String(text)) if !own(text) => {
                    facts.digests.push(name.clone());
                    let issuer = token.claims.get("iss").and_then(Value::as_str);
                    let issuer = issuer.unwrap_or_default().as_bytes();
                    Value::String(private.digest(kind, &[issuer, text.as_bytes()]))
                }
                _ => value.clone(),
            };
            facts.claims.insert(name.clone(), value);
        }
        facts
    }

    /// Whether this claim was there and is not recorded, or may have been.
    fn hidden(&self, name: &str) -> bool {
        if self.claims.contains_key(name) {
            return self.digests.iter().any(|one| one == name);
        }
        self.more > 0 || self.others.iter().any(|one| one == name)
    }

    /// The first of these claims that was there and is not recorded, or may have been.
    pub(super) fn first_hidden<'n>(
        &self,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<&'n str> {
        names.find(|name| !self.claims.contains_key(*name) && self.hidden(name))
    }

    /// The claims with the best that those which are not recorded could be for a policy: what is
    /// refused so is refused whatever they are. And the names of those.
    pub(super) fn at_best(&self, policy: &Policy) -> (Map<String, Value>, Vec<Box<str>>) {
        let mut claims = self.claims.clone();
        let mut unknown = Vec::new();
        for (name, rule) in &policy.claims {
            let name: &str = name;
            let known_there =
                self.claims.contains_key(name) || self.others.iter().any(|one| one == name);
            let best = match rule {
                ClaimRule::Present(_) if known_there => {
                    if !claims.contains_key(name) {
                        claims.insert(name.to_owned(), Value::Bool(true));
                    }
                    continue;
                }
                _ if !self.hidden(name) => continue,
                ClaimRule::Present(true) => Some(Value::Bool(true)),
                ClaimRule::Present(false) => None,
                ClaimRule::Equals(value) => Some(value.clone()),
                ClaimRule::OneOf(list) => list.first().cloned(),
                ClaimRule::Contains(value) => Some(Value::Array(vec![value.clone()])),
            };
            unknown.push(name.into());
            match best {
                Some(value) => claims.insert(name.to_owned(), value),
                None => claims.remove(name),
            };
        }
        if let Some(rule) = &policy.authorization_details
            && !claims.contains_key("authorization_details")
            && self.hidden("authorization_details")
        {
            unknown.push("authorization_details".into());
            let mut entry: Map<String, Value> = rule
                .members
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect();
            entry.insert("type".to_owned(), Value::String(rule.kind.to_string()));
            let entries = Value::Array(vec![Value::Object(entry)]);
            claims.insert("authorization_details".to_owned(), entries);
        }
        (claims, unknown)
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len().saturating_add(2),
        Value::Array(items) => items.iter().fold(2, |sum: usize, item| {
            sum.saturating_add(size(item)).saturating_add(1)
        }),
        Value::Object(members) => members.iter().fold(2, |sum: usize, (name, value)| {
            sum.saturating_add(name.len())
                .saturating_add(size(value))
                .saturating_add(4)
        }),
    }
}

fn any_text(value: &Value, found: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => found(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, found)),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| found(name) || any_text(value, found)),
    }
}

fn has_control(value: &Value) -> bool {
    any_text(value, &|text| text.chars().any(char::is_control))
}

fn holds_token(value: &Value, private: &dyn Private) -> bool {
    any_text(value, &|text| private.is_token(text))
}

#[cfg(test)]
mod tests;
