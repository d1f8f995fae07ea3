//! What a client certificate says, read once a connection.
//!
//! The bytes are a stranger's: under `client_trust = "any"` nobody but the client made them.

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::name;
use crate::pdp::{PeerCertificate, Psd2Role, Thumbprint, UnixTime};

/// `qcStatements` (RFC 3739 s3.2.6).
const QC_STATEMENTS: Oid<'static> = oid!(1.3.6.1.5.5.7.1.3);
/// `etsi-psd2-qcStatement` (ETSI TS 119 495 s5.1).
const PSD2_STATEMENT: [u64; 5] = [0, 4, 0, 19495, 2];
/// `etsi-psd2-roles`, which each role's number follows.
const PSD2_ROLES: [u64; 5] = [0, 4, 0, 19495, 1];

/// Reads a leaf.
///
/// A part that only a policy may ask for (organization, PSD2 statement) and that cannot be read
/// is as if it were not there: a policy that asks for it refuses.
///
/// # Errors
/// Why it is no X.509 certificate.
pub fn read(der: &[u8]) -> Result<PeerCertificate, String> {
    let certificate = match parse_x509_certificate(der) {
        Ok(([], certificate)) => certificate,
        Ok(_) => return Err("bytes follow the certificate".to_owned()),
        Err(error) => return Err(format!("no X.509 certificate: {error}")),
    };
    let thumbprint = Thumbprint::of_der(der);
    let (psd2_roles, psd2_authority) = psd2(&certificate).unwrap_or_default();
    Ok(PeerCertificate {
        thumbprint,
        thumbprint_text: thumbprint.to_base64url().into(),
        der: der.into(),
        not_before: unix(certificate.validity().not_before),
        not_after: unix(certificate.validity().not_after),
        subject: name::rfc4514(certificate.subject()).into(),
        issuer: name::rfc4514(certificate.issuer()).into(),
        serial: serial(certificate.raw_serial()).into(),
        organization_id: name::organization_identifier(certificate.subject()).map(Into::into),
        psd2_roles,
        psd2_authority,
    })
}

/// `notBefore` and `notAfter` of any certificate; `None` where it cannot be read.
pub(super) fn dates(der: &[u8]) -> Option<(UnixTime, UnixTime)> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    Some((unix(validity.not_before), unix(validity.not_after)))
}

/// Moments before 1970 are the epoch: long past either way.
pub(super) fn unix(time: ASN1Time) -> UnixTime {
    UnixTime::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// Hexadecimal of the number, without the zero octets that DER puts before it.
fn serial(encoded: &[u8]) -> String {
    let zeros = encoded.iter().take_while(|byte| **byte == 0).count();
    let number = encoded
        .get(zeros.min(encoded.len().saturating_sub(1))..)
        .unwrap_or_default();
    number.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Roles and competent authority of the one PSD2 statement.
fn psd2(certificate: &X509Certificate<'_>) -> Option<(Vec<Psd2Role>, Option<Box<str>>)> {
    // `Err`: the extension stands there twice, so it says nothing.
    let extension = certificate.get_extension_unique(&QC_STATEMENTS).ok()??;
    let mut statements = yasna::parse_der(extension.value, |reader| {
        reader.collect_sequence_of(|reader| {
            reader.read_sequence(|reader| {
                let statement = reader.next().read_oid()?;
                if *statement.components() != PSD2_STATEMENT {
                    // `statementInfo` of others is optional and of any type.
                    reader.read_optional(|reader| reader.read_der().map(|_| ()))?;
                    return Ok(None);
                }
                reader.next().read_sequence(|reader| {
                    let roles = reader.next().collect_sequence_of(|reader| {
                        reader.read_sequence(|reader| {
                            let role = reader.next().read_oid()?;
                            reader.next().read_utf8string()?;
                            Ok(role.components().clone())
                        })
                    })?;
                    reader.next().read_utf8string()?;
                    let authority = reader.next().read_utf8string()?;
                    Ok(Some((roles, authority)))
                })
            })
        })
    })
    .ok()?
    .into_iter()
    .flatten();
    let (roles, authority) = statements.next()?;
    if statements.next().is_some() {
        return None;
    }
    let mut roles: Vec<_> = roles.iter().filter_map(|role| psd2_role(role)).collect();
    roles.sort_unstable();
    roles.dedup();
    let authority = name::printable(&authority).then(|| authority.into());
    Some((roles, authority))
}

fn psd2_role(components: &[u64]) -> Option<Psd2Role> {
    match components.strip_prefix(&PSD2_ROLES)? {
        [1] => Some(Psd2Role::AccountServicing),
        [2] => Some(Psd2Role::PaymentInitiation),
        [3] => Some(Psd2Role::AccountInformation),
        [4] => Some(Psd2Role::CardIssuing),
        _ => None,
    }
}
