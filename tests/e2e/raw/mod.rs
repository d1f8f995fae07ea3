//! Bytes that no well-behaved client or API sends. Each is refused or understood in one way only,
//! and the API sees nothing, or one well-framed request.

mod floods;
mod frames;
mod http1;
mod http1_cases;
mod http2;
mod upstream;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::support::stage::Playing;

/// The gate of these tests, one at a time: they count what reaches the API.
fn playing() -> MutexGuard<'static, Playing> {
    static PLAYING: OnceLock<Mutex<Playing>> = OnceLock::new();
    PLAYING
        .get_or_init(|| {
            Mutex::new(Playing::new(|_, mut config| {
                config.limits.push_str(
                    "header_timeout = \"2s\"\nbody_timeout = \"2s\"\nbody_bytes = \"1MiB\"\n",
                );
                config
                    .upstream
                    .insert("response_timeout", "\"3s\"".to_owned());
                config
            }))
        })
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
