//! What is asked only when it has something to say.
//!
//! A task that waits for several things polls all of them whenever one has come. Where one is a
//! signal that comes once in a connection's life, or a timer that is not due for seconds, asking it at
//! each piece of each request costs more than the answer is worth: a [`tokio::sync::Notify`] takes
//! its lock, which all threads share, for each time it is asked. So is the client's socket, which hyper
//! reads whenever it is polled, through TLS, while an answer is awaited from elsewhere.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Says when what was asked in vain is to be asked again: after it woke whom it knows as its task.
pub(super) struct Ring {
    bell: Arc<Bell>,
    /// The bell as what is asked knows it.
    waker: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
}

/// What is asked rings it.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Ring {
    /// Nothing was asked yet.
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Self {
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            task: None,
        }
    }

    /// Whether to ask now, with what [`Self::context`] gives. Else the task of `cx` is woken once it is
    /// worth while.
    pub(super) fn is_worth_asking(&mut self, cx: &Context<'_>) -> bool {
        // Registered before the bell is looked at, so that no ring falls between.
        if !self
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            self.bell.task.register(cx.waker());
            self.task = Some(cx.waker().clone());
        }
        // Read first: a swap at each poll would be a write to memory for nothing.
        if !self.bell.rung.load(Ordering::Acquire) {
            return false;
        }
        self.bell.rung.store(false, Ordering::Release);
        // Whoever rings takes the registration along. One that rings before this line is not missed:
        // what is held is asked after it.
        self.bell.task.register(cx.waker());
        true
    }

    /// For who is asked.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// It was not in vain, or it is another that is to be asked: the next time it is, in any case.
    pub(super) fn ask_again(&self) {
        self.bell.rung.store(true, Ordering::Release);
    }
}

/// Polls what it holds the first time, and then only after that woke it. Pending for ever once it was
/// ready, until it is [changed](Self::change).
pub(super) struct Seldom<F> {
    inner: Pin<Box<F>>,
    over: bool,
    ring: Ring,
}

impl<F: Future> Seldom<F> {
    pub(super) fn new(inner: F) -> Self {
        Self {
            inner: Box::pin(inner),
            over: false,
            ring: Ring::new(),
        }
    }

    /// Changes what is held, which is polled again after that.
    pub(super) fn change(&mut self, change: impl FnOnce(Pin<&mut F>)) {
        change(self.inner.as_mut());
        self.over = false;
        self.ring.ask_again();
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if this.over || !this.ring.is_worth_asking(cx) {
            return Poll::Pending;
        }
        let polled = this.inner.as_mut().poll(&mut this.ring.context());
        this.over = polled.is_ready();
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::sync::Notify;
    use tokio::time::{Instant, sleep};

    #[tokio::test]
    async fn it_is_asked_when_it_has_something_to_say_and_not_before() {
        let (signal, asked) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let (notice, counted) = (Rc::clone(&signal), Rc::clone(&asked));
        let mut held = Seldom::new(async move {
            let notified = notice.notified();
            tokio::pin!(notified);
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                notified.as_mut().poll(cx)
            })
            .await;
        });
        for _ in 0..10 {
            assert_eq!((&mut held).now_or_never(), None);
        }
        assert_eq!(asked.get(), 1);
        signal.notify_waiters();
        (&mut held).await;
        assert_eq!(asked.get(), 2);
        assert_eq!((&mut held).now_or_never(), None, "it is over");
    }

    #[tokio::test]
    async fn whoever_waits_last_is_woken() {
        let signal = Rc::new(Notify::new());
        let notice = Rc::clone(&signal);
        let mut held = Seldom::new(async move { notice.notified().await });
        assert_eq!(
            (&mut held).now_or_never(),
            None,
            "by a waker that does nothing"
        );
        let waiting = async { (&mut held).await };
        tokio::join!(waiting, async { signal.notify_waiters() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_set_anew_fires_then() {
        let started = Instant::now();
        let mut timer = Seldom::new(sleep(Duration::from_secs(9)));
        assert_eq!((&mut timer).now_or_never(), None);
        timer.change(|timer| timer.reset(started + Duration::from_secs(2)));
        (&mut timer).await;
        assert_eq!(started.elapsed().as_secs(), 2);
        timer.change(|timer| timer.reset(started + Duration::from_secs(5)));
        (&mut timer).await;
        assert_eq!(started.elapsed().as_secs(), 5);
    }
}
