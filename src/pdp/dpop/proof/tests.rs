mod claims;
mod form;
mod signer;
mod vectors;

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pdp::dpop::Origins;
use crate::pdp::token::AccessToken;
use signer::Signer;

use Reason::{
    NonceInvalid, NonceRequired, ProofAlgorithmForbidden, ProofExpired, ProofKeyInvalid,
    ProofMalformed, ProofMethodMismatch, ProofNotYetValid, ProofSignatureInvalid,
    ProofTargetMismatch, ProofTokenMismatch, ProofTooLarge,
};

const NOW: u64 = 1_800_000_000;
const TOKEN: &str = "the.access.token";
static EC: LazyLock<Signer> = LazyLock::new(Signer::ec);
static ED: LazyLock<Signer> = LazyLock::new(Signer::ed);
static RSA: LazyLock<Signer> = LazyLock::new(Signer::rsa);

fn ath(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

fn rules(nonce: NonceRule) -> Rules {
    Rules {
        age: Duration::from_secs(60),
        ahead: Duration::from_secs(10),
        nonce,
        replay_unavailable: ReplayRule::Refuse,
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
    }
}

fn nonces() -> NonceKeys {
    NonceKeys::new(&[7; 32], None, Duration::from_secs(120)).unwrap()
}

/// The whole way of a proof of `GET /accounts` with `TOKEN`, as a request goes it.
fn judged(proof: &str, rules: &Rules) -> Result<Proven, Refusal> {
    let origins = Origins::new(&["https://api.bank.example"]).unwrap();
    let expected = Expected {
        method: "GET",
        target: Target {
            origins: &origins,
            path: "/accounts",
        },
        access_token: AccessToken::new(TOKEN).digest(),
        rules,
    };
    let value = single([proof.as_bytes()].into_iter())?.unwrap();
    let proof = Proof::read(value, &rules.algorithms)?;
    proof.fits(&expected, Some(&nonces()), UnixTime::from_secs(NOW))?;
    proof.verify()
}

fn reason(proof: &str) -> Option<Reason> {
    judged(proof, &rules(NonceRule::Off))
        .err()
        .map(|r| r.reason())
}

/// What becomes of a good proof with these changes.
fn changed(header: &Value, claims: &Value) -> Option<Reason> {
    reason(&EC.proof(header, claims))
}

#[test]
fn a_good_proof_of_each_algorithm() {
    // DPOP-05, DPOP-06
    for signer in [&*EC, &*ED, &*RSA] {
        let proof = signer.proof(&json!({}), &json!({}));
        assert_eq!(reason(&proof), None, "{}", signer.algorithm());
    }
    // RFC 9864 gave EdDSA with this curve a name of its own.
    let proof = ED.proof(&json!({"alg": "Ed25519"}), &json!({}));
    assert_eq!(reason(&proof), None);
}

#[test]
fn one_field_with_one_proof() {
    // DPOP-01; "two proofs in the header"
    let proof = EC.proof(&json!({}), &json!({}));
    let one = proof.as_bytes();
    let listed = format!("{proof}, {proof}");
    let found = |values: &[&[u8]]| {
        let found = single(values.iter().copied()).map_err(|r| r.reason());
        found.map(|value| value.map(<[u8]>::to_vec))
    };
    assert_eq!(found(&[]), Ok(None));
    assert_eq!(found(&[one]), Ok(Some(one.to_vec())));
    assert_eq!(found(&[b""]), Ok(Some(Vec::new())));
    for values in [&[one, one][..], &[listed.as_bytes()], &[b"a,"], &[b"", b""]] {
        assert_eq!(found(values), Err(Reason::ProofRepeated));
    }
}

#[test]
fn the_size_is_looked_at_first_and_the_signature_last() {
    // DPOP-35
    assert_eq!(PROOF_BYTES, 8192, "as the table of reasons says");
    for bytes in [PROOF_BYTES + 1, 1 << 20] {
        let refusal = Proof::read(&vec![b'a'; bytes], &[]).unwrap_err();
        assert_eq!(refusal.reason(), ProofTooLarge, "{bytes}");
    }
    let fits = vec![b'a'; PROOF_BYTES];
    assert_eq!(
        Proof::read(&fits, &[]).unwrap_err().reason(),
        ProofMalformed
    );
    let forged = |claims: &Value| {
        let proof = EC.proof(&json!({}), claims);
        let (signed, _) = proof.rsplit_once('.').unwrap();
        reason(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 64])))
    };
    assert_eq!(forged(&json!({})), Some(ProofSignatureInvalid));
    assert_eq!(forged(&json!({"htm": "PUT"})), Some(ProofMethodMismatch));
    assert_eq!(forged(&json!({"ath": "x"})), Some(ProofTokenMismatch));
    assert_eq!(forged(&json!({"iat": 0})), Some(ProofExpired));
}

#[test]
fn signatures_of_another_form_or_key() {
    // DPOP-06; "altered signature", "signed by another key"
    for signer in [&*EC, &*ED, &*RSA] {
        let proof = signer.proof(&json!({}), &json!({}));
        let (signed, signature) = proof.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for at in 0..signature.len() {
            let mut altered = signature.clone();
            altered[at] ^= 1 << (at % 8);
            let proof = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(altered));
            assert_eq!(reason(&proof), Some(ProofSignatureInvalid), "byte {at}");
        }
        for other in [
            &signature[1..],
            &[&signature[..], &[0]].concat(),
            &vec![0; signature.len()],
        ] {
            let proof = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(other));
            assert_eq!(reason(&proof), Some(ProofSignatureInvalid));
        }
    }
    let mine = EC.proof(&json!({}), &json!({}));
    let theirs = Signer::ec().proof(&json!({}), &json!({}));
    let mixed = format!(
        "{}.{}",
        mine.rsplit_once('.').unwrap().0,
        theirs.rsplit_once('.').unwrap().1
    );
    assert_eq!(reason(&mixed), Some(ProofSignatureInvalid));
}

#[test]
fn a_single_use_is_of_a_key_and_a_jti() {
    // DPOP-22, DPOP-24
    let other = Signer::ec();
    let key = |signer: &Signer, claims: Value| {
        let proof = signer.proof(&json!({}), &claims);
        let proven = judged(&proof, &rules(NonceRule::Off)).unwrap();
        proven.replay_key()
    };
    let first = key(&EC, json!({}));
    assert_eq!(first, key(&EC, json!({})));
    assert_eq!(
        first,
        key(
            &EC,
            json!({"iat": NOW - 5, "htu": "https://api.bank.example/accounts?x"})
        )
    );
    assert_ne!(first, key(&EC, json!({"jti": "another"})));
    assert_ne!(
        first,
        key(&other, json!({})),
        "two clients may choose the same jti"
    );
}

#[test]
fn a_use_is_remembered_for_as_long_as_the_proof_can_be_taken() {
    let rules = rules(NonceRule::Off);
    let proof = EC.proof(&json!({}), &json!({"iat": NOW + 10}));
    let proven = judged(&proof, &rules).unwrap();
    assert_eq!(proven.until(&rules), UnixTime::from_secs(NOW + 70));
    let endless = Rules {
        age: Duration::MAX,
        ..rules
    };
    assert_eq!(proven.until(&endless), UnixTime::from_secs(u64::MAX));
}

#[test]
fn nothing_of_a_proof_or_token_is_said() {
    for (header, claims) in [
        (json!({"typ": "secret"}), json!({})),
        (json!({"alg": "secret"}), json!({})),
        (json!({"jwk": {"kty": "secret"}}), json!({})),
        (
            json!({"jwk": {"kty": "EC", "crv": "P-256", "x": "secret", "y": "secret"}}),
            json!({}),
        ),
        (json!({}), json!({"htm": "secret"})),
        (json!({}), json!({"htu": "https://secret/"})),
        (json!({}), json!({"ath": "secret"})),
        (json!({}), json!({"jti": "secret".repeat(100)})),
        (json!({}), json!({"nonce": "secret"})),
        (json!({}), json!({"iat": "secret"})),
    ] {
        let refusal = judged(&EC.proof(&header, &claims), &rules(NonceRule::Required)).unwrap_err();
        let said = format!("{refusal:?}");
        assert!(!said.contains("secret") && !said.contains(TOKEN), "{said}");
    }
    let proof = EC.proof(&json!({}), &json!({}));
    let proof = Proof::read(proof.as_bytes(), &[Algorithm::Es256]).unwrap();
    assert_eq!(format!("{proof:?}"), "Proof(not shown)");
}

#[test]
fn a_header_that_was_read_stands_for_itself_alone() {
    let algorithms = rules(NonceRule::Off).algorithms;
    let read = |proof: &str, known: &Proof| {
        Proof::read_after(proof.as_bytes(), &algorithms, Some(known.header()))
    };
    let first = EC.proof(&json!({}), &json!({}));
    let first = Proof::read(first.as_bytes(), &algorithms).unwrap();
    // Another proof with the same header: read once, and the signature is still looked at.
    let second = EC.proof(&json!({}), &json!({"jti": "another"}));
    let again = read(&second, &first).unwrap();
    assert!(Arc::ptr_eq(again.header(), first.header()));
    assert!(again.verify().is_ok());
    let (signed, _) = second.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
    let refusal = read(&forged, &first).unwrap().verify().unwrap_err();
    assert_eq!(refusal.reason(), ProofSignatureInvalid);
    // Another key, another member, another order of the same: read for itself.
    for other in [
        ED.proof(&json!({}), &json!({})),
        EC.proof(&json!({"kid": "1"}), &json!({})),
        Signer::ec().proof(&json!({}), &json!({})),
    ] {
        let other = read(&other, &first).unwrap();
        assert!(!Arc::ptr_eq(other.header(), first.header()));
        assert!(other.verify().is_ok());
    }
    let bad = EC.proof(&json!({"crit": ["exp"]}), &json!({}));
    assert_eq!(read(&bad, &first).unwrap_err().reason(), ProofMalformed);
    // What was good for one policy is judged by the next one's rules, and its claims always are.
    let known = Some(first.header());
    let of = |proof: &str, algorithms: &[Algorithm]| {
        let read = Proof::read_after(proof.as_bytes(), algorithms, known);
        read.unwrap_err().reason()
    };
    let es = EC.proof(&json!({}), &json!({}));
    assert_eq!(of(&es, &[Algorithm::Ps256]), ProofAlgorithmForbidden);
    let bare = EC.proof(&json!({}), &json!({"jti": 1}));
    assert_eq!(of(&bare, &algorithms), ProofMalformed);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, header: String, claims: String) {
        let algorithms = rules(NonceRule::Off).algorithms;
        drop(Proof::read(&bytes, &algorithms));
        let text = format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        prop_assert!(Proof::read(text.as_bytes(), &algorithms).is_err());
    }

    #[test]
    fn no_byte_can_be_changed(at: prop::sample::Index, to: u8) {
        let proof = EC.proof(&json!({}), &json!({}));
        let mut bytes = proof.into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        // What is no text cannot be passed to `reason`; it is malformed as the rest is.
        let refused = String::from_utf8(bytes).map_or(Some(ProofMalformed), |text| reason(&text));
        prop_assert!(refused.is_some());
    }

    #[test]
    fn any_method_path_and_jti_that_a_client_signs(
        method in "[A-Z]{1,10}", path in "(/[a-zA-Z0-9._~;=-]{1,8}){1,5}", jti in "\\PC{1,60}", age in 0..60_u64,
    ) {
        prop_assume!(!path.split('/').any(|segment| matches!(segment, "." | "..")));
        let origins = Origins::new(&["https://api.bank.example"]).unwrap();
        let rules = rules(NonceRule::Off);
        let expected = Expected {
            method: &method,
            target: Target { origins: &origins, path: &path },
            access_token: AccessToken::new(TOKEN).digest(),
            rules: &rules,
        };
        let htu = format!("https://api.bank.example{path}");
        let claims = json!({"htm": method, "htu": htu, "jti": jti, "iat": NOW.saturating_sub(age)});
        let proof = EC.proof(&json!({}), &claims);
        let proof = Proof::read(proof.as_bytes(), &rules.algorithms).unwrap();
        prop_assert!(proof.fits(&expected, None, UnixTime::from_secs(NOW)).is_ok());
        prop_assert!(proof.verify().is_ok());
    }
}
