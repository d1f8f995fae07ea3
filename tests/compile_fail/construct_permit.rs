//! Its constructor is private too.
use portcullis::pdp::{Authorized, Routed};

fn forge(routed: Routed<()>) -> Authorized<()> {
    Authorized::new(routed, Vec::new(), None, None)
}

fn main() {
    let _ = forge;
}
