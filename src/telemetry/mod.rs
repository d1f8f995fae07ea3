//! What operators see: numbers, one line a request, and everything else on standard error.

pub mod access;
pub mod date;
mod line;
pub mod metrics;
pub mod redact;
mod sink;

pub use access::{AccessRecord, Sink};
pub use date::Timestamp;
pub use line::Format;
pub use metrics::Metrics;
pub use redact::Secret;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Sends events of the process to standard error: of this crate from `level` on, of the libraries
/// only warnings, since some of them log what a peer sent below that.
///
/// # Errors
/// When there is a subscriber already.
pub fn init(format: Format, level: LevelFilter) -> Result<(), String> {
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let set = match format {
        Format::Json => registry
            .with(layer.json().flatten_event(true).with_current_span(false))
            .try_init(),
        Format::Text => registry.with(layer.with_ansi(false)).try_init(),
    };
    set.map_err(|error| error.to_string())
}
