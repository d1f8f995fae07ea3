//! What the operator says of the audit log.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Key, Recording, SigningKey};

/// `[audit]`, as checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that is written; those before it stand beside it.
    pub file: PathBuf,
    /// Under which lines are tied together.
    pub key: Key,
    /// Under which checkpoints are signed.
    pub signing_key: Arc<SigningKey>,
    /// Time between two checkpoints.
    pub checkpoint_every: Duration,
    /// How subjects stand in lines.
    pub subject: Subject,
    /// Lines that wait at most.
    pub queue: usize,
    /// When another file is begun.
    pub rotate: Rotate,
    /// When the disk is told to keep what it has.
    pub sync: Sync,
    /// What becomes of requests whose line cannot be written.
    pub on_failure: OnFailure,
    /// Claims that are recorded beside those that rules look at.
    pub claims: Arc<[Box<str>]>,
    /// Of all that needs a restart: another one, other settings.
    pub fingerprint: [u8; 32],
}

impl Settings {
    /// How decisions are recorded whose rules look at these claims.
    #[must_use]
    pub fn recording(&self, mut claims: BTreeSet<Box<str>>) -> Recording {
        claims.extend(self.claims.iter().cloned());
        Recording {
            claims,
            subject: self.subject,
        }
    }
}

/// `subject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// As keyed digest: the same person has the same one, and nobody can read who.
    Digest,
    /// As it is. Reported by `check`.
    Plain,
}

/// `rotate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate {
    /// Once a file has so many bytes.
    pub size: u64,
    /// Once its first line is this old.
    pub every: Duration,
}

/// `sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// With each checkpoint, and at the end of each file.
    Checkpoint,
    /// After each write.
    Write,
}

/// `on_failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// What cannot be recorded does not pass: 503.
    Refuse,
    /// It passes, is counted, and the chain says how many lines are missing. Reported by `check`.
    Continue,
}
