//! The only file that asks the system for the time. Everything else takes it as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
