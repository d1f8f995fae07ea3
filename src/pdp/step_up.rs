//! How well and how lately the user must have been authenticated, by what the request is about
//! (RFC 9470; exemptions of small amounts as in Delegated Regulation (EU) 2018/389, chapter III).

use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::content::{Content, Pointer, Scalar};
use super::decimal::Decimal;
use super::policy::{Issuer, MethodSet, Policy};
use super::time::UnixTime;
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal};

/// What is asked of the user's authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strength {
    /// One of them, preferred first; empty asks for none.
    pub acr: Vec<Box<str>>,
    /// All of them (RFC 8176); empty asks for none.
    pub amr: Vec<Box<str>>,
    /// Longest time since `auth_time`.
    pub max_age: Option<Duration>,
}

/// One of `step_up` of a policy: asked in addition, of the requests that it is about (STEP-06).
#[derive(Debug, Clone)]
pub struct StepUp {
    /// Requests that it is about.
    pub methods: MethodSet,
    /// Only those above an amount.
    pub above: Option<Above>,
    /// What they need.
    pub strength: Strength,
}

/// An amount of the body up to which nothing more is asked.
#[derive(Debug, Clone)]
pub struct Above {
    /// Where it stands.
    pub amount: Pointer,
    /// The most that is let go.
    pub limit: Decimal,
    /// Where its currency stands, and which one the limit is in.
    pub currency: (Pointer, Box<str>),
    /// Bytes of a body that is looked at; a longer one is refused.
    pub body_bytes: usize,
}

impl StepUp {
    /// Whether this request needs it. What cannot be told from the body needs it: only an amount
    /// that is known to be small, in the currency that is named, is let go.
    ///
    /// `content`: `None` while the body was not read, so that what depends on it is left open.
    fn applies(&self, method: &Method, content: Option<&Content>) -> Result<bool, Refusal> {
        if !self.methods.has(method) {
            return Ok(false);
        }
        let (Some(above), Some(content)) = (&self.above, content) else {
            return Ok(self.above.is_none());
        };
        let amount = content.at(&above.amount)?;
        let small = amount
            .and_then(|value| value.amount())
            .is_some_and(|amount| amount <= above.limit);
        let (at, name) = &above.currency;
        let ours = content.at(at)? == Some(Scalar::Text(name.clone()));
        Ok(!(small && ours))
    }
}

/// Judges how the user was authenticated. The challenge names the first demand that is not met.
///
/// # Errors
/// `authentication_too_weak`; `body_unfit`.
pub(super) fn judge(
    (token, issuer): (&VerifiedToken, &Issuer),
    policy: &Policy,
    (method, content): (&Method, Option<&Content>),
    now: UnixTime,
) -> Result<(), Refusal> {
    demand((token, issuer), &policy.strength, now)?;
    for rule in &policy.step_up {
        if rule.applies(method, content)? {
            demand((token, issuer), &rule.strength, now)?;
        }
    }
    Ok(())
}

fn demand(
    (token, issuer): (&VerifiedToken, &Issuer),
    strength: &Strength,
    now: UnixTime,
) -> Result<(), Refusal> {
    let Some(why) = weakness(token, issuer, strength, now) else {
        return Ok(());
    };
    Err(
        Refusal::because(Reason::AuthenticationTooWeak, why).advise(|advice| {
            // Both, also where only one failed: a client that acts on half would be sent again.
            advice.acr_values.clone_from(&strength.acr);
            advice.max_age = strength.max_age;
        }),
    )
}

/// RFC 9470 s4, s5: what is not there does not satisfy (STEP-04).
fn weakness(
    token: &VerifiedToken,
    issuer: &Issuer,
    strength: &Strength,
    now: UnixTime,
) -> Option<&'static str> {
    let used = token.acr.as_ref();
    if !strength.acr.is_empty() && !used.is_some_and(|acr| strength.acr.contains(acr)) {
        return Some("acr is none of the policy's");
    }
    if !strength.amr.is_empty() {
        let used = match token.claims.get("amr") {
            Some(Value::Array(methods)) => methods.as_slice(),
            _ => &[],
        };
        let has = |wanted: &str| used.iter().any(|one| one.as_str() == Some(wanted));
        if !strength.amr.iter().all(|wanted| has(wanted)) {
            return Some("amr lacks a method that the policy asks for");
        }
    }
    let longest = strength.max_age?;
    let Some(at) = token.auth_time else {
        return Some("there is no auth_time");
    };
    if at > now.later(issuer.clock_skew) {
        return Some("auth_time lies ahead");
    }
    (now.since(at) > longest).then_some("auth_time is longer ago than max_age")
}
