//! Recorded decisions, judged again by another configuration: what would change for whom.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::decision::Line;
use super::verify::in_order;
use crate::pdp::Snapshot;
use crate::pdp::recorded::{Judgement, Recorded, judge};
use crate::refusal::Reason;

/// What another configuration would have made of recorded decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Decisions that were judged.
    pub decisions: u64,
    /// Of them, those that would be as they were.
    pub same: u64,
    /// Those that are refused before and after, for another reason.
    pub other_reason: u64,
    /// Those that passed and would be refused.
    pub refused: u64,
    /// Those that were refused and would pass.
    pub passed: u64,
    /// Those of which the line does not say.
    pub unknown: u64,
    /// Lines that are no decision of this version's.
    pub unread: u64,
    /// What changes, by route, client, and what.
    pub changes: BTreeMap<Change, u64>,
}

/// Requests of one client on one route that would be judged otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What becomes of them.
    pub kind: Kind,
    /// The route, by its name in the record or, where there was none, in the configuration.
    pub route: String,
    /// The client, or `-`.
    pub client: String,
    /// The reason, or what the line does not hold.
    pub why: String,
}

/// See [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// They passed and would be refused.
    Refused,
    /// They were refused and would pass.
    Passed,
    /// The line does not say.
    Unknown,
    /// They are refused for another reason.
    OtherReason,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Refused => "would be refused",
            Self::Passed => "would pass",
            Self::Unknown => "cannot tell",
            Self::OtherReason => "another reason",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Passed => "passed",
            Self::Unknown => "unknown",
            Self::OtherReason => "other_reason",
        }
    }
}

/// Judges every decision of these files. The files are not verified: see [`super::verify`].
///
/// # Errors
/// Where a file cannot be read.
pub fn replay(files: &[PathBuf], snapshot: &Arc<Snapshot>) -> io::Result<Replay> {
    let mut out = Replay::default();
    for path in in_order(files)? {
        super::reader::decisions(&path, |line| match line {
            Some(line) => out.decision(line, snapshot),
            None => out.unread = out.unread.saturating_add(1),
        })?;
    }
    Ok(out)
}

impl Replay {
    fn decision(&mut self, line: Line<'_>, snapshot: &Arc<Snapshot>) {
        let code = line.reason.as_deref();
        let known = |code: &str| {
            let mut all = Reason::ALL.iter().copied();
            all.find(|reason| reason.spec().code == code)
        };
        let reason = code.and_then(known);
        let passed = matches!(&*line.outcome, "authorized" | "observed");
        if code.is_some() && reason.is_none() {
            // A reason of another version: nothing can be said of what it meant.
            self.unread = self.unread.saturating_add(1);
            return;
        }
        self.decisions = self.decisions.saturating_add(1);
        // What was refused for want of the log itself had passed before that.
        let ours = reason.filter(|reason| *reason != Reason::AuditUnavailable);
        let recorded = Recorded {
            facts: line.facts,
            reason: ours,
        };
        let judged = judge(&recorded, snapshot);
        let (kind, why) = match (judged.judgement, passed) {
            (Judgement::Unknown(why), _) => (Kind::Unknown, why.into_string()),
            (Judgement::Refused(now), true) => (Kind::Refused, now.spec().code.to_owned()),
            (Judgement::Refused(now), false) if reason == Some(now) => return self.as_before(),
            (Judgement::Refused(now), false) => {
                let before = code.unwrap_or("-");
                (
                    Kind::OtherReason,
                    format!("{before} -> {}", now.spec().code),
                )
            }
            (Judgement::Passes | Judgement::Observed(_), true) => return self.as_before(),
            // That the log could not be written then is no rule of either configuration.
            (Judgement::Passes | Judgement::Observed(_), false) if ours != reason => {
                return self.as_before();
            }
            (Judgement::Passes | Judgement::Observed(_), false) => {
                (Kind::Passed, code.unwrap_or("-").to_owned())
            }
        };
        let count = match kind {
            Kind::Refused => &mut self.refused,
            Kind::Passed => &mut self.passed,
            Kind::Unknown => &mut self.unknown,
            Kind::OtherReason => &mut self.other_reason,
        };
        *count = count.saturating_add(1);
        let route = match (&line.route, &judged.route) {
            (Some(route), _) => route.to_string(),
            (None, Some(route)) => route.name.to_string(),
            (None, None) => "-".to_owned(),
        };
        let change = Change {
            kind,
            route,
            client: line.client.as_deref().unwrap_or("-").to_owned(),
            why,
        };
        let count = self.changes.entry(change).or_default();
        *count = count.saturating_add(1);
    }

    fn as_before(&mut self) {
        self.same = self.same.saturating_add(1);
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} decisions: {} as before, {} would be refused that passed, {} would pass that were refused, {} refused for another reason, {} cannot be told\n",
            self.decisions, self.same, self.refused, self.passed, self.other_reason, self.unknown
        );
        if self.unread > 0 {
            // Writing to a string does not fail.
            let _written: std::fmt::Result = writeln!(
                text,
                "{} lines are no decisions that this version can read",
                self.unread
            );
        }
        for kind in [
            Kind::Refused,
            Kind::Passed,
            Kind::Unknown,
            Kind::OtherReason,
        ] {
            let rows: Vec<_> = self
                .changes
                .iter()
                .filter(|(change, _)| change.kind == kind)
                .collect();
            if rows.is_empty() {
                continue;
            }
            let rows = rows.into_iter().map(|(change, count)| {
                [
                    change.route.clone(),
                    change.client.clone(),
                    change.why.clone(),
                    count.to_string(),
                ]
            });
            let head = ["route", "client", "why", "requests"];
            text.push_str(&format!("\n{}\n", kind.name()));
            text.push_str(&super::reader::table(head, rows.collect()));
        }
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let changes: Vec<Value> = self
            .changes
            .iter()
            .map(|(change, count)| {
                json!({
                    "change": change.kind.key(), "route": change.route, "client": change.client,
                    "why": change.why, "requests": count,
                })
            })
            .collect();
        json!({
            "decisions": self.decisions, "same": self.same, "refused": self.refused,
            "passed": self.passed, "other_reason": self.other_reason, "unknown": self.unknown,
            "unread": self.unread, "changes": changes,
        })
    }
}
