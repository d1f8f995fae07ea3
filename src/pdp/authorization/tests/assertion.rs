//! JAR-15 and mutual TLS: who the client is, wrong in one thing each.

use super::*;

use Reason::{
    ClientAssertionInvalid, ClientAssertionReplayed, ClientAuthenticationMissing,
    ClientCertificateMismatch,
};

#[test]
fn assertions() {
    let judged =
        |header: &Value, claims: &Value| Sent::assertion(&assertion(header, claims)).reason();
    for (header, claims) in [
        (json!({}), json!({})),
        (json!({"typ": "JWT"}), json!({})),
        (json!({"typ": "client-authentication+jwt"}), json!({})),
        (json!({"alg": "ES256", "kid": "ec"}), json!({})),
        (json!({}), json!({"nbf": NOW + 10, "iat": NOW + 10})),
        (json!({}), json!({"exp": NOW + 3600})),
        (json!({}), json!({"jti": "j".repeat(256)})),
    ] {
        assert_eq!(judged(&header, &claims), None, "{header} {claims}");
    }
    for (what, header, claims) in [
        ("another iss", json!({}), json!({"iss": "other"})),
        ("no iss", json!({}), json!({"iss": null})),
        ("no sub", json!({}), json!({"sub": null})),
        (
            "another aud",
            json!({}),
            json!({"aud": "https://as.bank.example/token"}),
        ),
        ("a list as aud", json!({}), json!({"aud": [ISSUER]})),
        ("no aud", json!({}), json!({"aud": null})),
        ("no exp", json!({}), json!({"exp": null})),
        ("exp past", json!({}), json!({"exp": NOW})),
        ("exp far ahead", json!({}), json!({"exp": NOW + 3601})),
        ("iat ahead", json!({}), json!({"iat": NOW + 61})),
        ("no jti", json!({}), json!({"jti": null})),
        ("an empty jti", json!({}), json!({"jti": ""})),
        ("a long jti", json!({}), json!({"jti": "j".repeat(257)})),
        ("RS256", json!({"alg": "RS256"}), json!({})),
        ("none", json!({"alg": "none"}), json!({})),
        (
            "a stranger's key",
            json!({"alg": "ES256", "kid": "stranger"}),
            json!({}),
        ),
        (
            "a request object",
            json!({"typ": "oauth-authz-req+jwt"}),
            json!({}),
        ),
        (
            "a request object without typ",
            json!({}),
            json!({"response_type": "code"}),
        ),
    ] {
        assert_eq!(
            judged(&header, &claims),
            Some(ClientAssertionInvalid),
            "{what}"
        );
    }
}

#[test]
fn an_assertion_is_used_once_and_only_if_all_else_is_good() {
    let good = assertion(&json!({}), &json!({}));
    let sent = Sent {
        used: true,
        ..Sent::assertion(&good)
    };
    assert_eq!(sent.reason(), Some(ClientAssertionReplayed));
    let asked = Sent::assertion(&good).walk().unwrap();
    assert_eq!(asked, ["body", "client", "first use"]);
    // Asked of what would pass otherwise: a bad object uses nothing up.
    let sent = Sent {
        used: true,
        ..Sent::object(&object(&json!({}), &json!({"exp": NOW})))
    };
    assert_eq!(sent.reason(), Some(Reason::RequestObjectUntimely));
}

#[test]
fn what_an_assertion_is_remembered_under_is_its_own() {
    use crate::pdp::dpop::ReplayKey;
    let key = ReplayKey::of_assertion;
    assert_eq!(key("a", "b", "c"), key("a", "b", "c"));
    assert_ne!(key("a", "b", "c"), key("a", "bc", ""));
    assert_ne!(key("a", "b", "c"), key("b", "a", "c"));
    // What a store keeps is the key, whole.
    assert_eq!(key("a", "b", "c").as_bytes(), key("a", "b", "c").as_bytes());
    assert_ne!(key("a", "b", "c").as_bytes(), key("a", "b", "d").as_bytes());
}

#[test]
fn one_way_and_the_registered_one() {
    // RFC 6749 s2.3
    let good = assertion(&json!({}), &json!({}));
    let both = [
        ("client_assertion_type", KIND),
        ("client_assertion", good.as_str()),
    ];
    for (what, pairs) in [
        ("nobody", vec![]),
        ("an id alone", vec![("client_id", "tpp")]),
        (
            "an assertion without type",
            vec![("client_assertion", good.as_str())],
        ),
        (
            "a type without assertion",
            vec![("client_assertion_type", KIND)],
        ),
        (
            "another type",
            vec![
                ("client_assertion_type", "saml"),
                ("client_assertion", &good),
            ],
        ),
        (
            "a secret too",
            [&both[..], &[("client_secret", "s")]].concat(),
        ),
        (
            "an empty secret too",
            [&both[..], &[("client_secret", "")]].concat(),
        ),
    ] {
        assert_eq!(
            Sent::token(&pairs).reason(),
            Some(ClientAuthenticationMissing),
            "{what}"
        );
    }
    let mut sent = Sent::token(&both);
    sent.headers
        .push(("authorization", "Basic dHBwOnNlY3JldA=="));
    assert_eq!(sent.reason(), Some(ClientAuthenticationMissing));
    let other = [&both[..], &[("client_id", "other")]].concat();
    assert_eq!(Sent::token(&other).reason(), Some(Reason::ClientUnknown));
    let named = [&both[..], &[("client_id", "tpp")]].concat();
    assert_eq!(Sent::token(&named).reason(), None);
    let tls = Sent {
        entry: entry(
            &json!({"token_endpoint_auth_method": "tls_client_auth", "certificate": {"subject": "CN=tpp"}}),
        ),
        certificate: Some([1; 32]),
        ..Sent::token(&both)
    };
    assert_eq!(tls.reason(), Some(ClientAuthenticationMissing));
}

#[test]
fn mutual_tls() {
    // RFC 8705 s2
    let thumbprint = Thumbprint::from_bytes([1; 32]).to_base64url();
    let judged = |method: &str, rules: Value, certificate: Option<[u8; 32]>, vouched: bool| {
        let sent = Sent {
            entry: entry(&json!({"token_endpoint_auth_method": method, "certificate": rules})),
            certificate,
            vouched,
            ..Sent::token(&[("client_id", "tpp")])
        };
        sent.reason()
    };
    let tls = |rules| judged("tls_client_auth", rules, Some([1; 32]), true);
    for good in [
        json!({"subject": "CN=tpp"}),
        json!({"subject": ["CN=old", "CN=tpp"], "issuer": "CN=ca"}),
        json!({"organization_id": "PSDGB-FCA-1"}),
        json!({"x5t#S256": thumbprint}),
    ] {
        assert_eq!(tls(good.clone()), None, "{good}");
    }
    for bad in [
        json!({"subject": "CN=other"}),
        json!({"subject": "CN=tpp", "issuer": "CN=other"}),
        json!({"organization_id": "PSDGB-FCA-2"}),
        json!({"psd2_role": "PSP_PI"}),
        json!({"x5t#S256": Thumbprint::from_bytes([2; 32]).to_base64url()}),
    ] {
        assert_eq!(tls(bad.clone()), Some(ClientCertificateMismatch), "{bad}");
    }
    let subject = json!({"subject": "CN=tpp"});
    let none = judged("tls_client_auth", subject.clone(), None, true);
    assert_eq!(none, Some(ClientCertificateMismatch));
    // What nobody vouches for is no name; the thumbprint is a fact all the same.
    let unvouched = judged("tls_client_auth", subject, Some([1; 32]), false);
    assert_eq!(unvouched, Some(ClientCertificateMismatch));
    let own = json!({"x5t#S256": thumbprint});
    assert_eq!(
        judged("self_signed_tls_client_auth", own, Some([1; 32]), false),
        None
    );
}

#[test]
fn a_certificate_that_the_entry_names_is_wanted_beside_an_assertion() {
    let sent = |certificate| Sent {
        entry: entry(&json!({"certificate": {"subject": "CN=tpp"}})),
        certificate,
        ..Sent::assertion(&assertion(&json!({}), &json!({})))
    };
    assert_eq!(sent(Some([1; 32])).reason(), None);
    assert_eq!(sent(None).reason(), Some(ClientCertificateMismatch));
}
