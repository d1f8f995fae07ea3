//! Portcullis: a policy enforcement point that gives existing bank APIs Financial-grade API (FAPI)
//! security without touching them.

pub mod cli;
pub mod clock;
pub mod config;
pub mod pdp;
pub mod refusal;
pub mod telemetry;

pub mod http;
pub mod listener;
pub mod outbound;
pub mod pip;
pub mod tls;
pub mod upstream;
