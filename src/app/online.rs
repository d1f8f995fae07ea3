//! `portcullis check --online`: are issuers and upstreams there?

use crate::config::Checked;

/// What is not there, one line each.
pub(super) fn look(_checked: &Checked) -> Vec<String> {
    Vec::new()
}
