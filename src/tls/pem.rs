//! PEM: the only user of `rustls-pemfile`.
//!
//! The crate reads what it knows and steps over the rest in silence, so an empty file, a file of
//! another kind or one block too many would go unnoticed. Here each of these is an error that
//! says what would be right.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls_pemfile::Item;

/// Reads a chain of certificates, in the order of the file. A private key in the same file is
/// stepped over: one file for both is common.
///
/// # Errors
/// What is wrong: no certificate, broken PEM, DER in place of PEM.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = items(pem)?
        .into_iter()
        .filter_map(|item| match item {
            Item::X509Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(nothing(pem, "certificate", "CERTIFICATE"));
    }
    Ok(certificates)
}

/// Reads the certificates of authorities. Unlike [`certificates`] nothing else may stand beside
/// them: a private key here is one that lies in a wrong place, and a CRL would not be applied.
///
/// # Errors
/// What is wrong: as [`certificates`], and blocks of another kind.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let items = items(pem)?;
    let understood = items.len();
    let mut certificates = Vec::with_capacity(understood);
    for item in items {
        match item {
            Item::X509Certificate(certificate) => certificates.push(certificate),
            Item::Pkcs1Key(_) | Item::Pkcs8Key(_) | Item::Sec1Key(_) => {
                return Err(
                    "holds a private key: a file of authorities must hold certificates \
                            alone; take the key out, and keep it secret"
                        .to_owned(),
                );
            }
            Item::Crl(_) => {
                return Err(
                    "holds a CRL, which would not be applied here: CRLs belong into \
                            files of their own (client_crl)"
                        .to_owned(),
                );
            }
            _ => return Err("holds a block that is no certificate".to_owned()),
        }
    }
    if certificates.is_empty() {
        return Err(nothing(pem, "certificate", "CERTIFICATE"));
    }
    all_understood(pem, understood, "CERTIFICATE")?;
    Ok(certificates)
}

/// Reads the one private key of a file: PKCS#8, PKCS#1 or SEC1, not encrypted. Certificates
/// beside it are stepped over.
///
/// # Errors
/// What is wrong: none, several, encrypted, broken PEM.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let mut keys = items(pem)?.into_iter().filter_map(|item| match item {
        Item::Pkcs1Key(key) => Some(PrivateKeyDer::Pkcs1(key)),
        Item::Pkcs8Key(key) => Some(PrivateKeyDer::Pkcs8(key)),
        Item::Sec1Key(key) => Some(PrivateKeyDer::Sec1(key)),
        _ => None,
    });
    let Some(key) = keys.next() else {
        if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED")
        {
            return Err(
                "the private key is encrypted: give it in plain PKCS#8 (openssl pkcs8 \
                        -topk8 -nocrypt) in a file that only this process may read"
                    .to_owned(),
            );
        }
        return Err(nothing(pem, "private key", "PRIVATE KEY"));
    };
    if keys.next().is_some() {
        return Err(
            "holds more than one private key: which one is meant cannot be known".to_owned(),
        );
    }
    Ok(key)
}

/// Reads the CRLs of a file; nothing else may stand beside them.
///
/// # Errors
/// What is wrong: none, blocks of another kind, broken PEM, DER in place of PEM.
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let items = items(pem)?;
    let understood = items.len();
    let mut lists = Vec::with_capacity(understood);
    for item in items {
        match item {
            Item::Crl(list) => lists.push(list),
            _ => return Err("holds a block that is no CRL".to_owned()),
        }
    }
    if lists.is_empty() {
        return Err(nothing(pem, "CRL", "X509 CRL"));
    }
    all_understood(pem, understood, "X509 CRL")?;
    Ok(lists)
}

fn items(pem: &[u8]) -> Result<Vec<Item>, String> {
    let mut reader = pem;
    rustls_pemfile::read_all(&mut reader)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is broken PEM: {error}"))
}

/// Says why nothing of the kind was found.
fn nothing(pem: &[u8], kind: &str, label: &str) -> String {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return "is empty".to_owned();
    }
    if pem.first() == Some(&0x30) && !contains(pem, b"-----BEGIN") {
        return format!(
            "is DER, not PEM: a {kind} must be given as a block '-----BEGIN {label}-----'"
        );
    }
    format!("holds no {kind}: a block '-----BEGIN {label}-----' is missing")
}

/// `rustls-pemfile` steps over blocks whose label it does not know, such as `TRUSTED
/// CERTIFICATE`. Where each block counts, that would be trust or revocation gone in silence.
fn all_understood(pem: &[u8], understood: usize, label: &str) -> Result<(), String> {
    let blocks = pem
        .windows(11)
        .filter(|window| window == b"-----BEGIN ")
        .count();
    if blocks != understood {
        return Err(format!("holds a block of another kind than '{label}'"));
    }
    Ok(())
}

fn contains(pem: &[u8], wanted: &[u8]) -> bool {
    pem.windows(wanted.len()).any(|window| window == wanted)
}
