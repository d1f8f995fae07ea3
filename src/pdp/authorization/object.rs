//! The request object (RFC 9101; FAPI 2.0 Message Signing s5.3.1): what a client signs of its
//! authorization request.

use serde_json::{Map, Value};

use super::Server;
use super::client::Client;
use super::jws::{Flaw, Jws};
use crate::pdp::keys::KeySet;
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal};

/// Values of `typ`: that of RFC 9101 s10.8, and the one that says nothing (JAR-11).
const TYPES: [&str; 2] = ["oauth-authz-req+jwt", "jwt"];

/// A request object, taken apart.
#[derive(Debug)]
pub(super) struct RequestObject(Jws);

impl RequestObject {
    /// Takes it apart, and looks at what needs no key: its form, and that it holds no other
    /// request (RFC 9101 s4, JAR-08).
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let object = Jws::read(text, &TYPES).map_err(refused)?;
        let nested = ["request", "request_uri"];
        if nested
            .iter()
            .any(|name| object.claims().contains_key(*name))
        {
            let why = "the request object holds request or request_uri (RFC 9101 s4)";
            return Err(Refusal::because(Reason::RequestUriForbidden, why));
        }
        Ok(Self(object))
    }

    pub(super) const fn jws(&self) -> &Jws {
        &self.0
    }

    /// The parameters. Proven only once [`Self::judge`] found no flaw.
    pub(super) const fn claims(&self) -> &Map<String, Value> {
        self.0.claims()
    }

    /// Whether it is this client's, for this server, signed with one of these keys and good now.
    /// Gives the moment from which on it is no longer good.
    pub(super) fn judge(
        &self,
        client: &Client,
        keys: &KeySet,
        server: &Server,
        now: UnixTime,
    ) -> Result<UnixTime, Refusal> {
        self.found(client, keys, server, now).map_err(refused)
    }

    fn found(
        &self,
        client: &Client,
        keys: &KeySet,
        server: &Server,
        now: UnixTime,
    ) -> Result<UnixTime, Flaw> {
        let object = &self.0;
        object.algorithm(&server.algorithms, client.object_algorithm)?;
        object.verify(keys)?;
        // JAR-07; RFC 9101 s5 and s10.8.
        for name in ["client_id", "iss"] {
            if object.text(name)? != Some(&*client.id) {
                return Err(Flaw::Mismatch(format!("{name} is not the client's id")));
            }
        }
        // JAR-04.
        let names = |value: &Value| match value {
            Value::String(name) => server.audience.iter().any(|one| **one == **name),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => false,
        };
        let addressed = match object.claims().get("aud") {
            Some(Value::Array(many)) => many.iter().any(names),
            Some(one) => names(one),
            None => false,
        };
        if !addressed {
            let why = "aud neither is nor holds the issuer of the authorization server";
            return Err(Flaw::Mismatch(why.to_owned()));
        }
        self.timely(server, now)
    }

    /// JAR-05, JAR-06.
    fn timely(&self, server: &Server, now: UnixTime) -> Result<UnixTime, Flaw> {
        let late = |why: &str| Err(Flaw::Time(why.to_owned()));
        let Some(begins) = self.0.date("nbf")? else {
            return late("there is no nbf");
        };
        let Some(ends) = self.0.date("exp")? else {
            return late("there is no exp");
        };
        let latest = now.later(server.clock_skew);
        if begins > latest || self.0.date("iat")?.is_some_and(|issued| issued > latest) {
            return late("nbf or iat lies further ahead than clock_skew");
        }
        if now.since(begins) > server.max_object_age {
            return late("nbf is longer ago than max_object_age");
        }
        if ends <= begins {
            return late("exp is not after nbf");
        }
        if ends.since(begins) > server.max_object_lifetime {
            return late("exp is later after nbf than max_object_lifetime");
        }
        if now >= ends {
            return late("exp is past");
        }
        Ok(ends.min(begins.later(server.max_object_age)))
    }
}

/// A request object that is not good (RFC 9101 s7, `invalid_request_object`).
fn refused(flaw: Flaw) -> Refusal {
    let (reason, why) = match flaw {
        Flaw::Form(why) => (Reason::RequestObjectMalformed, why),
        Flaw::Algorithm(why) => (Reason::RequestObjectAlgorithm, why),
        Flaw::Signature(why) => (Reason::RequestObjectSignature, why),
        Flaw::Mismatch(why) => (Reason::RequestObjectMismatch, why),
        Flaw::Time(why) => (Reason::RequestObjectUntimely, why),
    };
    Refusal::because(reason, format!("the request object: {why}"))
}
