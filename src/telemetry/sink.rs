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
            waiting: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// What is to be written next, as soon as there is something; `None` when there will never be.
    fn next(&self) -> Option<Vec<Batch>> {
        let mut waiting = lock(&self.waiting);
        while waiting.batches.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.idle = true;
            if waiting.spares.is_empty() {
                let woken = self.more.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let woken = self.more.wait_timeout(waiting, LULL);
            let (lines, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            waiting = lines;
            if timeout.timed_out() {
                waiting.spares = Vec::new();
            }
        }
        waiting.idle = false;
        // Lines gather meanwhile, and those that come do not wake the writer: one wake-up a pause,
        // and not one a request on the data plane's core.
        let end = Instant::now() + PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let at_once = waiting.hurry || waiting.closed || waiting.bytes >= BATCH;
            if at_once || left.is_zero() {
                break;
            }
            let woken = self.more.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.hurry = false;
        waiting.handed += 1;
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.batches))
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
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, Sender};

    /// A reader that counts writes and can be stalled.
    struct Probe {
        gate: Receiver<io::Result<()>>,
        seen: Sender<Vec<u8>>,
    }

    impl Write for Probe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.gate.recv().unwrap_or(Ok(()))?;
            self.seen.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Probed = (Sink, Arc<Count>, Sender<io::Result<()>>, Receiver<Vec<u8>>);

    fn probe(room: usize) -> Probed {
        let (open, gate) = mpsc::channel();
        let (seen, read) = mpsc::channel();
        let lost = Arc::new(Count::default());
        let sink = Sink::to(Format::Json, &lost, Probe { gate, seen }, room).unwrap();
        (sink, lost, open, read)
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_no_time() {
        // OPS-05
        let (sink, lost, open, read) = probe(8);
        for _ in 0..100 {
            sink.take(b"x\n");
        }
        // The writer may have taken some before it stalled at its first write: at most four, and
        // four more wait.
        assert!(lost.value() >= 100 - 4 - 4, "{}", lost.value());
        assert!(!sink.flush(Duration::from_millis(20)), "nobody reads");
        drop(open);
        assert!(sink.flush(Duration::from_secs(10)));
        let written: usize = read.try_iter().map(|bytes| bytes.len() / 2).sum();
        assert_eq!(
            written as u64 + lost.value(),
            100,
            "each line is written or counted"
        );
    }

    #[test]
    fn lines_that_wait_go_out_in_one_write() {
        let (sink, lost, open, read) = probe(10_000);
        sink.take(b"0\n");
        for _ in 0..500 {
            sink.take(b"a line\n");
        }
        drop(open);
        assert!(sink.flush(Duration::from_secs(10)));
        let writes: Vec<_> = read.try_iter().collect();
        assert_eq!(writes.concat().len(), 2 + 500 * 7);
        assert!(writes.len() <= 3, "{}", writes.len());
        assert_eq!(lost.value(), 0);
    }

    #[test]
    fn a_closed_output_loses_lines_and_recovers() {
        let (sink, lost, open, read) = probe(10_000);
        open.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        sink.take(b"lost\n");
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(lost.value(), 1);
        open.send(Ok(())).unwrap();
        sink.take(b"kept\n");
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(read.try_iter().collect::<Vec<_>>().concat(), b"kept\n");
    }
    /// Takes a few bytes at a time, of several slices at once, and fails now and then.
    struct Narrow {
        taken: Vec<u8>,
        at_once: usize,
        calls: usize,
        fails: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(self.fails) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if self.calls.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let some = all.len().min(self.at_once);
            self.taken.extend_from_slice(&all[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest::proptest! {
        #[test]
        fn each_batch_is_written_whole_or_counted(
            sizes in proptest::collection::vec(1_usize..40, 1..8),
            at_once in 1_usize..100,
            fails in 2_usize..30,
        ) {
            let mut batches = Vec::new();
            for (at, size) in (0_u8..).zip(&sizes) {
                let text = vec![b'a' + at; *size];
                batches.push(Batch { text, lines: 1 << at });
            }
            let queue = Queue::new(0);
            lock(&queue.waiting).batches = batches;
            lock(&queue.waiting).closed = true;
            let lost = Count::default();
            let mut writer = Narrow { taken: Vec::new(), at_once, calls: 0, fails };
            write_all(&queue, &mut writer, &lost);
            for (at, size) in (0_u8..).zip(&sizes) {
                let came = writer.taken.iter().filter(|byte| **byte == b'a' + at).count();
                if lost.value() & 1 << at == 0 {
                    proptest::prop_assert_eq!(came, *size);
                } else {
                    proptest::prop_assert!(came < *size);
                }
            }
            proptest::prop_assert!(writer.taken.is_sorted());
        }
    }

    #[test]
    fn buffers_are_used_again_while_lines_come() {
        let queue = Queue::new(usize::MAX);
        let mut line = vec![b'x'; BATCH / 2 + 1];
        line.push(b'\n');
        for _ in 0..SPARES + 3 {
            lock(&queue.waiting).add(&line);
        }
        let handed = std::mem::take(&mut lock(&queue.waiting).batches);
        let first = handed[0].text.as_ptr();
        queue.done(handed);
        let mut waiting = lock(&queue.waiting);
        assert_eq!(waiting.spares.len(), SPARES, "and no more");
        for _ in 0..SPARES {
            waiting.add(&line);
        }
        assert!(
            waiting
                .batches
                .iter()
                .any(|batch| batch.text.as_ptr() == first)
        );
        assert!(waiting.batches.iter().all(|batch| batch.text == line));
        // One that a long line made is not kept.
        waiting.add(&vec![b'y'; BATCH + 1]);
        let handed = std::mem::take(&mut waiting.batches);
        drop(waiting);
        queue.done(handed.into_iter().skip(SPARES).collect());
        assert_eq!(lock(&queue.waiting).spares.len(), 0);
    }

    #[test]
    fn a_flush_that_fails_counts_all_that_it_was_for() {
        struct Unflushed;
        impl Write for Unflushed {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let queue = Queue::new(0);
        let batch = |lines| Batch {
            text: b"x\n".to_vec(),
            lines,
        };
        lock(&queue.waiting).batches = vec![batch(1), batch(2)];
        lock(&queue.waiting).closed = true;
        let lost = Count::default();
        write_all(&queue, Unflushed, &lost);
        assert_eq!(lost.value(), 3);
    }

    #[test]
    fn batches_are_whole_lines_and_together_the_text() {
        let (mut waiting, mut text) = (Waiting::default(), Vec::new());
        for length in [1, 70_000, 3, 65_535, 65_536, 65_537, 9, 9] {
            let mut line = vec![b'x'; length];
            line[length - 1] = b'\n';
            waiting.add(&line);
            text.extend(line);
        }
        assert_eq!(waiting.bytes, text.len());
        assert_eq!(waiting.spares.len(), 0);
        let mut all = Vec::new();
        for Batch { text, lines } in waiting.batches {
            assert!(text.len() <= BATCH || lines == 1);
            assert_eq!(text.last(), Some(&b'\n'));
            let breaks = text.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(breaks as u64, lines);
            all.extend(text);
        }
        assert_eq!(all, text);
    }
}
