//! Whether a verified token is good here and now: issuer, time, audience. Judged at each request,
//! also for a token that was verified before (TOK-24).

use std::time::Duration;

use super::policy::{Issuer, Policy};
use super::time::UnixTime;
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal};

/// Judges what holds for every right that the token could give.
///
/// # Errors
/// `issuer_unknown`, `token_expired`, `token_not_yet_valid`, `lifetime_excessive`,
/// `audience_mismatch`.
pub(super) fn judge(
    token: &VerifiedToken,
    issuer: &Issuer,
    policy: &Policy,
    now: UnixTime,
) -> Result<(), Refusal> {
    if token.issuer != issuer.id || !policy.issuers.contains(&token.issuer) {
        return Err(Refusal::because(
            Reason::IssuerUnknown,
            format!("issuer {} is none of policy {}", issuer.name, policy.name),
        ));
    }
    // RFC 7519 s4.1.4: the time must be before exp, so the second of exp itself is too late.
    if now >= token.expires.later(issuer.exp_leeway) {
        return Err(Refusal::because(
            Reason::TokenExpired,
            format!("exp is {}, the time is {now}", token.expires),
        ));
    }
    not_ahead("nbf", token.not_before, issuer, now)?;
    not_ahead("iat", token.issued, issuer, now)?;
    // An introspection answer may leave iat out. What is left of the token's life is then the least
    // that it was given, and all that can be held to the issuer's bound; a policy that names a
    // narrower one gets it or refuses.
    let issued = token.issued.unwrap_or(now);
    lifetime(token, issued, issuer.max_lifetime, issuer.clock_skew)?;
    if let Some(longest) = policy.max_lifetime {
        let Some(issued) = token.issued else {
            return Err(Refusal::because(
                Reason::LifetimeExcessive,
                "without iat the lifetime cannot be known",
            ));
        };
        lifetime(token, issued, longest, issuer.clock_skew)?;
    }
    // What a policy names stands in place of the issuer's list: a resource of its own, below the
    // API as a whole. `check` reports one that is not.
    match &policy.audience {
        Some(own) => audience(token, own, &policy.name),
        None => audience(token, &issuer.audience, &issuer.name),
    }
}

/// FAPI 2.0 Security Profile s5.3.2.1: clocks differ a little (TOK-11).
fn not_ahead(
    claim: &str,
    moment: Option<UnixTime>,
    issuer: &Issuer,
    now: UnixTime,
) -> Result<(), Refusal> {
    match moment {
        Some(moment) if moment > now.later(issuer.clock_skew) => Err(Refusal::because(
            Reason::TokenNotYetValid,
            format!("{claim} is {moment}, the time is {now}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// TOK-21. `clock_skew` is granted on top: many issuers date `iat` back by a few seconds, so that no
/// resource server finds it in the future, and mean the lifetime without them.
fn lifetime(
    token: &VerifiedToken,
    issued: UnixTime,
    longest: Duration,
    skew: Duration,
) -> Result<(), Refusal> {
    let lifetime = token.expires.since(issued);
    if lifetime > longest.saturating_add(skew) {
        return Err(Refusal::because(
            Reason::LifetimeExcessive,
            format!(
                "exp - iat is {} s of at most {} s",
                lifetime.as_secs(),
                longest.as_secs()
            ),
        ));
    }
    Ok(())
}

/// RFC 9068 s4: `aud` holds an identifier of ours, byte by byte (TOK-09).
fn audience(token: &VerifiedToken, ours: &[Box<str>], whose: &str) -> Result<(), Refusal> {
    if ours.iter().any(|name| token.audience.contains(name)) {
        return Ok(());
    }
    Err(Refusal::because(
        Reason::AudienceMismatch,
        format!("aud holds none of audience of {whose}"),
    ))
}
