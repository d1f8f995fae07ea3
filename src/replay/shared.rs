//! The store that all replicas share: one command a use, on connections that the keeper holds.
//!
//! A use is `SET key 1 NX PX ttl`: the server tests and writes in one step, and says which of all
//! who asked was first. A command is sent once. When its reply is lost nobody knows whether it was
//! executed, and the use is refused; were it sent again, the key that it wrote itself the first
//! time would make the proof's only use look like a second one. The exceptions are answers that
//! say that nothing was done: `MOVED` and `ASK` of a cluster name the server to go to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;

use super::address::{Kind, Server};
use super::breaker::Circuit;
use super::keeper::Known;
use super::link::{Link, Reply};
use super::memory::Memory;
use super::route::{Route, unexpected};
use super::{Key, LONGEST, Rule, Settings, Shared, Unavailable, Use, Why};
use crate::pdp::UnixTime;
use crate::telemetry::metrics::ReplayMetrics;

/// Clocks of replicas and clients' proofs may differ by this much, in seconds; keys are kept
/// longer by it, and a fence reaches further.
pub(super) const CLOCKS_DIFFER: u64 = 5;

/// Uses that wait for an answer at once; who comes then is refused at once.
const WAITING: usize = 8192;

/// What every key begins with.
pub(super) const PREFIX: &str = "portcullis:replay:";

/// What threads and keeper share.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) settings: Shared,
    /// Longest that a proof can be acceptable.
    window: Duration,
    pub(super) route: ArcSwapOption<Route>,
    pub(super) circuit: Circuit,
    /// Wakes the keeper: the route should be looked at.
    pub(super) trouble: Notify,
    /// Uses before this second may have been lost.
    lost_at: AtomicU64,
    waiting: AtomicUsize,
    last_error: Mutex<Option<Box<str>>>,
    /// The keeper's, and of the one after it.
    pub(super) known: Arc<tokio::sync::Mutex<Known>>,
    pub(super) metrics: Arc<ReplayMetrics>,
}

/// What a store goes on with that comes after another.
#[derive(Debug, Default)]
pub(super) struct Before {
    known: Arc<tokio::sync::Mutex<Known>>,
    lost_at: u64,
    /// In use until the servers are found under the new settings.
    route: Option<Arc<Route>>,
}

/// What is known when a command was sent, or could not be.
enum Sent {
    Answered(Use),
    /// Nothing was written: it was not sent, or refused.
    Not(String),
    /// It was sent; what it did is not known.
    Unknown(String),
}

impl Store {
    pub(super) fn new(
        settings: Shared,
        window: Duration,
        before: Before,
        metrics: Arc<ReplayMetrics>,
    ) -> Self {
        let circuit = Circuit::new(settings.breaker);
        if before.route.is_some() {
            circuit.close();
        }
        let nothing = before.route.is_none().then(|| "not connected yet".into());
        Self {
            circuit,
            settings,
            window,
            route: ArcSwapOption::new(before.route),
            trouble: Notify::new(),
            lost_at: AtomicU64::new(before.lost_at),
            waiting: AtomicUsize::new(0),
            last_error: Mutex::new(nothing),
            known: before.known,
            metrics,
        }
    }

    /// What a store under these settings goes on with. Proofs could be further ahead by `ahead`.
    pub(super) fn before(&self, settings: &Settings, ahead: Duration, now: UnixTime) -> Before {
        let super::Store::Shared(new) = &settings.store else {
            return Before::default();
        };
        let mut lost_at = match self.lost_at.load(Ordering::Acquire) {
            0 => 0,
            at => at.saturating_add(ahead.as_secs()),
        };
        let (old, new) = (&self.settings.address, &new.address);
        if matches!(old.kind, Kind::Cluster) != matches!(new.kind, Kind::Cluster) {
            // Their servers cannot be compared.
            lost_at = lost_at.max(now.as_secs());
        }
        let route = self.route.load_full().filter(|_| old.is_place_of(new));
        Before {
            known: Arc::clone(&self.known),
            lost_at,
            route,
        }
    }

    /// Whether the key is used for the first time by anyone. `memory` holds the uses of this
    /// process, and stands in where the rule says so.
    pub(super) async fn first_use(
        &self,
        memory: &Memory,
        key: Key,
        (until, now): (UnixTime, UnixTime),
        rule: Rule,
    ) -> Result<Use, Unavailable> {
        if memory.holds(&key) {
            return Ok(Use::Repeated);
        }
        // The route first: it is put there after the losses that belong to it.
        let route = self.route.load();
        if rule == Rule::Refuse {
            self.certain(until, now)?;
        }
        let began = Instant::now();
        let answer = match self.ask(&route, key, (until, now)).await {
            Sent::Answered(answer) => {
                self.metrics.command.observe(began.elapsed());
                answer
            }
            Sent::Unknown(detail) => return Err(self.unreachable(detail)),
            Sent::Not(_) if rule == Rule::Local => {
                self.metrics.stood_in.add_one();
                return memory.stand_in(key, until, now);
            }
            Sent::Not(detail) => return Err(self.unreachable(detail)),
        };
        if answer == Use::Repeated {
            return Ok(Use::Repeated);
        }
        if rule == Rule::Refuse {
            // A loss that was found meanwhile.
            self.certain(until, now)?;
        }
        // Noted here too, and only what is new here as well is new: while the store was away the
        // same proof may have been accepted, a moment before its answer came.
        match memory.first_use(key, until, now) {
            Err(full) if full.why == Why::Full => {
                memory.missed(until);
                Ok(Use::First)
            }
            answer => answer,
        }
    }

    async fn ask(
        &self,
        route: &Guard<Option<Arc<Route>>>,
        key: Key,
        times: (UnixTime, UnixTime),
    ) -> Sent {
        let Some(current) = &**route else {
            return Sent::Not(
                self.last_error()
                    .unwrap_or_else(|| "not connected".into())
                    .into(),
            );
        };
        let name = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(key));
        let Some(link) = current.link(name.as_bytes()) else {
            let missing = current.missing.clone();
            return Sent::Not(missing.unwrap_or_else(|| "no server takes this key".into()));
        };
        let Some(_place) = Place::take(&self.waiting) else {
            return Sent::Not(format!("{WAITING} uses wait for an answer already"));
        };
        let within = self.settings.timeout;
        let ttl = ttl(times).to_string();
        let set: [&[u8]; 6] = [b"SET", name.as_bytes(), b"1", b"NX", b"PX", ttl.as_bytes()];
        let sent = match tokio::time::timeout(within, self.set(current, link, &set)).await {
            Ok(sent) => sent,
            Err(_elapsed) => Sent::Unknown(format!("{}: no answer within {within:?}", link.server)),
        };
        match &sent {
            Sent::Answered(_) => self.circuit.succeeded(),
            Sent::Not(error) | Sent::Unknown(error) => self.failed(current, error),
        }
        sent
    }

    /// The command, and a second one where the first was told to go elsewhere.
    async fn set(&self, route: &Arc<Route>, link: &Link, set: &[&[u8]]) -> Sent {
        let (code, detail) = match self.set_at(link, set, false).await {
            Ok(sent) => return sent,
            Err(refused) => refused,
        };
        let refused = || Sent::Not(format!("{}: {code} {detail}", link.server));
        let target = detail
            .split(' ')
            .next_back()
            .and_then(|at| at.rsplit_once(':'));
        match (&*code, target) {
            ("MOVED" | "ASK", Some((host, port))) if route.is_cluster() => {
                // The map is old, unless a slot is just on its way.
                if code == "MOVED" {
                    self.look_again(route);
                }
                let Ok(port) = port.parse() else {
                    return refused();
                };
                let host = if host.is_empty() {
                    &*link.server.host
                } else {
                    host
                };
                let server = Server {
                    host: host.into(),
                    port,
                };
                match route.to(&server) {
                    Some(link) => match self.set_at(link, set, code == "ASK").await {
                        Ok(sent) => sent,
                        Err((code, detail)) => Sent::Not(format!("{server}: {code} {detail}")),
                    },
                    None => refused(),
                }
            }
            ("READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN", _) => {
                self.look_again(route);
                refused()
            }
            _ => refused(),
        }
    }

    /// `Err`: the server refused it, with code and detail.
    async fn set_at(
        &self,
        link: &Link,
        set: &[&[u8]],
        asking: bool,
    ) -> Result<Sent, (String, String)> {
        let replicas = self.settings.confirmed_by;
        let (count, wait) = (
            replicas.to_string(),
            (self.settings.timeout.as_millis() / 2).max(1).to_string(),
        );
        let confirm: [&[u8]; 3] = [b"WAIT", count.as_bytes(), wait.as_bytes()];
        let mut commands: Vec<&[&[u8]]> = Vec::with_capacity(3);
        if asking {
            commands.push(&[b"ASKING"]);
        }
        commands.push(set);
        if replicas != 0 {
            commands.push(&confirm);
        }
        let replies = match commands.as_slice() {
            [one] => link.ask(one).await.map(|reply| vec![reply]),
            several => link.ask_all(several).await,
        };
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => return Ok(Sent::Unknown(format!("{}: {error}", link.server))),
        };
        let mut replies = replies.into_iter().skip(usize::from(asking));
        let confirmed =
            |reply| matches!(reply, Some(Reply::Number(by)) if by >= i64::from(replicas));
        match replies.next() {
            Some(Reply::Done) if replicas == 0 || confirmed(replies.next()) => {
                Ok(Sent::Answered(Use::First))
            }
            Some(Reply::Done) => Ok(Sent::Unknown(format!(
                "{}: fewer than {replicas} replicas confirmed the write",
                link.server
            ))),
            Some(Reply::Nothing) => Ok(Sent::Answered(Use::Repeated)),
            Some(Reply::Refused { code, detail }) => Err((code, detail)),
            Some(other) => Ok(Sent::Unknown(unexpected(&other))),
            None => Ok(Sent::Unknown("no reply".into())),
        }
    }

    fn failed(&self, route: &Arc<Route>, error: &str) {
        if self.in_use(route) {
            self.set_error(Some(error));
            if self.circuit.failed() {
                // At once, whatever the keeper is waiting for.
                self.route.store(None);
                self.metrics.reachable.set(0);
                self.trouble.notify_one();
            }
        }
    }

    fn look_again(&self, route: &Arc<Route>) {
        if self.in_use(route) {
            self.trouble.notify_one();
        }
    }

    /// What stragglers of a route that was given up meet says nothing of the one in use.
    fn in_use(&self, route: &Arc<Route>) -> bool {
        let current = self.route.load();
        let same = |current: &Arc<Route>| Arc::ptr_eq(current, route);
        current.as_ref().is_some_and(same)
    }

    /// Whether the store holds all uses of the time in which this proof could be used.
    fn certain(&self, until: UnixTime, now: UnixTime) -> Result<(), Unavailable> {
        let lost_at = self.lost_at.load(Ordering::Acquire);
        if lost_at == 0 {
            return Ok(());
        }
        let fence = UnixTime::from_secs(lost_at.saturating_add(CLOCKS_DIFFER)).later(self.window);
        if until > fence {
            return Ok(());
        }
        let longer = fence.since(until).saturating_add(Duration::from_secs(1));
        Err(Unavailable {
            why: Why::Uncertain,
            detail: format!(
                "the shared store may have lost uses {} s ago, and this proof could be one of them",
                now.since(UnixTime::from_secs(lost_at)).as_secs()
            )
            .into(),
            retry_after: Some(longer),
        })
    }

    /// Uses before this second may have been lost.
    pub(super) fn lost(&self, at: u64) {
        self.lost_at.fetch_max(at, Ordering::AcqRel);
    }

    #[cfg(test)]
    pub(super) fn lost_at(&self) -> u64 {
        self.lost_at.load(Ordering::Acquire)
    }

    fn unreachable(&self, detail: String) -> Unavailable {
        Unavailable {
            why: Why::Unreachable,
            detail: detail.into(),
            retry_after: Some(self.settings.breaker.open_for.max(Duration::from_secs(1))),
        }
    }

    pub(super) fn set_error(&self, error: Option<&str>) {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != error {
            *last = error.map(Into::into);
        }
    }

    pub(super) fn last_error(&self) -> Option<Box<str>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How long the server keeps the key, in milliseconds: as long as the proof can be accepted by a
/// replica whose clock is behind.
fn ttl((until, now): (UnixTime, UnixTime)) -> u64 {
    let left = until.since(now).min(LONGEST).as_secs();
    // One more: `now` is cut to whole seconds.
    left.saturating_add(1 + CLOCKS_DIFFER).saturating_mul(1000)
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
