//! The audit log: one line a decision, in a chain that shows what was done to it.
//!
//! Each line carries a sequence number and an HMAC over itself and the line before ([`chain`]), so
//! that an edited, removed, inserted or moved line shows. At the start, at each rotation and every
//! minute a *signed* line stands between them ([`checkpoint`]) and goes to standard output too, so
//! that a log that was cut off, or made anew by whoever has the key of the HMACs, shows as well
//! ([`verify`]).
//!
//! A line holds what the decision looked at, as facts that can be judged again ([`replay`]); never
//! a token, a proof, a body or a secret.
//!
//! Requests hand their line over through a bounded queue ([`Log::admit`]) and never wait. One thread
//! writes. Where the queue is full or the disk fails, the caller is told, and refuses the request
//! unless the operator wants it otherwise: nothing is dropped without a record of it.

pub mod chain;
pub mod checkpoint;
mod decision;
mod file;
mod lines;
mod log;
mod reader;
pub mod replay;
pub mod report;
mod settings;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

pub use chain::{Key, Mac};
pub use checkpoint::{PublicKey, SigningKey};
pub use decision::{Decision, Recording};
pub use log::{Clock, Entry, Log, Refused};
pub use settings::{OnFailure, Rotate, Settings, Subject, Sync};
