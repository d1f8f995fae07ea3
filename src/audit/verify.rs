//! Whether a log is as it was written: offline, one line at a time.
//!
//! What shows: an edited line (its HMAC does not fit), a removed one (a number is missing), an
//! inserted or copied one (a number comes twice, or an HMAC does not fit), a moved one, a beginning
//! that is cut off (the first line is not a signed one), an end that is cut off in the middle of a
//! line, checkpoints that are missing, and lines made by somebody without the signing key. That
//! whole lines are missing at the end, or that all was made anew by somebody with both keys, shows
//! only against a checkpoint that was kept elsewhere, such as standard output's ([`Given`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chain::{self, Key, Mac};
use super::checkpoint::PublicKey;
use super::file::{LINE_BYTES, torn};

/// HMACs of so many lines back are remembered, to tell a moved line from an edited one.
const REMEMBERED: usize = 4096;
/// Problems that are kept; the rest is counted.
const PROBLEMS: usize = 100;
/// A checkpoint may come this much later than twice its time, seconds.
const SLACK: u64 = 60;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Line in it, from 1.
    pub line: u64,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What a look at a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// What is wrong, in the order of the lines; the first hundred.
    pub problems: Vec<Problem>,
    /// How many there are in all.
    pub found: u64,
    /// What deserves a look and is no sign of tampering.
    pub notes: Vec<String>,
    /// Lines looked at.
    pub lines: u64,
    /// Decisions among them.
    pub decisions: u64,
    /// Signed lines among them, with a good signature.
    pub signed: u64,
    /// Lines that the log itself says it had no room for.
    pub lost: u64,
    /// Number of the first line and of the last.
    pub range: Option<(u64, u64)>,
    /// Lines after the last signed one.
    pub after_signed: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn intact(&self) -> bool {
        self.found == 0
    }
}

/// A signed line that was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    seq: u64,
    chain: Box<str>,
    mac: Mac,
    time_us: u64,
}

impl Given {
    /// Reads a line, if it is a signed one of an audit log at all.
    ///
    /// # Errors
    /// Where its signature is not of this key: it says nothing then.
    pub fn read(line: &str, public: &PublicKey) -> Result<Option<Self>, String> {
        let line = line.trim();
        let Some((body, mac)) = chain::open(line.as_bytes()) else {
            return Ok(None);
        };
        let Ok(head) = serde_json::from_str::<Head<'_>>(line) else {
            return Ok(None);
        };
        let Some(chain) = head.chain.as_deref().filter(|_| head.is_signed()) else {
            return Ok(None);
        };
        if !public.verifies(body) {
            return Err(format!(
                "the checkpoint with number {} is not signed with the key of --public-key",
                head.seq
            ));
        }
        Ok(Some(Self {
            seq: head.seq,
            chain: chain.into(),
            mac,
            time_us: head.time_us,
        }))
    }
}

/// What every line has, and what signed ones have.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    seq: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    time_us: u64,
    #[serde(borrow, default)]
    chain: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    prev: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    every_s: u64,
    #[serde(borrow, default)]
    after: Option<Cow<'a, str>>,
    #[serde(default)]
    torn: Option<TornHead>,
    #[serde(default)]
    lost: u64,
}

#[derive(Debug, Deserialize)]
struct TornHead {
    bytes: usize,
    sha256: String,
}

impl Head<'_> {
    fn is_signed(&self) -> bool {
        matches!(&*self.kind, "start" | "rotate" | "checkpoint" | "stop")
    }
}

/// Verifies files, in the order of their lines whatever order they are named in.
///
/// `keys`: that of the log, and older ones where it was changed. `given`: signed lines kept
/// elsewhere.
///
/// # Errors
/// Where a file cannot be read.
pub fn verify(
    files: &[PathBuf],
    keys: &[Key],
    public: &PublicKey,
    given: &[Given],
) -> io::Result<Verification> {
    let mut walk = Walk::new(keys, public, given);
    for path in in_order(files)? {
        walk.file(&path)?;
    }
    Ok(walk.end())
}

/// The files by the number of their first line; those without one last.
pub(super) fn in_order(files: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut order = Vec::new();
    for path in files {
        let mut first = Vec::new();
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
        let file = File::open(path).map_err(named)?;
        BufReader::new(file.take(most))
            .read_until(b'\n', &mut first)
            .map_err(named)?;
        let head = serde_json::from_slice::<Head<'_>>(&first);
        let seq = head.map_or(u64::MAX, |head| head.seq);
        order.push((seq, path.clone()));
    }
    order.sort_by_key(|(seq, _)| *seq);
    Ok(order.into_iter().map(|(_, path)| path).collect())
}

struct Walk<'k> {
    keys: &'k [Key],
    key: Option<&'k Key>,
    public: &'k PublicKey,
    given: HashMap<u64, Vec<&'k Given>>,
    out: Verification,
    /// Where we are.
    file: String,
    line: u64,
    chain: Option<Box<str>>,
    /// The number that the next line must have.
    next: u64,
    /// HMACs of the last lines, by their numbers.
    macs: HashMap<u64, Mac>,
    remembered: VecDeque<u64>,
    /// Numbers that were not there: first and last of each run.
    missing: BTreeMap<u64, u64>,
    /// A line that is none, waiting for a start that owns up to it.
    stray: Option<(Problem, Vec<u8>)>,
    /// Time of the last signed line, and how long after it the next may come, microseconds.
    due: Option<(u64, u64)>,
}

impl<'k> Walk<'k> {
    fn new(keys: &'k [Key], public: &'k PublicKey, given: &'k [Given]) -> Self {
        let mut by_seq: HashMap<u64, Vec<&Given>> = HashMap::new();
        for one in given {
            by_seq.entry(one.seq).or_default().push(one);
        }
        Self {
            keys,
            key: keys.first(),
            public,
            given: by_seq,
            out: Verification::default(),
            file: String::new(),
            line: 0,
            chain: None,
            next: 0,
            macs: HashMap::new(),
            remembered: VecDeque::new(),
            missing: BTreeMap::new(),
            stray: None,
            due: None,
        }
    }

    fn wrong(&mut self, what: impl Into<String>) {
        let problem = self.here(what);
        self.add(problem);
    }

    fn here(&self, what: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            what: what.into(),
        }
    }

    fn add(&mut self, problem: Problem) {
        self.out.found = self.out.found.saturating_add(1);
        if self.out.problems.len() < PROBLEMS {
            self.out.problems.push(problem);
        }
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        self.file = path.display().to_string();
        self.line = 0;
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(named)?);
        let mut line = Vec::with_capacity(4096);
        let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
        loop {
            line.clear();
            let read = (&mut reader)
                .take(most)
                .read_until(b'\n', &mut line)
                .map_err(named)?;
            if read == 0 {
                break;
            }
            self.line = self.line.saturating_add(1);
            if line.pop_if(|last| *last == b'\n').is_none() {
                self.unstray();
                self.wrong("this line has no end: it was cut off, or is being written just now");
                continue;
            }
            self.line(&line);
        }
        if self.line == 0 {
            self.out.notes.push(format!("{} is empty", self.file));
        }
        Ok(())
    }

    /// A line that is none, and that nobody owned up to.
    fn unstray(&mut self) {
        if let Some((problem, _)) = self.stray.take() {
            self.add(problem);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let opened = chain::open(line);
        let head = serde_json::from_slice::<Head<'_>>(line).ok();
        let (Some((body, mac)), Some(head)) = (opened, head) else {
            self.unstray();
            let problem =
                self.here("this is no line of the log: inserted, or edited beyond recognition");
            self.stray = Some((problem, line.to_vec()));
            return;
        };
        self.torn(&head);
        self.out.lines = self.out.lines.saturating_add(1);
        if head.kind == "decision" {
            self.out.decisions = self.out.decisions.saturating_add(1);
        }
        self.out.lost = self.out.lost.saturating_add(head.lost);
        self.out.after_signed = self.out.after_signed.saturating_add(1);
        let signed = head.is_signed();
        let good = signed && self.signature(&head, body);
        let before = self.before(&head, good);
        let fits = before.and_then(|before| {
            let key = self.key?;
            Some(key.mac(&before, body).matches(&mac))
        });
        self.sequence(&head, fits, signed);
        self.given(&head, &mac);
        self.remember(head.seq, mac);
        self.timely(&head, good);
        let (first, last) = self.out.range.unwrap_or((head.seq, head.seq));
        self.out.range = Some((first.min(head.seq), last.max(head.seq)));
    }

    /// What a crash left in front of a start.
    fn torn(&mut self, head: &Head<'_>) {
        let stray = self.stray.take();
        match (stray, &head.torn) {
            (Some((problem, bytes)), Some(owned)) => {
                let fits = torn(&bytes)
                    .is_some_and(|torn| torn.bytes == owned.bytes && torn.sha256 == owned.sha256);
                if fits {
                    let note = format!(
                        "{}:{}: the beginning of a line that was being written when the process ended; the start after it says so",
                        problem.file, problem.line
                    );
                    self.out.notes.push(note);
                } else {
                    self.add(problem);
                }
            }
            (Some((problem, _)), None) => self.add(problem),
            (None, Some(_)) if self.next != 0 => {
                self.wrong("the torn line that this start speaks of is not there: removed");
            }
            (None, _) => {}
        }
    }

    /// Whether the signature is good; and the chain and the key that the line names.
    fn signature(&mut self, head: &Head<'_>, body: &[u8]) -> bool {
        let good = self.public.verifies(body);
        if good {
            self.out.signed = self.out.signed.saturating_add(1);
        } else {
            self.wrong(format!(
                "the signature of this {} is not of the key of --public-key: edited, or the chain was made anew",
                head.kind
            ));
        }
        if let Some(name) = head.key.as_deref() {
            match self.keys.iter().find(|key| key.fingerprint() == name) {
                Some(key) => self.key = Some(key),
                None => self.wrong(format!(
                    "this {} names the HMAC key {name}, which was not given: made anew, or --key is missing",
                    head.kind
                )),
            }
        }
        if let Some(chain) = head.chain.as_deref() {
            match &self.chain {
                Some(known) if **known != *chain => {
                    let what = format!(
                        "another chain begins here ({chain}; before it {known}): made anew"
                    );
                    self.wrong(what);
                    self.next = 0;
                    self.macs.clear();
                    self.chain = Some(chain.into());
                }
                Some(_) => {}
                None => self.chain = Some(chain.into()),
            }
        }
        if head.after.as_deref() == Some("crash") {
            self.out.notes.push(format!(
                "{}:{}: the process before had not stopped in order; lines that it had not written yet are not here",
                self.file, self.line
            ));
        }
        good
    }

    /// The HMAC of the line before, as far as it is known.
    fn before(&self, head: &Head<'_>, good: bool) -> Option<Mac> {
        if head.seq == 1 {
            return Some(Mac::NONE);
        }
        let known = self.macs.get(&head.seq.wrapping_sub(1)).copied();
        // A signed line says what came before, and its signature vouches for that.
        known.or_else(|| {
            let stated = head.prev.as_deref().filter(|_| good)?;
            Mac::parse(stated)
        })
    }

    fn sequence(&mut self, head: &Head<'_>, fits: Option<bool>, signed: bool) {
        let (seq, next) = (head.seq, self.next);
        if next == 0 || seq == next {
            self.next = seq.saturating_add(1);
            match fits {
                Some(true) => {}
                Some(false) => self.wrong(format!(
                    "line number {seq} was edited: its HMAC does not fit"
                )),
                None if next == 0 && !signed => {
                    self.wrong(
                        "the first line is not a signed one: what stood before it was cut off",
                    );
                }
                None => {}
            }
            return;
        }
        if seq > next {
            let last = seq.saturating_sub(1);
            let what = match next == last {
                true => format!("line number {next} is missing before this one: removed"),
                false => {
                    format!("lines number {next} to {last} are missing before this one: removed")
                }
            };
            self.wrong(what);
            if self.missing.len() < REMEMBERED {
                self.missing.insert(next, last);
            }
            self.next = seq.saturating_add(1);
            if fits == Some(false) {
                self.wrong(format!(
                    "line number {seq} was edited: its HMAC does not fit"
                ));
            }
            return;
        }
        let run = self.missing.range(..=seq).next_back();
        let run = run.map(|(first, last)| (*first, *last));
        match run.filter(|(_, last)| seq <= *last) {
            Some((first, last)) => {
                self.missing.remove(&first);
                if first < seq {
                    self.missing.insert(first, seq.saturating_sub(1));
                }
                if seq < last {
                    self.missing.insert(seq.saturating_add(1), last);
                }
                self.wrong(format!(
                    "line number {seq} stands in the wrong place: moved"
                ));
            }
            None => self.wrong(format!(
                "there is a second line with number {seq}: inserted, or copied"
            )),
        }
    }

    fn given(&mut self, head: &Head<'_>, mac: &Mac) {
        let Some(given) = self.given.remove(&head.seq) else {
            return;
        };
        for one in given {
            if !one.mac.matches(mac) {
                self.wrong(format!(
                    "line number {} is not the one that was announced at {}: the chain was made anew",
                    one.seq,
                    time(one.time_us)
                ));
            }
        }
    }

    fn remember(&mut self, seq: u64, mac: Mac) {
        // The first of a number counts: a copy that follows changes nothing for those after it.
        if self.macs.contains_key(&seq) {
            return;
        }
        self.macs.insert(seq, mac);
        self.remembered.push_back(seq);
        if self.remembered.len() > REMEMBERED
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.macs.remove(&oldest);
        }
    }

    /// Signed lines must come as often as they say.
    fn timely(&mut self, head: &Head<'_>, good: bool) {
        if let Some((last, within)) = self.due
            && head.kind != "start"
            && head.time_us > last.saturating_add(within)
        {
            self.wrong(format!(
                "no checkpoint stands between {} and this line, of {}: removed, or the chain was made anew",
                time(last),
                time(head.time_us)
            ));
            // Once is enough.
            self.due = None;
        }
        if good {
            let within = head.every_s.saturating_mul(2).saturating_add(SLACK);
            self.due = Some((head.time_us, within.saturating_mul(1_000_000)));
            self.out.after_signed = 0;
        }
    }

    fn end(mut self) -> Verification {
        self.unstray();
        let mut rest: Vec<&Given> = self.given.drain().flat_map(|(_, given)| given).collect();
        rest.sort_by_key(|one| one.seq);
        let Some((first, last)) = self.out.range else {
            self.wrong("there is no line of an audit log");
            return self.out;
        };
        // The furthest says most; those before it say the same.
        let beyond = rest.iter().filter(|one| one.seq > last);
        if let Some(one) = beyond.max_by_key(|one| one.seq) {
            let what = format!(
                "the end was cut off: line number {} was announced at {}, and the last one here is number {last}",
                one.seq,
                time(one.time_us)
            );
            self.wrong(what);
        }
        let before = rest.iter().filter(|one| one.seq < first).count();
        if before > 0 {
            self.out.notes.push(format!(
                "{before} of the checkpoints given lie before the first line of these files"
            ));
        }
        for one in rest.iter().filter(|one| (first..=last).contains(&one.seq)) {
            let what = format!(
                "line number {}, announced at {}, is not here: removed",
                one.seq,
                time(one.time_us)
            );
            self.wrong(what);
        }
        if let (Some(one), Some(chain)) = (rest.first(), &self.chain)
            && one.chain != *chain
        {
            let what = format!(
                "chain {} was announced, and this is chain {chain}: made anew",
                one.chain
            );
            self.wrong(what);
        }
        if first > 1 {
            self.out.notes.push(format!(
                "the first line is number {first}: the files before it were not given"
            ));
        }
        self.out
    }
}

/// Microseconds since 1970 for people.
pub(super) fn time(micros: u64) -> String {
    crate::telemetry::Timestamp(std::time::Duration::from_micros(micros)).to_string()
}
