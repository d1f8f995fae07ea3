//! The configuration file as it is written: names and types, no meaning. Every key is documented
//! here and nowhere else; `portcullis schema` prints this for editors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use super::raw_audit::{Audit, AuditFailure, AuditSubject, AuditSync};
use super::raw_authorization::{AuthorizationServer, Registry, RouteAuthorization, RouteKind};
pub(super) use super::raw_policy::{ErrorFormat, Policy, PolicyRef};
pub(super) use super::raw_replay::{ReplayStore, ReplayStoreKind, StoreUrl};

/// The main file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis configuration")]
pub(super) struct File {
    /// Folder of this installation's own policies, one file each; built-in ones need no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policies: Option<String>,
    /// Issuers of policies that name none; needed where there is more than one issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_issuers: Option<Vec<String>>,
    /// Files with more `[[route]]` tables; `*` in the last part of a path stands for any name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) include: Option<Vec<String>>,
    /// Data-plane threads. Default: one per core. A change needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workers: Option<u64>,
    /// When the configuration is read again beside SIGHUP.
    #[serde(default)]
    pub(super) reload: Reload,
    /// How the process ends on SIGTERM.
    #[serde(default)]
    pub(super) drain: Drain,
    /// Listeners by name.
    #[serde(default)]
    pub(super) listener: BTreeMap<String, Listener>,
    /// Health, metrics and status, apart from all listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<Admin>,
    /// Where others say that tokens are void. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revocation: Option<RevocationDoor>,
    /// Where decisions are recorded, in lines that show what is done to them. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audit: Option<Audit>,
    /// Authorization servers by name.
    #[serde(default)]
    pub(super) issuer: BTreeMap<String, Issuer>,
    /// Clients of the authorization servers behind. Needed where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registry: Option<Registry>,
    /// Authorization servers behind, by name; routes of `kind = "authorization"` lead to them.
    #[serde(default)]
    pub(super) authorization_server: BTreeMap<String, AuthorizationServer>,
    /// APIs behind, by name.
    #[serde(default)]
    pub(super) upstream: BTreeMap<String, Upstream>,
    /// What the API behind is told; a route may override it.
    #[serde(default)]
    pub(super) forward: Forward,
    /// DPoP (RFC 9449): how long proofs are good and where their use is remembered.
    #[serde(default)]
    pub(super) dpop: Dpop,
    /// Routes.
    #[serde(default)]
    pub(super) route: Vec<Route>,
}

/// A file that `include` names.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    /// Routes.
    #[serde(default)]
    pub(super) route: Vec<Route>,
}

/// `[reload]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reload {
    /// How often the files are looked at, 1s to 1h; "off" leaves SIGHUP alone. Default "5s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) watch: Option<String>,
}

/// `[drain]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    /// Not ready but serving, for load balancers to notice, up to 10m. Default "0s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delay: Option<String>,
    /// For requests that are under way, up to 1h. Default "30s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
}

/// `[listener.<name>]`: several may share one address, the TLS server name chooses.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// Address and port to listen on, such as `"0.0.0.0:8443"` or `"[::]:8443"`.
    pub(super) address: String,
    /// What clients call, such as `"https://api.bank.example"`: server name and authority.
    pub(super) public_url: String,
    /// Further addresses that clients may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aliases: Option<Vec<String>>,
    /// Takes clients that send no server name; else they are refused. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<bool>,
    /// Proxies in front that end TLS and pass the client's certificate on in a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) behind: Option<Behind>,
    /// Load balancers that send a PROXY protocol header of version 2 in front of TLS. The same for
    /// all listeners of one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// Publishes what a client must know to get tokens at `/.well-known/oauth-protected-resource`
    /// (RFC 9728), and says so in challenges. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<bool>,
    /// Laboratory: reason codes in bodies of refusals. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disclose_reasons: Option<bool>,
    /// TLS.
    pub(super) tls: Tls,
    /// Bounds.
    #[serde(default)]
    pub(super) limits: Limits,
}

/// `behind`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Behind {
    /// Networks of TCP peers that are such proxies; all others are clients of their own.
    pub(super) proxies: Vec<String>,
    /// The certificate that a proxy presents for itself. Without it the address is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy_certificate: Option<ProxyCertificate>,
    /// How the proxies write the client's certificate down.
    pub(super) certificate: CertificateHeader,
}

/// `proxy_certificate`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyCertificate {
    /// PEM files of the authorities that issue it; not those of clients.
    pub(super) ca: Vec<String>,
    /// Subject alternative names of which it must have one: host names, addresses or URIs.
    pub(super) san: Vec<String>,
    /// PEM files of the revocation lists of these authorities. Default: revocation is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crl: Option<Vec<String>>,
}

/// `certificate` of `behind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CertificateHeader {
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    ClientCert,
    /// `X-Forwarded-Client-Cert` of Envoy, with `Cert`.
    Xfcc,
    /// `X-SSL-Client-Cert` with `$ssl_client_escaped_cert` of nginx.
    Nginx,
}

/// `proxy_protocol`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocol {
    /// Networks of TCP peers whose header is taken; they must send one, all others are refused.
    pub(super) from: Vec<String>,
}

/// `[listener.<name>.tls]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM file of the server's certificate chain, leaf first.
    pub(super) certificate: String,
    /// PEM file of its private key.
    pub(super) private_key: String,
    /// Versions and suites. Default "fapi2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<Profile>,
    /// Whether clients are asked for a certificate. Default "optional".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_certificate: Option<ClientCertificate>,
    /// Whose client certificates are good. Default "ca".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_trust: Option<ClientTrust>,
    /// PEM files of the authorities that issue client certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_ca: Option<Vec<String>>,
    /// PEM files of their revocation lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_crl: Option<Vec<String>>,
    /// Must be "none" where there is no `client_crl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revocation: Option<Revocation>,
    /// What becomes of clients when the CRL ran out. Default "refuse".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crl_expired: Option<CrlRule>,
    /// What becomes of clients whose authority has no CRL. Default "refuse".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crl_unknown: Option<CrlRule>,
    /// Whether TLS sessions resume. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resumption: Option<bool>,
}

/// `profile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    /// TLS 1.3, and 1.2 with the ECDHE AES-GCM suites.
    Fapi2,
    /// TLS 1.3, and 1.2 with the ECDHE_RSA AES-GCM suites; needs an RSA certificate.
    Fapi1,
}

/// `client_certificate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClientCertificate {
    /// Asked for; absence is judged at HTTP, a bad one fails the handshake.
    Optional,
    /// The handshake fails without one.
    Required,
    /// Not asked for.
    None,
}

/// `client_trust`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClientTrust {
    /// A path to one of `client_ca`.
    Ca,
    /// Possession of the key only; self-signed allowed (RFC 8705 s2.2).
    Any,
}

/// `revocation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Revocation {
    /// Client certificates are not looked up in any CRL.
    None,
}

/// `crl_expired`, `crl_unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum CrlRule {
    /// The client is refused.
    Refuse,
    /// The client passes; reported.
    Accept,
}

/// `[listener.<name>.limits]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Connections at once. Default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u64>,
    /// Streams of one HTTP/2 connection at once. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) streams: Option<u64>,
    /// Size of a request's header section. Default "32KiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header_bytes: Option<String>,
    /// Size of an access token. Default "16KiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_bytes: Option<String>,
    /// Size of a request body. Default "16MiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes: Option<String>,
    /// For the whole TLS handshake. Default "10s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handshake_timeout: Option<String>,
    /// From the first byte of a request to the end of its head. Default "10s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header_timeout: Option<String>,
    /// Between two pieces of a body. Default "30s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_timeout: Option<String>,
    /// A connection without a request. Default "60s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_timeout: Option<String>,
    /// From the head of a request to the head of its answer. Default "60s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_timeout: Option<String>,
}

/// `[admin]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// Address and port, plain HTTP; a loopback address unless the network is trusted.
    pub(super) address: String,
}

/// `[revocation]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationDoor {
    /// Address and port of its own. A change needs a restart.
    pub(super) address: String,
    /// What callers send as `Authorization: Bearer`; at least 16 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<SecretRef>,
    /// TLS, with `client_certificate = "required"` as the default. Needed off loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls>,
}

/// `[issuer.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    /// `iss` of its tokens, byte for byte.
    pub(super) issuer: String,
    /// Our names, one of which `aud` of a token must hold.
    pub(super) audience: Vec<String>,
    /// Signature algorithms. Default ["PS256", "ES256", "EdDSA"].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) algorithms: Option<Vec<Algorithm>>,
    /// PEM files of authorities that its own certificate is under. Default: the platform's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<Vec<String>>,
    /// PEM file of our certificate for mutual TLS with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// PEM file of the key of our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
    /// HTTP proxy on the way to it, such as "http://egress:3128".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<String>,
    /// Address of its metadata, which names its keys (RFC 8414). This, `jwks_uri` or `jwks_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) discovery: Option<String>,
    /// Address of its keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_uri: Option<String>,
    /// File of its keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_file: Option<String>,
    /// Hosts, beside its own, that addresses learned from discovery may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hosts: Option<Vec<String>>,
    /// Values of `typ`. Default ["at+jwt"] (RFC 9068).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_types: Option<Vec<String>>,
    /// How far ahead `iat` and `nbf` may lie, 10s to 60s. Default "10s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock_skew: Option<String>,
    /// How long after `exp` a token is still taken, up to 60s. Default "0s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp_leeway: Option<String>,
    /// Longest `exp` - `iat`; a policy may narrow it. Default "24h".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_lifetime: Option<String>,
    /// Names of claims, the first present counts.
    #[serde(default)]
    pub(super) claims: ClaimNames,
    /// Whether /readyz waits for its keys. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) required: Option<bool>,
    /// How its keys are kept.
    #[serde(default)]
    pub(super) jwks: Jwks,
    /// How it is asked about tokens (RFC 7662). Default: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) introspection: Option<Introspection>,
}

/// `[dpop]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dpop {
    /// How long after its `iat` a proof is taken. Default "60s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proof_age: Option<String>,
    /// How far ahead `iat` may lie. Default "10s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proof_ahead: Option<String>,
    /// How long a nonce is good at least. Default "120s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nonce_lifetime: Option<String>,
    /// Where the use of proofs is remembered.
    #[serde(default)]
    pub(super) replay: ReplayStore,
    /// Key of the nonces, the same for all replicas. Default: one that the process makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nonce_key: Option<SecretRef>,
    /// Another key whose nonces are taken, while keys are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nonce_key_previous: Option<SecretRef>,
}

/// `[issuer.<name>.introspection]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Introspection {
    /// About which tokens it is asked; a policy may ask for more. Default "opaque".
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(super) about: Option<IntrospectionUse>,
    /// Address of the endpoint. Default: as the metadata of `discovery` say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// It gets opaque tokens, where several issuers of a policy introspect. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) opaque: Option<bool>,
    /// Our client id there.
    pub(super) client_id: String,
    /// How we authenticate there.
    pub(super) client_auth: ClientAuth,
    /// Form of its answers. Default "json".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<IntrospectionResponse>,
    /// How long answers are remembered.
    #[serde(default)]
    pub(super) cache: AnswerCache,
    /// Size of an opaque token; a longer one is refused without a call. Default "4KiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_bytes: Option<String>,
    /// From the request that needs the answer to the answer. Default "2s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// When the server is left alone.
    #[serde(default)]
    pub(super) breaker: Breaker,
}

/// `use` of introspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum IntrospectionUse {
    /// Opaque tokens only.
    Opaque,
    /// JWTs too, after they were verified here.
    Always,
    /// None, but where a policy asks for it.
    Never,
}

/// `response` of introspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum IntrospectionResponse {
    /// Plain JSON (RFC 7662).
    Json,
    /// A signed JWT (RFC 9701); any other answer is not taken.
    Jwt,
}

/// `client_auth` of introspection.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientAuth {
    /// The method, as the server's metadata name it.
    pub(super) method: ClientAuthMethod,
    /// PEM file of the private key: of the assertion, or of `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Signature algorithm of the assertion: ES256, PS256 or EdDSA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) algorithm: Option<Algorithm>,
    /// `kid` of the assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<String>,
    /// PEM file of our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// The secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<SecretRef>,
}

/// `method` of `client_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientAuthMethod {
    /// A signed assertion (RFC 7523).
    PrivateKeyJwt,
    /// Our certificate, from an authority that the server trusts (RFC 8705 s2.1).
    TlsClientAuth,
    /// Our certificate, as registered there (RFC 8705 s2.2).
    SelfSignedTlsClientAuth,
    /// A shared secret (RFC 6749 s2.3.1).
    ClientSecretBasic,
}

/// Where a secret is: one of the two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretRef {
    /// A file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// An environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<String>,
}

/// `cache` of introspection.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerCache {
    /// Answers about active tokens; never past `exp`. Default "5s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) active: Option<String>,
    /// All others. Default "1s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inactive: Option<String>,
}

/// `breaker`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    /// Failed calls in a row that open it. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failures: Option<u64>,
    /// How long it stays open. Default "5s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_for: Option<String>,
}

/// Signature algorithms of access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Algorithm {
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519, as RFC 8037 names it.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// Ed25519, as RFC 9864 names it.
    Ed25519,
    /// RSASSA-PKCS1-v1_5; only where every policy of the issuer extends fapi1-baseline.
    #[serde(rename = "RS256")]
    Rs256,
}

/// `claims` of an issuer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimNames {
    /// Claims that hold the client id. Default ["client_id"].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<Vec<String>>,
    /// Claims that hold the scopes. Default ["scope"].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<Vec<String>>,
}

/// `[issuer.<name>.jwks]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwks {
    /// For one fetch as a whole. Default "2s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// At most one fetch in this time, whatever the tokens' `kid` say. Default "5s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_cooldown: Option<String>,
    /// How often keys are fetched ahead of need. Default "5m".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_every: Option<String>,
    /// How long the last good keys are used when no fetch succeeds. Default "24h".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_last_good_for: Option<String>,
    /// File that keeps the last good keys, for a start while the server is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<String>,
}

/// `[upstream.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// Its servers, such as `"https://core1.bank.internal:8443"`, all of one scheme.
    pub(super) servers: Vec<String>,
    /// Must be true for http:// servers. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plaintext: Option<bool>,
    /// PEM files of authorities that its certificates are under. Default: the platform's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<Vec<String>>,
    /// PEM file of our certificate for mutual TLS with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// PEM file of the key of our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
    /// Name to verify in its certificates, where it is not the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_name: Option<String>,
    /// How it speaks. Default "http1".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    /// For a TCP connection and its TLS handshake. Default "2s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect_timeout: Option<String>,
    /// From the end of the request's head to the head of the answer. Default "30s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_timeout: Option<String>,
    /// How long an unused connection is kept; below the server's own keep-alive. Default "4s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_timeout: Option<String>,
    /// Further tries of an idempotent request on a connection that gave no byte. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retries: Option<u64>,
    /// Connections to one server at once. Default 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<u64>,
    /// It matches paths without letter case, so its routes do too. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) case_insensitive: Option<bool>,
    /// Active check of its servers. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<Health>,
    /// When a server is left out for a while. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) eject: Option<Eject>,
}

/// `protocol` of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// `health` of an upstream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    /// Path that is asked for.
    pub(super) path: String,
    /// How often. Default "10s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) every: Option<String>,
}

/// `eject` of an upstream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Eject {
    /// Failures in a row. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failures: Option<u64>,
    /// How long the server is left out. Default "10s".
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<String>,
}

/// `[forward]`, and `forward` of a route.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Forward {
    /// Whether the access token travels on. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authorization: Option<bool>,
    /// `Host` towards the API behind: "preserve" (default), or a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    /// Request headers removed beside what always is; `*` at the end stands for any rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strip: Option<Vec<String>>,
    /// Header = fact of the authorized request; a missing fact leaves the header out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<BTreeMap<String, String>>,
}

/// `[[route]]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// Its name in logs and metrics; every route has its own.
    pub(super) name: String,
    /// Listeners that have it; may be left out where there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener: Option<Vec<String>>,
    /// Literal segments, {name} for one segment, ** at the end for it and all below.
    pub(super) path: String,
    /// Methods such as ["GET", "HEAD"]; "*" is all but TRACE and CONNECT.
    pub(super) methods: Vec<String>,
    /// The API behind, by its name under `[upstream]`.
    pub(super) upstream: String,
    /// What is behind. Default "api".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<RouteKind>,
    /// Which endpoint of an authorization server is behind; with `kind = "authorization"` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authorization: Option<RouteAuthorization>,
    /// A policy's name, or an inline table of its keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<PolicyRef>,
    /// The only way to have no policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<bool>,
    /// Whether WebSocket upgrades are passed on. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) websocket: Option<bool>,
    /// A policy that is judged and logged beside the one that is enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow_policy: Option<PolicyRef>,
    /// Passes what would be refused, for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observe: Option<Observe>,
    /// Ambiguities of paths that the API behind needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_allow: Option<Vec<PathAllow>>,
    /// Leading segments replaced on the way up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rewrite: Option<Rewrite>,
    /// Bounds of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<RouteLimits>,
    /// Rules of its own; a key given here replaces that of `[forward]` whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forward: Option<Forward>,
}

/// `observe` of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Observe {
    /// Last day, such as "2027-01-31" (UTC); enforced afterwards.
    pub(super) until: String,
}

/// `path_allow` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PathAllow {
    /// `%2F`.
    EncodedSlash,
    /// `%25`.
    EncodedPercent,
    /// `;`.
    Semicolon,
    /// `//`.
    DoubleSlash,
}

/// `rewrite` of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rewrite {
    /// Leading segments of the request, such as "/psd2".
    pub(super) from: String,
    /// What stands there towards the API behind, such as "/v1".
    pub(super) to: String,
}

/// `limits` of a route.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteLimits {
    /// Size of a request body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes: Option<String>,
    /// Between two pieces of a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_timeout: Option<String>,
    /// From the head of a request to the head of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_timeout: Option<String>,
}
