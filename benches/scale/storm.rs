//! What established connections feel while new ones storm in: latencies from the moment a request was
//! due, at a fixed rate, alone and during storms of full handshakes.
//!
//! The storm is on threads of lowest priority, so that the load's own core delays the measured
//! connections as little as can be; how much it does all the same shows in the row in which these
//! threads only burn their core.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::{Caller, Heads, Hello, at_rate, block_on, quantile};
use crate::process::{Process, keep_apart};
use crate::report::Report;
use crate::world::{Size, World, request};

/// Requests a second over established connections.
const RATE: u32 = 1_000;
/// Established connections.
const ESTABLISHED: usize = 16;

/// What goes on beside the established traffic.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// The load's core is busy, the server's is not.
    Burning,
    /// So many clients, each of which connects anew as soon as it was answered.
    Storm(usize),
    /// So many connections a second.
    Steady(u32),
}

const ALL: [Beside; 6] = [
    Beside::Nothing,
    Beside::Burning,
    Beside::Steady(500),
    Beside::Storm(8),
    Beside::Storm(64),
    Beside::Storm(256),
];

pub(crate) fn storm(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let token = world.token(0, key);
    let time = Duration::from_secs(if world.quick { 1 } else { 6 });
    let mut rows = Vec::new();
    let with = |workers| Size {
        workers,
        ..Size::default()
    };
    keep_apart(true);
    let gate = world.gate(&with(1));
    for beside in ALL {
        rows.push(row(
            world,
            ("Portcullis, one worker", &gate),
            &token,
            beside,
            time,
        ));
    }
    drop(gate);
    if let Some(nginx) = crate::peers::nginx(world) {
        for beside in ALL {
            rows.push(row(
                world,
                ("nginx, one worker", &nginx),
                &token,
                beside,
                time,
            ));
        }
    }
    keep_apart(false);
    let gate = Process::gate(&world.write("storm.toml", &with(2)), false);
    for beside in ALL {
        rows.push(row(
            world,
            ("Portcullis, two workers on all cores", &gate),
            &token,
            beside,
            time,
        ));
    }
    report.table(
        "storm",
        &format!(
            "Latency of {RATE} requests a second over {ESTABLISHED} established connections, us, {} s each",
            time.as_secs()
        ),
        &["server", "beside", "new connections a second", "p50", "p99", "p99.9", "most", "CPU of the server, %"],
        &rows,
    );
}

fn row(
    world: &World,
    (server, gate): (&str, &Process),
    token: &str,
    beside: Beside,
    time: Duration,
) -> Vec<Value> {
    let (stop, made) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let head = request(0, token);
    let (times, rate, busy) = std::thread::scope(|scope| {
        let (stop_it, made_it, storm_head) = (Arc::clone(&stop), Arc::clone(&made), head.clone());
        scope.spawn(move || match beside {
            Beside::Nothing => {}
            Beside::Burning => {
                yield_to_others();
                while !stop_it.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
            Beside::Storm(clients) => {
                yield_to_others();
                block_on(storm_of(
                    &world.caller(gate, Hello::default()),
                    storm_head,
                    clients,
                    None,
                    &stop_it,
                    &made_it,
                ));
            }
            Beside::Steady(rate) => {
                yield_to_others();
                let pause = Duration::from_secs(1) * 8 / rate;
                block_on(storm_of(
                    &world.caller(gate, Hello::default()),
                    storm_head,
                    8,
                    Some(pause),
                    &stop_it,
                    &made_it,
                ));
            }
        });
        let measured = block_on(async {
            let caller = world.caller(gate, Hello::default());
            let heads = Heads::one(head, 0);
            let links = caller.open_many(ESTABLISHED).await.unwrap();
            let links = crate::load::saturate(links, &heads, 320).await;
            // The storm rises.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (before, began, cpu) = (made.load(Ordering::Relaxed), Instant::now(), gate.cpu());
            let times = at_rate(links, &heads, RATE, time).await;
            let took = began.elapsed().as_secs_f64();
            let rate = (made.load(Ordering::Relaxed) - before) as f64 / took;
            (times, rate, (gate.cpu() - cpu).as_secs_f64() / took)
        });
        stop.store(true, Ordering::Relaxed);
        measured
    });
    let name = match beside {
        Beside::Nothing => "nothing".to_owned(),
        Beside::Burning => "the load's core busy".to_owned(),
        Beside::Steady(rate) => format!("{rate} new connections a second"),
        Beside::Storm(clients) => format!("a storm of {clients} clients"),
    };
    let at = |part| json!(quantile(&times, part).round() as u64);
    vec![
        json!(server),
        json!(name),
        json!(rate.round() as u64),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        json!((busy * 100.0).round() as u64),
    ]
}

/// New connections with a full handshake and one request each, until told to stop.
async fn storm_of(
    caller: &Caller,
    head: Vec<u8>,
    clients: usize,
    pause: Option<Duration>,
    stop: &Arc<AtomicBool>,
    made: &Arc<AtomicUsize>,
) {
    let heads = Heads::one(head, 0);
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (caller, heads) = (caller.clone(), std::rc::Rc::clone(&heads));
            let (stop, made) = (Arc::clone(stop), Arc::clone(made));
            tokio::task::spawn_local(async move {
                let mut due = tokio::time::Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    if let Some(pause) = pause {
                        due += pause;
                        tokio::time::sleep_until(due).await;
                    }
                    // A handshake that waited too long was refused, as it should be.
                    if let Ok(mut link) = caller.open().await
                        && heads.call(&mut link).await.is_ok()
                    {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Puts this thread behind all others that want its core.
fn yield_to_others() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let id = thread.file_name().unwrap().to_string_lossy().into_owned();
    let done = Command::new("renice")
        .args(["-n", "19", "-p", &id])
        .output();
    assert!(
        done.is_ok_and(|done| done.status.success()),
        "renice of util-linux is needed"
    );
}
