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
    assert_eq!((CLAIM_BYTES, ALL_BYTES), (8192, 24_576));
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
