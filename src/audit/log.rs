//! The way into the audit log: for requests, which never wait.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use super::chain::Key;
use super::writer::{self, Writer};
use super::{OnFailure, Settings};
use crate::telemetry::Metrics;

/// What is recorded of a decision.
pub trait Entry: Send + fmt::Debug + 'static {
    /// Adds its members to the body of a line, each with a comma in front. Called by the writer's
    /// thread, so that requests do not wait for it. `key` makes digests.
    fn write(&self, key: &Key, body: &mut Vec<u8>);
}

/// Why a decision cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// What was written last did not reach the disk.
    Failing,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue of the audit log is full",
            Self::Failing => "the audit log cannot be written",
        })
    }
}

/// What the queue carries.
#[derive(Debug)]
pub(super) enum Message<E> {
    Entry(Box<E>),
    /// Write all that came before, and a last line; then say so.
    Close(SyncSender<()>),
}

/// What the way in and the writer both know.
#[derive(Debug)]
pub(super) struct State {
    /// Whether what was written last reached the disk.
    healthy: AtomicBool,
    /// Lines that found no room, and are not yet in the chain as missing.
    lost: AtomicU64,
    pub(super) metrics: Arc<Metrics>,
}

impl State {
    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
        self.metrics.audit().healthy.set(i64::from(healthy));
    }

    pub(super) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Lines lost since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::AcqRel);
        self.metrics.audit().lost.add_one();
    }
}

/// The way into the audit log. Cheap to clone.
#[derive(Debug)]
pub struct Log<E> {
    sender: SyncSender<Message<E>>,
    state: Arc<State>,
    on_failure: OnFailure,
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            state: Arc::clone(&self.state),
            on_failure: self.on_failure,
        }
    }
}

/// Gives the wall clock: time since 1970.
pub type Clock = fn() -> Duration;

impl<E: Entry> Log<E> {
    /// Opens the file, or goes on where it ends, writes the line of the start and begins to take
    /// lines. `announce` is given each signed line once it is written, with its line break.
    ///
    /// # Errors
    /// What is wrong with the file, or with one beside it.
    pub fn open(
        settings: Settings,
        metrics: &Arc<Metrics>,
        clock: Clock,
        announce: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<Self, String> {
        let state = Arc::new(State {
            healthy: AtomicBool::new(true),
            lost: AtomicU64::new(0),
            metrics: Arc::clone(metrics),
        });
        metrics.audit().in_use.set(1);
        state.set_healthy(true);
        let (queue, on_failure) = (settings.queue, settings.on_failure);
        let mut writer = Writer::new(settings, Arc::clone(&state), clock, Box::new(announce))?;
        writer.start()?;
        let (sender, receiver) = mpsc::sync_channel(queue);
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || writer::run(writer, &receiver))
            .map_err(|error| format!("the thread of the audit log: {error}"))?;
        Ok(Self {
            sender,
            state,
            on_failure,
        })
    }

    /// Takes the line of a request that is to be forwarded. `Ok`: it may be.
    ///
    /// # Errors
    /// The line, with why it was not taken: the request must not be forwarded.
    pub fn admit(&self, entry: Box<E>) -> Result<(), (Refused, Box<E>)> {
        let strict = match self.on_failure {
            OnFailure::Refuse => true,
            OnFailure::Continue => false,
        };
        if strict && !self.state.healthy() {
            return Err((Refused::Failing, entry));
        }
        match self.put(entry) {
            Ok(()) => Ok(()),
            Err(entry) if strict => Err((Refused::Full, entry)),
            Err(_lost) => {
                self.state.lose();
                Ok(())
            }
        }
    }

    /// Takes the line of a request that goes nowhere. One that finds no room is counted, and the
    /// chain says so as soon as there is room.
    pub fn note(&self, entry: Box<E>) {
        if self.put(entry).is_err() {
            self.state.lose();
        }
    }

    fn put(&self, entry: Box<E>) -> Result<(), Box<E>> {
        // Counted before it is there, so that the writer never counts it out first.
        self.state.metrics.audit().queue.rise();
        match self.sender.try_send(Message::Entry(entry)) {
            Err(
                TrySendError::Full(Message::Entry(entry))
                | TrySendError::Disconnected(Message::Entry(entry)),
            ) => {
                self.state.metrics.audit().queue.fall();
                Err(entry)
            }
            // What comes back is what was sent.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether what was written last reached the disk.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.state.healthy()
    }

    /// Waits until everything taken so far is written, with the line of the end, at most `timeout`;
    /// false when it was not. Blocks: for shutdown, not for a data-plane thread.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let (done, written) = mpsc::sync_channel(1);
        let mut message = Message::Close(done);
        while let Err(refused) = self.sender.try_send(message) {
            message = match refused {
                TrySendError::Full(back) => back,
                TrySendError::Disconnected(_) => return false,
            };
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = end.saturating_duration_since(Instant::now());
        written.recv_timeout(left).is_ok()
    }
}
