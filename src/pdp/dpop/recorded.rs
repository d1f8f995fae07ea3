//! What is recorded of a proof, so that it can be judged again by other rules: when it was made,
//! with which key, for what. Never the proof, nor its `jti` or nonce.

use serde::{Deserialize, Serialize};

use super::proof::{Claims, NonceRule, Proof, Rules};
use super::target::{Target, TargetUri};
use crate::pdp::policy::Algorithm;
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal};

/// Facts of a proof that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofFacts {
    /// `jkt` of its key.
    pub jkt: Box<str>,
    /// Its algorithm.
    pub alg: Box<str>,
    /// `iat`.
    pub iat: u64,
    /// `nbf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Its nonce.
    pub nonce: NonceFact,
    /// Scheme, host and port of `htu`; missing where it is no `https` URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<str>>,
    /// Whether `htu` has the path of the request.
    pub path: bool,
    /// Whether its signature was found good; false where it was not looked at.
    #[serde(default)]
    pub verified: bool,
}

/// What is known of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonceFact {
    /// There was none.
    None,
    /// It was one of ours, and current.
    Good,
    /// It was not.
    Bad,
    /// Nobody looked at it.
    Unchecked,
}

/// Why recorded facts do not say that a proof fits.
#[derive(Debug)]
pub(in crate::pdp) enum Unfit {
    /// It does not.
    Refused(Refusal),
    /// They do not say.
    Unknown(&'static str),
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl ProofFacts {
    /// The facts of a proof for this target, by what became of it: `None` where it fits, else the
    /// reason.
    pub(in crate::pdp) fn of(
        proof: &Proof,
        (target, rules): (Target<'_>, &Rules),
        became: Option<Reason>,
    ) -> Self {
        let (key, claims) = proof.recorded();
        let uri = TargetUri::parse(&claims.htu);
        let origin = uri.as_ref().map(TargetUri::origin);
        // The path is compared where the origin is not what is wrong.
        let path = origin
            .as_ref()
            .is_some_and(|_| target.has_path_of(&claims.htu));
        let nonce = match (&claims.nonce, rules.nonce, became) {
            (None, _, _) => NonceFact::None,
            (Some(_), NonceRule::Off, _) => NonceFact::Unchecked,
            (Some(_), _, None) => NonceFact::Good,
            (Some(_), _, Some(Reason::NonceInvalid)) => NonceFact::Bad,
            (Some(_), _, Some(_)) => NonceFact::Unchecked,
        };
        Self {
            jkt: key.to_base64url().into(),
            alg: proof.algorithm().name().into(),
            iat: claims.issued.as_secs(),
            nbf: claims.not_before.map(UnixTime::as_secs),
            exp: claims.expires.map(UnixTime::as_secs),
            nonce,
            origin: origin.filter(|origin| origin.len() <= 280).map(Into::into),
            path,
            verified: false,
        }
    }

    /// Whether a proof of these facts fits by other rules: as [`Proof::fits`] judges, with `became`
    /// for what depends on no rule.
    pub(in crate::pdp) fn fits(
        &self,
        (target, rules): (Target<'_>, &Rules),
        became: Option<Reason>,
        now: UnixTime,
    ) -> Result<(), Unfit> {
        let algorithm = Algorithm::named(&self.alg).filter(|one| rules.algorithms.contains(one));
        if algorithm.is_none() {
            return Err(Refusal::new(Reason::ProofAlgorithmForbidden).into());
        }
        if became == Some(Reason::ProofMethodMismatch) {
            return Err(Refusal::new(Reason::ProofMethodMismatch).into());
        }
        let named = self.origin.as_deref().filter(|_| self.path);
        let named = named.map(|origin| format!("{origin}{}", target.path));
        if named.is_none_or(|htu| target.is_named_by(&htu).is_err()) {
            return Err(Refusal::new(Reason::ProofTargetMismatch).into());
        }
        match became {
            Some(Reason::ProofTokenMismatch) => {
                return Err(Refusal::new(Reason::ProofTokenMismatch).into());
            }
            Some(Reason::ProofTargetMismatch) => {
                return Err(Unfit::Unknown(
                    "whether the proof is for the token was not looked at",
                ));
            }
            Some(_) | None => {}
        }
        let claims = Claims {
            jti: "".into(),
            htm: "".into(),
            htu: "".into(),
            ath: "".into(),
            issued: UnixTime::from_secs(self.iat),
            not_before: self.nbf.map(UnixTime::from_secs),
            expires: self.exp.map(UnixTime::from_secs),
            nonce: None,
        };
        claims.timely(rules, now)?;
        match (rules.nonce, self.nonce) {
            (NonceRule::Off, _)
            | (NonceRule::Accepted, NonceFact::None)
            | (NonceRule::Accepted | NonceRule::Required, NonceFact::Good) => Ok(()),
            (NonceRule::Required, NonceFact::None) => {
                Err(Refusal::new(Reason::NonceRequired).into())
            }
            (NonceRule::Accepted | NonceRule::Required, NonceFact::Bad) => {
                Err(Refusal::new(Reason::NonceInvalid).into())
            }
            (NonceRule::Accepted | NonceRule::Required, NonceFact::Unchecked) => Err(
                Unfit::Unknown("whether the nonce was good was not looked at"),
            ),
        }
    }
}
