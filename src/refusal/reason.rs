//! The table: every reason, with all that anybody is told about it.

/// Who must act. Class `Undecided` is its own: "could not tell" is refused like "no", but never
/// as 401, for an outage of ours must not make every client throw its token away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The client's programmer.
    Request,
    /// The client: get or send another token.
    Credential,
    /// The client's owner: ask for more rights, or authenticate the user again.
    Permission,
    /// The operator: something that the decision needs did not answer.
    Undecided,
    /// The operator of the API behind.
    Upstream,
    /// We: overload, drain, or a bug.
    Local,
}

impl Class {
    /// The word in logs, metrics and the printed table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Credential => "credential",
            Self::Permission => "permission",
            Self::Undecided => "undecided",
            Self::Upstream => "upstream",
            Self::Local => "local",
        }
    }
}

/// A status that can only be an error: 4xx or 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorStatus(u16);

impl ErrorStatus {
    const fn of(code: u16) -> Self {
        assert!(code >= 400 && code < 600, "an error status is 4xx or 5xx");
        Self(code)
    }

    /// The three digits.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }
}

/// What a `WWW-Authenticate` says about the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// No challenge.
    None,
    /// The scheme alone: no credentials came, so there is no error to name (RFC 6750 s3.1).
    Bare,
    /// The scheme with `error="…"` of this value.
    Error(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Stable name, `snake_case`: in logs, metrics, and bodies of listeners with `disclose_reasons`.
    pub code: &'static str,
    /// The status of the answer.
    pub status: ErrorStatus,
    /// The challenge of the answer.
    pub challenge: Challenge,
    /// Who must act.
    pub class: Class,
    /// The body's `error`.
    pub error: &'static str,
    /// The body's `error_description`: fixed text, ASCII, without quotes.
    pub description: &'static str,
    /// What the operator, or whom the class names, can do.
    pub remedy: &'static str,
    /// Default of `Retry-After`, seconds.
    pub retry_after: Option<u32>,
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $challenge:expr, $class:ident, $error:literal,
        $description:literal, $remedy:literal $(, retry $retry:literal)? ; )*) => {
        /// Why a request did not pass: one variant a cause, in the order of the classes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( $(#[$doc])* $name, )* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];

            /// The row. No wildcard: a new reason does not compile until its row is written.
            #[must_use]
            pub const fn spec(self) -> Spec {
                match self {
                    $( Self::$name => Spec {
                        code: $code, status: const { ErrorStatus::of($status) }, challenge: $challenge, class: Class::$class,
                        error: $error, description: $description, remedy: $remedy,
                        retry_after: reasons!(@retry $($retry)?),
                    }, )*
                }
            }
        }
    };
    (@retry) => { None };
    (@retry $retry:literal) => { Some($retry) };
}

use Challenge::{Bare, Error, None as NoChallenge};

reasons! {
    // ---- Request -------------------------------------------------------------------------------
    /// The HTTP request itself is broken.
    RequestMalformed = "request_malformed", 400, NoChallenge, Request, "invalid_request",
        "The request is malformed.", "See the detail in the log; the client sends HTTP that cannot be understood in one way only.";
    /// The path can be read in more than one way.
    TargetAmbiguous = "target_ambiguous", 400, NoChallenge, Request, "invalid_request",
        "The request target is ambiguous.", "The client must send the path in its plain form; path_allow of the route opens single forms.";
    /// A field that must come once came more often.
    FieldRepeated = "field_repeated", 400, NoChallenge, Request, "invalid_request",
        "A header field that must come once was repeated.", "The client must send the field once.";
    /// A header that the policy asks for is missing.
    HeaderRequired = "header_required", 400, NoChallenge, Request, "invalid_request",
        "A required header field is missing.", "The client must send the headers under require_headers of the policy.";
    /// The policy is about the body, and the body is not JSON that means one thing.
    BodyUnfit = "body_unfit", 400, NoChallenge, Request, "invalid_request",
        "The request body cannot be checked.", "dynamic_linking or step_up of the policy compares values of the body: it must be JSON in UTF-8, not encoded, with each member once; see the detail in the log.";
    /// No route has this path.
    RouteNotFound = "route_not_found", 404, NoChallenge, Request, "not_found",
        "There is no such resource.", "Add a route for the path, or correct the client.";
    /// The path has routes, none for this method.
    MethodNotAllowed = "method_not_allowed", 405, NoChallenge, Request, "method_not_allowed",
        "The resource does not support this method.", "Add the method to a route of the same pattern, or correct the client.";
    /// The request took too long to arrive.
    RequestTooSlow = "request_too_slow", 408, NoChallenge, Request, "invalid_request",
        "The request did not arrive in time.", "The client or its network is slow; header_timeout and body_timeout are the limits.";
    /// The body is longer than the listener allows.
    BodyTooLarge = "body_too_large", 413, NoChallenge, Request, "invalid_request",
        "The request body is too large.", "Raise body_bytes of the listener or route if the API needs it.";
    /// The target is longer than can be taken.
    TargetTooLong = "target_too_long", 414, NoChallenge, Request, "invalid_request",
        "The request target is too long.", "The client must send a shorter path or query.";
    /// The authority is not one of the listener that the TLS server name chose.
    AuthorityMismatch = "authority_mismatch", 421, NoChallenge, Request, "misdirected_request",
        "The request was sent to the wrong host name.", "The client must call public_url or one of aliases of the listener.";
    /// The header section is larger than the listener allows.
    FieldsTooLarge = "fields_too_large", 431, NoChallenge, Request, "invalid_request",
        "The request header fields are too large.", "Raise header_bytes of the listener if its clients need it.";

    // ---- Credential ----------------------------------------------------------------------------
    /// A token stands in the query.
    TokenInQuery = "token_in_query", 400, Error("invalid_request"), Credential, "invalid_request",
        "An access token must not be sent in the query.", "The client must use the Authorization header.";
    /// More than one credential came.
    TokenRepeated = "token_repeated", 400, Error("invalid_request"), Credential, "invalid_request",
        "More than one credential was sent.", "The client must send one Authorization header with one token.";
    /// The Authorization header cannot be read.
    CredentialsMalformed = "credentials_malformed", 400, Error("invalid_request"), Credential, "invalid_request",
        "The Authorization header is malformed.", "The client must send a scheme, a space and one token.";
    /// No token came.
    TokenMissing = "token_missing", 401, Bare, Credential, "invalid_token",
        "An access token is required.", "The client must send an access token.";
    /// Another authentication scheme than the route takes.
    SchemeUnsupported = "scheme_unsupported", 401, Bare, Credential, "invalid_token",
        "The authentication scheme is not supported.", "The client must use a scheme of the challenges.";
    /// The token is of no form that we take.
    TokenMalformed = "token_malformed", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The token is no well-formed signed JWT, and no issuer of the policy introspects; see the detail in the log.";
    /// The issuer says that the token is not active.
    TokenInactive = "token_inactive", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The issuer does not know the token, or revoked it; the client must get a new one.";
    /// The token is longer than the listener allows.
    TokenTooLarge = "token_too_large", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "Raise token_bytes of the listener, or of introspection of the issuer, if its tokens are that long.";
    /// The token is a JWT of another kind.
    TokenTypeWrong = "token_type_wrong", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "typ must be at+jwt; token_types of the issuer tolerates others.";
    /// The signature algorithm is not one of the issuer's.
    AlgorithmForbidden = "algorithm_forbidden", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The issuer must sign with one of its algorithms in the configuration.";
    /// The header has a member that changes how the token must be read.
    TokenExtensionUnknown = "token_extension_unknown", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "crit and b64 are not supported in access tokens (RFC 7515 s4.1.11).";
    /// The token names an issuer that the policy does not accept.
    IssuerUnknown = "issuer_unknown", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "Add the issuer to the configuration and to the policy, if it is one of yours.";
    /// The issuer has no such key.
    KeyUnknown = "key_unknown", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The kid is in no key set of the issuer; if it rotated just now, refresh_cooldown delays the look.";
    /// The key cannot be used for this algorithm.
    KeyMismatch = "key_mismatch", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "alg of the token and kty, crv, alg of the key must agree.";
    /// The signature is wrong.
    SignatureInvalid = "signature_invalid", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The token was altered, or signed by another key.";
    /// A claim that must be there is missing.
    ClaimMissing = "claim_missing", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "RFC 9068 s2.2 lists the claims; the detail in the log names the one.";
    /// A claim has the wrong type, comes twice or cannot be read.
    ClaimMalformed = "claim_malformed", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The detail in the log names the claim.";
    /// A claim that goes upstream has a control character.
    ClaimUnprintable = "claim_unprintable", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "A claim under forward.headers holds a control character; the issuer must not issue that.";
    /// The token is for somebody else.
    AudienceMismatch = "audience_mismatch", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "aud must hold one of audience of the issuer or policy.";
    /// The token is no longer valid.
    TokenExpired = "token_expired", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The client must get a new token; if all are refused, look at the clocks.";
    /// The token is not valid yet.
    TokenNotYetValid = "token_not_yet_valid", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "nbf or iat lies further ahead than clock_skew; look at the clocks.";
    /// The token lives longer than allowed.
    LifetimeExcessive = "lifetime_excessive", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "exp - iat is above max_lifetime of the issuer or policy.";
    /// The token needs a client certificate and none came.
    CertificateRequired = "certificate_required", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The client must present the certificate that its token is bound to (RFC 8705 s3).";
    /// The token is not bound to its sender in a way that the policy takes.
    BindingMissing = "binding_missing", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The issuer must issue certificate-bound tokens to this client (RFC 8705 s3).";
    /// The token is bound to another certificate.
    BindingMismatch = "binding_mismatch", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The client must use the certificate with which it got the token; a renewed one needs a new token.";
    /// The connection's certificate ran out.
    CertificateExpired = "certificate_expired", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The client's certificate ran out while it was connected.";
    /// The connection's certificate was revoked.
    CertificateRevoked = "certificate_revoked", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The client's certificate is in a CRL of the listener.";
    /// The connection's certificate is no longer trusted.
    CertificateUntrusted = "certificate_untrusted", 401, Error("invalid_token"), Credential, "invalid_token",
        "The access token is not valid.", "The client's certificate does not verify against the listener's present client_ca and CRLs.";
    /// The route needs a DPoP proof and none came.
    ProofMissing = "proof_missing", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "A DPoP proof is required.", "The client must send a new proof in the DPoP header with each request (RFC 9449 s7.1).";
    /// More than one DPoP proof came.
    ProofRepeated = "proof_repeated", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "The client must send one DPoP header with one proof (RFC 9449 s4.3).";
    /// The proof is of no form that we take, or lacks what it must have.
    ProofMalformed = "proof_malformed", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "RFC 9449 s4.2 lists what a proof must have; the detail in the log says what is wrong.";
    /// The proof, or a part of it, is longer than can be taken.
    ProofTooLarge = "proof_too_large", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "The client must send a proof of at most 8 KiB with a jti of at most 256 bytes.";
    /// The proof is signed with an algorithm that the gate does not take.
    ProofAlgorithmForbidden = "proof_algorithm_forbidden", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "The client must sign proofs with an algorithm of algs in the challenge.";
    /// The key in the proof is none that can be trusted to be the client's alone.
    ProofKeyInvalid = "proof_key_invalid", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "jwk must be a public key that fits alg: EC P-256, OKP Ed25519, or RSA of 2048 to 4096 bits; never send private members.";
    /// The proof's signature is wrong.
    ProofSignatureInvalid = "proof_signature_invalid", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "The proof was altered, or signed by another key than its jwk.";
    /// The proof is for another method.
    ProofMethodMismatch = "proof_method_mismatch", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "htm must be the method of the request, letter by letter.";
    /// The proof is for another URI.
    ProofTargetMismatch = "proof_target_mismatch", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "htu must be public_url or an alias of the listener with the path that the client sent; correct public_url if clients call another.";
    /// The proof is for another access token.
    ProofTokenMismatch = "proof_token_mismatch", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "ath must be the SHA-256 of the access token in base64url without padding (RFC 9449 s4.2).";
    /// The proof is too old.
    ProofExpired = "proof_expired", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "The client must make a new proof for each request; if all are refused, look at its clock and at dpop.proof_age.";
    /// The proof lies in the future.
    ProofNotYetValid = "proof_not_yet_valid", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "iat or nbf lies further ahead than dpop.proof_ahead; look at the clocks.";
    /// The proof was used before.
    ProofReplayed = "proof_replayed", 401, Error("invalid_dpop_proof"), Credential, "invalid_dpop_proof",
        "The DPoP proof is not valid.", "The client must make a new proof with a new jti for each request, also when it repeats one.";
    /// The proof has no nonce, and one is asked for.
    NonceRequired = "nonce_required", 401, Error("use_dpop_nonce"), Credential, "use_dpop_nonce",
        "The DPoP proof must have a nonce.", "Nothing: the client repeats the request with the nonce of the DPoP-Nonce header (RFC 9449 s9).";
    /// The nonce of the proof is not ours, or ran out.
    NonceInvalid = "nonce_invalid", 401, Error("use_dpop_nonce"), Credential, "use_dpop_nonce",
        "The DPoP proof must have a current nonce.", "Nothing: the client repeats the request with the nonce of the DPoP-Nonce header; if replicas refuse each other's, share dpop.nonce_key.";

    // ---- Permission ----------------------------------------------------------------------------
    /// The user must authenticate better or again.
    AuthenticationTooWeak = "authentication_too_weak", 401, Error("insufficient_user_authentication"), Permission, "insufficient_user_authentication",
        "A stronger or more recent user authentication is required.", "The client must send the user through the step-up of RFC 9470.";
    /// A scope is missing.
    ScopeInsufficient = "scope_insufficient", 403, Error("insufficient_scope"), Permission, "insufficient_scope",
        "The access token lacks a required scope.", "The client must ask for the scopes of the challenge.";
    /// The policy's clients do not have this one.
    ClientNotAllowed = "client_not_allowed", 403, NoChallenge, Permission, "access_denied",
        "The client may not use this resource.", "Add the client to clients of the policy if it may.";
    /// No authorization detail of the token covers the request.
    AuthorizationDetailsInsufficient = "details_insufficient", 403, NoChallenge, Permission, "access_denied",
        "The access token does not authorize this operation.", "authorization_details of the token has no entry of the policy's type and members (RFC 9396).";
    /// What is requested is not what the customer approved.
    NotAsApproved = "not_as_approved", 403, NoChallenge, Permission, "access_denied",
        "The request is not what was approved.", "dynamic_linking of the policy compares the body with authorization_details of the token; the detail in the log names the place.";
    /// A claim is not what the policy asks for.
    ClaimDenied = "claim_denied", 403, NoChallenge, Permission, "access_denied",
        "The access token does not authorize this operation.", "See claims of the policy; the detail in the log names the claim.";
    /// A fact of the certificate is not what the policy asks for.
    CertificateDenied = "certificate_denied", 403, NoChallenge, Permission, "access_denied",
        "The client certificate does not authorize this operation.", "See certificate of the policy.";

    // ---- Undecided -----------------------------------------------------------------------------
    /// The issuer's keys are out of reach and none are held.
    KeysUnavailable = "keys_unavailable", 503, NoChallenge, Undecided, "temporarily_unavailable",
        "The request cannot be decided at present.", "The issuer's JWKS or discovery does not answer; see /status and the log.", retry 5;
    /// The issuer could not be asked about the token, and no fresh answer is held.
    IntrospectionUnavailable = "introspection_unavailable", 503, NoChallenge, Undecided, "temporarily_unavailable",
        "The request cannot be decided at present.", "The introspection endpoint of the issuer does not answer or is asked too much; see /status and the log.", retry 1;
    /// The issuer's answer about the token cannot be read or is about something else.
    IntrospectionUnfit = "introspection_unfit", 503, NoChallenge, Undecided, "temporarily_unavailable",
        "The request cannot be decided at present.", "The introspection endpoint answers what RFC 7662 or RFC 9701 does not have; see the detail in the log.", retry 5;
    /// Whether the proof was used before cannot be known.
    ReplayUnavailable = "replay_unavailable", 503, NoChallenge, Undecided, "temporarily_unavailable",
        "The request cannot be decided at present.", "The store of used proofs is full, does not answer or may have lost some: see dpop.replay; dpop.replay_unavailable of the policy is the rule.", retry 1;

    // ---- Upstream ------------------------------------------------------------------------------
    /// No server of the upstream takes a connection.
    UpstreamUnreachable = "upstream_unreachable", 502, NoChallenge, Upstream, "server_error",
        "The service behind could not be reached.", "Start the upstream, or correct its servers.";
    /// The upstream's certificate does not verify.
    UpstreamUntrusted = "upstream_untrusted", 502, NoChallenge, Upstream, "server_error",
        "The service behind could not be reached.", "Correct ca, server_name or the upstream's certificate.";
    /// The upstream's answer is no HTTP that can be passed on.
    UpstreamProtocol = "upstream_protocol", 502, NoChallenge, Upstream, "server_error",
        "The service behind answered in error.", "The upstream closed early or sent malformed HTTP; see the detail in the log.";
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, NoChallenge, Upstream, "server_error",
        "The service behind did not answer in time.", "The upstream is slow; connect_timeout, response_timeout and request_timeout are the limits.";
    /// The request came through us before.
    LoopDetected = "loop_detected", 508, NoChallenge, Upstream, "server_error",
        "The request came back to where it passed before.", "The upstream leads back to this gate (Via names it): correct servers of the upstream.";

    // ---- Local ---------------------------------------------------------------------------------
    /// A bound of ours is reached.
    Overloaded = "overloaded", 503, NoChallenge, Local, "temporarily_unavailable",
        "The service is overloaded.", "Raise max_connections of the upstream, or add replicas.", retry 1;
    /// What is decided cannot be recorded, and nothing passes unrecorded.
    AuditUnavailable = "audit_unavailable", 503, NoChallenge, Local, "temporarily_unavailable",
        "The service cannot take requests at present.", "The audit log cannot be written, or its queue is full: see the log, the disk and audit.queue; audit.on_failure is the rule.", retry 5;
    /// A bug of ours.
    Internal = "internal", 500, NoChallenge, Local, "server_error",
        "An internal error occurred.", "Report it with the log line; the request was not forwarded.";
}

macro_rules! close_reasons {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $class:ident, $remedy:literal ; )*) => {
        /// Why a connection ended before it spoke HTTP: no status, but a code, a class, a remedy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CloseReason { $( $(#[$doc])* $name, )* }

        impl CloseReason {
            /// Every one, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];
            /// Stable name: in the log and in `portcullis_handshakes_total{result}`.
            #[must_use]
            pub const fn code(self) -> &'static str { match self { $( Self::$name => $code, )* } }
            /// Who must act.
            #[must_use]
            pub const fn class(self) -> Class { match self { $( Self::$name => Class::$class, )* } }
            /// What they can do.
            #[must_use]
            pub const fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* } }
        }
    };
}

close_reasons! {
    /// The listener has as many connections as it may.
    ConnectionLimit = "connection_limit", Local, "Raise connections of the listener, or add replicas.";
    /// TLS was not done in time.
    HandshakeTimeout = "handshake_timeout", Request, "The client or its network is slow; handshake_timeout is the limit.";
    /// The client broke the handshake off, or spoke no TLS that can be understood.
    HandshakeFailed = "handshake_failed", Request, "See the detail in the log.";
    /// No protocol version, suite, group or ALPN in common.
    ProtocolUnsupported = "protocol_unsupported", Request, "The client must offer TLS 1.2 or 1.3 with a suite of the profile, and h2 or http/1.1.";
    /// The client sent no server name and no listener of the address is the default.
    ServerNameMissing = "server_name_missing", Request, "The client must send SNI; default = true on a listener takes those that do not.";
    /// The server name is of no listener.
    ServerNameUnknown = "server_name_unknown", Request, "The client must call public_url or one of aliases of a listener.";
    /// A client certificate is required and none came.
    ClientCertificateMissing = "client_certificate_missing", Credential, "The client must present a certificate.";
    /// The client certificate does not verify.
    ClientCertificateUntrusted = "client_certificate_untrusted", Credential, "The certificate must be issued for client authentication under client_ca of the listener.";
    /// The client certificate is outside its dates.
    ClientCertificateExpired = "client_certificate_expired", Credential, "The client must renew its certificate.";
    /// The client certificate is revoked.
    ClientCertificateRevoked = "client_certificate_revoked", Credential, "The certificate is in a CRL of the listener.";
    /// Whether the client certificate is revoked cannot be known.
    RevocationUnknown = "revocation_unknown", Undecided, "The CRL of the certificate's issuer is missing or ran out: renew client_crl (crl_expired and crl_unknown are the rules).";
}
