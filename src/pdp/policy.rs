//! What a decision is made by: as checked, never as written. `config` makes these values, and
//! only from a file in which everything was found good.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::Value;

use super::authorization::Guard;
use super::dpop::{NonceKeys, Rules};
use super::linking::Linking;
use super::peer::Psd2Role;
use super::route::RouteTable;
use super::step_up::{StepUp, Strength};
use super::time::UnixTime;
use crate::refusal::Schemes;
use crate::refusal::format::Format;

/// One configuration as a whole. A request takes one and keeps it to its end, so it never sees
/// half of an old policy and half of a new one. The empty one knows no listener and refuses all.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts the configurations of this process: 1 is the one it started with.
    pub generation: u64,
    /// One table a listener.
    pub tables: Vec<RouteTable>,
    /// Every issuer.
    pub issuers: Vec<Arc<Issuer>>,
    /// Keys of the nonces that are given out with DPoP; `None` where no policy takes any.
    pub nonces: Option<Arc<NonceKeys>>,
}

impl Snapshot {
    /// The table of a listener, by the name it has in the configuration.
    #[must_use]
    pub fn table(&self, listener: &str) -> Option<&RouteTable> {
        self.tables
            .iter()
            .find(|table| &*table.listener == listener)
    }

    /// The issuer of this number.
    #[must_use]
    pub fn issuer(&self, id: IssuerId) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.id == id)
    }
}

/// Names an issuer's settings for the life of the process: settings that changed at a reload get
/// another number, so that nothing remembered under the old ones can be found under the new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerId(pub u32);

/// Names an upstream in the snapshot's generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamName(pub Arc<str>);

/// A signature algorithm that an access token may have. No others exist here: not `none`, no MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// Ed25519, under the names `EdDSA` (RFC 8037) and `Ed25519` (RFC 9864).
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256; FAPI 1.0 Baseline only (FAPI 1.0 Part 2 s8.6 forbids it).
    Rs256,
}

impl Algorithm {
    /// The algorithm of this `alg`, letter by letter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "PS256" => Some(Self::Ps256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }

    /// The name in the configuration and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

/// An authorization server, as far as decisions need it.
#[derive(Debug)]
pub struct Issuer {
    /// See [`IssuerId`].
    pub id: IssuerId,
    /// Name in the configuration.
    pub name: Arc<str>,
    /// `iss`: compared byte by byte (RFC 9068 s4).
    pub issuer: Box<str>,
    /// Identifiers of ours, one of which `aud` must hold; a policy may narrow them.
    pub audience: Vec<Box<str>>,
    /// Algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Values of `typ`, lower case, with `application/` in front where they have no slash.
    pub token_types: Vec<Box<str>>,
    /// How far ahead `iat` and `nbf` may lie.
    pub clock_skew: Duration,
    /// How long after `exp` a token is still taken. Zero unless the file says more.
    pub exp_leeway: Duration,
    /// Longest `exp - iat`.
    pub max_lifetime: Duration,
    /// Names of the claim that holds the client id; the first present counts.
    pub client_id_claims: Vec<Box<str>>,
    /// Names of the claim that holds the scopes; the first present counts.
    pub scope_claims: Vec<Box<str>>,
    /// What it is asked about tokens; `None` where the file has no `introspection`.
    pub introspection: Option<Introspection>,
}

/// What an issuer is asked about tokens (RFC 7662).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introspection {
    /// `use = "always"`: about JWTs too, after they were verified here.
    pub always: bool,
    /// Bytes of an opaque token: a longer one is refused without a call.
    pub token_bytes: usize,
}

/// A route, as checked.
#[derive(Debug)]
pub struct Route {
    /// Index among all routes of the snapshot: what per-route counters are kept under.
    pub index: usize,
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Methods that it has.
    pub methods: MethodSet,
    /// What it asks for.
    pub access: Access,
    /// Where it leads.
    pub upstream: UpstreamName,
    /// Ambiguities of the path that the file opens.
    pub path_allow: super::head::Ambiguities,
    /// Whether the upstream matches paths without case.
    pub case_insensitive: bool,
    /// Whether `Upgrade: websocket` is passed on.
    pub websocket: bool,
    /// Leading segments replaced on the way up.
    pub rewrite: Option<Rewrite>,
    /// Bounds of its own, else the listener's.
    pub limits: RouteLimits,
    /// What the upstream is told.
    pub forward: Arc<ForwardRules>,
    /// A policy that is judged and logged beside the one that is enforced.
    pub shadow: Option<Arc<Policy>>,
    /// Until then, what would be refused passes without identity, as its own outcome.
    pub observe_until: Option<UnixTime>,
}

/// What a route asks for. There is no default: an open route was written as one.
#[derive(Debug, Clone)]
pub enum Access {
    /// `open = true`.
    Open,
    /// A policy.
    Policy(Arc<Policy>),
    /// `kind = "authorization"`: an endpoint of an authorization server.
    Authorization(Arc<Guard>),
}

/// Methods of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MethodSet {
    /// `"*"`: every method but TRACE and CONNECT.
    Any,
    /// These, compared byte by byte.
    These(Vec<Method>),
}

impl MethodSet {
    /// Whether a request of this method belongs here. TRACE and CONNECT never do (HTTP-16).
    #[must_use]
    pub fn has(&self, method: &Method) -> bool {
        if matches!(*method, Method::TRACE | Method::CONNECT) {
            return false;
        }
        match self {
            Self::Any => true,
            Self::These(methods) => methods.contains(method),
        }
    }
}

/// `rewrite = { from, to }`: whole leading segments.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// Begins with `/`, does not end with one.
    pub from: Box<str>,
    /// Begins with `/`, does not end with one unless it is `/` alone.
    pub to: Box<str>,
}

/// Bounds that a route sets for itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteLimits {
    /// Bytes of a request body.
    pub body_bytes: Option<u64>,
    /// Between two pieces of a request body.
    pub body_timeout: Option<Duration>,
    /// From the head of the request to the head of the answer.
    pub request_timeout: Option<Duration>,
}

/// What the upstream is told of the request and of who sent it.
#[derive(Debug, Clone)]
pub struct ForwardRules {
    /// Whether the access token travels on.
    pub authorization: bool,
    /// `Host` towards the upstream: `None` keeps the client's.
    pub host: Option<Box<str>>,
    /// Names removed beside what always is; folded, and with a `*` at the end a prefix.
    pub strip: Vec<Box<str>>,
    /// Header and the fact that it carries. A missing fact leaves the header out.
    pub headers: Vec<(HeaderName, Fact)>,
}

/// A fact of an authorized request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// `token.<claim>`; `client_id` and `scope` as the issuer's `claims` name them.
    Claim(Box<str>),
    /// `certificate.x5t#S256`.
    CertificateThumbprint,
    /// `certificate.subject`, RFC 4514.
    CertificateSubject,
    /// `certificate.organization_id`.
    CertificateOrganizationId,
    /// `certificate.serial`.
    CertificateSerial,
    /// `certificate.der`: `:base64:`, as a byte sequence of RFC 9440 s2.1.
    CertificateDer,
    /// `issuer.name`.
    IssuerName,
    /// `route.name`.
    RouteName,
    /// `interaction_id`.
    InteractionId,
}

/// A policy, as checked and with all that it inherits.
#[derive(Debug)]
pub struct Policy {
    /// Name in the configuration; the route's for one written in line.
    pub name: Arc<str>,
    /// Issuers whose tokens it takes.
    pub issuers: Vec<IssuerId>,
    /// Stands in place of the audience of every issuer.
    pub audience: Option<Vec<Box<str>>>,
    /// The one of `issuers` that opaque tokens are asked of; `None`: they are not taken.
    pub opaque: Option<IssuerId>,
    /// Whether JWTs are asked about, beside what their issuer says.
    pub introspection: Asking,
    /// How the token must be bound.
    pub binding: Binding,
    /// How DPoP proofs are taken.
    pub proofs: Rules,
    /// All of them.
    pub scopes: Vec<Box<str>>,
    /// One of them; empty asks for none.
    pub any_scope: Vec<Box<str>>,
    /// How the user must have been authenticated.
    pub strength: Strength,
    /// How besides, by what the request is about.
    pub step_up: Vec<StepUp>,
    /// What must be requested as it was approved.
    pub linking: Option<Linking>,
    /// An entry of this type and with these members must be in the token (RFC 9396 s9).
    pub authorization_details: Option<DetailsRule>,
    /// Claims and what they must be.
    pub claims: Vec<(Box<str>, ClaimRule)>,
    /// Clients that may pass.
    pub clients: Clients,
    /// What the client certificate must say.
    pub certificate: CertificateRule,
    /// Headers that must be there, once and not empty.
    pub require_headers: Vec<HeaderName>,
    /// Narrows the issuer's.
    pub max_lifetime: Option<Duration>,
    /// How refusals are written; `None`: as those of routes without a policy. No decision looks at it.
    pub error_format: Option<Arc<Format>>,
}

impl Policy {
    /// Whether the issuer of a JWT that was verified here is asked about it.
    #[must_use]
    pub fn asks(&self, issuer: &Issuer) -> bool {
        let always = issuer.introspection.is_some_and(|rules| rules.always);
        self.introspection != Asking::AsIssuer || always
    }

    /// How much of a body of such a request must be read for the decision; `None`: nothing of it.
    #[must_use]
    pub fn reads_body(&self, method: &Method) -> Option<usize> {
        let linking = self.linking.iter();
        let linking = linking
            .filter(|linking| linking.is_about(method))
            .map(|linking| linking.body_bytes);
        let amounts = self.step_up.iter();
        let amounts = amounts
            .filter(|rule| rule.methods.has(method))
            .filter_map(|rule| rule.above.as_ref())
            .map(|above| above.body_bytes);
        linking.chain(amounts).min()
    }
}

/// `introspection` of a policy: whether the issuer is asked about tokens that were verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asking {
    /// As `use` of the issuer says.
    #[default]
    AsIssuer,
    /// Always; an answer is remembered for `cache.active` of the issuer.
    Always,
    /// At every request, opaque tokens included: no remembered answer is taken.
    Uncached,
}

/// How a token must be bound to its sender. A bound token must prove its binding whatever stands
/// here (MTLS-11, MTLS-13); this says what is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// A certificate-bound token will do (RFC 8705 s3).
    pub mtls: bool,
    /// A token bound to a DPoP key will do (RFC 9449 s7).
    pub dpop: bool,
    /// An unbound token passes too. Reported by `check`.
    pub none: bool,
}

impl Binding {
    /// The schemes that a request may use (RFC 9449 s7.2).
    #[must_use]
    pub const fn schemes(self) -> Schemes {
        Schemes {
            bearer: self.mtls || self.none,
            dpop: self.dpop,
        }
    }
}

/// `authorization_details = { type = …, … }`.
#[derive(Debug, Clone)]
pub struct DetailsRule {
    /// `type` of the entry.
    pub kind: Box<str>,
    /// Further members: a string, number or boolean must be equal, or be in the entry's array; every
    /// one of a list must be there.
    pub members: Vec<(Box<str>, Value)>,
}

/// What a claim must be.
#[derive(Debug, Clone)]
pub enum ClaimRule {
    /// There, or not there.
    Present(bool),
    /// Equal, type and all.
    Equals(Value),
    /// Equal to one of these.
    OneOf(Vec<Value>),
    /// An array that has this, or a string that has it between spaces.
    Contains(Value),
}

/// `clients`.
#[derive(Debug, Clone)]
pub enum Clients {
    /// Any.
    Any,
    /// These, by issuer: names of one issuer are not those of another.
    These(Vec<(IssuerId, Vec<Box<str>>)>),
}

/// `certificate = { … }`: each that is given must fit.
#[derive(Debug, Clone, Default)]
pub struct CertificateRule {
    /// A role that the certificate must have (ETSI TS 119 495).
    pub psd2_role: Option<Psd2Role>,
    /// One of these organization identifiers.
    pub organization_id: Vec<Box<str>>,
    /// One of these subjects, RFC 4514.
    pub subject: Vec<Box<str>>,
    /// One of these issuers, RFC 4514.
    pub issuer: Vec<Box<str>>,
}

impl CertificateRule {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.psd2_role.is_none()
            && self.organization_id.is_empty()
            && self.subject.is_empty()
            && self.issuer.is_empty()
    }
}
