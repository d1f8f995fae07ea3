//! The document of registered clients.

use super::*;
use crate::pdp::authorization::client::{Authentication, CLIENTS, REGISTRY_BYTES};

fn parse(entries: &[Value]) -> (Clients, Vec<String>) {
    Clients::parse(
        json!({ "clients": entries }).to_string().as_bytes(),
        &|_| Ok(()),
    )
    .unwrap()
}

#[test]
fn an_entry_that_cannot_be_used_spoils_no_other() {
    for (what, changes) in [
        ("client_id", json!({"client_id": null})),
        ("client_id", json!({"client_id": ""})),
        ("client_id", json!({"client_id": "a\nb"})),
        ("status", json!({"status": null})),
        ("status", json!({"status": true})),
        (
            "token_endpoint_auth_method",
            json!({"token_endpoint_auth_method": "client_secret_basic"}),
        ),
        (
            "token_endpoint_auth_method",
            json!({"token_endpoint_auth_method": "none"}),
        ),
        ("jwks", json!({"jwks": null})),
        ("jwks", json!({"jwks_uri": "https://tpp.example/jwks"})),
        ("no key", json!({"jwks": {"keys": []}})),
        (
            "symmetric",
            json!({"jwks": {"keys": [{"kty": "oct", "k": "AA"}]}}),
        ),
        ("redirect_uris", json!({"redirect_uris": [1]})),
        (
            "certificate",
            json!({"token_endpoint_auth_method": "tls_client_auth"}),
        ),
        (
            "x5c",
            json!({"token_endpoint_auth_method": "self_signed_tls_client_auth"}),
        ),
        (
            "certificate",
            json!({"certificate": {"san_dns": "tpp.example"}}),
        ),
        (
            "certificate.subject",
            json!({"certificate": {"subject": []}}),
        ),
        ("x5t#S256", json!({"certificate": {"x5t#S256": "00"}})),
        ("psd2_role", json!({"certificate": {"psd2_role": "PSP"}})),
        (
            "tls_client_auth_san_dns",
            json!({"tls_client_auth_san_dns": "tpp.example"}),
        ),
        (
            "request_object_signing_alg",
            json!({"request_object_signing_alg": "RS256"}),
        ),
        (
            "request_object_signing_alg",
            json!({"request_object_signing_alg": "none"}),
        ),
    ] {
        let other = entry(&json!({"client_id": "other"}));
        let (clients, warnings) = parse(&[entry(&changes), other]);
        assert_eq!(clients.len(), 1, "{changes}");
        assert!(clients.find(ISSUER, "other").is_some());
        assert!(
            warnings.len() == 1 && warnings[0].contains(what),
            "{warnings:?}"
        );
    }
    let twice = br#"{"clients":[{"client_id":"a","status":"active","status":"revoked"}]}"#;
    let (clients, warnings) = Clients::parse(twice, &|_| Ok(())).unwrap();
    assert!(clients.is_empty() && warnings.len() == 1);
}

#[test]
fn what_is_known_is_read_and_the_rest_is_ignored() {
    let (clients, warnings) = parse(&[entry(&json!({
        "client_name": "TPP", "organisation": "TPP Ltd", "issuer": ISSUER,
        "token_endpoint_auth_method": "tls_client_auth", "jwks": null,
        "tls_client_auth_subject_dn": "CN=tpp",
    }))]);
    assert!(warnings.is_empty(), "{warnings:?}");
    let client = clients.find(ISSUER, "tpp").unwrap();
    assert_eq!(client.organisation.as_deref(), Some("TPP Ltd"));
    assert_eq!(client.authentication, Authentication::Tls);
    let subject: &[Box<str>] = &client.certificate.subject;
    assert_eq!(subject, [Box::from("CN=tpp")]);
    // Names of one issuer are not those of another.
    assert!(clients.find("https://other.example", "tpp").is_none());
}

#[test]
fn self_signed_certificates_are_those_of_the_keys() {
    let der = base64::engine::general_purpose::STANDARD.encode(b"der");
    let mut set = jwks();
    set["keys"][0]["x5c"] = json!([der]);
    let (clients, _) = parse(&[entry(&json!({
        "token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": set,
    }))]);
    let client = clients.find(ISSUER, "tpp").unwrap();
    assert!(client.thumbprints[0].matches(&Thumbprint::of_der(b"der")));
}

#[test]
fn of_two_entries_for_one_client_none_holds() {
    let suspended = json!({"status": "suspended"});
    let (clients, warnings) = parse(&[entry(&json!({})), entry(&suspended)]);
    assert!(clients.is_empty() && warnings.len() == 1, "{warnings:?}");
    // One that is of every issuer is of this one too.
    let (clients, _) = parse(&[entry(&json!({"issuer": ISSUER})), entry(&suspended)]);
    assert!(clients.is_empty());
    let (clients, _) = parse(&[
        entry(&json!({"issuer": ISSUER})),
        entry(&json!({"issuer": "https://other.example"})),
    ]);
    assert_eq!(clients.len(), 2);
}

#[test]
fn what_is_no_registry() {
    for bad in ["", "[]", "{}", r#"{"clients":{}}"#, r#"{"clients":[]"#] {
        assert!(
            Clients::parse(bad.as_bytes(), &|_| Ok(())).is_err(),
            "{bad}"
        );
    }
    let many = vec!["1"; CLIENTS + 1].join(",");
    assert!(Clients::parse(format!("{{\"clients\":[{many}]}}").as_bytes(), &|_| Ok(())).is_err());
    let most = vec!["1"; CLIENTS].join(",");
    assert!(Clients::parse(format!("{{\"clients\":[{most}]}}").as_bytes(), &|_| Ok(())).is_ok());
    assert!(Clients::parse(br#"{"clients":[]}"#, &|_| Ok(())).is_ok());
}

#[test]
fn a_registry_has_an_end() {
    assert_eq!(REGISTRY_BYTES, 16_777_216, "as the manual says");
    let mut document = br#"{"clients":[]}"#.to_vec();
    for (bytes, taken) in [
        (REGISTRY_BYTES, true),
        (REGISTRY_BYTES + 1, false),
        (REGISTRY_BYTES + 2, false),
    ] {
        document.resize(bytes, b' ');
        let read = Clients::parse(&document, &|_| Ok(()));
        assert_eq!(read.is_ok(), taken, "{bytes} bytes");
    }
}

#[test]
fn an_entry_has_so_many_redirect_uris() {
    for (count, taken) in [(100, true), (101, false), (102, false)] {
        let (clients, warnings) = parse(&[entry(&json!({"redirect_uris": vec![CALLBACK; count]}))]);
        assert_eq!(clients.len(), usize::from(taken), "{warnings:?}");
        assert_eq!(clients.is_empty(), !taken);
    }
}

#[test]
fn keys_come_from_known_places_alone() {
    let elsewhere = json!({"jwks": null, "jwks_uri": "https://evil.example/jwks"});
    let document = json!({"clients": [entry(&elsewhere)]}).to_string();
    let (clients, warnings) =
        Clients::parse(document.as_bytes(), &|_| Err("not there".to_owned())).unwrap();
    assert!(
        clients.is_empty() && warnings[0].contains("not there"),
        "{warnings:?}"
    );
}

#[test]
fn thousands_of_clients() {
    let entries: Vec<Value> = (0..5000)
        .map(|n| {
            entry(&json!({
                "client_id": format!("tpp-{n}"), "token_endpoint_auth_method": "tls_client_auth",
                "jwks": null, "certificate": {"organization_id": format!("PSDGB-FCA-{n}")},
            }))
        })
        .collect();
    let (clients, warnings) = parse(&entries);
    assert!(warnings.is_empty());
    assert_eq!(clients.len(), 5000);
    let found = clients.find(ISSUER, "tpp-4999").unwrap();
    assert_eq!(
        *found.certificate.organization_id,
        [Box::from("PSDGB-FCA-4999")]
    );
}
