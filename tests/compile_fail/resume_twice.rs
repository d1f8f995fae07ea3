//! A question is answered once.
use portcullis::pdp::{Answer, Pending, Trail, UnixTime};

fn twice(pending: Pending<()>, now: UnixTime, trail: &mut Trail) {
    let _first = pending.resume(Answer::Remembered, now, trail);
    let _second = pending.resume(Answer::Remembered, now, trail);
}

fn main() {
    let _ = twice;
}
