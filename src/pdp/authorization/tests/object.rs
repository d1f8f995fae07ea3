//! JAR-01 to JAR-08, JAR-11, JAR-13: request objects, wrong in one thing each.

use super::*;
use crate::pdp::authorization::jws::Jws;

use Reason::{
    ParameterInvalid, RequestObjectAlgorithm, RequestObjectMalformed, RequestObjectMismatch,
    RequestObjectSignature, RequestObjectUntimely, RequestUriForbidden,
};

fn judged(header: &Value, claims: &Value) -> Option<Reason> {
    Sent::object(&object(header, claims)).reason()
}

#[test]
fn what_must_pass() {
    // JAR-04, JAR-06, JAR-11
    for (header, claims) in [
        (json!({}), json!({})),
        (json!({"typ": null}), json!({})),
        (json!({"typ": "JWT"}), json!({})),
        (json!({"typ": "application/oauth-authz-req+jwt"}), json!({})),
        (json!({"kid": null}), json!({})),
        (json!({"alg": "PS256", "kid": "rsa"}), json!({})),
        (json!({}), json!({"nbf": NOW + 10, "iat": NOW + 10})),
        (json!({}), json!({"aud": ["https://other.example", ISSUER]})),
        (json!({}), json!({"iat": null})),
        (json!({}), json!({"nbf": NOW - 1799, "exp": NOW + 1})),
        (json!({}), json!({"nbf": NOW, "exp": NOW + 3600})),
        (
            json!({}),
            json!({"claims": {"userinfo": {}}, "authorization_details": [{}]}),
        ),
    ] {
        assert_eq!(judged(&header, &claims), None, "{header} {claims}");
    }
}

#[test]
fn what_must_not() {
    for (what, header, claims, reason) in [
        (
            "JAR-02: a stranger's key",
            json!({"kid": "stranger"}),
            json!({}),
            RequestObjectSignature,
        ),
        (
            "JAR-02: a key of another kind",
            json!({"alg": "PS256"}),
            json!({}),
            RequestObjectSignature,
        ),
        (
            "JAR-03: none",
            json!({"alg": "none"}),
            json!({}),
            RequestObjectAlgorithm,
        ),
        (
            "JAR-03: RS256",
            json!({"alg": "RS256", "kid": "rsa"}),
            json!({}),
            RequestObjectAlgorithm,
        ),
        (
            "JAR-03: HS256",
            json!({"alg": "HS256"}),
            json!({}),
            RequestObjectAlgorithm,
        ),
        (
            "JAR-04: another server",
            json!({}),
            json!({"aud": "https://as.bank.example/"}),
            RequestObjectMismatch,
        ),
        (
            "JAR-04: a list without us",
            json!({}),
            json!({"aud": ["https://other.example"]}),
            RequestObjectMismatch,
        ),
        (
            "JAR-04: no aud",
            json!({}),
            json!({"aud": null}),
            RequestObjectMismatch,
        ),
        (
            "JAR-05: no nbf",
            json!({}),
            json!({"nbf": null}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: nbf too old",
            json!({}),
            json!({"nbf": NOW - 1801, "exp": NOW + 300}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: nbf as old as it may not be any more",
            json!({}),
            json!({"nbf": NOW - 1800, "exp": NOW + 300}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: no exp",
            json!({}),
            json!({"exp": null}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: exp past",
            json!({}),
            json!({"exp": NOW}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: exp too late",
            json!({}),
            json!({"nbf": NOW, "exp": NOW + 3601}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: exp before nbf",
            json!({}),
            json!({"nbf": NOW + 5, "exp": NOW + 4}),
            RequestObjectUntimely,
        ),
        (
            "JAR-05: exp a string",
            json!({}),
            json!({"exp": "1800000300"}),
            RequestObjectMalformed,
        ),
        (
            "JAR-06: nbf 61 s ahead",
            json!({}),
            json!({"nbf": NOW + 61}),
            RequestObjectUntimely,
        ),
        (
            "JAR-06: iat 61 s ahead",
            json!({}),
            json!({"iat": NOW + 61}),
            RequestObjectUntimely,
        ),
        (
            "JAR-07: another client_id",
            json!({}),
            json!({"client_id": "other"}),
            RequestObjectMismatch,
        ),
        (
            "JAR-07: no client_id",
            json!({}),
            json!({"client_id": null}),
            RequestObjectMismatch,
        ),
        (
            "JAR-07: another iss",
            json!({}),
            json!({"iss": "other"}),
            RequestObjectMismatch,
        ),
        (
            "JAR-07: no iss",
            json!({}),
            json!({"iss": null}),
            RequestObjectMismatch,
        ),
        (
            "JAR-08: request_uri inside",
            json!({}),
            json!({"request_uri": "urn:x"}),
            RequestUriForbidden,
        ),
        (
            "JAR-08: request inside",
            json!({}),
            json!({"request": "a.b.c"}),
            RequestUriForbidden,
        ),
        (
            "JAR-11: an access token",
            json!({"typ": "at+jwt"}),
            json!({}),
            RequestObjectMalformed,
        ),
        (
            "crit",
            json!({"crit": ["exp"]}),
            json!({}),
            RequestObjectMalformed,
        ),
        (
            "JAR-13: code id_token",
            json!({}),
            json!({"response_type": "code id_token"}),
            ParameterInvalid,
        ),
        (
            "JAR-13: no response_type",
            json!({}),
            json!({"response_type": null}),
            ParameterInvalid,
        ),
        (
            "JAR-13: no redirect_uri",
            json!({}),
            json!({"redirect_uri": null}),
            ParameterInvalid,
        ),
        (
            "JAR-13: a longer redirect_uri",
            json!({}),
            json!({"redirect_uri": "https://tpp.example/cb/"}),
            ParameterInvalid,
        ),
        (
            "JAR-13: a list of redirect_uri",
            json!({}),
            json!({"redirect_uri": [CALLBACK]}),
            ParameterInvalid,
        ),
        (
            "JAR-13: no PKCE",
            json!({}),
            json!({"code_challenge": null}),
            ParameterInvalid,
        ),
        (
            "JAR-13: plain PKCE",
            json!({}),
            json!({"code_challenge_method": "plain"}),
            ParameterInvalid,
        ),
        (
            "JAR-13: plain by leaving out",
            json!({}),
            json!({"code_challenge_method": null}),
            ParameterInvalid,
        ),
        (
            "JAR-13: no digest",
            json!({}),
            json!({"code_challenge": "abc"}),
            ParameterInvalid,
        ),
    ] {
        assert_eq!(judged(&header, &claims), Some(reason), "{what}");
    }
}

#[test]
fn a_changed_text() {
    // JAR-02
    let good = object(&json!({}), &json!({}));
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let other = with(claims(), &json!({"scope": "payments"}));
    let forged = format!("{head}.{}.{signature}", BASE64.encode(other.to_string()));
    assert_eq!(Sent::object(&forged).reason(), Some(RequestObjectSignature));
    for broken in [
        head.to_owned(),
        format!("{good}."),
        format!("{good}="),
        "a.b.c".to_owned(),
        format!("{head}..{signature}"),
        // An encrypted one that no route lets pass (JAR-16).
        format!("{good}.a.b"),
    ] {
        let reason = Sent::object(&broken).reason();
        assert_eq!(reason, Some(RequestObjectMalformed), "{broken}");
    }
}

#[test]
fn a_registered_algorithm_is_the_only_one() {
    let sent = |alg: &str| Sent {
        entry: entry(&json!({"request_object_signing_alg": alg})),
        ..Sent::object(&object(&json!({}), &json!({})))
    };
    assert_eq!(sent("ES256").reason(), None);
    assert_eq!(sent("PS256").reason(), Some(RequestObjectAlgorithm));
}

/// JAR-03: what a client may sign with is the server's to say, and never RS256.
#[test]
fn the_servers_algorithms_are_the_only_ones() {
    let judged = |alg: &str, kid: &str, allowed: &[Algorithm]| {
        let text = object(&json!({"alg": alg, "kid": kid}), &json!({}));
        let jws = Jws::read(&text, &["oauth-authz-req+jwt"]).unwrap();
        jws.algorithm(allowed, None).is_ok()
    };
    assert!(judged("PS256", "rsa", &[Algorithm::Ps256]));
    assert!(!judged("PS256", "rsa", &[Algorithm::Es256]));
    assert!(!judged("RS256", "rsa", &[Algorithm::Es256]));
    assert!(!judged("RS256", "rsa", &[Algorithm::Rs256]));
}

/// The age is looked at again when all questions have their answers; this one says which it was.
#[test]
fn the_log_says_that_an_object_is_old() {
    for nbf in [NOW - 1801, NOW - 1802] {
        let changes = json!({"nbf": nbf, "exp": NOW + 300});
        let refusal = Sent::object(&object(&json!({}), &changes)).walk();
        let refusal = refusal.unwrap_err();
        let said = refusal.detail().unwrap();
        assert!(said.contains("max_object_age"), "{said}");
    }
}

#[test]
fn the_log_says_whether_a_kid_was_looked_for() {
    let mut set = jwks();
    let again = with(set["keys"][0].clone(), &json!({"kid": "ec-2"}));
    set["keys"].as_array_mut().unwrap().push(again);
    let said = |kid: Value| {
        let sent = Sent {
            entry: entry(&json!({"jwks": set})),
            ..Sent::object(&object(&json!({"kid": kid}), &json!({})))
        };
        let refusal = sent.walk().unwrap_err();
        assert_eq!(refusal.reason(), RequestObjectSignature);
        refusal.detail().unwrap().to_owned()
    };
    let named = said(json!("stranger"));
    assert!(named.contains("has its kid"), "{named}");
    let unnamed = said(Value::Null);
    assert!(unnamed.contains("it has no kid"), "{unnamed}");
}

#[test]
fn fapi1_takes_what_its_second_part_says() {
    let judged = |changes: &Value| {
        let object = object(&json!({}), changes);
        let pairs = [("client_id", "tpp"), ("request", object.as_str())];
        Sent::authorize(Profile::Fapi1Advanced, &pairs).reason()
    };
    let hybrid = json!({"response_type": "code id_token"});
    assert_eq!(judged(&hybrid), None);
    assert_eq!(judged(&json!({"response_mode": "jwt"})), None);
    assert_eq!(
        judged(&json!({})),
        Some(ParameterInvalid),
        "code without JARM"
    );
    let no_pkce = json!({
        "response_type": "code id_token", "code_challenge": null, "code_challenge_method": null,
    });
    assert_eq!(judged(&no_pkce), None);
    // FAPI 1.0 Part 2 s5.2.2-18: a push needs it all the same.
    let pushed = |changes: &Value| {
        let sent = Sent::object(&object(&json!({}), changes));
        Sent {
            profile: Profile::Fapi1Advanced,
            ..sent
        }
        .reason()
    };
    assert_eq!(pushed(&hybrid), None);
    assert_eq!(pushed(&no_pkce), Some(ParameterInvalid));
    let plain = with(hybrid, &json!({"code_challenge_method": "plain"}));
    assert_eq!(judged(&plain), Some(ParameterInvalid));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text: String) {
        drop(super::super::object::RequestObject::read(&text));
    }
}
