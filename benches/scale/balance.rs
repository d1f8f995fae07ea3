//! How evenly the kernel deals out few long-lived connections among the workers' sockets
//! (`SO_REUSEPORT`), and what that costs.

use serde_json::{Value, json};

use crate::load::{Heads, Hello, block_on, saturate};
use crate::process::{Process, cores, keep_apart};
use crate::report::Report;
use crate::world::{Size, World, request};

pub(crate) fn balance(world: &World, report: &mut Report) {
    keep_apart(false);
    let key = &world.issuers(1, "ES256")[0];
    let heads = Heads::one(request(0, &world.token(0, key)), 0);
    let (draws, each) = (world.many(20, 2), 100);
    let mut rows = Vec::new();
    for workers in [2, 4] {
        let size = Size {
            workers,
            ..Size::default()
        };
        let gate = Process::gate(&world.write("balance.toml", &size), false);
        for connections in [2, 4, 8, 16, 64, 256] {
            let mut shares: Vec<f64> = (0..draws)
                .map(|_| busiest(world, &gate, &heads, connections, each))
                .collect();
            shares.sort_by(f64::total_cmp);
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let alone = shares.iter().filter(|share| **share > 0.99).count();
            let row: Vec<Value> = vec![
                json!(workers),
                json!(connections),
                json!(100.0 / workers as f64),
                json!(mean * 100.0),
                json!(shares[shares.len() - 1] * 100.0),
                json!(format!("{alone} of {draws}")),
            ];
            rows.push(row);
        }
    }
    report.table(
        "balance",
        &format!(
            "Share of the busiest worker, by connections that are open all the time and equally busy \
             ({draws} draws, {} cores)",
            cores()
        ),
        &["workers", "connections", "even share, %", "mean, %", "worst, %", "one worker had all"],
        &rows,
    );
}

/// The part of the work that the busiest worker had.
fn busiest(
    world: &World,
    gate: &Process,
    heads: &std::rc::Rc<Heads>,
    connections: usize,
    each: usize,
) -> f64 {
    block_on(async {
        let caller = world.caller(gate, Hello::default());
        let links = caller.open_many(connections).await.unwrap();
        // The handshakes are not counted.
        let links = saturate(links, heads, connections).await;
        let before = gate.cpu_of_workers();
        drop(crate::load::evenly(links, heads, each).await);
        let after = gate.cpu_of_workers();
        let spent: Vec<f64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| (*after - *before).as_secs_f64())
            .collect();
        let most = spent.iter().copied().fold(0.0, f64::max);
        most / spent.iter().sum::<f64>()
    })
}
