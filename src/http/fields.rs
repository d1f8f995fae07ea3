//! The header rules of both directions, without input or output.
//!
//! What a client sends is cleaned before anything of ours is added, so that no client can remove
//! or forge what the upstream is told (FWD-01, HTTP-01). Names are compared folded: the case gone,
//! and everything that is neither letter nor digit a `-`, since servers behind CGI, WSGI and PHP
//! cannot tell `X_Auth_User`, `X.Auth.User` and `X-Auth-User` apart.

mod forwarded;
mod response;
#[cfg(test)]
mod tests;

pub use forwarded::{Introduction, Received, each_of_ours, identify, routed_by_us};
pub use response::{response_fields, response_trailers};

use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::pdp::head::present;
use crate::pdp::policy::{Access, ForwardRules, Route};

/// Removed from every request and every answer: hop by hop (RFC 9110 s7.6.1), and framing, which is
/// made anew (HTTP-03).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-*",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Removed from every request, too. With a `*` at the end: every name that begins so.
const ALWAYS: &[&str] = &[
    // Of this hop as well; an answer's length stays.
    "content-length",
    "expect",
    // `Proxy` would become HTTP_PROXY behind CGI.
    "proxy",
    // A proof is for us alone, whatever `forward.authorization` says; but before an authorization
    // server, see `FieldRules::of`.
    "dpop",
    // What only a gate may say of a client.
    "client-cert*",
    "x-client-cert*",
    "ssl-*",
    "x-ssl-*",
    "x-amzn-mtls-*",
    "forwarded",
    "x-forwarded",
    "x-forwarded-*",
    "x-real-ip",
    // What would make the upstream judge another request than we did.
    "x-envoy-*",
    "x-original-*",
    "x-rewrite-*",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // What we set ourselves.
    "host",
    "x-fapi-interaction-id",
];

/// Fields that a `Connection` line cannot remove: they were judged, or they say what the content
/// is. Ours are added after the removal, so no line reaches them.
const NOT_NOMINATED: &[HeaderName] = &[
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::HOST,
    header::SET_COOKIE,
    header::VARY,
    header::VIA,
];

/// The letter or digit itself, in lower case, or `-`.
const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

/// A name to remove, folded.
#[derive(Debug, Clone)]
struct Pattern {
    name: Box<[u8]>,
    /// The third byte, by which most of those that share a first one differ; `None` where there is
    /// no third.
    third: Option<u8>,
    prefix: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name: Box<[u8]> = name.bytes().map(fold).collect();
        Self {
            third: name.get(2).copied(),
            name,
            prefix,
        }
    }

    /// `third` is the folded third byte of `name`.
    fn takes(&self, name: &[u8], third: Option<u8>) -> bool {
        let length = name.len() == self.name.len();
        (self.third.is_none() || self.third == third)
            && (length || self.prefix && name.len() > self.name.len())
            // Most come in the spelling that needs no folding.
            && (name.starts_with(&self.name) || self.folds(name))
    }

    fn folds(&self, name: &[u8]) -> bool {
        std::iter::zip(&*self.name, name).all(|(ours, theirs)| *ours == fold(*theirs))
    }
}

/// Names and beginnings of names, in every spelling that some server takes for the same.
#[derive(Debug, Clone)]
struct Names {
    /// Patterns by the first letter of what they take, so that most names meet none or few.
    by_first: Vec<Vec<Pattern>>,
    /// Takes every name: a pattern that is `*` alone.
    all: bool,
}

/// 26 letters, ten digits, and the `-`.
const FIRSTS: usize = 37;

fn slot(name: &[u8]) -> usize {
    match name.first().map(|byte| fold(*byte)) {
        Some(letter @ b'a'..=b'z') => usize::from(letter - b'a'),
        Some(digit @ b'0'..=b'9') => 26 + usize::from(digit - b'0'),
        Some(_) | None => FIRSTS - 1,
    }
}

impl Names {
    fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut by_first = vec![Vec::new(); FIRSTS];
        let mut all = false;
        for text in texts {
            let pattern = Pattern::new(text);
            if pattern.name.is_empty() {
                all |= pattern.prefix;
            } else if let Some(list) = by_first.get_mut(slot(&pattern.name)) {
                list.push(pattern);
            }
        }
        Self { by_first, all }
    }

    fn takes(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        let third = name.get(2).map(|byte| fold(*byte));
        let mut near = self.by_first.get(slot(name)).into_iter().flatten();
        self.all || near.any(|pattern| pattern.takes(name, third))
    }
}

/// Every spelling of `Authorization`.
static AUTHORIZATION: LazyLock<Names> = LazyLock::new(|| Names::new(["authorization"]));

/// What a route does to the fields of its requests, worked out once.
#[derive(Debug)]
pub struct FieldRules {
    /// What goes no further.
    removed: Names,
    authorization: bool,
    host: Option<HeaderValue>,
    /// Names under `require_headers`: judged, so not to be nominated away.
    judged: Vec<HeaderName>,
}

impl FieldRules {
    /// The rules of a route.
    #[must_use]
    pub fn of(route: &Route) -> Self {
        let judged = match &route.access {
            Access::Open | Access::Authorization(_) => Vec::new(),
            Access::Policy(policy) => policy.require_headers.clone(),
        };
        let mut rules = Self::new(&route.forward, judged);
        let strip = &route.forward.strip;
        let stripped = strip.iter().any(|name| name.eq_ignore_ascii_case("dpop"));
        if matches!(route.access, Access::Authorization(_)) && !stripped {
            // There the proof is for the server behind, which binds the token to its key
            // (RFC 9449 s5, s10.1); unless the operator says that it goes no further.
            for patterns in &mut rules.removed.by_first {
                patterns.retain(|pattern| pattern.prefix || *pattern.name != *b"dpop");
            }
        }
        rules
    }

    /// The rules of a `[forward]` table; `judged` are fields that the policy looks at.
    #[must_use]
    pub fn new(rules: &ForwardRules, judged: Vec<HeaderName>) -> Self {
        let given = rules.strip.iter().map(|name| &**name);
        let ours = rules.headers.iter().map(|(name, _)| name.as_str());
        let token = (!rules.authorization).then_some("authorization");
        let always = HOP_BY_HOP.iter().chain(ALWAYS).copied();
        Self {
            removed: Names::new(always.chain(token).chain(given).chain(ours)),
            authorization: rules.authorization,
            host: rules
                .host
                .as_deref()
                .and_then(|host| HeaderValue::from_str(host).ok()),
            judged,
        }
    }

    /// `Host` towards the upstream, where it is not the client's.
    #[must_use]
    pub const fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// Whether a field of this name from the client goes no further, whatever its spelling.
    #[must_use]
    pub fn removes(&self, name: &HeaderName) -> bool {
        if self.removed.takes(name) {
            return true;
        }
        // Where the token travels on, only the one that was judged does: not another spelling.
        self.authorization && name != header::AUTHORIZATION && AUTHORIZATION.takes(name)
    }
}

/// Hands on each field of a client's request that goes on, in their order; nothing of ours is among
/// them yet.
///
/// Cookie crumbs become one line (RFC 9113 s8.2.3). `TE: trailers` and the names of allowed
/// trailers stay, as hop-by-hop fields of the next hop.
pub fn each_field(
    from: &HeaderMap,
    rules: &FieldRules,
    mut to: impl FnMut(&HeaderName, &HeaderValue),
) {
    let special = Special::of(from);
    let nominated = Nominated::of(from, special, &rules.judged);
    let mut cookies = false;
    for (name, value) in from {
        if rules.removes(name) || nominated.names(name) {
            continue;
        }
        if name != header::COOKIE {
            to(name, value);
        } else if !std::mem::replace(&mut cookies, true) {
            // All of them, in the place of the first.
            to(name, joined_cookies(from).as_ref().unwrap_or(value));
        }
    }
    let trailers_wanted = special.te
        && from
            .get_all(header::TE)
            .iter()
            .flat_map(elements)
            .any(|element| element.eq_ignore_ascii_case("trailers"));
    if trailers_wanted {
        to(&header::TE, &HeaderValue::from_static("trailers"));
    }
    if special.trailer
        && let Some(names) = trailers(from, rules)
    {
        to(&header::TRAILER, &names);
    }
}

/// Which of the fields are there that few messages have.
#[derive(Debug, Clone, Copy)]
struct Special {
    connection: bool,
    te: bool,
    trailer: bool,
}

impl Special {
    fn of(fields: &HeaderMap) -> Self {
        let wanted = [&header::CONNECTION, &header::TE, &header::TRAILER];
        let [connection, te, trailer] = present(fields, wanted);
        Self {
            connection,
            te,
            trailer,
        }
    }
}

/// The fields of a client's request that go on: see [`each_field`].
#[must_use]
pub fn request_fields(from: &HeaderMap, rules: &FieldRules) -> HeaderMap {
    // Room for what is added: host, id, Via, four of forwarding, framing, and a few of identity.
    let mut to = HeaderMap::with_capacity(from.len().saturating_add(16));
    each_field(from, rules, |name, value| {
        to.append(name, value.clone());
    });
    to
}

/// `Trailer` of a client's request, with those of its names that go on; `None` where none does.
#[must_use]
pub fn trailers(from: &HeaderMap, rules: &FieldRules) -> Option<HeaderValue> {
    trailer_names(from, |name| request_trailer(name, rules))
}

/// The fields of a request's trailer section that go on (HTTP-18).
#[must_use]
pub fn request_trailers(from: &HeaderMap, rules: &FieldRules) -> HeaderMap {
    filtered(from, |name| request_trailer(name, rules))
}

fn request_trailer(name: &HeaderName, rules: &FieldRules) -> bool {
    !rules.removes(name) && !not_in_trailers(name) && !rules.judged.contains(name)
}

/// Framing, routing, authentication, control and content fields mean nothing in trailers, or
/// something dangerous to a server that merges them (RFC 9110 s6.5.1).
fn not_in_trailers(name: &HeaderName) -> bool {
    static NEVER: LazyLock<Names> = LazyLock::new(|| {
        Names::new([
            "age",
            "authorization",
            "cache-control",
            "connection",
            "content-encoding",
            "content-length",
            "content-range",
            "content-type",
            "cookie",
            "date",
            "expires",
            "host",
            "if-*",
            "location",
            "max-forwards",
            "pragma",
            "range",
            "retry-after",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "vary",
            "via",
            "warning",
            "www-authenticate",
        ])
    });
    NEVER.takes(name)
}

fn filtered(from: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut to = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        if keep(name) {
            to.append(name, value.clone());
        }
    }
    to
}

/// `Trailer` with those of its names that will pass: hyper sends no trailer that it does not name.
fn trailer_names(from: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> Option<HeaderValue> {
    if !from.contains_key(header::TRAILER) {
        return None;
    }
    let mut names = String::new();
    for element in from.get_all(header::TRAILER).iter().flat_map(elements) {
        let Ok(name) = HeaderName::from_bytes(element.as_bytes()) else {
            continue;
        };
        if keep(&name) {
            if !names.is_empty() {
                names.push_str(", ");
            }
            names.push_str(name.as_str());
        }
    }
    HeaderValue::try_from(names)
        .ok()
        .filter(|names| !names.is_empty())
}

/// The lines of `Cookie` as one, where there are several.
fn joined_cookies(fields: &HeaderMap) -> Option<HeaderValue> {
    let crumbs = fields.get_all(header::COOKIE);
    crumbs.iter().nth(1)?;
    let mut joined = Vec::new();
    for crumb in crumbs {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Values with `; ` between them are a value.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).ok()
}

/// The elements of a comma-separated line; none of one that is not ASCII.
fn elements(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// Names that `Connection` lines declare to be hop by hop, less those that they may not.
struct Nominated<'a> {
    fields: &'a HeaderMap,
    judged: &'a [HeaderName],
    any: bool,
}

impl<'a> Nominated<'a> {
    fn of(fields: &'a HeaderMap, special: Special, judged: &'a [HeaderName]) -> Self {
        let unusual = |element: &str| {
            !["close", "keep-alive", "upgrade", "te"]
                .iter()
                .any(|usual| element.eq_ignore_ascii_case(usual))
        };
        let any = special.connection
            && fields
                .get_all(header::CONNECTION)
                .iter()
                .flat_map(elements)
                .any(unusual);
        Self {
            fields,
            judged,
            any,
        }
    }

    fn names(&self, name: &HeaderName) -> bool {
        self.any
            && !NOT_NOMINATED.contains(name)
            && !self.judged.contains(name)
            && self
                .fields
                .get_all(header::CONNECTION)
                .iter()
                .flat_map(elements)
                .any(|element| element.eq_ignore_ascii_case(name.as_str()))
    }
}
