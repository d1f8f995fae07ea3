//! What a recorded decision comes to by one change of the rules, where the record ends: names that
//! were too long, headers that were too many, claims under other names, a proof that nobody checked.
//! The other rules may refuse for what is recorded, and must not guess what is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis::pdp::Snapshot;
use portcullis::pdp::policy::{Algorithm, Issuer};
use portcullis::pdp::recorded::Recorded;

use super::recorded::{judged, record, settled, unproven};
use super::world::{Case, PolicyChange, World, copy};

fn table(text: &str) -> toml::Table {
    toml::from_str(text).expect("a table")
}

/// A case as it is recorded, once, to be judged by any rules.
struct Told<'w> {
    world: &'w World,
    case: Case,
    recorded: Recorded,
}

impl<'w> Told<'w> {
    fn of(world: &'w World, case: Case) -> Self {
        let case = settled(world, case);
        let recorded = record(world, &case);
        Self {
            world,
            case,
            recorded,
        }
    }

    /// The rules that the case itself had.
    fn same(&self) -> Result<&'static str, String> {
        judged(&self.recorded, &self.world.snapshot(&self.case))
    }

    fn by(&self, policy: PolicyChange) -> Result<&'static str, String> {
        let changed = Case {
            policy,
            ..self.case.clone()
        };
        judged(&self.recorded, &self.world.snapshot(&changed))
    }

    /// The same policy, and the issuer `main` changed.
    fn by_issuer(&self, change: impl FnOnce(&mut Issuer)) -> Result<&'static str, String> {
        let snapshot = Arc::into_inner(self.world.snapshot(&self.case)).expect("nobody else's");
        let mut issuers = snapshot.issuers;
        let mut main = copy(&issuers[0]);
        change(&mut main);
        issuers[0] = Arc::new(main);
        judged(
            &self.recorded,
            &Arc::new(Snapshot {
                issuers,
                ..snapshot
            }),
        )
    }
}

/// A rule about names of certificates is not judged by half a name.
#[test]
fn a_name_that_was_cut_is_not_judged() {
    let world = World::new();
    let told = |peer: &str| {
        Told::of(
            &world,
            Case {
                peer: peer.to_owned(),
                claims: table(&format!("cnf = {{ \"x5t#S256\" = \"@x5t:{peer}\" }}")),
                ..Case::default()
            },
        )
    };
    let role = |name: &str| PolicyChange {
        psd2_role: Some(name.to_owned()),
        ..PolicyChange::default()
    };
    let whole = told("tpp");
    assert_eq!(whole.same(), Ok("authorized"));
    assert_eq!(whole.by(role("PSP_AI")), Ok("authorized"));
    assert_eq!(whole.by(role("PSP_PI")), Ok("certificate_denied"));
    let cut = told(&"t".repeat(1100));
    assert_eq!(cut.same(), Ok("authorized"), "no rule looks at its names");
    let why = "the names in the certificate are not recorded whole";
    assert_eq!(cut.by(role("PSP_AI")), Err(why.to_owned()));
}

/// Of very many headers not all names are recorded: one that is missing may have been there.
#[test]
fn a_header_that_was_not_recorded_is_not_missed() {
    let world = World::new();
    let of = |count: usize| {
        let headers = (0..count).map(|n| (format!("x-{n}"), "1".to_owned()));
        Told::of(
            &world,
            Case {
                headers: headers.collect(),
                ..Case::default()
            },
        )
    };
    let wants = |name: &str| PolicyChange {
        require_headers: vec![name.to_owned()],
        ..PolicyChange::default()
    };
    let few = of(3);
    assert_eq!(few.by(wants("x-1")), Ok("authorized"));
    assert_eq!(few.by(wants("x-wanted")), Ok("header_required"));
    // All are recorded but some of the last.
    let many = of(80);
    assert_eq!(many.by(wants("x-1")), Ok("authorized"));
    let why = "not all names of headers are recorded";
    assert_eq!(many.by(wants("x-wanted")), Err(why.to_owned()));
    // One that came and was empty is recorded, and is none: nothing is hidden of it.
    let mut empty = of(80).case;
    empty.headers.insert("x-1".to_owned(), String::new());
    let empty = Told::of(&world, empty);
    assert_eq!(empty.by(wants("x-1")), Ok("header_required"));
    // What is refused for another reason is refused whatever headers there were.
    let scopes = PolicyChange {
        scopes: Some(vec!["funds".into()]),
        ..wants("x-wanted")
    };
    assert_eq!(many.by(scopes), Ok("scope_insufficient"));
}

/// The length of a body is of the head that is judged again, however it was said.
#[test]
fn a_request_with_a_body_is_judged_as_one() {
    let world = World::new();
    for (name, value) in [("content-length", "2"), ("transfer-encoding", "chunked")] {
        let told = Told::of(
            &world,
            Case {
                method: "POST".to_owned(),
                headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
                body: "{}".to_owned(),
                ..Case::default()
            },
        );
        assert_eq!(told.same(), Ok("authorized"), "{name}");
        let scopes = PolicyChange {
            scopes: Some(vec!["funds".into()]),
            ..PolicyChange::default()
        };
        assert_eq!(told.by(scopes), Ok("scope_insufficient"), "{name}");
    }
}

/// Claims that could not be read are the same wherever they have the same names only.
#[test]
fn a_claim_that_was_missing_may_be_there_under_another_name() {
    let world = World::new();
    let told = Told::of(
        &world,
        Case {
            claims: table("client_id = \"@drop\""),
            ..Case::default()
        },
    );
    assert_eq!(told.same(), Ok("claim_missing"));
    let why = "the claims of the token are not recorded";
    assert_eq!(
        told.by_issuer(|main| main.client_id_claims = vec!["azp".into()]),
        Err(why.to_owned())
    );
    assert_eq!(
        told.by_issuer(|main| main.scope_claims = vec!["scp".into()]),
        Err(why.to_owned())
    );
    assert_eq!(
        told.by_issuer(|main| main.max_lifetime *= 2),
        Ok("claim_missing")
    );
}

/// A token that was refused for its header was never verified, so that it is not
/// known what it comes to where its header is taken.
#[test]
fn a_header_that_is_taken_elsewhere_makes_no_good_token() {
    let world = World::new();
    let refused = |header: &str| {
        Told::of(
            &world,
            Case {
                header: table(header),
                ..Case::default()
            },
        )
    };
    let why = Err("the token was not verified".to_owned());
    let algorithm = refused("alg = \"RS256\"");
    assert_eq!(algorithm.same(), Ok("algorithm_forbidden"));
    assert_eq!(
        algorithm.by_issuer(|main| main.algorithms.push(Algorithm::Rs256)),
        why
    );
    let kind = refused("typ = \"JWT\"");
    assert_eq!(kind.same(), Ok("token_type_wrong"));
    assert_eq!(
        kind.by_issuer(|main| main.token_types.push("application/jwt".into())),
        why
    );
}

/// What an issuer says may be too long to be recorded. A claim of the core that is not there in
/// the record was there in the token: nobody is refused because it is missing.
#[test]
fn a_claim_of_the_core_that_was_too_long_is_not_missing() {
    let world = World::new();
    let told = |answer: &str| {
        let policy = PolicyChange {
            opaque: true,
            ..PolicyChange::default()
        };
        Told::of(
            &world,
            Case {
                token: "opaque-token-1".to_owned(),
                answer: table(answer),
                policy,
                ..Case::default()
            },
        )
    };
    let long = "l".repeat(9000);
    let audience = told(&format!("aud = [\"https://api.bank.example\", \"{long}\"]"));
    assert_eq!(audience.recorded.reason, None);
    assert_eq!(
        audience.same(),
        Err("claim aud was not recorded".to_owned())
    );
    // No rule asks for these.
    let details = told(&format!(
        "authorization_details = [{{ type = \"funds\", big = \"{long}\" }}]"
    ));
    assert_eq!(details.same(), Ok("authorized"));
}

/// A claim that no rule looked at, and of which only the name is known, may be as it should be.
#[test]
fn a_rule_about_a_claim_without_a_record_is_not_answered() {
    let world = World::new();
    let told = Told::of(
        &world,
        Case {
            claims: table("x = \"1\""),
            ..Case::default()
        },
    );
    let rule = |text: &str| PolicyChange {
        claims: BTreeMap::from([("x".to_owned(), table(text))]),
        ..PolicyChange::default()
    };
    assert_eq!(told.by(rule("present = true")), Ok("authorized"));
    let why = "claim x was not recorded";
    assert_eq!(told.by(rule("equals = \"1\"")), Err(why.to_owned()));
}

/// Before the signature of a proof only what is wrong with the token itself counts.
#[test]
fn a_proof_that_was_not_checked_leaves_the_rights_open() {
    let world = World::new();
    let rules = |audience: Option<&str>, scope: &str| PolicyChange {
        binding: Some(vec!["mtls".to_owned(), "dpop".to_owned()]),
        audience: audience.map(|one| vec![one.into()]),
        scopes: Some(vec![scope.into()]),
        ..PolicyChange::default()
    };
    let pay = "https://api.bank.example/pay";
    let mut told = Told::of(
        &world,
        Case {
            authorization: "DPoP {token}".to_owned(),
            headers: BTreeMap::from([("dpop".to_owned(), "{proof}".to_owned())]),
            claims: table("cnf = { jkt = \"@jkt:ed\" }"),
            peer: "none".to_owned(),
            policy: rules(Some(pay), "accounts"),
            ..Case::default()
        },
    );
    assert_eq!(told.same(), Ok("audience_mismatch"));
    told.recorded = unproven(&told.recorded, told.recorded.reason);
    let why = Err("the signature of the proof was not looked at".to_owned());
    assert_eq!(told.by(rules(None, "accounts")), why);
    assert_eq!(told.by(rules(None, "funds")), why);
    assert_eq!(told.by(rules(Some(pay), "funds")), Ok("audience_mismatch"));
}
