//! What is refused at load.

use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, date_time_ymd};

use super::pki::*;
use crate::clock;
use crate::tls::identity::Identity;
use crate::tls::pem;
use crate::tls::trust::{Authorities, CrlRule};

const RSA_1024: &[u8] = include_bytes!("../testdata/rsa1024.pem");
const SHA1: &[u8] = include_bytes!("../testdata/sha1.pem");

fn leaf() -> Leaf {
    let names = vec![
        HOST.to_owned(),
        "*.wild.example".to_owned(),
        "192.0.2.7".to_owned(),
    ];
    Ca::new("servers").issue(&CertificateParams::new(names).unwrap())
}

fn join(parts: &[&str]) -> Vec<u8> {
    parts.concat().into_bytes()
}

#[test]
fn an_identity_is_read_with_its_names() {
    let leaf = leaf();
    let identity = leaf.identity();
    for good in [
        HOST,
        "API.Bank.Example",
        "api.bank.example.",
        "a.wild.example",
        "192.0.2.7",
    ] {
        assert!(identity.covers(good), "{good}");
    }
    for bad in ["bank.example", "a.b.wild.example", "192.0.2.8", "", "a b"] {
        assert!(!identity.covers(bad), "{bad}");
    }
    assert!(!identity.is_rsa());
    let remaining = identity.remaining(clock::now());
    assert!(!remaining.is_zero());
    assert!(!format!("{identity:?}").contains("key"));
    assert!(identity.same_as(&leaf.identity()));
}

#[test]
fn an_identity_that_ran_out_has_nothing_left() {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.not_after = date_time_ymd(2020, 1, 1);
    assert!(
        Ca::new("ca")
            .issue(&params)
            .identity()
            .remaining(clock::now())
            .is_zero()
    );
}

// TLS-07
#[test]
fn a_weak_or_wrong_identity_is_refused() {
    let leaf = leaf();
    let (chain, key) = (leaf.chain_pem(), leaf.key.serialize_pem());
    let other = KeyPair::generate().unwrap().serialize_pem();
    let backwards = format!("{}{chain}", Ca::new("x").issuer.pem());
    let cases: Vec<(&str, Vec<u8>, Vec<u8>, &str)> =
        vec![
        ("RSA 1024", RSA_1024.to_vec(), join(&[&key]), "1024 bits"),
        ("SHA-1", SHA1.to_vec(), join(&[&key]), "SHA-1"),
        ("other key", join(&[&chain]), join(&[&other]), "not the key of certificate"),
        ("two keys", join(&[&chain]), join(&[&key, &other]), "more than one private key"),
        ("no key", join(&[&chain]), join(&[&chain]), "holds no private key"),
        ("no certificate", join(&[&key]), join(&[&key]), "holds no certificate"),
        ("empty", vec![], join(&[&key]), "is empty"),
        ("DER", leaf.chain[0].to_vec(), join(&[&key]), "is DER, not PEM"),
        ("junk", b"junk".to_vec(), join(&[&key]), "holds no certificate"),
        ("order", join(&[&backwards]), join(&[&key]), "did not issue the one before it"),
        ("cut", chain.as_bytes()[..chain.len() - 40].to_vec(), join(&[&key]), "broken PEM"),
        (
            "encrypted",
            join(&[&chain]),
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
                .to_vec(),
            "is encrypted",
        ),
    ];
    for (case, chain, key, wanted) in cases {
        let problem = Identity::from_pem(&chain, &key).unwrap_err();
        assert!(problem.contains(wanted), "{case}: {problem}");
    }
    // One file for both.
    let both = join(&[&key, &chain]);
    Identity::from_pem(&both, &both).unwrap();
}

fn load(
    authorities: &[(String, Vec<u8>)],
    crls: &[(String, Vec<u8>)],
) -> Result<Authorities, Vec<String>> {
    Authorities::from_pem(authorities, crls, CrlRule::Refuse, CrlRule::Refuse)
}

fn file(text: impl Into<Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    vec![("some.pem".to_owned(), text.into())]
}

#[test]
fn what_is_no_authority_is_refused_with_its_file() {
    let ca = Ca::new("clients");
    let leaf = ca.issue(&client_params(1));
    let key = leaf.key.serialize_pem();
    let mut params = ca_params("no signer");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let no_signer = Ca::from_params(params).issuer.pem();
    let crl = String::from_utf8(ca.crl(&[], true).1).unwrap();
    let unknown = "-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n";
    let pem = ca.issuer.pem();
    for (case, text, wanted) in [
        ("leaf", leaf.chain_pem(), "is no authority"),
        ("key", format!("{pem}{key}"), "holds a private key"),
        ("CRL", format!("{pem}{crl}"), "holds a CRL"),
        (
            "unknown block",
            format!("{pem}{unknown}"),
            "block of another kind",
        ),
        ("usage", no_signer, "keyCertSign"),
        (
            "RSA 1024",
            String::from_utf8(RSA_1024.to_vec()).unwrap(),
            "1024 bits",
        ),
        ("empty", String::new(), "is empty"),
    ] {
        let problems = load(&file(text), &[]).unwrap_err();
        assert!(
            problems[0].starts_with("some.pem: "),
            "{case}: {problems:?}"
        );
        assert!(problems[0].contains(wanted), "{case}: {problems:?}");
    }
    assert!(load(&[], &[]).unwrap_err()[0].contains("no authority"));
}

// TLS-17
#[test]
fn a_crl_must_be_signed_by_an_authority() {
    let ca = Ca::new("clients");
    // The same name, another key: the signature decides, not the name.
    let impostor = Ca::new("clients");
    let stranger = Ca::new("stranger");
    let good = String::from_utf8(ca.crl(&[1], true).1).unwrap();
    load(&[ca.file()], &file(good.clone())).unwrap();
    for (case, text, wanted) in [
        ("stranger", stranger.crl(&[], true).1, "signed by none"),
        ("impostor", impostor.crl(&[], true).1, "signed by none"),
        ("certificate", ca.issuer.pem().into_bytes(), "no CRL"),
        (
            "both",
            format!("{good}{}", ca.issuer.pem()).into_bytes(),
            "no CRL",
        ),
        ("empty", vec![], "is empty"),
        (
            "cut",
            good.as_bytes()[..good.len() - 30].to_vec(),
            "broken PEM",
        ),
    ] {
        let problems = load(&[ca.file()], &file(text)).unwrap_err();
        assert!(problems[0].contains(wanted), "{case}: {problems:?}");
    }
}

#[test]
fn an_operator_is_told_what_is_stale_or_missing() {
    let (ca, other) = (Ca::new("clients"), Ca::new("others"));
    let both = [ca.file(), other.file()];
    let stale = load(&both, &[ca.crl(&[], false)]).unwrap();
    let notes = stale.notes(clock::now());
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("ran out") && notes[0].starts_with("crl.pem"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("no CRL of authority CN=others"),
        "{notes:?}"
    );
    let wanted = date_time_ymd(2025, 1, 1).unix_timestamp().unsigned_abs();
    assert_eq!(
        stale.valid_until().map(|moment| moment.as_secs()),
        Some(wanted)
    );
    let fresh = load(&both, &[ca.crl(&[], true), other.crl(&[], true)]).unwrap();
    assert!(fresh.notes(clock::now()).is_empty());
    assert!(load(&both, &[]).unwrap().notes(clock::now()).is_empty());
}

#[test]
fn trust_is_the_same_only_where_it_judges_the_same() {
    let ca = Ca::new("clients");
    let crl = ca.crl(&[], true);
    let make = |crls: &[(String, Vec<u8>)], expired, unknown| {
        Authorities::from_pem(&[ca.file()], crls, expired, unknown).unwrap()
    };
    use CrlRule::{Accept, Refuse};
    let first = make(std::slice::from_ref(&crl), Refuse, Refuse);
    assert!(first.same_as(&make(std::slice::from_ref(&crl), Refuse, Refuse)));
    assert!(!first.same_as(&make(std::slice::from_ref(&crl), Accept, Refuse)));
    assert!(!first.same_as(&make(std::slice::from_ref(&crl), Refuse, Accept)));
    assert!(!first.same_as(&make(&[], Refuse, Refuse)));
    assert!(!first.same_as(&make(&[ca.crl(&[9], true)], Refuse, Refuse)));
}

proptest::proptest! {
    #[test]
    fn hostile_pem_never_panics(text in ".{0,300}", der in proptest::prelude::any::<Vec<u8>>()) {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
        for label in ["CERTIFICATE", "X509 CRL", "PRIVATE KEY"] {
            let block = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n{text}");
            for bytes in [text.as_bytes(), block.as_bytes()] {
                drop(Identity::from_pem(bytes, bytes));
                drop(load(&file(bytes), &file(bytes)));
                drop((pem::certificates(bytes), pem::private_key(bytes)));
            }
        }
    }
}
