//! The head of a request as it is recorded, and a head of the same shape made of that: same
//! method, host, path and names, with a stand-in for each value.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use serde::{Deserialize, Serialize};

use super::facts::RequestFacts;
use crate::pdp::credential::{credential, looks_signed};
use crate::pdp::{InteractionId, RequestHead};
use crate::refusal::{Reason, Scheme, Schemes};

/// What came as credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialFact {
    /// No `Authorization`.
    None,
    /// More than one.
    Repeated,
    /// One that cannot be read.
    Malformed,
    /// A scheme that no route takes.
    OtherScheme,
    /// A token under `Bearer`.
    Bearer(Form),
    /// A token under `DPoP`.
    Dpop(Form),
}

/// The form of a token, and how many bytes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Three parts of base64url.
    Signed(usize),
    /// Five parts.
    Encrypted(usize),
    /// Anything else.
    Opaque(usize),
    /// No token at all.
    Broken(usize),
}

impl Form {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Signed(bytes)
            | Self::Encrypted(bytes)
            | Self::Opaque(bytes)
            | Self::Broken(bytes) => bytes,
        }
    }

    /// A text of the same form and length.
    fn stand_in(self) -> String {
        let (begin, letter) = match self {
            Self::Signed(_) => ("a.b.c", "c"),
            Self::Encrypted(_) => ("a.b.c.d.e", "e"),
            Self::Opaque(_) => ("o", "o"),
            Self::Broken(_) => ("!", "!"),
        };
        let rest = self.bytes().saturating_sub(begin.len());
        let mut text = String::with_capacity(self.bytes());
        text.push_str(begin);
        text.push_str(&letter.repeat(rest));
        text
    }
}

impl CredentialFact {
    /// What came, whatever the route takes; with the first part of the token where it looks like a
    /// JWT: its header, which is not secret.
    pub(super) fn of(head: &RequestHead) -> (Self, Option<Box<str>>) {
        let any = Schemes {
            bearer: true,
            dpop: true,
        };
        let under = |scheme: Scheme, form: Form| match scheme {
            Scheme::Bearer => Self::Bearer(form),
            Scheme::Dpop => Self::Dpop(form),
        };
        // A token in the query is a fact of its own.
        match credential(head, usize::MAX, any) {
            Ok(found) => {
                let bytes = found.token.expose().len();
                if looks_signed(&found.token) {
                    let header = found.token.expose().split('.').next();
                    (
                        under(found.scheme, Form::Signed(bytes)),
                        header.map(Into::into),
                    )
                } else {
                    (under(found.scheme, Form::Opaque(bytes)), None)
                }
            }
            Err(refusal) => {
                let used = refusal.advice().and_then(|advice| advice.used);
                let fact = match (refusal.reason(), used) {
                    (Reason::TokenMissing, _) => Self::None,
                    (Reason::TokenRepeated, _) => Self::Repeated,
                    (Reason::SchemeUnsupported, _) => Self::OtherScheme,
                    (Reason::TokenMalformed, Some(scheme)) => under(scheme, Form::Encrypted(9)),
                    (Reason::CredentialsMalformed, Some(scheme)) => under(scheme, Form::Broken(1)),
                    _ => Self::Malformed,
                };
                (fact, None)
            }
        }
    }

    fn values(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Repeated => vec!["Bearer a".to_owned(), "Bearer b".to_owned()],
            Self::Malformed => vec!["@".to_owned()],
            Self::OtherScheme => vec!["Other a".to_owned()],
            Self::Bearer(form) => vec![format!("Bearer {}", form.stand_in())],
            Self::Dpop(form) => vec![format!("DPoP {}", form.stand_in())],
        }
    }
}

/// A head of the recorded shape; `None` where the facts are none of a request.
pub(super) fn stand_in(facts: &RequestFacts, fresh: InteractionId) -> Option<RequestHead> {
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(facts.method.as_bytes()).ok()?;
    let query = if facts.token_in_query {
        "?access_token=x"
    } else {
        ""
    };
    *request.uri_mut() = format!("{}{query}", facts.path).parse::<Uri>().ok()?;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let host = match facts.port {
        Some(port) => format!("{}:{port}", facts.host),
        None => facts.host.to_string(),
    };
    headers.insert(HOST, HeaderValue::from_str(&host).ok()?);
    for value in facts.credential.values() {
        headers.append(AUTHORIZATION, HeaderValue::from_str(&value).ok()?);
    }
    let named = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
    for (names, values) in [
        (&facts.headers, &["0"][..]),
        (&facts.empty, &[""]),
        (&facts.repeated, &["0", "0"]),
    ] {
        for name in names {
            let name = named(name)?;
            // Their values were judged when the head was read.
            if [HOST, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                continue;
            }
            if name.as_str() == "x-fapi-interaction-id" && facts.interaction_id {
                headers.insert(name, fresh.to_header());
                continue;
            }
            for value in values {
                headers.append(name.clone(), HeaderValue::from_static(value));
            }
        }
    }
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        if facts.headers.iter().any(|one| **one == *name.as_str()) {
            let value = if name == CONTENT_LENGTH {
                "0"
            } else {
                "chunked"
            };
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let (parts, ()) = request.into_parts();
    RequestHead::new(parts, fresh).ok()
}
