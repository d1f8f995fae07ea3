//! An address that an issuer's metadata name, held for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::address::Address;
use super::fetch::{self, Failure, Way};
use crate::telemetry::metrics::FetchResult;

/// How long a learned address is used before the metadata are read again.
const FOR: Duration = Duration::from_secs(3600);

/// Nothing at first.
#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<Option<(Address, Instant)>>);

impl Learned {
    /// The address that is held, or what `read` finds in the metadata at `url`.
    pub(super) async fn or_read(
        &self,
        url: &str,
        way: Way<'_>,
        read: impl FnOnce(&[u8]) -> Result<Address, Failure>,
    ) -> Result<Address, Failure> {
        let held = self.lock().clone();
        if let Some((address, since)) = held
            && since.elapsed() < FOR
        {
            return Ok(address);
        }
        let metadata = fetch::get(&configured(url)?, way).await?;
        let address = read(&metadata)?;
        *self.lock() = Some((address.clone(), Instant::now()));
        Ok(address)
    }

    /// What was there may have moved: the metadata are read again before the next use.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Address, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address of the configuration.
pub(super) fn configured(url: &str) -> Result<Address, Failure> {
    Address::configured(url).map_err(|error| Failure::new(FetchResult::Unreachable, error))
}
