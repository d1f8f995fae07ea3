//! What an issuer says about a token (RFC 7662, and signed: RFC 9701).
//!
//! An answer is read once, when it comes, and may be remembered; what it grants here and now is
//! judged at each request like a verified JWT's. Only the decision can take the token out of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims;
use super::json;
use super::jwt::{self, Header};
use super::keys::{Found, KeySet};
use super::policy::{Algorithm, Issuer, IssuerId};
use super::time::UnixTime;
use super::token::{SharedToken, TokenDigest};
use crate::refusal::{Reason, Refusal};

/// An issuer's answer about one token, as far as it can be remembered.
#[derive(Debug)]
pub struct Introspected {
    issuer: IssuerId,
    digest: TokenDigest,
    said: Said,
}

/// How an answer was come by, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was remembered.
    Remembered,
    /// The issuer was asked for this request.
    Asked,
    /// Another request had the issuer asked, and this one waited for it.
    Waited,
}

impl How {
    /// The word in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remembered => "remembered",
            Self::Asked => "asked",
            Self::Waited => "waited",
        }
    }
}

/// What it comes to, whoever asks.
#[derive(Debug)]
enum Said {
    /// The token is active, and its members have their types.
    Active(SharedToken),
    /// No request can pass with this token.
    Refused(Reason, Box<str>),
}

/// Why an answer says nothing about the token: our request is then undecided, not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(pub Box<str>);

impl Unfit {
    fn new(why: impl Into<Box<str>>) -> Self {
        Self(why.into())
    }
}

impl Introspected {
    /// Reads the JSON of an answer about the token of this digest. The caller vouches that the
    /// issuer sent it.
    ///
    /// `active` must be the boolean `true` (RFC 7662 s2.2); whatever else it is, the token is
    /// refused. An active token whose members break a rule of JWT claims is refused too.
    ///
    /// # Errors
    /// [`Unfit`] for what is no JSON object with each member once.
    pub fn read(answer: &[u8], issuer: &Issuer, digest: TokenDigest) -> Result<Self, Unfit> {
        let members =
            json::object(answer).map_err(|why| Unfit::new(format!("the answer is {why}")))?;
        Ok(Self::of(members, issuer, digest))
    }

    /// The issuer rejects the token as none that it could have issued.
    #[must_use]
    pub fn rejected(issuer: &Issuer, digest: TokenDigest) -> Self {
        let why = "the issuer rejects it as no token of its own";
        Self {
            issuer: issuer.id,
            digest,
            said: Said::Refused(Reason::TokenInactive, why.into()),
        }
    }

    fn of(mut members: Map<String, Value>, issuer: &Issuer, digest: TokenDigest) -> Self {
        let said = if members.get("active") == Some(&Value::Bool(true)) {
            // A member without a value says as much as none, but for the one that binds.
            members.retain(|name, value| !value.is_null() || name == "cnf");
            active(members, issuer, digest).map_or_else(
                |refusal| Said::Refused(refusal.reason(), refusal.detail().unwrap_or("").into()),
                |token| Said::Active(Arc::new(token)),
            )
        } else {
            let why = match members.get("active") {
                Some(Value::Bool(_)) => "the issuer says that it is not active",
                Some(_) => "active is no boolean",
                None => "the answer has no active",
            };
            Said::Refused(Reason::TokenInactive, why.into())
        };
        Self {
            issuer: issuer.id,
            digest,
            said,
        }
    }

    /// Who said it.
    #[must_use]
    pub const fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// Of which token.
    #[must_use]
    pub const fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// Until when it may be remembered at most: `exp` of an active token. `None`: it permits
    /// nothing.
    #[must_use]
    pub fn expires(&self) -> Option<UnixTime> {
        self.active().map(|token| token.expires())
    }

    /// Whether it is about a token of this client.
    #[must_use]
    pub fn is_of_client(&self, client: &str) -> bool {
        self.active()
            .is_some_and(|token| token.client_id() == client)
    }

    /// Whether it is about a token of this subject.
    #[must_use]
    pub fn is_of_subject(&self, subject: &str) -> bool {
        self.active()
            .is_some_and(|token| token.subject() == Some(subject))
    }

    /// About how many bytes it keeps.
    #[must_use]
    pub fn weight(&self) -> usize {
        let inside = self.active().map_or(64, |token| token.weight());
        size_of::<Self>().saturating_add(inside)
    }

    const fn active(&self) -> Option<&SharedToken> {
        match &self.said {
            Said::Active(token) => Some(token),
            Said::Refused(..) => None,
        }
    }

    /// The token, for a decision.
    ///
    /// # Errors
    /// `token_inactive`, and those of the claims' rules.
    pub(super) fn token(&self) -> Result<&SharedToken, Refusal> {
        match &self.said {
            Said::Active(token) => Ok(token),
            Said::Refused(reason, why) => Err(Refusal::because(*reason, why.clone())),
        }
    }
}

/// The members of an active answer, by the rules of JWT claims.
fn active(
    members: Map<String, Value>,
    issuer: &Issuer,
    digest: TokenDigest,
) -> Result<super::VerifiedToken, Refusal> {
    let kind = match members.get("token_type") {
        None => None,
        Some(Value::String(kind)) => Some(kind.to_ascii_lowercase()),
        Some(_) => {
            let why = "token_type is not a string";
            return Err(Refusal::because(Reason::ClaimMalformed, why));
        }
    };
    let token = claims::introspected(members, issuer, digest)?;
    // RFC 9449 s6.2: DPoP for a token bound to a key, Bearer for any other (RFC 8705 s3).
    let key_bound = token
        .confirmation
        .as_ref()
        .is_some_and(|confirmation| confirmation.key.is_some());
    let right = if key_bound { "dpop" } else { "bearer" };
    if kind.is_some_and(|kind| kind != right) {
        return Err(Refusal::because(
            Reason::TokenTypeWrong,
            format!("token_type is not {right}"),
        ));
    }
    Ok(token)
}

/// A signed answer (RFC 9701) whose signature is still to be checked.
#[derive(Debug)]
pub struct SignedAnswer<'a> {
    header: Header,
    message: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What a signed answer must be about: who signs, whom it is for, and when.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who was asked.
    pub issuer: &'a Issuer,
    /// Our client id there: `aud` of the answer (RFC 9701 s5).
    pub client_id: &'a str,
    /// The token that was asked about.
    pub digest: TokenDigest,
    /// The time after the answer came.
    pub now: UnixTime,
}

/// How old a signed answer may be, clock skew aside: it was asked for just now.
const RECENT_SECONDS: u64 = 60;

impl<'a> SignedAnswer<'a> {
    /// Takes the body of an answer apart.
    ///
    /// # Errors
    /// [`Unfit`] unless it is a JWS of an algorithm of the issuer with `typ`
    /// `token-introspection+jwt` (RFC 9701 s5, s8.1).
    pub fn parse(answer: &'a [u8], issuer: &Issuer) -> Result<Self, Unfit> {
        let text = answer.trim_ascii();
        let unfit = |refusal: Refusal| {
            let why = refusal.detail().unwrap_or(refusal.reason().spec().code);
            Unfit::new(format!("the answer is no fit JWT: {why}"))
        };
        let (header, payload, signature) =
            jwt::parts(text).ok_or_else(|| Unfit::new("the answer is no JWT"))?;
        let signed = header.len().saturating_add(payload.len()).saturating_add(1);
        let decoded = |part: &[u8]| {
            let broken = |_rejected| Unfit::new("the answer is no JWT: a part is not base64url");
            URL_SAFE_NO_PAD.decode(part).map_err(broken)
        };
        let header = Header::parse(&decoded(header)?).map_err(unfit)?;
        if !header.is_of_type(&["application/token-introspection+jwt".into()]) {
            return Err(Unfit::new(
                "typ of the answer is not token-introspection+jwt",
            ));
        }
        if !issuer.algorithms.contains(&header.algorithm()) {
            return Err(Unfit::new(format!(
                "the answer is signed with {}, which is not among algorithms of issuer {}",
                header.algorithm().name(),
                issuer.name
            )));
        }
        Ok(Self {
            header,
            message: text.get(..signed).unwrap_or_default(),
            payload: decoded(payload)?,
            signature: decoded(signature)?,
        })
    }

    /// `kid`.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.header.key_id()
    }

    /// `alg`, which the issuer allows.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.header.algorithm()
    }

    /// Checks the signature with the issuer's keys, then `iss`, `aud` and `iat` (RFC 9701 s5), and
    /// reads what stands under `token_introspection`.
    ///
    /// # Errors
    /// [`Unfit`]: it is not what the issuer says to us now.
    pub fn verify(&self, keys: &KeySet, question: Question<'_>) -> Result<Introspected, Unfit> {
        let Found::Key(key) = keys.find(self.key_id(), self.algorithm()) else {
            return Err(Unfit::new(
                "the answer is signed with a key that the issuer does not publish",
            ));
        };
        if !key.verifies(self.message, &self.signature) {
            return Err(Unfit::new("the signature of the answer is wrong"));
        }
        let mut members = json::object(&self.payload)
            .map_err(|why| Unfit::new(format!("the payload of the answer is {why}")))?;
        if members.get("iss").and_then(Value::as_str) != Some(&*question.issuer.issuer) {
            return Err(Unfit::new("iss of the answer is not the issuer"));
        }
        let ours = match members.get("aud") {
            Some(Value::String(one)) => one == question.client_id,
            Some(Value::Array(all)) => all.iter().any(|one| one == question.client_id),
            Some(_) | None => false,
        };
        if !ours {
            return Err(Unfit::new("aud of the answer is not our client_id"));
        }
        let Some(issued) = members.get("iat").and_then(Value::as_u64) else {
            return Err(Unfit::new("iat of the answer is no time"));
        };
        let issued = UnixTime::from_secs(issued);
        let skew = question.issuer.clock_skew;
        let recent = skew.saturating_add(std::time::Duration::from_secs(RECENT_SECONDS));
        if issued > question.now.later(skew) || question.now > issued.later(recent) {
            return Err(Unfit::new(format!(
                "iat of the answer is {issued}, the time is {}",
                question.now
            )));
        }
        match members.remove("token_introspection") {
            Some(Value::Object(members)) => {
                Ok(Introspected::of(members, question.issuer, question.digest))
            }
            Some(_) | None => Err(Unfit::new("the answer has no object token_introspection")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn issuer() -> Issuer {
        Issuer {
            id: IssuerId(0),
            name: "main".into(),
            issuer: "https://as.bank.example".into(),
            audience: vec!["https://api.bank.example".into()],
            algorithms: Vec::new(),
            token_types: Vec::new(),
            clock_skew: Duration::ZERO,
            exp_leeway: Duration::ZERO,
            max_lifetime: Duration::MAX,
            client_id_claims: vec!["client_id".into()],
            scope_claims: vec!["scope".into()],
            introspection: None,
        }
    }

    fn said(answer: &str) -> Introspected {
        Introspected::read(answer.as_bytes(), &issuer(), TokenDigest([1; 32])).unwrap()
    }

    /// What a door that drops remembered answers looks for, and what bounds the memory.
    #[test]
    fn what_an_answer_is_about() {
        let active = said(
            r#"{"active":true,"client_id":"tpp","sub":"user","exp":100,"aud":"https://api.bank.example"}"#,
        );
        assert_eq!(active.expires(), Some(UnixTime::from_secs(100)));
        assert!(active.is_of_client("tpp") && !active.is_of_client("user"));
        assert!(active.is_of_subject("user") && !active.is_of_subject("tpp"));
        let inactive = said(r#"{"active":false,"client_id":"tpp","sub":"user","exp":100}"#);
        assert_eq!(inactive.expires(), None);
        assert!(!inactive.is_of_client("tpp") && !inactive.is_of_subject("user"));
        let heavier = said(&format!(
            r#"{{"active":true,"client_id":"tpp","exp":100,"aud":"https://api.bank.example","x":"{}"}}"#,
            "x".repeat(1000)
        ));
        assert!(inactive.weight() > size_of::<Introspected>());
        assert!(active.weight() > inactive.weight());
        assert!((2000..4000).contains(&(heavier.weight() - inactive.weight())));
    }

    #[test]
    fn each_way_has_its_word() {
        let words = [How::Remembered, How::Asked, How::Waited].map(How::name);
        assert_eq!(words, ["remembered", "asked", "waited"]);
    }
}
