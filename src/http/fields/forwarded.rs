//! What the upstream is told by us: who asked, through whom, and for what.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::elements;
use crate::pdp::credential::is_tchar;
use crate::pdp::{INTERACTION_ID, InteractionId};

/// Our name in `Via`: a pseudonym, no host name of ours (RFC 9110 s7.6.3).
const PSEUDONYM: &str = "portcullis";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How a request came to us.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Address of the client's end.
    pub client: IpAddr,
    /// `https`, or what the listener speaks.
    pub scheme: &'static str,
    /// Host and port as the client named them; empty if it named none.
    pub authority: &'a str,
    /// The HTTP version that the client spoke.
    pub version: Version,
    /// The id of the exchange.
    pub interaction_id: InteractionId,
    /// What was said of the client last.
    pub introduction: &'a Introduction,
}

/// The lines that introduce a client to an upstream: of one connection, written for its first
/// request and again when a request says otherwise where it wants to go.
#[derive(Debug, Default)]
pub struct Introduction(RefCell<Option<Box<Lines>>>);

#[derive(Debug)]
struct Lines {
    client: IpAddr,
    scheme: &'static str,
    authority: Box<str>,
    forwarded: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    /// The authority, where there is one.
    host: Option<HeaderValue>,
}

impl Lines {
    fn of(received: &Received<'_>) -> Self {
        let authority = Some(received.authority).filter(|authority| !authority.is_empty());
        let client = received.client.to_canonical().to_string();
        Self {
            client: received.client,
            scheme: received.scheme,
            authority: received.authority.into(),
            forwarded: forwarded(received),
            forwarded_for: HeaderValue::try_from(client).ok(),
            host: authority.and_then(|authority| HeaderValue::from_str(authority).ok()),
        }
    }

    fn are_of(&self, received: &Received<'_>) -> bool {
        self.client == received.client
            && self.scheme == received.scheme
            && *self.authority == *received.authority
    }
}

impl Received<'_> {
    fn lines<T>(&self, of: impl FnOnce(&Lines) -> T) -> T {
        let mut last = self.introduction.0.borrow_mut();
        let lines = match last.take().filter(|lines| lines.are_of(self)) {
            Some(lines) => lines,
            None => Box::new(Lines::of(self)),
        };
        of(last.insert(lines))
    }

    /// The authority as a field value; `None` if the client named none, or one that is no value.
    #[must_use]
    pub fn host(&self) -> Option<HeaderValue> {
        self.lines(|lines| lines.host.clone())
    }
}

/// Sets what is ours: see [`each_of_ours`].
pub fn identify(
    fields: &mut HeaderMap,
    received: &Received<'_>,
    host: &HeaderValue,
    identity: &[(HeaderName, HeaderValue)],
) {
    each_of_ours(received, host, identity, |name, value| {
        fields.append(name, value.clone());
    });
}

/// Hands on what is ours: `Host`, `Via`, `Forwarded` and its older kin, the interaction id, and the
/// identity headers of the permit. None of these names is left among the fields of the client but
/// `Via`, behind whose lines ours is one more, which is the same list (RFC 9110 s5.3).
///
/// `host` is the value of `Host`.
pub fn each_of_ours(
    received: &Received<'_>,
    host: &HeaderValue,
    identity: &[(HeaderName, HeaderValue)],
    mut to: impl FnMut(&HeaderName, &HeaderValue),
) {
    to(&header::HOST, host);
    to(&INTERACTION_ID, &received.interaction_id.to_header());
    let via = match received.version {
        Version::HTTP_10 => "1.0 portcullis",
        Version::HTTP_2 => "2 portcullis",
        _ => "1.1 portcullis",
    };
    to(&header::VIA, &HeaderValue::from_static(via));
    let proto = Some(HeaderValue::from_static(received.scheme));
    received.lines(|lines| {
        for (name, value) in [
            (&header::FORWARDED, &lines.forwarded),
            (&X_FORWARDED_FOR, &lines.forwarded_for),
            (&X_FORWARDED_PROTO, &proto),
            (&X_FORWARDED_HOST, &lines.host),
        ] {
            if let Some(value) = value {
                to(name, value);
            }
        }
    });
    for (name, value) in identity {
        to(name, value);
    }
}

/// RFC 7239 s4: an IPv6 address in brackets, and in quotes since neither bracket nor colon may
/// stand in a token (s6.1); likewise a host with its port.
fn forwarded(received: &Received<'_>) -> Option<HeaderValue> {
    let mut line = String::with_capacity(96);
    let written = match received.client.to_canonical() {
        IpAddr::V4(address) => write!(line, "for={address}"),
        IpAddr::V6(address) => write!(line, "for=\"[{address}]\""),
    };
    // Writing to a string does not fail.
    written.ok()?;
    line.push_str(";proto=");
    line.push_str(received.scheme);
    let host = received.authority;
    if !host.is_empty() {
        line.push_str(";host=");
        if host.bytes().all(is_tchar) {
            line.push_str(host);
        } else {
            line.push('"');
            // An authority holds neither quotes nor backslashes; if it did, they must not close it.
            line.extend(host.chars().filter(|c| !matches!(c, '"' | '\\')));
            line.push('"');
        }
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(line)).ok()
}

/// More gates in a row than anybody builds on purpose: an outer one, an inner one, a sidecar.
const MOST_GATES: usize = 4;

/// Whether a request goes in circles: its `Via` names gates like us more often than a chain of
/// them explains (RFC 9110 s7.6.3, HTTP-19). One gate behind another is no loop.
#[must_use]
pub fn routed_by_us(fields: &HeaderMap) -> bool {
    fields
        .get_all(header::VIA)
        .iter()
        .flat_map(elements)
        .filter(|element| {
            element
                .split_ascii_whitespace()
                .nth(1)
                .is_some_and(|by| by.eq_ignore_ascii_case(PSEUDONYM))
        })
        .count()
        > MOST_GATES
}
