//! The only room that knows every other: builds, wires, reloads, drains.

mod audit;
mod commands;
mod control;
mod explain;
mod gate;
mod online;
mod serve;
mod status;
mod worker;

pub use commands::main;
pub use gate::{Gate, Running, StartError};
