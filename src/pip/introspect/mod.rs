//! What one issuer says about tokens (RFC 7662): asked on a runtime of its own, remembered for
//! a short while.
//!
//! A request that must know waits; the call is nobody's: it is a task of this plane, so no client
//! takes it along by leaving, and any number of requests with one token wait for one call. Who may
//! wait and how much is asked at once is bounded (`admission`), a server that fails is left alone
//! (`breaker`), and nothing is shared between issuers but the memory of answers.

mod admission;
mod authentication;
mod breaker;
mod call;
mod flight;

pub use authentication::{AssertionKey, ClientAuthentication};
pub use breaker::{BreakerRule, BreakerState};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use self::admission::Places;
use self::breaker::{Breaker, Moment};
use self::call::{CallFailure, Connections};
use self::flight::{Ended, Flight};
use super::cache::Answers;
use super::jwks::Plane;
use super::learned::Learned;
use super::schedule::Client;
use crate::outbound::Tls;
use crate::pdp::introspection::How;
use crate::pdp::{AccessToken, Introspected, Issuer, Peer, TokenDigest, Unavailable, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::metrics::{CallResult, IntrospectionMetrics};

/// Calls of one issuer at once.
const CALLS: usize = 32;

/// Calls of one issuer that are made or wait for their turn.
const QUEUED: usize = 1024;

/// Requests that wait for one issuer. Each holds what the client sent so far.
const WAITING: usize = 4096;

/// How and where an issuer is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub endpoint: Endpoint,
    /// Our client id there.
    pub client_id: Box<str>,
    /// How we authenticate.
    pub authentication: ClientAuthentication,
    /// TLS towards the endpoint, with our certificate where that is how we authenticate.
    pub tls: Tls,
    /// `response = "jwt"`: answers are signed (RFC 9701), and others are not taken.
    pub signed: bool,
    /// How long an answer about an active token is remembered at most; zero for not at all.
    pub active_for: Duration,
    /// How long any other answer is.
    pub inactive_for: Duration,
    /// From the request that needs the answer to the answer.
    pub timeout: Duration,
    /// When the server is left alone.
    pub breaker: BreakerRule,
}

/// Where an issuer is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// There.
    At(Box<str>),
    /// Where its metadata say.
    Discovery(Box<str>),
}

/// How introspection of an issuer stands.
#[derive(Debug, Clone)]
pub struct IntrospectionStatus {
    /// See [`BreakerState`].
    pub breaker: BreakerState,
    /// Why the last call failed; `None` after one that succeeded.
    pub last_error: Option<String>,
}

/// See the module.
pub(super) struct Introspector {
    issuer: Arc<Issuer>,
    settings: Settings,
    proxy: Option<Box<str>>,
    hosts: Vec<Box<str>>,
    /// The issuer's keys, for signed answers.
    keys: Arc<Plane>,
    runtime: tokio::runtime::Handle,
    answers: Arc<Answers>,
    /// Counts the times that answers were dropped: one asked for before is not remembered after.
    dropped: Arc<AtomicU64>,
    flights: Mutex<Flights>,
    waiting: Mutex<Places<Client>>,
    turns: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    began: Instant,
    connections: Connections,
    learned: Learned,
    /// When it last answered in the way of RFC 7662: our way of asking is right.
    answered: Mutex<Option<Instant>>,
    last_error: ArcSwapOption<String>,
    last_logged: Mutex<Option<(CallResult, Instant)>>,
    metrics: Arc<IntrospectionMetrics>,
}

impl std::fmt::Debug for Introspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspector")
            .field("issuer", &self.issuer.name)
            .finish_non_exhaustive()
    }
}

/// Calls that are made or wait for their turn.
struct Flights {
    by_token: HashMap<TokenDigest, watch::Receiver<Option<Ended>>>,
    places: Places<Client>,
}

/// What all planes share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) answers: Arc<Answers>,
    pub(super) dropped: Arc<AtomicU64>,
}

impl Introspector {
    pub(super) fn new(
        of: &super::Settings,
        settings: Settings,
        keys: Arc<Plane>,
        common: Common,
        metrics: Arc<IntrospectionMetrics>,
    ) -> Arc<Self> {
        metrics.set_breaker(BreakerState::Closed.name());
        Arc::new(Self {
            issuer: Arc::clone(&of.issuer),
            proxy: of.proxy.clone(),
            hosts: of.hosts.clone(),
            keys,
            runtime: common.runtime,
            answers: common.answers,
            dropped: common.dropped,
            flights: Mutex::new(Flights {
                by_token: HashMap::new(),
                places: Places::new(QUEUED),
            }),
            waiting: Mutex::new(Places::new(WAITING)),
            turns: Arc::new(Semaphore::new(CALLS)),
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            settings,
            began: Instant::now(),
            connections: Connections::default(),
            learned: Learned::default(),
            answered: Mutex::new(None),
            last_error: ArcSwapOption::empty(),
            last_logged: Mutex::new(None),
            metrics,
        })
    }

    /// What the issuer says about a token. Does not wait where an answer is remembered and may be
    /// taken.
    ///
    /// # Errors
    /// `introspection_unavailable`, `introspection_unfit`.
    pub(super) async fn ask(
        self: &Arc<Self>,
        token: &AccessToken,
        remembered: bool,
        client: &Peer,
        now: UnixTime,
    ) -> Result<(Arc<Introspected>, How), Unavailable> {
        let digest = token.digest();
        if remembered {
            if let Some(known) = self.answers.recall(self.issuer.id, digest, now) {
                self.metrics.hits.add_one();
                return Ok((known, How::Remembered));
            }
            self.metrics.misses.add_one();
        }
        let client = Client::of(client);
        let _place = Place::take(self, &client)?;
        // A call that dies without an end (its task was ended) is made once more.
        for _ in 0..2 {
            let (mut end, how) = match self.board(token, digest, remembered, &client, now)? {
                Boarded::Known(known) => return Ok((known, How::Remembered)),
                Boarded::Waits(end) => (end, How::Waited),
                Boarded::Begun(end) => (end, How::Asked),
            };
            let ended = match end.wait_for(Option::is_some).await {
                Ok(ended) => ended.clone(),
                Err(_died) => continue,
            };
            match ended {
                Some(Ok(said)) => return Ok((said, how)),
                Some(Err(failure)) => return Err(self.unavailable(&failure)),
                None => {}
            }
        }
        Err(self.unavailable(&CallFailure::new(
            CallResult::Unreachable,
            "the call was broken off",
        )))
    }

    /// Joins the call about this token that is under way, or starts one.
    fn board(
        self: &Arc<Self>,
        token: &AccessToken,
        digest: TokenDigest,
        remembered: bool,
        client: &Client,
        now: UnixTime,
    ) -> Result<Boarded, Unavailable> {
        let mut flights = lock(&self.flights);
        if remembered {
            if let Some(end) = flights.by_token.get(&digest) {
                self.metrics.waits.add_one();
                return Ok(Boarded::Waits(end.clone()));
            }
            // One may have ended since we looked; under the lock none ends.
            if let Some(known) = self.answers.recall(self.issuer.id, digest, now) {
                return Ok(Boarded::Known(known));
            }
        }
        if let Some(left) = lock(&self.breaker).closed_off(self.now()) {
            return Err(self.open(left));
        }
        if !flights.places.take(client) {
            self.metrics.overloads.add_one();
            return Err(self.busy("too many calls of this client are under way"));
        }
        let (sender, end) = watch::channel(None);
        let flight = Flight::new(
            self,
            (token.clone(), digest),
            client.clone(),
            remembered,
            sender,
        );
        if remembered {
            flights.by_token.insert(digest, end.clone());
        }
        self.metrics.in_flight.rise();
        drop(flights);
        // A task that cannot be spawned is dropped, and says its end like any other.
        self.runtime.spawn(flight.run());
        Ok(Boarded::Begun(end))
    }

    /// How it stands.
    pub(super) fn status(&self) -> IntrospectionStatus {
        let state = lock(&self.breaker).state(self.now());
        self.metrics.set_breaker(state.name());
        IntrospectionStatus {
            breaker: state,
            last_error: self.last_error.load().as_deref().cloned(),
        }
    }

    fn open(&self, left: Duration) -> Unavailable {
        let last = self.last_error.load();
        let last = last.as_ref().map_or("it failed", |error| error.as_str());
        Unavailable {
            reason: Reason::IntrospectionUnavailable,
            detail: format!(
                "issuer {} is left alone after failures: {last}",
                self.issuer.name
            )
            .into(),
            retry_after: Some(whole(left)),
        }
    }

    fn busy(&self, why: &str) -> Unavailable {
        Unavailable {
            reason: Reason::IntrospectionUnavailable,
            detail: format!("issuer {}: {why}", self.issuer.name).into(),
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    fn unavailable(&self, failure: &CallFailure) -> Unavailable {
        let left = lock(&self.breaker).closed_off(self.now());
        let wait = failure.retry_after.max(left);
        Unavailable {
            reason: failure.result.reason(),
            detail: format!("issuer {}: {}", self.issuer.name, failure.detail).into(),
            retry_after: wait.map(whole),
        }
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }
}

/// Whole seconds are what a client can be told, and zero would say "at once".
fn whole(wait: Duration) -> Duration {
    let seconds = wait.as_millis().div_ceil(1000).clamp(1, 3600);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
}

/// What a request has to wait for.
enum Boarded {
    Known(Arc<Introspected>),
    Waits(watch::Receiver<Option<Ended>>),
    Begun(watch::Receiver<Option<Ended>>),
}

/// A request's place among those that wait.
struct Place<'a> {
    of: &'a Introspector,
    client: Client,
}

impl<'a> Place<'a> {
    fn take(of: &'a Introspector, client: &Client) -> Result<Self, Unavailable> {
        if !lock(&of.waiting).take(client) {
            of.metrics.overloads.add_one();
            return Err(of.busy("too many requests of this client wait for it"));
        }
        Ok(Self {
            of,
            client: client.clone(),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.of.waiting).leave(&self.client);
    }
}

/// Whoever panicked with the lock held left something whole behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which remembered answers are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// Of this token.
    Token(TokenDigest),
    /// Of tokens of this client.
    Client(Box<str>),
    /// Of tokens of this subject.
    Subject(Box<str>),
    /// All.
    All,
}

impl Revoked {
    /// Whether this answer is among them.
    #[must_use]
    pub fn takes(&self, answer: &Introspected) -> bool {
        match self {
            Self::Token(digest) => answer.digest() == *digest,
            Self::Client(client) => answer.is_of_client(client),
            Self::Subject(subject) => answer.is_of_subject(subject),
            Self::All => true,
        }
    }
}

/// Notes that answers are dropped, before they are.
pub(super) fn note_dropped(count: &AtomicU64) {
    count.fetch_add(1, Ordering::SeqCst);
}

#[cfg(test)]
mod tests;
