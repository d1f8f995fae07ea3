//! What several requests of a thread do next, done together.
//!
//! A write to an upstream or a client that sleeps wakes it, which costs more than the write does.
//! Between two requests that are decided and sent one after the other it has time to finish and fall
//! asleep again. So each request that is ready to write lets the others that are ready come as far
//! first: the writes follow each other then, and the first of them wakes whoever reads them all.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

/// The requests of one thread that are under way.
#[derive(Debug, Default)]
pub struct UnderWay(Cell<usize>);

impl UnderWay {
    /// One more, until what is returned is dropped.
    pub(super) fn enter(self: &Rc<Self>) -> One {
        self.0.set(self.0.get().saturating_add(1));
        One(Rc::clone(self))
    }
}

/// One request that is under way.
#[derive(Debug)]
pub(super) struct One(Rc<UnderWay>);

impl One {
    /// Resolves after every other task of the thread that is ready now was polled; at once where no
    /// other request is under way. It does not wait for anything that is not ready, nor asks the
    /// system what is.
    pub(super) fn others_first(&self) -> impl Future<Output = ()> + use<> {
        let mut over = self.0.0.get() <= 1;
        poll_fn(move |context| {
            if over {
                return Poll::Ready(());
            }
            over = true;
            // To the end of the queue of those that are ready.
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let all = &self.0.0;
        all.set(all.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::FutureExt as _;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[test]
    fn one_alone_waits_for_nobody() {
        let under_way = Rc::new(UnderWay::default());
        let one = under_way.enter();
        assert!(one.others_first().now_or_never().is_some());
        let other = under_way.enter();
        assert!(one.others_first().now_or_never().is_none());
        drop(other);
        assert!(one.others_first().now_or_never().is_some());
        drop(one);
        assert_eq!(under_way.0.get(), 0);
    }

    #[tokio::test]
    async fn all_come_as_far_before_any_goes_on() {
        let under_way = Rc::new(UnderWay::default());
        let said = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        for number in 0..3 {
            let (one, said) = (under_way.enter(), Rc::clone(&said));
            local.spawn_local(async move {
                said.borrow_mut().push(("decided", number));
                one.others_first().await;
                said.borrow_mut().push(("sent", number));
            });
        }
        local.await;
        let said = said.borrow();
        let of = |what| said.iter().filter(move |(word, _)| *word == what);
        assert!(said.iter().take(3).eq(of("decided")), "{said:?}");
        assert_eq!(of("sent").count(), 3);
    }

    #[tokio::test]
    async fn what_is_not_ready_is_not_waited_for() {
        let under_way = Rc::new(UnderWay::default());
        let local = LocalSet::new();
        let (_other, one) = (under_way.enter(), under_way.enter());
        local
            .run_until(async move {
                let never = spawn_local(std::future::pending::<()>());
                one.others_first().await;
                never.abort();
            })
            .await;
    }
}
