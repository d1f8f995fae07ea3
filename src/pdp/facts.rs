//! What the upstream is told of the sender: facts of an authorized request as header values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::interaction::InteractionId;
use super::peer::{Peer, PeerCertificate};
use super::policy::{Fact, Issuer, Route};
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal};

/// Where the facts of one request come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) route: &'a Route,
    pub(super) interaction_id: InteractionId,
    pub(super) peer: &'a Peer,
    /// The token with its issuer, where the route asks for one.
    pub(super) token: Option<(&'a VerifiedToken, &'a Issuer)>,
}

/// The headers under `[forward.headers]`. One whose fact is missing is left out.
///
/// # Errors
/// `claim_unprintable`.
pub(super) fn headers(source: Source<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
    let rules = &source.route.forward.headers;
    let mut headers = Vec::with_capacity(rules.len());
    for (name, fact) in rules {
        if let Some(value) = value(source, fact)? {
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}

fn value(source: Source<'_>, fact: &Fact) -> Result<Option<HeaderValue>, Refusal> {
    let certificate = |pick: fn(&PeerCertificate) -> Option<&str>| {
        source.peer.certificate.as_ref().and_then(pick)
    };
    let text = match fact {
        Fact::Claim(name) => return claim(source, name),
        Fact::CertificateThumbprint => certificate(|c| Some(&c.thumbprint_text)),
        Fact::CertificateSubject => certificate(|c| Some(&c.subject)),
        Fact::CertificateOrganizationId => certificate(|c| c.organization_id.as_deref()),
        Fact::CertificateSerial => certificate(|c| Some(&c.serial)),
        Fact::CertificateDer => {
            let Some(certificate) = &source.peer.certificate else {
                return Ok(None);
            };
            let text = format!(":{}:", STANDARD.encode(&certificate.der));
            return Printed::of(&text).map(Some);
        }
        Fact::IssuerName => source.token.map(|(_, issuer)| &*issuer.name),
        Fact::RouteName => Some(&*source.route.name),
        Fact::InteractionId => return Ok(Some(source.interaction_id.to_header())),
    };
    text.map(Printed::of).transpose()
}

fn claim(source: Source<'_>, name: &str) -> Result<Option<HeaderValue>, Refusal> {
    let Some((token, _)) = source.token else {
        return Ok(None);
    };
    // The issuer's settings say which claims these two are.
    if name == "client_id" {
        return Printed::of(&token.client_id).map(Some);
    }
    if name == "scope" {
        let mut printed = Printed::default();
        printed.list(token.scopes.iter().map(|scope| &**scope))?;
        return (!token.scopes.is_empty())
            .then(|| printed.finish())
            .transpose();
    }
    let mut printed = Printed::default();
    match token.claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => printed.text(text)?,
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                printed.separate(at);
                match item {
                    Value::String(text) => printed.item(text)?,
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::Array(_)
                    | Value::Object(_) => printed.json(item)?,
                }
            }
        }
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => {
            printed.json(other)?;
        }
    }
    printed.finish().map(Some)
}

/// A header value under way: bytes of 0x20 to 0x7E, all others and `%` percent-encoded.
#[derive(Debug, Default)]
struct Printed(Vec<u8>);

impl Printed {
    fn of(text: &str) -> Result<HeaderValue, Refusal> {
        let mut printed = Self::default();
        printed.text(text)?;
        printed.finish()
    }

    fn text(&mut self, text: &str) -> Result<(), Refusal> {
        self.encode(text, b"")
    }

    /// An item of a list. A blank within is encoded too, else one item could pass for two.
    fn item(&mut self, text: &str) -> Result<(), Refusal> {
        self.encode(text, b" ")
    }

    fn list<'t>(&mut self, items: impl Iterator<Item = &'t str>) -> Result<(), Refusal> {
        for (at, item) in items.enumerate() {
            self.separate(at);
            self.item(item)?;
        }
        Ok(())
    }

    fn separate(&mut self, at: usize) {
        if at > 0 {
            self.0.push(b' ');
        }
    }

    /// JSON without blanks. Its strings are looked at before they are escaped, so that `\n` in one
    /// is seen as what it stands for.
    fn json(&mut self, value: &Value) -> Result<(), Refusal> {
        if has_control(value) {
            return Err(unprintable());
        }
        self.text(&value.to_string())
    }

    fn encode(&mut self, text: &str, also: &[u8]) -> Result<(), Refusal> {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        if text.chars().any(char::is_control) {
            return Err(unprintable());
        }
        // Exact in nearly all cases, so that the value is one allocation and keeps its place.
        self.0.reserve_exact(text.len());
        for byte in text.bytes() {
            if matches!(byte, b' '..=b'~') && byte != b'%' && !also.contains(&byte) {
                self.0.push(byte);
            } else {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                self.0.extend([b'%', digit(byte >> 4), digit(byte & 0x0f)]);
            }
        }
        Ok(())
    }

    /// The value. A blank at either end is encoded, for a reader of HTTP would drop it
    /// (RFC 9110 s5.5) and take ` admin` for `admin`.
    fn finish(mut self) -> Result<HeaderValue, Refusal> {
        if let [.., b' '] = self.0.as_slice() {
            self.0.pop();
            self.0.extend(b"%20");
        }
        if let [b' ', ..] = self.0.as_slice() {
            self.0.splice(..1, *b"%20");
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(self.0))
            .map_err(|_rejected| unprintable())
    }
}

fn has_control(value: &Value) -> bool {
    let in_text = |text: &str| text.chars().any(char::is_control);
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => in_text(text),
        Value::Array(items) => items.iter().any(has_control),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| in_text(name) || has_control(value)),
    }
}

fn unprintable() -> Refusal {
    Refusal::because(
        Reason::ClaimUnprintable,
        "a fact under forward.headers holds a control character",
    )
}
