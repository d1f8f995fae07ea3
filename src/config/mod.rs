//! What the operator wrote: read, held against its schema, checked as a whole, and turned into the
//! settings of every room and the snapshot that decisions are made by.
//!
//! Everything that is wrong is found at once and returned as values; nothing here logs. The walk is
//! file → `raw` (as written) → `defaults` → `checked` (as it will be used).

mod audit;
mod authentication;
mod authorization;
mod checked;
mod defaults;
mod document;
mod dpop;
mod duties;
mod error_format;
mod files;
mod forward;
mod front;
mod interner;
mod introspection;
mod issuers;
mod linking;
mod listeners;
mod loosened;
mod methods;
mod policies;
mod problem;
mod raw;
mod raw_audit;
mod raw_authorization;
mod raw_policy;
mod raw_replay;
mod replay;
mod revocation;
mod route;
mod routes;
mod rules;
mod server_tls;
mod shape;
mod source;
mod upstreams;
mod values;

pub use dpop::Nonces;
pub use files::{Digest, look};
pub use interner::Interner;
pub use problem::{Place, Problem, Report, ReportKind};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::pdp::{Snapshot, UnixTime};
use crate::{listener, pip, upstream};

/// A configuration in which everything was found good, as the rooms take it.
#[derive(Debug)]
pub struct Checked {
    /// What decisions are made by. Its generation is 0: `app` counts.
    pub snapshot: Snapshot,
    /// Every listener.
    pub listeners: Vec<listener::Settings>,
    /// Every issuer.
    pub issuers: Vec<pip::Settings>,
    /// The registry of clients, if there is one.
    pub registry: Option<pip::registry::Settings>,
    /// Every upstream.
    pub upstreams: Vec<upstream::Settings>,
    /// Where the admin endpoints are, if anywhere. A change needs a restart.
    pub admin: Option<SocketAddr>,
    /// Where others say that tokens are void, if anywhere. A change of its address needs a restart.
    pub revocation: Option<crate::revocation::Settings>,
    /// The audit log, if there is one. A change of most of it needs a restart.
    pub audit: Option<crate::audit::Settings>,
    /// Nonces that are given out with DPoP. Where they have no keys of the file, `app` makes one.
    pub nonces: Nonces,
    /// Where the use of proofs is remembered.
    pub replay: crate::replay::Settings,
    /// Data-plane threads. A change needs a restart.
    pub workers: usize,
    /// How often to look at [`Checked::files`]; `None` leaves it to SIGHUP.
    pub watch: Option<Duration>,
    /// How the process ends.
    pub drain: Drain,
    /// What the operator must know of, by place.
    pub reports: Vec<Report>,
    /// Every file and folder that was read, with what was in it; see [`look`].
    pub files: Vec<(PathBuf, Digest)>,
    /// Numbers of the issuers, for the next load.
    pub interner: Interner,
    written: checked::Written,
}

/// `[drain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Not ready but serving.
    pub delay: Duration,
    /// For what is under way.
    pub timeout: Duration,
}

impl Checked {
    /// Every value in force, defaults included, as TOML: what `check --print` shows. A
    /// configuration of this version holds no secret, only paths to them.
    #[must_use]
    pub fn print(&self) -> String {
        self.written.print()
    }
}

/// Reads and checks a configuration.
///
/// `now` judges dates: certificates, CRLs, `observe`. `previous` keeps the numbers of issuers whose
/// settings did not change since the last load.
///
/// # Errors
/// Every problem, by place.
pub fn load(
    path: &Path,
    now: UnixTime,
    previous: Option<&Interner>,
) -> Result<Checked, Vec<Problem>> {
    loaded(path, None, now, previous)
}

/// The same of files that stand in memory, by their paths: none of the system is read. For tests
/// and fuzzers.
///
/// # Errors
/// Every problem, by place.
pub fn load_from<'f>(
    files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    path: &str,
    now: UnixTime,
) -> Result<Checked, Vec<Problem>> {
    let files = files.into_iter();
    let given = files.map(|(name, content)| (PathBuf::from(name), Arc::from(content)));
    loaded(Path::new(path), Some(given.collect()), now, None)
}

fn loaded(
    path: &Path,
    given: Option<files::Given>,
    now: UnixTime,
    previous: Option<&Interner>,
) -> Result<Checked, Vec<Problem>> {
    let mut findings = problem::Findings::default();
    let checked = source::read(path, given, &mut findings)
        .and_then(|source| checked::check(source, now, previous, &mut findings));
    findings.settle();
    match checked {
        Some(mut checked) if findings.problems.is_empty() => {
            checked.reports = findings.reports;
            Ok(checked)
        }
        _ if findings.problems.is_empty() => Err(vec![Problem {
            place: Place {
                file: path.display().to_string(),
                line: 1,
                column: 1,
                path: String::new(),
            },
            wrong: "something is missing that no check named".to_owned(),
            right: "report it, with the configuration".to_owned(),
        }]),
        _ => Err(findings.problems),
    }
}

/// JSON Schema of the configuration file, for editors.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(raw::File);
    format!("{:#}\n", schema.as_value())
}

/// JSON Schema of a policy file.
#[must_use]
pub fn policy_schema() -> String {
    let schema = schemars::schema_for!(raw::Policy);
    format!("{:#}\n", schema.as_value())
}

/// Names of the built-in policies, each with its text.
#[must_use]
pub const fn built_in_policies() -> &'static [(&'static str, &'static str)] {
    policies::BUILT_IN
}
