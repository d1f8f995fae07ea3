//! The client assertion (RFC 7523 s3; FAPI 2.0 Security Profile s5.3.2.1): what a client signs to
//! say who it is.

use serde_json::Value;

use super::client::Client;
use super::jws::{Flaw, Jws};
use super::{Profile, Server};
use crate::pdp::dpop::ReplayKey;
use crate::pdp::keys::KeySet;
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal};

/// `client_assertion_type` (RFC 7523 s2.2).
pub(super) const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Values of `typ`; that of a request object is none of them, so that no request that travelled
/// through a browser can be taken for an authentication (RFC 8725 s3.11).
const TYPES: [&str; 2] = ["client-authentication+jwt", "jwt"];

/// A client assertion, taken apart.
#[derive(Debug)]
pub(super) struct Assertion(Jws);

impl Assertion {
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let assertion = Jws::read(text, &TYPES).map_err(refused)?;
        // A request object without typ (RFC 9101 s10.8).
        let request = [
            "response_type",
            "redirect_uri",
            "request_uri",
            "code_challenge",
        ];
        if request
            .iter()
            .any(|name| assertion.claims().contains_key(*name))
        {
            let why = "it holds parameters of an authorization request";
            return Err(refused(Flaw::Form(why.to_owned())));
        }
        Ok(Self(assertion))
    }

    pub(super) const fn jws(&self) -> &Jws {
        &self.0
    }

    /// `sub`, unverified: whose keys to look for.
    pub(super) fn subject(&self) -> Result<&str, Refusal> {
        let subject = self.0.text("sub").map_err(refused)?;
        subject.ok_or_else(|| refused(Flaw::Form("there is no sub".to_owned())))
    }

    /// Whether it is this client's, for this server, signed with one of these keys and good now.
    /// Gives what its single use is remembered under, and until when.
    pub(super) fn judge(
        &self,
        client: &Client,
        keys: &KeySet,
        server: &Server,
        now: UnixTime,
    ) -> Result<(ReplayKey, UnixTime), Refusal> {
        self.found(client, keys, server, now).map_err(refused)
    }

    fn found(
        &self,
        client: &Client,
        keys: &KeySet,
        server: &Server,
        now: UnixTime,
    ) -> Result<(ReplayKey, UnixTime), Flaw> {
        let assertion = &self.0;
        assertion.algorithm(&server.algorithms, client.assertion_algorithm)?;
        assertion.verify(keys)?;
        for name in ["iss", "sub"] {
            if assertion.text(name)? != Some(&*client.id) {
                return Err(Flaw::Mismatch(format!("{name} is not the client's id")));
            }
        }
        let ours = |value: &Value| {
            let name = value.as_str();
            let known = &server.assertion_audience;
            name.is_some_and(|name| known.iter().any(|one| **one == *name))
        };
        let addressed = match (assertion.claims().get("aud"), server.profile) {
            (Some(one @ Value::String(_)), _) => ours(one),
            (Some(Value::Array(many)), Profile::Fapi1Advanced) => many.iter().any(ours),
            (_, Profile::Fapi2 | Profile::Fapi1Advanced) => false,
        };
        if !addressed {
            let why = "aud is not the issuer of the authorization server, as a string";
            return Err(Flaw::Mismatch(why.to_owned()));
        }
        let late = |why: &str| Err(Flaw::Time(why.to_owned()));
        let Some(ends) = assertion.date("exp")? else {
            return late("there is no exp");
        };
        if now >= ends {
            return late("exp is past");
        }
        if ends.since(now) > server.max_assertion_lifetime {
            return late("exp lies further ahead than max_assertion_lifetime");
        }
        let latest = now.later(server.clock_skew);
        for name in ["nbf", "iat"] {
            if assertion.date(name)?.is_some_and(|date| date > latest) {
                return late("nbf or iat lies further ahead than clock_skew");
            }
        }
        let id = assertion.id()?;
        let id = id.ok_or_else(|| Flaw::Form("there is no jti".to_owned()))?;
        let key = ReplayKey::of_assertion(&server.issuer, &client.id, id);
        Ok((key, ends))
    }
}

/// Client authentication failed (RFC 6749 s5.2, `invalid_client`).
fn refused(flaw: Flaw) -> Refusal {
    let why = match flaw {
        Flaw::Form(why)
        | Flaw::Algorithm(why)
        | Flaw::Signature(why)
        | Flaw::Mismatch(why)
        | Flaw::Time(why) => why,
    };
    let why = format!("the client assertion: {why}");
    Refusal::because(Reason::ClientAssertionInvalid, why)
}
