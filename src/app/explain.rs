//! `portcullis explain`: one decision, made offline by the same core, and what it looked at.

mod account;
mod evidence;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use serde_json::{Value, json};

use self::account::{Account, Stage};
use self::evidence::Evidence;
use crate::cli::Explain;
use crate::config::Checked;
use crate::http::fields::{FieldRules, Introduction, Received, identify, request_fields};
use crate::pdp::dpop::NonceKeys;
use crate::pdp::introspection::How;
use crate::pdp::{
    self, Answer, Ask, Authorized, Inbound, InteractionId, Peer, RequestHead, Snapshot, Step,
    Trail, UnixTime,
};
use crate::refusal::{Refusal, challenges};

/// How the decision ended.
enum Outcome {
    Authorized(Authorized<()>),
    Refused(Refusal),
}

/// What is printed, and whether the request was authorized.
pub(super) struct Explained {
    pub(super) text: String,
    pub(super) authorized: bool,
}

/// Decides one request.
///
/// # Errors
/// What of the arguments cannot be used, and why.
pub(super) fn explain(arguments: &Explain, checked: Checked) -> Result<Explained, String> {
    let evidence = Evidence::read(arguments, &checked)?;
    let now = evidence.now;
    let request = request(arguments, &evidence)?;
    let nonces = match &checked.nonces.keys {
        Some(keys) => Arc::clone(keys),
        None => Arc::new(strangers(&checked)?),
    };
    let snapshot = Arc::new(Snapshot {
        nonces: Some(nonces),
        ..checked.snapshot
    });

    let mut account = Account::default();
    account.request(&request);
    account.connection(&evidence);
    let mut trail = Trail::default();
    let decided = decide(request, &snapshot, &evidence, &mut trail, &mut account);
    account.trail(&trail, &evidence, now);
    let outcome = match decided {
        Ok(permit) => Outcome::Authorized(permit),
        Err(refusal) => Outcome::Refused(refusal),
    };
    Ok(finish(arguments.json, &account, outcome, &evidence.peer))
}

/// Nonces of a process that made its own key are good there alone: here none of them is.
fn strangers(checked: &Checked) -> Result<NonceKeys, String> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|error| error.to_string())?;
    NonceKeys::new(&key, None, checked.nonces.lifetime)
}

fn request(arguments: &Explain, evidence: &Evidence) -> Result<Request<()>, String> {
    let uri: http::Uri = arguments
        .url
        .parse()
        .map_err(|error| format!("--url {:?}: {error}", arguments.url))?;
    let Some(authority) = uri.authority().cloned() else {
        return Err(format!(
            "--url {:?} names no host: write it as clients call it, such as https://api.bank.example/accounts",
            arguments.url
        ));
    };
    let method = arguments.method.parse();
    let method = method.map_err(|error| format!("--method {:?}: {error}", arguments.method))?;
    let mut headers = HeaderMap::new();
    for line in &arguments.header {
        let (name, value) = line.split_once(':').ok_or_else(|| {
            "--header: write the name, a colon and the value, such as 'x-fapi-auth-date: …'"
                .to_owned()
        })?;
        let name: HeaderName = name
            .trim()
            .parse()
            .map_err(|error| format!("--header {:?}: {error}", name.trim()))?;
        let value = HeaderValue::from_str(value.trim())
            .map_err(|error| format!("--header {name}: {error}"))?;
        headers.append(name, value);
    }
    if let Some(token) = &evidence.token {
        let scheme = if evidence.proof.is_some() {
            "DPoP"
        } else {
            "Bearer"
        };
        headers.append(
            header::AUTHORIZATION,
            sensitive(&format!("{scheme} {token}"), "--token-file")?,
        );
    }
    if let Some(proof) = &evidence.proof {
        headers.append("dpop", sensitive(proof, "--proof-file")?);
    }
    if !headers.contains_key(header::HOST) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
        headers.insert(header::HOST, host);
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target
        .parse()
        .map_err(|error| format!("--url: the path {target:?}: {error}"))?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Ok(request)
}

fn sensitive(text: &str, of: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_control| format!("{of}: what it holds cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The walk of `pipeline`, with answers that are at hand.
fn decide(
    request: Request<()>,
    snapshot: &Arc<Snapshot>,
    evidence: &Evidence,
    trail: &mut Trail,
    account: &mut Account,
) -> Result<Authorized<()>, Refusal> {
    let now = evidence.now;
    let (parts, body) = request.into_parts();
    let head = RequestHead::new(parts, InteractionId::from_random([0; 16]))?;
    account.head(&head);
    let inbound = Inbound {
        head,
        peer: Arc::clone(&evidence.peer),
        standing: evidence.standing,
        body,
    };
    let routed = pdp::route(inbound, snapshot, trail)?;
    let mut step = pdp::begin(routed, now, trail)?;
    loop {
        let pending = match step {
            Step::Done(permit) => return Ok(permit),
            Step::Ask(pending) => pending,
        };
        let answer = match pending.ask() {
            Ask::Recall(_) => Ok(Answer::Recalled(None)),
            Ask::Remember(..) => Ok(Answer::Remembered),
            Ask::Keys {
                issuer,
                key_id,
                algorithm,
            } => {
                account.asked_for_key(issuer, key_id.as_deref(), *algorithm);
                let keys = evidence.keys(issuer, account);
                keys.map(Answer::Keys)
            }
            Ask::Introspect { issuer, token, .. } => {
                let said = evidence.introspected(issuer, token, account);
                said.map(|said| Answer::Introspected(Arc::new(said), How::Asked))
            }
            Ask::Body { limit } => {
                account.note(Stage::Body, "limit", json!(limit));
                let body = evidence.body.clone().unwrap_or_default();
                account.note(Stage::Body, "bytes", json!(body.len()));
                evidence.body(*limit, body).map(Answer::Body)
            }
            Ask::Client { server, client_id } => {
                account.note(Stage::Client, "client_id", json!(&**client_id));
                let client = evidence.client(&server.issuer, client_id);
                client.map(Answer::Client)
            }
            Ask::ClientKeys { client, .. } => evidence.client_keys(client).map(Answer::Keys),
            Ask::FirstUse { .. } => {
                let text = "offline it cannot be known whether the proof or assertion was used: taken as new";
                account.note(Stage::Replay, "assumed", json!(text));
                Ok(Answer::FirstUse(true))
            }
        };
        step = match answer {
            Ok(answer) => pending.resume(answer, now, trail)?,
            Err(why) => pending.unanswered(&why, now, trail)?,
        };
    }
}

fn finish(as_json: bool, account: &Account, outcome: Outcome, peer: &Peer) -> Explained {
    let authorized = matches!(outcome, Outcome::Authorized(_));
    let (failed, decision, upstream, ending) = match outcome {
        Outcome::Authorized(permit) => {
            let observed = permit
                .observed()
                .map(|refusal| refusal.reason().spec().code);
            let upstream = Upstream::of(permit, peer);
            let (outcome, line) = match observed {
                None => ("authorized", "authorized".to_owned()),
                Some(code) => (
                    "observed",
                    format!(
                        "observed: it would be refused with {code}, and passes without identity headers"
                    ),
                ),
            };
            let mut ending = format!("{line}\n\nwhat upstream {} gets\n", upstream.name);
            for header in &upstream.headers {
                ending.push_str(&format!("  {header}\n"));
            }
            let decision = json!({ "outcome": outcome, "reason": observed });
            let upstream = json!({ "name": upstream.name, "headers": upstream.headers });
            (None, decision, upstream, ending)
        }
        Outcome::Refused(refusal) => {
            let spec = refusal.reason().spec();
            let challenges: Vec<String> = challenges(&refusal).collect();
            let mut ending = format!("refused: {} ({})\n", spec.code, spec.status.code());
            if let Some(detail) = refusal.detail() {
                ending.push_str(&format!("  why: {detail}\n"));
            }
            for challenge in &challenges {
                ending.push_str(&format!("  WWW-Authenticate: {challenge}\n"));
            }
            ending.push_str(&format!("  remedy: {}\n", spec.remedy));
            let decision = json!({
                "outcome": "refused",
                "reason": spec.code,
                "status": spec.status.code(),
                "class": spec.class.name(),
                "error": spec.error,
                "detail": refusal.detail(),
                "challenges": challenges,
                "remedy": spec.remedy,
            });
            let failed = Stage::of(refusal.reason());
            (Some(failed), decision, Value::Null, ending)
        }
    };
    let text = if as_json {
        let whole = json!({
            "steps": account.to_json(failed), "decision": decision, "upstream": upstream,
        });
        format!("{whole:#}\n")
    } else {
        account.to_text(failed) + &ending
    };
    Explained { text, authorized }
}

/// What goes up, but for what only a connection knows.
struct Upstream {
    name: String,
    headers: Vec<String>,
}

impl Upstream {
    fn of(permit: Authorized<()>, peer: &Peer) -> Self {
        let parts = permit.into_parts();
        let rules = FieldRules::of(&parts.route);
        let head = parts.head.into_parts();
        let mut fields = request_fields(&head.headers, &rules);
        let host = head.headers.get(header::HOST);
        let introduction = Introduction::default();
        let received = Received {
            client: peer.remote.ip(),
            scheme: "https",
            authority: host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
            version: Version::HTTP_11,
            interaction_id: head.interaction_id,
            introduction: &introduction,
        };
        let host = rules.host().or(host).cloned();
        let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
        identify(&mut fields, &received, &host, &parts.identity);
        let mut headers: Vec<String> = fields
            .iter()
            .map(|(name, value)| {
                // `authorization = true` sends the token on; it is not shown all the same.
                if *name == header::AUTHORIZATION {
                    format!("{name}: (the client's)")
                } else {
                    format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
                }
            })
            .collect();
        headers.sort();
        Self {
            name: parts.route.upstream.0.to_string(),
            headers,
        }
    }
}

/// A moment as an operator writes it.
///
/// # Errors
/// What would be right.
fn moment(text: &str) -> Result<UnixTime, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(UnixTime::from_secs(seconds));
    }
    let time = humantime::parse_rfc3339_weak(text).ok();
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or_else(
        || {
            Err(format!(
                "--at {text:?} is no time: write it like 2026-11-23T18:00:00Z, or in seconds since 1970"
            ))
        },
        |since| Ok(UnixTime::from_secs(since.as_secs())),
    )
}
