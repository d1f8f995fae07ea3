//! How strong a certificate is: TLS-07, RFC 9325 s4.5.

use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;

/// Signature algorithms on MD2, MD4, MD5 and SHA-1.
const BROKEN: [&str; 7] = [
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.3",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.3.14.3.2.29",
    "1.2.840.10045.4.1",
    "1.2.840.10040.4.3",
];

/// Judges the key.
///
/// # Errors
/// What is too weak: RSA below 2048 bits, EC below 224, a key of a kind not known.
pub(super) fn key(certificate: &X509Certificate<'_>) -> Result<(), String> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => match bits(rsa.modulus) {
            2048.. => Ok(()),
            bits => Err(format!(
                "has an RSA key of {bits} bits: at least 2048 are needed"
            )),
        },
        // An uncompressed point: one octet of form, then both coordinates.
        Ok(PublicKey::EC(point)) => match point.data().len().saturating_sub(1) / 2 * 8 {
            224.. => Ok(()),
            bits => Err(format!(
                "has an EC key of {bits} bits: at least 224 are needed"
            )),
        },
        // Ed25519 has one size.
        Ok(PublicKey::Unknown(_))
            if certificate.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112" =>
        {
            Ok(())
        }
        Ok(_) => Err("has a key that is neither RSA, EC nor Ed25519".to_owned()),
        Err(error) => Err(format!("has a key that cannot be read: {error}")),
    }
}

/// Judges the signature on the certificate. That on a self-signed one proves nothing to anybody
/// and is not looked at.
///
/// # Errors
/// The signature is on SHA-1 or older.
pub(super) fn signature(certificate: &X509Certificate<'_>) -> Result<(), String> {
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        return Ok(());
    }
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    if BROKEN.contains(&algorithm.as_str()) {
        return Err("is signed with SHA-1 or older: SHA-256 or better is needed".to_owned());
    }
    Ok(())
}

/// Bits of a number in its encoding, which may begin with zeros.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let leading = significant
        .clone()
        .next()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    (significant.count() * 8).saturating_sub(leading)
}
