//! Nonces that nobody has to remember: a moment and a MAC over it (RFC 9449 s8).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::pdp::time::UnixTime;

/// Shortest key, bytes: as long as the MAC (RFC 2104 s3).
const KEY_BYTES: usize = 32;
/// Bytes of the MAC that a nonce carries (RFC 2104 s5: at least half of the hash).
const TAG_BYTES: usize = 16;
/// How far the clock of the replica that made a nonce may be ahead of ours, seconds.
const SKEW: u64 = 10;
/// What the MAC is over, so that the key may serve nothing else by mistake.
const PURPOSE: &[u8] = b"portcullis DPoP-Nonce 1";

/// Keys and lifetime of the nonces that we give out (DPOP-26).
///
/// A nonce is the second in which its time slot began and a truncated HMAC-SHA-256 over it. A slot
/// is as long as the lifetime, and its nonce is good in it and in the next one, so that a client
/// has each at least for one lifetime and at most for two. Every replica with the same key takes
/// it: nothing is stored.
///
/// To change the key without a refusal, give the new one to every replica as `previous`, then let
/// the two change places, and two lifetimes later take the old one away.
pub struct NonceKeys {
    current: hmac::Key,
    previous: Option<hmac::Key>,
    lifetime: u64,
}

impl NonceKeys {
    /// Takes the key for new nonces and perhaps another whose nonces are good too.
    ///
    /// # Errors
    /// What is wrong: a key of less than 32 bytes, a lifetime of less than a second.
    pub fn new(
        current: &[u8],
        previous: Option<&[u8]>,
        lifetime: Duration,
    ) -> Result<Self, String> {
        let key = |bytes: &[u8]| {
            if bytes.len() < KEY_BYTES {
                return Err(format!(
                    "a key for nonces has {} bytes; write at least {KEY_BYTES} from a random source",
                    bytes.len()
                ));
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes))
        };
        if lifetime.as_secs() == 0 {
            return Err("nonces must live for a second at least".to_owned());
        }
        Ok(Self {
            current: key(current)?,
            previous: previous.map(key).transpose()?,
            lifetime: lifetime.as_secs(),
        })
    }

    /// The nonce of this moment: 32 characters of base64url (RFC 9449 s8.1).
    #[must_use]
    pub fn fresh(&self, now: UnixTime) -> Box<str> {
        let into_slot = now.as_secs().checked_rem(self.lifetime).unwrap_or(0);
        let begin = now.as_secs().saturating_sub(into_slot).to_be_bytes();
        let mut nonce = Vec::with_capacity(begin.len().saturating_add(TAG_BYTES));
        nonce.extend(begin);
        nonce.extend(tag(&self.current, begin));
        URL_SAFE_NO_PAD.encode(nonce).into_boxed_str()
    }

    /// Whether a nonce was made with one of the keys, and not longer ago than it is good for.
    #[must_use]
    pub fn accepts(&self, nonce: &str, now: UnixTime) -> bool {
        let mut bytes = [0; 8 + TAG_BYTES];
        // A longer text does not fit into the bytes, a shorter one does not fill them.
        let length = URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes);
        let Some((begin, claimed)) = bytes.split_first_chunk::<8>() else {
            return false;
        };
        if length != Ok(bytes.len()) {
            return false;
        }
        let begun = u64::from_be_bytes(*begin);
        let now = now.as_secs();
        let timely = begun <= now.saturating_add(SKEW)
            && now.saturating_sub(begun) < self.lifetime.saturating_mul(2);
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        timely && keys.any(|key| verify_slices_are_equal(&tag(key, *begin), claimed).is_ok())
    }
}

fn tag(key: &hmac::Key, begin: [u8; 8]) -> [u8; TAG_BYTES] {
    let mut mac = hmac::Context::with_key(key);
    mac.update(PURPOSE);
    mac.update(&begin);
    let mut bytes = [0; TAG_BYTES];
    for (to, from) in bytes.iter_mut().zip(mac.sign().as_ref()) {
        *to = *from;
    }
    bytes
}

impl fmt::Debug for NonceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKeys(not shown)")
    }
}

#[cfg(test)]
mod tests;
