//! Where access lines go: a bounded queue of batches, and one thread that writes them out. A reader
//! of stdout that stalls never stalls a request; what does not fit is counted as lost.

use std::io::{self, IoSlice, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::Format;
use super::metrics::Count;

/// Bytes of lines that wait at most.
const ROOM: usize = 16 * 1024 * 1024;
/// How long lines gather before they are written: a wake-up and a write cost the more, by the line, the
/// fewer lines they are for.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of lines that lie together at most, unless one line is longer.
const BATCH: usize = 64 * 1024;
/// Empty buffers that are kept while lines keep coming: those of a pause under load. Memory that goes and
/// comes is memory that the system clears each time.
const SPARES: usize = 16;
/// How long no line comes until they are given back.
const LULL: Duration = Duration::from_secs(1);

/// The way into the access log. Cheap to clone, never waits for a reader.
#[derive(Debug, Clone)]
pub struct Sink {
    format: Format,
    to: Target,
    lost: Arc<Count>,
}

#[derive(Debug, Clone)]
enum Target {
    Writer(Arc<Handle>),
    Memory(Arc<Mutex<Vec<String>>>),
}

/// What all clones of a sink hold: when the last is gone, so is the writer, as soon as it is done.
#[derive(Debug)]
struct Handle(Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.0.waiting).closed = true;
        self.0.more.notify_one();
    }
}

/// Between those who have lines and the one who writes them. The lock is held for the copy of a
/// line, however much waits, or to take all that does.
#[derive(Debug)]
struct Queue {
    room: usize,
    /// See [`LULL`].
    lull: Duration,
    waiting: Mutex<Waiting>,
    /// Told when there is something to write, if the writer waits for it.
    more: Condvar,
    /// Told after each write.
    written: Condvar,
}

/// Whole lines that lie together.
#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    lines: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: Vec<Batch>,
    /// Buffers for the next ones.
    spares: Vec<Vec<u8>>,
    /// Bytes in the batches.
    bytes: usize,
    /// Times that the writer was handed what waited.
    handed: u64,
    /// Those of them that it is done with.
    done: u64,
    /// The writer waits on `more`.
    idle: bool,
    /// Somebody waits for the end of what is here: no pause.
    hurry: bool,
    closed: bool,
}

impl Waiting {
    fn add(&mut self, line: &[u8]) {
        match self.batches.last_mut() {
            Some(batch) if batch.text.len().saturating_add(line.len()) <= BATCH => {
                batch.text.extend_from_slice(line);
                batch.lines += 1;
            }
            // What waits already is not moved to make room.
            Some(_) | None => {
                let mut text = self.spares.pop().unwrap_or_default();
                text.reserve_exact(BATCH.max(line.len()));
                text.extend_from_slice(line);
                self.batches.push(Batch { text, lines: 1 });
            }
        }
        self.bytes += line.len();
    }
}

impl Sink {
    /// Writes to standard output. `lost` counts lines that could not be written.
    ///
    /// # Errors
    /// When the writer's thread cannot be started.
    pub fn stdout(format: Format, lost: &Arc<Count>) -> io::Result<Self> {
        Self::to_writer(format, lost, io::stdout())
    }

    /// Writes to `writer`, from a thread of its own, for programs that hold the gate inside and
    /// keep standard output for themselves. `lost` counts lines that could not be written.
    ///
    /// # Errors
    /// When the writer's thread cannot be started.
    pub fn to_writer(
        format: Format,
        lost: &Arc<Count>,
        writer: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        Self::to(format, lost, writer, ROOM)
    }

    fn to(
        format: Format,
        lost: &Arc<Count>,
        writer: impl Write + Send + 'static,
        room: usize,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(room));
        let (losses, theirs) = (Arc::clone(lost), Arc::clone(&queue));
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&theirs, writer, &losses))?;
        Ok(Self {
            format,
            to: Target::Writer(Arc::new(Handle(queue))),
            lost: Arc::clone(lost),
        })
    }

    /// Keeps the lines, as JSON, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self::memory_as(Format::Json)
    }

    pub(super) fn memory_as(format: Format) -> Self {
        Self {
            format,
            to: Target::Memory(Arc::default()),
            lost: Arc::default(),
        }
    }

    /// The lines that a [`Self::memory`] sink kept, without line breaks; none of another's.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match &self.to {
            Target::Writer(_) => Vec::new(),
            Target::Memory(lines) => lock(lines).clone(),
        }
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Takes one line, with its line break and no other. Never waits for a reader.
    pub(super) fn take(&self, line: &[u8]) {
        match &self.to {
            Target::Writer(handle) => {
                let queue = &handle.0;
                let mut waiting = lock(&queue.waiting);
                if waiting.bytes.saturating_add(line.len()) > queue.room {
                    drop(waiting);
                    self.lost.add_one();
                    return;
                }
                waiting.add(line);
                if std::mem::take(&mut waiting.idle) {
                    drop(waiting);
                    queue.more.notify_one();
                }
            }
            Target::Memory(lines) => {
                let text = String::from_utf8_lossy(line);
                lock(lines).push(text.trim_end_matches('\n').to_owned());
            }
        }
    }

    /// Takes a line that is about no request, with its line break, whatever the format. Never waits
    /// for a reader.
    pub fn announce(&self, line: &[u8]) {
        self.take(line);
    }

    /// Waits until everything taken so far is written, at most `timeout`. False when it was not:
    /// nobody reads the log. Blocks: for shutdown, not for a data-plane thread.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let Target::Writer(handle) = &self.to else {
            return true;
        };
        let end = Instant::now() + timeout;
        let queue = &handle.0;
        let mut waiting = lock(&queue.waiting);
        // What is here is handed over next, where there is anything.
        let last = waiting.handed + u64::from(!waiting.batches.is_empty());
        while waiting.done < last {
            waiting.hurry = true;
            queue.more.notify_one();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = queue.written.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn new(room: usize) -> Self {
        Self {
            room,
            lull: LULL,
            waiting: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// What is to be written next, as soon as there is something; `None` when there will never be.
    fn next(&self) -> Option<Vec<Batch>> {
        let mut waiting = self.gather(lock(&self.waiting));
        while waiting.batches.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.gather(self.first(waiting));
        }
        waiting.hurry = false;
        waiting.handed += 1;
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.batches))
    }

    /// Lets lines gather. Those that come do not wake the writer: while they keep coming it wakes once a
    /// pause, by itself, and nobody on the data plane's core has to wake it.
    fn gather<'a>(&self, mut waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        let end = Instant::now() + PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let at_once = waiting.hurry || waiting.closed || waiting.bytes >= BATCH;
            if at_once || left.is_zero() {
                return waiting;
            }
            let woken = self.more.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first line after a pause without any.
    fn first<'a>(&self, mut waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        while waiting.batches.is_empty() && !waiting.closed {
            waiting.idle = true;
            if waiting.spares.is_empty() {
                let woken = self.more.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let woken = self.more.wait_timeout(waiting, self.lull);
            let (lines, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            waiting = lines;
            if timeout.timed_out() {
                waiting.spares = Vec::new();
            }
        }
        waiting.idle = false;
        waiting
    }

    /// What was handed over is written, or lost.
    fn done(&self, batches: Vec<Batch>) {
        let mut waiting = lock(&self.waiting);
        waiting.done += 1;
        for Batch { mut text, .. } in batches {
            if waiting.spares.len() < SPARES && text.capacity() <= BATCH {
                text.clear();
                waiting.spares.push(text);
            }
        }
        drop(waiting);
        self.written.notify_all();
    }
}

/// The writer's thread: ends when every sink is gone.
fn write_all(queue: &Queue, mut writer: impl Write, lost: &Count) {
    let mut failing = false;
    while let Some(batches) = queue.next() {
        let mut rest = &*batches;
        while !rest.is_empty() {
            let (written, result) = write_some(&mut writer, rest);
            let failed = match result {
                Ok(()) => writer.flush().err().map(|error| (rest, error)),
                // The one that failed is lost, some of its lines perhaps not; the next ones are tried.
                Err(error) => {
                    let lost = rest.get(written..=written).unwrap_or_default();
                    Some((lost, error))
                }
            };
            rest = rest.get(written.saturating_add(1)..).unwrap_or_default();
            if let Some((batches, error)) = &failed {
                lost.add(batches.iter().map(|batch| batch.lines).sum());
                // Said once, not at each batch: whoever reads stderr is warned, not flooded.
                if !failing {
                    tracing::error!(%error, "the access log cannot be written; lines are lost");
                }
            }
            failing = failed.is_some();
        }
        queue.done(batches);
    }
}

/// Writes batches, all of them at once where the system lets us, and says how many were written whole.
fn write_some(writer: &mut impl Write, batches: &[Batch]) -> (usize, io::Result<()>) {
    let mut slices: Vec<_> = batches.iter().map(|of| IoSlice::new(&of.text)).collect();
    let mut left = &mut *slices;
    while !left.is_empty() {
        match writer.write_vectored(left) {
            Ok(0) => {
                let written = batches.len().saturating_sub(left.len());
                return (written, Err(io::ErrorKind::WriteZero.into()));
            }
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (batches.len().saturating_sub(left.len()), Err(error)),
        }
    }
    (batches.len(), Ok(()))
}

#[cfg(test)]
mod tests;
