//! CPU of a request as the configuration, the tokens or the workers grow. All gates of a curve run at
//! once, of which only one has work; rounds go through them in turn, and the least counts.

use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::load::{Caller, Heads, Hello, Link, block_on, saturate};
use crate::process::{Process, cores, keep_apart};
use crate::report::Report;
use crate::world::{Size, World, request};

/// Keep-alive connections of the load.
const CONNECTIONS: usize = 32;

/// One point of a curve.
struct Point {
    gate: Process,
    heads: Rc<Heads>,
    cpu: f64,
    rate: f64,
}

impl Point {
    const fn new(gate: Process, heads: Rc<Heads>) -> Self {
        Self {
            gate,
            heads,
            cpu: f64::MAX,
            rate: 0.0,
        }
    }

    /// One round.
    async fn round(&mut self, links: Vec<Link>, requests: usize) -> Vec<Link> {
        let (before, began) = (self.gate.cpu(), Instant::now());
        let links = saturate(links, &self.heads, requests).await;
        let took = began.elapsed().as_secs_f64();
        let cpu = (self.gate.cpu() - before).as_secs_f64() * 1e6 / requests as f64;
        self.cpu = self.cpu.min(cpu);
        self.rate = self.rate.max(requests as f64 / took);
        links
    }
}

/// Rounds through all points.
fn measure(world: &World, points: &mut [Point]) -> String {
    let (rounds, requests) = (world.many(7, 1), world.many(12_000, 600));
    block_on(async {
        let callers: Vec<Caller> = points
            .iter()
            .map(|point| world.caller(&point.gate, Hello::default()))
            .collect();
        let mut open = Vec::new();
        for (point, caller) in points.iter().zip(&callers) {
            let links = caller.open_many(CONNECTIONS).await.unwrap();
            // Every route and token once.
            let warm = world.many(12_000, 600);
            open.push(saturate(links, &point.heads, warm).await);
        }
        for round in 0..rounds {
            for turn in 0..points.len() {
                let at = (turn + round) % points.len();
                let links = std::mem::take(&mut open[at]);
                open[at] = points[at].round(links, requests).await;
            }
        }
    });
    format!("{rounds} rounds of {requests} requests over {CONNECTIONS} connections, the least")
}

fn rows(counts: &[usize], points: &[Point]) -> Vec<Vec<Value>> {
    let row = |(count, point): (&usize, &Point)| {
        vec![
            json!(count),
            json!(point.cpu),
            json!(point.cpu / points[0].cpu),
            json!(point.gate.memory_kib() as f64 / 1024.0),
        ]
    };
    counts.iter().zip(points).map(row).collect()
}

/// 10 to 10,000 routes, all of them in use.
pub(crate) fn routes(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let token = world.token(0, key);
    let counts = [10, 100, 1_000, 10_000];
    let mut points: Vec<Point> = counts
        .iter()
        .map(|routes| {
            let size = Size {
                routes: *routes,
                ..Size::default()
            };
            let heads = (0..*routes).map(|route| request(route, &token)).collect();
            Point::new(world.gate(&size), Heads::at_random(heads))
        })
        .collect();
    let how = measure(world, &mut points);
    report.table(
        "routes",
        &format!("CPU a request by routes, all in use at random ({how})"),
        &["routes", "CPU a request, us", "to the first", "MiB held"],
        &rows(&counts, &points),
    );
}

/// 1 to 1,000 policies, behind 1,000 routes.
pub(crate) fn policies(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let token = world.token(0, key);
    let counts = [1, 10, 100, 1_000];
    let mut points: Vec<Point> = counts
        .iter()
        .map(|policies| {
            let size = Size {
                routes: 1_000,
                policies: *policies,
                ..Size::default()
            };
            let heads = (0..1_000).map(|route| request(route, &token)).collect();
            Point::new(world.gate(&size), Heads::at_random(heads))
        })
        .collect();
    let how = measure(world, &mut points);
    report.table(
        "policies",
        &format!("CPU a request by policies, of 1,000 routes in use at random ({how})"),
        &["policies", "CPU a request, us", "to the first", "MiB held"],
        &rows(&counts, &points),
    );
}

/// 1 to 50 issuers, each with a token in use.
pub(crate) fn issuers(world: &World, report: &mut Report) {
    let keys = world.issuers(50, "ES256");
    let tokens: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(issuer, key)| world.token(issuer, key))
        .collect();
    let counts = [1, 5, 10, 50];
    let mut points: Vec<Point> = counts
        .iter()
        .map(|issuers| {
            let size = Size {
                issuers: *issuers,
                ..Size::default()
            };
            // Fifty tokens in every case, so that only the issuers differ.
            let heads = (0..50)
                .map(|number| match number % issuers {
                    issuer if issuer == number => request(0, &tokens[issuer]),
                    issuer => request(0, &world.token(issuer, &keys[issuer])),
                })
                .collect();
            Point::new(world.gate(&size), Heads::at_random(heads))
        })
        .collect();
    let how = measure(world, &mut points);
    report.table(
        "issuers",
        &format!("CPU a request by issuers, 50 remembered tokens in use at random ({how})"),
        &["issuers", "CPU a request, us", "to the first", "MiB held"],
        &rows(&counts, &points),
    );
}

/// 1 to 1,000,000 live tokens in use at random. Of the largest numbers only those are made that come
/// up: as many requests as fill the cache twice over go first.
pub(crate) fn tokens(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let mut rows = Vec::new();
    let counts: &[usize] = if world.quick {
        &[1, 1_000]
    } else {
        &[1, 1_000, 10_000, 30_000, 100_000, 1_000_000]
    };
    for live in counts {
        let gate = world.gate(&Size::default());
        let (warm, requests) = match (*live, world.quick) {
            (_, true) => (600, 600),
            (1_000_000, _) => (120_000, 12_000),
            (live, _) => (live.max(4_000) * 3, 12_000),
        };
        let rounds = world.many(5, 1);
        // Which token is used when is drawn first; then those that came up are made.
        let drawn = draw(*live, warm + rounds * requests);
        let heads = made(world, key, &drawn);
        let mut least = f64::MAX;
        let (mut hits, mut misses) = (0.0, 0.0);
        block_on(async {
            let caller = world.caller(&gate, Hello::default());
            let links = caller.open_many(CONNECTIONS).await.unwrap();
            let heads = Heads::in_turn(heads);
            let mut links = saturate(links, &heads, warm).await;
            let asked = || {
                (
                    gate.metric("portcullis_token_cache_hits_total"),
                    gate.metric("portcullis_token_cache_misses_total"),
                )
            };
            let before = asked();
            for _ in 0..rounds {
                let cpu = gate.cpu();
                links = saturate(links, &heads, requests).await;
                least = least.min((gate.cpu() - cpu).as_secs_f64() * 1e6 / requests as f64);
            }
            let after = asked();
            (hits, misses) = (after.0 - before.0, after.1 - before.1);
        });
        rows.push(vec![
            json!(live),
            json!(least),
            json!(100.0 * hits / (hits + misses).max(1.0)),
            json!(gate.metric("portcullis_token_cache_entries") as u64),
            json!(gate.memory_kib() as f64 / 1024.0),
        ]);
    }
    report.table(
        "tokens",
        "CPU a request by live tokens (ES256), in use at random",
        &[
            "live tokens",
            "CPU a request, us",
            "remembered, %",
            "in the cache",
            "MiB held",
        ],
        &rows,
    );
}

fn draw(live: usize, number: usize) -> Vec<u32> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state % live as u64).unwrap()
    };
    (0..number).map(|_| next()).collect()
}

/// The requests with the tokens that were drawn, made on all cores.
fn made(world: &World, key: &crate::lab::jose::SigningKey, drawn: &[u32]) -> Vec<Vec<u8>> {
    let mut wanted: Vec<u32> = drawn.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    keep_apart(false);
    let each = wanted.len().div_ceil(cores());
    let heads: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let make = |part: &[u32]| {
            part.iter()
                .map(|_| request(0, &world.token(0, key)))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = wanted
            .chunks(each)
            .map(|part| scope.spawn(move || make(part)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    keep_apart(true);
    let at = |number: &u32| wanted.binary_search(number).unwrap();
    drawn
        .iter()
        .map(|number| heads[at(number)].clone())
        .collect()
}

/// Workers, on every core that there is. The load needs as much of the same cores.
pub(crate) fn workers(world: &World, report: &mut Report) {
    keep_apart(false);
    let key = &world.issuers(1, "ES256")[0];
    let token = world.token(0, key);
    let counts = [1, 2, 4, 8];
    let mut points: Vec<Point> = counts
        .iter()
        .map(|workers| {
            let size = Size {
                workers: *workers,
                ..Size::default()
            };
            let gate = Process::gate(&world.write("workers.toml", &size), false);
            Point::new(gate, Heads::one(request(0, &token), 0))
        })
        .collect();
    let how = measure(world, &mut points);
    let row = |(count, point): (&usize, &Point)| {
        vec![
            json!(count),
            json!(point.cpu),
            json!(point.cpu / points[0].cpu),
            json!(point.rate),
        ]
    };
    let rows: Vec<_> = counts.iter().zip(&points).map(row).collect();
    report.table(
        "workers",
        &format!("By workers, {} cores shared with the load ({how})", cores()),
        &[
            "workers",
            "CPU a request, us",
            "to the first",
            "requests a second, at best",
        ],
        &rows,
    );
}
