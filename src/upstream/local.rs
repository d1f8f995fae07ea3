//! One thread's connections to one server. HTTP/1.1: a stack of idle ones, the last used on top,
//! so that those not needed grow old and are closed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Settings;
use super::connect::{ConnectError, connect};
use super::http1::{Connection, Line};
use super::multiplex::Multiplexed;
use super::shared::{Open, ServerState, Shared};
use crate::refusal::Reason;

/// How often idle connections are looked at for those that their server closed.
const LOOK: Duration = Duration::from_secs(1);

/// One thread's connections to one server.
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<ServerState>,
    idle: RefCell<VecDeque<Idle>>,
    pub(super) multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    /// Somebody makes an HTTP/2 connection; the others wait for it.
    pub(super) connecting: Cell<bool>,
    /// Told when a connection of this thread can be had.
    pub(super) freed: Notify,
    /// Requests of this thread that wait for one.
    waiting: Cell<usize>,
    sweeping: Cell<bool>,
    /// The upstream left the configuration: nothing is kept.
    retired: Cell<bool>,
}

struct Idle {
    line: Line,
    since: Instant,
}

/// Counts one who waits, here and over all threads, while it lives.
struct Waiting<'a>(&'a Local);

impl<'a> Waiting<'a> {
    fn new(local: &'a Local) -> Self {
        local.waiting.set(local.waiting.get().saturating_add(1));
        local.state.waiting.fetch_add(1, Ordering::Relaxed);
        // Idle connections hold places too.
        local.state.starved.notify_waiters();
        Self(local)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
        self.0.state.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Local {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<ServerState>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            state,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            connecting: Cell::new(false),
            freed: Notify::new(),
            waiting: Cell::new(0),
            sweeping: Cell::new(false),
            retired: Cell::new(false),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        self.shared.settings()
    }

    /// Closes what is idle, and everything else when it is done.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        drop(self.idle.take());
        drop(self.multiplexed.take());
        self.freed.notify_waiters();
    }

    /// Whether a request would get a connection without waiting for another's end.
    pub(super) fn has_room(&self) -> bool {
        self.state.has_place()
            || !self.idle.borrow().is_empty()
            || self.multiplexed.borrow().iter().any(|held| held.has_room())
    }

    /// Whether anybody of this thread waits.
    pub(super) const fn is_wanted(&self) -> bool {
        self.waiting.get() > 0
    }

    /// A connection that carried a request before and waits for another.
    ///
    /// `careful`: the request cannot be sent twice, so look once more whether the server closed.
    pub(super) async fn idle(&self, careful: bool, now: Instant) -> Option<Line> {
        while let Some(line) = self.take_idle(now) {
            if careful {
                // Lets the runtime look at its sockets.
                yield_now().await;
            }
            if line.borrow_mut().is_quiet() {
                return Some(line);
            }
        }
        None
    }

    /// A connection, and whether it carried a request before: one that is free, once it is, or a new
    /// one. `fresh`: it must be new; `careful`: see [`Self::idle`].
    pub(super) async fn checkout(
        &self,
        fresh: bool,
        careful: bool,
    ) -> Result<(Line, bool), ConnectError> {
        let deadline = Instant::now() + self.settings().connect_timeout;
        loop {
            let open = match self.state.open() {
                Some(open) => open,
                None => match self.wait(deadline, fresh).await? {
                    Some(open) => open,
                    None => match self.idle(careful, Instant::now()).await {
                        Some(line) => return Ok((line, true)),
                        None => continue,
                    },
                },
            };
            return Ok((self.connect(open).await?, false));
        }
    }

    /// Waits for a place (`Some`) or for a connection of this thread that is free again (`None`).
    pub(super) async fn wait(
        &self,
        deadline: Instant,
        fresh: bool,
    ) -> Result<Option<Open>, ConnectError> {
        let _waiting = Waiting::new(self);
        if fresh {
            // One of ours makes room.
            drop(self.idle.borrow_mut().pop_front());
        }
        let ready = async {
            tokio::select! {
                open = self.state.open_later() => open,
                () = self.freed.notified(), if !fresh => None,
            }
        };
        timeout_at(deadline, ready)
            .await
            .map_err(|_elapsed| ConnectError {
                reason: Reason::Overloaded,
                detail: format!(
                    "all {} connections to {} are in use (max_connections)",
                    self.settings().max_connections,
                    self.state.authority
                ),
            })
    }

    async fn connect(&self, open: Open) -> Result<Line, ConnectError> {
        let settings = self.settings();
        let io = connect(settings, &self.state.server, Some(open)).await?;
        let connection = Connection::new(io, settings.response_timeout);
        Ok(Rc::new(RefCell::new(connection)))
    }

    fn take_idle(&self, now: Instant) -> Option<Line> {
        let Idle { line, since } = self.idle.borrow_mut().pop_back()?;
        (now.saturating_duration_since(since) < self.settings().idle_timeout).then_some(line)
    }

    /// Takes a connection back whose exchange is over in both directions, if it can have another.
    pub(super) fn put_back(self: &Rc<Self>, line: Line) {
        if self.retired.get() || !line.borrow_mut().is_quiet() {
            return;
        }
        if !self.is_wanted() && self.state.waiting.load(Ordering::Relaxed) > 0 {
            // Another thread needs the place more than we the connection.
            return;
        }
        line.borrow_mut().set_aside();
        self.idle.borrow_mut().push_back(Idle {
            line,
            since: Instant::now(),
        });
        if self.is_wanted() {
            self.freed.notify_one();
        }
        self.sweep();
    }

    /// One task while anything is idle, however many requests there are.
    pub(super) fn sweep(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let local = Rc::clone(self);
        spawn_local(async move {
            while let Some(due) = local.next_look() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = local.state.starved.notified() => {
                        if !local.is_wanted() {
                            drop(local.idle.borrow_mut().pop_front());
                        }
                    }
                }
                local.close_expired();
            }
            local.sweeping.set(false);
        });
    }

    /// When an idle connection has to be closed, or looked at: nobody else is told when its server
    /// closes it.
    fn next_look(&self) -> Option<Instant> {
        let limit = self.settings().idle_timeout;
        let soon = Instant::now() + LOOK;
        let oldest = self.idle.borrow().front().map(|idle| idle.since + limit);
        let oldest = oldest.map(|due| due.min(soon));
        let multiplexed = self
            .multiplexed
            .borrow()
            .iter()
            .map(|connection| connection.expiry(limit))
            .min();
        oldest.into_iter().chain(multiplexed).min()
    }

    fn close_expired(&self) {
        let limit: Duration = self.settings().idle_timeout;
        self.idle
            .borrow_mut()
            .retain(|idle| idle.since.elapsed() < limit && idle.line.borrow_mut().is_quiet());
        self.multiplexed
            .borrow_mut()
            .retain(|connection| !connection.is_closed() && !connection.is_expired(limit));
    }
}
