//! The answer's fields: what a client may get of what the upstream sent.

use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderName};

use super::{HOP_BY_HOP, Names, Nominated, Special, filtered, not_in_trailers, trailer_names};

/// Removed from every answer. With a `*` at the end: every name that begins so.
static ALWAYS: LazyLock<Names> = LazyLock::new(|| {
    let ours = [
        // The id of the exchange is ours to set, once (FAPIH-05).
        "x-fapi-interaction-id",
        // The upstream must not steer clients around the gate.
        "alt-svc",
        // Certificates are not for answers (RFC 9440 s2.4).
        "client-cert*",
    ];
    Names::new(HOP_BY_HOP.iter().copied().chain(ours))
});

/// The fields of an upstream's answer that go to the client: the same, less those that do not.
///
/// `Content-Length` stays, once: hyper has refused lines that differ, and the caller refuses one
/// beside a `Transfer-Encoding`. The names of allowed trailers stay too. The order of fields of one
/// name is kept, which alone means something (RFC 9110 s5.3).
#[must_use]
pub fn response_fields(mut fields: HeaderMap) -> HeaderMap {
    let special = Special::of(&fields);
    let nominated = Nominated::of(&fields, special, &[]);
    let gone: Vec<HeaderName> = fields
        .keys()
        .filter(|name| ALWAYS.takes(name) || nominated.names(name))
        .cloned()
        .collect();
    let trailers = special
        .trailer
        .then(|| trailer_names(&fields, response_trailer))
        .flatten();
    for name in gone {
        fields.remove(name);
    }
    if let Some(names) = trailers {
        fields.insert(header::TRAILER, names);
    }
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(length), Some(_)) = (lengths.next(), lengths.next()) {
        let length = length.clone();
        fields.insert(header::CONTENT_LENGTH, length);
    }
    fields
}

/// The fields of an answer's trailer section that go to the client (HTTP-18).
#[must_use]
pub fn response_trailers(from: &HeaderMap) -> HeaderMap {
    filtered(from, response_trailer)
}

fn response_trailer(name: &HeaderName) -> bool {
    !ALWAYS.takes(name) && !not_in_trailers(name)
}
