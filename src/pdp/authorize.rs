//! Rules to permit: the only maker of [`Authorized`].
//!
//! A request is authorized in one of four ways, each with its own maker that looks itself whether
//! it may: the route is written as open, the policy is satisfied, the route is only observed, or it
//! leads to an authorization server and the request is what a registered client may send there.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::authorization::{Guard, Judged};
use super::content::Content;
use super::dpop::ReplayKey;
use super::policy::{Access, Policy, Route};
use super::route::Routed;
use super::sender::Shown;
use super::step::Trail;
use super::time::UnixTime;
use super::token::VerifiedToken;
use super::{Inbound, InteractionId, Peer, RequestHead};
use super::{binding, credential, facts, rights, validity};
use crate::refusal::{Class, Reason, Refusal, Scheme};

/// A request that may go to its upstream. It holds the request itself, so there is no permit to
/// mix up or to use twice; only this file makes it, and `upstream::forward` takes it.
#[must_use]
#[derive(Debug)]
pub struct Authorized<B> {
    inbound: Box<Inbound<B>>,
    route: Arc<Route>,
    identity: Vec<(HeaderName, HeaderValue)>,
    expires: Option<UnixTime>,
    observed: Option<Refusal>,
}

/// What an [`Authorized`] consists of, once it is taken apart to be sent on.
#[derive(Debug)]
pub struct Parts<B> {
    /// The canonical request.
    pub head: RequestHead,
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// Its body.
    pub body: B,
    /// Its route.
    pub route: Arc<Route>,
    /// Headers under `[forward.headers]` that have a fact, ready to send.
    pub identity: Vec<(HeaderName, HeaderValue)>,
    /// `exp` of the token: a stream or a WebSocket ends there.
    pub expires: Option<UnixTime>,
}

impl<B> Authorized<B> {
    /// The canonical request.
    #[must_use]
    pub const fn head(&self) -> &RequestHead {
        &self.inbound.head
    }

    /// Its route.
    #[must_use]
    pub const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Why it would have been refused, on a route that is only observed.
    #[must_use]
    pub const fn observed(&self) -> Option<&Refusal> {
        self.observed.as_ref()
    }

    /// The headers that tell the upstream who sent it.
    #[must_use]
    pub fn identity(&self) -> &[(HeaderName, HeaderValue)] {
        &self.identity
    }

    /// `exp` of the token: a stream or a WebSocket ends there.
    #[must_use]
    pub const fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// The body, whose bounds are the shell's to set before it is sent on.
    pub const fn body_mut(&mut self) -> &mut B {
        &mut self.inbound.body
    }

    /// Takes it apart, to be sent on.
    pub fn into_parts(self) -> Parts<B> {
        let Self {
            inbound,
            route,
            identity,
            expires,
            observed: _,
        } = self;
        let Inbound {
            head,
            peer,
            standing: _,
            body,
        } = *inbound;
        Parts {
            head,
            peer,
            body,
            route,
            identity,
            expires,
        }
    }
}

/// A request whose route asks for a token, or one that needs none.
#[derive(Debug)]
pub(super) enum Gate<B> {
    /// The route is open: it is authorized as it stands.
    Open(Authorized<B>),
    /// The route has this policy.
    Guarded(Routed<B>, Arc<Policy>),
    /// The route leads to an authorization server.
    Authorization(Routed<B>, Arc<Guard>),
}

/// What the route asks for.
///
/// # Errors
/// `token_in_query`, on every route, observed ones too; `claim_unprintable`, for a certificate whose names hold a control character.
pub(super) fn gate<B>(routed: Routed<B>) -> Result<Gate<B>, Refusal> {
    credential::none_in_query(&routed.inbound.head)?;
    let policy = match &routed.route.access {
        Access::Open => None,
        Access::Policy(policy) => Some(Arc::clone(policy)),
        Access::Authorization(guard) => {
            let guard = Arc::clone(guard);
            return Ok(Gate::Authorization(routed, guard));
        }
    };
    if let Some(policy) = policy {
        return Ok(Gate::Guarded(routed, policy));
    }
    let identity = facts::headers(facts::Source {
        route: &routed.route,
        interaction_id: routed.inbound.head.interaction_id(),
        peer: &routed.inbound.peer,
        token: None,
    })?;
    Ok(Gate::Open(Authorized::new(routed, identity, None, None)))
}

/// Lets a request to an authorization server pass that was judged good, if its client assertion,
/// where it brought one, was found to be used for the first time.
///
/// # Errors
/// As [`Judged::unused`]; `claim_unprintable`, as for open routes.
pub(super) fn admit<B>(
    judged: Judged<B>,
    first: Option<ReplayKey>,
    now: UnixTime,
) -> Result<Authorized<B>, Refusal> {
    let routed = judged.unused(first, now)?;
    let identity = facts::headers(facts::Source {
        route: &routed.route,
        interaction_id: routed.inbound.head.interaction_id(),
        peer: &routed.inbound.peer,
        token: None,
    })?;
    Ok(Authorized::new(routed, identity, None, None))
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'e> {
    /// The verified token.
    pub(super) token: &'e VerifiedToken,
    /// What came beside it.
    pub(super) sender: Shown<'e>,
    /// The body, where it was read.
    pub(super) content: Option<&'e Content>,
}

/// Judges a request with its verified token, and then, whatever came of it, the shadow policy of
/// the route with the same evidence.
///
/// First whether the token is good here and now, its sender included; only then what it may do, so
/// that a stranger learns nothing of the policy (STEP-05); last the request's own headers.
///
/// # Errors
/// Any reason of class `Credential` or `Permission`, and `header_required`; with the request, so
/// that a route that is only observed can go on.
pub(super) fn decide<B>(
    routed: Routed<B>,
    policy: &Policy,
    evidence: Evidence<'_>,
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Authorized<B>, (Routed<B>, Refusal)> {
    let verdict = permit_whole(&routed, policy, evidence, now);
    if let Some(shadow) = &routed.route.shadow {
        let said = permit_whole(&routed, shadow, evidence, now);
        trail.shadow = Some(said.err().map(|refusal| refusal.reason()));
    }
    match verdict {
        Ok(permit) => Ok(Authorized::new(
            routed,
            permit.identity,
            Some(permit.expires),
            None,
        )),
        Err(refusal) => Err((routed, refusal)),
    }
}

/// Whether a request would pass with this token. A look and no permit: nothing comes of it. Rules
/// about a body that was not read are left open.
///
/// # Errors
/// As [`decide`].
pub(super) fn passes<B>(
    routed: &Routed<B>,
    policy: &Policy,
    evidence: Evidence<'_>,
    now: UnixTime,
) -> Result<(), Refusal> {
    permit(routed, policy, evidence, now).map(drop)
}

/// What can be said of the sender before anything is known of the token: a certificate must be
/// inside its dates, and under `Bearer` there must be one where unbound tokens do not pass.
///
/// # Errors
/// `certificate_required`, `certificate_expired`.
pub(super) fn could_pass<B>(
    routed: &Routed<B>,
    policy: &Policy,
    scheme: Scheme,
    now: UnixTime,
) -> Result<(), Refusal> {
    let peer = &*routed.inbound.peer;
    binding::dates(peer, now)?;
    let bearer = scheme == Scheme::Bearer;
    if bearer && peer.certificate.is_none() && !policy.binding.none {
        return Err(Refusal::new(Reason::CertificateRequired));
    }
    Ok(())
}

/// Lets a refused request pass where its route is only observed: without identity, marked as what
/// it is, and only until the date that the file names.
///
/// What is wrong with the token or its rights passes, and so does what could not be known; that is
/// what observing is for. A bug of ours does not. Whatever was refused before the route was found,
/// or for its certificate, never comes here.
///
/// # Errors
/// The refusal, where the route is enforced.
pub(super) fn observe<B>(
    routed: Routed<B>,
    refusal: Refusal,
    now: UnixTime,
) -> Result<Authorized<B>, Refusal> {
    if excused(&routed.route, &refusal, now) {
        Ok(Authorized::new(routed, Vec::new(), None, Some(refusal)))
    } else {
        Err(refusal)
    }
}

/// Whether a route lets this refusal go, because it is only observed.
pub(super) fn excused(route: &Route, refusal: &Refusal, now: UnixTime) -> bool {
    let observed = route.observe_until.is_some_and(|until| now < until);
    let excused = match refusal.reason().spec().class {
        Class::Credential | Class::Permission | Class::Undecided => true,
        Class::Request => matches!(
            refusal.reason(),
            Reason::HeaderRequired | Reason::BodyUnfit | Reason::BodyTooLarge
        ),
        Class::Local => refusal.reason() != Reason::Internal,
        Class::Upstream => false,
    };
    observed && excused
}

#[cfg(test)]
impl<B> Authorized<B> {
    /// A permit out of thin air, for the tests of those who send permitted requests on.
    pub(crate) fn for_tests(
        inbound: Inbound<B>,
        route: Arc<Route>,
        identity: Vec<(HeaderName, HeaderValue)>,
        expires: Option<UnixTime>,
    ) -> Self {
        Self {
            inbound: Box::new(inbound),
            route,
            identity,
            expires,
            observed: None,
        }
    }
}

impl<B> Authorized<B> {
    /// Private: the four functions above are the only ways.
    fn new(
        routed: Routed<B>,
        identity: Vec<(HeaderName, HeaderValue)>,
        expires: Option<UnixTime>,
        observed: Option<Refusal>,
    ) -> Self {
        let Routed {
            inbound,
            snapshot: _,
            route,
            token_bytes: _,
        } = routed;
        Self {
            inbound,
            route,
            identity,
            expires,
            observed,
        }
    }
}

/// What a satisfied policy gives.
struct Permit {
    identity: Vec<(HeaderName, HeaderValue)>,
    expires: UnixTime,
}

/// As [`permit`], once all that the policy looks at is there.
fn permit_whole<B>(
    routed: &Routed<B>,
    policy: &Policy,
    evidence: Evidence<'_>,
    now: UnixTime,
) -> Result<Permit, Refusal> {
    let permit = permit(routed, policy, evidence, now)?;
    let reads = policy.reads_body(routed.inbound.head.method()).is_some();
    if reads && evidence.content.is_none() {
        let why = "the policy looks at the body, and it was not read";
        return Err(Refusal::because(Reason::Internal, why));
    }
    Ok(permit)
}

fn permit<B>(
    routed: &Routed<B>,
    policy: &Policy,
    evidence: Evidence<'_>,
    now: UnixTime,
) -> Result<Permit, Refusal> {
    let Evidence {
        token,
        sender,
        content,
    } = evidence;
    let head = &routed.inbound.head;
    let peer = &*routed.inbound.peer;
    // An issuer that left the configuration is as unknown as one that never was in it.
    let issuer = routed
        .snapshot
        .issuer(token.issuer())
        .ok_or(Reason::IssuerUnknown)?;
    validity::judge(token, issuer, policy, now)?;
    binding::dates(peer, now)?;
    binding::prove(token, peer, policy.binding, sender)?;
    rights::judge((token, issuer), (head, peer), policy, content, now)?;
    for name in &policy.require_headers {
        required(head.headers(), name)?;
    }
    let identity = facts::headers(facts::Source {
        route: &routed.route,
        interaction_id: routed.inbound.head.interaction_id(),
        peer,
        token: Some((token, &**issuer)),
    })?;
    Ok(Permit {
        identity,
        expires: token.expires().later(issuer.exp_leeway),
    })
}

/// Once, and not empty. An interaction id that is none would be replaced by one of ours, so asking
/// for it asks for a UUID (FAPIH-07).
fn required(headers: &HeaderMap, name: &HeaderName) -> Result<(), Refusal> {
    let mut values = headers.get_all(name).iter();
    let fits = match (values.next(), values.next()) {
        (Some(value), None) if name.as_str() == "x-fapi-interaction-id" => {
            InteractionId::parse(value.as_bytes()).is_some()
        }
        (Some(value), None) => !value.as_bytes().trim_ascii().is_empty(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::because(
        Reason::HeaderRequired,
        format!("{name} is not there exactly once with a value that fits"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdp::route::tests::entry;

    /// AUTHZ-01: observing a route lets go what is wrong with who asks and what for. What is wrong
    /// with the HTTP, with us or with the upstream stays refused.
    #[test]
    fn what_an_observed_route_lets_go() {
        let until = UnixTime::from_secs(100);
        let (_, route) = entry("/a", &[], |route| route.observe_until = Some(until));
        for &reason in Reason::ALL {
            let lets_go = match reason.spec().class {
                Class::Credential | Class::Permission | Class::Undecided => true,
                Class::Request => matches!(
                    reason,
                    Reason::HeaderRequired | Reason::BodyUnfit | Reason::BodyTooLarge
                ),
                Class::Local => matches!(reason, Reason::Overloaded | Reason::AuditUnavailable),
                Class::Upstream => false,
            };
            let at = |seconds| excused(&route, &reason.into(), UnixTime::from_secs(seconds));
            assert_eq!(at(99), lets_go, "{reason:?}");
            assert!(!at(100), "{reason:?} after the last second");
        }
    }
}
