//! `[audit]` as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::SecretRef;

/// `[audit]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    /// The file that is written; older ones stand beside it. A change needs a restart, here and
    /// of all below but `subject` and `claims`.
    pub(super) file: String,
    /// Key of the HMACs that tie lines together, and of digests; at least 32 bytes.
    pub(super) key: SecretRef,
    /// PEM file of the key that signs checkpoints: PKCS#8, EC P-256 or Ed25519.
    pub(super) signing_key: String,
    /// Name of that key in signed lines. Default: a digest of its public half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<String>,
    /// Time between two checkpoints, 1s to 1h. Default "1m".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint_every: Option<String>,
    /// How subjects of tokens are recorded. Default "digest".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<AuditSubject>,
    /// Claims whose values are recorded beside those that rules look at, so that rules about them
    /// can be tried with `audit replay`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<Vec<String>>,
    /// Lines that wait at most. Default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<u64>,
    /// When another file is begun.
    #[serde(default)]
    pub(super) rotate: AuditRotate,
    /// When the disk is told to keep what it has. Default "checkpoint".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sync: Option<AuditSync>,
    /// What becomes of requests while the queue is full or the disk fails. Default "refuse".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_failure: Option<AuditFailure>,
}

/// `rotate` of `[audit]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditRotate {
    /// Once a file is this large, 1MiB to 1TiB. Default "256MiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<String>,
    /// Once it is this old, 1m to a year. Default "24h".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) every: Option<String>,
}

/// `subject` of `[audit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuditSubject {
    /// A digest under the key: the same person has the same one.
    Digest,
    /// As it is; reported.
    Plain,
}

/// `sync` of `[audit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuditSync {
    /// With each checkpoint.
    Checkpoint,
    /// After each write, which is every few milliseconds.
    Write,
}

/// `on_failure` of `[audit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuditFailure {
    /// What cannot be recorded does not pass: 503.
    Refuse,
    /// It passes, and the log says how many lines are missing; reported.
    Continue,
}
