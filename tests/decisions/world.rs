//! The world of the cases: keys, issuers, peers, and one route that each case changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use portcullis::pdp::content::Pointer;
use portcullis::pdp::decimal::Decimal;
use portcullis::pdp::dpop::{NonceKeys, NonceRule, Origins, ReplayRule, Rules};
use portcullis::pdp::introspection::{How, Introspected, Question, SignedAnswer, Unfit};
use portcullis::pdp::keys::KeySet;
use portcullis::pdp::linking::{Compared, Link, Linking};
use portcullis::pdp::policy::{
    Access, Algorithm, Asking, Binding, CertificateRule, ClaimRule, Clients, DetailsRule, Fact,
    ForwardRules, Introspection, MethodSet, RouteLimits, UpstreamName,
};
use portcullis::pdp::step_up::{Above, StepUp, Strength};
use portcullis::pdp::token::KeyGeneration;
use portcullis::pdp::{
    AccessToken, Ambiguities, Answer, Ask, Authorized, Inbound, InteractionId, Issuer, IssuerId,
    Pattern, Peer, PeerCertificate, Policy, Psd2Role, RequestHead, Route, RouteTable, Routed,
    SharedToken, Snapshot, Standing, Step, Thumbprint, Trail, Unavailable, UnixTime, begin, route,
};
use portcullis::refusal::{Reason, Refusal, challenges};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Bytes of a body that a policy of a case looks at.
pub(crate) const BODY_BYTES: usize = 4096;

/// The time of every case, unless it says otherwise.
pub(crate) const NOW: u64 = 1_800_000_000;

/// One case. What it does not name is as in the good case: the client `tpp-1` with its
/// certificate and a bound token that has all that the policy asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Requirements that it shows.
    pub(crate) covers: Vec<String>,
    /// `authorized`, or the code of the reason.
    pub(crate) expect: String,
    /// The `WWW-Authenticate` that must come of it.
    pub(crate) challenge: Option<String>,
    /// The identity headers that the upstream must get, all of them.
    pub(crate) identity: Option<BTreeMap<String, String>>,
    /// What the shadow policy must have said.
    pub(crate) shadow_said: Option<String>,
    /// Why an observed request would have been refused.
    pub(crate) observed: Option<String>,

    pub(crate) method: String,
    pub(crate) target: String,
    /// `{token}` stands for the token; empty for no field.
    pub(crate) authorization: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// `tpp`, `other` or `none`.
    pub(crate) peer: String,
    /// Seconds from [`NOW`].
    pub(crate) clock: i64,

    pub(crate) header: toml::Table,
    pub(crate) claims: toml::Table,
    pub(crate) raw_header: Option<String>,
    pub(crate) raw_claims: Option<String>,
    /// Which key signs: `es`, `ps`, `ed`, `rs` (PKCS #1 with the key of `ps`), `stranger`, and the
    /// broken ways `der`, `zero`, `empty`, `hmac`.
    pub(crate) key: String,
    pub(crate) token: String,
    /// The key set of `main`: `main`, `single`, `same-kid`, `without-es`, `unavailable`.
    pub(crate) keys: String,

    /// Changes to the header of the proof `{proof}`, which a second client's key signs, and to its
    /// claims; `@jwk:es` and the like are the public halves of keys.
    pub(crate) proof_header: toml::Table,
    pub(crate) proof_claims: toml::Table,
    /// Which key signs the proof; as `key`.
    pub(crate) proof_key: String,
    /// The text of the proof, in which `{header}`, `{claims}` and `{signature}` stand for its parts.
    pub(crate) proof: String,
    /// Whether the proof was used before; or that this cannot be known.
    pub(crate) used: Option<String>,
    /// How often it was asked whether the proof is new.
    pub(crate) uses: Option<usize>,
    /// Changes to what the issuer says of an opaque token, or of a JWT: the members of the base
    /// claims, and `active`.
    pub(crate) answer: toml::Table,
    pub(crate) raw_answer: Option<String>,
    /// `plain`; `signed` (RFC 9701) by the key of the case with its `header`; `unavailable`.
    pub(crate) introspection: String,
    /// Changes to the payload around a signed answer.
    pub(crate) envelope: toml::Table,
    /// `use = "always"`.
    pub(crate) always: bool,
    /// How often the issuer must have been asked.
    pub(crate) asked: Option<usize>,

    /// The body of the request.
    pub(crate) body: String,
    /// How often it was asked for.
    pub(crate) reads: Option<usize>,

    pub(crate) policy: PolicyChange,
    pub(crate) shadow: Option<PolicyChange>,
    pub(crate) open: bool,
    /// Seconds from [`NOW`].
    pub(crate) observe_until: Option<i64>,
    pub(crate) forward: BTreeMap<String, String>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            name: String::new(),
            covers: Vec::new(),
            expect: "authorized".to_owned(),
            challenge: None,
            identity: None,
            shadow_said: None,
            observed: None,
            method: "GET".to_owned(),
            target: "/accounts/1".to_owned(),
            authorization: "Bearer {token}".to_owned(),
            headers: BTreeMap::new(),
            peer: "tpp".to_owned(),
            clock: 0,
            header: toml::Table::new(),
            claims: toml::Table::new(),
            raw_header: None,
            raw_claims: None,
            key: "es".to_owned(),
            token: "{header}.{claims}.{signature}".to_owned(),
            keys: "main".to_owned(),
            proof_header: toml::Table::new(),
            proof_claims: toml::Table::new(),
            proof_key: "ed".to_owned(),
            proof: "{header}.{claims}.{signature}".to_owned(),
            used: None,
            uses: None,
            answer: toml::Table::new(),
            raw_answer: None,
            introspection: "plain".to_owned(),
            envelope: toml::Table::new(),
            always: false,
            asked: None,
            body: String::new(),
            reads: None,
            policy: PolicyChange::default(),
            shadow: None,
            open: false,
            observe_until: None,
            forward: BTreeMap::new(),
        }
    }
}

/// What a case's policy has beside a certificate-bound token of `main` with scope `accounts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyChange {
    pub(crate) issuers: Option<Vec<u32>>,
    pub(crate) audience: Option<Vec<Box<str>>>,
    pub(crate) binding: Option<Vec<String>>,
    pub(crate) scopes: Option<Vec<Box<str>>>,
    pub(crate) any_scope: Vec<Box<str>>,
    pub(crate) acr: Vec<Box<str>>,
    pub(crate) max_age: Option<u64>,
    pub(crate) amr: Vec<Box<str>>,
    pub(crate) step_up: Vec<StepUpChange>,
    pub(crate) linking: Option<LinkingChange>,
    pub(crate) details: Option<toml::Table>,
    pub(crate) claims: BTreeMap<String, toml::Table>,
    pub(crate) clients: Option<BTreeMap<String, Vec<Box<str>>>>,
    pub(crate) psd2_role: Option<String>,
    pub(crate) organization_id: Vec<Box<str>>,
    pub(crate) subject: Vec<Box<str>>,
    pub(crate) issuer: Vec<Box<str>>,
    pub(crate) require_headers: Vec<String>,
    pub(crate) max_lifetime: Option<u64>,
    /// `main` gets opaque tokens.
    pub(crate) opaque: bool,
    /// `always` or `uncached`.
    pub(crate) introspection: Option<String>,
    /// `accepted` or `required`.
    pub(crate) nonce: Option<String>,
    /// What this process has seen decides while the shared store is out of reach.
    pub(crate) replay_local: bool,
}

/// One more demand on the user's authentication.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StepUpChange {
    pub(crate) methods: Vec<String>,
    /// Of `/amount`, in the `/currency` EUR.
    pub(crate) above: Option<String>,
    pub(crate) acr: Vec<Box<str>>,
    pub(crate) amr: Vec<Box<str>>,
    pub(crate) max_age: Option<u64>,
}

/// What must be requested as it was approved: places of the body, and of the entry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LinkingChange {
    pub(crate) amounts: BTreeMap<String, String>,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) methods: Option<Vec<String>>,
}

/// How a decision ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Authorized(Authorized<()>),
    Refused(Refusal),
}

impl Outcome {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Authorized(_) => "authorized",
            Self::Refused(refusal) => refusal.reason().spec().code,
        }
    }
}

pub(crate) struct Decided {
    pub(crate) outcome: Outcome,
    pub(crate) trail: Trail,
    /// What the machine wanted remembered.
    pub(crate) remembered: Option<SharedToken>,
    /// How often it was asked whether the proof is new.
    pub(crate) uses: usize,
    pub(crate) reads: usize,
    /// How often the issuer was asked about the token, and whether a remembered answer would do.
    pub(crate) asked: Vec<bool>,
}

/// What a walk leaves beside its end.
#[derive(Default)]
pub(crate) struct Traces {
    remembered: Option<SharedToken>,
    asked: Vec<bool>,
    uses: usize,
    reads: usize,
}

pub(crate) struct World {
    random: SystemRandom,
    es: EcdsaKeyPair,
    es_der: EcdsaKeyPair,
    stranger: EcdsaKeyPair,
    rsa: RsaKeyPair,
    ed: Ed25519KeyPair,
    sets: BTreeMap<&'static str, Arc<KeySet>>,
    second: Arc<KeySet>,
    issuers: Vec<Arc<Issuer>>,
    nonces: Arc<NonceKeys>,
    /// Public halves, without names.
    jwks: BTreeMap<&'static str, Value>,
}

/// A request that can be made again and again.
pub(crate) struct Prepared {
    snapshot: Arc<Snapshot>,
    peer: Arc<Peer>,
    parts: http::request::Parts,
}

impl World {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("an EC key");
        let ec =
            |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).expect("an EC key");
        let (es, es_der) = (
            ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
        );
        let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("an EC key");
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let ed = Ed25519KeyPair::generate().expect("an Ed25519 key");

        let point = es.public_key().as_ref();
        let ec_jwk = |kid: &str| {
            json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
                   "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])})
        };
        let ed_jwk = |kid: &str| {
            json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA",
                   "x": BASE64.encode(ed.public_key().as_ref())})
        };
        let components = PublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
        let rsa_jwk = |kid: &str| {
            json!({"kty": "RSA", "kid": kid, "n": BASE64.encode(&components.n),
                   "e": BASE64.encode(&components.e)})
        };
        let bare = |jwk: Value| {
            let Value::Object(mut members) = jwk else {
                panic!("a key is an object");
            };
            for name in ["kid", "use", "alg"] {
                members.remove(name);
            }
            Value::Object(members)
        };
        let jwks = BTreeMap::from([
            ("es", bare(ec_jwk("es"))),
            ("ps", bare(rsa_jwk("ps"))),
            ("ed", bare(ed_jwk("ed"))),
        ]);
        let main = [Algorithm::Es256, Algorithm::Ps256, Algorithm::EdDsa];
        let set = |keys: Value, algorithms: &[Algorithm]| {
            let text = json!({ "keys": keys }).to_string();
            let (set, _) =
                KeySet::parse(text.as_bytes(), KeyGeneration(7), algorithms).expect("a key set");
            Arc::new(set)
        };
        let mut nameless = ec_jwk("es");
        nameless.as_object_mut().expect("an object").remove("kid");
        let sets = BTreeMap::from([
            (
                "main",
                set(json!([ec_jwk("es"), rsa_jwk("ps"), ed_jwk("ed")]), &main),
            ),
            ("single", set(json!([nameless, rsa_jwk("ps")]), &main)),
            ("twins", set(json!([ec_jwk("es"), nameless]), &main)),
            (
                "same-kid",
                set(json!([rsa_jwk("es"), ed_jwk("es"), ec_jwk("es")]), &main),
            ),
            (
                "without-es",
                set(json!([rsa_jwk("ps"), ed_jwk("ed")]), &main),
            ),
            // KEY-08: the symmetric key is left out, so that nothing can be signed with it.
            (
                "with-oct",
                set(
                    json!([{"kty": "oct", "k": "c2VjcmV0", "kid": "oct"}, ec_jwk("es")]),
                    &main,
                ),
            ),
        ]);
        let second_algorithms = [Algorithm::Rs256];
        let second = set(json!([rsa_jwk("rs")]), &second_algorithms);
        let issuer = |id: u32, name: &str| Issuer {
            id: IssuerId(id),
            name: name.into(),
            issuer: format!("https://{name}.as.bank.example").into(),
            audience: vec![
                "https://api.bank.example".into(),
                "https://api.bank.example/pay".into(),
            ],
            algorithms: main.to_vec(),
            token_types: vec!["application/at+jwt".into()],
            clock_skew: Duration::from_secs(10),
            exp_leeway: Duration::ZERO,
            max_lifetime: Duration::from_secs(24 * 3600),
            client_id_claims: vec!["client_id".into()],
            scope_claims: vec!["scope".into()],
            introspection: Some(Introspection {
                always: false,
                token_bytes: 128,
            }),
        };
        let legacy = Issuer {
            algorithms: second_algorithms.to_vec(),
            token_types: vec!["application/at+jwt".into(), "application/jwt".into()],
            exp_leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(600),
            client_id_claims: vec!["client_id".into(), "azp".into()],
            scope_claims: vec!["scope".into(), "scp".into()],
            introspection: None,
            ..issuer(1, "legacy")
        };
        Self {
            random,
            es,
            es_der,
            stranger,
            rsa,
            ed,
            sets,
            second,
            issuers: vec![Arc::new(issuer(0, "main")), Arc::new(legacy)],
            jwks,
            nonces: Arc::new(
                NonceKeys::new(&[7; 32], None, Duration::from_secs(120)).expect("keys of nonces"),
            ),
        }
    }

    /// Decides a case cold and, where its token was verified, warm; compares all that it names.
    pub(crate) fn check(&self, case: &Case) -> Result<(), String> {
        if case.covers.is_empty() {
            return Err("it covers no requirement".to_owned());
        }
        // One text for both times: each ECDSA signature is another.
        let case = &Case {
            token: self.token(case),
            ..case.clone()
        };
        let cold = self.decide(case);
        self.compare(case, &cold)?;
        if let Some(token) = &cold.remembered {
            let warm = self.run(case, Some(token));
            self.compare(case, &warm)
                .map_err(|why| format!("{why} (with the token remembered)"))?;
            if warm.remembered.is_some() {
                return Err("a remembered token was verified again".to_owned());
            }
        }
        Ok(())
    }

    fn compare(&self, case: &Case, decided: &Decided) -> Result<(), String> {
        let found = decided.outcome.code();
        if found != case.expect {
            let detail = match &decided.outcome {
                Outcome::Refused(refusal) => refusal.detail().unwrap_or_default().to_owned(),
                Outcome::Authorized(_) => String::new(),
            };
            return Err(format!("{found}, not {}: {detail}", case.expect));
        }
        if let Some(times) = case.asked
            && decided.asked.len() != times
        {
            return Err(format!(
                "the issuer was asked {} times",
                decided.asked.len()
            ));
        }
        if let Some(times) = case.reads
            && decided.reads != times
        {
            return Err(format!("the body was asked for {} times", decided.reads));
        }
        if let Some(times) = case.uses
            && decided.uses != times
        {
            return Err(format!("it was asked {} times for the proof", decided.uses));
        }
        let uncached = case.policy.introspection.as_deref() == Some("uncached");
        if decided.asked.contains(&uncached) {
            return Err("a remembered answer is not taken as the policy says".to_owned());
        }
        let shadow = decided.trail.shadow.map(|said| match said {
            None => "authorized",
            Some(reason) => reason.spec().code,
        });
        if shadow != case.shadow_said.as_deref() {
            return Err(format!("the shadow policy said {shadow:?}"));
        }
        match &decided.outcome {
            Outcome::Refused(refusal) => {
                let lines: Vec<_> = challenges(refusal).collect();
                let status = refusal.reason().spec().status.code();
                if (status == 401) == lines.is_empty() && status != 400 && status != 403 {
                    return Err(format!("status {status} with challenges {lines:?}"));
                }
                // RFC 9449 s7.2: one line a scheme, the error on that which was used.
                let of = |scheme: &str| lines.iter().filter(|l| l.starts_with(scheme)).count();
                let errors = lines.iter().filter(|line| line.contains("error=")).count();
                if of("Bearer") > 1 || of("DPoP") > 1 || (status == 401 && errors > 1) {
                    return Err(format!("challenges {lines:?}"));
                }
                let dpop = case.authorization.starts_with("DPoP");
                if status == 401
                    && errors == 1
                    && dpop != lines.iter().any(|l| l.starts_with("DPoP error"))
                {
                    return Err(format!("the error is of the other scheme: {lines:?}"));
                }
                if let Some(expected) = &case.challenge
                    && lines != [expected.as_str()]
                {
                    return Err(format!("challenges {lines:?}"));
                }
                if let Some(detail) = refusal.detail()
                    && detail.contains("eyJ")
                {
                    return Err("the detail holds a token".to_owned());
                }
            }
            Outcome::Authorized(permit) => {
                let observed = permit
                    .observed()
                    .map(|refusal| refusal.reason().spec().code);
                if observed != case.observed.as_deref() {
                    return Err(format!("observed {observed:?}"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn decide(&self, case: &Case) -> Decided {
        self.run(case, None)
    }

    pub(crate) fn run(&self, case: &Case, known: Option<&SharedToken>) -> Decided {
        let mut trail = Trail {
            recording: true,
            ..Trail::default()
        };
        let mut traces = Traces::default();
        let result = self.walk(case, known, &mut trail, &mut traces);
        let outcome = match result {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(permit) => {
                if let Some(expected) = &case.identity {
                    let found: BTreeMap<_, _> = permit
                        .identity()
                        .iter()
                        .map(|(name, value)| {
                            let value = value.to_str().expect("printable").to_owned();
                            (name.as_str().to_owned(), value)
                        })
                        .collect();
                    assert_eq!(&found, expected, "identity of {}", case.name);
                }
                Outcome::Authorized(permit)
            }
        };
        Decided {
            outcome,
            trail,
            remembered: traces.remembered,
            asked: traces.asked,
            uses: traces.uses,
            reads: traces.reads,
        }
    }

    fn walk(
        &self,
        case: &Case,
        known: Option<&SharedToken>,
        trail: &mut Trail,
        traces: &mut Traces,
    ) -> Result<Authorized<()>, Refusal> {
        let routed = route(self.inbound(case)?, &self.snapshot(case), trail)?;
        self.finish(case, routed, known, trail, traces)
    }

    /// From the route to the end, with every question answered.
    pub(crate) fn finish(
        &self,
        case: &Case,
        routed: Routed<()>,
        known: Option<&SharedToken>,
        trail: &mut Trail,
        traces: &mut Traces,
    ) -> Result<Authorized<()>, Refusal> {
        let now = UnixTime::from_secs(NOW.saturating_add_signed(case.clock));
        let mut step = begin(routed, now, trail)?;
        for _ in 0..7 {
            let pending = match step {
                Step::Done(permit) => return Ok(permit),
                Step::Ask(pending) => pending,
            };
            let answer = match pending.ask() {
                Ask::Recall(_) => Answer::Recalled(known.cloned()),
                Ask::Keys { .. } if case.keys == "unavailable" => {
                    let why = Unavailable {
                        reason: Reason::KeysUnavailable,
                        detail: "the issuer does not answer".into(),
                        retry_after: None,
                    };
                    step = pending.unanswered(&why, now, trail)?;
                    continue;
                }
                Ask::Keys { issuer, .. } if issuer.id == IssuerId(1) => {
                    Answer::Keys(Arc::clone(&self.second))
                }
                Ask::Keys { .. } => Answer::Keys(Arc::clone(&self.sets[case.keys.as_str()])),
                Ask::Remember(digest, token) => {
                    assert_eq!(*digest, token.digest());
                    traces.remembered = Some(Arc::clone(token));
                    Answer::Remembered
                }
                Ask::Body { limit } => {
                    traces.reads += 1;
                    assert_eq!(*limit, BODY_BYTES);
                    Answer::Body(case.body.clone().into())
                }
                Ask::Client { .. } | Ask::ClientKeys { .. } => {
                    panic!("no route here leads to an authorization server")
                }
                Ask::FirstUse { until, rule, .. } => {
                    traces.uses += 1;
                    assert!(*until >= now, "a proof that can be taken is kept");
                    match case.used.as_deref() {
                        None => Answer::FirstUse(true),
                        Some("yes") => Answer::FirstUse(false),
                        Some("unknown to others") if *rule == ReplayRule::Local => {
                            Answer::FirstUse(true)
                        }
                        Some(_) => {
                            let why = Unavailable {
                                reason: Reason::ReplayUnavailable,
                                detail: "no room".into(),
                                retry_after: None,
                            };
                            step = pending.unanswered(&why, now, trail)?;
                            continue;
                        }
                    }
                }
                Ask::Introspect {
                    issuer,
                    token,
                    remembered,
                } => {
                    assert_eq!(issuer.id, IssuerId(0), "nobody else is asked");
                    traces.asked.push(*remembered);
                    match self.introspected(case, issuer, token, now) {
                        Ok(said) => Answer::Introspected(Arc::new(said), How::Asked),
                        Err(why) => {
                            step = pending.unanswered(&why, now, trail)?;
                            continue;
                        }
                    }
                }
            };
            step = pending.resume(answer, now, trail)?;
        }
        panic!("the machine does not end");
    }

    /// All of a case that stays the same from request to request.
    pub(crate) fn prepare(&self, case: &Case) -> Prepared {
        let case = Case {
            token: self.token(case),
            ..case.clone()
        };
        let inbound = self.inbound(&case).expect("a request");
        let request = http::Request::builder()
            .uri(&case.target)
            .header("host", "api.bank.example")
            .header("authorization", format!("Bearer {}", case.token))
            .body(())
            .expect("a request");
        Prepared {
            snapshot: self.snapshot(&case),
            peer: inbound.peer,
            parts: request.into_parts().0,
        }
    }

    /// A prepared request at its route.
    pub(crate) fn routed(&self, prepared: &Prepared) -> (Routed<()>, Trail) {
        let mut trail = Trail::default();
        let id = InteractionId::from_random([7; 16]);
        let inbound = Inbound {
            head: RequestHead::new(prepared.parts.clone(), id).expect("a head"),
            standing: Some(Standing::Trusted),
            peer: Arc::clone(&prepared.peer),
            body: (),
        };
        let routed = route(inbound, &prepared.snapshot, &mut trail).expect("a route");
        (routed, trail)
    }

    /// The verified token of a prepared request.
    pub(crate) fn verified(&self, case: &Case, prepared: &Prepared) -> SharedToken {
        let (routed, mut trail) = self.routed(prepared);
        let mut traces = Traces::default();
        let end = self.finish(case, routed, None, &mut trail, &mut traces);
        drop(end.expect("a permit"));
        traces.remembered.expect("a verified token")
    }

    /// What the issuer says, as the shell would read it.
    fn introspected(
        &self,
        case: &Case,
        issuer: &Issuer,
        token: &AccessToken,
        now: UnixTime,
    ) -> Result<Introspected, Unavailable> {
        let unavailable = |reason, detail: &str| Unavailable {
            reason,
            detail: detail.into(),
            retry_after: None,
        };
        let unfit = |Unfit(why)| unavailable(Reason::IntrospectionUnfit, &why);
        let mut members = self.base_claims(&Case::default());
        members.insert("active".to_owned(), true.into());
        change(&mut members, &case.answer);
        self.name_key(&mut members);
        let plain = Value::Object(members.clone()).to_string();
        let plain = case.raw_answer.clone().unwrap_or(plain);
        match case.introspection.as_str() {
            "plain" => Introspected::read(plain.as_bytes(), issuer, token.digest()).map_err(unfit),
            "signed" => {
                let envelope = json!({
                    "iss": "https://main.as.bank.example", "aud": "pep", "iat": NOW,
                    "token_introspection": members,
                });
                let Value::Object(mut envelope) = envelope else {
                    panic!("an object");
                };
                change(&mut envelope, &case.envelope);
                let mut header =
                    json!({"typ": "token-introspection+jwt", "alg": "ES256", "kid": "es"});
                change(header.as_object_mut().expect("an object"), &case.header);
                let message = format!(
                    "{}.{}",
                    BASE64.encode(header.to_string()),
                    BASE64.encode(Value::Object(envelope).to_string())
                );
                let signature = BASE64.encode(self.sign(&case.key, message.as_bytes()));
                let answer = format!("{message}.{signature}");
                let signed = SignedAnswer::parse(answer.as_bytes(), issuer).map_err(unfit)?;
                let question = Question {
                    issuer,
                    client_id: "pep",
                    digest: token.digest(),
                    now,
                };
                let keys = &self.sets[case.keys.as_str()];
                signed.verify(keys, question).map_err(unfit)
            }
            _ => Err(unavailable(
                Reason::IntrospectionUnavailable,
                "the issuer does not answer",
            )),
        }
    }

    /// Each question with each wrong answer, and the evidence of another token.
    pub(crate) fn misanswer(&self) {
        let good = Case::default();
        let other = Case {
            key: "ed".to_owned(),
            header: toml::Table::from_iter([
                ("alg".to_owned(), "EdDSA".into()),
                ("kid".to_owned(), "ed".into()),
            ]),
            ..Case::default()
        };
        let known = self.decide(&other).remembered.expect("a verified token");
        let mut trail = Trail::default();
        let now = UnixTime::from_secs(NOW);
        let keys = || Answer::Keys(Arc::clone(&self.sets["main"]));
        let inbound = || self.inbound(&good).expect("a request");
        let started = |trail: &mut Trail| {
            let routed = route(inbound(), &self.snapshot(&good), trail).expect("a route");
            match begin(routed, now, trail).expect("a question") {
                Step::Ask(pending) => pending,
                Step::Done(_) => panic!("no question"),
            }
        };
        for answer in [Answer::Recalled(Some(known)), keys(), Answer::Remembered] {
            let refusal = started(&mut trail).resume(answer, now, &mut trail).err();
            assert_eq!(refusal.map(|r| r.reason()), Some(Reason::Internal));
        }
        for answer in [Answer::Recalled(None), Answer::Remembered] {
            let asked = started(&mut trail).resume(Answer::Recalled(None), now, &mut trail);
            let Ok(Step::Ask(pending)) = asked else {
                panic!("no question");
            };
            let refusal = pending.resume(answer, now, &mut trail).err();
            assert_eq!(refusal.map(|r| r.reason()), Some(Reason::Internal));
        }
    }

    pub(crate) fn inbound(&self, case: &Case) -> Result<Inbound<()>, Refusal> {
        let mut request = http::Request::builder()
            .method(case.method.as_str())
            .uri(&case.target)
            .header("host", "api.bank.example");
        if !case.authorization.is_empty() {
            let token = self.token(case);
            for field in case.authorization.split('\n') {
                request = request.header("authorization", field.replace("{token}", &token));
            }
        }
        let proof = self.proof(case);
        for (name, value) in &case.headers {
            for value in value.split('\n') {
                request = request.header(name, value.replace("{proof}", &proof));
            }
        }
        if !case.body.is_empty() && !case.headers.contains_key("content-type") {
            request = request.header("content-type", "application/json");
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let head = RequestHead::new(parts, InteractionId::from_random([7; 16]))?;
        let certificate = match case.peer.as_str() {
            "none" => None,
            name => Some(certificate(name)),
        };
        Ok(Inbound {
            head,
            standing: certificate.as_ref().map(|_| Standing::Trusted),
            peer: Arc::new(Peer {
                remote: ([192, 0, 2, 1], 50_000).into(),
                local: ([192, 0, 2, 2], 443).into(),
                listener: "bank".into(),
                certificate,
            }),
            body: (),
        })
    }

    pub(crate) fn snapshot(&self, case: &Case) -> Arc<Snapshot> {
        let policy = |name: &str, change: &PolicyChange| Arc::new(policy(name, change));
        let headers = case
            .forward
            .iter()
            .map(|(name, fact)| (name.parse().expect("a header name"), self::fact(fact)));
        let route = Route {
            index: 0,
            name: "accounts".into(),
            methods: MethodSet::Any,
            access: if case.open {
                Access::Open
            } else {
                Access::Policy(policy("accounts", &case.policy))
            },
            upstream: UpstreamName("core".into()),
            path_allow: Ambiguities::default(),
            case_insensitive: false,
            websocket: false,
            rewrite: None,
            limits: RouteLimits::default(),
            forward: Arc::new(ForwardRules {
                authorization: false,
                host: None,
                strip: Vec::new(),
                headers: headers.collect(),
            }),
            shadow: case.shadow.as_ref().map(|change| policy("shadow", change)),
            observe_until: case
                .observe_until
                .map(|at| UnixTime::from_secs(NOW.saturating_add_signed(at))),
        };
        let pattern = Pattern::parse("/accounts/**").expect("a pattern");
        let table = RouteTable::build(
            "bank".into(),
            &["api.bank.example".into()],
            &[443],
            4096,
            vec![(pattern, Arc::new(route))],
        );
        let origins = Origins::new(&["https://api.bank.example"]).expect("origins");
        Arc::new(Snapshot {
            generation: 1,
            nonces: Some(Arc::clone(&self.nonces)),
            tables: vec![table.expect("a table").with_origins(origins)],
            issuers: self
                .issuers
                .iter()
                .map(|issuer| match issuer.introspection {
                    Some(rules) if case.always => Arc::new(Issuer {
                        introspection: Some(Introspection {
                            always: true,
                            ..rules
                        }),
                        ..copy(issuer)
                    }),
                    _ => Arc::clone(issuer),
                })
                .collect(),
        })
    }

    pub(crate) fn token(&self, case: &Case) -> String {
        let header = match &case.raw_header {
            Some(raw) => raw.clone(),
            None => {
                let mut header = Map::new();
                header.insert("typ".to_owned(), "at+jwt".into());
                header.insert("alg".to_owned(), "ES256".into());
                header.insert("kid".to_owned(), "es".into());
                change(&mut header, &case.header);
                Value::Object(header).to_string()
            }
        };
        let base = Value::Object(self.base_claims(case)).to_string();
        let claims = match &case.raw_claims {
            Some(raw) => raw.replace("{base}", base.trim_matches(['{', '}'])),
            None => base,
        };
        let (header, claims) = (BASE64.encode(header), BASE64.encode(claims));
        let message = format!("{header}.{claims}");
        let signature = BASE64.encode(self.sign(&case.key, message.as_bytes()));
        case.token
            .replace("{header}", &header)
            .replace("{claims}", &claims)
            .replace("{signature}", &signature)
    }

    /// A proof as the case says.
    pub(crate) fn proof(&self, case: &Case) -> String {
        let token = self.token(case);
        let mut header = Map::new();
        header.insert("typ".to_owned(), "dpop+jwt".into());
        header.insert("alg".to_owned(), "EdDSA".into());
        header.insert("jwk".to_owned(), self.jwks["ed"].clone());
        self.change_keys(&mut header, &case.proof_header);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let base = json!({
            "jti": "p-1", "htm": case.method, "iat": NOW,
            "htu": format!("https://api.bank.example{}", case.target.split('?').next().expect("a path")),
            "ath": BASE64.encode(digest.as_ref()),
        });
        let Value::Object(mut claims) = base else {
            panic!("claims are an object");
        };
        if case.proof_claims.get("nonce").and_then(toml::Value::as_str) == Some("@good") {
            let nonce = self.nonces.fresh(UnixTime::from_secs(NOW));
            claims.insert("nonce".to_owned(), (*nonce).into());
        } else {
            change(&mut claims, &case.proof_claims);
        }
        let header = BASE64.encode(Value::Object(header).to_string());
        let claims = BASE64.encode(Value::Object(claims).to_string());
        let message = format!("{header}.{claims}");
        let signature = BASE64.encode(self.sign(&case.proof_key, message.as_bytes()));
        case.proof
            .replace("{header}", &header)
            .replace("{claims}", &claims)
            .replace("{signature}", &signature)
            .replace("{token}", &token)
    }

    /// [`change`], with keys.
    fn change_keys(&self, members: &mut Map<String, Value>, by: &toml::Table) {
        change(members, by);
        for value in members.values_mut() {
            let key = value.as_str().and_then(|text| text.strip_prefix("jwk:"));
            if let Some(key) = key {
                *value = self.jwks[key].clone();
            }
        }
    }

    pub(crate) fn base_claims(&self, case: &Case) -> Map<String, Value> {
        let base = json!({
            "iss": "https://main.as.bank.example",
            "sub": "user-1",
            "client_id": "tpp-1",
            "aud": "https://api.bank.example",
            "exp": NOW + 300,
            "iat": NOW - 60,
            "jti": "a-1",
            "scope": "accounts payments",
            "cnf": {"x5t#S256": certificate("tpp").thumbprint_text},
        });
        let Value::Object(mut claims) = base else {
            panic!("claims are an object");
        };
        change(&mut claims, &case.claims);
        self.name_key(&mut claims);
        claims
    }

    /// `jkt:…` in `cnf` becomes the thumbprint of that key (RFC 7638 s3).
    fn name_key(&self, claims: &mut Map<String, Value>) {
        let Some(jkt) = claims.get_mut("cnf").and_then(|cnf| cnf.get_mut("jkt")) else {
            return;
        };
        let Some(key) = jkt.as_str().and_then(|text| text.strip_prefix("jkt:")) else {
            return;
        };
        // serde_json sorts members by name, as the thumbprint wants them.
        let text = self.jwks[key].to_string();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        *jkt = BASE64.encode(digest.as_ref()).into();
    }

    fn sign(&self, key: &str, message: &[u8]) -> Vec<u8> {
        let ec = |key: &EcdsaKeyPair| {
            let signature = key.sign(&self.random, message).expect("a signature");
            signature.as_ref().to_vec()
        };
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(padding, &self.random, message, &mut signature)
                .expect("a signature");
            signature
        };
        match key {
            "es" => ec(&self.es),
            "der" => ec(&self.es_der),
            "stranger" => ec(&self.stranger),
            "ps" => rsa(&RSA_PSS_SHA256),
            "rs" => rsa(&RSA_PKCS1_SHA256),
            "ed" => self.ed.sign(message).as_ref().to_vec(),
            "zero" => vec![0; 64],
            "empty" => Vec::new(),
            "hmac" => {
                let public = self.es.public_key().as_ref();
                let key = hmac::Key::new(hmac::HMAC_SHA256, public);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            "hmac-oct" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
                hmac::sign(&key, message).as_ref().to_vec()
            }
            other => panic!("no key {other}"),
        }
    }
}

/// An issuer is not to be copied in the program, where each has its number.
pub(crate) fn copy(issuer: &Issuer) -> Issuer {
    Issuer {
        id: issuer.id,
        name: Arc::clone(&issuer.name),
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        algorithms: issuer.algorithms.clone(),
        token_types: issuer.token_types.clone(),
        client_id_claims: issuer.client_id_claims.clone(),
        scope_claims: issuer.scope_claims.clone(),
        ..*issuer
    }
}

fn change(members: &mut Map<String, Value>, by: &toml::Table) {
    for (name, value) in by {
        if value.as_str() == Some("@drop") {
            members.remove(name);
        } else {
            members.insert(name.clone(), to_json(value));
        }
    }
}

fn to_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => match text.strip_prefix('@') {
            None => text.as_str().into(),
            Some("null") => Value::Null,
            Some(rest) => match rest.strip_prefix("x5t:") {
                Some(name) => (*certificate(name).thumbprint_text).into(),
                // Of keys, which the world holds: it puts them in itself.
                None if rest.starts_with("jwk:") || rest.starts_with("jkt:") => rest.into(),
                None => {
                    let offset: i64 = rest.parse().expect("seconds from now");
                    NOW.saturating_add_signed(offset).into()
                }
            },
        },
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Array(items) => items.iter().map(to_json).collect(),
        toml::Value::Table(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), to_json(value)))
            .collect::<Map<_, _>>()
            .into(),
        toml::Value::Datetime(_) => panic!("no dates in tokens"),
    }
}

/// `tpp`, `renewed`, `other`, and `old`, whose last good second is [`NOW`], and `new`, whose first it is.
pub(crate) fn certificate(name: &str) -> PeerCertificate {
    let der = name.as_bytes();
    let thumbprint = Thumbprint::of_der(der);
    let after = if name == "old" { NOW } else { NOW + 86_400 };
    let before = if name == "new" { NOW } else { NOW - 86_400 };
    PeerCertificate {
        thumbprint,
        thumbprint_text: thumbprint.to_base64url().into(),
        der: der.into(),
        not_before: UnixTime::from_secs(before),
        not_after: UnixTime::from_secs(after),
        subject: format!("CN={name},O=Zürich TPP").into(),
        issuer: "CN=TPP CA".into(),
        serial: "0a1b".into(),
        organization_id: Some("PSDGB-FCA-1".into()),
        psd2_roles: vec![Psd2Role::AccountInformation],
        psd2_authority: Some("GB-FCA".into()),
    }
}

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).expect("a pointer")
}

fn methods(names: &[String]) -> MethodSet {
    let methods = names.iter().map(|name| name.parse().expect("a method"));
    MethodSet::These(methods.collect())
}

fn step_up(change: &StepUpChange) -> StepUp {
    StepUp {
        methods: methods(&change.methods),
        above: change.above.as_ref().map(|limit| Above {
            amount: pointer("/amount"),
            limit: Decimal::parse(limit).expect("an amount"),
            currency: (pointer("/currency"), "EUR".into()),
            body_bytes: BODY_BYTES,
        }),
        strength: Strength {
            acr: change.acr.clone(),
            amr: change.amr.clone(),
            max_age: change.max_age.map(Duration::from_secs),
        },
    }
}

fn linking(change: &LinkingChange) -> Linking {
    let links = |pairs: &BTreeMap<String, String>, compared| -> Vec<Link> {
        let pairs = pairs.iter();
        pairs
            .map(|(requested, approved)| Link {
                requested: pointer(requested),
                approved: pointer(approved),
                compared,
            })
            .collect()
    };
    let mut all = links(&change.amounts, Compared::Amount);
    all.extend(links(&change.values, Compared::Text));
    Linking {
        methods: change.methods.as_deref().map(methods),
        body_bytes: BODY_BYTES,
        kind: "payment_initiation".into(),
        links: all,
    }
}

fn policy(name: &str, change: &PolicyChange) -> Policy {
    let binding = change.binding.as_deref();
    let has = |word: &str| binding.is_some_and(|list| list.iter().any(|one| one == word));
    let claim_rule = |rule: &toml::Table| {
        let (word, value) = rule.iter().next().expect("a rule");
        let value = to_json(value);
        match word.as_str() {
            "present" => ClaimRule::Present(value == Value::Bool(true)),
            "equals" => ClaimRule::Equals(value),
            "one_of" => ClaimRule::OneOf(value.as_array().expect("a list").clone()),
            "contains" => ClaimRule::Contains(value),
            other => panic!("no rule {other}"),
        }
    };
    let issuer_named = |name: &str| match name {
        "main" => IssuerId(0),
        "legacy" => IssuerId(1),
        other => panic!("no issuer {other}"),
    };
    Policy {
        name: name.into(),
        error_format: None,
        issuers: match &change.issuers {
            Some(ids) => ids.iter().map(|id| IssuerId(*id)).collect(),
            None => vec![IssuerId(0)],
        },
        audience: change.audience.clone(),
        proofs: Rules {
            age: Duration::from_secs(60),
            ahead: Duration::from_secs(10),
            nonce: match change.nonce.as_deref() {
                None => NonceRule::Off,
                Some("accepted") => NonceRule::Accepted,
                Some("required") => NonceRule::Required,
                Some(other) => panic!("no nonce rule {other}"),
            },
            replay_unavailable: if change.replay_local {
                ReplayRule::Local
            } else {
                ReplayRule::Refuse
            },
            algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        },
        opaque: change.opaque.then_some(IssuerId(0)),
        introspection: match change.introspection.as_deref() {
            None => Asking::AsIssuer,
            Some("always") => Asking::Always,
            Some("uncached") => Asking::Uncached,
            Some(other) => panic!("no introspection {other}"),
        },
        binding: Binding {
            mtls: binding.is_none() || has("mtls"),
            dpop: has("dpop"),
            none: has("none"),
        },
        scopes: change
            .scopes
            .clone()
            .unwrap_or_else(|| vec!["accounts".into()]),
        any_scope: change.any_scope.clone(),
        strength: Strength {
            acr: change.acr.clone(),
            amr: change.amr.clone(),
            max_age: change.max_age.map(Duration::from_secs),
        },
        step_up: change.step_up.iter().map(step_up).collect(),
        linking: change.linking.as_ref().map(linking),
        authorization_details: change.details.as_ref().map(|table| DetailsRule {
            kind: table["type"].as_str().expect("a type").into(),
            members: table
                .iter()
                .filter(|(name, _)| *name != "type")
                .map(|(name, value)| (name.as_str().into(), to_json(value)))
                .collect(),
        }),
        claims: change
            .claims
            .iter()
            .map(|(name, rule)| (name.as_str().into(), claim_rule(rule)))
            .collect(),
        clients: match &change.clients {
            None => Clients::Any,
            Some(lists) => Clients::These(
                lists
                    .iter()
                    .map(|(issuer, names)| (issuer_named(issuer), names.clone()))
                    .collect(),
            ),
        },
        certificate: CertificateRule {
            psd2_role: change.psd2_role.as_deref().map(|name| {
                *Psd2Role::ALL
                    .iter()
                    .find(|role| role.name() == name)
                    .expect("a role")
            }),
            organization_id: change.organization_id.clone(),
            subject: change.subject.clone(),
            issuer: change.issuer.clone(),
        },
        require_headers: change
            .require_headers
            .iter()
            .map(|name| name.parse().expect("a header name"))
            .collect(),
        max_lifetime: change.max_lifetime.map(Duration::from_secs),
    }
}

fn fact(name: &str) -> Fact {
    match name {
        "certificate.x5t#S256" => Fact::CertificateThumbprint,
        "certificate.subject" => Fact::CertificateSubject,
        "certificate.organization_id" => Fact::CertificateOrganizationId,
        "certificate.serial" => Fact::CertificateSerial,
        "certificate.der" => Fact::CertificateDer,
        "issuer.name" => Fact::IssuerName,
        "route.name" => Fact::RouteName,
        "interaction_id" => Fact::InteractionId,
        claim => Fact::Claim(claim.strip_prefix("token.").expect("a fact").into()),
    }
}
