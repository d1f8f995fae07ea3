//! The only file that asks the system for the time. Everything else takes it as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::pdp::UnixTime;

/// The wall clock.
#[must_use]
pub fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is broken; at zero every `nbf` lies ahead and nothing passes.
    UnixTime::from_secs(since.map_or(0, |duration| duration.as_secs()))
}
