use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use Algorithm::{EdDsa, Es256, Ps256, Rs256};

const MAIN: [Algorithm; 3] = [Es256, Ps256, EdDsa];
const BASE_POINT: ([u8; 32], [u8; 32]) = (
    [
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
        0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98,
        0xc2, 0x96,
    ],
    [
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e,
        0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf,
        0x51, 0xf5,
    ],
);

/// A good key on P-256, with changes; `null` removes a member.
fn ec(change: Value) -> Value {
    let (x, y) = BASE_POINT;
    with(
        json!({"kty": "EC", "crv": "P-256", "kid": "a", "x": BASE64.encode(x), "y": BASE64.encode(y)}),
        change,
    )
}

fn ed(change: Value) -> Value {
    // The public key of the first test in RFC 8032 s7.1.
    with(
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "e",
               "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        change,
    )
}

fn rsa(bits: usize, change: Value) -> Value {
    let mut n = vec![0xff; bits / 8];
    n[0] = 0xc1;
    with(
        json!({"kty": "RSA", "kid": "r", "n": BASE64.encode(n), "e": "AQAB"}),
        change,
    )
}

fn with(mut key: Value, change: Value) -> Value {
    let Value::Object(change) = change else {
        return key;
    };
    let members = key.as_object_mut().unwrap();
    for (name, value) in change {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    key
}

fn parse(keys: &Value, algorithms: &[Algorithm]) -> Result<(KeySet, Vec<String>), String> {
    let text = json!({ "keys": keys }).to_string();
    KeySet::parse(text.as_bytes(), KeyGeneration(1), algorithms)
}

/// What is said of a key that is left out beside a good one, which must stay.
fn left_out(key: &Value, algorithms: &[Algorithm]) -> Option<String> {
    let good = ec(json!({"kid": "good"}));
    let (set, mut warnings) = parse(&json!([key, good]), algorithms).unwrap();
    assert!(matches!(set.find(Some("good"), Es256), Found::Key(_)));
    assert!(warnings.len() <= 1, "{warnings:?}");
    let warning = warnings.pop();
    assert_eq!(set.keys.len() == 1, warning.is_some(), "{warning:?}");
    warning
}

fn none() -> Value {
    Value::Null
}

#[test]
fn good_keys_are_kept() {
    for key in [
        ec(none()),
        ec(json!({"alg": "ES256", "use": "sig", "key_ops": ["verify"]})),
        ec(json!({"x5c": ["MIIB"], "unknown": {"a": 1}})),
        ed(none()),
        ed(json!({"alg": "EdDSA"})),
        ed(json!({"alg": "Ed25519"})),
        rsa(2048, none()),
        rsa(4096, json!({"alg": "PS256"})),
    ] {
        assert_eq!(left_out(&key, &MAIN), None, "{key}");
    }
}

#[test]
fn bad_keys_are_left_out_and_spoil_nothing() {
    // KEY-08, TOK-18, TOK-03
    let off_curve = BASE64.encode([1; 32]);
    let zero = BASE64.encode([0; 32]);
    for (key, why) in [
        (json!(7), "not an object"),
        (json!({}), "kty is not"),
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "symmetric"),
        (ec(json!({"d": "AA"})), "private member `d`"),
        (rsa(2048, json!({"p": "AA"})), "private member `p`"),
        (ec(json!({"use": "enc"})), "use is not sig"),
        (ec(json!({"key_ops": ["sign"]})), "no verify"),
        (ec(json!({"key_ops": []})), "no verify"),
        (ec(json!({"kid": 7})), "wrong type"),
        (ec(json!({"kid": "k".repeat(257)})), "kid is longer"),
        (ec(json!({"alg": "ES384"})), "its alg"),
        (ec(json!({"alg": "HS256"})), "its alg"),
        (ec(json!({"alg": 1})), "alg is not a string"),
        (ec(json!({"alg": "PS256"})), "does not go with"),
        (ed(json!({"alg": "ES256"})), "does not go with"),
        (ec(json!({"crv": "P-384"})), "crv is not P-256"),
        (ec(json!({"crv": "secp256k1"})), ""),
        (ec(json!({"x": off_curve})), "no point"),
        (ec(json!({"x": zero, "y": zero})), "no point"),
        (ec(json!({"x": BASE64.encode([1; 48])})), "32 bytes"),
        (ec(json!({"x": "!"})), "not base64url"),
        (ec(json!({"y": null})), ""),
        (ed(json!({"x": BASE64.encode([1; 31])})), "32 bytes"),
        (ed(json!({"x": zero})), "small order"),
        (ed(json!({"crv": "X25519"})), ""),
        (rsa(1024, none()), "1024 bits"),
        (rsa(2040, none()), "2040 bits"),
        (rsa(8200, none()), "8200 bits"),
        (rsa(2048, json!({"e": "AQ"})), "e is not"),
        (rsa(2048, json!({"e": "Ag"})), "e is not"),
        (rsa(2048, json!({"e": ""})), "e is not"),
        (rsa(2048, json!({"e": BASE64.encode([1; 5])})), "e is not"),
        (rsa(2048, json!({"n": ""})), "0 bits"),
        (rsa(2048, json!({"alg": "RS256"})), "not among algorithms"),
        (json!({"kty": "AKP", "alg": "ES256"}), ""),
    ] {
        let said = left_out(&key, &MAIN);
        let said = said.unwrap_or_else(|| panic!("{key} was kept"));
        assert!(said.contains(why), "{key}: {said}");
    }
}

#[test]
fn every_encoding_of_small_order_is_refused() {
    let edge = |first: u8, mid: u8, last: u8| {
        let mut x = [mid; 32];
        x[0] = first;
        x[31] = last;
        x
    };
    let mut points = vec![
        edge(0, 0, 0),
        edge(1, 0, 0),
        edge(0xec, 0xff, 0x7f),
        edge(0xed, 0xff, 0x7f),
        edge(0xee, 0xff, 0x7f),
    ];
    for text in [
        b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ] {
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
        let mut point = [0; 32];
        for (byte, pair) in point.iter_mut().zip(text.chunks(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        points.push(point);
    }
    for mut point in points {
        for _ in 0..2 {
            let said = left_out(&ed(json!({"x": BASE64.encode(point)})), &MAIN);
            assert!(
                said.is_some_and(|said| said.contains("small order")),
                "{point:x?}"
            );
            point[31] ^= 0x80;
        }
    }
}

#[test]
fn a_kid_may_be_so_long() {
    let kid = "k".repeat(KEY_ID_BYTES);
    let (set, warnings) = parse(&json!([ec(json!({"kid": kid}))]), &MAIN).unwrap();
    assert_eq!(set.key_ids().collect::<Vec<_>>(), [kid]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn what_looks_like_small_order_is_not() {
    let mut points = [[0; 32], [1; 32], [0xff; 32], [0xff; 32], [0; 32], [0; 32]];
    for (point, first) in points.iter_mut().zip([2, 1, 0xeb, 0xef, 0xec, 0xed]) {
        point[0] = first;
    }
    for point in points {
        let said = left_out(&ed(json!({"x": BASE64.encode(point)})), &MAIN);
        assert!(
            said.is_none_or(|said| !said.contains("small order")),
            "{point:x?}"
        );
    }
}

/// RFC 8017 s3.1: 65537 is what everybody takes; whatever else is odd and not too large passes.
#[test]
fn exponents_of_rsa() {
    for (e, taken) in [
        (vec![1, 0, 1], true),
        (vec![1, 0, 3], true),
        (vec![0x80, 0, 0, 1], true),
        (vec![1, 0, 0], false),
        (vec![1, 0, 2], false),
        (vec![1, 0, 0, 0, 1], false),
    ] {
        let said = left_out(&rsa(2048, json!({"e": BASE64.encode(&e)})), &MAIN);
        assert_eq!(said.is_none(), taken, "{e:?}: {said:?}");
        assert!(said.is_none_or(|said| said.contains("e is not")), "{e:?}");
    }
}

#[test]
fn a_member_twice_spoils_one_key_alone() {
    let twice = ec(none())
        .to_string()
        .replacen('{', "{\"use\":\"enc\",\"use\":\"sig\",", 1);
    let text = format!("{{\"keys\":[{twice},{}]}}", ec(json!({"kid": "good"})));
    let (set, warnings) = KeySet::parse(text.as_bytes(), KeyGeneration(1), &MAIN).unwrap();
    assert_eq!(set.key_ids().collect::<Vec<_>>(), ["good"]);
    assert_eq!(warnings.len(), 1);
    let text = format!("{{\"keys\":[],\"keys\":[{}]}}", ec(none()));
    assert!(KeySet::parse(text.as_bytes(), KeyGeneration(1), &MAIN).is_err());
}

#[test]
fn what_is_no_key_set_is_refused_whole() {
    // KEY-06, KEY-07
    for text in [
        "",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[7]}",
        "<html>",
    ] {
        assert!(
            KeySet::parse(text.as_bytes(), KeyGeneration(1), &MAIN).is_err(),
            "{text}"
        );
    }
    let many: Vec<_> = (0..=JWKS_KEYS)
        .map(|n| ec(json!({"kid": n.to_string()})))
        .collect();
    assert!(parse(&json!(many), &MAIN).is_err());
    assert!(parse(&json!(many[1..]), &MAIN).is_ok());
    assert_eq!(JWKS_BYTES, 524_288);
    let set = format!("{{\"keys\":[{}]}}", ec(none()));
    let whole = format!("{set}{}", " ".repeat(JWKS_BYTES - set.len()));
    assert!(KeySet::parse(whole.as_bytes(), KeyGeneration(1), &MAIN).is_ok());
    let padded = format!("{whole} ");
    assert!(KeySet::parse(padded.as_bytes(), KeyGeneration(1), &MAIN).is_err());
}

#[test]
fn a_key_without_alg_serves_what_the_issuer_allows() {
    // TOK-03
    let find = |key: Value, allowed: &[Algorithm], wanted| {
        let (set, _) = parse(&json!([key, ec(none())]), allowed).unwrap();
        format!("{:?}", set.find(Some("r"), wanted))
            .split('(')
            .next()
            .map(str::to_owned)
    };
    let named = |name: &str| Some(name.to_owned());
    let both = [Es256, Ps256, Rs256];
    assert_eq!(find(rsa(2048, none()), &both, Ps256), named("Key"));
    assert_eq!(find(rsa(2048, none()), &both, Rs256), named("Key"));
    assert_eq!(
        find(rsa(2048, json!({"alg": "PS256"})), &both, Rs256),
        named("Mismatch")
    );
    assert_eq!(find(rsa(2048, none()), &MAIN, Rs256), named("Mismatch"));
}

#[test]
fn a_key_is_found_by_name_and_kind() {
    // TOK-05
    let (set, warnings) = parse(
        &json!([
            ec(none()),
            ed(json!({"kid": "a"})),
            ed(json!({"kid": "b"})),
            ec(json!({"kid": "a", "alg": "ES256"}))
        ]),
        &MAIN,
    )
    .unwrap();
    assert_eq!(
        warnings.len(),
        1,
        "one kid and one algorithm: the first is kept"
    );
    assert!(matches!(set.find(Some("a"), Es256), Found::Key(key) if key.algorithm == Es256));
    assert!(matches!(set.find(Some("a"), EdDsa), Found::Key(key) if key.algorithm == EdDsa));
    assert!(matches!(set.find(Some("b"), Es256), Found::Mismatch));
    assert!(matches!(set.find(Some("c"), Es256), Found::Missing));
    assert!(matches!(set.find(Some(""), Es256), Found::Missing));
    assert!(matches!(set.find(None, Es256), Found::Key(_)));
    assert!(matches!(set.find(None, EdDsa), Found::Missing), "two fit");
    assert!(matches!(set.find(None, Ps256), Found::Missing));
}

#[test]
fn the_same_keys_are_told_from_others() {
    let set = |keys: &[Value]| parse(&json!(keys), &MAIN).unwrap().0;
    let (a, b) = (ec(none()), ed(none()));
    let one = set(&[a.clone(), b.clone()]);
    assert!(one.same_keys(&set(&[b.clone(), a.clone()])), "in any order");
    assert!(!one.same_keys(&set(std::slice::from_ref(&a))));
    assert!(!set(std::slice::from_ref(&a)).same_keys(&one));
    assert!(!one.same_keys(&set(&[ec(json!({"kid": "z"})), b.clone()])));
    let fresh = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = fresh.public_key().as_ref();
    let replaced = ec(json!({"x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])}));
    assert!(
        !one.same_keys(&set(&[replaced, b])),
        "another key under an old name"
    );
}

#[test]
fn a_zero_before_the_modulus_is_the_same_key() {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let parts = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
    let zero: Vec<u8> = [0].into_iter().chain(parts.n.iter().copied()).collect();
    let jwk = |n: &[u8]| json!([{"kty": "RSA", "kid": "r", "n": BASE64.encode(n), "e": "AQAB"}]);
    let (plain, padded) = (parse(&jwk(&parts.n), &MAIN), parse(&jwk(&zero), &MAIN));
    assert!(plain.unwrap().0.same_keys(&padded.unwrap().0));
}

// TOK-19
#[test]
fn a_signature_of_es256_is_r_and_s_and_nothing_else() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let jwk = ec(json!({"x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])}));
    let key = VerificationKey::embedded(jwk, Es256).unwrap();
    let rng = SystemRandom::new();
    // Each second number has its top bit set, each 256th begins with an octet of nought.
    for message in 0..600_u32 {
        let message = message.to_be_bytes();
        let good = pair.sign(&rng, &message).unwrap();
        let good = good.as_ref();
        assert!(key.verifies(&message, good));
        assert!(!key.verifies(b"another", good));
        let (r, s) = good.split_at(32);
        for bad in [
            [s, r].concat(),
            [&[0; 32], s].concat(),
            [r, &[0; 32]].concat(),
            [r, &[0xff; 32]].concat(),
            [r, s, &[0]].concat(),
            [&[0], r, s].concat(),
            good[..63].to_vec(),
            signature_value(good).unwrap(),
            Vec::new(),
        ] {
            assert!(!key.verifies(&message, &bad), "{bad:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_signature_is_judged_as_the_library_judges_it(flip in 0..64_usize, by in 0..=255_u8, r in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 32)) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let jwk = ec(json!({"x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])}));
        let key = VerificationKey::embedded(jwk, Es256).unwrap();
        let theirs = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let mut signature = pair.sign(&SystemRandom::new(), b"it").unwrap().as_ref().to_vec();
        signature[flip] ^= by;
        prop_assert_eq!(key.verifies(b"it", &signature), theirs.verify(b"it", &signature).is_ok());
        signature[..32].copy_from_slice(&r);
        prop_assert_eq!(key.verifies(b"it", &signature), theirs.verify(b"it", &signature).is_ok());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        drop(KeySet::parse(&bytes, KeyGeneration(1), &MAIN));
    }

    #[test]
    fn any_member_values_are_read_without_a_panic(kty in "EC|RSA|OKP|oct", x in "[A-Za-z0-9_-]{0,50}", y in "[A-Za-z0-9_-]{0,50}") {
        drop(parse(&json!([{"kty": kty, "crv": "P-256", "x": x, "y": y, "n": x, "e": y}]), &MAIN));
    }
}
