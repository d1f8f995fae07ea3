//! Connections shared out evenly among the workers.
//!
//! The kernel deals new connections to the sockets of an address by a hash, so that of the few that a
//! load balancer keeps open for hours all may be with one worker. A worker that has noticeably more
//! than the one with the fewest gives a new connection to that one. What is accepted stays where
//! it is: its TLS is of that thread.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc;

/// How many connections each worker of the process has, on whatever address.
#[derive(Debug, Clone)]
pub struct Balance(Arc<[AtomicUsize]>);

/// One worker's place at one address: what it has, and how to give to the others.
#[derive(Debug)]
pub struct Place<T> {
    number: usize,
    balance: Balance,
    /// No bound of their own: who puts something in has taken one of a bounded number of places for it.
    others: Arc<[mpsc::UnboundedSender<T>]>,
    given: mpsc::UnboundedReceiver<T>,
}

/// Counts as a connection of a worker until dropped.
#[derive(Debug)]
pub(super) struct Seat {
    balance: Balance,
    number: usize,
}

impl Balance {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(
            iter::repeat_with(AtomicUsize::default)
                .take(workers)
                .collect(),
        )
    }

    /// The places of an address, one for each worker, in their order.
    #[must_use]
    pub fn places<T>(&self) -> Vec<Place<T>> {
        let (others, given): (Vec<_>, Vec<_>) = iter::repeat_with(mpsc::unbounded_channel)
            .take(self.0.len())
            .unzip();
        let others: Arc<[_]> = others.into();
        let place = |(number, given)| Place {
            number,
            balance: self.clone(),
            others: Arc::clone(&others),
            given,
        };
        given.into_iter().enumerate().map(place).collect()
    }

    /// Who should have a new connection that came to this worker. An eighth more than the fewest is even
    /// enough: another thread is woken for what is moved.
    fn due(&self, here: usize) -> usize {
        let count = |count: &AtomicUsize| count.load(Relaxed);
        let mine = self.0.get(here).map_or(0, count);
        let counts = self.0.iter().map(count).enumerate();
        match counts.min_by_key(|(_, count)| *count) {
            Some((fewest, count)) if mine > count.saturating_add(count / 8) => fewest,
            _ => here,
        }
    }

    fn seat(&self, number: usize) -> Seat {
        if let Some(count) = self.0.get(number) {
            count.fetch_add(1, Relaxed);
        }
        Seat {
            balance: self.clone(),
            number,
        }
    }
}

impl<T> Place<T> {
    /// A seat for a new connection: here, or at the worker that should have it.
    pub(super) fn seat(&self) -> Seat {
        self.balance.seat(self.balance.due(self.number))
    }

    /// A seat here.
    pub(super) fn seat_here(&self) -> Seat {
        self.balance.seat(self.number)
    }

    /// Whether the seat is here.
    pub(super) const fn is_here(&self, seat: &Seat) -> bool {
        seat.number == self.number
    }

    /// Gives something to the worker of this number.
    ///
    /// # Errors
    /// It comes back where that worker takes no more.
    pub(super) fn give(&self, number: usize, gift: T) -> Result<(), T> {
        match self.others.get(number) {
            Some(other) => other.send(gift).map_err(|refused| refused.0),
            None => Err(gift),
        }
    }

    /// What another worker gave.
    pub(super) async fn given(&mut self) -> T {
        match self.given.recv().await {
            Some(gift) => gift,
            // Not before this place, which can give as well, is gone.
            None => std::future::pending().await,
        }
    }

    /// Whether nothing that was given waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Takes no more from others; what they gave before.
    pub(super) fn last(&mut self) -> Option<T> {
        self.given.close();
        self.given.try_recv().ok()
    }
}

impl Seat {
    /// Of which worker.
    pub(super) const fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(count) = self.balance.0.get(self.number) {
            count.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_fewest_gets_the_next() {
        let mut places = Balance::new(3).places::<()>();
        let mut seats: Vec<_> = (0..30).map(|_| places[0].seat()).collect();
        let held = |seats: &[Seat], number| seats.iter().filter(|s| s.number == number).count();
        // All came to the first: it keeps an eighth more than the others have.
        for number in 0..3 {
            assert!((9..=11).contains(&held(&seats, number)), "{number}");
        }
        // One who lost all is given all until it has as many.
        seats.retain(|seat| seat.number != 2);
        seats.extend((0..8).map(|_| places[1].seat()));
        assert_eq!(held(&seats, 2), 8);
        // Nobody is asked to take what is even.
        drop(seats);
        let seats: Vec<_> = places.iter_mut().map(|place| place.seat()).collect();
        assert!(iter::zip(&places, &seats).all(|(place, seat)| place.is_here(seat)));
    }

    #[test]
    fn a_seat_is_free_again_when_it_is_dropped() {
        let balance = Balance::new(2);
        let places = balance.places::<()>();
        let first = places[0].seat();
        assert!(places[0].is_here(&first));
        assert_eq!(places[0].seat().number(), 1, "and free at once");
        drop(first);
        let again = places[0].seat();
        assert!(places[0].is_here(&again));
        let counts: Vec<_> = balance.0.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(counts, [1, 0]);
    }

    #[tokio::test]
    async fn what_is_given_arrives_or_comes_back() {
        let mut places = Balance::new(2).places::<u8>();
        let mut second = places.remove(1);
        assert_eq!(places[0].give(1, 7), Ok(()));
        assert_eq!(places[0].give(1, 8), Ok(()));
        assert_eq!(second.given().await, 7);
        assert_eq!(second.last(), Some(8), "given before it closed");
        assert_eq!(second.last(), None);
        assert_eq!(places[0].give(1, 9), Err(9));
        drop(second);
        assert_eq!(places[0].give(1, 9), Err(9));
        assert_eq!(places[0].give(2, 9), Err(9), "there is no such worker");
    }
}
