//! The id under which client, gate and API speak of one request.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// `x-fapi-interaction-id`.
pub const INTERACTION_ID: HeaderName = HeaderName::from_static("x-fapi-interaction-id");

/// Value of `x-fapi-interaction-id`: a UUID (FAPI 1.0 Part 1 s6.2.1-11), as the client sent it or
/// as we made it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InteractionId([u8; 36]);

impl InteractionId {
    /// Reads the text form of RFC 9562 s4; anything else is none. Letter case is kept, since the
    /// answer must carry what the client sent.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text: [u8; 36] = value.try_into().ok()?;
        // Without branches, so that the compiler looks at many bytes at once: it is read more than
        // once a request.
        let other = |byte: u8| {
            let letter = (byte | 0x20).wrapping_sub(b'a') < 6;
            let digit = byte.wrapping_sub(b'0') < 10;
            u8::from(!(letter | digit))
        };
        let others = text
            .iter()
            .fold(0_u8, |n, byte| n.wrapping_add(other(*byte)));
        let dashes = [8, 13, 18, 23]
            .iter()
            .all(|at| text.get(*at) == Some(&b'-'));
        (others == 4 && dashes).then_some(Self(text))
    }

    /// A version 4 UUID of these random bytes (RFC 9562 s5.4).
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        /// Where the two digits of each byte stand.
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        let mut text = [b'-'; 36];
        for (at, byte) in PLACES.into_iter().zip(random) {
            let byte = match at {
                14 => byte & 0x0f | 0x40,
                19 => byte & 0x3f | 0x80,
                _ => byte,
            };
            if let Some(place) = text.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = [digit(byte >> 4), digit(byte & 0x0f)];
            }
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as bytes: hexadecimal digits and dashes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 36] {
        &self.0
    }

    /// The text as a header value.
    #[must_use]
    pub fn to_header(&self) -> http::HeaderValue {
        http::HeaderValue::from_bytes(&self.0)
            .unwrap_or_else(|_| http::HeaderValue::from_static(""))
    }
}

impl fmt::Debug for InteractionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id that the client sent, if it sent exactly one and it is a UUID. The answer to a request
/// that is refused before its head is canonical needs it too.
#[must_use]
pub fn interaction_id(headers: &HeaderMap) -> Option<InteractionId> {
    // One look at all names costs less than the digest of a name that no table has.
    let mut values = headers
        .iter()
        .filter_map(|(name, value)| (name == INTERACTION_ID).then_some(value));
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    InteractionId::parse(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9562 s5.4: all random bits but those of version and variant.
    #[test]
    fn random_bytes_stand_in_the_id() {
        let bytes = |hex: u128| hex.to_be_bytes();
        for (random, expected) in [
            (
                0x0123_4567_89ab_cdef_fedc_ba98_7654_3210,
                "01234567-89ab-4def-bedc-ba9876543210",
            ),
            (0, "00000000-0000-4000-8000-000000000000"),
            (u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
        ] {
            assert_eq!(InteractionId::from_random(bytes(random)).as_str(), expected);
        }
    }

    /// RFC 9562 s4: hexadecimal digits and dashes, each in its place, and nothing else.
    #[test]
    fn an_id_is_digits_and_dashes_in_their_places() {
        // FAPIH-05
        let good = b"93BAC548-d2de-4546-b106-880a5018460d";
        assert!(InteractionId::parse(good).is_some());
        for at in 0..good.len() {
            for octet in 0..=u8::MAX {
                let mut text = *good;
                text[at] = octet;
                let fits = match at {
                    8 | 13 | 18 | 23 => octet == b'-',
                    _ => octet.is_ascii_hexdigit(),
                };
                assert_eq!(
                    InteractionId::parse(&text).is_some(),
                    fits,
                    "{octet} at {at}"
                );
            }
        }
        // A dash more than there are places for it, and one in the place of another.
        for wrong in [
            "93BAC548-d2de-4546-b106-880a50184600d",
            "93BAC548-d2de-4546-b106-880a5018460",
            "93BAC548d-2de-4546-b106-880a5018460d",
            "",
        ] {
            assert!(InteractionId::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
