//! The program between its neighbours, ready to be called.

pub(crate) mod config;
pub(crate) mod gate;
pub(crate) mod stage;

pub(crate) use config::Config;
pub(crate) use gate::Gate;
pub(crate) use stage::Stage;
