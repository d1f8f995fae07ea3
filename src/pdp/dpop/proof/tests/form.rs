//! What a proof looks like: its parts, its header, its key.

use super::*;

#[test]
fn form() {
    // DPOP-02; "proof without signature part"
    let proof = EC.proof(&json!({}), &json!({}));
    let (rest, signature) = proof.rsplit_once('.').unwrap();
    let (header, payload) = rest.split_once('.').unwrap();
    let plain = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for (name, text) in [
        ("empty", String::new()),
        ("without signature part", rest.to_owned()),
        ("header alone", header.to_owned()),
        ("five parts", format!("{proof}.a.a")),
        ("blank in front", format!(" {proof}")),
        ("line end", format!("{proof}\n")),
        ("padding", format!("{proof}==")),
        (
            "plain base64",
            format!("{rest}.{}", signature.replace(['-', '_'], "+") + "/"),
        ),
        ("not ASCII", format!("{proof}\u{e4}")),
        (
            "header is no JSON",
            format!("{}.{payload}.{signature}", plain("{")),
        ),
        (
            "header is an array",
            format!("{}.{payload}.{signature}", plain("[]")),
        ),
        (
            "payload is no object",
            format!("{header}.{}.{signature}", plain("7")),
        ),
        ("payload is empty", format!("{header}..{signature}")),
    ] {
        assert_eq!(reason(&text), Some(ProofMalformed), "{name}");
    }
    assert_eq!(reason(&format!("{rest}.")), Some(ProofSignatureInvalid));
    let not_utf8 = Proof::read(b"\xff.a.a", &[Algorithm::Es256]).unwrap_err();
    assert_eq!(not_utf8.reason(), ProofMalformed);
}

#[test]
fn header() {
    // DPOP-03, DPOP-04, DPOP-05, DPOP-30
    for (name, change, expected) in [
        ("missing typ", json!({"typ": null}), Some(ProofMalformed)),
        ("missing alg", json!({"alg": null}), Some(ProofMalformed)),
        ("missing jwk", json!({"jwk": null}), Some(ProofMalformed)),
        (
            "typ with a suffix",
            json!({"typ": "dpop+jwt1"}),
            Some(ProofMalformed),
        ),
        (
            "typ of tokens",
            json!({"typ": "at+jwt"}),
            Some(ProofMalformed),
        ),
        ("typ is a number", json!({"typ": 7}), Some(ProofMalformed)),
        (
            "alg none",
            json!({"alg": "none"}),
            Some(ProofAlgorithmForbidden),
        ),
        (
            "alg HS256",
            json!({"alg": "HS256"}),
            Some(ProofAlgorithmForbidden),
        ),
        (
            "alg RS256",
            json!({"alg": "RS256"}),
            Some(ProofAlgorithmForbidden),
        ),
        (
            "alg ES384",
            json!({"alg": "ES384"}),
            Some(ProofAlgorithmForbidden),
        ),
        (
            "alg in small letters",
            json!({"alg": "es256"}),
            Some(ProofAlgorithmForbidden),
        ),
        (
            "alg is a list",
            json!({"alg": ["ES256"]}),
            Some(ProofMalformed),
        ),
        (
            "alg of another key",
            json!({"alg": "PS256"}),
            Some(ProofKeyInvalid),
        ),
        (
            "alg of another curve",
            json!({"alg": "EdDSA"}),
            Some(ProofKeyInvalid),
        ),
        ("crit", json!({"crit": ["x"], "x": 1}), Some(ProofMalformed)),
        ("b64", json!({"b64": false}), Some(ProofMalformed)),
        (
            "unknown members",
            json!({"kid": 7, "jku": "https://x", "x5c": ["a"], "x": {}}),
            None,
        ),
    ] {
        assert_eq!(changed(&change, &json!({})), expected, "{name}");
    }
    let header = format!(
        r#"{{"typ":"dpop+jwt","alg":"ES256","alg":"ES256","jwk":{}}}"#,
        EC.jwk()
    );
    assert_eq!(
        reason(&EC.sign(&header, "{}")),
        Some(ProofMalformed),
        "alg twice"
    );
    let proof = RSA.proof(&json!({"alg": "RS256"}), &json!({}));
    let mut wide = rules(NonceRule::Off);
    wide.algorithms.push(Algorithm::Rs256);
    let refusal = judged(&proof, &wide).unwrap_err();
    assert_eq!(
        refusal.reason(),
        ProofAlgorithmForbidden,
        "whatever a file says"
    );
    let narrow = Rules {
        algorithms: vec![Algorithm::Ps256],
        ..rules(NonceRule::Off)
    };
    let refusal = judged(&EC.proof(&json!({}), &json!({})), &narrow).unwrap_err();
    assert_eq!(
        refusal.reason(),
        ProofAlgorithmForbidden,
        "not among those of the route"
    );
}

#[test]
fn keys() {
    // DPOP-07, DPOP-17, DPOP-34; "private key members in jwk"
    let ec = |change: Value| {
        let mut jwk = EC.jwk();
        for (name, value) in change.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let n = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xc1; bytes]);
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let jwk = ec(json!({name: "AA"}));
        let found = changed(&json!({"jwk": jwk}), &json!({}));
        assert_eq!(found, Some(ProofKeyInvalid), "private member {name}");
    }
    for (name, jwk, expected) in [
        (
            "extra members",
            ec(json!({"kid": "a", "use": "sig", "key_ops": ["verify"], "ext": true, "x1": 7})),
            None,
        ),
        ("alg that fits", ec(json!({"alg": "ES256"})), None),
        (
            "alg that does not",
            ec(json!({"alg": "PS256"})),
            Some(ProofKeyInvalid),
        ),
        (
            "for encryption",
            ec(json!({"use": "enc"})),
            Some(ProofKeyInvalid),
        ),
        (
            "off the curve",
            ec(json!({"x": URL_SAFE_NO_PAD.encode([1; 32])})),
            Some(ProofKeyInvalid),
        ),
        (
            "another curve",
            ec(json!({"crv": "P-384"})),
            Some(ProofKeyInvalid),
        ),
        (
            "padded",
            ec(json!({"x": EC.jwk()["x"].as_str().unwrap().to_owned() + "="})),
            Some(ProofKeyInvalid),
        ),
        (
            "another kty",
            ec(json!({"kty": "RSA"})),
            Some(ProofKeyInvalid),
        ),
        (
            "symmetric",
            json!({"kty": "oct", "k": "AAAA"}),
            Some(ProofKeyInvalid),
        ),
        ("empty", json!({}), Some(ProofKeyInvalid)),
        ("no object", json!("AAAA"), Some(ProofKeyInvalid)),
        (
            "another key",
            Signer::ec().jwk(),
            Some(ProofSignatureInvalid),
        ),
    ] {
        assert_eq!(
            changed(&json!({"jwk": jwk}), &json!({})),
            expected,
            "{name}"
        );
    }
    for (name, bytes, expected) in [
        ("RSA-1024", 128, ProofKeyInvalid),
        ("RSA-4096", 512, ProofSignatureInvalid),
        ("RSA-4104", 513, ProofKeyInvalid),
        ("RSA-8192", 1024, ProofKeyInvalid),
        ("RSA-16384", 2048, ProofKeyInvalid),
    ] {
        let jwk = json!({"kty": "RSA", "n": n(bytes), "e": "AQAB"});
        let found = reason(&RSA.proof(&json!({"jwk": jwk}), &json!({})));
        assert_eq!(found, Some(expected), "{name}");
    }
    let identity = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([&[1_u8][..], &[0; 31]].concat())});
    let found = reason(&ED.proof(&json!({"jwk": identity}), &json!({})));
    assert_eq!(found, Some(ProofKeyInvalid), "a point of small order");
}
