//! What a request brings, before anybody is asked about its client: cheap refusals first.

use super::assertion::{Assertion, KIND};
use super::form::Form;
use super::object::RequestObject;
use super::step::Wanted;
use super::{Endpoint, Guard, Profile};
use crate::pdp::jwt::parts;
use crate::refusal::{Reason, Refusal};

/// Bytes of a `client_id`; it is looked up and logged.
const CLIENT_ID_BYTES: usize = 256;
/// Bytes of a `request_uri` (RFC 9101 s5.2 has 512 ASCII characters).
const REQUEST_URI_BYTES: usize = 512;

/// A request whose form is good.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) form: Form,
    /// Whom it names, unproven.
    pub(super) client_id: Box<str>,
    pub(super) assertion: Option<Assertion>,
    pub(super) asks: Asks,
}

/// How it says what it asks for.
#[derive(Debug)]
pub(super) enum Asks {
    /// With a request object.
    Object(RequestObject),
    /// With one that nobody here can look into.
    Encrypted,
    /// With what was pushed before, or not at all: the token endpoint.
    Otherwise,
}

impl Request {
    /// Reads what the endpoint of the guard takes.
    ///
    /// # Errors
    /// Every reason about form, `request_uri`, request object and client authentication that can be
    /// known without the client.
    pub(super) fn read(form: Form, guard: &Guard) -> Result<Self, Refusal> {
        match guard.endpoint {
            Endpoint::Authorize => Self::front(form, guard),
            Endpoint::Par => {
                if form.has("request_uri") {
                    let why = "request_uri came to the endpoint that gives them (RFC 9126 s2.1)";
                    return Err(Refusal::because(Reason::RequestUriForbidden, why));
                }
                let (client_id, assertion) = authenticating(&form)?;
                let asks = object(&form, guard)?;
                Ok(Self {
                    form,
                    client_id,
                    assertion,
                    asks,
                })
            }
            Endpoint::Token => {
                let (client_id, assertion) = authenticating(&form)?;
                Ok(Self {
                    form,
                    client_id,
                    assertion,
                    asks: Asks::Otherwise,
                })
            }
        }
    }

    /// `/authorize`: through the user's browser, so nobody authenticates.
    fn front(form: Form, guard: &Guard) -> Result<Self, Refusal> {
        let client_id = named(form.value("client_id"), Reason::ParameterInvalid)?;
        let reference = form.value("request_uri");
        let asks = match reference {
            Some(_) if form.has("request") => {
                let why = "request and request_uri came together (RFC 9101 s5)";
                return Err(Refusal::because(Reason::RequestUriForbidden, why));
            }
            Some(uri) => {
                given(uri, guard)?;
                // FAPI 2.0 Security Profile s5.3.3.2: what was pushed is all that counts.
                let others = form.entries().map(|(name, _)| name);
                if others
                    .into_iter()
                    .any(|name| !matches!(name, "client_id" | "request_uri"))
                {
                    let why = "a parameter beside client_id and request_uri, which cannot be compared with what was pushed";
                    return Err(Refusal::because(Reason::ParameterConflict, why));
                }
                Asks::Otherwise
            }
            None if guard.server.profile == Profile::Fapi2 => {
                return Err(Refusal::new(Reason::RequestUriMissing));
            }
            None => object(&form, guard)?,
        };
        Ok(Self {
            form,
            client_id,
            assertion: None,
            asks,
        })
    }

    /// The keys of the client that are wanted.
    pub(super) fn wants(&self) -> Vec<Wanted> {
        let assertion = self.assertion.as_ref().map(Assertion::jws);
        let object = match &self.asks {
            Asks::Object(object) => Some(object.jws()),
            Asks::Encrypted | Asks::Otherwise => None,
        };
        let signed = assertion.into_iter().chain(object);
        signed
            .map(|jws| Wanted {
                key_id: jws.header().key_id().map(Into::into),
                algorithm: jws.header().algorithm(),
            })
            .collect()
    }
}

/// The request object, if it is one.
fn object(form: &Form, guard: &Guard) -> Result<Asks, Refusal> {
    let Some(text) = form.value("request") else {
        return Err(Refusal::new(Reason::RequestObjectMissing));
    };
    // RFC 7516 s7.1: five parts.
    if parts(text.as_bytes()).is_none() && text.split('.').count() == 5 {
        if guard.encrypted {
            return Ok(Asks::Encrypted);
        }
        let why =
            "the request object is encrypted, and encrypted of the route does not let it pass";
        return Err(Refusal::because(Reason::RequestObjectMalformed, why));
    }
    RequestObject::read(text).map(Asks::Object)
}

/// Who says to be the client at `/par` and `/token`, and with which assertion.
fn authenticating(form: &Form) -> Result<(Box<str>, Option<Assertion>), Refusal> {
    let missing = |why: &str| Refusal::because(Reason::ClientAuthenticationMissing, why);
    if form.has("client_secret") {
        return Err(missing(
            "a client secret came, which no profile of FAPI takes",
        ));
    }
    let assertion = match (
        form.value("client_assertion"),
        form.value("client_assertion_type"),
    ) {
        (None, None) => None,
        (Some(text), Some(KIND)) => Some(Assertion::read(text)?),
        _ => {
            return Err(missing(
                "client_assertion and client_assertion_type of RFC 7523 s2.2 do not come together",
            ));
        }
    };
    let claimed = match (form.value("client_id"), &assertion) {
        (Some(id), _) => id,
        (None, Some(assertion)) => assertion.subject()?,
        (None, None) => return Err(missing("neither client_id nor client_assertion came")),
    };
    let client_id = named(Some(claimed), Reason::ClientAuthenticationMissing)?;
    Ok((client_id, assertion))
}

fn named(client_id: Option<&str>, reason: Reason) -> Result<Box<str>, Refusal> {
    match client_id {
        None => Err(Refusal::because(reason, "there is no client_id")),
        Some(id) if id.len() > CLIENT_ID_BYTES || id.chars().any(char::is_control) => {
            Err(Refusal::because(
                reason,
                "client_id is longer than 256 bytes, or has a control character",
            ))
        }
        Some(id) => Ok(id.into()),
    }
}

/// Whether a `request_uri` is one that the server gave (JAR-08, JAR-12).
fn given(uri: &str, guard: &Guard) -> Result<(), Refusal> {
    let rest = uri.strip_prefix(&*guard.server.request_uri_prefix);
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    if uri.len() <= REQUEST_URI_BYTES && rest.is_some_and(plain) {
        return Ok(());
    }
    let why = "request_uri does not begin as those of the authorization server do";
    Err(Refusal::because(Reason::RequestUriForeign, why))
}
