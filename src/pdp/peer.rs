//! Who is at the other end of the connection, as far as TLS proved it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::time::UnixTime;

/// SHA-256 over the DER of a leaf certificate: `x5t#S256` of RFC 8705 s3.1.
#[derive(Clone, Copy)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// A thumbprint from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The thumbprint of a certificate.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// Reads unpadded base64url of 32 bytes and nothing else: hex, padding or another length is
    /// no thumbprint (MTLS-03).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Unpadded base64url, as it stands in `cnf`.
    #[must_use]
    pub fn to_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64url())
    }
}

/// A role of a payment service provider (ETSI TS 119 495 s5.1), as its certificate states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Psd2Role {
    /// Account servicing: `PSP_AS`, 0.4.0.19495.1.1.
    AccountServicing,
    /// Payment initiation: `PSP_PI`, 0.4.0.19495.1.2.
    PaymentInitiation,
    /// Account information: `PSP_AI`, 0.4.0.19495.1.3.
    AccountInformation,
    /// Issuing of card-based payment instruments: `PSP_IC`, 0.4.0.19495.1.4.
    CardIssuing,
}

impl Psd2Role {
    /// Every role, in the order of its object identifiers.
    pub const ALL: [Self; 4] = [
        Self::AccountServicing,
        Self::PaymentInitiation,
        Self::AccountInformation,
        Self::CardIssuing,
    ];

    /// The name in the standard and in a policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccountServicing => "PSP_AS",
            Self::PaymentInitiation => "PSP_PI",
            Self::AccountInformation => "PSP_AI",
            Self::CardIssuing => "PSP_IC",
        }
    }
}

/// What a client certificate says, read once a connection.
///
/// Under `client_trust = "any"` only the thumbprint and the dates may be believed; the
/// configuration refuses to use more there.
#[derive(Debug)]
pub struct PeerCertificate {
    /// `x5t#S256`.
    pub thumbprint: Thumbprint,
    /// The same as text, for the log and the upstream.
    pub thumbprint_text: Box<str>,
    /// The leaf, DER.
    pub der: Box<[u8]>,
    /// `notBefore`.
    pub not_before: UnixTime,
    /// `notAfter`.
    pub not_after: UnixTime,
    /// Subject, RFC 4514.
    pub subject: Box<str>,
    /// Issuer, RFC 4514.
    pub issuer: Box<str>,
    /// Serial number, lower-case hexadecimal without leading zeros of the encoding.
    pub serial: Box<str>,
    /// `organizationIdentifier` of the subject (2.5.4.97; ETSI EN 319 412-1 s5.1.4).
    pub organization_id: Option<Box<str>>,
    /// PSD2 roles of the QcStatement 0.4.0.19495.2; empty where it has none.
    pub psd2_roles: Vec<Psd2Role>,
    /// Competent authority of the same statement: its identifier, such as `GB-FCA`.
    pub psd2_authority: Option<Box<str>>,
}

/// What the present generation of the listener's trust says of the connection's certificate.
/// Trust does not outlive its evidence: `tls` judges an open connection anew after each reload
/// of authorities or CRLs, and when a CRL runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It verifies.
    Trusted,
    /// A CRL names it.
    Revoked,
    /// It, or what it was issued under, is outside its dates.
    Expired,
    /// It does not verify.
    Untrusted,
}

/// The other end of a connection. One connection, one peer; never remembered by address, name or
/// session outside the connection's own TLS (MTLS-16).
#[derive(Debug)]
pub struct Peer {
    /// Address of the client's end.
    pub remote: SocketAddr,
    /// Address of our end.
    pub local: SocketAddr,
    /// The listener that the TLS server name chose, by the name it has in the configuration.
    pub listener: Arc<str>,
    /// The certificate that the client proved to hold the key of.
    pub certificate: Option<PeerCertificate>,
}
