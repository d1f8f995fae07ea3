//! The request as the upstream gets it: made from the canonical one, at each try anew, so that no
//! try sees what another left.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

use super::Protocol;
use super::shared::ServerState;
use super::upload::Upload;
use super::websocket::Opening;
use crate::http::fields::{FieldRules, Received, identify, request_fields};
use crate::pdp::{HeadParts, Route};
use crate::refusal::{Reason, Refusal};

/// Everything of a request that does not depend on the server that gets it.
pub(super) struct Outgoing<'a> {
    pub(super) head: &'a HeadParts,
    pub(super) rules: &'a FieldRules,
    pub(super) identity: &'a [(HeaderName, HeaderValue)],
    pub(super) received: Received<'a>,
    /// Path and query after the route's rewrite.
    target: PathAndQuery,
    /// What goes with the head.
    pub(super) body: Framing,
    /// The client opens a WebSocket.
    pub(super) opening: Option<&'a Opening>,
}

/// Whether a body follows, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body.
    None,
    /// A body of this length.
    Length(u64),
    /// A body that says itself where it ends.
    Open,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(
        head: &'a HeadParts,
        route: &Route,
        rules: &'a FieldRules,
        identity: &'a [(HeaderName, HeaderValue)],
        received: Received<'a>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            head,
            rules,
            identity,
            received,
            target: rewritten(route, &head.path_and_query)?,
            body: Framing::None,
            opening: None,
        })
    }

    /// The request for one server.
    pub(super) fn request(
        &self,
        server: &ServerState,
        protocol: Protocol,
        tls: bool,
        upload: Upload,
    ) -> Result<Request<Upload>, Refusal> {
        let host = match self.rules.host() {
            Some(host) => host.clone(),
            None if self.received.authority.is_empty() => value(&server.authority)?,
            None => match self.received.host() {
                Some(host) => host,
                None => value(self.received.authority)?,
            },
        };
        let target = prefixed(&server.server.prefix, &self.target)?;
        let mut fields = request_fields(&self.head.headers, self.rules);
        identify(&mut fields, &self.received, host.clone(), self.identity);
        let uri = match protocol {
            Protocol::Http1 => {
                self.frame_http1(&mut fields);
                Uri::from(target)
            }
            Protocol::Http2 => {
                // `Host` is `:authority` there (RFC 9113 s8.3.1).
                fields.remove(header::HOST);
                if let Framing::Length(length) = self.body {
                    fields.insert(header::CONTENT_LENGTH, length.into());
                }
                absolute(target, &host, tls)?
            }
        };
        let mut request = Request::new(upload);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = match protocol {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        };
        *request.headers_mut() = fields;
        Ok(request)
    }

    /// Framing and hop-by-hop fields of an HTTP/1.1 connection. The framing is always written out:
    /// hyper would send no body at all with a GET whose length it does not know.
    fn frame_http1(&self, fields: &mut HeaderMap) {
        match self.body {
            Framing::None => {
                fields.remove(header::TRAILER);
                // RFC 9110 s8.6: where the method gives a body a meaning, none is said too.
                let expects =
                    matches!(self.head.method, Method::POST | Method::PUT | Method::PATCH);
                if expects || self.head.headers.contains_key(header::CONTENT_LENGTH) {
                    fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
            }
            // Trailers need chunks.
            Framing::Length(length) if !fields.contains_key(header::TRAILER) => {
                fields.insert(header::CONTENT_LENGTH, length.into());
            }
            Framing::Length(_) | Framing::Open => {
                fields.insert(
                    header::TRANSFER_ENCODING,
                    HeaderValue::from_static("chunked"),
                );
            }
        }
        if let Some(opening) = self.opening {
            opening.ask(fields);
        } else if fields.contains_key(header::TE) {
            // RFC 9110 s10.1.4: TE is for the next hop alone, and must be said to be.
            fields.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
    }
}

/// What was judged good cannot be sent: a bug of ours.
fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::because(Reason::Internal, error.to_string())
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|error| internal(&error))
}

/// The target after the route's rewrite; octet for octet the client's without one (HTTP-09).
fn rewritten(route: &Route, target: &PathAndQuery) -> Result<PathAndQuery, Refusal> {
    let Some(rewrite) = &route.rewrite else {
        return Ok(target.clone());
    };
    let Some(mut path) = rewrite.apply(target.path(), route.case_insensitive) else {
        return Err(Refusal::because(
            Reason::RouteNotFound,
            "the path does not begin with rewrite.from of the route",
        ));
    };
    if let Some(query) = target.query() {
        path.push('?');
        path.push_str(query);
    }
    parse(path)
}

fn prefixed(prefix: &str, target: &PathAndQuery) -> Result<PathAndQuery, Refusal> {
    if prefix.is_empty() {
        return Ok(target.clone());
    }
    parse(format!("{prefix}{target}"))
}

fn parse(target: String) -> Result<PathAndQuery, Refusal> {
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).map_err(|error| internal(&error))
}

fn absolute(target: PathAndQuery, host: &HeaderValue, tls: bool) -> Result<Uri, Refusal> {
    let authority = Authority::try_from(host.as_bytes()).map_err(|error| internal(&error))?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|error| internal(&error))
}
