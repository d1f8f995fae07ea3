//! The store of used proofs that replicas share (DPOP-22 to DPOP-25, DPOP-40), with real servers of
//! Redis or Valkey: raced for, paused, killed, failed over. Where neither is installed nothing is
//! run, and the tests say so.

#[path = "../replay/servers.rs"]
#[allow(dead_code, reason = "tests/replay uses the rest")]
mod servers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use self::servers::{Pki, Set};
use crate::lab::client::{Answer, Client, Request};
use crate::lab::h2::Http2;
use crate::lab::jose::{Proof, SigningKey, thumbprint};
use crate::support::stage::assert_refused;
use crate::support::{Config, Gate, Stage};

const URL: &str = "https://api.bank.test";

/// After a start or a loss of the store, proofs of before are refused for this long and a little.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stage, and a client of DPoP on it.
struct Play {
    stage: Stage,
    key: SigningKey,
    token: String,
}

impl Play {
    fn new() -> Self {
        let stage = Stage::new();
        let key = SigningKey::new("dpop", "ES256");
        let draft = stage.draft();
        let draft = draft.claim("cnf", serde_json::json!({"jkt": thumbprint(&key)}));
        let token = stage.issuer.sign(&draft);
        Self { stage, key, token }
    }

    /// With this as `replay`; route `local` makes do without the store.
    fn config(&self, replay: &str) -> Config {
        let mut config = self.stage.config().route(
            "local",
            "/local/**",
            "policy = { scopes = [\"accounts\"], dpop = { replay_unavailable = \"local\" } }",
        );
        config.top = format!("dpop = {{ replay = {{ {replay} }} }}\n");
        config
    }

    fn start(&self, replay: &str) -> Gate {
        self.stage.start(&self.config(replay))
    }

    /// Writes the file anew and has it read.
    fn reload(&self, gate: &Gate, replay: &str) {
        self.stage.write(&self.config(replay));
        gate.reload();
    }

    fn client(&self, gate: &Gate) -> Client {
        self.stage.anonymous(gate)
    }

    /// A request with a proof of its own. The proof is made by a client whose clock is ahead, so
    /// that it is newer than what a store lost a moment ago.
    fn request(&self, path: &str) -> Request {
        let proof = Proof::new(&self.key, "GET", &format!("{URL}{path}"), &self.token);
        let proof = proof.claim("iat", crate::lab::now() + 8);
        Request::get(path)
            .field("Authorization", &format!("DPoP {}", self.token))
            .field("DPoP", &proof.sign(&self.key))
    }

    fn call(&self, gate: &Gate, request: &Request) -> Answer {
        self.client(gate).call(request).unwrap()
    }

    /// Waits until new proofs pass; meanwhile nothing but 503 is heard.
    fn serves(&self, gate: &Gate) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(gate, &self.request("/accounts/0"));
            if answer.status == 200 {
                return;
            }
            assert_away(&answer);
            assert!(Instant::now() < until, "{}", gate.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// It could not be known whether the proof was used.
#[track_caller]
fn assert_away(answer: &Answer) {
    assert_refused(answer, 503, "replay_unavailable");
    let after = answer.field("retry-after").map(str::parse::<u64>);
    assert!(matches!(after, Some(Ok(1..=120))), "{after:?}");
}

fn redis(url: &str) -> String {
    format!("store = \"redis\", url = {url:?}")
}

/// `rounds` times a thousand copies of one proof at once, over all these gates; how long it took.
fn race(play: &Play, gates: &[&Gate], rounds: usize) -> Duration {
    const CONNECTIONS: usize = 10;
    const EACH: usize = 100;
    // Each is made in its turn: a proof does not live long.
    let requests: Vec<OnceLock<Request>> = (0..rounds).map(|_| OnceLock::new()).collect();
    let passed: Vec<AtomicUsize> = requests.iter().map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(CONNECTIONS);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (_, gate) in (0..CONNECTIONS).zip(gates.iter().cycle()) {
            let (requests, passed, barrier) = (&requests, &passed, &barrier);
            scope.spawn(move || {
                let client = play.client(gate).alpn(&["h2"]);
                let mut connection = Http2::open(&client).unwrap();
                for (request, passed) in requests.iter().zip(passed) {
                    let request = request.get_or_init(|| play.request("/accounts/1"));
                    barrier.wait();
                    for answer in connection.call_all(&vec![request.clone(); EACH]) {
                        let answer = answer.unwrap();
                        if answer.status == 200 {
                            passed.fetch_add(1, Ordering::Relaxed);
                        } else {
                            assert_refused(&answer, 401, "proof_replayed");
                        }
                    }
                }
            });
        }
    });
    let passed: Vec<usize> = passed.into_iter().map(AtomicUsize::into_inner).collect();
    assert_eq!(passed, vec![1; rounds]);
    began.elapsed()
}

fn races(rounds: usize) {
    let play = Play::new();
    let gate = play.start("store = \"memory\"");
    let took = race(&play, &[&gate], rounds);
    eprintln!("{rounds} races of 1000 in one process: {took:?}");
    let Some(set) = Set::new() else { return };
    let server = set.server(&[]);
    // A thousand at once on two cores: no answer may be lost to the clock.
    let replay = redis(&server.url()) + ", timeout = \"5s\"";
    let (one, two) = (play.start(&replay), play.start(&replay));
    play.serves(&one);
    play.serves(&two);
    let took = race(&play, &[&one, &two], rounds);
    eprintln!("{rounds} races of 1000 over two processes: {took:?}");
    let uses = |gate: &Gate, result| gate.metric("portcullis_replay_uses_total", &[result]);
    for result in ["first", "repeated"] {
        assert!(uses(&one, result) + uses(&two, result) >= rounds as f64);
    }
    assert_eq!(uses(&one, "unreachable") + uses(&two, "unreachable"), 0.0);
}

#[test]
fn of_a_thousand_copies_over_two_processes_exactly_one_passes() {
    // DPOP-22, DPOP-24, DPOP-40
    races(5);
}

#[test]
#[ignore = "the same for longer: some minutes"]
fn of_a_thousand_copies_over_two_processes_exactly_one_passes_fifty_times() {
    races(50);
}

#[test]
fn while_the_store_hangs_nothing_passes_and_nothing_is_wrongly_refused() {
    // DPOP-25
    let Some(set) = Set::new() else { return };
    let play = Play::new();
    let server = set.server(&[]);
    let replay = redis(&server.url()) + ", breaker = { failures = 2, open_for = \"200ms\" }";
    let gate = play.start(&replay);
    play.serves(&gate);
    let status = &gate.status()["replay"];
    assert_eq!(status["reachable"], true, "{status}");
    assert!(
        status["store"]
            .as_str()
            .unwrap()
            .starts_with("redis://127.0.0.1:")
    );
    let used = play.request("/accounts/1");
    assert_eq!(play.call(&gate, &used).status, 200);

    server.pause();
    let mut tried = Vec::new();
    for at in 0..20 {
        let request = play.request(&format!("/accounts/{at}"));
        let began = Instant::now();
        assert_away(&play.call(&gate, &request));
        assert!(began.elapsed() < Duration::from_secs(5));
        tried.push(request);
    }
    gate.until("it is seen", || {
        gate.status()["replay"]["reachable"] == false
    });
    assert_eq!(gate.status()["degraded"], true);
    assert_eq!(gate.metric("portcullis_replay_store_reachable", &[]), 0.0);
    assert_eq!(
        gate.admin("/readyz").status,
        200,
        "a later loss is no reason to leave"
    );
    // Known here, whoever is away.
    assert_refused(&play.call(&gate, &used), 401, "proof_replayed");
    // Certificates need no store, nor does a route that makes do without.
    let bound = play.stage.client(&gate);
    let answer = bound.call(&Request::get("/accounts/1").token(&play.stage.token()));
    assert_eq!(answer.unwrap().status, 200);
    let local = play.request("/local/1");
    assert_eq!(play.call(&gate, &local).status, 200);
    assert_refused(&play.call(&gate, &local), 401, "proof_replayed");

    server.go_on();
    play.serves(&gate);
    assert_eq!(gate.status()["degraded"], false);
    // Of what was written while nobody heard of it nothing passes; what was not sent may, once.
    for request in tried.iter().chain([&used, &local]) {
        let passed = (0..3).filter(|_| play.call(&gate, request).status == 200);
        assert!(passed.count() <= 1);
    }
    assert_refused(&play.call(&gate, &local), 401, "proof_replayed");
}

#[test]
fn where_the_policy_makes_do_without_a_proof_passes_once_a_process() {
    // DPOP-25
    let Some(set) = Set::new() else { return };
    let play = Play::new();
    let mut server = set.server(&[]);
    let replay = redis(&server.url()) + ", breaker = { failures = 1, open_for = \"100ms\" }";
    let (one, two) = (play.start(&replay), play.start(&replay));
    play.serves(&one);
    play.serves(&two);
    let shared = play.request("/local/shared");
    assert_eq!(play.call(&one, &shared).status, 200);
    assert_refused(&play.call(&two, &shared), 401, "proof_replayed");

    server.kill();
    for gate in [&one, &two] {
        let away = || gate.status()["replay"]["reachable"] == false;
        gate.until("it is seen", away);
    }
    let alone = play.request("/local/alone");
    for gate in [&one, &two] {
        assert_eq!(
            play.call(gate, &alone).status,
            200,
            "what local cannot promise"
        );
        for _ in 0..3 {
            assert_refused(&play.call(gate, &alone), 401, "proof_replayed");
        }
        assert_away(&play.call(gate, &play.request("/accounts/1")));
        assert!(gate.metric("portcullis_replay_stood_in_total", &[]) >= 1.0);
    }
    // Of copies at once one passes.
    let copies = play.request("/local/copies");
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Http2::open(&play.client(&one).alpn(&["h2"])).unwrap();
                    let answers = connection.call_all(&vec![copies.clone(); 25]);
                    let passed = answers.into_iter().map(Result::unwrap);
                    passed.filter(|answer| answer.status == 200).count()
                })
            })
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(passed, 1);

    server.start_again();
    play.serves(&one);
    play.serves(&two);
    for request in [&shared, &alone, &copies] {
        assert_refused(&play.call(&one, request), 401, "proof_replayed");
    }
    assert_refused(&play.call(&two, &alone), 401, "proof_replayed");
}

fn check_online(play: &Play) -> (Option<i32>, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--online", "--config"])
        .arg(play.stage.path("portcullis.toml"))
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_store_behind_tls_and_a_password_is_reached_with_both_alone() {
    // DPOP-24, DPOP-25
    let Some(set) = Set::new() else { return };
    if !set.has_tls() {
        eprintln!("replay: NOT RUN (the server was built without TLS)");
        return;
    }
    let play = Play::new();
    let (pki, other) = (Pki::new(&set), Pki::new(&set));
    let server = set.server(&pki.arguments("right-horse"));
    let url = |password: &str| {
        let text = format!("rediss://:{password}@localhost:{}\n", server.port());
        std::fs::write(play.stage.path("store-url"), text).unwrap();
    };
    let replay = |ca: &str| {
        format!(
            "store = \"redis\", url = {{ file = \"store-url\" }}, ca = [{ca:?}], breaker = {{ failures = 1, open_for = \"100ms\" }}"
        )
    };
    url("wrong-horse");
    let gate = play.start(&replay(pki.ca()));
    gate.until("why", || {
        let error = &gate.status()["replay"]["last_error"];
        error
            .as_str()
            .is_some_and(|error| error.contains("authentication failed"))
    });
    assert_away(&play.call(&gate, &play.request("/accounts/1")));
    let (code, said) = check_online(&play);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("failed: replay store rediss://localhost:"),
        "{said}"
    );
    assert!(said.contains("authentication failed"), "{said}");

    // The password is put right in its file: that is a change of settings.
    url("right-horse");
    gate.reload();
    play.serves(&gate);
    let (code, said) = check_online(&play);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("ok: replay store rediss://localhost:"),
        "{said}"
    );
    let used = play.request("/accounts/1");
    assert_eq!(play.call(&gate, &used).status, 200);

    // Another authority: nothing is said to a server that it does not vouch for.
    play.reload(&gate, &replay(other.ca()));
    gate.until("it is seen", || {
        gate.status()["replay"]["reachable"] == false
    });
    assert_away(&play.call(&gate, &play.request("/accounts/2")));
    assert_refused(&play.call(&gate, &used), 401, "proof_replayed");
    play.reload(&gate, &replay(pki.ca()));
    play.serves(&gate);
    assert_refused(&play.call(&gate, &used), 401, "proof_replayed");
    let logs = gate.stdout() + &gate.stderr();
    assert!(!logs.contains("horse"), "a password in a log: {logs}");
}

#[test]
fn a_change_of_the_store_makes_no_used_proof_new() {
    // DPOP-22, DPOP-24
    let Some(set) = Set::new() else { return };
    let play = Play::new();
    let (a, b) = (set.server(&[]), set.server(&[]));
    let (one, two) = (
        play.start("store = \"memory\""),
        play.start("store = \"memory\""),
    );
    let of_memory = play.request("/accounts/memory");
    assert_eq!(play.call(&one, &of_memory).status, 200);
    for gate in [&one, &two] {
        play.reload(gate, &redis(&a.url()));
        play.serves(gate);
    }
    assert_refused(&play.call(&one, &of_memory), 401, "proof_replayed");
    let of_a = play.request("/accounts/a");
    assert_eq!(play.call(&one, &of_a).status, 200);
    assert_refused(&play.call(&two, &of_a), 401, "proof_replayed");
    let of_a = play.request("/accounts/a");
    assert_eq!(play.call(&one, &of_a).status, 200);
    // Another timeout for the same store: nobody notices.
    play.reload(&two, &(redis(&a.url()) + ", timeout = \"2s\""));
    assert_eq!(play.call(&two, &play.request("/accounts/a")).status, 200);
    // Another store: what only the first one knew is refused, and new proofs pass soon.
    for gate in [&one, &two] {
        play.reload(gate, &(redis(&b.url()) + ", timeout = \"2s\""));
    }
    assert_refused(&play.call(&one, &of_a), 401, "proof_replayed");
    assert_away(&play.call(&two, &of_a));
    play.serves(&two);
    assert_away(&play.call(&two, &of_a));
    play.serves(&one);
    // And back to the memory of each.
    let of_b = play.request("/accounts/b");
    assert_eq!(play.call(&one, &of_b).status, 200);
    play.reload(&two, "store = \"memory\"");
    assert_away(&play.call(&two, &of_b));
    play.serves(&two);
    assert_away(&play.call(&two, &of_b));
    assert!(two.status()["replay"]["store"] == "memory");
}

/// What became of a proof: how often it passed, at whichever gate.
#[derive(Default)]
struct Fate {
    passed: usize,
    /// An answer was lost with its gate: it may have passed there.
    lost: usize,
}

#[test]
fn under_load_a_gate_is_killed_and_the_store_fails_over_and_no_proof_passes_twice() {
    // DPOP-22, DPOP-25, DPOP-40
    let Some(set) = Set::new() else { return };
    let play = Play::new();
    let (mut primary, replica) = (set.server(&[]), set.server(&[]));
    replica.follow(&primary);
    let url = format!("{},127.0.0.1:{}", primary.url(), replica.port());
    let replay =
        redis(&url) + ", timeout = \"1s\", breaker = { failures = 3, open_for = \"200ms\" }";
    let (one, two) = (play.start(&replay), play.start(&replay));
    play.serves(&one);
    play.serves(&two);
    let stop = AtomicBool::new(false);
    let gates = RwLock::new(vec![one, two]);
    let fates: Mutex<HashMap<String, (Request, Fate)>> = Mutex::default();
    // Each proof goes to every gate, and to every gate again a while later.
    let try_at = |at: usize, request: &Request| -> Option<Option<Answer>> {
        let client = {
            let gates = gates.read().unwrap();
            play.client(gates.get(at)?)
        };
        Some(client.call(request).ok())
    };
    let load = |seed: usize| {
        let mut sent: Vec<Request> = Vec::new();
        let mut count = seed;
        while !stop.load(Ordering::Relaxed) {
            count += 1;
            let request = match sent.len() {
                many if many > 20 && count.is_multiple_of(3) => sent[(count * 7) % many].clone(),
                _ => play.request("/accounts/1"),
            };
            let proof = request.fields[1].1.clone();
            for at in [count % 2, (count + 1) % 2] {
                let Some(answer) = try_at(at, &request) else {
                    continue;
                };
                let mut fates = fates.lock().unwrap();
                let (_, fate) = fates
                    .entry(proof.clone())
                    .or_insert_with(|| (request.clone(), Fate::default()));
                match answer {
                    Some(answer) if answer.status == 200 => fate.passed += 1,
                    Some(answer) if answer.status == 503 => assert_away(&answer),
                    // Iat is 8 s ahead, so that none gets too old in this test.
                    Some(answer) => assert_refused(&answer, 401, "proof_replayed"),
                    None => fate.lost += 1,
                }
                assert!(fate.passed <= 1, "a proof passed twice");
            }
            sent.push(request);
            if sent.len() > 200 {
                sent.remove(0);
            }
        }
    };
    std::thread::scope(|scope| {
        let load = &load;
        let threads: Vec<_> = (0..3).map(|seed| scope.spawn(move || load(seed))).collect();
        let pass = |duration| {
            std::thread::sleep(duration);
            assert!(threads.iter().all(|one| !one.is_finished()), "a load ended");
        };
        let passed = || {
            let fates = fates.lock().unwrap();
            fates.values().filter(|(_, fate)| fate.passed == 1).count()
        };
        pass(Duration::from_secs(2));
        assert!(passed() > 10);
        // A gate is gone, without a word.
        let killed = gates.write().unwrap().remove(1);
        killed.signal("KILL");
        drop(killed);
        pass(Duration::from_secs(1));
        let again = play.start(&replay);
        gates.write().unwrap().push(again);
        pass(Duration::from_secs(1));
        // The store fails over: what the old primary had not passed on is lost.
        replica.promote();
        primary.kill();
        let before = passed();
        let until = Instant::now() + PATIENCE;
        while passed() < before + 20 {
            pass(Duration::from_millis(100));
            assert!(Instant::now() < until, "service did not come back");
        }
        stop.store(true, Ordering::Relaxed);
        for one in threads {
            one.join().unwrap();
        }
    });
    // Nothing that passed passes once more, at any gate.
    let mut fates = fates.into_inner().unwrap();
    let gates = gates.into_inner().unwrap();
    let mut accepted = 0;
    for (request, fate) in fates.values_mut() {
        for gate in &gates {
            let answer = play.call(gate, request);
            if answer.status == 200 {
                fate.passed += 1;
            }
        }
        assert!(fate.passed <= 1, "a proof passed twice");
        accepted += fate.passed;
    }
    let (tried, lost) = (
        fates.len(),
        fates.values().map(|(_, fate)| fate.lost).sum::<usize>(),
    );
    eprintln!("{tried} proofs, {accepted} passed, {lost} answers lost with a gate");
}
