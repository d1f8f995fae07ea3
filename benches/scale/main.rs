//! How the real program behaves as things grow: connections, routes, policies, issuers, tokens,
//! workers, bodies, time. What each section measures stands in its file.
//!
//! ```text
//! cargo bench --bench scale                          everything
//! cargo bench --bench scale -- start storm           these sections
//! cargo bench --bench scale -- --quick               a look
//! cargo bench --bench scale -- --json FILE           the figures, too
//! ```
//!
//! With `PORTCULLIS_BENCHED` it is the program of that path that is measured, and not the one that cargo
//! builds beside the bench with the features that the tests ask for.
//!
//! CPU is the time that the threads of the server were on a processor (`schedstat`) by requests. Where
//! there are two cores and more, the server has the first for itself and the load has the others,
//! unless a section says otherwise. Everything is on loopback and ends by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::string_slice,
    clippy::large_futures,
    reason = "a bench stops at what it did not expect, and may ask the time"
)]

#[path = "../../examples/demo/lab/mod.rs"]
mod lab;

mod balance;
mod bodies;
mod curves;
mod handshakes;
mod idle;
mod load;
mod peers;
mod process;
mod report;
mod start;
mod storm;
mod upstream;
mod world;

use report::Report;
use world::World;

type Section = fn(&World, &mut Report);

const SECTIONS: [(&str, Section); 13] = [
    ("start", start::start),
    ("routes", curves::routes),
    ("policies", curves::policies),
    ("issuers", curves::issuers),
    ("tokens", curves::tokens),
    ("workers", curves::workers),
    ("balance", balance::balance),
    ("handshakes", handshakes::handshakes),
    ("storm", storm::storm),
    ("bodies", bodies::bodies),
    ("idle", idle::idle),
    ("time", idle::time),
    ("peers", peers::peers),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo test --benches` starts benches to see that they do, and says no `--bench`.
    let quick = has("--quick") || !has("--bench");
    let file = arguments
        .iter()
        .skip_while(|argument| *argument != "--json")
        .nth(1);
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--") && Some(*argument) != file)
        .collect();
    for name in &wanted {
        let known = SECTIONS.map(|(name, _)| name);
        assert!(
            known.contains(&name.as_str()),
            "no section {name}; there are {known:?}"
        );
    }
    let world = World::new(quick);
    let mut report = Report::default();
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            process::keep_apart(true);
            section(&world, &mut report);
        }
    }
    if let Some(file) = file {
        let text = serde_json::to_string_pretty(&report.json()).unwrap();
        std::fs::write(file, text + "\n").unwrap();
    }
}
