//! What a proof says of its request and of its time.

use std::time::Duration;

use serde_json::Value;

use super::{NonceRule, Rules, malformed};
use crate::pdp::claims::numeric_date;
use crate::pdp::dpop::NonceKeys;
use crate::pdp::json;
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal};

/// Bytes of a `jti` (RFC 9449 s11.1).
pub const JTI_BYTES: usize = 256;
/// Further ahead than this no `iat` and no `nbf` is taken (FAPI 2.0 Security Profile s5.3.2.1).
const AHEAD: Duration = Duration::from_secs(60);

/// The claims of RFC 9449 s4.2, and of RFC 7519 those that say when.
pub(in crate::pdp::dpop) struct Claims {
    pub(in crate::pdp::dpop) jti: Box<str>,
    pub(in crate::pdp::dpop) htm: Box<str>,
    pub(in crate::pdp::dpop) htu: Box<str>,
    pub(in crate::pdp::dpop) ath: Box<str>,
    pub(in crate::pdp::dpop) issued: UnixTime,
    pub(in crate::pdp::dpop) not_before: Option<UnixTime>,
    pub(in crate::pdp::dpop) expires: Option<UnixTime>,
    pub(in crate::pdp::dpop) nonce: Option<Box<str>>,
}

impl Claims {
    /// Reads the payload of a proof.
    pub(super) fn read(payload: &[u8]) -> Result<Self, Refusal> {
        let names = ["jti", "htm", "htu", "ath", "nonce", "iat", "nbf", "exp"];
        let claims = json::members(payload, names);
        let [jti, htm, htu, ath, nonce, iat, nbf, exp] =
            claims.map_err(|why| malformed(format!("the payload is {why}")))?;
        let jti = text("jti", jti)?;
        if jti.len() > JTI_BYTES {
            return Err(Refusal::because(
                Reason::ProofTooLarge,
                format!("jti has {} bytes of {JTI_BYTES}", jti.len()),
            ));
        }
        let nonce = match nonce {
            None => None,
            // One that is empty is as bad as one that is old, and has the same cure.
            Some(Value::String(nonce)) => Some(nonce.into_boxed_str()),
            Some(_) => return Err(malformed("nonce is not a string")),
        };
        Ok(Self {
            jti,
            htm: text("htm", htm)?,
            htu: text("htu", htu)?,
            ath: text("ath", ath)?,
            issued: date("iat", iat)?.ok_or_else(|| malformed("there is no iat"))?,
            not_before: date("nbf", nbf)?,
            expires: date("exp", exp)?,
            nonce,
        })
    }

    /// RFC 9449 s4.3 and s11.1; `nbf` and `exp` mean what they mean in any JWT (RFC 7519 s4.1).
    pub(in crate::pdp::dpop) fn timely(&self, rules: &Rules, now: UnixTime) -> Result<(), Refusal> {
        let ahead = rules.ahead.min(AHEAD);
        if now > self.issued.later(rules.age) {
            return Err(Refusal::because(
                Reason::ProofExpired,
                format!(
                    "the proof is {} s old of at most {} s",
                    now.since(self.issued).as_secs(),
                    rules.age.as_secs()
                ),
            ));
        }
        for (name, moment) in [("iat", Some(self.issued)), ("nbf", self.not_before)] {
            if let Some(moment) = moment
                && moment > now.later(ahead)
            {
                return Err(Refusal::because(
                    Reason::ProofNotYetValid,
                    format!(
                        "{name} is {} s ahead of at most {} s",
                        moment.since(now).as_secs(),
                        ahead.as_secs()
                    ),
                ));
            }
        }
        // The client's clock may be behind ours by as much as it may be ahead.
        if self
            .expires
            .is_some_and(|expires| now >= expires.later(ahead))
        {
            return Err(Refusal::because(
                Reason::ProofExpired,
                "exp of the proof is past",
            ));
        }
        Ok(())
    }

    pub(super) fn nonce(
        &self,
        rule: NonceRule,
        nonces: Option<&NonceKeys>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        match (rule, &self.nonce) {
            (NonceRule::Off, _) | (NonceRule::Accepted, None) => Ok(()),
            (NonceRule::Required, None) => Err(Refusal::new(Reason::NonceRequired)),
            (NonceRule::Required | NonceRule::Accepted, Some(nonce)) => {
                let keys = nonces.ok_or_else(|| {
                    Refusal::because(Reason::Internal, "nonces are in force without keys")
                })?;
                if keys.accepts(nonce, now) {
                    Ok(())
                } else {
                    Err(Refusal::new(Reason::NonceInvalid))
                }
            }
        }
    }
}

fn text(name: &str, claim: Option<Value>) -> Result<Box<str>, Refusal> {
    match claim {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.into_boxed_str()),
        Some(_) => Err(malformed(format!("{name} is not a string with content"))),
        None => Err(malformed(format!("there is no {name}"))),
    }
}

fn date(name: &str, claim: Option<Value>) -> Result<Option<UnixTime>, Refusal> {
    let bad = || malformed(format!("{name} is not a number of seconds since 1970"));
    claim
        .map(|value| numeric_date(&value).ok_or_else(bad))
        .transpose()
}
