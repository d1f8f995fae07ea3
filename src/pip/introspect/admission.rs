//! Who may wait: pure.
//!
//! Places are few, for a request that waits holds memory. One client may have as many as are left
//! free: alone it gets half of them and never more, and while somebody fills his half, everybody
//! else still finds places. A made-up token costs its sender's places, not those of others.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub(super) struct Places<K> {
    capacity: usize,
    taken: usize,
    by_client: HashMap<K, usize>,
}

impl<K: Eq + Hash + Clone> Places<K> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            taken: 0,
            by_client: HashMap::new(),
        }
    }

    /// Takes a place. `false`: there is none for this client now.
    #[must_use]
    pub(super) fn take(&mut self, client: &K) -> bool {
        let free = self.capacity.saturating_sub(self.taken);
        let held = self.by_client.get(client).copied().unwrap_or_default();
        if held >= free {
            return false;
        }
        self.taken += 1;
        *self.by_client.entry(client.clone()).or_default() += 1;
        true
    }

    /// Gives a place back.
    pub(super) fn leave(&mut self, client: &K) {
        if let Some(held) = self.by_client.get_mut(client) {
            *held -= 1;
            self.taken -= 1;
            if *held == 0 {
                self.by_client.remove(client);
            }
        }
    }

    /// Places that are taken.
    #[cfg(test)]
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(places: &mut Places<&'static str>, client: &'static str) -> usize {
        (0..).take_while(|_| places.take(&client)).count()
    }

    #[test]
    fn one_client_never_has_more_than_half() {
        // INT-13
        let mut places = Places::new(100);
        assert_eq!(fill(&mut places, "flood"), 50);
        assert_eq!(fill(&mut places, "honest"), 25, "others still find places");
        assert!(places.take(&"third"));
        for _ in 0..50 {
            places.leave(&"flood");
        }
        assert_eq!(places.taken(), 26);
        places.leave(&"flood");
        assert_eq!(
            places.taken(),
            26,
            "what was not taken cannot be given back"
        );
    }

    #[test]
    fn many_clients_never_take_more_than_there_are() {
        // OPS-05
        let mut places = Places::new(64);
        let taken = (0..10_000).filter(|client| places.take(client)).count();
        assert_eq!(
            (taken, places.taken(), places.by_client.len()),
            (64, 64, 64)
        );
        for client in 0..10_000 {
            places.leave(&client);
        }
        assert!(places.by_client.is_empty() && places.taken() == 0);
    }
}
