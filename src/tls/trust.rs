//! Whose client certificates are good, and which of them are revoked.

/// What to do where revocation cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlRule {
    /// Refuse.
    Refuse,
    /// Take the certificate; `check` and each start say so.
    Accept,
}

/// Client authorities of a listener with their CRLs.
#[derive(Debug)]
pub struct Authorities {}

impl Authorities {
    /// Reads authorities and CRLs, PEM, each text with the name of its file for messages.
    /// No CRL at all means that the operator wrote `revocation = "none"`.
    ///
    /// # Errors
    /// Each problem, with the file it is in: empty or unreadable PEM, a certificate that is no
    /// authority, a CRL that none of the authorities signed.
    pub fn from_pem(
        authorities: &[(String, Vec<u8>)],
        crls: &[(String, Vec<u8>)],
        expired: CrlRule,
        unknown: CrlRule,
    ) -> Result<Self, Vec<String>> {
        let _ = (authorities, crls, expired, unknown);
        Err(vec!["not read".to_owned()])
    }
}
