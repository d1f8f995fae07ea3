//! Access tokens: how they may be presented, and which of them pass.

mod claims;
mod form;
mod presentation;

use crate::lab::client::Request;
use crate::support::stage::Playing;
use std::sync::OnceLock;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| Playing::new(|_, config| config))
}

fn get() -> Request {
    Request::get("/accounts/1")
}
