//! From the start of the process to its line `ready`, when it listens and has its keys.

use serde_json::{Value, json};

use crate::process::{Process, keep_apart};
use crate::report::Report;
use crate::world::{Size, World};

pub(crate) fn start(world: &World, report: &mut Report) {
    // As it will be: on every core.
    keep_apart(false);
    world.issuers(1, "ES256");
    let rounds = world.many(15, 2);
    let mut rows = Vec::new();
    for (routes, policies) in [(10, 1), (100, 10), (1_000, 100), (10_000, 1_000)] {
        if world.quick && routes > 1_000 {
            continue;
        }
        let size = Size {
            workers: 2,
            routes,
            policies,
            ..Size::default()
        };
        let config = world.write("start.toml", &size);
        let mut memory = 0;
        let mut times: Vec<f64> = (0..rounds)
            .map(|_| {
                let gate = Process::gate(&config, false);
                memory = gate.memory_kib();
                gate.started_in.as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let kib = std::fs::metadata(&config).unwrap().len() / 1024;
        let row: Vec<Value> = vec![
            json!(routes),
            json!(policies),
            json!(kib),
            json!(times[0]),
            json!(times[times.len() / 2]),
            json!(times[times.len() - 1]),
            json!(memory as f64 / 1024.0),
        ];
        rows.push(row);
    }
    report.table(
        "start",
        &format!("Start to ready, ms, {rounds} starts each"),
        &[
            "routes",
            "policies",
            "KiB of TOML",
            "least",
            "median",
            "most",
            "MiB held",
        ],
        &rows,
    );
}
