//! What is read from a client certificate.

use proptest::prelude::*;
use rcgen::{CustomExtension, DistinguishedName, DnType, DnValue};
use yasna::models::ObjectIdentifier;

use super::pki::*;
use crate::pdp::Psd2Role;
use crate::tls::certificate::read;

fn oid(components: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(components)
}

/// An ETSI statement beside the PSD2 one, as QWACs have it.
fn qc_statements(roles: &[u64], authority: &str, times: usize) -> CustomExtension {
    let content = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&oid(&[0, 4, 0, 1862, 1, 1]));
            });
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&oid(&[0, 4, 0, 1862, 1, 6]));
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&oid(&[0, 4, 0, 1862, 1, 6, 3]));
                });
            });
            for _ in 0..times {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&oid(&[0, 4, 0, 19495, 2]));
                    writer.next().write_sequence(|writer| {
                        writer.next().write_sequence(|writer| {
                            for role in roles {
                                writer.next().write_sequence(|writer| {
                                    writer.next().write_oid(&oid(&[0, 4, 0, 19495, 1, *role]));
                                    writer.next().write_utf8_string("PSP_XX");
                                });
                            }
                        });
                        writer
                            .next()
                            .write_utf8_string("Financial Conduct Authority");
                        writer.next().write_utf8_string(authority);
                    });
                });
            }
        });
    });
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 3], content)
}

fn qwac() -> rcgen::CertificateParams {
    let mut params = client_params(0x1_0000);
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "GB");
    name.push(DnType::OrganizationName, "Fintech, \"Smith\" & Sons");
    name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), "PSDGB-FCA-123456");
    name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "x");
    name.push(DnType::CommonName, " #tpp\n");
    params.distinguished_name = name;
    params.custom_extensions = vec![qc_statements(&[3, 2, 3, 9], "GB-FCA", 1)];
    params
}

fn der(params: &rcgen::CertificateParams) -> Vec<u8> {
    Ca::new("TSP").issue(params).chain[0].to_vec()
}

#[test]
fn a_qwac_says_who_it_is_and_what_it_may() {
    let certificate = read(&der(&qwac())).unwrap();
    assert_eq!(
        &*certificate.subject,
        "CN=\\ #tpp\\0a,1.2.3.4=#0c0178,organizationIdentifier=PSDGB-FCA-123456,\
         O=Fintech\\, \\\"Smith\\\" & Sons,C=GB"
    );
    assert_eq!(&*certificate.issuer, "CN=TSP");
    assert_eq!(&*certificate.serial, "010000");
    assert_eq!(
        certificate.organization_id.as_deref(),
        Some("PSDGB-FCA-123456")
    );
    assert_eq!(
        certificate.psd2_roles,
        [Psd2Role::PaymentInitiation, Psd2Role::AccountInformation]
    );
    assert_eq!(certificate.psd2_authority.as_deref(), Some("GB-FCA"));
    assert_eq!(certificate.not_before.as_secs(), 1_577_836_800);
}

#[test]
fn a_plain_certificate_has_neither_roles_nor_organization() {
    let certificate = read(&der(&client_params(1))).unwrap();
    assert!(certificate.psd2_roles.is_empty());
    assert_eq!(certificate.psd2_authority, None);
    assert_eq!(certificate.organization_id, None);
}

#[test]
fn what_stands_there_twice_says_nothing() {
    let mut params = qwac();
    params.custom_extensions = vec![qc_statements(&[2], "GB-FCA", 2)];
    assert!(read(&der(&params)).unwrap().psd2_roles.is_empty());
    params.custom_extensions = vec![
        qc_statements(&[2], "GB-FCA", 1),
        qc_statements(&[3], "GB-FCA", 1),
    ];
    // Either no roles, or no certificate at all.
    assert!(read(&der(&params)).map_or(true, |read| read.psd2_roles.is_empty()));
}

#[test]
fn control_characters_make_no_fact() {
    let mut params = qwac();
    params.custom_extensions = vec![qc_statements(&[2], "GB\r\nX: y", 1)];
    params.distinguished_name.push(
        DnType::CustomDnType(vec![2, 5, 4, 97]),
        DnValue::Utf8String("PSD\r\nX: y".to_owned()),
    );
    let certificate = read(&der(&params)).unwrap();
    assert_eq!(certificate.psd2_authority, None);
    assert_eq!(certificate.organization_id, None);
    assert!(!certificate.subject.chars().any(char::is_control));
}

#[test]
fn what_is_no_certificate_is_an_error() {
    let mut long = der(&qwac());
    long.push(0);
    for bytes in [&[][..], b"\x30\x82", b"nonsense", &long] {
        assert!(read(bytes).is_err());
    }
}

fn shared_qwac() -> &'static [u8] {
    static QWAC: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    QWAC.get_or_init(|| der(&qwac()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn hostile_der_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cutting in prop::bool::weighted(0.2),
    ) {
        let mut der = shared_qwac().to_vec();
        for (at, byte) in edits {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if cutting {
            der.truncate(cut.index(der.len()));
        }
        if let Ok(certificate) = read(&der) {
            prop_assert!(!certificate.subject.chars().any(char::is_control));
            prop_assert!(!certificate.issuer.chars().any(char::is_control));
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
    }
}
