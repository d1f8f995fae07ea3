//! Who signed a certificate or a CRL: asked at load, with the algorithms of the TLS provider, so
//! the answer is the one that a handshake would give.

use rustls::crypto::aws_lc_rs;
use yasna::{ASN1Result, BERReader};

/// The three parts of `Certificate` and `CertificateList` (RFC 5280 s4.1 and s5.1).
pub(super) struct Signed {
    /// What is signed, DER.
    content: Vec<u8>,
    /// `AlgorithmIdentifier`, DER.
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    /// Takes a certificate or CRL apart; `None` if it is neither.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        yasna::parse_der(der, |reader| {
            reader.read_sequence(|reader| {
                Ok(Self {
                    content: reader.next().read_der()?,
                    algorithm: reader.next().read_der()?,
                    signature: bits(reader.next())?,
                })
            })
        })
        .ok()
    }

    /// Whether the key of this `SubjectPublicKeyInfo` made the signature.
    pub(super) fn is_by(&self, public_key_info: &[u8]) -> bool {
        let Ok((key_algorithm, key)) = yasna::parse_der(public_key_info, |reader| {
            reader.read_sequence(|reader| Ok((reader.next().read_der()?, bits(reader.next())?)))
        }) else {
            return false;
        };
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all
            .iter()
            .any(|known| {
                is_sequence_of(&self.algorithm, known.signature_alg_id().as_ref())
                    && is_sequence_of(&key_algorithm, known.public_key_alg_id().as_ref())
                    && known
                        .verify_signature(&key, &self.content, &self.signature)
                        .is_ok()
            })
    }
}

fn bits(reader: BERReader<'_, '_>) -> ASN1Result<Vec<u8>> {
    Ok(reader.read_bitvec_bytes()?.0)
}

/// The provider names algorithms by what stands inside their SEQUENCE; all are short.
fn is_sequence_of(der: &[u8], inside: &[u8]) -> bool {
    match der {
        [0x30, length, rest @ ..] => usize::from(*length) == rest.len() && rest == inside,
        _ => false,
    }
}
