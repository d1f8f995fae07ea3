//! Which listener of an address a server name belongs to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::server::ServerTls;
use crate::refusal::CloseReason;

/// Alerts: RFC 8446 s6 and s9.2, RFC 6066 s3.
const MISSING_EXTENSION: u8 = 109;
const UNRECOGNIZED_NAME: u8 = 112;
/// Where no listener has a bound of its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// One listener of an address.
#[derive(Debug, Clone)]
pub struct DirectoryEntry {
    /// Its host names.
    pub hosts: Vec<Box<str>>,
    /// Takes clients that send no server name.
    pub default: bool,
    /// Its TLS.
    pub tls: Arc<ServerTls>,
    /// For the whole handshake.
    pub handshake_timeout: Duration,
}

/// TLS names of one address: which listener a `ClientHello` belongs to. Immutable; swapped whole
/// at reload.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Vec<DirectoryEntry>,
    by_host: HashMap<Box<str>, usize>,
    default: Option<usize>,
    /// For the `ClientHello`, before which the listener is not known.
    patience: Duration,
    /// Unknown names are taken for the default.
    any_name: bool,
}

impl Directory {
    /// The listeners of one address. Names are compared without case and without one trailing
    /// dot; of two entries with one name, or of two defaults, the first is taken.
    #[must_use]
    pub fn new(entries: Vec<DirectoryEntry>) -> Self {
        let mut by_host = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for host in &entry.hosts {
                by_host.entry(normal(host)).or_insert(index);
            }
        }
        Self {
            by_host,
            default: entries.iter().position(|entry| entry.default),
            patience: entries
                .iter()
                .map(|entry| entry.handshake_timeout)
                .max()
                .unwrap_or(PATIENCE),
            entries,
            any_name: false,
        }
    }

    /// One entry for whatever name a client calls it by: for a door that has nothing to choose.
    #[must_use]
    pub fn nameless(entry: DirectoryEntry) -> Self {
        Self {
            any_name: true,
            ..Self::new(vec![DirectoryEntry {
                default: true,
                ..entry
            }])
        }
    }

    /// How long the `ClientHello` may take, with all that comes before it.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// The listener of a server name, or the reason and the alert of its absence; unknown names are never given to the default (TLS-11).
    pub(super) fn find(&self, name: Option<&str>) -> Result<&DirectoryEntry, (CloseReason, u8)> {
        let (index, otherwise) = match name {
            Some(name) => (
                self.by_host
                    .get(&normal(name))
                    .copied()
                    .or_else(|| self.default.filter(|_| self.any_name)),
                (CloseReason::ServerNameUnknown, UNRECOGNIZED_NAME),
            ),
            None => (
                self.default,
                (CloseReason::ServerNameMissing, MISSING_EXTENSION),
            ),
        };
        index
            .and_then(|index| self.entries.get(index))
            .ok_or(otherwise)
    }
}

fn normal(host: &str) -> Box<str> {
    host.strip_suffix('.')
        .unwrap_or(host)
        .to_ascii_lowercase()
        .into()
}
