//! What was recorded of a request is judged and never sent on.
use std::sync::Arc;

use portcullis::pdp::recorded::{Recorded, judge};
use portcullis::pdp::{Authorized, Snapshot};

fn forward(_: Authorized<()>) {}

fn replay(recorded: &Recorded, snapshot: &Arc<Snapshot>) {
    forward(judge(recorded, snapshot));
}

fn main() {}
