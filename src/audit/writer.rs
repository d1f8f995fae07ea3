//! The one thread that writes: it takes lines from the queue, ties them to the chain, and appends
//! them. What could not be written is kept and tried again, from the very byte on.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use super::file::{Segment, Stands};
use super::lines::{After, Chain, Signed, micros};
use super::log::{Clock, Entry, Message, State};
use super::{Settings, Sync};

/// How long lines gather before they are written.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes that are written at once at most, give or take a line.
const BATCH: usize = 256 * 1024;
/// Between two tries to write what did not go.
const AGAIN: Duration = Duration::from_millis(100);

/// Given each signed line, once it is written.
type Announce = Box<dyn FnMut(&[u8]) + Send>;

pub(super) struct Writer {
    settings: Settings,
    state: Arc<State>,
    clock: Clock,
    announce: Announce,
    chain: Chain,
    /// `None` between two files, when the next could not be made yet.
    segment: Option<Segment>,
    /// Lines of the chain that are not in the file yet, and how much of them is.
    pending: Vec<u8>,
    written: usize,
    /// Lines among them.
    lines: u64,
    /// Where signed lines stand among them.
    signed: Vec<std::ops::Range<usize>>,
    next_checkpoint: Duration,
    /// After a rotation that did not go: not before this.
    next_rotation: Duration,
    /// Whether somebody was told of the failure.
    failing: bool,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("chain", &self.chain)
            .field("segment", &self.segment)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Finds where the chain stands. Nothing is written yet.
    pub(super) fn new(
        settings: Settings,
        state: Arc<State>,
        clock: Clock,
        announce: Announce,
    ) -> Result<Self, String> {
        let (segment, found) = Segment::open(&settings.file)?;
        let keys = (settings.key.clone(), Arc::clone(&settings.signing_key));
        let every = settings.checkpoint_every;
        let mut pending = Vec::new();
        let now = clock();
        let (mut chain, start) = match found {
            None => {
                let mut id = [0; 12];
                aws_lc_rs::rand::fill(&mut id).map_err(|error| error.to_string())?;
                let id = id.iter().fold(String::new(), |mut text, byte| {
                    text.push_str(&format!("{byte:02x}"));
                    text
                });
                let chain = Chain::new(keys, every, id.into(), (0, super::Mac::NONE));
                (chain, Signed::Start(After::Nothing, None))
            }
            Some(found) => {
                if found.torn.is_some() || found.unended {
                    // The torn line stays as it is; what follows must not look like its end.
                    pending.push(b'\n');
                }
                let chain = Chain::new(keys, every, found.chain, (found.seq, found.mac));
                (chain, Signed::Start(found.after, found.torn))
            }
        };
        let from = pending.len();
        chain.signed(&start, now, &mut pending)?;
        let signed = from..pending.len();
        let mut writer = Self {
            next_checkpoint: now.saturating_add(every),
            next_rotation: Duration::ZERO,
            settings,
            state,
            clock,
            announce,
            chain,
            segment: Some(segment),
            pending,
            written: 0,
            lines: 1,
            signed: vec![signed],
            failing: false,
        };
        writer.note_first(now);
        Ok(writer)
    }

    /// Writes the line of the start.
    pub(super) fn start(&mut self) -> Result<(), String> {
        self.append()
            .map_err(|error| format!("{}: {error}", self.settings.file.display()))?;
        self.written_all();
        Ok(())
    }

    /// The first line of a file says what the file is called once it is moved aside.
    fn note_first(&mut self, now: Duration) {
        let seq = self.chain.seq;
        if let Some(segment) = &mut self.segment
            && segment.first_seq == 0
        {
            segment.first_seq = seq;
            segment.first_time_us = micros(now);
        }
    }

    /// Lines for which there was no room are owned up to as soon as there is some.
    fn own_up(&mut self) {
        let lost = self.state.take_lost();
        if lost > 0 {
            let now = (self.clock)();
            self.chain.gap(lost, now, &mut self.pending);
            self.lines = self.lines.saturating_add(1);
        }
    }

    fn take(&mut self, entry: &dyn Entry) {
        self.own_up();
        self.chain.entry(entry, &mut self.pending);
        self.lines = self.lines.saturating_add(1);
    }

    fn sign(&mut self, what: &Signed) {
        let now = (self.clock)();
        let from = self.pending.len();
        match self.chain.signed(what, now, &mut self.pending) {
            Ok(()) => {
                self.signed.push(from..self.pending.len());
                self.lines = self.lines.saturating_add(1);
                self.next_checkpoint = now.saturating_add(self.settings.checkpoint_every);
            }
            // There is no randomness: tried again with the next line, and the lines go on.
            Err(why) => tracing::error!(%why, "the audit log has no checkpoint"),
        }
    }

    fn sign_if_due(&mut self) {
        if (self.clock)() >= self.next_checkpoint {
            self.own_up();
            self.sign(&Signed::Checkpoint);
        }
    }

    /// Until the next checkpoint.
    fn patience(&self) -> Duration {
        // The wall clock may be set back; nobody waits longer than the time between two.
        self.next_checkpoint
            .saturating_sub((self.clock)())
            .min(self.settings.checkpoint_every)
    }

    /// Writes all that is pending. `false`: not all of it went; it is kept.
    fn flush(&mut self) -> bool {
        match self.append() {
            Ok(()) => {
                self.written_all();
                if self.failing {
                    tracing::warn!("the audit log is written again");
                }
                self.failing = false;
                self.state.set_healthy(true);
                true
            }
            Err(error) => {
                self.state.metrics.audit().failures.add_one();
                // Said once, not at each try.
                if !self.failing {
                    tracing::error!(%error, file = %self.settings.file.display(), "the audit log cannot be written");
                }
                self.failing = true;
                self.state.set_healthy(false);
                false
            }
        }
    }

    fn append(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.look()?;
        let Some(segment) = &mut self.segment else {
            return Err(std::io::Error::other("there is no file"));
        };
        while let Some(rest) = self
            .pending
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            let written = match segment.write(rest) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                written => written?,
            };
            self.written = self.written.saturating_add(written);
        }
        if self.settings.sync == Sync::Write || !self.signed.is_empty() {
            segment.sync()?;
        }
        Ok(())
    }

    /// Whether the file is the one that we wrote, before more is added to it.
    fn look(&mut self) -> std::io::Result<()> {
        // In the middle of a line there is no other place for its end.
        let inside = self.written > 0;
        match self.segment.as_ref().map(Segment::stands) {
            Some(Stands::Sound) => {}
            Some(Stands::Altered(size)) => {
                tracing::error!(file = %self.settings.file.display(), size, "somebody else changed the audit log");
                if let Some(segment) = &mut self.segment {
                    segment.resize(size);
                }
            }
            Some(Stands::Moved) if inside => {}
            Some(Stands::Moved) => {
                tracing::warn!(file = %self.settings.file.display(), "the audit log was moved: another file begins");
                self.begin_file("moved")?;
            }
            None => self.begin_file("rotated")?,
        }
        Ok(())
    }

    /// Another file, which begins with a signed line in front of what is pending.
    ///
    /// What is pending is in the chain already, so the line stands after it; it is written to the
    /// file before where there is one, which is still open.
    fn begin_file(&mut self, why: &'static str) -> std::io::Result<()> {
        let next = Segment::begin(&self.settings.file)?;
        if let Some(old) = &mut self.segment {
            while let Some(rest) = self
                .pending
                .get(self.written..)
                .filter(|rest| !rest.is_empty())
            {
                let written = old.write(rest)?;
                self.written = self.written.saturating_add(written);
            }
            old.sync()?;
        }
        if self.written >= self.pending.len() {
            self.written_all();
        }
        self.segment = Some(next);
        self.sign(&Signed::Rotate(why));
        self.note_first((self.clock)());
        Ok(())
    }

    fn written_all(&mut self) {
        let metrics = self.state.metrics.audit();
        metrics.lines.add(self.lines);
        for place in self.signed.drain(..) {
            if let Some(line) = self.pending.get(place) {
                (self.announce)(line);
            }
            metrics.checkpoint(crate::pdp::UnixTime::from_secs((self.clock)().as_secs()));
        }
        self.lines = 0;
        self.pending.clear();
        self.written = 0;
    }

    /// Begins another file where this one is large or old enough. Nothing is pending.
    fn rotate_if_due(&mut self) {
        let now = (self.clock)();
        let rotate = self.settings.rotate;
        let due = self.segment.as_ref().is_some_and(|segment| {
            let age = micros(now).saturating_sub(segment.first_time_us);
            segment.size >= rotate.size || age >= micros(rotate.every)
        });
        if !due || now < self.next_rotation {
            return;
        }
        let Some(segment) = self.segment.take() else {
            return;
        };
        match segment.retire() {
            Ok(aside) => {
                tracing::info!(file = %aside.display(), "another file of the audit log begins");
                if let Err(error) = self.begin_file("rotated") {
                    tracing::error!(%error, "the next file of the audit log cannot be made");
                    self.state.set_healthy(false);
                    self.failing = true;
                    return;
                }
                self.flush();
            }
            Err(error) => {
                // The file goes on: too large a file is no reason to refuse a request.
                tracing::error!(%error, "the audit log cannot be rotated");
                self.next_rotation = now.saturating_add(self.settings.checkpoint_every);
                self.segment = Some(segment);
            }
        }
    }
}

/// Writes until every way in is gone, or the log is closed.
pub(super) fn run<E: Entry>(mut writer: Writer, receiver: &Receiver<Message<E>>) {
    let mut caught_up = true;
    // What was left behind may be large or old enough already.
    writer.rotate_if_due();
    loop {
        // While the disk fails, nothing is taken from the queue: its bound is the bound of all.
        if !writer.pending.is_empty() || writer.segment.is_none() {
            if writer.segment.is_none() && writer.pending.is_empty() {
                // Only the line of the rotation is missing; it is made with the file.
                match writer.begin_file("rotated") {
                    Ok(()) => {}
                    Err(_still) => {
                        std::thread::sleep(AGAIN);
                        continue;
                    }
                }
            }
            if !writer.flush() {
                std::thread::sleep(AGAIN);
            }
            continue;
        }
        let first = match receiver.recv_timeout(writer.patience()) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                writer.sign(&Signed::Stop);
                writer.flush();
                return;
            }
        };
        if caught_up && matches!(first, Some(Message::Entry(_))) {
            // While this thread sleeps, lines that come do not wake it: one wake-up a pause.
            std::thread::sleep(PAUSE);
        }
        writer.sign_if_due();
        let mut next = first;
        let mut close = None;
        while let Some(message) = next {
            match message {
                Message::Entry(entry) => {
                    writer.state.metrics.audit().queue.fall();
                    writer.take(&*entry);
                }
                Message::Close(done) => {
                    close = Some(done);
                    break;
                }
            }
            next = match writer.pending.len() {
                0..BATCH => receiver.try_recv().ok(),
                _ => None,
            };
        }
        caught_up = writer.pending.len() < BATCH;
        if let Some(done) = close {
            finish(&mut writer, &done);
            return;
        }
        if writer.flush() {
            writer.rotate_if_due();
        }
    }
}

/// The last line. Tried until it is written: whoever waits for it does so for as long as they want.
fn finish(writer: &mut Writer, done: &SyncSender<()>) {
    writer.own_up();
    writer.sign(&Signed::Stop);
    while !writer.flush() {
        std::thread::sleep(AGAIN);
    }
    // Whoever asked may have stopped waiting.
    let _gone: Result<(), TrySendError<()>> = done.try_send(());
}
