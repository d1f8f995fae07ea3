//! One straight asynchronous function: the life of a request.
//!
//! canonical head → route → begin → (ask, answer, resume)* → forward → answer. The core judges,
//! the rooms around it act; nothing here decides anything.

mod audited;
mod together;

use std::cell::RefCell;
use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::poll;
use http::{Method, Request, Response, StatusCode, Version};

use self::audited::{Witness, audited};
use self::together::One;
pub use self::together::UnderWay;
use crate::audit::{Decision, Log, Recording};
use crate::clock::{self, Moment};
use crate::http::body::{AnswerBody, Progress, RequestBody};
use crate::http::fields::Introduction;
use crate::http::{Limits, interaction, respond};
use crate::pdp::authorization::Endpoint;
use crate::pdp::dpop::{NonceRule, ProofHeader};
use crate::pdp::metadata;
use crate::pdp::policy::Access;
use crate::pdp::recorded::Seen;
use crate::pdp::{
    self, Answer, Ask, Authorized, Inbound, InteractionId, Peer, Pending, Presented, RequestHead,
    Route, RouteTable, Snapshot, Standing, Step, Trail, Unavailable, UnixTime,
};
use crate::pip::Pip;
use crate::refusal::{Reason, Refusal};
use crate::telemetry::Metrics;
use crate::telemetry::Timestamp;
use crate::telemetry::access::{AccessRecord, Same, Sink};
use crate::telemetry::metrics::RouteMetrics;
use crate::upstream::{self, Failed, ForwardFacts, Forwarded, Pool};

/// What is in force: swapped whole at a reload, taken once by each request.
#[derive(Debug)]
pub struct Generation {
    /// What decisions are made by.
    pub snapshot: Arc<Snapshot>,
    routes: Vec<Arc<RouteMetrics>>,
    recording: Option<Arc<Recording>>,
}

impl Generation {
    /// The same with how its decisions are recorded.
    #[must_use]
    pub fn recorded(self, recording: Option<Recording>) -> Self {
        Self {
            recording: recording.map(Arc::new),
            ..self
        }
    }

    /// A snapshot with the numbers of its routes looked up, so that no request has to.
    #[must_use]
    pub fn new(snapshot: Snapshot, metrics: &Metrics) -> Self {
        let mut routes = Vec::new();
        for route in snapshot.tables.iter().flat_map(RouteTable::routes) {
            if routes.len() <= route.index {
                routes.resize_with(route.index + 1, || Arc::clone(metrics.unrouted()));
            }
            if let Some(place) = routes.get_mut(route.index) {
                *place = metrics.route(&route.name);
            }
        }
        Self {
            snapshot: Arc::new(snapshot),
            routes,
            recording: None,
        }
    }
}

/// What the requests of all threads share; read without a lock.
#[derive(Debug)]
pub struct Shared {
    generation: ArcSwap<Generation>,
    pip: Arc<Pip>,
    sink: Sink,
    audit: Option<Log<Decision>>,
    unrouted: Arc<RouteMetrics>,
}

impl Shared {
    /// Nothing is in force until the first [`Self::publish`].
    #[must_use]
    pub fn new(pip: Arc<Pip>, sink: Sink, metrics: &Metrics) -> Self {
        let nothing = Generation {
            snapshot: Arc::new(Snapshot::default()),
            routes: Vec::new(),
            recording: None,
        };
        Self {
            generation: ArcSwap::from_pointee(nothing),
            pip,
            sink,
            audit: None,
            unrouted: Arc::clone(metrics.unrouted()),
        }
    }

    /// The same with an audit log, without which nothing is forwarded from now on.
    #[must_use]
    pub fn audited(self, audit: Option<Log<Decision>>) -> Self {
        Self { audit, ..self }
    }

    /// The audit log.
    #[must_use]
    pub const fn audit(&self) -> Option<&Log<Decision>> {
        self.audit.as_ref()
    }

    /// Puts another generation in force. Requests under way finish under theirs.
    pub fn publish(&self, generation: Generation) {
        self.generation.store(Arc::new(generation));
    }

    /// Name, pattern-independent facts of each route in force, for `/status`.
    #[must_use]
    pub fn routes(&self) -> Vec<serde_json::Value> {
        let generation = self.generation.load();
        let tables = generation.snapshot.tables.iter();
        tables
            .flat_map(|table| {
                table
                    .routes()
                    .map(|route| (Arc::clone(&table.listener), route))
            })
            .map(|(listener, route)| {
                let access = match &route.access {
                    Access::Open => "open",
                    Access::Policy(policy) => &policy.name,
                    Access::Authorization(_) => "authorization",
                };
                serde_json::json!({
                    "name": &*route.name, "listener": &*listener, "policy": access,
                    "upstream": &*route.upstream.0,
                })
            })
            .collect()
    }

    /// Keys and remembered tokens.
    #[must_use]
    pub const fn pip(&self) -> &Arc<Pip> {
        &self.pip
    }

    /// A record of a request that arrived at this moment.
    #[must_use]
    pub fn record(
        &self,
        peer: &Arc<Peer>,
        id: InteractionId,
        arrived: Moment,
    ) -> Box<AccessRecord> {
        // Boxed: it is handed on and on.
        Box::new(AccessRecord::new(
            &self.sink,
            &self.unrouted,
            (Timestamp(arrived.since_epoch), arrived.instant),
            peer,
            id,
        ))
    }
}

/// What the requests of one connection share.
#[derive(Clone)]
pub struct Connection {
    /// What the requests of all threads share.
    pub shared: Arc<Shared>,
    /// This thread's connections to the upstreams.
    pub pool: Rc<Pool>,
    /// This thread's requests.
    pub under_way: Rc<UnderWay>,
    /// The other end; on the connection of a proxy in front, the one that this request is of.
    pub peer: Arc<Peer>,
    /// Whether the connection is of the peer alone: it ends with the trust in its certificate. That
    /// of a proxy in front goes on for its other clients.
    pub own: bool,
    /// Bounds of the listener.
    pub limits: Limits,
    /// Whether reason codes stand in bodies.
    pub disclose_reasons: bool,
    /// What was said of the client to the upstream last.
    pub introduction: Rc<Introduction>,
    /// What the last line of the access log said of who asks.
    pub same: Rc<Same>,
    /// The header of the last DPoP proof that could be read.
    pub proof_header: Rc<RefCell<Option<Arc<ProofHeader>>>>,
    /// The last credential that was taken. Of the peer alone: on the connection of a proxy in front,
    /// how long it takes to compare with another client's token could tell what that one is.
    pub presented: Rc<RefCell<Option<Arc<Presented>>>>,
    /// Makes a signal that fires when the process drains: ends a WebSocket.
    pub drained: Rc<dyn Fn() -> upstream::Drained>,
}

impl Connection {
    /// The trail of a request, with what is known of the sender from earlier ones.
    fn trail(&self, recording: bool) -> Trail {
        Trail {
            recording,
            proof_header: self.proof_header.borrow().clone(),
            presented: self.presented.borrow().clone().filter(|_| self.own),
            ..Trail::default()
        }
    }

    /// Takes what is worth knowing at the next request.
    fn keep(&self, trail: &mut Trail) {
        self.proof_header.replace(trail.proof_header.take());
        let presented = trail.presented.take();
        if self.own {
            self.presented.replace(presented);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Serves one request that came at `arrived`. `standing` is what the
/// listener's trust says of the certificate at that time, or why what a proxy in front says of its
/// client cannot be taken; `sent_id` the interaction id that the client sent.
///
/// No `async fn`, and as much as can be is done before the future begins, which would keep what came in
/// beside what became of it. On the heap from there: it has 2.6 KB, and those who wrap it move it.
pub fn serve(
    connection: Rc<Connection>,
    standing: Result<Option<Standing>, Refusal>,
    (mut request, sent_id): (Request<RequestBody>, Option<InteractionId>),
    arrived: Moment,
) -> Pin<Box<dyn Future<Output = Response<AnswerBody>>>> {
    let generation = connection.shared.generation.load_full();
    let upgrade = request
        .headers()
        .contains_key(http::header::UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let is_head = parts.method == Method::HEAD;
    let id = sent_id.unwrap_or_else(interaction::fresh);
    let mut record = connection.shared.record(&connection.peer, id, arrived);
    record.generation = generation.snapshot.generation;
    record.protocol = Some(version);
    record.method = Some(parts.method.clone());
    record.path = Some(parts.uri.path().into());
    let progress = body.progress();
    record.received = Some(Rc::clone(&progress) as _);
    record.same = connection.own.then(|| Rc::clone(&connection.same));
    let no_body = http_body::Body::is_end_stream(&body);
    let distrusted =
        connection.own && matches!(standing, Ok(Some(standing)) if standing != Standing::Trusted);

    let one = connection.under_way.enter();
    let who = (id, standing.as_ref().ok().copied().flatten());

    let mut trail = connection.trail(generation.recording.is_some());
    let mut witness = Witness::new(arrived.unix());
    let begun = begin(
        &connection,
        &generation,
        standing,
        (parts, id, body),
        (&mut trail, &mut witness),
    );
    Box::pin(async move {
        let judged = match begun {
            Ok(Begun::Step(step)) => {
                let judging = (&mut trail, &mut witness);
                judge(&connection, step, &one, judging, &mut record)
                    .await
                    .map(Judged::Permit)
            }
            Ok(Begun::Metadata(document)) => Ok(Judged::Metadata(document)),
            Err(refusal) => Err(refusal),
        };
        connection.keep(&mut trail);
        let waited = witness.waited;
        let judged = audited(&connection, &generation, who, (&trail, witness), judged);
        let decided = clock::moment();
        record.stages.decide = decided
            .instant
            .saturating_duration_since(record.started)
            .saturating_sub(record.stages.inform)
            .saturating_sub(waited);
        if let Some(metrics) = trail
            .route
            .as_ref()
            .and_then(|route| generation.routes.get(route.index))
        {
            record.metrics = Arc::clone(metrics);
        }
        // What an authorization server answers depends on who asks as much as what an API does.
        let open = trail
            .route
            .as_ref()
            .is_none_or(|route| matches!(route.access, Access::Open));
        let nonce = nonce(&generation, &trail, decided.unix());
        record.trail(trail);

        let mut expires = None;
        let outcome = match judged {
            Ok(Judged::Metadata(document)) => {
                record.decided(None);
                let answer = respond::document(document, id, is_head, clock::now());
                record.status = Some(answer.status().as_u16());
                return log_at_end(answer, record);
            }
            Ok(Judged::Permit(mut permit)) => {
                record.decided(permit.observed());
                expires = permit.expires();
                if record.stages.decide >= LONG {
                    tokio::task::yield_now().await;
                } else {
                    one.others_first().await;
                }
                // What waited is no time of the upstream's, and must not lengthen a token's life.
                let judged = clock::moment();
                // Its own steps are no future: that would be moved once more for each request.
                match ready(&connection, &mut permit, (upgrade, judged), record.started) {
                    Ok((facts, endpoint)) => {
                        let sent = upstream::forward(&connection.pool, permit, facts).await;
                        record.stages.upstream = judged.instant.elapsed();
                        answered(sent, endpoint, &progress, &mut record)
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(forwarded) => {
                let Forwarded {
                    response,
                    server,
                    attempts,
                } = forwarded;
                one.others_first().await;
                record.server = Some(server);
                record.attempts = attempts;
                let now = clock::moment();
                let mut answer = respond::relay(response, id, open, now.unix());
                respond::with_nonce(&mut answer, nonce.as_deref());
                record.status = Some(answer.status().as_u16());
                if let Some(expires) = expires {
                    let until = now.instant + expires.since(now.unix());
                    answer.body_mut().until(until.into());
                }
                log_at_end(answer, record)
            }
            Err(refusal) => {
                record.refused(&refusal);
                let policy = record.policy.as_ref();
                let mut answer = respond::refusal(
                    &refusal,
                    id,
                    respond::Manner {
                        format: policy.and_then(|policy| policy.error_format.as_deref()),
                        disclose: connection.disclose_reasons,
                        close: (!(no_body || progress.is_whole()) || distrusted)
                            && version < Version::HTTP_2,
                        is_head,
                        now: clock::now(),
                    },
                );
                respond::with_nonce(&mut answer, nonce.as_deref());
                record.status = Some(answer.status().as_u16());
                log_at_end(answer, record)
            }
        }
    })
}

/// A decision that took this long, about, had a signature to verify, and while it did others may have
/// come. So the system is asked which, and they are decided before all are sent together. The wait
/// counts for the whole of the request, and for no stage of it.
const LONG: Duration = Duration::from_micros(15);

/// The nonce that goes with every answer of a route that takes them (RFC 9449 s8.2, s9).
fn nonce(generation: &Generation, trail: &Trail, now: UnixTime) -> Option<Box<str>> {
    let policy = trail.policy.as_ref()?;
    let wanted = policy.binding.dpop && policy.proofs.nonce != NonceRule::Off;
    let keys = generation.snapshot.nonces.as_ref().filter(|_| wanted)?;
    Some(keys.fresh(now))
}

/// What becomes of a request that is not refused.
enum Judged {
    /// It may go to its upstream.
    Permit(Authorized<RequestBody>),
    /// It asks what we say of ourselves (RFC 9728).
    Metadata(String),
}

/// Where a request stands before anything is asked.
enum Begun {
    /// At its decision.
    Step(Step<RequestBody>),
    /// It asks what we say of ourselves (RFC 9728).
    Metadata(String),
}

/// The canonical head, the route and what can be decided at once: steps 4 and 5 of the walk, and the
/// beginning of 6.
fn begin(
    connection: &Connection,
    generation: &Generation,
    standing: Result<Option<Standing>, Refusal>,
    (parts, id, body): (http::request::Parts, InteractionId, RequestBody),
    (trail, witness): (&mut Trail, &mut Witness),
) -> Result<Begun, Refusal> {
    let head = RequestHead::identified(parts, id)?;
    witness.seen = generation.recording.is_some().then(|| Seen::of(&head));
    let standing = standing?;
    let snapshot = &generation.snapshot;
    // Read before the head is given away; most requests are for something else.
    let document = head
        .path()
        .starts_with(metadata::WELL_KNOWN)
        .then(|| metadata(snapshot, &head, &connection.peer))
        .flatten();
    let asks = matches!(*head.method(), Method::GET | Method::HEAD);
    let inbound = Inbound {
        head,
        peer: Arc::clone(&connection.peer),
        standing,
        body,
    };
    let routed = match (pdp::route(inbound, snapshot, trail), document) {
        // A route of the operator's goes before what we would say ourselves.
        (Err(refusal), Some(document)) if refusal.reason() == Reason::RouteNotFound => {
            if asks {
                return Ok(Begun::Metadata(document));
            }
            let allow = vec!["GET".into(), "HEAD".into()];
            let refusal = Refusal::new(Reason::MethodNotAllowed);
            return Err(refusal.advise(|advice| advice.allow = allow));
        }
        (routed, _) => routed?,
    };
    // Nothing was waited for since the request came.
    pdp::begin(routed, witness.began, trail).map(Begun::Step)
}

/// The rest of the decision, to step 8 of the walk. While the step is a question, get the answer, resume.
async fn judge(
    connection: &Connection,
    mut step: Step<RequestBody>,
    one: &One,
    (trail, witness): (&mut Trail, &mut Witness),
    record: &mut AccessRecord,
) -> Result<Authorized<RequestBody>, Refusal> {
    loop {
        match step {
            Step::Done(permit) => return Ok(permit),
            Step::Ask(mut pending) => {
                let (answer, asked) = {
                    let started = record.started;
                    let mut asking = pin!(ask(connection, &mut pending, witness.judged, started));
                    // Most answers are at hand, and take no time that is worth a look at the clock.
                    match poll!(asking.as_mut()) {
                        Poll::Ready(answer) => (answer, None),
                        Poll::Pending => {
                            let asked = Instant::now();
                            (asking.await, Some(asked))
                        }
                    }
                };
                record.stages.inform += asked.map_or(Duration::ZERO, |asked| asked.elapsed());
                // Signatures are verified one after the other: a verification pushes what every other step
                // uses out of the processor's nearest memory, and so does it once for several requests.
                let waits = answer.as_ref().is_ok_and(|answer| verifies(answer, trail));
                if waits {
                    let from = Instant::now();
                    one.others_first().await;
                    witness.waited += from.elapsed();
                }
                // Time is read after an answer that had to come: a slow one cannot stretch a token's life.
                let now = if asked.is_some() || waits {
                    witness.now()
                } else {
                    witness.judged
                };
                step = match answer {
                    Ok(answer) => pending.resume(answer, now, trail)?,
                    Err(why) => pending.unanswered(&why, now, trail)?,
                };
            }
        }
    }
}

/// The answer to the question of a decision, as of `now`.
async fn ask(
    connection: &Connection,
    pending: &mut Pending<RequestBody>,
    now: UnixTime,
    started: Instant,
) -> Result<Answer, Unavailable> {
    if let Ask::Body { limit } = *pending.ask() {
        return read_body(connection, pending, limit, started).await;
    }
    let pip = &connection.shared.pip;
    pip.answer(pending.ask(), &connection.peer, now).await
}

/// Whether the next step is likely to verify a signature: of a token, with these keys, or of a proof by
/// a client that has sent others.
fn verifies(answer: &Answer, trail: &Trail) -> bool {
    match answer {
        Answer::Keys(_) => true,
        Answer::Recalled(Some(_)) | Answer::Introspected(..) => trail.proof_header.is_some(),
        Answer::Recalled(None)
        | Answer::Remembered
        | Answer::Body(_)
        | Answer::Client(_)
        | Answer::FirstUse(_) => false,
    }
}

/// What a body and a request may take on this route.
struct Bounds {
    body_bytes: u64,
    body_timeout: Duration,
    /// When the request's time is over.
    until: tokio::time::Instant,
}

fn bounds(connection: &Connection, route: &Route, started: Instant) -> Bounds {
    let (own, listener) = (route.limits, &connection.limits);
    let within = own.request_timeout.unwrap_or(listener.request_timeout);
    Bounds {
        body_bytes: own.body_bytes.unwrap_or(listener.body_bytes),
        body_timeout: own.body_timeout.unwrap_or(listener.body_timeout),
        until: (started + within).into(),
    }
}

/// The body, for a decision that is about it.
async fn read_body(
    connection: &Connection,
    pending: &mut Pending<RequestBody>,
    limit: usize,
    started: Instant,
) -> Result<Answer, Unavailable> {
    let bounds = bounds(connection, pending.route(), started);
    let Some(body) = pending.body_mut() else {
        return Err(Unavailable {
            reason: Reason::Internal,
            detail: "the body was asked for after all was judged".into(),
            retry_after: None,
        });
    };
    body.set_bounds(bounds.body_bytes, bounds.body_timeout);
    let read = tokio::time::timeout_at(bounds.until, body.read_ahead(limit)).await;
    read.unwrap_or(Err(Reason::RequestTooSlow))
        .map(Answer::Body)
        .map_err(|reason| Unavailable {
            reason,
            detail: format!("the decision needs the body, of at most {limit} bytes").into(),
            retry_after: None,
        })
}

/// What the forwarding of a request needs to know, within the bounds of its route and listener, now that
/// it is `judged`; and at which endpoint of an authorization server it is.
fn ready(
    connection: &Connection,
    permit: &mut Authorized<RequestBody>,
    (upgrade, judged): (Option<hyper::upgrade::OnUpgrade>, Moment),
    started: Instant,
) -> Result<(ForwardFacts, Option<Endpoint>), Refusal> {
    let Bounds {
        body_bytes,
        body_timeout,
        until,
    } = bounds(connection, permit.route(), started);
    let endpoint = match &permit.route().access {
        Access::Authorization(guard) => Some(guard.endpoint),
        Access::Open | Access::Policy(_) => None,
    };
    let body = permit.body_mut();
    body.set_bounds(body_bytes, body_timeout);
    if body.declared_too_large() {
        return Err(Reason::BodyTooLarge.into());
    }
    let drain = upgrade.is_some().then(|| (connection.drained)());
    let facts = ForwardFacts {
        remote: connection.peer.remote,
        scheme: "https",
        introduction: Rc::clone(&connection.introduction),
        now: judged.unix(),
        began: judged.instant.into(),
        due: until,
        body_timeout,
        on_upgrade: upgrade,
        drain,
    };
    Ok((facts, endpoint))
}

/// What came of it, for the client. What went wrong may be the client's body and not the upstream: never
/// one for the other.
fn answered(
    sent: Result<Forwarded, Failed>,
    endpoint: Option<Endpoint>,
    progress: &Progress,
    record: &mut AccessRecord,
) -> Result<Forwarded, Refusal> {
    match sent {
        // A browser would send the user's password on (FAPI 2.0 Security Profile s5.3.2.2-10;
        // JAR-14).
        Ok(forwarded)
            if endpoint.is_some()
                && forwarded.response.status() == StatusCode::TEMPORARY_REDIRECT =>
        {
            let why = "the authorization server answered 307, which no redirect of it may be";
            record.server = Some(forwarded.server);
            record.attempts = forwarded.attempts;
            Err(Refusal::because(Reason::UpstreamProtocol, why))
        }
        Ok(mut forwarded) => {
            if endpoint == Some(Endpoint::Authorize) {
                respond::without_cors(forwarded.response.headers_mut());
            }
            Ok(forwarded)
        }
        Err(failed) => {
            record.server = failed.server;
            record.attempts = failed.attempts;
            Err(progress.failure().map_or(failed.refusal, Refusal::new))
        }
    }
}

/// The line is written when the last byte of the answer is, or when the client is gone.
fn log_at_end(
    mut answer: Response<AnswerBody>,
    mut record: Box<AccessRecord>,
) -> Response<AnswerBody> {
    answer.body_mut().on_end(move |end| {
        record.bytes_out = end.bytes;
        if end.complete {
            record.complete();
        }
        record.finish();
    });
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_credential_is_kept_on_a_connection_of_one_client_alone() {
        let metrics = Metrics::new(UnixTime::from_secs(0));
        let pip = Pip::new(Arc::clone(&metrics), tokio::runtime::Handle::current());
        let own = Connection {
            shared: Arc::new(Shared::new(pip, Sink::memory(), &metrics)),
            pool: Pool::new(),
            under_way: Rc::default(),
            peer: Arc::new(Peer {
                remote: "192.0.2.1:40000".parse().unwrap(),
                local: "192.0.2.2:443".parse().unwrap(),
                listener: "bank".into(),
                certificate: None,
            }),
            own: true,
            limits: Limits::default(),
            disclose_reasons: false,
            introduction: Rc::default(),
            same: Rc::default(),
            proof_header: Rc::default(),
            presented: Rc::default(),
            drained: Rc::new(|| Box::pin(std::future::pending())),
        };
        // As for each request that comes through a proxy.
        let of_client = Connection {
            own: false,
            ..own.clone()
        };
        let trail = || Trail {
            presented: Some(Presented::for_tests("Bearer a.b.c")),
            ..Trail::default()
        };
        of_client.keep(&mut trail());
        assert!(own.presented.borrow().is_none());
        let mut read = trail();
        own.keep(&mut read);
        assert!(read.presented.is_none(), "what is recorded has none");
        assert!(own.trail(false).presented.is_some());
        assert!(of_client.trail(false).presented.is_none());
    }
}
