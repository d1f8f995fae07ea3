//! Handshakes in turns, so that a storm of new connections does not starve those that are established.
//!
//! A step of a handshake is one to two hundred microseconds of public-key work; a request takes a tenth
//! of that, in a few steps. Where hundreds of handshakes are ready at once and each gets its step
//! before the thread looks for requests again, every request waits for all of them, twice or more.
//! So of the steps that are ready, a thread makes [`STEPS`] a turn; between two turns everything
//! else that is ready runs, and the system is asked what has come meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Steps of handshakes that are made a turn.
const STEPS: usize = 4;

/// The turns of one accept loop: of a thread, where it has one address.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Steps made since the turn began; a turn without anybody who waits does not end.
    made: Cell<usize>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// Whether a task begins new turns.
    turning: Cell<bool>,
}

#[derive(Debug)]
struct Waiting {
    place: Rc<Cell<Place>>,
    waker: Waker,
}

/// Where a handshake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In no queue.
    Out,
    /// Waits for its turn.
    Queued,
    /// May make a step.
    Next,
}

impl Turns {
    /// Runs a handshake to its end, each step in its turn. To be called on a `LocalSet`.
    pub(super) async fn pace<F: Future>(self: &Rc<Self>, handshake: F) -> F::Output {
        let place = Rc::new(Cell::new(Place::Out));
        let mut handshake = pin!(handshake);
        poll_fn(|context| {
            if self.may_step(&place, context) {
                handshake.as_mut().poll(context)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn may_step(self: &Rc<Self>, place: &Rc<Cell<Place>>, context: &Context<'_>) -> bool {
        match place.get() {
            Place::Next => {
                place.set(Place::Out);
                true
            }
            Place::Queued => false,
            Place::Out if self.made.get() < STEPS && self.waiting.borrow().is_empty() => {
                self.made.set(self.made.get().saturating_add(1));
                true
            }
            Place::Out => {
                self.turn();
                place.set(Place::Queued);
                self.waiting.borrow_mut().push_back(Waiting {
                    place: Rc::clone(place),
                    waker: context.waker().clone(),
                });
                false
            }
        }
    }

    /// Begins a new turn whenever all else that was ready has run, for as long as somebody waits.
    fn turn(self: &Rc<Self>) {
        if self.turning.replace(true) {
            return;
        }
        let turns = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                // Wakes after the system was asked for what has come.
                tokio::task::yield_now().await;
                let mut waiting = turns.waiting.borrow_mut();
                let next = waiting.len().min(STEPS);
                turns.made.set(next);
                for Waiting { place, waker } in waiting.drain(..next) {
                    place.set(Place::Next);
                    waker.wake();
                }
                if waiting.is_empty() {
                    turns.turning.set(false);
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    fn on_a_thread<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, test)
    }

    /// A handshake that is always ready for its next step.
    async fn handshake(steps: usize, made: Rc<Cell<usize>>) -> usize {
        let mut left = steps;
        poll_fn(|context| {
            made.set(made.get() + 1);
            left -= 1;
            if left == 0 {
                return Poll::Ready(steps);
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    #[test]
    fn everything_else_runs_between_a_few_steps() {
        on_a_thread(async {
            let (turns, made) = (Rc::new(Turns::default()), Rc::new(Cell::new(0)));
            let storm: Vec<_> = (0..200)
                .map(|_| {
                    let (turns, made) = (Rc::clone(&turns), Rc::clone(&made));
                    spawn_local(async move { turns.pace(handshake(4, made)).await })
                })
                .collect();
            // A request that has to look at the system again and again.
            let mut longest = 0;
            while made.get() < 800 {
                let before = made.get();
                yield_now().await;
                longest = longest.max(made.get() - before);
            }
            assert!(longest <= 2 * STEPS, "{longest} steps at once");
            for one in storm {
                assert_eq!(one.await.unwrap(), 4);
            }
            assert_eq!(made.get(), 800);
        });
    }

    #[test]
    fn who_waits_first_is_next() {
        on_a_thread(async {
            let turns = Rc::new(Turns::default());
            let order = Rc::new(RefCell::new(Vec::new()));
            let all: Vec<_> = (0..20)
                .map(|name| {
                    let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
                    spawn_local(async move {
                        let made = Rc::default();
                        turns.pace(handshake(2, made)).await;
                        order.borrow_mut().push(name);
                    })
                })
                .collect();
            for one in all {
                one.await.unwrap();
            }
            assert!(order.borrow().is_sorted(), "{:?}", order.borrow());
        });
    }

    #[test]
    fn one_that_is_gone_holds_nobody_up() {
        on_a_thread(async {
            let turns = Rc::new(Turns::default());
            let all: Vec<_> = (0..40)
                .map(|_| {
                    let turns = Rc::clone(&turns);
                    spawn_local(async move { turns.pace(handshake(3, Rc::default())).await })
                })
                .collect();
            yield_now().await;
            for (at, one) in all.into_iter().enumerate() {
                if at % 2 == 0 {
                    one.abort();
                } else {
                    assert_eq!(one.await.unwrap(), 3);
                }
            }
        });
    }

    #[test]
    fn one_that_waits_for_its_client_takes_no_turn() {
        on_a_thread(async {
            let turns = Rc::new(Turns::default());
            let slow = async { tokio::time::sleep(Duration::from_secs(5)).await };
            let slow = spawn_local({
                let turns = Rc::clone(&turns);
                async move { turns.pace(slow).await }
            });
            let quick = turns.pace(handshake(3, Rc::default()));
            assert_eq!(quick.await, 3);
            assert!(!slow.is_finished());
            slow.await.unwrap();
            yield_now().await;
            yield_now().await;
            assert!(
                !turns.turning.get(),
                "it goes on turning with nothing to do"
            );
        });
    }
}
