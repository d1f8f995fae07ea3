//! The thumbprint of a proof's key (RFC 7638): what `cnf.jkt` of a token names (RFC 9449 s6.1).

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::sha256;

/// SHA-256 over the required members of a public key: `jkt` of RFC 9449 s6.1.
#[derive(Clone, Copy)]
pub struct KeyThumbprint([u8; 32]);

impl KeyThumbprint {
    /// Reads unpadded base64url of 32 bytes and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The thumbprint of a JWK (RFC 7638 s3.2, RFC 8037 s2): of the members that its `kty` requires
    /// as they stand there, whatever else stands beside them. `None` where one of them is missing
    /// or has a character that base64url has not, so that nothing in it can end a JSON string.
    pub(super) fn of(jwk: &Map<String, Value>) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let text = |name: &str| {
            let text = jwk.get(name)?.as_str()?;
            text.bytes().all(plain).then_some(text)
        };
        // In the order of their names, without a blank (RFC 7638 s3.3).
        let canonical = match text("kty")? {
            "EC" => format!(
                r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                text("crv")?,
                text("x")?,
                text("y")?
            ),
            "OKP" => format!(
                r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#,
                text("crv")?,
                text("x")?
            ),
            "RSA" => format!(
                r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                text("e")?,
                text("n")?
            ),
            _ => return None,
        };
        Some(Self(sha256(&[canonical.as_bytes()])))
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

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64url())
    }
}

#[cfg(test)]
mod tests;
