//! What a caller of the door wants dropped, as it is written.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::pdp::TokenDigest;
use crate::pip::introspect::Revoked;

/// What a caller wants dropped.
pub(super) struct Order {
    pub(super) issuer: Option<Box<str>>,
    pub(super) what: Revoked,
    /// For the log.
    pub(super) described: String,
}

impl Order {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            issuer: Option<Box<str>>,
            token_sha256: Option<Box<str>>,
            client_id: Option<Box<str>>,
            subject: Option<Box<str>>,
            all: Option<bool>,
        }
        let right = "give exactly one of token_sha256, client_id, subject and all, and issuer if only one is meant";
        let written: Written = serde_json::from_slice(body)
            .map_err(|error| format!("the body cannot be read: {error}; {right}"))?;
        let Written {
            issuer,
            token_sha256,
            client_id,
            subject,
            all,
        } = written;
        let (what, described) = match (token_sha256, client_id, subject, all) {
            (Some(text), None, None, None) => {
                let digest = digest(&text)
                    .ok_or("token_sha256 is no SHA-256 in base64url or hexadecimal digits")?;
                (Revoked::Token(digest), format!("token {text}"))
            }
            (None, Some(client), None, None) => {
                let described = format!("client {client}");
                (Revoked::Client(client), described)
            }
            (None, None, Some(subject), None) => {
                let described = format!("subject {subject}");
                (Revoked::Subject(subject), described)
            }
            (None, None, None, Some(true)) => (Revoked::All, "all".to_owned()),
            _ => return Err(right.to_owned()),
        };
        Ok(Self {
            issuer,
            what,
            described,
        })
    }
}

/// SHA-256 over the ASCII text of a token.
fn digest(text: &str) -> Option<TokenDigest> {
    let bytes: Vec<u8> = if text.len() == 64 {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        pairs
            .iter()
            .map(|[high, low]| u8::try_from(digit(high)? * 16 + digit(low)?).ok())
            .collect::<Option<_>>()?
    } else {
        URL_SAFE_NO_PAD.decode(text).ok()?
    };
    Some(TokenDigest(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Revoked, String> {
        Order::read(body.as_bytes()).map(|order| order.what)
    }

    #[test]
    fn exactly_one_thing_is_dropped() {
        let digest = TokenDigest([0xab; 32]);
        let hexadecimal = "ab".repeat(32);
        let base64url = URL_SAFE_NO_PAD.encode([0xab; 32]);
        for text in [&hexadecimal, &hexadecimal.to_uppercase(), &base64url] {
            let body = format!("{{\"token_sha256\":\"{text}\"}}");
            assert_eq!(read(&body), Ok(Revoked::Token(digest)), "{text}");
        }
        assert_eq!(
            read(r#"{"client_id":"tpp-1","issuer":"main"}"#),
            Ok(Revoked::Client("tpp-1".into()))
        );
        assert_eq!(read(r#"{"subject":"u"}"#), Ok(Revoked::Subject("u".into())));
        assert_eq!(read(r#"{"all":true}"#), Ok(Revoked::All));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"all":false}"#,
            r#"{"all":true,"subject":"u"}"#,
            r#"{"client_id":"a","subject":"u"}"#,
            r#"{"client":"a"}"#,
            r#"{"client_id":"a","client_id":"b"}"#,
            r#"{"token_sha256":"ab"}"#,
            r#"{"token_sha256":"zz"}"#,
            r#"{"token_sha256":""}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
