//! Draining: stop taking connections, let those that are open finish, give up after a time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// A signal that fires once, and a count of what is still open. Clones are the same signal.
///
/// A [`child`](Self::child) fires with its parent or alone: the process has one, each address
/// another under it, for addresses that a reload takes away.
#[derive(Clone)]
pub struct Drain {
    state: Arc<State>,
    parent: Option<Arc<Self>>,
}

#[derive(Default)]
struct State {
    fired: AtomicBool,
    on_fire: Notify,
    open: AtomicUsize,
    on_close: Notify,
}

/// Counts as open until dropped.
#[derive(Debug)]
pub struct Open {
    drain: Drain,
}

impl Drain {
    /// A signal that has not fired.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            parent: None,
        }
    }

    /// A signal that fires with this one, or alone. What is open under it counts here too.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            state: Arc::default(),
            parent: Some(Arc::new(self.clone())),
        }
    }

    /// Fires. Once is for ever.
    pub fn begin(&self) {
        self.state.fired.store(true, Ordering::Release);
        self.state.on_fire.notify_waiters();
    }

    /// Whether it fired. An atomic load, cheap enough for each request.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.state.fired.load(Ordering::Acquire)
            || self.parent.as_ref().is_some_and(|parent| parent.fired())
    }

    /// Waits until it fires; at once where it has.
    pub async fn wait(&self) {
        match &self.parent {
            None => self.wait_alone().await,
            Some(parent) => tokio::select! {
                () = self.wait_alone() => {}
                () = Box::pin(parent.wait()) => {}
            },
        }
    }

    /// Counts one more open connection, here and at the parent, until the value is dropped.
    #[must_use]
    pub fn open(&self) -> Open {
        self.each(|state| {
            state.open.fetch_add(1, Ordering::AcqRel);
        });
        Open {
            drain: self.clone(),
        }
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.open.load(Ordering::Acquire)
    }

    /// Waits until nothing is open, at most for `limit`; whether it came so far.
    pub async fn finished(&self, limit: Duration) -> bool {
        let closed = async {
            loop {
                let changed = self.state.on_close.notified();
                tokio::pin!(changed);
                // Listen first, look then, so that no change falls between.
                changed.as_mut().enable();
                if self.count() == 0 {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, closed).await.is_ok()
    }

    async fn wait_alone(&self) {
        let fired = self.state.on_fire.notified();
        tokio::pin!(fired);
        fired.as_mut().enable();
        if !self.state.fired.load(Ordering::Acquire) {
            fired.await;
        }
    }

    fn each(&self, act: fn(&State)) {
        act(&self.state);
        if let Some(parent) = &self.parent {
            parent.each(act);
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("fired", &self.fired())
            .field("open", &self.count())
            .finish_non_exhaustive()
    }
}

impl Open {
    /// The signal it counts at.
    #[must_use]
    pub const fn drain(&self) -> &Drain {
        &self.drain
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.drain.each(|state| {
            if state.open.fetch_sub(1, Ordering::AcqRel) == 1 {
                state.on_close.notify_waiters();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fires_for_clones_and_children_and_stays_fired() {
        let parent = Drain::new();
        let (clone, child) = (parent.clone(), parent.child());
        let waiting = tokio::spawn({
            let child = child.clone();
            async move { child.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!clone.fired() && !child.fired() && !waiting.is_finished());
        parent.begin();
        waiting.await.unwrap();
        assert!(clone.fired() && child.fired());
        clone.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_fires_alone() {
        let parent = Drain::new();
        let child = parent.child();
        child.begin();
        child.wait().await;
        assert!(child.fired() && !parent.fired());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_what_is_open_and_gives_up_in_time() {
        let parent = Drain::new();
        let child = parent.child();
        let first = child.open();
        let second = parent.open();
        assert_eq!((parent.count(), child.count()), (2, 1));
        assert!(!parent.finished(Duration::from_secs(30)).await);
        drop(first);
        assert!(child.finished(Duration::ZERO).await);
        let waiting = tokio::spawn({
            let parent = parent.clone();
            async move { parent.finished(Duration::from_secs(30)).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        assert!(waiting.await.unwrap());
    }
}
