//! Decisions as data: each `tests/decisions/*.toml` holds cases of request, peer, token, policy and
//! time, and the reason or the permit that must come of them.
//!
//! Tokens are signed here with keys made at run time. Every case whose token was verified is
//! decided a second time with the token remembered, and must end the same: a memory may save time
//! and nothing else (TOK-24).
//!
//! Values in `header` and `claims` change the base token; `@drop` removes a member, `@null` is
//! null, `@+5` and `@-5` are seconds from the time of the case's clock, and `@x5t:tpp` is the
//! thumbprint of a peer's certificate.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it did not expect"
)]

#[path = "decisions/world.rs"]
#[expect(dead_code, reason = "the bench uses the rest of it")]
mod world;

#[path = "decisions/misanswered.rs"]
mod misanswered;
#[path = "decisions/published.rs"]
mod published;
#[path = "decisions/recorded.rs"]
mod recorded;
#[path = "decisions/replayed.rs"]
mod replayed;
#[path = "decisions/second.rs"]
mod second;
#[path = "decisions/what_if.rs"]
mod what_if;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis::refusal::{Class, Reason};
use serde::Deserialize;
use world::{Case, Outcome, World};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let text = std::fs::read_to_string(&path).expect("a file of cases");
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        all.extend(
            file.case
                .into_iter()
                .map(|case| (format!("{name}: {}", case.name), case)),
        );
    }
    all
}

#[test]
fn every_case_ends_as_written() {
    let world = World::new();
    let mut wrong = Vec::new();
    let cases = cases();
    let names: BTreeSet<_> = cases.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    for (name, case) in &cases {
        if let Err(why) = world.check(case) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases went wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_reason_of_a_token_or_a_right_has_a_case() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (_, case) in cases() {
        *seen.entry(case.expect).or_default() += 1;
    }
    let elsewhere = [
        // Judged where the route is found, and tested there.
        Reason::CertificateRevoked,
        Reason::CertificateUntrusted,
        // Of routes before an authorization server: src/pdp/authorization/tests.rs has their cases.
        Reason::ClientUnknown,
        Reason::ClientAuthenticationMissing,
        Reason::ClientAssertionInvalid,
        Reason::ClientAssertionReplayed,
        Reason::ClientCertificateMismatch,
        Reason::ClientInactive,
    ];
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| matches!(reason.spec().class, Class::Credential | Class::Permission))
        .filter(|reason| !elsewhere.contains(reason))
        .map(|reason| reason.spec().code)
        .filter(|code| !seen.contains_key(*code))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    assert!(seen.values().sum::<usize>() >= 120, "{seen:?}");
}

/// TOK-16: every registered claim with every JSON type. Only the right types pass.
#[test]
fn claims_of_every_type() {
    let world = World::new();
    let samples = [
        ("null", "null"),
        ("bool", "true"),
        ("integer", "1799999990"),
        ("fraction", "1799999990.5"),
        ("negative", "-1"),
        ("huge", "1e300"),
        ("digits", "\"1799999990\""),
        ("text", "\"tpp-1\""),
        ("empty text", "\"\""),
        ("list", "[\"https://api.bank.example\"]"),
        ("empty list", "[]"),
        ("mixed list", "[\"https://api.bank.example\", 1]"),
        ("object", "{\"a\": 1}"),
        ("empty object", "{}"),
    ];
    let table: &[(&str, &[(&str, &str)])] = &[
        (
            "iss",
            &[
                ("digits", "issuer_unknown"),
                ("text", "issuer_unknown"),
                ("empty text", "issuer_unknown"),
            ],
        ),
        ("sub", &[("digits", "authorized"), ("text", "authorized")]),
        (
            "client_id",
            &[("digits", "authorized"), ("text", "authorized")],
        ),
        ("jti", &[("digits", "authorized"), ("text", "authorized")]),
        (
            "aud",
            &[
                ("digits", "audience_mismatch"),
                ("text", "audience_mismatch"),
                ("list", "authorized"),
            ],
        ),
        // exp must be after iat, which is a minute ago, and these are ten seconds ago.
        (
            "exp",
            &[("integer", "token_expired"), ("fraction", "token_expired")],
        ),
        (
            "iat",
            &[("integer", "authorized"), ("fraction", "authorized")],
        ),
        (
            "nbf",
            &[("integer", "authorized"), ("fraction", "authorized")],
        ),
        (
            "auth_time",
            &[("integer", "authorized"), ("fraction", "authorized")],
        ),
        ("acr", &[("digits", "authorized"), ("text", "authorized")]),
        (
            "scope",
            &[
                ("digits", "authorized"),
                ("text", "authorized"),
                ("empty text", "authorized"),
            ],
        ),
        (
            "cnf",
            &[
                ("object", "binding_missing"),
                ("empty object", "binding_missing"),
            ],
        ),
    ];
    for (claim, good) in table {
        for (kind, value) in &samples {
            let expected = good
                .iter()
                .find(|(of, _)| of == kind)
                .map_or("claim_malformed", |(_, code)| code);
            let mut base = world.base_claims(&Case::default());
            base.insert(
                (*claim).to_owned(),
                serde_json::from_str(value).expect("a sample"),
            );
            let case = Case {
                raw_claims: Some(serde_json::to_string(&base).expect("claims")),
                policy: world::PolicyChange {
                    scopes: Some(Vec::new()),
                    ..Default::default()
                },
                ..Case::default()
            };
            let found = world.decide(&case).outcome.code();
            assert_eq!(found, expected, "{claim} as {kind}");
        }
    }
}

/// TOK-02, TOK-03: every name of an algorithm over every key; only the pairs that belong together
/// pass, and nothing that was signed for one algorithm is taken for another.
#[test]
fn algorithms_over_keys() {
    let world = World::new();
    let names = [
        "ES256", "PS256", "EdDSA", "Ed25519", "RS256", "ES384", "ES512", "ES256K", "PS384",
        "PS512", "RS384", "RS512", "HS256", "HS384", "HS512", "none", "nOnE", "NONE", "es256", "",
    ];
    let allowed = ["ES256", "PS256", "EdDSA", "Ed25519"];
    let of_key = [
        ("es", vec!["ES256"]),
        ("ps", vec!["PS256"]),
        ("ed", vec!["EdDSA", "Ed25519"]),
    ];
    for (key, own) in &of_key {
        for name in names {
            for kid in ["es", "ps", "ed"] {
                let expected = if !allowed.contains(&name) {
                    "algorithm_forbidden"
                } else if !of_key
                    .iter()
                    .any(|(of, algorithms)| *of == kid && algorithms.contains(&name))
                {
                    "key_mismatch"
                } else if own.contains(&name) {
                    "authorized"
                } else {
                    "signature_invalid"
                };
                let case = Case {
                    key: (*key).to_owned(),
                    header: toml::Table::from_iter([
                        ("alg".to_owned(), name.into()),
                        ("kid".to_owned(), kid.into()),
                    ]),
                    ..Case::default()
                };
                let found = world.decide(&case).outcome.code();
                assert_eq!(found, expected, "alg {name:?}, kid {kid}, signed by {key}");
            }
        }
    }
}

/// TOK-12: each required claim dropped in turn.
#[test]
fn claims_that_must_be_there() {
    let world = World::new();
    for claim in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        let case = Case {
            claims: toml::Table::from_iter([(claim.to_owned(), "@drop".into())]),
            ..Case::default()
        };
        assert_eq!(
            world.decide(&case).outcome.code(),
            "claim_missing",
            "{claim}"
        );
    }
}

/// A changed byte anywhere in the token never passes.
#[test]
fn no_byte_of_a_token_can_be_changed() {
    let world = World::new();
    let token = world.token(&Case::default());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        let case = Case {
            token: changed,
            ..Case::default()
        };
        let outcome = world.decide(&case).outcome;
        assert!(
            matches!(outcome, Outcome::Refused(_)),
            "byte {at}: {outcome:?}"
        );
    }
}

/// TOK-24: what is remembered is evidence for its own token, and an answer is to its question.
#[test]
fn an_answer_to_another_question_is_a_bug_and_no_permit() {
    let world = World::new();
    world.misanswer();
}

/// A row of nobody's credentials says nothing about schemes.
#[test]
fn only_an_error_of_a_challenge_names_schemes() {
    let world = World::new();
    for (case, named) in [
        (
            Case {
                keys: "unavailable".to_owned(),
                ..Case::default()
            },
            false,
        ),
        (
            Case {
                clock: 300,
                ..Case::default()
            },
            true,
        ),
    ] {
        let Outcome::Refused(refusal) = world.decide(&case).outcome else {
            panic!("a refusal");
        };
        let advice = refusal.advice();
        let schemes = advice.is_some_and(|advice| !advice.schemes.is_empty());
        assert_eq!(schemes, named, "{refusal:?}");
    }
}

/// A stream ends when its token does, with the tolerance that the token's own end has.
#[test]
fn a_permit_ends_with_its_token() {
    let world = World::new();
    let Outcome::Authorized(permit) = world.decide(&Case::default()).outcome else {
        panic!("a good request");
    };
    let end = portcullis::pdp::UnixTime::from_secs(world::NOW + 300);
    assert_eq!(permit.expires(), Some(end));
}

/// TOK-23, TOK-24: what is remembered of a token is that it was verified, and no decision: at
/// another route, from another peer or later it is judged as if it were new.
#[test]
fn a_remembered_token_gives_no_more_than_a_new_one() {
    let world = World::new();
    let good = Case::default();
    let good = Case {
        token: world.token(&good),
        ..good
    };
    let known = world.decide(&good).remembered.expect("a verified token");
    // What bounds the memory: claims are kept, and what is read of them.
    let heavy = Case {
        claims: toml::Table::from_iter([("x".to_owned(), "x".repeat(1000).into())]),
        ..Case::default()
    };
    let heavy = world.decide(&heavy).remembered.expect("a verified token");
    assert!((2000..2500).contains(&(heavy.weight() - known.weight())));
    let policy = |policy: world::PolicyChange| Case {
        policy,
        ..good.clone()
    };
    let cases = [
        (good.clone(), "authorized"),
        (
            policy(world::PolicyChange {
                issuers: Some(vec![1]),
                ..Default::default()
            }),
            "issuer_unknown",
        ),
        (
            policy(world::PolicyChange {
                scopes: Some(vec!["funds".into()]),
                ..Default::default()
            }),
            "scope_insufficient",
        ),
        (
            policy(world::PolicyChange {
                audience: Some(vec!["https://api.bank.example/pay".into()]),
                ..Default::default()
            }),
            "audience_mismatch",
        ),
        (
            Case {
                peer: "other".to_owned(),
                ..good.clone()
            },
            "binding_mismatch",
        ),
        (
            Case {
                peer: "none".to_owned(),
                ..good.clone()
            },
            "certificate_required",
        ),
        (
            Case {
                clock: 300,
                ..good.clone()
            },
            "token_expired",
        ),
    ];
    for (case, expected) in cases {
        assert_eq!(world.run(&case, Some(&known)).outcome.code(), expected);
    }
}

/// Two functions that were written apart agree. Many more in `cargo test --release --test decisions --
/// --ignored ten_million`.
#[test]
fn a_second_function_decides_the_same() {
    let said = second::compare(60_000, 0x5eed_0001);
    // Chance met every word that the second function knows.
    for word in [
        "authorized",
        "route_not_found",
        "token_missing",
        "scheme_unsupported",
        "proof_missing",
        "proof_method_mismatch",
        "proof_target_mismatch",
        "proof_expired",
        "proof_not_yet_valid",
        "proof_replayed",
        "issuer_unknown",
        "token_expired",
        "token_not_yet_valid",
        "lifetime_excessive",
        "audience_mismatch",
        "certificate_expired",
        "certificate_revoked",
        "certificate_untrusted",
        "certificate_required",
        "binding_missing",
        "binding_mismatch",
        "client_not_allowed",
        "certificate_denied",
        "authentication_too_weak",
        "scope_insufficient",
        "claim_denied",
        "header_required",
        "not_as_approved",
    ] {
        assert!(said.contains_key(word), "{word} was never said: {said:?}");
    }
}

#[test]
#[ignore = "minutes in a release build"]
fn a_second_function_decides_ten_million_the_same() {
    let threads: Vec<_> = (0..2_u64)
        .map(|number| std::thread::spawn(move || second::compare(5_000_000, 0xfeed_0000 + number)))
        .collect();
    for thread in threads {
        let said = thread.join().expect("both agree");
        assert_eq!(said.values().sum::<u64>(), 5_000_000, "{said:?}");
    }
}
