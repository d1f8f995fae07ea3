//! What shadow policies and observed routes would have refused.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::decision::Line;
use super::verify::in_order;

/// Who would have been refused, where and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The route.
    pub route: String,
    /// Whose rule it is: `shadow` or `observe`, and the policy's name.
    pub rule: (&'static str, String),
    /// The client, or `-`.
    pub client: String,
    /// The reason.
    pub reason: String,
}

/// What rules that are only tried would have refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Decisions looked at.
    pub decisions: u64,
    /// Of them, those that a shadow policy judged.
    pub shadowed: u64,
    /// Those that passed since their route is only observed.
    pub observed: u64,
    /// Lines that are no decision of this version's.
    pub unread: u64,
    /// What would have been refused, and how often.
    pub rows: BTreeMap<Row, u64>,
}

/// Looks through the decisions of these files. The files are not verified: see [`super::verify`].
///
/// # Errors
/// Where a file cannot be read.
pub fn report(files: &[PathBuf]) -> io::Result<Report> {
    let mut out = Report::default();
    for path in in_order(files)? {
        super::reader::decisions(&path, |line| match line {
            Some(line) => out.decision(&line),
            None => out.unread = out.unread.saturating_add(1),
        })?;
    }
    Ok(out)
}

impl Report {
    fn decision(&mut self, line: &Line<'_>) {
        self.decisions = self.decisions.saturating_add(1);
        let owned =
            |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or("-").to_owned();
        let mut add = |rule, reason: &str| {
            let row = Row {
                route: owned(&line.route),
                rule,
                client: owned(&line.client),
                reason: reason.to_owned(),
            };
            let count = self.rows.entry(row).or_default();
            *count = count.saturating_add(1);
        };
        if let Some(shadow) = &line.shadow {
            self.shadowed = self.shadowed.saturating_add(1);
            // What is refused anyway, the shadow policy takes nothing from.
            let passes = matches!(&*line.outcome, "authorized" | "observed");
            if let Some(reason) = shadow.reason.as_deref().filter(|_| passes) {
                add(("shadow", shadow.policy.to_string()), reason);
            }
        }
        if line.outcome == "observed" {
            self.observed = self.observed.saturating_add(1);
            add(
                ("observe", owned(&line.policy)),
                line.reason.as_deref().unwrap_or("-"),
            );
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} decisions: {} were judged by a shadow policy, {} passed on a route that is only observed\n",
            self.decisions, self.shadowed, self.observed
        );
        if self.unread > 0 {
            text.push_str(&format!(
                "{} lines are no decisions that this version can read\n",
                self.unread
            ));
        }
        if self.rows.is_empty() {
            text.push_str("nothing would have been refused\n");
            return text;
        }
        let rows = self.rows.iter().map(|(row, count)| {
            [
                row.route.clone(),
                row.rule.0.to_owned(),
                row.rule.1.clone(),
                row.client.clone(),
                row.reason.clone(),
                count.to_string(),
            ]
        });
        let head = [
            "route",
            "rule",
            "policy",
            "client",
            "would be refused for",
            "requests",
        ];
        text.push('\n');
        text.push_str(&super::reader::table(head, rows.collect()));
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(row, count)| {
                json!({
                    "route": row.route, "rule": row.rule.0, "policy": row.rule.1,
                    "client": row.client, "reason": row.reason, "requests": count,
                })
            })
            .collect();
        json!({
            "decisions": self.decisions, "shadowed": self.shadowed, "observed": self.observed,
            "unread": self.unread, "would_be_refused": rows,
        })
    }
}
