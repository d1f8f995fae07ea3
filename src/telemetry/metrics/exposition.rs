//! The text that a scrape gets, written from the handles that are held.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::handle::{
    IntrospectionMetrics, IssuerMetrics, ListenerMetrics, RouteMetrics, UpstreamMetrics,
};
use super::number::Latency;
use super::replay::ReplayMetrics;
use super::{AuditMetrics, Series, live};
use crate::pdp::UnixTime;

/// Writes the series.
#[derive(Debug)]
pub(super) struct Exposition(pub(super) Arc<Series>);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        let series = &*self.0;
        routes(&mut to, &live(&series.routes))?;
        listeners(&mut to, &live(&series.listeners))?;
        upstreams(&mut to, &live(&series.upstreams))?;
        let now = UnixTime::from_secs(series.now.load(Relaxed));
        issuers(&mut to, &live(&series.issuers), now)?;
        introspections(&mut to, &live(&series.introspections))?;
        if series.audit.in_use.value() != 0 {
            audit(&mut to, &series.audit, now)?;
        }
        replay(&mut to, &series.replay)?;
        process(&mut to, series)
    }
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// The library's encoder with the calls that we need.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counter<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            count(&mut family.encode_family(&labels.as_slice())?, value)?;
        }
        Ok(())
    }

    fn gauge<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, i64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family
                .encode_family(&labels.as_slice())?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    fn durations<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, &'l Latency)>,
    ) -> fmt::Result {
        let mut family =
            self.0
                .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, latency) in values {
            let (sum, count, buckets) = latency.read();
            if count != 0 {
                family
                    .encode_family(&labels.as_slice())?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    /// A gauge of the whole process.
    fn one(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// A counter of the whole process.
    fn total(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        count(&mut encoder, value)
    }
}

fn count(encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

fn routes(to: &mut Writer<'_>, routes: &[Arc<RouteMetrics>]) -> fmt::Result {
    to.counter(
        "requests",
        "Requests that ended, by what became of them and why",
        routes.iter().flat_map(|route| {
            route.outcomes().map(|(outcome, reason, count)| {
                let labels = [
                    ("route", &*route.name),
                    ("outcome", outcome),
                    ("reason", reason),
                ];
                (labels, count)
            })
        }),
    )?;
    const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
    to.counter(
        "responses",
        "Answers by the class of their status",
        routes.iter().flat_map(|route| {
            route.responses.seen().map(|(at, count)| {
                let class = CLASSES.get(at).copied().unwrap_or_default();
                ([("route", &*route.name), ("status", class)], count)
            })
        }),
    )?;
    to.durations(
        "stage_duration",
        "How long the stages of a request took",
        routes.iter().flat_map(|route| {
            [
                ("decide", &route.decide),
                ("inform", &route.inform),
                ("upstream", &route.upstream),
                ("total", &route.total),
            ]
            .map(|(stage, latency)| ([("route", &*route.name), ("stage", stage)], latency))
        }),
    )?;
    to.counter(
        "request_body_bytes",
        "Bytes of request bodies",
        routes
            .iter()
            .map(|route| ([("route", &*route.name)], route.bytes_in.value())),
    )?;
    to.counter(
        "response_body_bytes",
        "Bytes of bodies of answers",
        routes
            .iter()
            .map(|route| ([("route", &*route.name)], route.bytes_out.value())),
    )
}

fn listeners(to: &mut Writer<'_>, listeners: &[Arc<ListenerMetrics>]) -> fmt::Result {
    to.counter(
        "handshakes",
        "TLS handshakes by result: ok, resumed, or why the connection was closed",
        listeners.iter().flat_map(|listener| {
            listener
                .handshakes()
                .map(|(result, count)| ([("listener", &*listener.name), ("result", result)], count))
        }),
    )?;
    to.durations(
        "handshake_duration",
        "How long handshakes that succeeded took",
        listeners
            .iter()
            .map(|listener| ([("listener", &*listener.name)], &listener.handshake)),
    )?;
    to.gauge(
        "connections_open",
        "Connections open now",
        listeners
            .iter()
            .map(|listener| ([("listener", &*listener.name)], listener.open.value())),
    )
}

fn upstreams(to: &mut Writer<'_>, servers: &[Arc<UpstreamMetrics>]) -> fmt::Result {
    fn labels(server: &UpstreamMetrics) -> Labels<'_, 2> {
        [("upstream", &*server.upstream), ("server", &*server.server)]
    }
    to.gauge(
        "upstream_up",
        "1 while requests go to the server, 0 while it is unhealthy or ejected",
        servers
            .iter()
            .map(|server| (labels(server), i64::from(server.is_up()))),
    )?;
    to.gauge(
        "upstream_connections_open",
        "Connections open now",
        servers
            .iter()
            .map(|server| (labels(server), server.open.value())),
    )?;
    to.counter(
        "upstream_requests",
        "Requests sent, further tries included",
        servers
            .iter()
            .map(|server| (labels(server), server.requests.value())),
    )?;
    to.counter(
        "upstream_retries",
        "Further tries of a request",
        servers
            .iter()
            .map(|server| (labels(server), server.retries.value())),
    )?;
    to.counter(
        "upstream_ejections",
        "Times that the server was left out after failures",
        servers
            .iter()
            .map(|server| (labels(server), server.ejections.value())),
    )?;
    to.counter(
        "upstream_failures",
        "Tries that failed, by reason",
        servers.iter().flat_map(|server| {
            server.failures().map(|(reason, count)| {
                let [upstream, name] = labels(server);
                ([upstream, name, ("reason", reason)], count)
            })
        }),
    )
}

fn issuers(to: &mut Writer<'_>, issuers: &[Arc<IssuerMetrics>], now: UnixTime) -> fmt::Result {
    to.gauge(
        "issuer_keys",
        "Keys held that can verify tokens",
        issuers
            .iter()
            .map(|issuer| ([("issuer", &*issuer.name)], issuer.keys.value())),
    )?;
    to.gauge(
        "issuer_keys_age_seconds",
        "How long ago the keys held were fetched; absent before the first",
        issuers.iter().filter_map(|issuer| {
            let age = now.since(issuer.fetched_at()?).as_secs();
            let age = i64::try_from(age).unwrap_or(i64::MAX);
            Some(([("issuer", &*issuer.name)], age))
        }),
    )?;
    to.gauge(
        "issuer_last_fetch_ok",
        "1 if the last fetch of keys succeeded",
        issuers
            .iter()
            .map(|issuer| ([("issuer", &*issuer.name)], issuer.last_ok())),
    )?;
    to.counter(
        "issuer_fetches",
        "Fetches of keys by result",
        issuers.iter().flat_map(|issuer| {
            issuer
                .fetches()
                .map(|(result, count)| ([("issuer", &*issuer.name), ("result", result)], count))
        }),
    )?;
    to.counter(
        "issuer_unknown_keys",
        "Tokens that named a key the issuer does not have",
        issuers
            .iter()
            .map(|issuer| ([("issuer", &*issuer.name)], issuer.unknown_keys.value())),
    )
}

fn introspections(to: &mut Writer<'_>, issuers: &[Arc<IntrospectionMetrics>]) -> fmt::Result {
    type Pick = fn(&IntrospectionMetrics) -> u64;
    let counters: [(&str, &str, Pick); 4] = [
        (
            "introspection_hits",
            "Requests for which an answer of the issuer was remembered",
            |of| of.hits.value(),
        ),
        (
            "introspection_misses",
            "Requests for which no answer was remembered",
            |of| of.misses.value(),
        ),
        (
            "introspection_waits",
            "Requests that waited for a call which another one had caused",
            |of| of.waits.value(),
        ),
        (
            "introspection_overloads",
            "Requests that were refused because too many were waiting",
            |of| of.overloads.value(),
        ),
    ];
    for (name, help, pick) in counters {
        let values = issuers.iter().map(|of| ([("issuer", &*of.name)], pick(of)));
        to.counter(name, help, values)?;
    }
    to.counter(
        "introspection_calls",
        "Calls of the introspection endpoint by result",
        issuers.iter().flat_map(|of| {
            of.calls()
                .map(|(result, count)| ([("issuer", &*of.name), ("result", result)], count))
        }),
    )?;
    to.gauge(
        "introspection_in_flight",
        "Calls that are made or wait for their turn",
        issuers
            .iter()
            .map(|of| ([("issuer", &*of.name)], of.in_flight.value())),
    )?;
    to.gauge(
        "introspection_breaker",
        "0: calls are made; 1: one is made, to see; 2: the server is left alone",
        issuers
            .iter()
            .map(|of| ([("issuer", &*of.name)], of.breaker.value())),
    )?;
    to.durations(
        "introspection_duration",
        "How long calls took",
        issuers
            .iter()
            .map(|of| ([("issuer", &*of.name)], &of.duration)),
    )
}

fn audit(to: &mut Writer<'_>, audit: &AuditMetrics, now: UnixTime) -> fmt::Result {
    to.total(
        "audit_lines",
        "Lines of the audit log that were written",
        audit.lines.value(),
    )?;
    to.total(
        "audit_lines_lost",
        "Lines that found no room in the queue of the audit log",
        audit.lost.value(),
    )?;
    to.total(
        "audit_write_failures",
        "Tries to write the audit log that failed",
        audit.failures.value(),
    )?;
    let level = |level: i64| u64::try_from(level).unwrap_or(0);
    to.one(
        "audit_queue_lines",
        "Lines that wait to be written to the audit log",
        None,
        level(audit.queue.value()),
    )?;
    to.one(
        "audit_healthy",
        "0 while the audit log cannot be written",
        None,
        level(audit.healthy.value()),
    )?;
    let checkpoint = UnixTime::from_secs(audit.checkpoint.load(Relaxed));
    to.one(
        "audit_checkpoint_age",
        "Time since the last signed line of the audit log",
        Some(&Unit::Seconds),
        now.since(checkpoint).as_secs(),
    )
}

fn replay(to: &mut Writer<'_>, replay: &ReplayMetrics) -> fmt::Result {
    let level = |value: i64| u64::try_from(value).unwrap_or(0);
    to.counter(
        "replay_uses",
        "DPoP proofs by whether they were used before",
        replay
            .uses()
            .map(|(result, count)| ([("result", result)], count)),
    )?;
    to.total(
        "replay_stood_in",
        "Answers of the memory of this process in place of the shared store",
        replay.stood_in.value(),
    )?;
    to.one(
        "replay_entries",
        "Uses of DPoP proofs that this process remembers",
        None,
        level(replay.entries.value()),
    )?;
    to.one(
        "replay_store_reachable",
        "1 while the shared store answers, and where there is none",
        None,
        level(replay.reachable.value()),
    )?;
    to.one(
        "replay_breaker_state",
        "0 closed, 1 half-open, 2 open",
        None,
        level(replay.breaker.value()),
    )?;
    to.total(
        "replay_losses",
        "Times that the shared store may have lost uses: failover, restart, flush, eviction",
        replay.losses.value(),
    )?;
    let (sum, count, buckets) = replay.command.read();
    to.0.encode_descriptor(
        "replay_command_duration",
        "How long answers of the shared store took",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?
    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn process(to: &mut Writer<'_>, series: &Series) -> fmt::Result {
    let answers = &series.answer_cache;
    to.gauge(
        "introspection_cache_entries",
        "Answers remembered",
        [
            ([("kind", "active")], answers.active.value()),
            ([("kind", "inactive")], answers.inactive.value()),
        ],
    )?;
    to.total(
        "introspection_dropped",
        "Answers dropped on request before their time",
        answers.dropped.value(),
    )?;
    let cache = &series.token_cache;
    to.total(
        "token_cache_hits",
        "Tokens whose signature was already checked",
        cache.hits.value(),
    )?;
    to.total(
        "token_cache_misses",
        "Tokens whose signature had to be checked",
        cache.misses.value(),
    )?;
    to.one(
        "token_cache_entries",
        "Tokens remembered",
        None,
        u64::try_from(cache.entries.value()).unwrap_or(0),
    )?;
    to.total(
        "access_log_lines_lost",
        "Lines of the access log that could not be written",
        series.lines_lost.value(),
    )?;
    to.total(
        "panics",
        "Failures of our own code that were caught",
        series.panics.value(),
    )?;
    let config = &series.config;
    to.one(
        "config_generation",
        "Number of the configuration in force",
        None,
        config.generation.load(Relaxed),
    )?;
    to.one(
        "config_last_reload_successful",
        "0 after a reload that was refused",
        None,
        u64::from(config.last_good.load(Relaxed)),
    )?;
    to.one(
        "config_loaded_timestamp",
        "When the configuration in force was loaded",
        Some(&Unit::Seconds),
        config.loaded_at.load(Relaxed),
    )?;
    to.total(
        "config_reloads_refused",
        "Reloads that were refused",
        config.refused.value(),
    )?;
    to.one(
        "degraded",
        "1 while something is worse than it should be; /status says what",
        None,
        u64::from(config.degraded.load(Relaxed)),
    )?;
    to.one(
        "start_timestamp",
        "When the process started",
        Some(&Unit::Seconds),
        series.started.load(Relaxed),
    )?;
    to.0.encode_descriptor("build", "The program", None, MetricType::Info)?
        .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}
