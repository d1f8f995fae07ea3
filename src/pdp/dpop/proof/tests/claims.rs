//! What a proof says: of which request, when, with which nonce.

use super::*;

#[test]
fn claims() {
    // DPOP-03, DPOP-08, DPOP-09, DPOP-16, DPOP-23, DPOP-30
    let url = "https://api.bank.example/accounts";
    for (name, change, expected) in [
        ("missing jti", json!({"jti": null}), Some(ProofMalformed)),
        ("missing htm", json!({"htm": null}), Some(ProofMalformed)),
        ("missing htu", json!({"htu": null}), Some(ProofMalformed)),
        ("missing iat", json!({"iat": null}), Some(ProofMalformed)),
        ("missing ath", json!({"ath": null}), Some(ProofMalformed)),
        ("empty jti", json!({"jti": ""}), Some(ProofMalformed)),
        ("jti is a number", json!({"jti": 7}), Some(ProofMalformed)),
        (
            "htm is a list",
            json!({"htm": ["GET"]}),
            Some(ProofMalformed),
        ),
        ("htu is an object", json!({"htu": {}}), Some(ProofMalformed)),
        ("ath is true", json!({"ath": true}), Some(ProofMalformed)),
        (
            "iat is a string",
            json!({"iat": NOW.to_string()}),
            Some(ProofMalformed),
        ),
        ("iat below zero", json!({"iat": -1}), Some(ProofMalformed)),
        (
            "iat without end",
            json!({"iat": 1e300}),
            Some(ProofMalformed),
        ),
        (
            "nbf is a string",
            json!({"nbf": "now"}),
            Some(ProofMalformed),
        ),
        (
            "exp is a string",
            json!({"exp": "now"}),
            Some(ProofMalformed),
        ),
        (
            "nonce is a number",
            json!({"nonce": 7}),
            Some(ProofMalformed),
        ),
        ("jti of 256 bytes", json!({"jti": "j".repeat(256)}), None),
        (
            "jti of 257 bytes",
            json!({"jti": "j".repeat(257)}),
            Some(ProofTooLarge),
        ),
        (
            "jti of 10 KiB",
            json!({"jti": "j".repeat(10_240)}),
            Some(ProofTooLarge),
        ),
        (
            "jti of a proof that has room",
            json!({"jti": "j".repeat(4_000)}),
            Some(ProofTooLarge),
        ),
        ("htm PUT", json!({"htm": "PUT"}), Some(ProofMethodMismatch)),
        (
            "htm in small letters",
            json!({"htm": "get"}),
            Some(ProofMethodMismatch),
        ),
        (
            "htu with query and fragment",
            json!({"htu": format!("{url}?x=1#y")}),
            None,
        ),
        (
            "htu in capitals",
            json!({"htu": "HTTPS://API.BANK.EXAMPLE/accounts"}),
            None,
        ),
        (
            "htu with the default port",
            json!({"htu": "https://api.bank.example:443/accounts"}),
            None,
        ),
        (
            "htu of another path",
            json!({"htu": format!("{url}/1")}),
            Some(ProofTargetMismatch),
        ),
        (
            "htu of another host",
            json!({"htu": "https://api.evil.example/accounts"}),
            Some(ProofTargetMismatch),
        ),
        (
            "htu is no URI",
            json!({"htu": "accounts"}),
            Some(ProofTargetMismatch),
        ),
        (
            "wrong ath",
            json!({"ath": ath("another")}),
            Some(ProofTokenMismatch),
        ),
        (
            "padded ath",
            json!({"ath": ath(TOKEN) + "="}),
            Some(ProofTokenMismatch),
        ),
        (
            "unknown claims",
            json!({"iss": 7, "aud": {}, "x": [1]}),
            None,
        ),
        ("a nonce that nobody asked for", json!({"nonce": "x"}), None),
    ] {
        assert_eq!(changed(&json!({}), &change), expected, "{name}");
    }
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": EC.jwk()}).to_string();
    let twice = EC.sign(&header, r#"{"jti":"a","jti":"a"}"#);
    assert_eq!(reason(&twice), Some(ProofMalformed), "jti twice");
}

#[test]
fn times() {
    // DPOP-14, DPOP-30
    for (name, change, expected) in [
        ("10 s old", json!({"iat": NOW - 10}), None),
        ("60 s old", json!({"iat": NOW - 60}), None),
        ("61 s old", json!({"iat": NOW - 61}), Some(ProofExpired)),
        (
            "one hour behind",
            json!({"iat": NOW - 3600}),
            Some(ProofExpired),
        ),
        ("of 1970", json!({"iat": 0}), Some(ProofExpired)),
        ("8 s ahead", json!({"iat": NOW + 8}), None),
        ("10 s ahead", json!({"iat": NOW + 10}), None),
        (
            "11 s ahead",
            json!({"iat": NOW + 11}),
            Some(ProofNotYetValid),
        ),
        (
            "one hour ahead",
            json!({"iat": NOW + 3600}),
            Some(ProofNotYetValid),
        ),
        (
            "latest number",
            json!({"iat": 1_u64 << 53}),
            Some(ProofNotYetValid),
        ),
        ("with a fraction", json!({"iat": 1_799_999_999.75}), None),
        (
            "nbf and exp around now",
            json!({"nbf": NOW, "exp": NOW + 300}),
            None,
        ),
        ("nbf a little ahead", json!({"nbf": NOW + 10}), None),
        (
            "nbf ahead",
            json!({"nbf": NOW + 11}),
            Some(ProofNotYetValid),
        ),
        ("exp a little past", json!({"exp": NOW - 9}), None),
        ("exp past", json!({"exp": NOW - 10}), Some(ProofExpired)),
    ] {
        assert_eq!(changed(&json!({}), &change), expected, "{name}");
    }
    // FAPI 2.0 s5.3.2.1: whatever a file says.
    let wide = Rules {
        ahead: Duration::from_secs(3600),
        ..rules(NonceRule::Off)
    };
    for (ahead, expected) in [(60, None), (61, Some(ProofNotYetValid))] {
        let proof = EC.proof(&json!({}), &json!({"iat": NOW + ahead}));
        let found = judged(&proof, &wide).err().map(|r| r.reason());
        assert_eq!(found, expected, "{ahead} s ahead");
    }
}

#[test]
fn nonce_rules() {
    // DPOP-13, DPOP-27, DPOP-28
    let at = |secs| json!({"nonce": &*nonces().fresh(UnixTime::from_secs(secs))});
    let (fresh, stale) = (at(NOW), at(NOW - 3600));
    let none = json!({});
    let foreign = json!({"nonce": &*NonceKeys::new(&[8; 32], None, Duration::from_secs(120)).unwrap().fresh(UnixTime::from_secs(NOW))});
    let empty = json!({"nonce": ""});
    let long = json!({"nonce": "n".repeat(3000)});
    let late = json!({"nonce": fresh["nonce"], "iat": NOW - 3600});
    use NonceRule::{Accepted, Off, Required};
    for (rule, name, claims, expected) in [
        (Required, "none", &none, Some(NonceRequired)),
        (Required, "fresh", &fresh, None),
        (Required, "stale", &stale, Some(NonceInvalid)),
        (Required, "foreign", &foreign, Some(NonceInvalid)),
        (Required, "empty", &empty, Some(NonceInvalid)),
        (Required, "long", &long, Some(NonceInvalid)),
        (Required, "fresh, of an old iat", &late, Some(ProofExpired)),
        (Accepted, "none", &none, None),
        (Accepted, "fresh", &fresh, None),
        (Accepted, "stale", &stale, Some(NonceInvalid)),
        (Accepted, "foreign", &foreign, Some(NonceInvalid)),
        (Accepted, "empty", &empty, Some(NonceInvalid)),
        (Off, "none", &none, None),
        (Off, "foreign", &foreign, None),
    ] {
        let found = judged(&EC.proof(&json!({}), claims), &rules(rule));
        let found = found.err().map(|r| r.reason());
        assert_eq!(found, expected, "{rule:?}: {name}");
    }
}

#[test]
fn a_rule_without_keys_lets_nothing_through() {
    let origins = Origins::new(&["https://api.bank.example"]).unwrap();
    let fits = |rule, claims: &Value| {
        let rules = rules(rule);
        let expected = Expected {
            method: "GET",
            target: Target {
                origins: &origins,
                path: "/accounts",
            },
            access_token: AccessToken::new(TOKEN).digest(),
            rules: &rules,
        };
        let proof = EC.proof(&json!({}), claims);
        let proof = Proof::read(proof.as_bytes(), &rules.algorithms).unwrap();
        let found = proof.fits(&expected, None, UnixTime::from_secs(NOW));
        found.err().map(|r| r.reason())
    };
    let with = json!({"nonce": "x"});
    assert_eq!(fits(NonceRule::Required, &json!({})), Some(NonceRequired));
    assert_eq!(fits(NonceRule::Required, &with), Some(Reason::Internal));
    assert_eq!(fits(NonceRule::Accepted, &with), Some(Reason::Internal));
    assert_eq!(fits(NonceRule::Off, &with), None);
}
