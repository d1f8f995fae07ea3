use super::*;
use serde_json::json;

fn of(jwk: &Value) -> Option<String> {
    KeyThumbprint::of(jwk.as_object().unwrap()).map(|found| found.to_base64url())
}

fn rsa() -> Value {
    // RFC 7638 s3.1.
    json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX\
              jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqz\
              s8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-\
              G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29"
    })
}

#[test]
fn the_examples_of_the_rfcs() {
    // DPOP-17
    let ec = json!({
        "kty": "EC", "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"
    });
    let ed = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    });
    for (jwk, expected, whence) in [
        (
            rsa(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
            "RFC 7638 s3.1",
        ),
        (
            ed,
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "RFC 8037 A.3",
        ),
        (
            ec,
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
            "RFC 9449 s6.1",
        ),
    ] {
        assert_eq!(of(&jwk).as_deref(), Some(expected), "{whence}");
    }
}

#[test]
fn other_members_count_for_nothing() {
    // DPOP-17
    let mut jwk = rsa();
    let before = of(&jwk);
    for (name, value) in [
        ("kid", json!(7)),
        ("use", json!("sig")),
        ("crv", json!("x")),
        ("z", json!({})),
    ] {
        jwk[name] = value;
    }
    assert_eq!(of(&jwk), before);
    jwk["e"] = json!("Aw");
    assert_ne!(of(&jwk), before);
}

#[test]
fn what_lacks_a_member_or_is_not_base64url_has_none() {
    for (name, value) in [
        ("kty", json!("oct")),
        ("kty", json!("EC")),
        ("kty", json!("OKP")),
        ("kty", json!(null)),
        ("n", json!(null)),
        ("n", json!(7)),
        ("n", json!("a\",\"kty\":\"EC")),
        ("e", json!("AQAB=")),
        ("e", json!("AQ\u{e4}B")),
    ] {
        let mut jwk = rsa();
        jwk[name] = value.clone();
        assert_eq!(of(&jwk), None, "{name}: {value}");
    }
}

#[test]
fn one_text_a_thumbprint() {
    let text = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let found = KeyThumbprint::parse(text).unwrap();
    assert_eq!(found.to_base64url(), text);
    assert_eq!(format!("{found:?}"), text);
    assert!(found.matches(&KeyThumbprint(*found.as_bytes())));
    for at in 0..32 {
        let mut other = *found.as_bytes();
        other[at] ^= 1;
        assert!(!found.matches(&KeyThumbprint(other)), "byte {at}");
    }
    for bad in [
        "",
        &text.replacen('0', "", 1),
        &format!("{text}="),
        &format!("{text}A"),
        &text.replace('I', "J"),
        &"00".repeat(32),
    ] {
        assert!(KeyThumbprint::parse(bad).is_none(), "{bad}");
    }
}
