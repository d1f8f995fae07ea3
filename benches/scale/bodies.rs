//! Bodies of 10 MiB, up and down: CPU, and whether memory stays flat however many there are.

use serde_json::json;

use crate::load::{Heads, Hello, block_on, saturate};
use crate::report::Report;
use crate::upstream::LARGE;
use crate::world::{Size, World, get};

pub(crate) fn bodies(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let token = world.token(0, key);
    let mut rows = Vec::new();
    for (direction, at_once) in [
        ("down", 1),
        ("down", 2),
        ("down", 16),
        ("up", 1),
        ("up", 2),
        ("up", 16),
    ] {
        // A process of its own each, for its peak.
        let gate = world.gate(&Size::default());
        let heads = match direction {
            "down" => Heads::one(get("/large/1", &token), 0),
            _ => Heads::one(post(&token), LARGE),
        };
        let (rounds, each) = (world.many(7, 1), world.many(32, 16));
        let mut least = f64::MAX;
        let mut held = 0;
        block_on(async {
            let caller = world.caller(&gate, Hello::default());
            let links = caller.open_many(at_once).await.unwrap();
            held = gate.memory_kib();
            let mut links = saturate(links, &heads, at_once).await;
            for _ in 0..rounds {
                let before = gate.cpu();
                links = saturate(links, &heads, each).await;
                least = least.min((gate.cpu() - before).as_secs_f64() * 1e3 / each as f64);
            }
        });
        rows.push(vec![
            json!(direction),
            json!(at_once),
            json!(least),
            json!(least / 1e3 * 1024.0 / 10.0),
            json!(held as f64 / 1024.0),
            json!(gate.peak_kib() as f64 / 1024.0),
            json!(rounds * each + at_once),
        ]);
    }
    report.table(
        "bodies",
        "Bodies of 10 MiB (the least of the rounds)",
        &[
            "direction",
            "at once",
            "CPU a body, ms",
            "CPU s a GiB",
            "MiB before",
            "MiB at the peak",
            "bodies",
        ],
        &rows,
    );
}

fn post(token: &str) -> Vec<u8> {
    format!(
        "POST /large/1 HTTP/1.1\r\nHost: api.bank.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {LARGE}\r\n\r\n"
    )
    .into_bytes()
}
