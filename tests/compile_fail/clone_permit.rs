//! A permit is for one request.
use portcullis::pdp::Authorized;

fn copies<T: Clone>() {}

fn main() {
    copies::<Authorized<()>>();
}
