//! The canonical request: one parse, one path, and what was authorized is what is sent on.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, Uri, Version, header, request};

use super::authority::Authority;
use super::interaction::{InteractionId, interaction_id};
use super::path::{self, Shape};
use crate::refusal::{Reason, Refusal};

/// Ambiguities of a path that a route may open with `path_allow`. All others are refused always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ambiguities {
    /// `%2F`.
    pub encoded_slash: bool,
    /// `%25`.
    pub encoded_percent: bool,
    /// `;`, plain or as `%3B`.
    pub semicolon: bool,
    /// `//`.
    pub double_slash: bool,
}

impl Ambiguities {
    /// Whether everything in `self` is in `allowed` too.
    #[must_use]
    pub const fn within(self, allowed: Self) -> bool {
        (!self.encoded_slash || allowed.encoded_slash)
            && (!self.encoded_percent || allowed.encoded_percent)
            && (!self.semicolon || allowed.semicolon)
            && (!self.double_slash || allowed.double_slash)
    }
}

/// Bytes of path and query together; longer ones are `target_too_long`.
pub const TARGET_BYTES: usize = 16 * 1024;

/// The canonical request, as judged and as forwarded.
#[derive(Debug)]
pub struct RequestHead {
    method: Method,
    host: Box<str>,
    port: Option<u16>,
    target: PathAndQuery,
    shape: Shape,
    version: Version,
    headers: HeaderMap,
    interaction_id: InteractionId,
}

/// What a [`RequestHead`] consists of, once it is taken apart to be sent on.
#[derive(Debug)]
pub struct HeadParts {
    /// See [`RequestHead::method`].
    pub method: Method,
    /// See [`RequestHead::host`].
    pub host: Box<str>,
    /// See [`RequestHead::port`].
    pub port: Option<u16>,
    /// Path and query, octet for octet as the client sent them (HTTP-09).
    pub path_and_query: PathAndQuery,
    /// Every field as it came, hop-by-hop ones and all.
    pub headers: HeaderMap,
    /// See [`RequestHead::interaction_id`].
    pub interaction_id: InteractionId,
    /// See [`RequestHead::version`].
    pub version: Version,
}

impl RequestHead {
    /// The canonical form of a request, or why it has none.
    ///
    /// `fresh` becomes the interaction id where the client sent none that is a UUID, or more than
    /// one.
    ///
    /// A fragment never gets here: the `http` crate cuts it off before anybody can see it, so what
    /// is judged and what is forwarded are both without.
    ///
    /// # Errors
    /// `request_malformed`, `field_repeated`, `target_ambiguous`, `target_too_long`;
    /// `method_not_allowed` for CONNECT, whose target is no path (HTTP-16), and `route_not_found`
    /// for `OPTIONS *`, which names no resource (RFC 9110 s9.3.7).
    pub fn new(parts: request::Parts, fresh: InteractionId) -> Result<Self, Refusal> {
        let id = interaction_id(&parts.headers).unwrap_or(fresh);
        Self::identified(parts, id)
    }

    /// The same where [`interaction_id`] of the request was looked at before: `id` is what came of
    /// it.
    ///
    /// # Errors
    /// As [`RequestHead::new`].
    pub fn identified(parts: request::Parts, id: InteractionId) -> Result<Self, Refusal> {
        let request::Parts {
            method,
            uri,
            version,
            headers,
            ..
        } = parts;
        if !matches!(
            version,
            Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2
        ) {
            return Err(malformed("the HTTP version is none of 1.0, 1.1 and 2"));
        }
        let wanted = [
            &header::TRANSFER_ENCODING,
            &header::CONTENT_LENGTH,
            &header::CONTENT_TYPE,
        ];
        let [coded, long, typed] = present(&headers, wanted);
        if coded || long {
            framing(&headers, version)?;
        }
        // It means nothing when it comes twice, and two servers would believe two different ones. `Host`,
        // `Content-Length`, `Transfer-Encoding` and `Authorization` have rules of their own.
        if typed && count(&headers, &header::CONTENT_TYPE) > 1 {
            return Err(Refusal::because(
                Reason::FieldRepeated,
                "Content-Type came more than once",
            ));
        }
        let Authority { host, port } = authority(&uri, &headers, version)?;
        if method == Method::CONNECT {
            return Err(Refusal::because(
                Reason::MethodNotAllowed,
                "CONNECT is never allowed",
            ));
        }
        if uri.path() == "*" {
            return Err(if method == Method::OPTIONS {
                Refusal::because(Reason::RouteNotFound, "the target is *")
            } else {
                malformed("only OPTIONS may have the target * (RFC 9112 s3.2.4)")
            });
        }
        if uri.scheme().is_none() && uri.path_and_query().is_none() {
            return Err(malformed(
                "only CONNECT may have a target without a path (RFC 9112 s3.2.3)",
            ));
        }
        let target = target(&uri)?;
        if target.as_str().len() > TARGET_BYTES {
            return Err(Refusal::because(
                Reason::TargetTooLong,
                format!("path and query are longer than {TARGET_BYTES} bytes"),
            ));
        }
        let shape = path::inspect(target.path())
            .map_err(|flaw| Refusal::because(Reason::TargetAmbiguous, flaw.to_string()))?;
        let query = target.query().unwrap_or_default();
        if !query.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed(
                "the query holds a blank, a control character or a byte outside ASCII",
            ));
        }
        Ok(Self {
            method,
            host,
            port,
            target,
            shape,
            version,
            headers,
            interaction_id: id,
        })
    }

    /// The method, letter for letter.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The host that the client named: lower case, without a trailing dot and without port; an
    /// IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that the client named.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path as sent, octet for octet (HTTP-09), free of what no route may open.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query as sent, without `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The version that the client spoke: 1.0, 1.1 or 2.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Every field as it came.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The client's interaction id, or the one made for it.
    #[must_use]
    pub const fn interaction_id(&self) -> InteractionId {
        self.interaction_id
    }

    /// What of the path a route must open.
    #[must_use]
    pub const fn ambiguities(&self) -> Ambiguities {
        self.shape.ambiguities
    }

    /// What else somebody could read in another way.
    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// Takes it apart, to be sent on.
    #[must_use]
    pub fn into_parts(self) -> HeadParts {
        HeadParts {
            method: self.method,
            host: self.host,
            port: self.port,
            path_and_query: self.target,
            headers: self.headers,
            interaction_id: self.interaction_id,
            version: self.version,
        }
    }
}

/// Where the body ends must be said in one way only (HTTP-03 to HTTP-05). hyper has already
/// dropped a `Content-Length` that stood beside a `Transfer-Encoding`, and refused two that differ.
fn framing(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let coded = count(headers, &header::TRANSFER_ENCODING);
    if coded > 0 {
        if version != Version::HTTP_11 {
            return Err(malformed(
                "Transfer-Encoding does not exist in this version of HTTP (RFC 9112 s6.1)",
            ));
        }
        let chunked = headers
            .get(header::TRANSFER_ENCODING)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if coded > 1 || !chunked {
            return Err(malformed("Transfer-Encoding is not exactly chunked"));
        }
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(malformed("both Content-Length and Transfer-Encoding came"));
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        let canonical = match digits {
            [] => false,
            [b'0'] => true,
            [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
        };
        let fits = canonical
            && length
                .to_str()
                .is_ok_and(|text| text.parse::<u64>().is_ok());
        if !fits || lengths.next().is_some() {
            return Err(malformed("Content-Length is not one plain number"));
        }
    }
    Ok(())
}

/// The one authority of a request (HTTP-07, HTTP-08): RFC 9112 s3.2 for HTTP/1, RFC 9113 s8.3.1
/// for HTTP/2. Where target and `Host` both name one, they must agree.
fn authority(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Authority, Refusal> {
    if let Some(scheme) = uri.scheme_str()
        && !scheme.eq_ignore_ascii_case("https")
    {
        return Err(malformed("the scheme of the target is not https"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("more than one Host came"));
    }
    if host.is_none() && version != Version::HTTP_2 {
        return Err(malformed("no Host came"));
    }
    let host = host
        .map(|value| {
            value
                .to_str()
                .ok()
                .and_then(Authority::parse)
                .ok_or_else(|| malformed("Host is no host name with an optional port"))
        })
        .transpose()?;
    let named = uri
        .authority()
        .map(|authority| {
            Authority::parse(authority.as_str())
                .ok_or_else(|| malformed("the authority of the target is no host with a port"))
        })
        .transpose()?;
    match (named, host) {
        (Some(named), Some(host)) if !named.agrees(&host) => {
            Err(malformed("the authority of the target and Host differ"))
        }
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
        (None, None) => Err(malformed("neither :authority nor Host came")),
    }
}

/// Path and query as sent; an absolute target without a path asks for `/` (RFC 9110 s4.2.3).
fn target(uri: &Uri) -> Result<PathAndQuery, Refusal> {
    match uri.path_and_query() {
        None => Ok(PathAndQuery::from_static("/")),
        Some(sent) if sent.as_str().starts_with('?') => format!("/{}", sent.as_str())
            .parse()
            .map_err(|_no_uri| malformed("the target cannot be read")),
        Some(sent) => Ok(sent.clone()),
    }
}

/// Which of these fields are there. One look at all names costs less than looking for several that most
/// messages do not have.
#[must_use]
#[expect(
    clippy::inline_always,
    reason = "with the names known a comparison is one of two numbers, without it is a call"
)]
#[inline(always)]
pub fn present<const N: usize>(fields: &HeaderMap, wanted: [&HeaderName; N]) -> [bool; N] {
    let mut present = [false; N];
    for name in fields.keys() {
        for (there, wanted) in present.iter_mut().zip(wanted) {
            *there |= name == wanted;
        }
    }
    present
}

fn count(headers: &HeaderMap, name: &HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal::because(Reason::RequestMalformed, detail)
}

#[cfg(test)]
pub(super) mod tests;
