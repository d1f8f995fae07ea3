//! The canonical request: one parse, one path, and what was authorized is what is sent on.

use std::fmt;

use http::{HeaderMap, Method, Version};

use crate::refusal::Refusal;

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

/// Ambiguities of a path that a route may open with `path_allow`. All others are refused always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ambiguities {
    /// `%2F`.
    pub encoded_slash: bool,
    /// `%25`.
    pub encoded_percent: bool,
    /// `;`, plain or as `%3B`.
    pub semicolon: bool,
    /// `//`.
    pub double_slash: bool,
}

impl Ambiguities {
    /// Whether everything in `self` is in `allowed` too.
    #[must_use]
    pub const fn within(self, allowed: Self) -> bool {
        (!self.encoded_slash || allowed.encoded_slash)
            && (!self.encoded_percent || allowed.encoded_percent)
            && (!self.semicolon || allowed.semicolon)
            && (!self.double_slash || allowed.double_slash)
    }
}

/// The canonical request, as judged and as forwarded.
#[derive(Debug)]
pub struct RequestHead {
    pub(super) method: Method,
    /// Host as the client named it, lower case, without a trailing dot and without port.
    pub(super) host: Box<str>,
    pub(super) port: Option<u16>,
    /// The path as sent, octet for octet (HTTP-09), free of what no route may open.
    pub(super) path: Box<str>,
    /// Without `?`.
    pub(super) query: Option<Box<str>>,
    pub(super) ambiguities: Ambiguities,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) interaction_id: InteractionId,
}

impl RequestHead {
    /// The canonical form of a request, or why it has none.
    ///
    /// `fresh` becomes the interaction id where the client sent none that is a UUID.
    ///
    /// # Errors
    /// `request_malformed`, `target_ambiguous`, `target_too_long`, `field_repeated`.
    pub fn new(parts: http::request::Parts, fresh: InteractionId) -> Result<Self, Refusal> {
        let _ = (parts, fresh);
        Err(Refusal::new(crate::refusal::Reason::Internal))
    }
}
