//! The log and its verification together: what is written verifies, and whatever is done to it
//! shows.

#![expect(
    clippy::string_slice,
    reason = "lines of ours are ASCII; if one is not, the test has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ED25519};

use super::verify::{Given, Verification, verify};
use super::{
    Entry, Key, Log, OnFailure, PublicKey, Refused, Rotate, Settings, SigningKey, Subject, Sync,
};
use crate::pdp::UnixTime;
use crate::telemetry::Metrics;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_900_000_000;

fn clock() -> Duration {
    Duration::from_secs(NOW)
}

#[derive(Debug)]
struct Plain(u64);

impl Entry for Plain {
    fn write(&self, _: &Key, body: &mut Vec<u8>) {
        let members = format!(
            ",\"time_us\":{},\"id\":\"request-{}\"",
            NOW * 1_000_000,
            self.0
        );
        body.extend_from_slice(members.as_bytes());
    }
}

struct Bench {
    folder: tempfile::TempDir,
    pair: KeyPair,
    metrics: Arc<Metrics>,
    announced: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            pair: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            metrics: Metrics::new(UnixTime::from_secs(0)),
            announced: Arc::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("decisions.jsonl")
    }

    /// Every file of the log.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn settings(&self) -> Settings {
        let key = SigningKey::from_pem(self.pair.serialize_pem().as_bytes(), None).unwrap();
        Settings {
            file: self.file(),
            key: Key::new(KEY).unwrap(),
            signing_key: Arc::new(key),
            checkpoint_every: Duration::from_secs(60),
            subject: Subject::Digest,
            queue: 1000,
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

    fn open<E: Entry>(&self, settings: Settings) -> Log<E> {
        let announced = Arc::clone(&self.announced);
        let announce = move |line: &[u8]| {
            let line = String::from_utf8(line.to_vec()).unwrap();
            announced.lock().unwrap().push(line);
        };
        Log::open(settings, &self.metrics, clock, announce).unwrap()
    }

    fn write(&self, settings: Settings, lines: std::ops::Range<u64>) {
        let log = self.open(settings);
        for at in lines {
            log.admit(Box::new(Plain(at))).unwrap();
        }
        assert!(log.close(Duration::from_secs(10)));
    }

    fn public(&self) -> PublicKey {
        PublicKey::from_pem(self.pair.public_key_pem().as_bytes()).unwrap()
    }

    fn verify(&self) -> Verification {
        self.verify_given(&[])
    }

    fn verify_given(&self, given: &[Given]) -> Verification {
        verify(
            &self.files(),
            &[Key::new(KEY).unwrap()],
            &self.public(),
            given,
        )
        .unwrap()
    }

    fn given(&self) -> Vec<Given> {
        let lines = self.announced.lock().unwrap();
        let public = self.public();
        let read = |line: &String| Given::read(line, &public).unwrap().unwrap();
        lines.iter().map(read).collect()
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn put(&self, lines: &[String]) {
        fs::write(self.file(), lines.join("\n") + "\n").unwrap();
    }

    /// The one thing that is wrong after a change of the lines.
    #[track_caller]
    fn after(&self, change: impl FnOnce(&mut Vec<String>)) -> Vec<String> {
        let whole = self.lines();
        let mut lines = whole.clone();
        change(&mut lines);
        self.put(&lines);
        let found = self.verify();
        self.put(&whole);
        assert!(!found.intact());
        let shown = found.problems.iter().map(|problem| {
            let text = problem.to_string();
            text.split_once(".jsonl:").unwrap().1.to_owned()
        });
        shown.collect()
    }
}

#[test]
fn what_is_written_verifies() {
    let bench = Bench::new();
    bench.write(bench.settings(), 0..100);
    let found = bench.verify_given(&bench.given());
    assert!(found.intact(), "{:?}", found.problems);
    assert_eq!((found.lines, found.decisions, found.signed), (102, 100, 2));
    assert_eq!(
        (found.range, found.after_signed, found.lost),
        (Some((1, 102)), 0, 0)
    );
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    for (at, line) in bench.lines().iter().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["seq"], at as u64 + 1);
    }
}

#[test]
fn whatever_is_done_to_a_line_shows_with_its_place() {
    let bench = Bench::new();
    bench.write(bench.settings(), 0..10);
    let edited = bench.after(|lines| lines[4] = lines[4].replace("request-3", "request-4"));
    assert_eq!(
        edited,
        ["5: line number 5 was edited: its HMAC does not fit"]
    );
    let removed = bench.after(|lines| drop(lines.remove(4)));
    assert_eq!(
        removed,
        ["5: line number 5 is missing before this one: removed"]
    );
    let copied = bench.after(|lines| lines.insert(6, lines[4].clone()));
    assert_eq!(
        copied,
        ["7: there is a second line with number 5: inserted, or copied"]
    );
    let moved = bench.after(|lines| lines.swap(4, 5));
    assert_eq!(
        moved,
        [
            "5: line number 5 is missing before this one: removed",
            "6: line number 5 stands in the wrong place: moved",
        ]
    );
    let begun = bench.after(|lines| drop(lines.drain(..3)));
    assert_eq!(
        begun,
        ["1: the first line is not a signed one: what stood before it was cut off"]
    );
    let torn = bench.after(|lines| lines[4].truncate(20));
    assert_eq!(
        torn,
        [
            "5: this is no line of the log: inserted, or edited beyond recognition",
            "6: line number 5 is missing before this one: removed",
        ]
    );
    let garbage = bench.after(|lines| lines.insert(4, "{}".to_owned()));
    assert_eq!(
        garbage,
        ["5: this is no line of the log: inserted, or edited beyond recognition"]
    );
    // Number and all, but without the key.
    let forged = bench.after(|lines| {
        lines[4] = lines[4].replace("request-3", "request-9");
        let (body, _) = super::chain::open(lines[4].as_bytes()).unwrap();
        let body = body.to_vec();
        let other = Key::new(b"a key that somebody else chose!!").unwrap();
        let mut out = Vec::new();
        super::chain::seal(&other, &super::Mac::NONE, &body, &mut out);
        lines[4] = String::from_utf8(out).unwrap().trim().to_owned();
    });
    // The next line was tied to the one that stood there.
    assert_eq!(forged.len(), 2, "{forged:?}");
}

#[test]
fn a_cut_end_shows_by_the_checkpoint_that_was_announced() {
    let bench = Bench::new();
    bench.write(bench.settings(), 0..10);
    let given = bench.given();
    let mut lines = bench.lines();
    lines.truncate(5);
    bench.put(&lines);
    let blind = bench.verify();
    assert!(blind.intact(), "without the checkpoint nobody can know");
    assert_eq!(blind.after_signed, 4);
    let found = bench.verify_given(&given);
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    assert!(
        found.problems[0]
            .what
            .contains("the end was cut off: line number 12")
    );
    // In the middle of a line it shows without.
    let text = lines.join("\n");
    fs::write(bench.file(), &text[..text.len() - 9]).unwrap();
    let found = bench.verify();
    assert!(
        found.problems[0].what.contains("has no end"),
        "{:?}",
        found.problems
    );
}

#[test]
fn a_chain_made_anew_shows() {
    let bench = Bench::new();
    bench.write(bench.settings(), 0..10);
    let given = bench.given();
    fs::remove_file(bench.file()).unwrap();
    // By somebody with the key of the HMACs and not the one that signs.
    let thief = Bench::new();
    thief.write(thief.settings(), 0..10);
    fs::copy(thief.file(), bench.file()).unwrap();
    let found = bench.verify();
    assert_eq!(found.found, 2, "{:?}", found.problems);
    assert!(found.problems[0].what.contains("the chain was made anew"));
    // By somebody with both.
    bench.put(&[]);
    fs::remove_file(bench.file()).unwrap();
    bench.write(bench.settings(), 0..10);
    assert!(bench.verify().intact(), "it is a good chain");
    let found = bench.verify_given(&given);
    assert!(!found.intact());
    assert!(
        found.problems[0]
            .what
            .contains("is not the one that was announced")
    );
    // With another key of the HMACs.
    let other = [Key::new(b"another key of thirty-two bytes!!").unwrap()];
    let found = verify(&bench.files(), &other, &bench.public(), &[]).unwrap();
    assert!(
        found.problems[0].what.contains("which was not given"),
        "{:?}",
        found.problems
    );
}

#[test]
fn lines_without_checkpoints_between_show() {
    // Somebody with the key of the HMACs keeps a signed start and goes on by themselves.
    let bench = Bench::new();
    bench.write(bench.settings(), 0..1);
    let mut lines = bench.lines();
    lines.truncate(1);
    let (_, mac) = super::chain::open(lines[0].as_bytes()).unwrap();
    let key = Key::new(KEY).unwrap();
    let body = format!(
        "{{\"seq\":2,\"kind\":\"decision\",\"time_us\":{}",
        (NOW + 181) * 1_000_000
    );
    let mut out = Vec::new();
    super::chain::seal(&key, &mac, body.as_bytes(), &mut out);
    lines.push(String::from_utf8(out).unwrap().trim().to_owned());
    bench.put(&lines);
    let found = bench.verify();
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    assert!(
        found.problems[0]
            .what
            .contains("no checkpoint stands between")
    );
}

#[test]
fn a_restart_goes_on_where_the_file_ends() {
    let bench = Bench::new();
    bench.write(bench.settings(), 0..10);
    bench.write(bench.settings(), 10..20);
    let found = bench.verify_given(&bench.given());
    assert!(found.intact(), "{:?}", found.problems);
    assert_eq!((found.decisions, found.range), (20, Some((1, 24))));
    assert!(found.notes.is_empty(), "{:?}", found.notes);
}

#[test]
fn what_a_crash_tore_stays_and_is_owned_up_to() {
    for cut in [1, 9, 200] {
        let bench = Bench::new();
        bench.write(bench.settings(), 0..10);
        // As a crash leaves it: no stop, and a piece of the last line.
        let text = fs::read_to_string(bench.file()).unwrap();
        let until = text[..text.len() - 1].rfind('\n').unwrap() + 1;
        let text = &text[..until];
        fs::write(bench.file(), &text[..text.len() - cut]).unwrap();
        bench.announced.lock().unwrap().pop();
        bench.write(bench.settings(), 10..20);
        let written = fs::read_to_string(bench.file()).unwrap();
        assert!(
            written.starts_with(&text[..text.len() - cut]),
            "not a byte is changed"
        );
        let found = bench.verify_given(&bench.given());
        assert!(found.intact(), "cut {cut}: {:?}", found.problems);
        assert!(
            found
                .notes
                .iter()
                .any(|note| note.contains("had not stopped in order"))
        );
        let torn = found
            .notes
            .iter()
            .any(|note| note.contains("the beginning of a line"));
        assert_eq!(torn, cut > 1, "{:?}", found.notes);
        // Nobody can put another piece in its place.
        let piece = text[..text.len() - cut].lines().last().unwrap();
        if cut > 1 {
            let other = written.replace(&format!("{piece}\n"), "a piece of something else\n");
            fs::write(bench.file(), other).unwrap();
            assert!(!bench.verify().intact());
            fs::write(bench.file(), written.replace(&format!("{piece}\n"), "")).unwrap();
            assert!(!bench.verify().intact());
        }
    }
}

#[test]
fn files_follow_one_another() {
    let bench = Bench::new();
    let settings = Settings {
        rotate: Rotate {
            size: 1,
            every: Duration::from_secs(86_400),
        },
        ..bench.settings()
    };
    for at in 0..5 {
        bench.write(settings.clone(), at * 10..at * 10 + 10);
    }
    let files = bench.files();
    assert!(files.len() > 3, "{files:?}");
    let found = bench.verify_given(&bench.given());
    assert!(found.intact(), "{:?}", found.problems);
    assert_eq!(found.decisions, 50);
    // One in the middle is gone.
    let mut sorted: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    sorted.sort_unstable();
    let aside: Vec<_> = sorted
        .iter()
        .filter(|path| ***path != *bench.file())
        .collect();
    let one = fs::read(aside[1]).unwrap();
    fs::remove_file(aside[1]).unwrap();
    let found = bench.verify();
    assert!(
        found.problems[0]
            .what
            .contains("are missing before this one"),
        "{:?}",
        found.problems
    );
    fs::write(aside[1], one).unwrap();
    // The first is not there: that is what keeping a time looks like.
    fs::remove_file(aside[0]).unwrap();
    let found = bench.verify();
    assert!(found.intact(), "{:?}", found.problems);
    assert!(found.notes[0].contains("the files before it were not given"));
    // The file itself is gone, as after a crash between two: the chain goes on.
    fs::remove_file(bench.file()).unwrap();
    let last = bench.verify().range.unwrap().1;
    bench.write(bench.settings(), 0..1);
    let found = bench.verify();
    assert!(found.intact(), "{:?}", found.problems);
    assert_eq!(found.range.unwrap().1, last + 3);
}

#[test]
fn a_file_that_is_moved_away_is_followed_by_another() {
    let bench = Bench::new();
    let log = bench.open(bench.settings());
    log.admit(Box::new(Plain(0))).unwrap();
    while bench.metrics.audit().lines.value() < 2 {
        std::thread::yield_now();
    }
    fs::rename(bench.file(), bench.folder.path().join("moved.jsonl")).unwrap();
    log.admit(Box::new(Plain(1))).unwrap();
    assert!(log.close(Duration::from_secs(10)));
    let found = bench.verify_given(&bench.given());
    assert!(found.intact(), "{:?}", found.problems);
    assert_eq!(found.decisions, 2);
    assert_eq!(bench.files().len(), 2);
}

/// Blocks the writer for as long as its test wants.
#[derive(Debug)]
struct Slow(Mutex<Receiver<()>>);

impl Entry for Slow {
    fn write(&self, key: &Key, body: &mut Vec<u8>) {
        let _gone = self.0.lock().unwrap().recv();
        Plain(0).write(key, body);
    }
}

#[test]
fn a_full_queue_refuses_and_owns_up_to_what_was_lost() {
    // OPS-05
    for on_failure in [OnFailure::Refuse, OnFailure::Continue] {
        let bench = Bench::new();
        let log = bench.open(Settings {
            queue: 2,
            on_failure,
            ..bench.settings()
        });
        let (open, gate) = mpsc::channel();
        let mut gate = Some(gate);
        let mut slow = || {
            let gate = gate.take().unwrap_or_else(|| mpsc::channel().1);
            Box::new(Slow(Mutex::new(gate)))
        };
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..50 {
            match log.admit(slow()) {
                Ok(()) => taken += 1,
                Err((why, entry)) => {
                    assert_eq!(why, Refused::Full);
                    refused += 1;
                    log.note(entry);
                }
            }
        }
        let lost = bench.metrics.audit().lost.value();
        assert!(lost > 40, "{lost}");
        match on_failure {
            OnFailure::Refuse => assert_eq!((refused, taken + refused), (lost, 50)),
            OnFailure::Continue => assert_eq!((taken, refused), (50, 0)),
        }
        drop(open);
        assert!(log.close(Duration::from_secs(10)));
        let found = bench.verify();
        assert!(found.intact(), "{:?}", found.problems);
        assert_eq!((found.decisions + lost, found.lost), (50, lost));
        assert_eq!(bench.metrics.audit().queue.value(), 0);
    }
}

#[test]
fn checkpoints_come_without_lines_too() {
    static TIME: AtomicU64 = AtomicU64::new(NOW);
    fn moving() -> Duration {
        Duration::from_secs(TIME.fetch_add(30, Ordering::Relaxed))
    }
    let bench = Bench::new();
    let settings = Settings {
        checkpoint_every: Duration::from_secs(1),
        ..bench.settings()
    };
    let announced = Arc::clone(&bench.announced);
    let announce = move |line: &[u8]| {
        let line = String::from_utf8(line.to_vec()).unwrap();
        announced.lock().unwrap().push(line);
    };
    let log: Log<Plain> = Log::open(settings, &bench.metrics, moving, announce).unwrap();
    while bench.announced.lock().unwrap().len() < 4 {
        std::thread::yield_now();
    }
    assert!(log.close(Duration::from_secs(10)));
    let found = bench.verify_given(&bench.given());
    assert_eq!(found.decisions, 0);
    assert!(found.signed >= 5);
}

#[test]
fn other_files_are_left_alone() {
    let bench = Bench::new();
    for (content, why) in [
        ("hello\nworld\n", "is no audit log"),
        ("{\"seq\":1}\n", "is no audit log"),
        ("hello", "the beginning of one line"),
    ] {
        fs::write(bench.file(), content).unwrap();
        let refused = Log::<Plain>::open(bench.settings(), &bench.metrics, clock, |_| {});
        let why_not = refused.unwrap_err();
        assert!(why_not.contains(why), "{why_not}");
        assert_eq!(fs::read_to_string(bench.file()).unwrap(), content);
    }
}
