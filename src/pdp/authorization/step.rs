//! The machine of such a route: body → client → keys → whether an assertion is used for the first
//! time. Each is asked at most once, so it ends.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use super::client::{Client, ClientKeys};
use super::form::Form;
use super::judge::{Judged, judge};
use super::request::Request;
use super::{Endpoint, Guard};
use crate::pdp::authorize::{self, Authorized};
use crate::pdp::dpop::ReplayRule;
use crate::pdp::keys::KeySet;
use crate::pdp::policy::{Algorithm, Route};
use crate::pdp::route::Routed;
use crate::pdp::step::{Answer, Ask, Trail};
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal};

/// A key of a client that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `kid`, unverified.
    pub key_id: Option<Box<str>>,
    /// `alg`, unverified.
    pub algorithm: Algorithm,
}

/// A request whose decision waits for an answer.
#[derive(Debug)]
pub(in crate::pdp) struct Pending<B> {
    guard: Arc<Guard>,
    state: State<B>,
}

#[derive(Debug)]
enum State<B> {
    /// Its body is not read.
    Unread(Routed<B>),
    /// Its client is not known.
    Unnamed(Routed<B>, Box<Request>),
    /// The keys of its client are elsewhere.
    Unkeyed(Routed<B>, Box<Request>, Arc<Client>),
    /// It would pass if its assertion is new.
    Unused(Judged<B>),
}

/// What comes next.
pub(in crate::pdp) enum Next<B> {
    /// A question.
    Ask(Arc<Route>, Ask, Pending<B>),
    /// The end.
    Done(Authorized<B>),
}

/// Starts the decision, with what the head alone says.
///
/// # Errors
/// `form_malformed`, `client_authentication_missing`.
pub(in crate::pdp) fn begin<B>(routed: Routed<B>, guard: &Arc<Guard>) -> Result<Next<B>, Refusal> {
    let head = &routed.inbound.head;
    let by_query = guard.endpoint == Endpoint::Authorize && *head.method() != Method::POST;
    if !by_query {
        is_form(head.headers())?;
        if head.query().is_some_and(|query| !query.is_empty()) {
            // RFC 6749 s3.2, RFC 9126 s2: many servers merge both.
            return Err(malformed(
                "parameters stand in the query, and go into the body",
            ));
        }
    }
    if guard.endpoint != Endpoint::Authorize && head.headers().contains_key(header::AUTHORIZATION) {
        let why = "an Authorization header came: FAPI takes assertions and certificates alone";
        return Err(Refusal::because(Reason::ClientAuthenticationMissing, why));
    }
    // A GET has no body; asking for nothing of it sees to that.
    let limit = if by_query { 0 } else { guard.form_bytes };
    let state = State::Unread(routed);
    Ok(asks(Arc::clone(guard), state, Ask::Body { limit }))
}

impl<B> Pending<B> {
    /// The request, while it is not judged.
    pub(in crate::pdp) const fn routed_mut(&mut self) -> Option<&mut Routed<B>> {
        match &mut self.state {
            State::Unread(routed) | State::Unnamed(routed, _) | State::Unkeyed(routed, ..) => {
                Some(routed)
            }
            State::Unused(_) => None,
        }
    }

    /// Goes on with the answer to the question that was asked.
    ///
    /// # Errors
    /// Every reason of such a route; `internal` if the answer is to another question.
    pub(in crate::pdp) fn resume(
        self,
        ask: Ask,
        answer: Answer,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Next<B>, Refusal> {
        let Self { guard, state } = self;
        match (state, ask, answer) {
            (State::Unread(routed), Ask::Body { limit }, Answer::Body(body))
                if body.len() <= limit =>
            {
                let form = form(&routed, &guard, &body)?;
                let request = Request::read(form, &guard)?;
                let ask = Ask::Client {
                    server: Arc::clone(&guard.server),
                    client_id: request.client_id.clone(),
                };
                let state = State::Unnamed(routed, Box::new(request));
                Ok(asks(guard, state, ask))
            }
            (State::Unnamed(routed, request), Ask::Client { .. }, Answer::Client(client)) => {
                let client = registered(client, &request, &guard)?;
                trail.client = Some(Arc::clone(&client));
                let wanted = request.wants();
                let keys = match &client.keys {
                    ClientKeys::At(_) if !wanted.is_empty() => {
                        let ask = Ask::ClientKeys {
                            client: Arc::clone(&client),
                            wanted,
                        };
                        let state = State::Unkeyed(routed, request, client);
                        return Ok(asks(guard, state, ask));
                    }
                    ClientKeys::None | ClientKeys::At(_) => None,
                    ClientKeys::Held(keys) => Some(Arc::clone(keys)),
                };
                found(routed, guard, &request, (&client, keys), now)
            }
            (
                State::Unkeyed(routed, request, client),
                Ask::ClientKeys { .. },
                Answer::Keys(keys),
            ) => found(routed, guard, &request, (&client, Some(keys)), now),
            (State::Unused(judged), Ask::FirstUse { key, .. }, Answer::FirstUse(first)) => {
                if first {
                    authorize::admit(judged, Some(key), now).map(Next::Done)
                } else {
                    Err(Refusal::new(Reason::ClientAssertionReplayed))
                }
            }
            _ => Err(Refusal::because(
                Reason::Internal,
                "the answer is to another question",
            )),
        }
    }
}

fn asks<B>(guard: Arc<Guard>, state: State<B>, ask: Ask) -> Next<B> {
    let route = match &state {
        State::Unread(routed) | State::Unnamed(routed, _) | State::Unkeyed(routed, ..) => {
            &routed.route
        }
        State::Unused(judged) => judged.route(),
    };
    Next::Ask(Arc::clone(route), ask, Pending { guard, state })
}

/// All is there.
fn found<B>(
    routed: Routed<B>,
    guard: Arc<Guard>,
    request: &Request,
    (client, keys): (&Client, Option<Arc<KeySet>>),
    now: UnixTime,
) -> Result<Next<B>, Refusal> {
    let judged = judge(routed, &guard, request, (client, keys.as_ref()), now)?;
    let Some((key, until)) = judged.single_use() else {
        return authorize::admit(judged, None, now).map(Next::Done);
    };
    let state = State::Unused(judged);
    let ask = Ask::FirstUse {
        key,
        until,
        life: guard.server.max_assertion_lifetime,
        rule: ReplayRule::Refuse,
    };
    Ok(asks(guard, state, ask))
}

/// The client, if it is the one that was asked for and may act.
fn registered(
    client: Option<Arc<Client>>,
    request: &Request,
    guard: &Guard,
) -> Result<Arc<Client>, Refusal> {
    let Some(client) = client else {
        // RFC 6749 s5.2 has 401 for who wants to authenticate; a browser could do nothing with it.
        return Err(Refusal::new(match guard.endpoint {
            Endpoint::Authorize => Reason::AuthorizeClientUnknown,
            Endpoint::Par | Endpoint::Token => Reason::ClientUnknown,
        }));
    };
    let elsewhere = client
        .issuer
        .as_ref()
        .is_some_and(|own| *own != guard.server.issuer);
    if client.id != request.client_id || elsewhere {
        return Err(Refusal::because(
            Reason::Internal,
            "another client was found",
        ));
    }
    if client.active {
        Ok(client)
    } else {
        Err(Refusal::new(Reason::ClientInactive))
    }
}

/// One `Content-Type`, that of a form, and nothing that hides what the body says.
fn is_form(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(malformed("the body is encoded"));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return Err(malformed("there is not exactly one Content-Type"));
    };
    let text = only.to_str().unwrap_or_default();
    let (kind, rest) = text
        .split_once(';')
        .map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let form = kind
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded");
    let utf8 = rest.is_none_or(|rest| {
        let rest = rest.trim().replace('"', "");
        rest.eq_ignore_ascii_case("charset=utf-8")
    });
    if form && utf8 {
        Ok(())
    } else {
        Err(malformed(
            "Content-Type is not application/x-www-form-urlencoded in UTF-8",
        ))
    }
}

fn form<B>(routed: &Routed<B>, guard: &Guard, body: &Bytes) -> Result<Form, Refusal> {
    let head = &routed.inbound.head;
    let by_query = guard.endpoint == Endpoint::Authorize && *head.method() != Method::POST;
    let text = if by_query {
        head.query().unwrap_or_default().as_bytes()
    } else {
        body
    };
    Form::parse(text).map_err(malformed)
}

fn malformed(why: &str) -> Refusal {
    Refusal::because(Reason::FormMalformed, why)
}
