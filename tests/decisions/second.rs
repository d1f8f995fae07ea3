//! A second decision function, slow and naive, written from the requirements and not from the core:
//! both must say the same of millions of requests that chance made up.
//!
//! It knows facts and no texts: parsers have tests and fuzz targets of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use portcullis::pdp::{
    Inbound, InteractionId, Peer, PeerCertificate, RequestHead, SharedToken, Snapshot, Standing,
    Trail, route,
};
use serde_json::{Value, json};

use super::world::{
    Case, LinkingChange, NOW, Outcome, PolicyChange, StepUpChange, Traces, World, certificate,
};

/// Chance that can be repeated: xorshift.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() >> 16).expect("64 bits") % n
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// True once in so many times.
    fn once(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn some_of<T: Clone>(&mut self, list: &[T]) -> Vec<T> {
        let kept = list.iter().filter(|_| self.once(2));
        kept.cloned().collect()
    }
}

/// Times are seconds from the middle of the world.
#[derive(Debug, Clone)]
struct Token {
    legacy: bool,
    audience: Vec<&'static str>,
    exp: i64,
    nbf: Option<i64>,
    iat: i64,
    scopes: Vec<&'static str>,
    acr: Option<&'static str>,
    amr: Vec<&'static str>,
    auth_time: Option<i64>,
    client: &'static str,
    cnf: Cnf,
    /// Amount in cents and payee of what was approved.
    approved: Vec<(u64, &'static str)>,
    consent: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum Cnf {
    None,
    Members {
        certificate: Option<&'static str>,
        key: Option<&'static str>,
        other: bool,
    },
}

#[derive(Debug, Clone)]
struct Rules {
    legacy_too: bool,
    audience: Option<&'static str>,
    mtls: bool,
    dpop: bool,
    none: bool,
    scopes: Vec<&'static str>,
    any_scope: Vec<&'static str>,
    acr: Vec<&'static str>,
    amr: Vec<&'static str>,
    max_age: Option<i64>,
    clients: Option<Vec<&'static str>>,
    role: Option<&'static str>,
    header: bool,
    max_lifetime: Option<i64>,
    consent: Option<bool>,
    linking: bool,
    /// Above this many cents of POSTs, `acr` must be `sca`.
    step_up: Option<u64>,
    observe: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    at: i64,
    post: bool,
    known_path: bool,
    certificate: Option<&'static str>,
    standing: Standing,
    credential: Presented,
    header: bool,
    /// Amount in cents and payee of the body.
    body: (u64, &'static str),
}

#[derive(Debug, Clone, PartialEq)]
enum Presented {
    Nothing,
    Bearer,
    /// With the client's key, and whether anything is wrong with the proof.
    Dpop(Flaw),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    Missing,
    OtherMethod,
    OtherPath,
    Used,
}

/// What the requirements say of it, each where it stands in the order of the walk.
fn judge(token: &Token, rules: &Rules, asked: &Asked) -> &'static str {
    // Trust in the connection goes first, on every route (contract: trust does not outlive...).
    if asked.certificate.is_some() {
        match asked.standing {
            Standing::Trusted => {}
            Standing::Expired => return "certificate_expired",
            Standing::Revoked => return "certificate_revoked",
            Standing::Untrusted => return "certificate_untrusted",
        }
    }
    if !asked.known_path {
        return "route_not_found";
    }
    let verdict = policy(token, rules, asked);
    // `observe` lets pass what is wrong with the token, its rights and what the policy asks besides.
    if rules.observe { "authorized" } else { verdict }
}

fn policy(token: &Token, rules: &Rules, asked: &Asked) -> &'static str {
    // Which schemes are taken at all (RFC 9449 s7.2).
    match &asked.credential {
        Presented::Nothing => return "token_missing",
        Presented::Bearer if !(rules.mtls || rules.none) => return "scheme_unsupported",
        Presented::Dpop(_) if !rules.dpop => return "scheme_unsupported",
        Presented::Bearer => {}
        Presented::Dpop(flaw) => {
            // A proof is of this request, of now (it was made in the middle of the world, for 60
            // seconds and 10 ahead).
            match flaw {
                Flaw::Missing => return "proof_missing",
                Flaw::OtherMethod => return "proof_method_mismatch",
                Flaw::OtherPath => return "proof_target_mismatch",
                Flaw::None | Flaw::Used => {}
            }
            if asked.at > 60 {
                return "proof_expired";
            }
            if asked.at < -10 {
                return "proof_not_yet_valid";
            }
        }
    }
    // The token, here and now.
    if token.legacy && !rules.legacy_too {
        return "issuer_unknown";
    }
    let (leeway, longest) = if token.legacy { (30, 600) } else { (0, 86_400) };
    if asked.at >= token.exp + leeway {
        return "token_expired";
    }
    if token.nbf.is_some_and(|nbf| nbf > asked.at + 10) || token.iat > asked.at + 10 {
        return "token_not_yet_valid";
    }
    let lifetime = (token.exp - token.iat).max(0);
    if lifetime > longest + 10 || rules.max_lifetime.is_some_and(|most| lifetime > most + 10) {
        return "lifetime_excessive";
    }
    let ours: &[&str] = match rules.audience {
        Some(ref own) => std::slice::from_ref(own),
        None => &["https://api.bank.example", "https://api.bank.example/pay"],
    };
    if !ours.iter().any(|name| token.audience.contains(name)) {
        return "audience_mismatch";
    }
    // Its sender.
    if asked.certificate.is_some() && !(-86_400..=86_400).contains(&asked.at) {
        return "certificate_expired";
    }
    let by_proof = matches!(asked.credential, Presented::Dpop(_));
    match &token.cnf {
        Cnf::None if by_proof => return "binding_missing",
        Cnf::None if !rules.none => return "binding_missing",
        Cnf::None => {}
        Cnf::Members {
            certificate, key, ..
        } => {
            match (key, by_proof) {
                (Some(_), false) => return "binding_mismatch",
                (Some(key), true) if *key != "ed" => return "binding_mismatch",
                (Some(_), true) | (None, false) => {}
                (None, true) => return "binding_missing",
            }
            if let Some(bound) = certificate {
                match asked.certificate {
                    None => return "certificate_required",
                    Some(shown) if shown != *bound => return "binding_mismatch",
                    Some(_) => {}
                }
            }
            let enough = (rules.mtls && certificate.is_some())
                || (rules.dpop && key.is_some())
                || (rules.none && (certificate.is_some() || key.is_some()));
            if !enough {
                return "binding_missing";
            }
        }
    }
    // What it may do.
    if rules
        .clients
        .as_ref()
        .is_some_and(|clients| !clients.contains(&token.client))
    {
        return "client_not_allowed";
    }
    // Every certificate of this world has the one role.
    if rules
        .role
        .is_some_and(|role| asked.certificate.is_none() || role != "PSP_AI")
    {
        return "certificate_denied";
    }
    let strong = |acr: &[&str]| acr.is_empty() || token.acr.is_some_and(|own| acr.contains(&own));
    let fresh = |age: i64| {
        let ago = token.auth_time.map(|at| asked.at - at);
        ago.is_some_and(|ago| (-10..=age).contains(&ago))
    };
    let weak = !strong(&rules.acr)
        || !rules.amr.iter().all(|wanted| token.amr.contains(wanted))
        || rules.max_age.is_some_and(|age| !fresh(age));
    if weak {
        return "authentication_too_weak";
    }
    let has = |scope: &&str| token.scopes.contains(scope);
    if !rules.scopes.iter().all(has)
        || !(rules.any_scope.is_empty() || rules.any_scope.iter().any(has))
    {
        return "scope_insufficient";
    }
    if rules
        .consent
        .is_some_and(|wanted| wanted != token.consent.is_some())
    {
        return "claim_denied";
    }
    if rules.header && !asked.header {
        return "header_required";
    }
    // What the body says, last of what can be wrong.
    if asked.post {
        if rules.step_up.is_some_and(|most| asked.body.0 > most) && !strong(&["sca"]) {
            return "authentication_too_weak";
        }
        if rules.linking && !token.approved.contains(&asked.body) {
            return "not_as_approved";
        }
    }
    if asked.credential == Presented::Dpop(Flaw::Used) {
        return "proof_replayed";
    }
    "authorized"
}

fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

const SCOPES: &[&str] = &["accounts", "payments", "funds", "Accounts"];
const ACR: &[&str] = &["pwd", "sca", "high"];
const AMR: &[&str] = &["pwd", "mfa"];
const AMOUNTS: &[u64] = &[1, 100, 3000, 3001, 10_000];
const PAYEES: &[&str] = &["DE02A", "DE02B"];

impl Token {
    fn any(chance: &mut Chance) -> Self {
        let mut token = Self::odd(chance);
        // One that never was good is no token (`claim_malformed`), and so of no interest here.
        if token.iat >= token.exp {
            token.iat = token.exp - 60;
        }
        token.nbf = token.nbf.filter(|nbf| *nbf < token.exp);
        token
    }

    fn odd(chance: &mut Chance) -> Self {
        Self {
            legacy: chance.once(6),
            audience: match chance.below(8) {
                0 => vec!["https://other.example"],
                1 => vec!["https://api.bank.example/pay"],
                2 => vec!["https://other.example", "https://api.bank.example"],
                _ => vec!["https://api.bank.example"],
            },
            exp: chance.of(&[300, 300, 300, 1, 0, -1, 600, 86_350, 90_000]),
            nbf: chance.of(&[None, None, None, Some(-60), Some(10), Some(11), Some(300)]),
            iat: chance.of(&[-60, -60, -60, -60, 0, 10, 11, -600]),
            scopes: if chance.once(3) {
                chance.some_of(SCOPES)
            } else {
                SCOPES.to_vec()
            },
            acr: chance.of(&[None, Some("pwd"), Some("sca"), Some("sca"), Some("high")]),
            amr: if chance.once(3) {
                chance.some_of(AMR)
            } else {
                AMR.to_vec()
            },
            auth_time: chance.of(&[None, Some(-30), Some(-30), Some(-299), Some(-301), Some(11)]),
            client: chance.of(&["tpp-1", "tpp-1", "tpp-2"]),
            cnf: match chance.below(10) {
                0 => Cnf::None,
                1 => Cnf::Members {
                    certificate: None,
                    key: None,
                    other: true,
                },
                n => Cnf::Members {
                    certificate: (n < 7).then(|| chance.of(&["tpp", "tpp", "other"])),
                    key: (n > 5).then(|| chance.of(&["ed", "ed", "es"])),
                    other: chance.once(3),
                },
            },
            approved: (0..chance.below(3))
                .map(|_| (chance.of(AMOUNTS), chance.of(PAYEES)))
                .collect(),
            consent: chance.of(&[None, Some("c-1")]),
        }
    }

    fn claims(&self) -> toml::Table {
        let at = |offset: i64| i64::try_from(NOW).expect("this century") + offset;
        let mut claims = json!({
            "aud": self.audience, "exp": at(self.exp), "iat": at(self.iat),
            "scope": self.scopes.join(" "), "client_id": self.client, "amr": self.amr,
        });
        let approved = self.approved.iter().map(|(cents, payee)| {
            json!({ "type": "payment_initiation", "amount": amount(*cents), "payee": payee })
        });
        claims["authorization_details"] = approved.collect();
        let mut put = |name: &str, value: Option<Value>| match value {
            Some(value) => claims[name] = value,
            None => claims[name] = "@drop".into(),
        };
        put("nbf", self.nbf.map(|nbf| at(nbf).into()));
        put("acr", self.acr.map(Into::into));
        put("auth_time", self.auth_time.map(|time| at(time).into()));
        put("consent_id", self.consent.map(Into::into));
        put(
            "iss",
            Some(
                format!(
                    "https://{}.as.bank.example",
                    if self.legacy { "legacy" } else { "main" }
                )
                .into(),
            ),
        );
        let cnf = match &self.cnf {
            Cnf::None => None,
            Cnf::Members {
                certificate,
                key,
                other,
            } => {
                let mut members = BTreeMap::new();
                members.extend(certificate.map(|of| ("x5t#S256", format!("@x5t:{of}"))));
                members.extend(key.map(|of| ("jkt", format!("@jkt:{of}"))));
                members.extend(other.then(|| ("x-unknown", "x".to_owned())));
                Some(json!(members))
            }
        };
        put("cnf", cnf);
        toml::Table::try_from(claims).expect("TOML")
    }

    /// The token as text, and as verified: long before it ran out, by a policy that takes all.
    fn verified(&self, world: &World) -> (String, SharedToken) {
        let mut case = Case {
            claims: self.claims(),
            clock: -200_000,
            ..Case::default()
        };
        case.policy.issuers = Some(vec![0, 1]);
        if self.legacy {
            case.key = "rs".to_owned();
            case.header.insert("alg".to_owned(), "RS256".into());
            case.header.insert("kid".to_owned(), "rs".into());
        }
        case.token = world.token(&case);
        let known = world.decide(&case).remembered;
        (
            case.token,
            known.unwrap_or_else(|| panic!("not verified: {self:?}")),
        )
    }
}

impl Rules {
    fn any(chance: &mut Chance) -> Self {
        let mut rules = Self {
            legacy_too: chance.once(2),
            audience: chance.of(&[None, None, None, Some("https://api.bank.example/pay")]),
            mtls: !chance.once(4),
            dpop: chance.once(2),
            none: chance.once(5),
            scopes: if chance.once(2) {
                vec!["accounts"]
            } else {
                chance.some_of(SCOPES)
            },
            any_scope: if chance.once(3) {
                chance.some_of(SCOPES)
            } else {
                Vec::new()
            },
            acr: if chance.once(3) {
                chance.some_of(ACR)
            } else {
                Vec::new()
            },
            amr: if chance.once(4) {
                chance.some_of(AMR)
            } else {
                Vec::new()
            },
            max_age: chance.of(&[None, None, None, Some(300)]),
            clients: chance.of(&[None, None, None, Some(vec!["tpp-1"])]),
            role: chance.of(&[None, None, None, None, Some("PSP_AI"), Some("PSP_PI")]),
            header: chance.once(5),
            max_lifetime: chance.of(&[None, None, None, Some(600)]),
            consent: chance.of(&[None, None, None, Some(true), Some(false)]),
            linking: chance.once(4),
            step_up: chance.of(&[None, None, None, Some(3000)]),
            observe: chance.once(20),
        };
        rules.mtls |= !rules.dpop && !rules.none;
        rules
    }

    fn change(&self) -> PolicyChange {
        let owned =
            |list: &[&str]| -> Vec<Box<str>> { list.iter().map(|one| (*one).into()).collect() };
        let binding = [
            ("mtls", self.mtls),
            ("dpop", self.dpop),
            ("none", self.none),
        ];
        let binding = binding
            .iter()
            .filter(|(_, taken)| *taken)
            .map(|(kind, _)| (*kind).to_owned());
        PolicyChange {
            issuers: Some(if self.legacy_too { vec![0, 1] } else { vec![0] }),
            audience: self.audience.map(|own| vec![own.into()]),
            binding: Some(binding.collect()),
            scopes: Some(owned(&self.scopes)),
            any_scope: owned(&self.any_scope),
            acr: owned(&self.acr),
            amr: owned(&self.amr),
            max_age: self.max_age.map(i64::unsigned_abs),
            clients: self.clients.as_ref().map(|clients| {
                BTreeMap::from([
                    ("main".to_owned(), owned(clients)),
                    ("legacy".to_owned(), owned(clients)),
                ])
            }),
            psd2_role: self.role.map(str::to_owned),
            require_headers: if self.header {
                vec!["x-wanted".to_owned()]
            } else {
                Vec::new()
            },
            max_lifetime: self.max_lifetime.map(i64::unsigned_abs),
            claims: self
                .consent
                .map(|wanted| {
                    (
                        "consent_id".to_owned(),
                        toml::Table::from_iter([("present".to_owned(), wanted.into())]),
                    )
                })
                .into_iter()
                .collect(),
            linking: self.linking.then(|| LinkingChange {
                amounts: BTreeMap::from([("/amount".to_owned(), "/amount".to_owned())]),
                values: BTreeMap::from([("/payee".to_owned(), "/payee".to_owned())]),
                methods: None,
            }),
            step_up: self
                .step_up
                .map(|most| StepUpChange {
                    methods: vec!["POST".to_owned()],
                    above: Some(amount(most)),
                    acr: vec!["sca".into()],
                    ..StepUpChange::default()
                })
                .into_iter()
                .collect(),
            ..PolicyChange::default()
        }
    }
}

impl Asked {
    fn any(chance: &mut Chance) -> Self {
        Self {
            at: chance.of(&[
                0, 0, 0, 0, 0, -1, -10, -11, 60, 61, 299, 300, 330, -86_400, -86_401, 86_401,
            ]),
            post: chance.once(2),
            known_path: !chance.once(20),
            certificate: chance.of(&[Some("tpp"), Some("tpp"), Some("tpp"), Some("other"), None]),
            standing: match chance.below(20) {
                0 => Standing::Expired,
                1 => Standing::Revoked,
                2 => Standing::Untrusted,
                _ => Standing::Trusted,
            },
            credential: match chance.below(24) {
                0 => Presented::Nothing,
                1..=18 => Presented::Bearer,
                _ => Presented::Dpop(chance.of(&[
                    Flaw::None,
                    Flaw::None,
                    Flaw::None,
                    Flaw::Missing,
                    Flaw::OtherMethod,
                    Flaw::OtherPath,
                    Flaw::Used,
                ])),
            },
            header: !chance.once(3),
            body: (chance.of(AMOUNTS), chance.of(PAYEES)),
        }
    }
}

/// One token, ready to be shown.
struct Held {
    token: Token,
    text: String,
    known: SharedToken,
    /// Proofs for it, by method and path: GET, POST, and GET of another path.
    proofs: [String; 3],
}

fn held(world: &World, token: Token) -> Held {
    let (text, known) = token.verified(world);
    let proof = |method: &str, target: &str| {
        world.proof(&Case {
            token: text.clone(),
            method: method.to_owned(),
            target: target.to_owned(),
            ..Case::default()
        })
    };
    let proofs = [
        proof("GET", "/accounts/1"),
        proof("POST", "/accounts/1"),
        proof("GET", "/accounts/2"),
    ];
    Held {
        token,
        text,
        known,
        proofs,
    }
}

fn request(held: &Held, asked: &Asked) -> RequestHead {
    let method = if asked.post {
        Method::POST
    } else {
        Method::GET
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(if asked.known_path {
            "/accounts/1"
        } else {
            "/elsewhere"
        })
        .header("host", "api.bank.example")
        .header("content-type", "application/json");
    match &asked.credential {
        Presented::Nothing => {}
        Presented::Bearer => {
            request = request.header("authorization", format!("Bearer {}", held.text))
        }
        Presented::Dpop(flaw) => {
            request = request.header("authorization", format!("DPoP {}", held.text));
            let own = usize::from(asked.post);
            let proof = match flaw {
                Flaw::Missing => None,
                Flaw::OtherMethod => Some(1 - own),
                // Of a GET: to a POST it is of another method, which is looked at first.
                Flaw::OtherPath if asked.post => Some(0),
                Flaw::OtherPath => Some(2),
                Flaw::None | Flaw::Used => Some(own),
            };
            if let Some(proof) = proof {
                request = request.header("dpop", &held.proofs[proof]);
            }
        }
    }
    if asked.header {
        request = request.header("x-wanted", "here");
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    RequestHead::new(parts, InteractionId::from_random([7; 16])).expect("a head")
}

/// What the core says.
fn core(
    world: &World,
    (held, asked): (&Held, &Asked),
    (case, snapshot): (&mut Case, &Arc<Snapshot>),
) -> &'static str {
    let shown: Option<PeerCertificate> = asked.certificate.map(certificate);
    let inbound = Inbound {
        head: request(held, asked),
        standing: shown.as_ref().map(|_| asked.standing),
        peer: Arc::new(Peer {
            remote: ([192, 0, 2, 1], 50_000).into(),
            local: ([192, 0, 2, 2], 443).into(),
            listener: "bank".into(),
            certificate: shown,
        }),
        body: (),
    };
    case.clock = asked.at;
    case.body = format!(
        "{{\"amount\":\"{}\",\"currency\":\"EUR\",\"payee\":\"{}\"}}",
        amount(asked.body.0),
        asked.body.1
    );
    case.used = (asked.credential == Presented::Dpop(Flaw::Used)).then(|| "yes".to_owned());
    let mut trail = Trail::default();
    let mut traces = Traces::default();
    let decided = route(inbound, snapshot, &mut trail)
        .and_then(|routed| world.finish(case, routed, Some(&held.known), &mut trail, &mut traces));
    match decided {
        Ok(permit) => Outcome::Authorized(permit).code(),
        Err(refusal) => Outcome::Refused(refusal).code(),
    }
}

/// Both functions over so many requests; how often each word was said.
pub(crate) fn compare(requests: u64, seed: u64) -> BTreeMap<&'static str, u64> {
    let world = World::new();
    let mut chance = Chance(seed);
    let tokens: Vec<Held> = (0..300)
        .map(|_| held(&world, Token::any(&mut chance)))
        .collect();
    let mut policies: Vec<(Rules, Case, Arc<Snapshot>)> = (0..200)
        .map(|_| {
            let rules = Rules::any(&mut chance);
            let case = Case {
                policy: rules.change(),
                observe_until: rules.observe.then_some(1_000_000),
                ..Case::default()
            };
            let snapshot = world.snapshot(&case);
            (rules, case, snapshot)
        })
        .collect();
    let mut said = BTreeMap::new();
    for number in 0..requests {
        let held = &tokens[chance.below(tokens.len())];
        let at = chance.below(policies.len());
        let (rules, case, snapshot) = &mut policies[at];
        let mut asked = Asked::any(&mut chance);
        if asked.post && asked.credential == Presented::Dpop(Flaw::OtherPath) {
            asked.credential = Presented::Dpop(Flaw::OtherMethod);
        }
        let expected = judge(&held.token, rules, &asked);
        let found = core(&world, (held, &asked), (case, snapshot));
        assert_eq!(
            found, expected,
            "request {number} of seed {seed}: {:?}\n{rules:?}\n{asked:?}\n(the core's word, then the naive one)",
            held.token
        );
        *said.entry(found).or_insert(0_u64) += 1;
    }
    said
}
