//! `replay` of `[dpop]`, as written.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::raw::{Breaker, SecretRef};

/// `replay` of `[dpop]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayStore {
    /// Where. Default "memory".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<ReplayStoreKind>,
    /// Uses that this process remembers at once; where it alone does, or stands in, proofs beyond
    /// are refused with 503. Default 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries: Option<u64>,
    /// Address of the shared store: `redis://host:6379`, `rediss://…` for TLS, several hosts with
    /// commas, `redis+sentinel://host:26379,…/name`, `redis+cluster://host:6379,…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<StoreUrl>,
    /// Authorities of its certificate. Default: the platform's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<Vec<String>>,
    /// Our certificate for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
    /// Name in its certificate. Default: the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_name: Option<String>,
    /// How long a request waits for its answer. Default "100ms".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// When it is left alone; by default after 5 failures for "1s".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) breaker: Option<Breaker>,
    /// Replicas of the store that must have confirmed a use (`WAIT`) before it counts. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) confirmed_by: Option<u64>,
}

/// `store` of `replay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReplayStoreKind {
    /// This process alone.
    Memory,
    /// A Redis or Valkey that replicas share.
    Redis,
}

/// `url` of `replay`. It prints without user and password.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum StoreUrl {
    /// In the file itself.
    Written(String),
    /// Where secrets are.
    Elsewhere(SecretRef),
}

impl StoreUrl {
    /// Without what may be secret, and still a URL.
    fn shown(url: &str) -> String {
        let url = url.split_once('?').map_or(url, |(url, _)| url);
        match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://:not-shown@{rest}"),
            (None, Some((_, rest))) => format!(":not-shown@{rest}"),
            (_, None) => url.to_owned(),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(url) => f.debug_tuple("Written").field(&Self::shown(url)).finish(),
            Self::Elsewhere(secret) => f.debug_tuple("Elsewhere").field(secret).finish(),
        }
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Written(url) => Self::shown(url).serialize(serializer),
            Self::Elsewhere(secret) => secret.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        for url in [
            "redis://:hunter2@h",
            "redis://u:hunter2@a@h/1",
            "u:hunter2@h",
            "redis+sentinel://h/s?sentinel_password=hunter2",
        ] {
            let url = StoreUrl::Written(url.to_owned());
            let printed = format!("{url:?} {}", serde_json::to_string(&url).unwrap());
            assert!(!printed.contains("hunter2"), "{printed}");
        }
        assert_eq!(StoreUrl::shown("redis://h:1/2"), "redis://h:1/2");
    }
}
