//! Only the core makes an `Authorized`: its fields are private.
use portcullis::pdp::{Authorized, RequestHead};

fn forge(head: RequestHead) -> Authorized<()> {
    Authorized { head, body: () }
}

fn main() {
    let _ = forge;
}
