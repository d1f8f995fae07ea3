//! The program from outside: the real binary, over loopback, between a client, an authorization
//! server and an API that can each misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::let_underscore_must_use,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests fail by panicking, and may ask the time"
)]

#[path = "../../examples/demo/lab/mod.rs"]
mod lab;

mod support;

mod admin;
mod answers;
mod audit;
mod bench;
mod check;
mod dpop;
mod explain;
mod forward;
mod introspection;
mod keys;
mod limits;
mod logs;
mod metadata;
mod raw;
mod reload;
mod routes;
mod store;
mod tls;
mod tokens;
