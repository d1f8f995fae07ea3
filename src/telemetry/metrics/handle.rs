//! Handles: the numbers of one route, listener, server or issuer, found once at load. On a
//! request only an atomic add is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::number::{Count, Counts, Latency, Level};
use crate::pdp::UnixTime;
use crate::refusal::{Class, CloseReason, Reason};

/// Rows of the refusal table.
const REASONS: usize = Reason::ALL.len();

/// What became of a request: `outcome` of its log line and label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was authorized; what the upstream made of it is in the status.
    Authorized,
    /// It was refused.
    Refused,
    /// It was refused since something that the decision needs did not answer.
    Undecided,
    /// The client left before the answer was complete.
    Aborted,
    /// It was let through on a route that is only observed, though it would have been refused.
    Observed,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Authorized,
        Self::Refused,
        Self::Undecided,
        Self::Aborted,
        Self::Observed,
    ];

    /// The word in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Refused => "refused",
            Self::Undecided => "undecided",
            Self::Aborted => "aborted",
            Self::Observed => "observed",
        }
    }

    /// The outcome of a request that ended with this reason. A fault of the upstream comes after
    /// the request was authorized.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        match reason.spec().class {
            Class::Undecided => Self::Undecided,
            Class::Upstream => Self::Authorized,
            Class::Request | Class::Credential | Class::Permission | Class::Local => Self::Refused,
        }
    }
}

/// How long each stage of a request took; a stage that it did not reach is zero and not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Judging: route, token, policy.
    pub decide: Duration,
    /// Waiting for what the decision needs.
    pub inform: Duration,
    /// From the first byte sent to the upstream to the head of its answer.
    pub upstream: Duration,
    /// From the head of the request to the end of the answer.
    pub total: Duration,
}

/// The numbers of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) name: Arc<str>,
    /// By outcome, then by reason; the first of each outcome is "no reason".
    pub(super) requests: Counts<{ Outcome::ALL.len() * (REASONS + 1) }>,
    /// By the first digit of the status; place 0 is "no answer was sent".
    pub(super) responses: Counts<6>,
    pub(super) decide: Latency,
    pub(super) inform: Latency,
    pub(super) upstream: Latency,
    pub(super) total: Latency,
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
}

impl RouteMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            requests: Counts::default(),
            responses: Counts::default(),
            decide: Latency::short(),
            inform: Latency::long(),
            upstream: Latency::long(),
            total: Latency::long(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
        }
    }

    /// Counts a request that ended. [`crate::telemetry::AccessRecord`] does it as it is
    /// written, so that log and metric agree.
    pub fn ended(
        &self,
        (outcome, reason): (Outcome, Option<Reason>),
        status: Option<u16>,
        stages: &Stages,
        (bytes_in, bytes_out): (u64, u64),
    ) {
        let reason = reason.map_or(0, |reason| reason as usize + 1);
        self.requests
            .add_one(outcome as usize * (REASONS + 1) + reason);
        let class = status.map_or(0, |status| usize::from(status / 100));
        self.responses.add_one(class);
        for (latency, took) in [
            (&self.decide, stages.decide),
            (&self.inform, stages.inform),
            (&self.upstream, stages.upstream),
        ] {
            if !took.is_zero() {
                latency.observe(took);
            }
        }
        self.total.observe(stages.total);
        self.bytes_in.add(bytes_in);
        self.bytes_out.add(bytes_out);
    }

    /// Outcome and reason of each count that is not zero.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.requests.seen().map(|(at, count)| {
            let outcome = Outcome::ALL.get(at / (REASONS + 1));
            let reason = at % (REASONS + 1);
            let reason = reason.checked_sub(1).and_then(|at| Reason::ALL.get(at));
            (
                outcome.map_or("", |outcome| outcome.name()),
                reason.map_or("", |reason| reason.spec().code),
                count,
            )
        })
    }
}

/// The numbers of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub(super) name: Arc<str>,
    pub(super) full: Count,
    pub(super) resumed: Count,
    pub(super) failed: Counts<{ CloseReason::ALL.len() }>,
    pub(super) handshake: Latency,
    /// Connections open now.
    pub open: Level,
}

impl ListenerMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            full: Count::default(),
            resumed: Count::default(),
            failed: Counts::default(),
            handshake: Latency::short(),
            open: Level::default(),
        }
    }

    /// A handshake succeeded.
    pub fn secured(&self, resumed: bool, took: Duration) {
        if resumed { &self.resumed } else { &self.full }.add_one();
        self.handshake.observe(took);
    }

    /// A connection ended before it spoke HTTP.
    pub fn closed(&self, reason: CloseReason) {
        self.failed.add_one(reason as usize);
    }

    /// Result and count of each that is not zero, successes always.
    pub(super) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let done = [("ok", self.full.value()), ("resumed", self.resumed.value())];
        done.into_iter()
            .chain(self.failed.seen().map(|(at, count)| {
                (
                    CloseReason::ALL.get(at).map_or("", |reason| reason.code()),
                    count,
                )
            }))
    }
}

/// The numbers of one server of an upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    pub(super) upstream: Arc<str>,
    pub(super) server: Arc<str>,
    up: Level,
    /// Connections open now.
    pub open: Level,
    /// Requests sent.
    pub requests: Count,
    /// Further tries of a request.
    pub retries: Count,
    /// Times that it was left out.
    pub ejections: Count,
    pub(super) failures: Counts<REASONS>,
}

impl UpstreamMetrics {
    pub(super) fn new(upstream: Arc<str>, server: Arc<str>) -> Self {
        let up = Level::default();
        up.set(1);
        Self {
            upstream,
            server,
            up,
            open: Level::default(),
            requests: Count::default(),
            retries: Count::default(),
            ejections: Count::default(),
            failures: Counts::default(),
        }
    }

    /// Whether requests go there: false while it is unhealthy or ejected.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// Whether requests go there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.value() != 0
    }

    /// A try failed.
    pub fn failed(&self, reason: Reason) {
        self.failures.add_one(reason as usize);
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.failures.seen().map(|(at, count)| {
            (
                Reason::ALL.get(at).map_or("", |reason| reason.spec().code),
                count,
            )
        })
    }
}

/// How a fetch of keys ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchResult {
    /// Keys that can be used.
    Ok,
    /// No connection, no TLS, or it broke.
    Unreachable,
    /// Not done in time.
    Timeout,
    /// A status other than 200.
    Status,
    /// Larger than can be taken.
    TooLarge,
    /// Metadata of another issuer, or with an address that must not be followed (KEY-01, KEY-10).
    Metadata,
    /// An answer in which no key can be used (KEY-07).
    Unusable,
}

impl FetchResult {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Unreachable,
        Self::Timeout,
        Self::Status,
        Self::TooLarge,
        Self::Metadata,
        Self::Unusable,
    ];

    /// The word in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Metadata => "metadata",
            Self::Unusable => "unusable",
        }
    }
}

/// The numbers of one issuer.
#[derive(Debug)]
pub struct IssuerMetrics {
    pub(super) name: Arc<str>,
    pub(super) fetches: Counts<{ FetchResult::ALL.len() }>,
    /// Seconds since the epoch of the last good fetch; 0 before the first.
    fetched: AtomicU64,
    last_ok: Level,
    /// Keys held.
    pub keys: Level,
    /// Requests whose key was not among those held and was not looked for again.
    pub unknown_keys: Count,
}

impl IssuerMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            fetches: Counts::default(),
            fetched: AtomicU64::new(0),
            last_ok: Level::default(),
            keys: Level::default(),
            unknown_keys: Count::default(),
        }
    }

    /// A fetch ended.
    pub fn fetched(&self, result: FetchResult) {
        self.fetches.add_one(result as usize);
        self.last_ok.set(i64::from(result == FetchResult::Ok));
    }

    /// Keys are held that the issuer published at `at` and not later: fetched then, or kept from
    /// then in a snapshot.
    pub fn held(&self, keys: usize, at: UnixTime) {
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.fetched.store(at.as_secs(), Relaxed);
    }

    pub(super) fn last_ok(&self) -> i64 {
        self.last_ok.value()
    }

    /// When the keys held were fetched.
    pub(super) fn fetched_at(&self) -> Option<UnixTime> {
        let secs = self.fetched.load(Relaxed);
        (secs != 0).then_some(UnixTime::from_secs(secs))
    }

    pub(super) fn fetches(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.fetches.seen().map(|(at, count)| {
            (
                FetchResult::ALL.get(at).map_or("", |result| result.name()),
                count,
            )
        })
    }
}

/// How a call of an introspection endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallResult {
    /// The token is active.
    Active,
    /// It is not, or it could not pass anywhere.
    Inactive,
    /// No connection, no TLS, or it broke; or no call was made.
    Unreachable,
    /// Not done in time.
    Timeout,
    /// A status that tells of trouble at the server.
    Status,
    /// The server rejects this very request.
    Rejected,
    /// The server does not take our own credentials (INT-12).
    Credentials,
    /// Larger than can be taken.
    TooLarge,
    /// Not what RFC 7662 or RFC 9701 has.
    Unfit,
    /// The address could not be learned.
    Metadata,
    /// The keys to check a signed answer with could not be had.
    Keys,
}

impl CallResult {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Active,
        Self::Inactive,
        Self::Unreachable,
        Self::Timeout,
        Self::Status,
        Self::Rejected,
        Self::Credentials,
        Self::TooLarge,
        Self::Unfit,
        Self::Metadata,
        Self::Keys,
    ];

    /// The word in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Rejected => "rejected",
            Self::Credentials => "credentials",
            Self::TooLarge => "too_large",
            Self::Unfit => "unfit",
            Self::Metadata => "metadata",
            Self::Keys => "keys",
        }
    }

    /// The row of the table for a request that waited for it.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Unfit | Self::TooLarge => Reason::IntrospectionUnfit,
            _ => Reason::IntrospectionUnavailable,
        }
    }
}

/// The numbers of introspection of one issuer.
#[derive(Debug)]
pub struct IntrospectionMetrics {
    pub(super) name: Arc<str>,
    /// Requests for which an answer was remembered.
    pub hits: Count,
    /// Requests for which none was.
    pub misses: Count,
    /// Requests that waited for a call that another one had caused.
    pub waits: Count,
    /// Requests that found no place to wait.
    pub overloads: Count,
    /// Calls that are made or wait for their turn.
    pub in_flight: Level,
    pub(super) calls: Counts<{ CallResult::ALL.len() }>,
    pub(super) duration: Latency,
    /// 0 closed, 1 half open, 2 open.
    pub(super) breaker: Level,
}

impl IntrospectionMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            hits: Count::default(),
            misses: Count::default(),
            waits: Count::default(),
            overloads: Count::default(),
            in_flight: Level::default(),
            calls: Counts::default(),
            duration: Latency::short(),
            breaker: Level::default(),
        }
    }

    /// A call ended.
    pub fn called(&self, result: CallResult) {
        self.calls.add_one(result as usize);
    }

    /// How long it took.
    pub fn took(&self, took: Duration) {
        self.duration.observe(took);
    }

    /// The breaker is `closed`, `half_open` or `open`.
    pub fn set_breaker(&self, state: &str) {
        self.breaker.set(match state {
            "closed" => 0,
            "half_open" => 1,
            _ => 2,
        });
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.calls.seen().map(|(at, count)| {
            (
                CallResult::ALL.get(at).map_or("", |result| result.name()),
                count,
            )
        })
    }
}
