//! The answer's fields: what a client may get of what the upstream sent.

use http::header::{self, HeaderMap, HeaderName};

use super::{Nominated, filtered, listed, not_in_trailers, trailer_names};

/// Removed from every answer. With a `*` at the end: every name that begins so.
const ALWAYS: &[&str] = &[
    // Hop by hop, and framing.
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-*",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // The id of the exchange is ours to set, once (FAPIH-05).
    "x-fapi-interaction-id",
    // The upstream must not steer clients around the gate.
    "alt-svc",
    // Certificates are not for answers (RFC 9440 s2.4).
    "client-cert*",
];

/// The fields of an upstream's answer that go to the client, in their order.
///
/// `Content-Length` stays: hyper has refused lines that differ, and the caller refuses one beside
/// a `Transfer-Encoding`. The names of allowed trailers stay too.
#[must_use]
pub fn response_fields(from: &HeaderMap) -> HeaderMap {
    let nominated = Nominated::of(from, &[]);
    let mut to = HeaderMap::with_capacity(from.len().saturating_add(4));
    for (name, value) in from {
        if listed(ALWAYS, name) || nominated.names(name) {
            continue;
        }
        if name == header::CONTENT_LENGTH {
            to.insert(name, value.clone());
        } else {
            to.append(name, value.clone());
        }
    }
    trailer_names(from, &mut to, response_trailer);
    to
}

/// The fields of an answer's trailer section that go to the client (HTTP-18).
#[must_use]
pub fn response_trailers(from: &HeaderMap) -> HeaderMap {
    filtered(from, response_trailer)
}

fn response_trailer(name: &HeaderName) -> bool {
    !listed(ALWAYS, name) && !not_in_trailers(name)
}
