//! One configuration put in force, the first as well as each later one: all that can fail is done
//! first and beside the old; then everything is swapped. A file with problems changes nothing.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::gate::StartError;
use super::status::{Facts, Status};
use super::worker::{Command, Worker};
use crate::config::{self, Checked, Digest, Interner, Problem, Report, ReportKind};
use crate::listener::{self, Balance, Drain, Live, Serving};
use crate::pdp::dpop::NonceKeys;
use crate::pdp::recorded::claims_looked_at;
use crate::pipeline::{Generation, Shared};
use crate::refusal::CloseReason;
use crate::telemetry::metrics::ListenerMetrics;
use crate::telemetry::{Metrics, Secret};
use crate::tls::{self, ServerTls};
use crate::{clock, revocation, upstream};

/// What the control task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Read the file again; the answer is whether it is in force now.
    Reload(oneshot::Sender<bool>),
    /// Drain; the answer comes when that is done.
    Stop(oneshot::Sender<()>),
}

/// Listeners in force, by name.
type Listeners = HashMap<Arc<str>, (Arc<ServerTls>, Arc<Live>)>;

/// An address that is bound, and what is accepted there.
#[derive(Debug)]
struct Address {
    bound: SocketAddr,
    shared: Arc<listener::Shared>,
    /// Ends this address alone.
    drain: Drain,
}

/// Everything that a reload changes.
#[derive(Debug)]
pub(super) struct Control {
    config: PathBuf,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    balance: Balance,
    status: Arc<Status>,
    runtime: Handle,
    drain: Drain,
    generation: u64,
    interner: Option<Interner>,
    current: Arc<tls::Current>,
    listeners: Listeners,
    /// Held so that the counts of a listener live as long as it does.
    counted: Vec<Arc<ListenerMetrics>>,
    addresses: HashMap<SocketAddr, Address>,
    bound: Vec<(Arc<str>, SocketAddr)>,
    upstreams: HashMap<Arc<str>, Arc<upstream::Shared>>,
    health: Vec<JoinHandle<()>>,
    /// Where others say that tokens are void.
    pub(super) door: Option<Arc<revocation::Door>>,
    /// Where the file has none.
    nonce_key: Option<Secret<[u8; 32]>>,
    drain_times: config::Drain,
    watch: Option<Duration>,
    /// What every file was when it was last looked at; `None` could not be read.
    files: Vec<(PathBuf, Option<Digest>)>,
    /// What needs a restart: threads, and the addresses of the admin endpoints and of revocation.
    fixed: Option<(usize, Option<SocketAddr>, Option<SocketAddr>)>,
    /// The same: the settings of the audit log.
    audit: Option<Option<[u8; 32]>>,
}

impl Control {
    pub(super) fn new(
        config: PathBuf,
        metrics: Arc<Metrics>,
        shared: Arc<Shared>,
        workers: Vec<Worker>,
        status: Arc<Status>,
        runtime: &Handle,
    ) -> Self {
        Self {
            config,
            metrics,
            shared,
            balance: Balance::new(workers.len()),
            workers,
            status,
            runtime: runtime.clone(),
            drain: Drain::new(),
            generation: 0,
            interner: None,
            current: tls::Current::new([]),
            listeners: HashMap::new(),
            counted: Vec::new(),
            addresses: HashMap::new(),
            bound: Vec::new(),
            upstreams: HashMap::new(),
            health: Vec::new(),
            door: None,
            nonce_key: None,
            drain_times: config::Drain {
                delay: Duration::ZERO,
                timeout: Duration::ZERO,
            },
            watch: None,
            files: Vec::new(),
            fixed: None,
            audit: None,
        }
    }

    /// Name and bound address of each listener.
    pub(super) fn bound(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.bound
    }

    /// Puts a checked configuration in force.
    ///
    /// # Errors
    /// Where a socket cannot be bound or TLS cannot be built; then nothing has changed.
    pub(super) fn apply(&mut self, checked: Checked) -> Result<(), StartError> {
        // First all that can fail, beside what is in force.
        let listeners = self.renewed_listeners(&checked.listeners)?;
        let wanted: HashSet<SocketAddr> = checked.listeners.iter().map(|l| l.address).collect();
        let mut fresh = Vec::new();
        for address in wanted
            .iter()
            .filter(|address| !self.addresses.contains_key(address))
        {
            let (bound, sockets) = listener::bind(*address, self.workers.len())
                .map_err(StartError::system(format!("listener address {address}")))?;
            fresh.push((*address, bound, sockets));
        }

        let nonces = match checked.nonces.keys {
            Some(keys) => keys,
            None => self.own_nonces(checked.nonces.lifetime)?,
        };

        if let (Some(door), Some(settings)) = (&self.door, &checked.revocation) {
            door.set(settings).map_err(|why| {
                StartError::system("TLS of revocation".to_owned())(std::io::Error::other(why))
            })?;
        }

        // From here on nothing fails. Upstreams and keys go before the routes that need them;
        // trust goes before the routes that rely on it.
        self.generation = self.generation.saturating_add(1);
        self.renew_upstreams(checked.upstreams);
        self.shared.pip().replace(checked.issuers, &self.runtime);
        self.shared.pip().register(checked.registry, &self.runtime);
        self.listeners = listeners;
        self.counted = self
            .listeners
            .keys()
            .map(|name| self.metrics.listener(name))
            .collect();
        self.current
            .replace(self.listeners.values().map(|(tls, _)| Arc::clone(tls)));
        let mut snapshot = checked.snapshot;
        snapshot.generation = self.generation;
        snapshot.nonces = Some(nonces);
        let pip = self.shared.pip();
        pip.set_replay(checked.replay, &self.runtime, clock::now());
        let recording = checked
            .audit
            .as_ref()
            .map(|audit| audit.recording(claims_looked_at(&snapshot)));
        let generation = Generation::new(snapshot, &self.metrics).recorded(recording);
        self.shared.publish(generation);
        self.renew_addresses(&wanted, fresh);
        self.bound = checked
            .listeners
            .iter()
            .filter_map(|l| Some((Arc::clone(&l.name), self.addresses.get(&l.address)?.bound)))
            .collect();

        let door = checked.revocation.as_ref().map(|door| door.address);
        let fixed = (checked.workers, checked.admin, door);
        if self.fixed.is_some_and(|in_force| in_force != fixed) {
            tracing::warn!(
                "workers, admin or the address of revocation changed in the configuration: that needs a restart"
            );
        }
        self.fixed.get_or_insert(fixed);
        let audit = checked.audit.as_ref().map(|audit| audit.fingerprint);
        if self.audit.is_some_and(|in_force| in_force != audit) {
            tracing::warn!("audit changed in the configuration: that needs a restart");
        }
        self.audit.get_or_insert(audit);
        self.drain_times = checked.drain;
        self.watch = checked.watch;
        self.files = checked
            .files
            .into_iter()
            .map(|(path, digest)| (path, Some(digest)))
            .collect();
        self.interner = Some(checked.interner);
        let now = clock::now();
        self.metrics.loaded(self.generation, now);
        self.status.publish(Facts {
            generation: self.generation,
            loaded: Some(now),
            reload_error: None,
            listeners: self.bound.clone(),
            upstreams: self.upstreams.values().cloned().collect(),
            shared: Some(Arc::clone(&self.shared)),
        });
        Ok(())
    }

    /// Nonces under a key of this process alone, the same over reloads.
    fn own_nonces(&mut self, lifetime: Duration) -> Result<Arc<NonceKeys>, StartError> {
        let failed = |why: String| {
            StartError::system("keys of nonces".to_owned())(std::io::Error::other(why))
        };
        let key = match &self.nonce_key {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                aws_lc_rs::rand::fill(&mut key).map_err(|error| failed(error.to_string()))?;
                self.nonce_key.insert(Secret::new(key))
            }
        };
        NonceKeys::new(key.expose(), None, lifetime)
            .map(Arc::new)
            .map_err(failed)
    }

    fn renewed_listeners(&self, settings: &[listener::Settings]) -> Result<Listeners, StartError> {
        let mut listeners = HashMap::new();
        for settings in settings {
            let before = self.listeners.get(&settings.name);
            let tls =
                ServerTls::build(&settings.tls, before.map(|(tls, _)| tls)).map_err(|why| {
                    let what = format!("TLS of listener {}", settings.name);
                    StartError::system(what)(std::io::Error::other(why))
                })?;
            let live = Live::new(settings.clone(), before.map(|(_, live)| live));
            listeners.insert(Arc::clone(&settings.name), (tls, live));
        }
        Ok(listeners)
    }

    fn renew_upstreams(&mut self, settings: Vec<upstream::Settings>) {
        let upstreams: HashMap<_, _> = settings
            .into_iter()
            .map(|settings| {
                let name = Arc::clone(&settings.name);
                let before = self
                    .upstreams
                    .get(&name)
                    .filter(|before| before.is_of(&settings));
                let shared = before
                    .cloned()
                    .unwrap_or_else(|| upstream::Shared::new(settings, &self.metrics));
                (name, shared)
            })
            .collect();
        self.health.drain(..).for_each(|task| task.abort());
        self.health = upstreams
            .values()
            .map(|shared| {
                self.runtime
                    .spawn(upstream::health::run(Arc::clone(shared)))
            })
            .collect();
        for worker in &self.workers {
            worker.tell(Command::Upstreams(upstreams.clone()));
        }
        self.upstreams = upstreams;
    }

    fn renew_addresses(
        &mut self,
        wanted: &HashSet<SocketAddr>,
        fresh: Vec<(SocketAddr, SocketAddr, Vec<std::net::TcpListener>)>,
    ) {
        for (address, state) in &self.addresses {
            if wanted.contains(address) {
                state.shared.replace(self.serving(*address));
            } else {
                state.drain.begin();
            }
        }
        self.addresses.retain(|address, _| wanted.contains(address));
        for (address, bound, sockets) in fresh {
            let shared = listener::Shared::new(
                bound,
                self.serving(address),
                Arc::clone(&self.current),
                clock::now,
                Arc::new(Handshakes(Arc::clone(&self.metrics))),
            );
            let drain = self.drain.child();
            let sockets = sockets.into_iter().zip(self.balance.places());
            for (worker, (socket, place)) in self.workers.iter().zip(sockets) {
                let (shared, drain) = (Arc::clone(&shared), drain.clone());
                worker.tell(Command::Listen {
                    socket,
                    place,
                    shared,
                    drain,
                });
            }
            self.addresses.insert(
                address,
                Address {
                    bound,
                    shared,
                    drain,
                },
            );
        }
    }

    /// The listeners of an address.
    fn serving(&self, address: SocketAddr) -> Serving {
        let here = self
            .listeners
            .values()
            .filter(|(_, live)| live.settings.address == address);
        Serving::new(
            here.map(|(tls, live)| (Arc::clone(live), Arc::clone(tls)))
                .collect(),
        )
    }

    /// Reads the file again.
    async fn reload(&mut self) -> bool {
        let (path, previous) = (self.config.clone(), self.interner.clone());
        // Reading and checking is work of milliseconds to seconds: not on the control task.
        let loaded = tokio::task::spawn_blocking(move || {
            config::load(&path, clock::now(), previous.as_ref())
        });
        let refused = match loaded.await {
            Ok(Ok(checked)) => {
                let reports = checked.reports.clone();
                match self.apply(checked) {
                    Ok(()) => {
                        reports.iter().for_each(tell);
                        tracing::info!(generation = self.generation, "configuration reloaded");
                        return true;
                    }
                    Err(error) => error.to_string(),
                }
            }
            Ok(Err(problems)) => said(&problems),
            Err(error) => error.to_string(),
        };
        tracing::error!(problems = %refused, "reload refused, the old configuration stays in force");
        self.metrics.reload_refused();
        self.status.refused(&refused);
        false
    }

    /// Whether a file of the configuration is not what it was.
    async fn changed(&mut self) -> bool {
        let files: Vec<_> = self.files.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let now: Vec<_> = files
                .iter()
                .map(|(path, _)| (path.clone(), config::look(path)))
                .collect();
            (now != files, now)
        });
        match looked.await {
            Ok((changed, now)) => {
                // A file that stays broken is complained of once, not at every look.
                self.files = now;
                changed
            }
            Err(_) => false,
        }
    }

    async fn drain(self) {
        self.status.draining();
        tracing::info!(delay = ?self.drain_times.delay, timeout = ?self.drain_times.timeout, "draining");
        tokio::time::sleep(self.drain_times.delay).await;
        self.drain.begin();
        if !self.drain.finished(self.drain_times.timeout).await {
            tracing::warn!("connections were still open when the time to drain was over");
        }
        let workers = self.workers;
        let joined =
            tokio::task::spawn_blocking(move || workers.into_iter().for_each(Worker::join));
        if joined.await.is_err() {
            tracing::error!("the data-plane threads could not be waited for");
        }
    }
}

/// Counts handshakes.
struct Handshakes(Arc<Metrics>);

impl listener::Handshakes for Handshakes {
    fn over(&self, listener: Option<&Arc<str>>, result: Result<(bool, Duration), CloseReason>) {
        let metrics = match listener {
            Some(listener) => self.0.listener(listener),
            None => Arc::clone(self.0.no_listener()),
        };
        match result {
            Ok((resumed, took)) => metrics.secured(resumed, took),
            Err(reason) => metrics.closed(reason),
        }
    }
}

fn said(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Carries out orders and looks at the files, until it is told to stop.
pub(super) async fn obey(mut control: Control, mut orders: mpsc::UnboundedReceiver<Order>) {
    loop {
        let look = async {
            match control.watch {
                Some(every) => tokio::time::sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Reload(done)) => {
                    let reloaded = control.reload().await;
                    if done.send(reloaded).is_err() {
                        tracing::trace!("nobody waits for the reload");
                    }
                }
                Some(Order::Stop(done)) => {
                    control.drain().await;
                    if done.send(()).is_err() {
                        tracing::trace!("nobody waits for the drain");
                    }
                    return;
                }
                None => return,
            },
            () = look => if control.changed().await {
                control.reload().await;
            },
        }
    }
}

/// Says what the operator must know of a configuration in force. That a profile's duties are
/// enforced needs nobody's care.
pub(super) fn tell(report: &Report) {
    if report.kind == ReportKind::Duties {
        tracing::info!(report = %report, "configuration");
    } else {
        tracing::warn!(report = %report, "configuration");
    }
}
