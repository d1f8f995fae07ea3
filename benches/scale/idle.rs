//! Memory: of idle connections, and over time.

use serde_json::{Value, json};

use crate::load::{Heads, Hello, Link, block_on, saturate};
use crate::process::Process;
use crate::report::Report;
use crate::world::{Size, World, request};

/// Up to 10,000 connections, each of which had one request.
pub(crate) fn idle(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let heads = Heads::one(request(0, &world.token(0, key)), 0);
    let gate = world.gate(&Size::default());
    let mut rows = Vec::new();
    let steps: &[usize] = if world.quick {
        &[100, 200]
    } else {
        &[1_000, 5_000, 10_000]
    };
    block_on(async {
        let caller = world.caller(&gate, Hello::default());
        drop(saturate(caller.open_many(1).await.unwrap(), &heads, 1).await);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let empty = gate.memory_kib();
        rows.push(row("none yet", 0, &gate, empty));
        let mut links: Vec<Link> = Vec::new();
        for step in steps {
            while links.len() < *step {
                let mut link = caller.open().await.unwrap();
                heads.call(&mut link).await.unwrap();
                links.push(link);
            }
            rows.push(row("open", links.len(), &gate, empty));
        }
        // They work after that.
        for link in &mut links {
            heads.call(link).await.unwrap();
        }
        rows.push(row("open, used once more", links.len(), &gate, empty));
        drop(links);
        settled(&gate).await;
        rows.push(row("closed again", 0, &gate, empty));
        for time in ["second", "third", "fourth", "fifth"] {
            let mut again = Vec::new();
            for _ in 0..steps[steps.len() - 1] {
                let mut link = caller.open().await.unwrap();
                heads.call(&mut link).await.unwrap();
                again.push(link);
            }
            rows.push(row(
                &format!("open, the {time} time"),
                again.len(),
                &gate,
                empty,
            ));
            drop(again);
            settled(&gate).await;
            rows.push(row("closed again", 0, &gate, empty));
        }
    });
    report.table(
        "idle",
        "Memory of idle mutual-TLS connections, each used for one request (one worker)",
        &[
            "connections",
            "number",
            "MiB",
            "KiB each above none",
            "descriptors",
        ],
        &rows,
    );
}

/// Waits until the gate has closed what its clients have.
async fn settled(gate: &Process) {
    for _ in 0..100 {
        if gate.descriptors() < 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

fn row(name: &str, number: usize, gate: &Process, empty: u64) -> Vec<Value> {
    let memory = gate.memory_kib();
    let each = match number {
        0 => Value::Null,
        number => json!((memory as f64 - empty as f64) / number as f64),
    };
    vec![
        json!(name),
        json!(number),
        json!(memory as f64 / 1024.0),
        each,
        json!(gate.descriptors()),
    ]
}

/// A million requests, a thousand reloads, and requests again.
pub(crate) fn time(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let mut rows = Vec::new();
    let (requests, reloads, steps) = (world.many(1_000_000, 2_000), world.many(1_000, 10), 5);
    let size = Size {
        routes: 100,
        policies: 10,
        ..Size::default()
    };
    // Every other configuration has another policy on its routes and another certificate, so that a
    // reload has something to do.
    let other = Size {
        routes: 101,
        policies: 9,
        certificate: "server-rsa",
        ..Size::default()
    };
    let texts = [world.configuration(&size), world.configuration(&other)];
    let path = world.path("portcullis.toml");
    std::fs::write(&path, &texts[0]).unwrap();
    let gate = Process::gate(&path, true);
    // A thousand tokens in turn, over 32 connections.
    let made = (0..1_000)
        .map(|number| request(number % 100, &world.token(0, key)))
        .collect();
    let heads = Heads::at_random(made);
    let note = |name: String, rows: &mut Vec<Vec<Value>>| {
        let memory = gate.memory_kib() as f64 / 1024.0;
        rows.push(vec![
            json!(name),
            json!(memory),
            json!(gate.descriptors()),
            json!(gate.threads()),
        ]);
    };
    let run = |requests: usize| {
        block_on(async {
            let caller = world.caller(&gate, Hello::default());
            let links = caller.open_many(32).await.unwrap();
            drop(saturate(links, &heads, requests).await);
        });
    };
    note("started".to_owned(), &mut rows);
    run(requests / 100);
    note(format!("{} requests", requests / 100), &mut rows);
    for step in 1..=steps {
        run(requests / steps);
        note(
            format!("{} requests", requests / 100 + requests / steps * step),
            &mut rows,
        );
    }
    for step in 1..=steps {
        for reload in 0..reloads / steps {
            std::fs::write(&path, &texts[(reload + 1) % 2]).unwrap();
            gate.reload();
            // Some traffic over the new one, on new connections.
            if reload % 10 == 9 {
                run(100);
            }
        }
        note(format!("{} reloads", reloads / steps * step), &mut rows);
    }
    run(requests / 10);
    note(format!("and {} requests more", requests / 10), &mut rows);
    report.table(
        "time",
        "Memory over time (100 routes, 10 policies, 1,000 tokens, 32 connections, one worker)",
        &["after", "MiB", "descriptors", "threads"],
        &rows,
    );
}
