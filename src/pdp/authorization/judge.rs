//! All that is known, held together: may this request go to the authorization server?

use std::sync::Arc;

use super::client::{Authentication, Client};
use super::request::{Asks, Request};
use super::{Endpoint, Guard, outside, parameters};
use crate::pdp::binding;
use crate::pdp::dpop::ReplayKey;
use crate::pdp::keys::KeySet;
use crate::pdp::peer::Peer;
use crate::pdp::policy::Route;
use crate::pdp::rights;
use crate::pdp::route::Routed;
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal};

/// A request that may pass, with the request itself, so that it cannot be mixed up; only
/// [`judge`] makes it. Where it brought an assertion, that must be found unused yet.
#[must_use]
#[derive(Debug)]
pub(in crate::pdp) struct Judged<B> {
    routed: Routed<B>,
    single_use: Option<(ReplayKey, UnixTime)>,
    /// From then on what was judged is no longer good.
    until: Option<UnixTime>,
}

impl<B> Judged<B> {
    /// What its single use is remembered under, and until when.
    pub(in crate::pdp) const fn single_use(&self) -> Option<(ReplayKey, UnixTime)> {
        self.single_use
    }

    /// Its route.
    pub(super) const fn route(&self) -> &Arc<Route> {
        &self.routed.route
    }

    /// The request, if its assertion was found to be used for the first time, and all that was
    /// judged is still good.
    ///
    /// # Errors
    /// `internal` where nobody was asked about the assertion; `request_object_untimely`,
    /// `client_assertion_invalid` where the answer came too late.
    pub(in crate::pdp) fn unused(
        self,
        first: Option<ReplayKey>,
        now: UnixTime,
    ) -> Result<Routed<B>, Refusal> {
        if self.single_use.map(|(key, _)| key) != first {
            let why = "nobody was asked whether the assertion was used";
            return Err(Refusal::because(Reason::Internal, why));
        }
        if self.single_use.is_some_and(|(_, ends)| now >= ends) {
            return Err(Refusal::new(Reason::ClientAssertionInvalid));
        }
        if self.until.is_some_and(|until| now >= until) {
            return Err(Refusal::new(Reason::RequestObjectUntimely));
        }
        Ok(self.routed)
    }
}

/// Judges a request of a registered client: first who it is (401), then what it asks (400).
///
/// # Errors
/// Every reason about client authentication, request object and parameters.
pub(super) fn judge<B>(
    routed: Routed<B>,
    guard: &Guard,
    request: &Request,
    (client, keys): (&Client, Option<&Arc<KeySet>>),
    now: UnixTime,
) -> Result<Judged<B>, Refusal> {
    let keys = keys.map(|keys| &**keys);
    let single_use = match guard.endpoint {
        Endpoint::Authorize => None,
        Endpoint::Par | Endpoint::Token => {
            let peer = &*routed.inbound.peer;
            binding::dates(peer, now)?;
            authenticate(guard, request, (client, keys), peer, now)?
        }
    };
    let until = match &request.asks {
        Asks::Object(object) => {
            let keys = keys.ok_or_else(|| {
                let why = "the registry has no keys of the client";
                Refusal::because(Reason::RequestObjectSignature, why)
            })?;
            let until = object.judge(client, keys, &guard.server, now)?;
            outside::judge(&request.form, Some(object.claims()))?;
            parameters::judge(object.claims(), client, guard)?;
            Some(until)
        }
        Asks::Encrypted => {
            outside::judge(&request.form, None)?;
            None
        }
        Asks::Otherwise => None,
    };
    Ok(Judged {
        routed,
        single_use,
        until,
    })
}

/// The client authenticates in its registered way and in no other (RFC 6749 s2.3; JAR-15).
fn authenticate(
    guard: &Guard,
    request: &Request,
    (client, keys): (&Client, Option<&KeySet>),
    peer: &Peer,
    now: UnixTime,
) -> Result<Option<(ReplayKey, UnixTime)>, Refusal> {
    let missing = |why: &str| Refusal::because(Reason::ClientAuthenticationMissing, why);
    match (&request.assertion, client.authentication) {
        (Some(assertion), Authentication::PrivateKeyJwt) => {
            let keys = keys.ok_or_else(|| {
                let why = "the registry has no keys of the client";
                Refusal::because(Reason::ClientAssertionInvalid, why)
            })?;
            let used = assertion.judge(client, keys, &guard.server, now)?;
            if client.has_certificate_rules() {
                fits(guard, client, peer)?;
            }
            Ok(Some(used))
        }
        (None, Authentication::Tls | Authentication::SelfSignedTls) => {
            fits(guard, client, peer)?;
            Ok(None)
        }
        (None, Authentication::PrivateKeyJwt) => Err(missing(
            "the client is registered with private_key_jwt, and no assertion came",
        )),
        (Some(_), Authentication::Tls | Authentication::SelfSignedTls) => Err(missing(
            "the client is registered with mutual TLS, and an assertion came",
        )),
    }
}

/// Whether the connection's certificate is the client's (RFC 8705 s2).
fn fits(guard: &Guard, client: &Client, peer: &Peer) -> Result<(), Refusal> {
    let refused = |why: &str| Refusal::because(Reason::ClientCertificateMismatch, why);
    let Some(certificate) = &peer.certificate else {
        return Err(refused("the client sent no certificate"));
    };
    if !client.certificate.is_empty() {
        if !guard.vouched {
            let why = "the rules of the client are about names, and the listener has client_trust = \"any\": nobody vouches for those";
            return Err(refused(why));
        }
        rights::certificate(peer, &client.certificate).map_err(|_denied| {
            refused("certificate of the client's entry in the registry asks for another")
        })?;
    }
    let known = &client.thumbprints;
    if !known.is_empty() && !known.iter().any(|one| one.matches(&certificate.thumbprint)) {
        return Err(refused("its thumbprint is not registered"));
    }
    if !client.has_certificate_rules() {
        return Err(refused(
            "the registry says nothing of the client's certificate",
        ));
    }
    Ok(())
}
