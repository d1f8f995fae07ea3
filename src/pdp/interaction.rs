//! The id under which client, gate and API speak of one request.

use std::fmt;

use http::HeaderMap;

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
        let fits = text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        fits.then_some(Self(text))
    }

    /// A version 4 UUID of these random bytes (RFC 9562 s5.4).
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut nibbles = random.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        let mut text = [b'-'; 36];
        for (at, to) in text.iter_mut().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            let nibble = nibbles.next().unwrap_or(0);
            let nibble = match at {
                14 => 4,
                19 => 8 | (nibble & 3),
                _ => nibble,
            };
            *to = HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
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
    let mut values = headers.get_all("x-fapi-interaction-id").iter();
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
}
