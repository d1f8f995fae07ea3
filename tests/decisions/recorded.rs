//! What is recorded of a decision and judged again: by the same rules it must end the same, and by
//! any others as the request itself would, or say that it cannot tell.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis::pdp::recorded::{
    Decided, Facts, Judgement, Private, Recorded, Seen, claims_looked_at, judge,
};
use portcullis::pdp::{Snapshot, UnixTime};
use portcullis::refusal::Reason;

use super::cases;
use super::world::{Case, NOW, Outcome, PolicyChange, World};

/// Digests that a test can make.
struct Digests;

impl Private for Digests {
    fn digest(&self, kind: &str, parts: &[&[u8]]) -> String {
        let bytes: Vec<String> = parts
            .concat()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{kind}:{}", bytes.concat())
    }

    fn plain_subject(&self) -> bool {
        false
    }

    fn clean<'t>(&self, text: &'t str, _: usize) -> Cow<'t, str> {
        Cow::Borrowed(text)
    }
}

/// Decides a case and records it, through JSON as a file would.
pub(crate) fn record(world: &World, case: &Case) -> Recorded {
    let snapshot = world.snapshot(case);
    let now = UnixTime::from_secs(NOW.saturating_add_signed(case.clock));
    let decided = world.decide(case);
    let reason = match &decided.outcome {
        Outcome::Refused(refusal) => Some(refusal.reason()),
        Outcome::Authorized(permit) => permit.observed().map(|refusal| refusal.reason()),
    };
    let inbound = world.inbound(case);
    let seen = inbound.as_ref().ok().map(|inbound| Seen::of(&inbound.head));
    let other = world.inbound(&Case::default()).expect("a request");
    let inbound = inbound.as_ref().unwrap_or(&other);
    let facts = Facts::of(
        Decided {
            began: now,
            judged: now,
            seen: seen.as_ref(),
            peer: &inbound.peer,
            standing: inbound.standing,
            trail: &decided.trail,
            reason,
        },
        &claims_looked_at(&snapshot),
        &Digests,
    );
    let text = serde_json::to_string(&facts).expect("facts can be written");
    for secret in case.token.split('.').skip(1).filter(|part| part.len() > 20) {
        assert!(
            !text.contains(secret),
            "a token is in the facts of {}",
            case.name
        );
    }
    Recorded {
        facts: serde_json::from_str(&text).expect("facts can be read"),
        reason,
    }
}

pub(crate) fn judged(
    recorded: &Recorded,
    snapshot: &Arc<Snapshot>,
) -> Result<&'static str, String> {
    match judge(recorded, snapshot).judgement {
        Judgement::Passes => Ok("authorized"),
        Judgement::Observed(_) => Ok("observed"),
        Judgement::Refused(reason) => Ok(reason.spec().code),
        Judgement::Unknown(why) => Err(why.into()),
    }
}

pub(crate) fn real(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Authorized(permit) if permit.observed().is_some() => "observed",
        Outcome::Authorized(_) => "authorized",
        Outcome::Refused(refusal) => refusal.reason().spec().code,
    }
}

/// One text of the token for all times: each ECDSA signature is another.
pub(crate) fn settled(world: &World, case: Case) -> Case {
    Case {
        token: world.token(&case),
        ..case
    }
}

#[test]
fn by_the_same_rules_a_recorded_decision_ends_the_same() {
    let world = World::new();
    let mut wrong = Vec::new();
    let cases = cases();
    for (name, case) in &cases {
        let case = settled(&world, case.clone());
        let recorded = record(&world, &case);
        let expected = real(&world.decide(&case).outcome);
        match judged(&recorded, &world.snapshot(&case)) {
            Ok(found) if found == expected => {}
            Ok(found) => wrong.push(format!("{name}: {found}, not {expected}")),
            Err(why) => wrong.push(format!("{name}: cannot tell, not {expected}: {why}")),
        }
    }
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "{count} of {}:\n{}",
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn by_other_rules_it_ends_as_the_request_would_or_says_that_it_cannot_tell() {
    let world = World::new();
    let cases = cases();
    let (mut same, mut unknown, mut wrong) = (0_usize, 0_usize, Vec::new());
    for (at, (name, case)) in cases.iter().enumerate() {
        let case = settled(&world, case.clone());
        if case.used.as_deref() == Some("unknown to others") {
            // That the shared store was away is no fact of a decision: the use of a proof is as it
            // was answered.
            continue;
        }
        let recorded = record(&world, &case);
        // A sample of all pairs, another for each case.
        for (other_name, other) in cases.iter().skip(at % 13).step_by(13) {
            let changed = Case {
                policy: other.policy.clone(),
                shadow: None,
                identity: None,
                open: other.open,
                observe_until: other.observe_until,
                forward: other.forward.clone(),
                always: other.always,
                ..case.clone()
            };
            let expected = real(&world.decide(&changed).outcome);
            match judged(&recorded, &world.snapshot(&changed)) {
                Ok(found) if found == expected => same += 1,
                Err(_) => unknown += 1,
                Ok(found) => wrong.push(format!(
                    "{name}, by the rules of {other_name}: {found}, not {expected}"
                )),
            }
        }
    }
    let (count, shown) = (
        wrong.len(),
        wrong.iter().take(40).cloned().collect::<Vec<_>>(),
    );
    assert!(
        wrong.is_empty(),
        "{count} wrong, {same} right, {unknown} unknown:\n{}",
        shown.join("\n")
    );
    assert!(same > 4 * unknown, "{same} right, {unknown} unknown");
}

/// A claim that no rule looked at is known by its name alone: whether it is there can be told, what
/// it is cannot.
#[test]
fn a_claim_that_was_not_recorded_is_not_guessed() {
    let world = World::new();
    let table = |text: &str| toml::from_str::<toml::Table>(text).expect("a table");
    let case = settled(
        &world,
        Case {
            // What an issuer says of a token may be longer than a token.
            token: "opaque-token-1".to_owned(),
            policy: PolicyChange {
                opaque: true,
                ..PolicyChange::default()
            },
            answer: table(&format!(
                "x = \"1\"\nauthorization_details = [{{ type = \"funds\", big = \"{}\" }}]",
                "b".repeat(9000)
            )),
            ..Case::default()
        },
    );
    let recorded = record(&world, &case);
    let by = |policy: PolicyChange| {
        let changed = Case {
            policy,
            ..case.clone()
        };
        judged(&recorded, &world.snapshot(&changed)).map_err(drop)
    };
    let rule = |name: &str, rule: &str| {
        by(PolicyChange {
            opaque: true,
            claims: BTreeMap::from([(name.to_owned(), table(rule))]),
            ..PolicyChange::default()
        })
    };
    assert_eq!(rule("x", "present = true"), Ok("authorized"));
    assert_eq!(rule("x", "present = false"), Ok("claim_denied"));
    assert_eq!(rule("y", "present = true"), Ok("claim_denied"));
    assert_eq!(rule("y", "present = false"), Ok("authorized"));
    for value in ["equals = \"1\"", "one_of = [\"1\"]", "contains = \"1\""] {
        assert_eq!(rule("x", value), Err(()), "{value}");
        assert_eq!(rule("y", value), Ok("claim_denied"), "{value}");
    }
    let details = by(PolicyChange {
        opaque: true,
        details: Some(table("type = \"funds\"")),
        ..PolicyChange::default()
    });
    assert_eq!(details, Err(()));
}

/// The same record, as if the signature of the proof had not been found good.
pub(crate) fn unproven(recorded: &Recorded, reason: Option<Reason>) -> Recorded {
    let mut facts = serde_json::to_value(&recorded.facts).expect("facts can be written");
    facts["proof"]["verified"] = false.into();
    Recorded {
        facts: serde_json::from_value(facts).expect("facts can be read"),
        reason,
    }
}

// DPOP-06: a proof whose signature was not found good is none, however well all else of it fits.
#[test]
fn what_was_not_proven_does_not_pass() {
    let world = World::new();
    let (mut signed, mut opaque) = (0_usize, 0_usize);
    for (name, case) in cases() {
        let case = settled(&world, case);
        let recorded = record(&world, &case);
        let proven = recorded.facts.proof.as_ref().is_some_and(|it| it.verified);
        let snapshot = world.snapshot(&case);
        if !proven || judged(&recorded, &snapshot) != Ok("authorized") {
            continue;
        }
        *if recorded.facts.jose.is_some() {
            &mut signed
        } else {
            &mut opaque
        } += 1;
        assert_eq!(
            judged(&unproven(&recorded, None), &snapshot),
            Err("the signature of the proof was not looked at".to_owned()),
            "{name}"
        );
        let bad = Reason::ProofSignatureInvalid;
        assert_eq!(
            judged(&unproven(&recorded, Some(bad)), &snapshot),
            Ok(bad.spec().code),
            "{name}"
        );
    }
    assert!(
        signed >= 10 && opaque >= 1,
        "{signed} signed, {opaque} opaque"
    );
}
