//! The one line that each request leaves, authorized or not, also when the client left in the
//! middle: the record is filled on the way and writes itself as it ends.

mod same;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Version};

use super::date::Timestamp;
use super::line::{Line, Name, name};
use super::metrics::{RouteMetrics, Stages};
use super::redact::clean;
use crate::pdp::authorization::Client;
use crate::pdp::introspection::How;
use crate::pdp::{InteractionId, Issuer, Peer, Policy, SharedToken, TokenDigest, Trail};
use crate::refusal::{Reason, Refusal};

pub use self::same::Same;
pub use super::line::Format;
pub use super::metrics::Outcome;
pub use super::sink::Sink;

/// How much of a request's body came, as its body counts.
pub trait Received: fmt::Debug {
    /// Bytes so far.
    fn bytes(&self) -> u64;
}

/// What is known of a request. Fields are filled as they become known; [`Self::finish`] or the
/// destructor writes the line and counts the request, once.
///
/// Until [`Self::decided`] or [`Self::refused`] said otherwise, and until [`Self::complete`] said
/// that the answer was sent whole, the outcome is `aborted`.
#[derive(Debug)]
pub struct AccessRecord {
    /// When the request arrived, wall clock.
    pub time: Timestamp,
    /// The same, for durations.
    pub started: Instant,
    /// `x-fapi-interaction-id` of the answer.
    pub interaction_id: InteractionId,
    /// Number of the configuration that judged.
    pub generation: u64,
    /// Who sent it, and to which listener.
    pub peer: Arc<Peer>,
    /// Name of the route.
    pub route: Option<Arc<str>>,
    /// The policy.
    pub policy: Option<Arc<Policy>>,
    /// The issuer that the token named, found among the policy's.
    pub issuer: Option<Arc<Issuer>>,
    /// The verified token.
    pub token: Option<SharedToken>,
    /// The client of a request to an authorization server.
    pub client: Option<Arc<Client>>,
    /// SHA-256 of the token, verified or not; its first half is logged (OPS-02).
    pub token_digest: Option<TokenDigest>,
    /// Method, once the request could be read.
    pub method: Option<Method>,
    /// Path without query, as sent.
    pub path: Option<Box<str>>,
    /// Protocol of the request.
    pub protocol: Option<Version>,
    /// Status of the answer.
    pub status: Option<u16>,
    /// Times of the stages; `total` is set at the end.
    pub stages: Stages,
    /// Bytes of the request body, as the body counts them.
    pub received: Option<Rc<dyn Received>>,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Server of the upstream that answered.
    pub server: Option<Arc<str>>,
    /// Tries that the upstream needed.
    pub attempts: u32,
    /// How the issuer's word about the token was come by.
    pub introspection: Option<How>,
    /// What the shadow policy would have said: `Some(None)` is "authorized".
    pub shadow: Option<Option<Reason>>,
    /// The numbers of the route; those of no route until there is one.
    pub metrics: Arc<RouteMetrics>,
    /// What the connection's last line said of who asks.
    pub same: Option<Rc<Same>>,
    outcome: Option<Outcome>,
    reason: Option<Reason>,
    detail: Option<Box<str>>,
    complete: bool,
    written: bool,
    sink: Sink,
}

impl AccessRecord {
    /// A record of a request that arrived at this moment, by the wall clock and for durations. `metrics`:
    /// those of no route, see [`super::Metrics::unrouted`].
    #[must_use]
    pub fn new(
        sink: &Sink,
        metrics: &Arc<RouteMetrics>,
        (time, started): (Timestamp, Instant),
        peer: &Arc<Peer>,
        interaction_id: InteractionId,
    ) -> Self {
        Self {
            time,
            started,
            interaction_id,
            generation: 0,
            peer: Arc::clone(peer),
            route: None,
            policy: None,
            issuer: None,
            token: None,
            client: None,
            token_digest: None,
            method: None,
            path: None,
            protocol: None,
            status: None,
            stages: Stages::default(),
            received: None,
            bytes_out: 0,
            server: None,
            attempts: 0,
            introspection: None,
            shadow: None,
            metrics: Arc::clone(metrics),
            same: None,
            outcome: None,
            reason: None,
            detail: None,
            complete: false,
            written: false,
            sink: sink.clone(),
        }
    }

    /// Takes over what the decision looked at.
    pub fn trail(&mut self, trail: Trail) {
        let Trail {
            route,
            policy,
            issuer,
            token,
            digest,
            client,
            introspection,
            shadow,
            ..
        } = trail;
        self.introspection = introspection;
        if let Some(route) = route {
            self.route = Some(Arc::clone(&route.name));
        }
        self.policy = policy;
        self.issuer = issuer;
        self.token = token;
        self.token_digest = digest;
        self.client = client;
        self.shadow = shadow;
    }

    /// The decision was to let it pass; `observed` says why it would not have been on a route
    /// that is enforced.
    pub fn decided(&mut self, observed: Option<&Refusal>) {
        match observed {
            None => self.outcome = Some(Outcome::Authorized),
            Some(refusal) => {
                self.because(refusal);
                self.outcome = Some(Outcome::Observed);
            }
        }
    }

    /// The answer is one of ours.
    pub fn refused(&mut self, refusal: &Refusal) {
        // The upstream's fault does not turn an observed request into an authorized one.
        let outcome = match (self.outcome, Outcome::of(refusal.reason())) {
            (Some(Outcome::Observed), Outcome::Authorized) => Outcome::Observed,
            (_, outcome) => outcome,
        };
        self.outcome = Some(outcome);
        self.status = Some(refusal.reason().spec().status.code());
        self.because(refusal);
    }

    fn because(&mut self, refusal: &Refusal) {
        self.reason = Some(refusal.reason());
        self.detail = refusal.detail().map(Box::from);
    }

    /// The last byte of the answer was handed to the connection.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// What will be logged, as things stand.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.outcome {
            Some(outcome) if self.complete => outcome,
            Some(_) | None => Outcome::Aborted,
        }
    }

    /// Writes the line and counts the request.
    pub fn finish(&mut self) {
        self.write();
    }

    fn write(&mut self) {
        if self.written {
            return;
        }
        self.written = true;
        self.stages.total = self.started.elapsed();
        let outcome = self.outcome();
        let bytes_in = self.received.as_ref().map_or(0, |body| body.bytes());
        self.metrics.ended(
            (outcome, self.reason),
            self.status,
            &self.stages,
            (bytes_in, self.bytes_out),
        );
        self.line(outcome, bytes_in);
    }

    fn line(&self, outcome: Outcome, bytes_in: u64) {
        let mut line = Line::new(self.sink.format());
        line.known_word(name!("time"), &self.time.text());
        line.known_word(name!("outcome"), outcome.name().as_bytes());
        match (self.sink.format(), self.status) {
            (Format::Json, Some(status)) => line.number(name!("status"), status.into()),
            (Format::Json, None) => {}
            (Format::Text, Some(status)) => {
                let mut digits = itoa::Buffer::new();
                line.known_word(name!("status"), digits.format(status).as_bytes());
            }
            (Format::Text, None) => line.known_word(name!("status"), b"-"),
        }
        if let Some(method) = &self.method {
            line.word(name!("method"), &clean(method.as_str(), 32));
        }
        if let Some(path) = &self.path {
            line.word(name!("path"), &clean(path, 2048));
        }
        if let Some(reason) = self.reason {
            line.known(name!("reason"), reason.spec().code.as_bytes());
        }
        if let Some(detail) = &self.detail {
            line.string(name!("detail"), &clean(detail, 512));
        }
        line.known(name!("interaction_id"), self.interaction_id.as_bytes());
        match &self.same {
            Some(same) => same.describe(self, &mut line),
            None => self.describe(&mut line),
        }
        if self.attempts > 1 {
            line.number(name!("attempts"), self.attempts.into());
        }
        line.micros(name!("decide_us"), self.stages.decide);
        line.micros(name!("inform_us"), self.stages.inform);
        line.micros(name!("upstream_us"), self.stages.upstream);
        line.number(name!("total_us"), whole_micros(self.stages.total));
        line.number(name!("bytes_in"), bytes_in);
        line.number(name!("bytes_out"), self.bytes_out);
        line.end(|line| self.sink.take(line));
    }

    /// What does not change from one request of a client to the next. It looks at nothing that [`Same`]
    /// does not compare.
    fn describe(&self, line: &mut Line) {
        let mut text = |name: Name, value: Option<&str>, longest| {
            if let Some(value) = value {
                line.string(name, &clean(value, longest));
            }
        };
        text(name!("listener"), Some(&self.peer.listener), 128);
        text(name!("route"), self.route.as_deref(), 128);
        text(
            name!("policy"),
            self.policy.as_ref().map(|policy| &*policy.name),
            128,
        );
        text(
            name!("issuer"),
            self.issuer.as_ref().map(|issuer| &*issuer.name),
            128,
        );
        text(
            name!("client_id"),
            self.token
                .as_ref()
                .map(|token| token.client_id())
                .or(self.client.as_ref().map(|client| &*client.id)),
            256,
        );
        text(
            name!("organisation"),
            self.client
                .as_ref()
                .and_then(|client| client.organisation.as_deref()),
            256,
        );
        if let Some(certificate) = &self.peer.certificate {
            let thumbprint = certificate.thumbprint_text.as_bytes();
            line.known(name!("certificate"), thumbprint);
        }
        if let Some(server) = &self.server {
            line.string(name!("upstream"), &clean(server, 128));
        }
        if let Some(version) = self.protocol {
            line.known(name!("protocol"), protocol(version).as_bytes());
        }
        if let Some(reason) = self.shadow {
            let shadow = reason.map_or("authorized", |reason| reason.spec().code);
            line.known(name!("shadow"), shadow.as_bytes());
        }
        if let Some(how) = self.introspection {
            line.known(name!("introspection"), how.name().as_bytes());
        }
        if let Some(digest) = &self.token_digest {
            line.hex(name!("token_sha256"), half(digest));
        }
        line.address(name!("remote"), self.remote());
        line.number(name!("generation"), self.generation);
    }

    fn remote(&self) -> SocketAddr {
        self.peer.remote
    }
}

impl Drop for AccessRecord {
    /// The client left, a timeout fired or our own code failed: the line is written all the same.
    fn drop(&mut self) {
        self.write();
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "other",
    }
}

/// Half of the digest finds a token again and is too little to be taken for one.
fn half(digest: &TokenDigest) -> &[u8] {
    digest.0.split_at(digest.0.len() / 2).0
}

#[cfg(test)]
mod tests;
