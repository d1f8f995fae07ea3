//! The gate as a value: started from a file, reloaded, drained.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::control::{self, Control, Order};
use super::status::Status;
use super::worker::Worker;
use crate::audit::{Decision, Log};
use crate::config::{self, Problem, Report};
use crate::pip::Pip;
use crate::telemetry::{Metrics, Sink};
use crate::{admin, audit, clock, pipeline, revocation};

/// What starting needs beside the configuration file.
#[derive(Debug)]
pub struct Gate {
    /// The configuration file.
    pub config: PathBuf,
    /// The numbers of the process.
    pub metrics: Arc<Metrics>,
    /// Where the line of each request goes.
    pub sink: Sink,
}

/// Why the gate did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has problems, all of them here.
    #[error("the configuration has {} problem(s)", .0.len())]
    Configuration(Vec<Problem>),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// A gate that serves, until [`Running::stop`] or a signal; dropped without either, its threads
/// go on to the end of the process.
#[derive(Debug)]
pub struct Running {
    runtime: tokio::runtime::Runtime,
    introspection: tokio::runtime::Runtime,
    orders: mpsc::UnboundedSender<Order>,
    listeners: Vec<(Arc<str>, SocketAddr)>,
    admin: Option<SocketAddr>,
    revocation: Option<SocketAddr>,
    status: Arc<Status>,
    reports: Vec<Report>,
    sink: Sink,
    audit: Option<Log<Decision>>,
}

/// How long the last lines may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// The same of the audit log, whose lines are worth waiting for.
const FLUSH_AUDIT: Duration = Duration::from_secs(10);

impl Gate {
    /// Checks the file, binds, serves.
    ///
    /// # Errors
    /// [`StartError::Configuration`] with every problem of the file at once;
    /// [`StartError::System`] where a socket or thread cannot be had.
    pub fn start(self) -> Result<Running, StartError> {
        let Self {
            config,
            metrics,
            sink,
        } = self;
        let checked =
            config::load(&config, clock::now(), None).map_err(StartError::Configuration)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(StartError::system("control runtime"))?;
        let introspection = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("introspection")
            .enable_all()
            .build()
            .map_err(StartError::system("introspection runtime"))?;
        let pip = Pip::new(Arc::clone(&metrics), introspection.handle().clone());
        let audit = open_audit(checked.audit.as_ref(), &metrics, &sink)?;
        let shared = pipeline::Shared::new(Arc::clone(&pip), sink.clone(), &metrics);
        let shared = Arc::new(shared.audited(audit.clone()));
        let workers = (0..checked.workers)
            .map(|number| Worker::start(number, Arc::clone(&shared), Arc::clone(&metrics)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::system("data-plane thread"))?;
        let status = Status::new(Arc::clone(&metrics), pip);
        let reports = checked.reports.clone();
        let admin = match checked.admin {
            None => None,
            Some(address) => Some(runtime.block_on(serve_admin(address, Arc::clone(&status)))?),
        };
        let door = match &checked.revocation {
            None => None,
            Some(settings) => {
                let pip = Arc::clone(shared.pip());
                Some(runtime.block_on(open_door(settings, pip))?)
            }
        };
        let door_at = door.as_ref().map(|(bound, _)| *bound);
        let mut control = Control::new(
            config,
            metrics,
            shared,
            workers,
            Arc::clone(&status),
            runtime.handle(),
        );
        control.door = door.map(|(_, door)| door);
        control.apply(checked)?;
        let listeners = control.bound().to_vec();
        status.bound();
        let (orders, inbox) = mpsc::unbounded_channel();
        runtime.spawn(control::obey(control, inbox));
        Ok(Running {
            runtime,
            introspection,
            orders,
            listeners,
            admin,
            revocation: door_at,
            status,
            reports,
            sink,
            audit,
        })
    }
}

/// What a second signal asks for; the audit log has no more than a moment then.
fn at_once() -> Duration {
    tracing::warn!("ended at once, by a second signal");
    Duration::from_millis(500)
}

/// The audit log, with its signed lines on the way of the access log too.
fn open_audit(
    settings: Option<&audit::Settings>,
    metrics: &Arc<Metrics>,
    sink: &Sink,
) -> Result<Option<Log<Decision>>, StartError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let sink = sink.clone();
    let announce = move |line: &[u8]| sink.announce(line);
    Log::open(settings.clone(), metrics, clock::since_epoch, announce)
        .map(Some)
        .map_err(|why| StartError::system("audit log")(std::io::Error::other(why)))
}

async fn serve_admin(address: SocketAddr, status: Arc<Status>) -> Result<SocketAddr, StartError> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(StartError::system(format!("admin address {address}")))?;
    let bound = listener
        .local_addr()
        .map_err(StartError::system("admin address"))?;
    // It answers as long as the process lives: a drain must be seen from outside.
    tokio::spawn(admin::serve(listener, status, std::future::pending()));
    Ok(bound)
}

async fn open_door(
    settings: &revocation::Settings,
    pip: Arc<Pip>,
) -> Result<(SocketAddr, Arc<revocation::Door>), StartError> {
    let what = || format!("revocation address {}", settings.address);
    let door = revocation::Door::new(settings, pip)
        .map_err(|why| StartError::system(what())(std::io::Error::other(why)))?;
    let listener = tokio::net::TcpListener::bind(settings.address)
        .await
        .map_err(StartError::system(what()))?;
    let bound = listener.local_addr().map_err(StartError::system(what()))?;
    tokio::spawn(Arc::clone(&door).serve(listener));
    Ok((bound, door))
}

impl Running {
    /// The address at which others say that tokens are void.
    #[must_use]
    pub const fn revocation(&self) -> Option<SocketAddr> {
        self.revocation
    }

    /// Name and address of each listener, ports as bound.
    #[must_use]
    pub fn listeners(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.listeners
    }

    /// The address of the admin endpoints.
    #[must_use]
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What the operator must know of the configuration: open routes, weakened rules and the like.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// What `/readyz` says: `Err` holds what is missing.
    ///
    /// # Errors
    /// What is missing, one entry each.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        admin::State::ready(&*self.status)
    }

    /// Reads the file again; `true` if it is in force now, `false` if it has problems and the old
    /// configuration stays. Not to be called from a runtime's thread.
    #[must_use]
    pub fn reload(&self) -> bool {
        let (done, wait) = oneshot::channel();
        self.orders.send(Order::Reload(done)).is_ok() && wait.blocking_recv().unwrap_or(false)
    }

    /// Drains and ends: no new connections, what is under way finishes, within `[drain]`'s time.
    /// Not to be called from a runtime's thread.
    pub fn stop(self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Stop(done)).is_err() || wait.blocking_recv().is_err() {
            tracing::error!("the control task ended before its time");
        }
        if let Err(error) = self.end(FLUSH_AUDIT) {
            tracing::error!(%error, "the end");
        }
    }

    /// Serves until a signal says otherwise: `SIGHUP` reloads, `SIGTERM` and `SIGINT` drain, a
    /// second one ends at once.
    ///
    /// # Errors
    /// Where the system gives no signals, and where the audit log could not be written to its end.
    pub fn until_signalled(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let orders = self.orders.clone();
        let patience = self.runtime.block_on(async {
            let mut hangup = signal(SignalKind::hangup())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            loop {
                tokio::select! {
                    _ = hangup.recv() => {
                        let (done, _) = oneshot::channel();
                        if orders.send(Order::Reload(done)).is_err() {
                            return Ok(FLUSH_AUDIT);
                        }
                    }
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                }
            }
            let (done, wait) = oneshot::channel();
            if orders.send(Order::Stop(done)).is_err() {
                return Ok(FLUSH_AUDIT);
            }
            tokio::select! {
                stopped = wait => if stopped.is_err() {
                    tracing::error!("the control task ended before its time");
                },
                _ = terminate.recv() => return Ok(at_once()),
                _ = interrupt.recv() => return Ok(at_once()),
            }
            Ok::<_, std::io::Error>(FLUSH_AUDIT)
        })?;
        self.end(patience)
    }

    fn end(self, patience: Duration) -> std::io::Result<()> {
        let audited = self.audit.is_none_or(|audit| audit.close(patience));
        self.runtime.shutdown_background();
        self.introspection.shutdown_background();
        if !self.sink.flush(FLUSH) {
            tracing::warn!("the last lines of the access log were not written");
        }
        if audited {
            Ok(())
        } else {
            Err(std::io::Error::other(
                "the last lines of the audit log were not written",
            ))
        }
    }
}
