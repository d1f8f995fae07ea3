//! Authorization servers behind, and the registry of their clients, as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::Algorithm;

/// `[registry]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Registry {
    /// Where the registered clients are: `{ file = "…" }` or `{ url = "https://…" }`.
    pub(super) source: RegistrySource,
    /// Hosts that `jwks_uri` of clients may name. Default: none, so that such clients are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_hosts: Option<Vec<String>>,
    /// How often it is fetched, or the file read. Default "60s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_every: Option<String>,
    /// How long the last good clients are used when no fetch succeeds. Default "24h".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_last_good_for: Option<String>,
    /// For one fetch as a whole. Default "5s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// Whether /readyz waits for it. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) required: Option<bool>,
}

/// `source` of the registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistrySource {
    /// A JSON file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// An https address of the same JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// PEM files of authorities that the certificates of `url` and of `jwks_hosts` are under.
    /// Default: the platform's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<Vec<String>>,
    /// PEM file of our certificate for mutual TLS with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// PEM file of the key of our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
    /// HTTP proxy on the way to them, such as "http://egress:3128".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<String>,
}

/// `[authorization_server.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizationServer {
    /// Its issuer identifier, byte for byte.
    pub(super) issuer: String,
    /// Which rules are in force. Default "fapi2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<ServerProfile>,
    /// One of which `aud` of a request object must be or hold. Default: the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<Vec<String>>,
    /// One of which `aud` of a client assertion must be. Default: the issuer; others only with
    /// fapi1-advanced, such as the address of the token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) assertion_audience: Option<Vec<String>>,
    /// Algorithms of request objects and client assertions. Default ["PS256", "ES256", "EdDSA"],
    /// with fapi1-advanced ["PS256", "ES256"].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) algorithms: Option<Vec<Algorithm>>,
    /// How long ago `nbf` of a request object may lie, up to 60m. Default "60m".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_object_age: Option<String>,
    /// Longest `exp` - `nbf` of a request object, up to 60m. Default "60m".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_object_lifetime: Option<String>,
    /// How far ahead `exp` of a client assertion may lie, up to 24h. Default "60m".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_assertion_lifetime: Option<String>,
    /// How far ahead `nbf` and `iat` may lie, 10s to 60s. Default "10s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock_skew: Option<String>,
    /// How every `request_uri` begins that it gives. Default "urn:ietf:params:oauth:request_uri:".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_uri_prefix: Option<String>,
}

/// `profile` of an authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ServerProfile {
    /// Everything by PAR, with signed request objects.
    Fapi2,
    /// Request objects at the authorization endpoint too, and `code id_token`.
    Fapi1Advanced,
}

/// `kind` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RouteKind {
    /// An API: requests carry access tokens.
    Api,
    /// An endpoint of an authorization server.
    Authorization,
}

/// `authorization` of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteAuthorization {
    /// The server behind, by its name under `[authorization_server]`.
    pub(super) server: String,
    /// Which of its endpoints.
    pub(super) endpoint: Endpoint,
    /// Size of a form that is read, up to 1MiB. Default "64KiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) form_bytes: Option<String>,
    /// Whether encrypted request objects pass, which nobody here can look into. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encrypted: Option<bool>,
}

/// `endpoint` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Endpoint {
    /// Pushed authorization requests (RFC 9126).
    Par,
    /// The authorization endpoint.
    Authorize,
    /// The token endpoint.
    Token,
}
