//! Answers that are not to the question: a bug of ours, and never a permit (TOK-24).

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis::pdp::introspection::{How, Introspected};
use portcullis::pdp::{
    AccessToken, Answer, Ask, IssuerId, Pending, SharedToken, Step, Trail, UnixTime, begin, route,
};
use portcullis::refusal::Reason;
use serde_json::Value;

use super::world::{BODY_BYTES, Case, LinkingChange, NOW, PolicyChange, World, copy};

const NOON: UnixTime = UnixTime::from_secs(NOW);

/// The walk of a case up to the question that is wanted.
fn asked(
    world: &World,
    case: &Case,
    known: &SharedToken,
    wanted: impl Fn(&Ask) -> bool,
) -> (Pending<()>, Trail) {
    let mut trail = Trail::default();
    let inbound = world.inbound(case).expect("a request");
    let routed = route(inbound, &world.snapshot(case), &mut trail).expect("a route");
    let mut step = begin(routed, NOON, &mut trail).expect("a question");
    loop {
        let Step::Ask(pending) = step else {
            panic!("it was not asked");
        };
        if wanted(pending.ask()) {
            return (pending, trail);
        }
        let recalled = Answer::Recalled(Some(Arc::clone(known)));
        step = pending
            .resume(recalled, NOON, &mut trail)
            .expect("the next question");
    }
}

/// What an issuer said of another token, or another issuer of this one.
#[test]
fn an_introspection_of_something_else() {
    let world = World::new();
    let good = Case {
        token: world.token(&Case::default()),
        ..Case::default()
    };
    let known = world.decide(&good).remembered.expect("a verified token");
    let opaque = Case {
        token: "opaque-token-1".to_owned(),
        policy: PolicyChange {
            opaque: true,
            ..PolicyChange::default()
        },
        ..Case::default()
    };
    let confirmed = Case {
        policy: PolicyChange {
            introspection: Some("always".to_owned()),
            ..PolicyChange::default()
        },
        ..good
    };
    for case in [opaque, confirmed] {
        for (its_token, its_issuer) in [(true, true), (false, true), (true, false), (false, false)]
        {
            let (pending, mut trail) = asked(&world, &case, &known, |ask| {
                matches!(ask, Ask::Introspect { .. })
            });
            let Ask::Introspect { issuer, token, .. } = pending.ask() else {
                panic!("another question");
            };
            let mut said_by = copy(issuer);
            if !its_issuer {
                said_by.id = IssuerId(1);
            }
            let said_of = if its_token {
                token.digest()
            } else {
                AccessToken::new("another".to_owned()).digest()
            };
            let mut members = world.base_claims(&Case::default());
            members.insert("active".to_owned(), true.into());
            let text = Value::Object(members).to_string();
            let said = Introspected::read(text.as_bytes(), &said_by, said_of).expect("an answer");
            let answer = Answer::Introspected(Arc::new(said), How::Asked);
            let refusal = pending.resume(answer, NOON, &mut trail).err();
            let expected = (!(its_token && its_issuer)).then_some(Reason::Internal);
            assert_eq!(refusal.map(|r| r.reason()), expected);
        }
    }
}

/// More of a body than was asked for.
#[test]
fn a_body_beyond_its_bound() {
    let world = World::new();
    let amount = ("/amount".to_owned(), "/amount".to_owned());
    let approved: toml::Table = toml::from_str(
        r#"authorization_details = [{ type = "payment_initiation", amount = "1" }]"#,
    )
    .expect("claims");
    let plain = Case {
        claims: approved,
        ..Case::default()
    };
    let plain = Case {
        token: world.token(&plain),
        ..plain
    };
    let case = Case {
        method: "POST".to_owned(),
        policy: PolicyChange {
            linking: Some(LinkingChange {
                amounts: BTreeMap::from([amount]),
                ..LinkingChange::default()
            }),
            ..PolicyChange::default()
        },
        ..plain.clone()
    };
    let known = world.decide(&plain).remembered.expect("a verified token");
    for (bytes, expected) in [
        (BODY_BYTES, Reason::BodyUnfit),
        (BODY_BYTES + 1, Reason::Internal),
    ] {
        let (mut pending, mut trail) =
            asked(&world, &case, &known, |ask| matches!(ask, Ask::Body { .. }));
        assert!(
            pending.body_mut().is_some(),
            "the shell reads it from there"
        );
        let body = Answer::Body(vec![b' '; bytes].into());
        let refusal = pending.resume(body, NOON, &mut trail).err();
        assert_eq!(refusal.map(|r| r.reason()), Some(expected), "{bytes} bytes");
    }
}
