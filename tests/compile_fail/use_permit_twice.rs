//! What is sent on is gone.
use portcullis::pdp::Authorized;

fn twice(permit: Authorized<()>) {
    let _first = permit.into_parts();
    let _second = permit.into_parts();
}

fn main() {
    let _ = twice;
}
