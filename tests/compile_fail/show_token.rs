//! A token has no text form that could reach a log.
use portcullis::pdp::AccessToken;

fn show(token: &AccessToken) -> String {
    token.to_string()
}

fn main() {
    let _ = show;
}
