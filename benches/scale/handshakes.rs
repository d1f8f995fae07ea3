//! What a new connection costs: mutual TLS 1.3 and one request, with keys on P-256 and of RSA, with and
//! without the hybrid group, whole and resumed.

use serde_json::json;

use crate::lab::pki::{Identity, KeyKind};
use crate::load::{Caller, Heads, Hello, block_on, connect_over_and_over};
use crate::process::Process;
use crate::report::Report;
use crate::world::{Size, World, request};

const AT_ONCE: usize = 8;

struct Case<'a> {
    server: &'static str,
    gate: &'a Process,
    client: &'a Identity,
    client_key: &'static str,
    hello: Hello,
    cpu: f64,
    resumed: usize,
}

pub(crate) fn handshakes(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "ES256")[0];
    let rsa = world.pki.client_of("client-rsa", KeyKind::Rsa);
    let token_of = |client: &Identity| {
        let draft = world.draft(0).bound_to(&client.thumbprint);
        Heads::one(request(0, &draft.sign(key)), 0)
    };
    let on_curve = world.gate(&Size::default());
    let on_rsa = world.gate(&Size {
        certificate: "server-rsa",
        ..Size::default()
    });
    let mut cases = Vec::new();
    for (server, gate) in [("P-256", &on_curve), ("RSA-2048", &on_rsa)] {
        for (client_key, client) in [("P-256", &world.client), ("RSA-2048", &rsa)] {
            for resume in [false, true] {
                for hybrid in [false, true] {
                    // What a resumed handshake costs does not hang on keys: once is enough.
                    if resume && (server, client_key) != ("P-256", "P-256") {
                        continue;
                    }
                    let hello = Hello { hybrid, resume };
                    cases.push(Case {
                        server,
                        gate,
                        client,
                        client_key,
                        hello,
                        cpu: f64::MAX,
                        resumed: 0,
                    });
                }
            }
        }
    }
    let (rounds, connections) = (world.many(5, 1), world.many(800, 40));
    for round in 0..rounds {
        for turn in 0..cases.len() {
            let at = (turn + round) % cases.len();
            let case = &mut cases[at];
            block_on(async {
                let address = case.gate.address("bank");
                let caller = Caller::new(address, world.pki.server_ca(), case.client, case.hello);
                let heads = token_of(case.client);
                connect_over_and_over(&caller, &heads, AT_ONCE, 4 * AT_ONCE).await;
                caller.resumed();
                let before = case.gate.cpu();
                connect_over_and_over(&caller, &heads, AT_ONCE, connections).await;
                let cpu = (case.gate.cpu() - before).as_secs_f64() * 1e6 / connections as f64;
                case.cpu = case.cpu.min(cpu);
                case.resumed += caller.resumed();
            });
        }
    }
    let first = cases[0].cpu;
    let row = |case: &Case<'_>| {
        let resumed = 100.0 * case.resumed as f64 / (rounds * connections) as f64;
        vec![
            json!(case.server),
            json!(case.client_key),
            json!(if case.hello.hybrid {
                "X25519MLKEM768"
            } else {
                "X25519"
            }),
            json!(if case.hello.resume { "resumed" } else { "full" }),
            json!(case.cpu),
            json!(case.cpu / first),
            json!(resumed.round() as u64),
        ]
    };
    let rows: Vec<_> = cases.iter().map(row).collect();
    report.table(
        "handshakes",
        &format!(
            "CPU of a new mutual-TLS connection with one request ({rounds} rounds of {connections}, \
             {AT_ONCE} at once, the least)"
        ),
        &["server's key", "client's key", "group", "handshake", "CPU, us", "to the first", "resumed, %"],
        &rows,
    );
}
