//! The only file that asks the system for the time. Everything else takes it as an argument.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::pdp::UnixTime;

/// The wall clock, in the whole seconds that decisions count in.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_secs(since_epoch().as_secs())
}

/// The wall clock in full, for the log: time since 1970-01-01T00:00:00Z without leap seconds.
#[must_use]
pub fn since_epoch() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is broken; at zero every `nbf` lies ahead and nothing passes.
    since.unwrap_or_default()
}

/// One moment, as both clocks say it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For durations.
    pub instant: Instant,
    /// Time since 1970-01-01T00:00:00Z without leap seconds.
    pub since_epoch: Duration,
}

impl Moment {
    /// In the whole seconds that decisions count in.
    #[must_use]
    pub const fn unix(self) -> UnixTime {
        UnixTime::from_secs(self.since_epoch.as_secs())
    }
}

/// For how long the wall clock's last word on a thread is reckoned on from: as late as this we are to
/// notice that somebody set it.
const FRESH: Duration = Duration::from_millis(10);

/// Now, by both clocks, for the price of one: a request asks several times, and mostly for both.
#[must_use]
pub fn moment() -> Moment {
    thread_local! {
        static LAST: Cell<Option<Moment>> = const { Cell::new(None) };
    }
    let instant = Instant::now();
    LAST.get()
        .and_then(|last| reckoned(last, instant))
        .unwrap_or_else(|| {
            let read = Moment {
                instant,
                since_epoch: since_epoch(),
            };
            LAST.set(Some(read));
            read
        })
}

/// What the wall clock says at `instant`, from what it said at `last`; `None` where that was too long ago.
fn reckoned(last: Moment, instant: Instant) -> Option<Moment> {
    let since = instant.checked_duration_since(last.instant)?;
    (since < FRESH).then(|| Moment {
        instant,
        since_epoch: last.since_epoch.saturating_add(since),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_reckoned_on_for_a_moment() {
        let last = moment();
        let soon = last.instant + FRESH / 2;
        let then = reckoned(last, soon).unwrap();
        assert_eq!(then.instant, soon);
        assert_eq!(then.since_epoch - last.since_epoch, FRESH / 2);
        assert!(reckoned(last, last.instant + FRESH).is_none());
        assert!(reckoned(then, last.instant).is_none(), "never backwards");
    }

    #[test]
    fn both_clocks_name_the_same_moment() {
        for _ in 0..1000 {
            let (before, now, after) = (since_epoch(), moment(), since_epoch());
            // As far apart as the wall clock may be set meanwhile by whoever keeps it right.
            let slack = Duration::from_secs(1);
            assert!(now.since_epoch + slack >= before && now.since_epoch <= after + slack);
            assert_eq!(now.unix().as_secs(), now.since_epoch.as_secs());
        }
    }
}
