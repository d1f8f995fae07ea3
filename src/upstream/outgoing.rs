//! The request as the upstream gets it: made from the canonical one, at each try anew, so that no
//! try sees what another left.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

use super::http1::{self, Connection};
use super::shared::ServerState;
use super::upload::Upload;
use super::websocket::Opening;
use crate::http::fields::{
    FieldRules, Received, each_field, each_of_ours, identify, request_fields, trailers,
};
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

    /// Begins the request on a connection of HTTP/1.1 to a server: its head is written as it will
    /// go, without a map of fields in between.
    pub(super) fn begin(
        &self,
        connection: &mut Connection,
        server: &ServerState,
        upload: Option<Upload>,
    ) -> Result<(), Refusal> {
        let host = self.host(server)?;
        let target = prefixed(&server.server.prefix, &self.target)?;
        let method = &self.head.method;
        let chunked = match self.body {
            Framing::None => false,
            // Trailers need chunks.
            Framing::Length(_) => trailers(&self.head.headers, self.rules).is_some(),
            Framing::Open => true,
        };
        let head = |to: &mut Vec<u8>| {
            to.extend_from_slice(method.as_str().as_bytes());
            to.push(b' ');
            to.extend_from_slice(target.as_str().as_bytes());
            to.extend_from_slice(b" HTTP/1.1\r\n");
            let mut te = false;
            each_field(&self.head.headers, self.rules, |name, value| {
                te |= name == header::TE;
                // Without a body there is nothing that they could come after.
                if self.body != Framing::None || name != header::TRAILER {
                    http1::field(to, name.as_str(), value.as_bytes());
                }
            });
            each_of_ours(&self.received, &host, self.identity, |name, value| {
                http1::field(to, name.as_str(), value.as_bytes());
            });
            self.frame(chunked, to);
            if self.opening.is_some() {
                to.extend_from_slice(Opening::LINES);
            } else if te {
                // RFC 9110 s10.1.4: TE is for the next hop alone, and must be said to be.
                to.extend_from_slice(b"connection: te\r\n");
            }
            to.extend_from_slice(b"\r\n");
        };
        let framing = if chunked {
            http1::Framing::Chunked
        } else {
            http1::Framing::Plain
        };
        connection.begin(method, head, upload, framing);
        Ok(())
    }

    /// Says where the body ends.
    fn frame(&self, chunked: bool, to: &mut Vec<u8>) {
        match self.body {
            _ if chunked => to.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::Length(length) => {
                let mut digits = itoa::Buffer::new();
                http1::field(to, "content-length", digits.format(length).as_bytes());
            }
            Framing::None => {
                // RFC 9110 s8.6: where the method gives a body a meaning, none is said too.
                let expects =
                    matches!(self.head.method, Method::POST | Method::PUT | Method::PATCH);
                if expects || self.head.headers.contains_key(header::CONTENT_LENGTH) {
                    to.extend_from_slice(b"content-length: 0\r\n");
                }
            }
            Framing::Open => {}
        }
    }

    /// `Host` for this server.
    fn host(&self, server: &ServerState) -> Result<HeaderValue, Refusal> {
        match self.rules.host() {
            Some(host) => Ok(host.clone()),
            None if self.received.authority.is_empty() => value(&server.authority),
            None => match self.received.host() {
                Some(host) => Ok(host),
                None => value(self.received.authority),
            },
        }
    }

    /// The request for a server that speaks HTTP/2.
    pub(super) fn request(
        &self,
        server: &ServerState,
        tls: bool,
        upload: Upload,
    ) -> Result<Request<Upload>, Refusal> {
        let host = self.host(server)?;
        let target = prefixed(&server.server.prefix, &self.target)?;
        let mut fields = request_fields(&self.head.headers, self.rules);
        identify(&mut fields, &self.received, &host, self.identity);
        // It is `:authority` there (RFC 9113 s8.3.1).
        fields.remove(header::HOST);
        if let Framing::Length(length) = self.body {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        let mut request = Request::new(upload);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = absolute(target, &host, tls)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = fields;
        Ok(request)
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
