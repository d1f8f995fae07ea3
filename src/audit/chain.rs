//! The chain: what ties each line to the one before.
//!
//! A line is a JSON object whose last member is `hmac`. Its value is HMAC-SHA-256 (RFC 2104), under
//! a key derived from the operator's, over the HMAC of the line before and over the line's own
//! bytes up to `,"hmac"`. The first line of a chain has 32 zero bytes before it.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a key, at least: as many as the digest has (RFC 2104 s3).
pub const KEY_BYTES: usize = 32;

/// Between the body of a line and its HMAC.
const BEFORE: &[u8] = b",\"hmac\":\"";
/// After it.
const AFTER: &[u8] = b"\"}";
/// Letters of an HMAC in base64url.
const LETTERS: usize = 43;

/// The HMAC of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mac([u8; 32]);

impl Mac {
    /// What stands before the first line of a chain.
    pub const NONE: Self = Self([0; 32]);

    /// Reads unpadded base64url of 32 bytes and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Unpadded base64url, as it stands in a line.
    #[must_use]
    pub fn to_base64url(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64url())
    }
}

/// The operator's key, as the keys that are derived from it: one for the chain, one for digests,
/// so that neither use can serve the other.
#[derive(Clone)]
pub struct Key {
    chain: hmac::Key,
    digests: hmac::Key,
    fingerprint: Box<str>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.fingerprint).finish()
    }
}

impl Key {
    /// A key from the content of its file; a line break at the end is none of it.
    ///
    /// # Errors
    /// When it is shorter than [`KEY_BYTES`].
    pub fn new(content: &[u8]) -> Result<Self, String> {
        let end = content
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        let content = end.map_or(&[][..], |end| content.get(..=end).unwrap_or_default());
        if content.len() < KEY_BYTES {
            return Err(format!(
                "the key has {} bytes of at least {KEY_BYTES}",
                content.len()
            ));
        }
        let root = hmac::Key::new(hmac::HMAC_SHA256, content);
        let derived = |label: &str| hmac::sign(&root, label.as_bytes());
        let key = |label: &str| hmac::Key::new(hmac::HMAC_SHA256, derived(label).as_ref());
        let name = derived("portcullis audit v1 name");
        let name = name.as_ref().get(..9).unwrap_or_default();
        Ok(Self {
            chain: key("portcullis audit v1 chain"),
            digests: key("portcullis audit v1 digests"),
            fingerprint: URL_SAFE_NO_PAD.encode(name).into(),
        })
    }

    /// Names the key without giving anything of it away: stands in signed lines.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The HMAC of a line's body after the line of this HMAC.
    #[must_use]
    pub fn mac(&self, before: &Mac, body: &[u8]) -> Mac {
        let mut context = hmac::Context::with_key(&self.chain);
        context.update(&before.0);
        context.update(body);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        Mac(bytes)
    }

    /// A digest that stands in place of a value: the same value has the same one under this key,
    /// and without the key nobody can try values through. `kind` keeps apart what is of different
    /// kinds.
    #[must_use]
    pub fn digest(&self, kind: &str, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.digests);
        context.update(kind.as_bytes());
        for part in parts {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            context.update(&length.to_be_bytes());
            context.update(part);
        }
        // Half of it: enough that two values never meet.
        let tag = context.sign();
        let mut text = String::with_capacity(27);
        text.push_str("hmac:");
        URL_SAFE_NO_PAD.encode_string(tag.as_ref().get(..16).unwrap_or_default(), &mut text);
        text
    }
}

/// Adds the HMAC and the line break to a body, which is an object without its closing brace.
pub(super) fn seal(key: &Key, before: &Mac, body: &[u8], out: &mut Vec<u8>) -> Mac {
    let mac = key.mac(before, body);
    out.extend_from_slice(body);
    out.extend_from_slice(BEFORE);
    out.extend_from_slice(mac.to_base64url().as_bytes());
    out.extend_from_slice(AFTER);
    out.push(b'\n');
    mac
}

/// Takes a line, without its line break, apart: body and HMAC. `None`: it is none of ours.
#[must_use]
pub fn open(line: &[u8]) -> Option<(&[u8], Mac)> {
    let line = line.strip_suffix(AFTER)?;
    let (rest, letters) = line.split_at_checked(line.len().checked_sub(LETTERS)?)?;
    let body = rest.strip_suffix(BEFORE)?;
    let mac = Mac::parse(std::str::from_utf8(letters).ok()?)?;
    body.starts_with(b"{").then_some((body, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn a_sealed_line_opens_and_is_tied_to_the_one_before() {
        let key = Key::new(KEY).unwrap();
        let mut out = Vec::new();
        let mac = seal(
            &key,
            &Mac::NONE,
            br##"{"seq":1,"x":"\",\"hmac\":\"""##,
            &mut out,
        );
        assert_eq!(out.pop(), Some(b'\n'));
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["hmac"], mac.to_base64url());
        let (body, found) = open(&out).unwrap();
        assert_eq!(found, mac);
        assert!(key.mac(&Mac::NONE, body).matches(&mac));
        assert!(!key.mac(&mac, body).matches(&mac), "the line before counts");
        let other = Key::new(b"another key of thirty-two bytes!!").unwrap();
        assert!(!other.mac(&Mac::NONE, body).matches(&mac));
        assert_ne!(other.fingerprint(), key.fingerprint());
        for cut in 0..out.len() {
            assert!(open(&out[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn a_key_is_what_its_file_holds_without_the_line_break() {
        let with = [KEY, b"\r\n"].concat();
        assert_eq!(
            Key::new(&with).unwrap().fingerprint(),
            Key::new(KEY).unwrap().fingerprint()
        );
        for short in [&KEY[..31], b"", b"\n", &[&KEY[..31], b"\n"].concat()] {
            assert!(Key::new(short).unwrap_err().contains("at least 32"));
        }
    }

    #[test]
    fn digests_of_different_kinds_and_places_differ() {
        let key = Key::new(KEY).unwrap();
        let all = [
            key.digest("subject", &[b"ab", b"c"]),
            key.digest("subject", &[b"a", b"bc"]),
            key.digest("token", &[b"ab", b"c"]),
        ];
        assert_eq!(all[0], key.digest("subject", &[b"ab", b"c"]));
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }
}
