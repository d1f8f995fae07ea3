//! What one connection is doing, for its one timer and for the bytes that hyper writes itself.
//! Shared between the I/O under hyper and the service above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Plain stores and loads of one task; atomics because hyper wants to be able to send the I/O of
/// an upgraded connection to another thread.
#[derive(Debug)]
pub(super) struct Track {
    base: Instant,
    /// Requests whose answer is not at its end.
    serving: AtomicUsize,
    /// Everything of earlier answers has left hyper's buffers.
    flushed: AtomicBool,
    /// Bytes of the next request have begun to come.
    in_head: AtomicBool,
    /// When the present phase (idle or head) began, milliseconds since `base`.
    since: AtomicU64,
    /// When a write first found no room, milliseconds since `base` plus one; zero if none did.
    blocked: AtomicU64,
    /// Time for the head is over: the I/O is to say 408 and end.
    too_slow: AtomicBool,
    /// The client may still be sending: read and discard after our last byte.
    linger: AtomicBool,
    /// The connection speaks another protocol from here on.
    upgraded: AtomicBool,
    /// Our direction is being closed.
    closing: AtomicBool,
    http2: bool,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request, since then.
    Idle(Instant),
    /// The rest of a request's head, since then.
    Head(Instant),
    /// The end of an answer.
    Busy,
    /// Room to write, since then.
    Blocked(Instant),
}

impl Track {
    pub(super) fn new(http2: bool) -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            serving: AtomicUsize::new(0),
            flushed: AtomicBool::new(true),
            in_head: AtomicBool::new(false),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            too_slow: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            http2,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn at(&self, millis: u64) -> Instant {
        self.base + Duration::from_millis(millis)
    }

    /// A request has a head: the service is called.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.serving.fetch_add(1, Ordering::Relaxed);
        self.flushed.store(false, Ordering::Relaxed);
        self.in_head.store(false, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn phase(&self) -> Phase {
        let blocked = self.blocked.load(Ordering::Relaxed);
        if blocked > 0 {
            return Phase::Blocked(self.at(blocked.saturating_sub(1)));
        }
        if self.serving.load(Ordering::Relaxed) > 0 || self.upgraded.load(Ordering::Relaxed) {
            return Phase::Busy;
        }
        let since = self.at(self.since.load(Ordering::Relaxed));
        if self.in_head.load(Ordering::Relaxed) {
            Phase::Head(since)
        } else {
            Phase::Idle(since)
        }
    }

    /// Bytes came from the client.
    pub(super) fn read(&self) {
        let waiting = !self.http2
            && self.serving.load(Ordering::Relaxed) == 0
            && !self.in_head.load(Ordering::Relaxed);
        if waiting {
            self.in_head.store(true, Ordering::Relaxed);
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A write found room, or none.
    pub(super) fn wrote(&self, room: bool) {
        if room {
            if self.blocked.load(Ordering::Relaxed) > 0 {
                self.blocked.store(0, Ordering::Relaxed);
            }
        } else if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked
                .store(self.now().saturating_add(1), Ordering::Relaxed);
        }
    }

    /// hyper has handed on all it had.
    pub(super) fn flush(&self) {
        if self.serving.load(Ordering::Relaxed) == 0 {
            self.flushed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether what is written now can only be hyper's own: no answer is under way, and nothing of
    /// earlier ones is left.
    pub(super) fn between_answers(&self) -> bool {
        !self.http2
            && self.serving.load(Ordering::Relaxed) == 0
            && self.flushed.load(Ordering::Relaxed)
            && !self.upgraded.load(Ordering::Relaxed)
    }

    /// Whether hyper may be taken off a connection that is [`Phase::Idle`]: nothing of an answer is
    /// left in it, and nothing that ends the connection has begun.
    ///
    /// Of a request that was answered before its body was read whole, hyper may have any part yet;
    /// such a connection lingers at its end, and does not rest.
    pub(super) fn may_rest(&self) -> bool {
        self.between_answers()
            && !self.is_lingering()
            && !self.is_too_slow()
            && !self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn set_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_too_slow(&self) {
        self.too_slow.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    pub(super) fn set_linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    pub(super) fn set_upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }
}

/// A request under way; over when dropped, with the body of its answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Track>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let track = &self.0;
        if track.serving.fetch_sub(1, Ordering::Relaxed) == 1 {
            track.since.store(track.now(), Ordering::Relaxed);
        }
    }
}
