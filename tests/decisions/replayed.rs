//! A hundred thousand decisions, written to a real log and judged again under a stricter policy: how
//! long that takes, and whether each is judged as the request itself would be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::audit::replay::replay;
use portcullis::audit::verify::verify;
use portcullis::audit::{
    Decision, Key, Log, OnFailure, PublicKey, Recording, Rotate, Settings, SigningKey, Subject,
    Sync,
};
use portcullis::pdp::recorded::{Seen, claims_looked_at};
use portcullis::pdp::{Inbound, InteractionId, Trail, UnixTime};
use portcullis::refusal::Reason;
use portcullis::telemetry::Metrics;
use portcullis::telemetry::metrics::Outcome as Ended;

use super::cases;
use super::recorded::{judged, real, record, settled};
use super::world::{Case, NOW, Outcome, PolicyChange, World};

/// As many as the log is judged by; without optimisation fewer, for the machine's sake.
const LINES: usize = if cfg!(debug_assertions) {
    5_000
} else {
    100_000
};

fn clock() -> Duration {
    Duration::from_secs(NOW)
}

/// A case that was decided, ready to be recorded any number of times.
struct Kept {
    case: Case,
    inbound: Option<Inbound<()>>,
    trail: Trail,
    reason: Option<Reason>,
    passed: bool,
}

impl Kept {
    fn decision(&self, other: &Inbound<()>, recording: &Arc<Recording>) -> Box<Decision> {
        let inbound = self.inbound.as_ref();
        let peer = &inbound.unwrap_or(other).peer;
        let now = UnixTime::from_secs(NOW.saturating_add_signed(self.case.clock));
        Box::new(Decision {
            time: clock(),
            interaction_id: InteractionId::from_random([7; 16]),
            generation: 1,
            recording: Arc::clone(recording),
            peer: Arc::clone(peer),
            standing: inbound.unwrap_or(other).standing,
            seen: inbound.map(|inbound| Seen::of(&inbound.head)),
            times: (now, now),
            trail: self.trail.clone(),
            outcome: match (self.passed, self.reason) {
                (true, None) => Ended::Authorized,
                (true, Some(_)) => Ended::Observed,
                (false, reason) => Ended::of(reason.expect("a reason")),
            },
            reason: self.reason,
            detail: None,
        })
    }
}

fn settings(file: PathBuf, pair: &rcgen::KeyPair) -> Settings {
    let key = SigningKey::from_pem(pair.serialize_pem().as_bytes(), None).expect("a key");
    Settings {
        file,
        key: Key::new(b"0123456789abcdef0123456789abcdef").expect("a key"),
        signing_key: Arc::new(key),
        checkpoint_every: Duration::from_secs(60),
        subject: Subject::Digest,
        queue: LINES,
        rotate: Rotate {
            size: u64::MAX,
            every: Duration::from_secs(86_400),
        },
        sync: Sync::Checkpoint,
        on_failure: OnFailure::Refuse,
        claims: Arc::new([]),
        fingerprint: [0; 32],
    }
}

#[test]
fn a_hundred_thousand_decisions_under_a_stricter_policy() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("decisions.jsonl");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let metrics = Metrics::new(UnixTime::from_secs(NOW));
    let settings = settings(file.clone(), &pair);
    let key = settings.key.clone();
    let log = Log::open(settings, &metrics, clock, |_: &[u8]| {}).expect("a log");

    let stricter = |case: &Case| Case {
        policy: PolicyChange {
            scopes: Some(vec!["accounts".into()]),
            acr: vec!["urn:bank:acr:sca".into()],
            max_age: Some(300),
            require_headers: vec!["x-fapi-interaction-id".to_owned()],
            ..PolicyChange::default()
        },
        shadow: None,
        identity: None,
        open: false,
        observe_until: None,
        forward: std::collections::BTreeMap::new(),
        always: false,
        ..case.clone()
    };
    let snapshot = world.snapshot(&stricter(&Case::default()));
    let mut recording = Recording {
        claims: claims_looked_at(&snapshot),
        subject: Subject::Digest,
    };
    let mut all = Vec::new();
    for (_, case) in cases() {
        let mut case = settled(&world, case);
        // Most requests of a bank are good ones.
        case.headers
            .entry("x-fapi-interaction-id".to_owned())
            .or_insert_with(|| "07070707-0707-4707-8707-070707070707".to_owned());
        recording
            .claims
            .extend(claims_looked_at(&world.snapshot(&case)));
        let decided = world.decide(&case);
        let (passed, reason) = match &decided.outcome {
            Outcome::Refused(refusal) => (false, Some(refusal.reason())),
            Outcome::Authorized(permit) => (true, permit.observed().map(|why| why.reason())),
        };
        all.push(Kept {
            inbound: world.inbound(&case).ok(),
            case,
            trail: decided.trail,
            reason,
            passed,
        });
    }
    let recording = Arc::new(recording);
    let other = world.inbound(&Case::default()).expect("a request");
    let started = Instant::now();
    for kept in all.iter().cycle().take(LINES) {
        assert!(
            log.admit(kept.decision(&other, &recording)).is_ok(),
            "there is room"
        );
    }
    let handed = started.elapsed();
    assert!(log.close(Duration::from_secs(120)), "it is written");
    let written = started.elapsed();
    let size = std::fs::metadata(&file).expect("the log").len();

    let started = Instant::now();
    let public = PublicKey::from_pem(pair.public_key_pem().as_bytes()).expect("a key");
    let intact = verify(std::slice::from_ref(&file), &[key], &public, &[]).expect("the log");
    let verified = started.elapsed();
    assert!(intact.intact(), "{:?}", intact.problems);
    assert_eq!(intact.decisions, LINES as u64);

    let started = Instant::now();
    let found = replay(&[file], &snapshot).expect("the log");
    let replayed = started.elapsed();

    // Each case by itself: as the core decides the request under the stricter policy.
    let (mut same, mut refused, mut passed, mut other_reason, mut unknown) = (0, 0, 0, 0, 0);
    let mut sample = 0;
    for (at, kept) in all.iter().enumerate() {
        let times = LINES / all.len() + usize::from(at < LINES % all.len());
        let expected = real(&world.decide(&stricter(&kept.case)).outcome);
        let said = judged(&record(&world, &kept.case), &snapshot);
        if let Ok(said) = said {
            assert_eq!(said, expected, "{}", kept.case.name);
            sample += 1;
        }
        let reason = kept.reason.map(|reason| reason.spec().code);
        *match (said, kept.passed) {
            (Err(_), _) => &mut unknown,
            (Ok("authorized"), true) => &mut same,
            (Ok("authorized"), false) => &mut passed,
            (Ok(_), true) => &mut refused,
            (Ok(now), false) if reason == Some(now) => &mut same,
            (Ok(_), false) => &mut other_reason,
        } += times as u64;
    }
    assert_eq!(
        [
            found.same,
            found.refused,
            found.passed,
            found.other_reason,
            found.unknown
        ],
        [same, refused, passed, other_reason, unknown]
    );
    assert!(
        refused > 0 && sample * 10 > all.len() * 8,
        "{sample} of {}",
        all.len()
    );
    println!(
        "{LINES} decisions, {} MiB: handed over in {handed:?}, written in {written:?}, verified in {verified:?}, replayed in {replayed:?}; {refused} would be refused that passed, {unknown} cannot be told; {sample} of {} cases compared with the core",
        size >> 20,
        all.len()
    );
    let within = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 20 });
    assert!(
        replayed < within && verified < within,
        "{replayed:?}, {verified:?}"
    );
}
