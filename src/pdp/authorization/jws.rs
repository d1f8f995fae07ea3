//! A JWT that a client signed: its form, its header, its signature. What its claims must say is
//! the business of [`super::object`] and [`super::assertion`].

use serde_json::{Map, Value};

use super::JTI_BYTES;
use crate::pdp::claims::numeric_date;
use crate::pdp::json;
use crate::pdp::jwt::{Header, base64url, parts};
use crate::pdp::keys::{Found, KeySet};
use crate::pdp::policy::Algorithm;
use crate::pdp::time::UnixTime;
use crate::refusal::Reason;

/// What is wrong with one, in words that quote nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Its form, or a claim's type.
    Form(String),
    /// Its algorithm.
    Algorithm(String),
    /// Its key or signature.
    Signature(String),
    /// Who it is from, or for whom.
    Mismatch(String),
    /// When it is good.
    Time(String),
}

/// Taken apart; nothing of it is proven.
pub(super) struct Jws {
    text: Box<str>,
    /// Bytes of the text before the second dot: what is signed.
    signed: usize,
    signature: Vec<u8>,
    header: Header,
    claims: Map<String, Value>,
}

impl std::fmt::Debug for Jws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jws")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl Jws {
    /// Takes it apart. `types` are the values of `typ` that it may have, lower case; it may also
    /// have none.
    pub(super) fn read(text: &str, types: &[&str]) -> Result<Self, Flaw> {
        let form = |why: &str| Flaw::Form(why.to_owned());
        let (header, payload, signature) =
            parts(text.as_bytes()).ok_or_else(|| form("it is not three parts (RFC 7515 s7.1)"))?;
        let decoded = |name: &str, part: &[u8]| {
            base64url(part).ok_or_else(|| Flaw::Form(format!("its {name} is not base64url")))
        };
        let signed = header.len().saturating_add(payload.len()).saturating_add(1);
        let header = decoded("header", header)?;
        let payload = decoded("payload", payload)?;
        let signature = decoded("signature", signature)?;
        let header = Header::parse(&header).map_err(|refusal| {
            let why = refusal
                .detail()
                .unwrap_or("its header is malformed")
                .to_owned();
            if refusal.reason() == Reason::AlgorithmForbidden {
                Flaw::Algorithm(why)
            } else {
                Flaw::Form(why)
            }
        })?;
        let kind = header.kind().map(str::to_ascii_lowercase);
        if let Some(kind) = kind {
            let short = kind.strip_prefix("application/").unwrap_or(&kind);
            if !types.contains(&short) {
                return Err(form("its typ is that of something else (RFC 8725 s3.11)"));
            }
        }
        let claims =
            json::object(&payload).map_err(|why| Flaw::Form(format!("its claims are {why}")))?;
        Ok(Self {
            text: text.into(),
            signed,
            signature,
            header,
            claims,
        })
    }

    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    pub(super) const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// `alg` is one of the server's, and where the client registered one, that.
    pub(super) fn algorithm(
        &self,
        allowed: &[Algorithm],
        registered: Option<Algorithm>,
    ) -> Result<(), Flaw> {
        let algorithm = self.header.algorithm();
        let never = algorithm == Algorithm::Rs256;
        if never || !allowed.contains(&algorithm) {
            let name = algorithm.name();
            return Err(Flaw::Algorithm(format!(
                "{name} is not among algorithms of the authorization server"
            )));
        }
        match registered {
            Some(registered) if registered != algorithm => Err(Flaw::Algorithm(format!(
                "{} is not the {} that the client registered",
                algorithm.name(),
                registered.name()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Signed with one of these keys (RFC 7515 s5.2).
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(), Flaw> {
        let flaw = |why: &str| Err(Flaw::Signature(why.to_owned()));
        let algorithm = self.header.algorithm();
        let key = match keys.find(self.header.key_id(), algorithm) {
            Found::Key(key) => key,
            Found::Missing if self.header.key_id().is_some() => {
                return flaw("no registered key of the client has its kid");
            }
            Found::Missing => {
                return flaw("it has no kid, and not exactly one key of the client is for its alg");
            }
            Found::Mismatch => return flaw("the registered key of its kid is not for its alg"),
        };
        let message = self.text.as_bytes().get(..self.signed).unwrap_or_default();
        if key.verifies(message, &self.signature) {
            Ok(())
        } else {
            flaw("the signature does not verify")
        }
    }

    /// A string with content, or nothing there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Flaw> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(Flaw::Form(format!("{name} is not a string with content"))),
        }
    }

    /// A moment, or nothing there.
    pub(super) fn date(&self, name: &str) -> Result<Option<UnixTime>, Flaw> {
        let Some(value) = self.claims.get(name) else {
            return Ok(None);
        };
        let date = numeric_date(value);
        date.map(Some)
            .ok_or_else(|| Flaw::Form(format!("{name} is not a number of seconds since 1970")))
    }

    /// `jti`, of a size that can be remembered.
    pub(super) fn id(&self) -> Result<Option<&str>, Flaw> {
        match self.text("jti")? {
            Some(id) if id.len() > JTI_BYTES => {
                Err(Flaw::Form("jti is longer than 256 bytes".to_owned()))
            }
            id => Ok(id),
        }
    }
}
