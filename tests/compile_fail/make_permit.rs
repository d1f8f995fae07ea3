//! Only the core makes an `Authorized`: its fields are private.
use portcullis::pdp::{Authorized, Inbound};

fn forge(inbound: Box<Inbound<()>>) -> Authorized<()> {
    Authorized { inbound }
}

fn main() {
    let _ = forge;
}
