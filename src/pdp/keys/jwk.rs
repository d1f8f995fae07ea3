//! One member of a key set: from JSON to keys that can verify, or why not.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaParameters,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyOperations,
    OctetKeyPairParameters, PublicKeyUse, RSAKeyParameters,
};
use serde_json::{Map, Value};

use super::KEY_ID_BYTES;
use crate::pdp::policy::Algorithm;

/// What a member gives: one key for each algorithm that it serves.
pub(super) struct Usable {
    pub(super) key_id: Option<Box<str>>,
    pub(super) keys: Vec<(Algorithm, ParsedPublicKey)>,
}

/// Members that only a private or symmetric key has (RFC 7518 s6.2.2, s6.3.2, s6.4; RFC 8037 s2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Reads one member of `keys`.
pub(super) fn read(value: Value, algorithms: &[Algorithm]) -> Result<Usable, String> {
    let Value::Object(mut members) = value else {
        return Err("not an object with each member once (RFC 7517 s4)".to_owned());
    };
    if members.get("kty").and_then(Value::as_str) == Some("oct") {
        return Err("kty is oct: a symmetric key proves nothing here".to_owned());
    }
    if let Some(name) = PRIVATE.into_iter().find(|name| members.contains_key(*name)) {
        return Err(format!(
            "it holds the private member `{name}`; only public keys may be published"
        ));
    }
    let stated = stated_algorithm(&mut members)?;
    let jwk: Jwk = serde_json::from_value(Value::Object(members))
        .map_err(|_rejected| "not a JWK: a member has the wrong type (RFC 7517 s4)".to_owned())?;
    for_signatures(&jwk)?;
    let key_id = jwk.common.key_id.clone().map(String::into_boxed_str);
    if key_id.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES) {
        return Err(format!("kid is longer than {KEY_ID_BYTES} bytes"));
    }
    let keys = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => {
            vec![(Algorithm::Es256, elliptic(key)?)]
        }
        AlgorithmParameters::OctetKeyPair(key) => vec![(Algorithm::EdDsa, edwards(key)?)],
        AlgorithmParameters::RSA(key) => rsa(key)?,
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => {
            return Err("kty is not EC, RSA or OKP".to_owned());
        }
    };
    let keys: Vec<_> = keys
        .into_iter()
        .filter(|(algorithm, _)| stated.is_none_or(|stated| stated == *algorithm))
        .collect();
    if keys.is_empty() {
        return Err("alg does not go with kty and crv".to_owned());
    }
    let keys: Vec<_> = keys
        .into_iter()
        .filter(|(algorithm, _)| algorithms.contains(algorithm))
        .collect();
    if keys.is_empty() {
        return Err("its algorithm is not among algorithms of the issuer".to_owned());
    }
    Ok(Usable { key_id, keys })
}

/// `alg`, if it is there. It is taken out, because the two names of Ed25519 and names that nobody
/// here knows are ours to read.
fn stated_algorithm(members: &mut Map<String, Value>) -> Result<Option<Algorithm>, String> {
    match members.remove("alg") {
        None => Ok(None),
        Some(Value::String(name)) => Algorithm::named(&name)
            .map(Some)
            .ok_or_else(|| "its alg is not one that is known here".to_owned()),
        Some(_) => Err("alg is not a string".to_owned()),
    }
}

/// KEY-08: `use` is `sig` and `key_ops` has `verify`, where they are there.
fn for_signatures(jwk: &Jwk) -> Result<(), String> {
    if !matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) {
        return Err("use is not sig".to_owned());
    }
    let operations = jwk.common.key_operations.as_deref();
    if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("key_ops has no verify".to_owned());
    }
    Ok(())
}

/// RFC 7518 s6.2.1: both coordinates have the curve's full length. A point that is not on the
/// curve does not become a key.
fn elliptic(key: &EllipticCurveKeyParameters) -> Result<ParsedPublicKey, String> {
    if key.curve != EllipticCurve::P256 {
        return Err("crv is not P-256".to_owned());
    }
    let (x, y) = (decoded("x", &key.x)?, decoded("y", &key.y)?);
    if x.len() != 32 || y.len() != 32 {
        return Err("x and y must have 32 bytes each".to_owned());
    }
    let mut point = vec![0x04];
    point.extend(x);
    point.extend(y);
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .map_err(|_rejected| "x and y are no point of P-256".to_owned())
}

/// RFC 8037 s2.
fn edwards(key: &OctetKeyPairParameters) -> Result<ParsedPublicKey, String> {
    if key.curve != EllipticCurve::Ed25519 {
        return Err("crv is not Ed25519".to_owned());
    }
    let x = decoded("x", &key.x)?;
    if x.len() != 32 {
        return Err("x must have 32 bytes".to_owned());
    }
    if of_small_order(&x) {
        return Err("x is a point of small order, under which anybody can sign".to_owned());
    }
    ParsedPublicKey::new(&ED25519, x).map_err(|_rejected| "x is no point of Ed25519".to_owned())
}

/// Whether these bytes encode one of the eight points of small order, in any of the ways that
/// decoders take: the y coordinate alone tells, so the sign bit is not looked at.
fn of_small_order(x: &[u8]) -> bool {
    const P: [u8; 32] = {
        let mut p = [0xff; 32];
        p[0] = 0xed;
        p[31] = 0x7f;
        p
    };
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
    ];
    let Ok(mut y) = <[u8; 32]>::try_from(x) else {
        return false;
    };
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    // y is 0 or 1, or p - 1, p, p + 1.
    let starts = |first: u8| y.first() == Some(&first);
    let rest = y.get(1..).unwrap_or_default();
    let tiny = rest.iter().all(|byte| *byte == 0) && (starts(0) || starts(1));
    let near_p = Some(rest) == P.get(1..) && (starts(0xec) || starts(0xed) || starts(0xee));
    tiny || near_p || ORDER_8.contains(&y)
}

/// RFC 7518 s6.3.1. Some issuers put a zero byte before the modulus, against its last sentence
/// there; the number is the same.
fn rsa(key: &RSAKeyParameters) -> Result<Vec<(Algorithm, ParsedPublicKey)>, String> {
    let n = trimmed(decoded("n", &key.n)?);
    let e = trimmed(decoded("e", &key.e)?);
    let bits = n
        .len()
        .saturating_mul(8)
        .saturating_sub(n.first().map_or(0, |top| top.leading_zeros() as usize));
    if !(2048..=8192).contains(&bits) {
        return Err(format!("n has {bits} bits; 2048 to 8192 are taken"));
    }
    let odd = e.last().is_some_and(|last| last & 1 == 1);
    if !odd || e.len() > 4 || e == [1] {
        return Err("e is not an odd number between 3 and 2^32".to_owned());
    }
    let parsed = |parameters: &'static RsaParameters| {
        PublicKeyComponents { n: &n, e: &e }
            .to_parsed_public_key(parameters)
            .map_err(|_rejected| "n and e are no RSA key".to_owned())
    };
    Ok(vec![
        (Algorithm::Ps256, parsed(&RSA_PSS_2048_8192_SHA256)?),
        (Algorithm::Rs256, parsed(&RSA_PKCS1_2048_8192_SHA256)?),
    ])
}

fn decoded(name: &str, text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_rejected| format!("{name} is not base64url"))
}

fn trimmed(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}
