//! One line for each failed handshake, but not more than a log can bear: failing costs a client
//! nothing.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::tls::Failed;

/// Lines in a window, for each worker. The metric counts them all.
const LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// The lines of one worker on one address.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    window: Cell<Option<Instant>>,
    written: Cell<u32>,
    left_out: Cell<u64>,
}

impl FailureLog {
    pub(super) fn line(&self, remote: SocketAddr, failed: &Failed) {
        let Some(left_out) = self.admit(Instant::now()) else {
            return;
        };
        if left_out > 0 {
            tracing::info!(left_out, "handshakes failed that were not written");
        }
        tracing::info!(
            reason = failed.reason.code(),
            %remote,
            listener = failed.listener.as_deref().unwrap_or("-"),
            detail = %failed.detail.escape_debug(),
            remedy = failed.reason.remedy(),
            "handshake failed"
        );
    }

    /// Whether a line may be written at this time, and how many were not since the last.
    fn admit(&self, now: Instant) -> Option<u64> {
        let fresh = self
            .window
            .get()
            .is_none_or(|begin| now.duration_since(begin) >= WINDOW);
        if fresh {
            self.window.set(Some(now));
            self.written.set(0);
        }
        if self.written.get() >= LINES {
            self.left_out.set(self.left_out.get().saturating_add(1));
            return None;
        }
        self.written.set(self.written.get().saturating_add(1));
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_are_bounded_and_what_was_left_out_is_said() {
        let log = FailureLog::default();
        let admitted = (0..1000)
            .filter(|_| log.admit(Instant::now()).is_some())
            .count();
        assert_eq!(admitted, LINES as usize);
        tokio::time::advance(WINDOW).await;
        assert_eq!(log.admit(Instant::now()), Some(1000 - u64::from(LINES)));
        assert_eq!(log.admit(Instant::now()), Some(0));
    }
}
