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
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::*;
    use crate::pdp::token::KeyGeneration;
    use crate::pdp::{IssuerId, TokenDigest, UnixTime};

    /// Digests that a test can read; what holds `tok` looks like a token.
    struct Rules {
        plain_subject: bool,
    }

    impl Private for Rules {
        fn digest(&self, kind: &str, parts: &[&[u8]]) -> String {
            let parts = parts.iter().map(|part| String::from_utf8_lossy(part));
            format!("{kind} of {}", parts.collect::<Vec<_>>().join(" "))
        }

        fn plain_subject(&self) -> bool {
            self.plain_subject
        }

        fn clean<'t>(&self, text: &'t str, _: usize) -> Cow<'t, str> {
            text.replace("tok", "...").into()
        }
    }

    const HIDDEN: Rules = Rules {
        plain_subject: false,
    };

    fn facts(claims: &Value, named: &[&str], private: &Rules) -> ClaimFacts {
        let token = VerifiedToken {
            issuer: IssuerId(0),
            digest: TokenDigest([0; 32]),
            key_generation: KeyGeneration(0),
            client_id: "tpp".into(),
            subject: None,
            audience: Vec::new(),
            expires: UnixTime::from_secs(0),
            issued: None,
            not_before: None,
            scopes: Vec::new(),
            acr: None,
            auth_time: None,
            confirmation: None,
            claims: claims.as_object().unwrap().clone(),
        };
        let named = named.iter().map(|&name| name.into()).collect();
        ClaimFacts::of(&token, &named, private)
    }

    #[test]
    fn whose_token_it_is_stands_as_a_digest() {
        let claims = json!({"iss": "as", "sub": "user", "jti": "one", "acr": "2"});
        let found = facts(&claims, &[], &HIDDEN);
        assert_eq!(
            Value::Object(found.claims.clone()),
            json!({"iss": "as", "sub": "subject of as user", "jti": "jti of as one", "acr": "2"})
        );
        assert_eq!(found.digests, ["jti", "sub"]);
        assert!(found.hidden("sub") && !found.hidden("acr"));
        assert_eq!(found.first_hidden(["sub", "acr"].into_iter()), None);
        let plain = Rules {
            plain_subject: true,
        };
        let found = facts(&claims, &[], &plain);
        assert_eq!(found.claims["sub"], "user");
        assert_eq!(found.digests, ["jti"]);
        // A client that acts for itself is nobody.
        let found = facts(&json!({"sub": "tpp"}), &[], &HIDDEN);
        assert_eq!(found.claims["sub"], "tpp");
        assert!(found.digests.is_empty());
    }

    #[test]
    fn a_token_inside_a_token_is_not_recorded() {
        for inside in [
            json!("a tok"),
            json!(["a", "tok"]),
            json!({"tok": 1}),
            json!({"a": ["tok"]}),
        ] {
            let found = facts(&json!({"acr": inside}), &[], &HIDDEN);
            assert!(found.claims.is_empty(), "{inside}");
            assert_eq!(found.others, ["acr"]);
        }
        let found = facts(&json!({"a tok": 1}), &["a tok"], &HIDDEN);
        assert_eq!(found.claims.len(), 1, "a rule names it");
        let found = facts(&json!({"a tok": 1}), &[], &HIDDEN);
        assert!(found.others.is_empty() && found.more == 1);
        assert_eq!(found.first_hidden(["x"].into_iter()), Some("x"));
    }

    #[test]
    fn a_record_has_an_end() {
        let text = |bytes: usize| "x".repeat(bytes - 2);
        let kept = |claims: &Value, named: &[&str]| facts(claims, named, &HIDDEN).claims.len();
        assert_eq!(kept(&json!({"acr": text(CLAIM_BYTES)}), &[]), 1);
        assert_eq!(kept(&json!({"acr": text(CLAIM_BYTES + 1)}), &[]), 0);
        assert_eq!(kept(&json!({"acr": text(CLAIM_BYTES + 2)}), &[]), 0);
        let named = ["a", "b", "c", "d"];
        let full = text(CLAIM_BYTES);
        let all = json!({"a": full, "b": full, "c": full});
        assert_eq!(kept(&all, &named), 3, "to the last byte");
        let over = json!({"a": full, "b": full, "c": text(CLAIM_BYTES - 3), "d": "x"});
        assert_eq!(kept(&over, &named), 4);
        let over = json!({"a": full, "b": full, "c": text(CLAIM_BYTES - 2), "d": "x"});
        assert_eq!(kept(&over, &named), 3);
        let over = json!({"a": full, "b": full, "c": full, "d": "x"});
        let found = facts(&over, &named, &HIDDEN);
        assert_eq!(found.others, ["d"]);
        assert_eq!(found.first_hidden(named.into_iter()), Some("d"));
    }

    #[test]
    fn so_many_names_of_so_many_letters() {
        let many = |count: usize| -> Value {
            let names = (0..count).map(|n| (format!("n{n}"), json!(1)));
            Value::Object(names.collect())
        };
        for (count, more) in [(NAMES, 0), (NAMES + 1, 1), (NAMES + 2, 2)] {
            let found = facts(&many(count), &[], &HIDDEN);
            assert_eq!((found.others.len(), found.more), (NAMES, more));
        }
        for (letters, more) in [
            (NAME_LETTERS, 0),
            (NAME_LETTERS + 1, 1),
            (NAME_LETTERS + 2, 1),
        ] {
            let found = facts(&json!({"n".repeat(letters): 1}), &[], &HIDDEN);
            assert_eq!((found.others.len(), found.more), (1 - more, more));
        }
    }

    #[test]
    fn what_is_not_there_is_not_written() {
        let text = |facts: &ClaimFacts| serde_json::to_value(facts).unwrap();
        assert_eq!(text(&ClaimFacts::default()), json!({"claims": {}}));
        let more = ClaimFacts {
            more: 2,
            ..ClaimFacts::default()
        };
        assert_eq!(text(&more), json!({"claims": {}, "more": 2}));
        let odd = facts(&json!({"acr": "a\nb"}), &[], &HIDDEN);
        assert_eq!(odd.unprintable, ["acr"]);
    }

    #[test]
    fn sizes_are_about_those_of_the_text() {
        for (value, bytes) in [
            (json!(null), 4),
            (json!(true), 4),
            (json!(1), 8),
            (json!("abc"), 5),
            (json!([]), 2),
            (json!(["abc", null]), 13),
            (json!({}), 2),
            (json!({"ab": "abc"}), 13),
        ] {
            assert_eq!(size(&value), bytes, "{value}");
        }
    }
}
