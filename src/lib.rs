//! Portcullis: a policy enforcement point that gives existing bank APIs Financial-grade API (FAPI)
//! security without touching them.
//!
//! # The life of a request
//!
//! 1. [`listener`] accepts a connection, [`tls`] does the handshake: the client is a
//!    [`pdp::Peer`] now, with the certificate whose key it holds.
//! 2. [`http`] reads a request from it and calls [`pipeline::serve`], which is the rest of this
//!    list.
//! 3. [`pdp::RequestHead`]: the canonical request, one host and one path. What cannot be
//!    understood in one way only ends here.
//! 4. [`pdp::route()`] finds the one best pattern; [`pdp::begin`] the token in it.
//! 5. While the core has a question ([`pdp::Ask`]), [`pip`] answers it: keys of the issuer, or a
//!    token that was verified before.
//! 6. [`pdp::Authorized`]: the permit, which *contains* the request. Or a [`refusal::Refusal`], a
//!    row of the one table.
//! 7. [`upstream::forward`] takes the permit and sends the request on.
//! 8. [`http::respond`] makes the answer, [`telemetry`] the line in the log.
//!
//! The core, [`pdp`] and [`refusal`], is pure: no I/O, no clock, no lock. Everything else acts and
//! never judges. `ARCHITECTURE.md` says who may know whom, and what holds it.

pub mod admin;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod listener;
pub mod loopback;
pub mod outbound;
pub mod pdp;
pub mod pip;
pub mod pipeline;
pub mod refusal;
pub mod replay;
pub mod revocation;
pub mod telemetry;
pub mod tls;
pub mod upstream;
