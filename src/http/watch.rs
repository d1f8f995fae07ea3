//! What a connection waits for beside its bytes, and when hyper is taken off it.
//!
//! A connection that is idle for [`REST`] is at rest: hyper and its buffers are gone, and the first
//! bytes that come bring a new one. One in use hardly gets so far, and is looked at ever less often.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::Limits;
use super::io::ClientIo;
use super::seldom::Seldom;
use super::track::{Phase, Track};

/// How long a connection that was told to end may take when it is idle.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long a connection of HTTP/1.1 is idle, at least, until it is at rest. Short, for of thousands
/// that are opened at once and used once, hyper's buffers of this long a time are there together.
pub(super) const REST: Duration = Duration::from_millis(100);
/// How long it is, at most, until one in use is looked at again: it rests so much later.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Watch<'c, D> {
    track: &'c Track,
    limits: &'c Limits,
    /// See [`super::connection::Params::on_idle`].
    on_idle: &'c dyn Fn(),
    /// The process wants the connection to end.
    drained: Seldom<D>,
    /// Its one timer.
    timer: Seldom<Sleep>,
}

/// How hyper left a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// At its end.
    Over,
    /// Between requests, with nothing under way.
    AtRest,
}

impl<'c, D: Future<Output = ()>> Watch<'c, D> {
    pub(super) fn new(
        track: &'c Track,
        limits: &'c Limits,
        on_idle: &'c dyn Fn(),
        drained: Seldom<D>,
    ) -> Self {
        Self {
            track,
            limits,
            on_idle,
            drained,
            timer: Seldom::new(sleep(limits.idle_timeout)),
        }
    }

    /// Sets the timer.
    fn wake_at(&mut self, at: Instant) {
        self.timer.change(|timer| timer.reset(at));
    }

    /// Polls a connection to its end, or until it is at rest if it `rests`. The timer is not touched
    /// when a request comes or goes: when it fires, it looks at what the connection is doing.
    pub(super) async fn drive<C, E>(
        &mut self,
        mut connection: Pin<&mut C>,
        graceful_shutdown: fn(Pin<&mut C>),
        rests: bool,
    ) -> Left
    where
        C: Future<Output = Result<(), E>>,
        E: std::error::Error,
    {
        let (track, limits) = (self.track, self.limits);
        let first = limits
            .header_timeout
            .min(limits.idle_timeout)
            .min(limits.body_timeout)
            .min(if rests { LOOK } else { Duration::MAX });
        let mut ending = false;
        let mut look = REST;
        let begin = if rests { look.min(first) } else { first };
        self.wake_at(Instant::now() + begin);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return Left::Over;
                }
                () = &mut self.drained => {
                    ending = true;
                    graceful_shutdown(connection.as_mut());
                }
                () = &mut self.timer => {
                    let rests = rests && !ending && track.may_rest();
                    let now = Instant::now();
                    let due = match track.phase() {
                        Phase::Busy => now + first,
                        Phase::Idle(since) if rests => {
                            let due = since + REST.min(limits.idle_timeout);
                            // In use between two looks: the next one is in no hurry.
                            if now < due {
                                look = (look * 2).min(LOOK);
                                due.max(now + look)
                            } else {
                                due
                            }
                        }
                        Phase::Idle(since) if ending => since + limits.idle_timeout.min(GRACE),
                        Phase::Idle(since) => since + limits.idle_timeout,
                        Phase::Head(since) => since + limits.header_timeout,
                        Phase::Blocked(since) => since + limits.body_timeout,
                    };
                    if matches!(track.phase(), Phase::Idle(since) if since + REST <= now) {
                        (self.on_idle)();
                    }
                    if now < due {
                        // Never later than the shortest bound of a phase that may begin meanwhile.
                        self.wake_at(due.min(now + first));
                        continue;
                    }
                    match track.phase() {
                        Phase::Busy => {}
                        Phase::Blocked(_) => {
                            tracing::debug!("a client does not read its answer");
                            return Left::Over;
                        }
                        Phase::Head(_) if track.is_too_slow() => return Left::Over,
                        Phase::Head(_) => track.set_too_slow(),
                        Phase::Idle(_) if rests => return Left::AtRest,
                        Phase::Idle(_) if ending => return Left::Over,
                        Phase::Idle(_) => {
                            ending = true;
                            graceful_shutdown(connection.as_mut());
                        }
                    }
                    self.wake_at(Instant::now() + GRACE.min(first));
                }
            }
        }
    }

    /// Waits for the bytes of a request, without hyper. `false`: the connection is over, by its
    /// client, the idle timeout or the drain, and is closed.
    pub(super) async fn rest<IO>(&mut self, io: &mut ClientIo<IO>) -> bool
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        if let Phase::Idle(since) = self.track.phase() {
            self.wake_at(since + self.limits.idle_timeout);
            let readable = tokio::select! {
                biased;
                readable = io.readable() => readable,
                () = &mut self.drained => Ok(false),
                () = &mut self.timer => Ok(false),
            };
            match readable {
                Ok(true) => {}
                Ok(false) => {
                    // Neither an error nor a client that has no room changes anything now.
                    drop(timeout(GRACE, io.shutdown()).await);
                    return false;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection ended early");
                    return false;
                }
            }
        }
        // Else the beginning of a request came behind the last one.
        true
    }
}
