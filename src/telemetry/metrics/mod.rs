//! Numbers for Prometheus: names `portcullis_*`, units seconds and bytes.
//!
//! A series lives as long as somebody holds its handle. A reload finds the handles of what stays
//! before it lets the old configuration go, so their counts go on; the series of a route that
//! vanished ends with the last request on it.

mod exposition;
mod handle;
mod number;
mod replay;

pub use handle::{
    CallResult, FetchResult, IntrospectionMetrics, IssuerMetrics, ListenerMetrics, Outcome,
    RouteMetrics, Stages, UpstreamMetrics,
};
pub use number::{Count, Counts, Latency, Level};
pub use replay::{ReplayMetrics, ReplayResult};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus_client::registry::Registry;

use crate::pdp::UnixTime;

/// Every number of the process. Made once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    series: Arc<Series>,
    unrouted: Arc<RouteMetrics>,
    unnamed: Arc<ListenerMetrics>,
}

/// Label of requests that no route took, and of connections that no listener did.
const NONE: &str = "-";

impl Metrics {
    /// All at zero. `started`: when the process started.
    #[must_use]
    pub fn new(started: UnixTime) -> Arc<Self> {
        let series = Arc::new(Series::default());
        series.started.store(started.as_secs(), Relaxed);
        let mut registry = Registry::with_prefix("portcullis");
        registry.register_collector(Box::new(exposition::Exposition(Arc::clone(&series))));
        let unrouted = series.route(NONE);
        let unnamed = series.listener(NONE);
        Arc::new(Self {
            registry,
            series,
            unrouted,
            unnamed,
        })
    }

    /// The numbers of a route.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.series.route(name)
    }

    /// The numbers of requests that no route took.
    #[must_use]
    pub const fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.unrouted
    }

    /// The numbers of a listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        self.series.listener(name)
    }

    /// The numbers of connections that ended before their server name chose a listener.
    #[must_use]
    pub const fn no_listener(&self) -> &Arc<ListenerMetrics> {
        &self.unnamed
    }

    /// The numbers of one server (`host:port`) of an upstream.
    #[must_use]
    pub fn upstream(&self, upstream: &str, server: &str) -> Arc<UpstreamMetrics> {
        let mut map = lock(&self.series.upstreams);
        let key = (Arc::from(upstream), Arc::from(server));
        if let Some(held) = map.get(&key).and_then(Weak::upgrade) {
            return held;
        }
        let made = Arc::new(UpstreamMetrics::new(Arc::clone(&key.0), Arc::clone(&key.1)));
        map.insert(key, Arc::downgrade(&made));
        made
    }

    /// The numbers of an issuer, by its name in the configuration.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Arc<IssuerMetrics> {
        held_or_made(&self.series.issuers, name, IssuerMetrics::new)
    }

    /// The numbers of introspection of an issuer, by its name in the configuration.
    #[must_use]
    pub fn introspection(&self, issuer: &str) -> Arc<IntrospectionMetrics> {
        held_or_made(
            &self.series.introspections,
            issuer,
            IntrospectionMetrics::new,
        )
    }

    /// Remembered introspection answers, of all issuers together.
    #[must_use]
    pub fn introspection_cache(&self) -> &AnswerCacheMetrics {
        &self.series.answer_cache
    }

    /// Uses of DPoP proofs.
    #[must_use]
    pub fn replay(&self) -> &Arc<ReplayMetrics> {
        &self.series.replay
    }

    /// Verified tokens that were remembered, and those that were not.
    #[must_use]
    pub fn token_cache(&self) -> &TokenCacheMetrics {
        &self.series.token_cache
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &AuditMetrics {
        &self.series.audit
    }

    /// Lines of the access log that could not be written.
    #[must_use]
    pub fn lines_lost(&self) -> &Arc<Count> {
        &self.series.lines_lost
    }

    /// Requests in which our own code failed and was caught.
    #[must_use]
    pub fn panics(&self) -> &Count {
        &self.series.panics
    }

    /// A configuration is in force: at the start and after each reload that was good.
    pub fn loaded(&self, generation: u64, at: UnixTime) {
        let config = &self.series.config;
        config.generation.store(generation, Relaxed);
        config.loaded_at.store(at.as_secs(), Relaxed);
        config.last_good.store(true, Relaxed);
    }

    /// A reload was refused; the configuration in force stays.
    pub fn reload_refused(&self) {
        self.series.config.last_good.store(false, Relaxed);
        self.series.config.refused.add_one();
    }

    /// Whether the process is worse off than it should be: see `/status`.
    pub fn set_degraded(&self, degraded: bool) {
        self.series.config.degraded.store(degraded, Relaxed);
    }

    /// The text that a scrape gets. `now` is what ages are counted from.
    #[must_use]
    pub fn render(&self, now: UnixTime) -> String {
        self.series.now.store(now.as_secs(), Relaxed);
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string does not fail; should it, an incomplete text without its `# EOF`
        // is refused by the scraper, which is right.
        let written = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        if written.is_err() {
            tracing::error!("metrics could not be written");
        }
        text
    }

    /// `Content-Type` of [`Self::render`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

/// Hits and misses of what is remembered of tokens.
#[derive(Debug, Default)]
pub struct TokenCacheMetrics {
    /// A token was remembered and its keys still stand.
    pub hits: Count,
    /// It was not.
    pub misses: Count,
    /// Tokens held, as last counted.
    pub entries: Level,
}

/// What is remembered of introspection.
#[derive(Debug, Default)]
pub struct AnswerCacheMetrics {
    /// Answers about active tokens held, as last counted.
    pub active: Level,
    /// Other answers held, as last counted.
    pub inactive: Level,
    /// Answers that somebody had dropped before their time.
    pub dropped: Count,
}

/// The audit log. Shown only where there is one.
#[derive(Debug, Default)]
pub struct AuditMetrics {
    /// 1 where there is one.
    pub in_use: Level,
    /// Lines that were written, those of the log itself among them.
    pub lines: Count,
    /// Lines that found no room in the queue.
    pub lost: Count,
    /// Tries to write that failed.
    pub failures: Count,
    /// Lines that wait.
    pub queue: Level,
    /// 1 while what was written last reached the disk.
    pub healthy: Level,
    checkpoint: AtomicU64,
}

impl AuditMetrics {
    /// A signed line was written.
    pub fn checkpoint(&self, at: UnixTime) {
        self.checkpoint.store(at.as_secs(), Relaxed);
    }
}

#[derive(Debug, Default)]
struct ConfigMetrics {
    generation: AtomicU64,
    loaded_at: AtomicU64,
    last_good: AtomicBool,
    refused: Count,
    degraded: AtomicBool,
}

/// Upstream and server.
type ServerName = (Arc<str>, Arc<str>);

type Named<T> = Mutex<BTreeMap<Arc<str>, Weak<T>>>;

/// What the exposition walks. The locks are taken at load and at a scrape, never by a request.
#[derive(Debug, Default)]
struct Series {
    routes: Named<RouteMetrics>,
    listeners: Named<ListenerMetrics>,
    upstreams: Mutex<BTreeMap<ServerName, Weak<UpstreamMetrics>>>,
    issuers: Named<IssuerMetrics>,
    introspections: Named<IntrospectionMetrics>,
    answer_cache: AnswerCacheMetrics,
    replay: Arc<ReplayMetrics>,
    token_cache: TokenCacheMetrics,
    audit: AuditMetrics,
    lines_lost: Arc<Count>,
    panics: Count,
    config: ConfigMetrics,
    started: AtomicU64,
    now: AtomicU64,
}

impl Series {
    fn route(&self, name: &str) -> Arc<RouteMetrics> {
        held_or_made(&self.routes, name, RouteMetrics::new)
    }

    fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        held_or_made(&self.listeners, name, ListenerMetrics::new)
    }
}

fn held_or_made<T>(map: &Named<T>, name: &str, make: impl FnOnce(Arc<str>) -> T) -> Arc<T> {
    let mut map = lock(map);
    if let Some(held) = map.get(name).and_then(Weak::upgrade) {
        return held;
    }
    let name: Arc<str> = Arc::from(name);
    let made = Arc::new(make(Arc::clone(&name)));
    map.insert(name, Arc::downgrade(&made));
    made
}

/// Those still held; the others are forgotten.
fn live<K: Ord, T>(map: &Mutex<BTreeMap<K, Weak<T>>>) -> Vec<Arc<T>> {
    let mut map = lock(map);
    map.retain(|_, weak| weak.strong_count() != 0);
    map.values().filter_map(Weak::upgrade).collect()
}

/// Whoever panicked with the lock held left a map of counters behind, which is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{CloseReason, Reason};
    use std::time::Duration;

    fn text(metrics: &Metrics) -> String {
        metrics.render(UnixTime::from_secs(1_000_060))
    }

    #[test]
    fn a_decision_is_counted_by_route_outcome_and_reason() {
        let metrics = Metrics::new(UnixTime::from_secs(1_000_000));
        let route = metrics.route("accounts");
        let stages = Stages {
            decide: Duration::from_micros(30),
            total: Duration::from_millis(3),
            ..Stages::default()
        };
        route.ended((Outcome::Authorized, None), Some(200), &stages, (10, 20));
        for reason in Reason::ALL {
            let status = Some(reason.spec().status.code());
            route.ended(
                (Outcome::of(*reason), Some(*reason)),
                status,
                &stages,
                (0, 0),
            );
        }
        let text = text(&metrics);
        for line in [
            "portcullis_requests_total{route=\"accounts\",outcome=\"authorized\",reason=\"\"} 1",
            "portcullis_requests_total{route=\"accounts\",outcome=\"refused\",reason=\"token_missing\"} 1",
            "portcullis_requests_total{route=\"accounts\",outcome=\"undecided\",reason=\"keys_unavailable\"} 1",
            "portcullis_requests_total{route=\"accounts\",outcome=\"authorized\",reason=\"upstream_timeout\"} 1",
            "portcullis_requests_total{route=\"accounts\",outcome=\"refused\",reason=\"internal\"} 1",
            "portcullis_responses_total{route=\"accounts\",status=\"2xx\"} 1",
            "portcullis_stage_duration_seconds_count{route=\"accounts\",stage=\"total\"} ",
            "portcullis_stage_duration_seconds_bucket{le=\"0.00005\",route=\"accounts\",stage=\"decide\"} ",
            "portcullis_request_body_bytes_total{route=\"accounts\"} 10",
            "portcullis_response_body_bytes_total{route=\"accounts\"} 20",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        let reasons = text
            .lines()
            .filter(|l| l.starts_with("portcullis_requests_total{route=\"accounts\""));
        assert_eq!(
            reasons.count(),
            1 + Reason::ALL.len(),
            "no two reasons share a place"
        );
        assert!(
            !text.contains("stage=\"upstream\""),
            "a stage that was not reached is not counted"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn handshakes_servers_issuers_and_the_process_are_there() {
        // OPS-05
        let metrics = Metrics::new(UnixTime::from_secs(1_000_000));
        let listener = metrics.listener("bank");
        listener.open.rise();
        listener.secured(false, Duration::from_millis(1));
        listener.secured(true, Duration::from_millis(1));
        for reason in CloseReason::ALL {
            listener.closed(*reason);
        }
        metrics.no_listener().closed(CloseReason::ServerNameUnknown);
        let server = metrics.upstream("core", "10.0.0.5:8080");
        server.failed(Reason::UpstreamTimeout);
        server.set_up(false);
        let issuer = metrics.issuer("main");
        issuer.held(2, UnixTime::from_secs(1_000_000));
        issuer.fetched(FetchResult::Ok);
        issuer.fetched(FetchResult::Timeout);
        metrics.token_cache().hits.add_one();
        metrics.lines_lost().add(3);
        metrics.replay().used(ReplayResult::First);
        metrics.replay().used(ReplayResult::Uncertain);
        metrics.replay().breaker.set(2);
        metrics.replay().entries.set(4);
        metrics.replay().command.observe(Duration::from_micros(300));
        metrics.loaded(7, UnixTime::from_secs(1_000_001));
        metrics.reload_refused();
        let text = text(&metrics);
        for line in [
            "portcullis_handshakes_total{listener=\"bank\",result=\"ok\"} 1",
            "portcullis_handshakes_total{listener=\"bank\",result=\"resumed\"} 1",
            "portcullis_handshakes_total{listener=\"bank\",result=\"client_certificate_revoked\"} 1",
            "portcullis_handshakes_total{listener=\"bank\",result=\"revocation_unknown\"} 1",
            "portcullis_handshakes_total{listener=\"-\",result=\"server_name_unknown\"} 1",
            "portcullis_connections_open{listener=\"bank\"} 1",
            "portcullis_upstream_up{upstream=\"core\",server=\"10.0.0.5:8080\"} 0",
            "portcullis_upstream_failures_total{upstream=\"core\",server=\"10.0.0.5:8080\",reason=\"upstream_timeout\"} 1",
            "portcullis_issuer_keys{issuer=\"main\"} 2",
            "portcullis_issuer_keys_age_seconds{issuer=\"main\"} 60",
            "portcullis_issuer_last_fetch_ok{issuer=\"main\"} 0",
            "portcullis_issuer_fetches_total{issuer=\"main\",result=\"timeout\"} 1",
            "portcullis_token_cache_hits_total 1",
            "portcullis_access_log_lines_lost_total 3",
            "portcullis_replay_uses_total{result=\"first\"} 1",
            "portcullis_replay_uses_total{result=\"uncertain\"} 1",
            "portcullis_replay_stood_in_total 0",
            "portcullis_replay_entries 4",
            "portcullis_replay_store_reachable 1",
            "portcullis_replay_breaker_state 2",
            "portcullis_replay_losses_total 0",
            "portcullis_replay_command_duration_seconds_count 1",
            "portcullis_config_generation 7",
            "portcullis_config_last_reload_successful 0",
            "portcullis_config_loaded_timestamp_seconds 1000001",
            "portcullis_build_info{version=\"",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn a_series_goes_on_over_a_reload_and_ends_with_its_last_holder() {
        let metrics = Metrics::new(UnixTime::from_secs(0));
        let count = |handle: &RouteMetrics| {
            handle.ended(
                (Outcome::Authorized, None),
                Some(200),
                &Stages::default(),
                (0, 0),
            );
        };
        let (kept, gone) = (metrics.route("kept"), metrics.route("gone"));
        count(&kept);
        count(&gone);
        let after = metrics.route("kept");
        drop((kept, gone));
        count(&after);
        let text = text(&metrics);
        assert!(
            text.contains("{route=\"kept\",outcome=\"authorized\",reason=\"\"} 2"),
            "{text}"
        );
        assert!(!text.contains("gone"), "{text}");
    }

    #[test]
    fn every_name_and_help_stands_once() {
        let metrics = Metrics::new(UnixTime::from_secs(0));
        let text = text(&metrics);
        let mut types: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all);
        assert!(types.iter().all(|l| l.starts_with("# TYPE portcullis_")));
    }
}
