//! Where access lines go: a bounded queue, and one thread that writes them in batches. A reader
//! of stdout that stalls never stalls a request; what does not fit is counted as lost.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::line::Format;
use super::metrics::Count;

/// Lines that wait at most. At a kilobyte each, 16 MiB.
const QUEUE: usize = 16 * 1024;

/// How long lines gather before they are written.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes that are written at once at most, give or take a line.
const BATCH: usize = 64 * 1024;

/// The way into the access log. Cheap to clone, never waits.
#[derive(Debug, Clone)]
pub struct Sink {
    format: Format,
    to: Target,
    lost: Arc<Count>,
}

#[derive(Debug, Clone)]
enum Target {
    Queue(SyncSender<Message>),
    Memory(Arc<Mutex<Vec<String>>>),
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Say so when everything before is written.
    Flush(SyncSender<()>),
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
        Self::to(format, lost, writer, QUEUE)
    }

    fn to(
        format: Format,
        lost: &Arc<Count>,
        writer: impl Write + Send + 'static,
        queue: usize,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(queue);
        let losses = Arc::clone(lost);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&receiver, writer, &losses))?;
        Ok(Self {
            format,
            to: Target::Queue(sender),
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
            Target::Queue(_) => Vec::new(),
            Target::Memory(lines) => lock(lines).clone(),
        }
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Takes one line, with its line break. Never waits.
    pub(super) fn take(&self, line: Vec<u8>) {
        match &self.to {
            Target::Queue(sender) => {
                if sender.try_send(Message::Line(line)).is_err() {
                    self.lost.add_one();
                }
            }
            Target::Memory(lines) => {
                let text = String::from_utf8_lossy(&line);
                lock(lines).push(text.trim_end_matches('\n').to_owned());
            }
        }
    }

    /// Takes a line that is about no request, with its line break, whatever the format. Never waits.
    pub fn announce(&self, line: &[u8]) {
        self.take(line.to_vec());
    }

    /// Waits until everything taken so far is written, at most `timeout`. False when it was not:
    /// nobody reads the log. Blocks: for shutdown, not for a data-plane thread.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let Target::Queue(sender) = &self.to else {
            return true;
        };
        let end = Instant::now() + timeout;
        let (done, written) = mpsc::sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(refused) = sender.try_send(message) {
            // The queue is full: the writer makes room, or nobody reads.
            message = match refused {
                TrySendError::Full(back) => back,
                TrySendError::Disconnected(_) => return false,
            };
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = end.saturating_duration_since(Instant::now());
        written.recv_timeout(left).is_ok()
    }
}

fn lock(lines: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer's thread: ends when every sink is gone.
fn write_all(receiver: &Receiver<Message>, mut writer: impl Write, lost: &Count) {
    let mut batch: Vec<u8> = Vec::with_capacity(BATCH + 4096);
    let mut failing = false;
    let mut caught_up = true;
    while let Ok(first) = receiver.recv() {
        let mut lines = 0;
        let mut flushed = Vec::new();
        if caught_up && matches!(first, Message::Line(_)) {
            // Nobody waits for a line. While this thread sleeps, those that come do not wake it: one
            // wake-up a pause, and not one a request on the data plane's core.
            std::thread::sleep(PAUSE);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Message::Flush(done) => flushed.push(done),
            }
            next = match batch.len() {
                0..BATCH => receiver.try_recv().ok(),
                _ => None,
            };
        }
        caught_up = batch.len() < BATCH;
        let written = writer.write_all(&batch).and_then(|()| writer.flush());
        batch.clear();
        match written {
            Ok(()) => failing = false,
            Err(error) => {
                lost.add(lines);
                // Said once, not at each batch: whoever reads stderr is warned, not flooded.
                if !failing {
                    tracing::error!(%error, "the access log cannot be written; lines are lost");
                }
                failing = true;
            }
        }
        for done in flushed {
            // Whoever asked may have stopped waiting.
            let _gone: Result<(), TrySendError<()>> = done.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

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

    fn probe(queue: usize) -> Probed {
        let (open, gate) = mpsc::channel();
        let (seen, read) = mpsc::channel();
        let lost = Arc::new(Count::default());
        let sink = Sink::to(Format::Json, &lost, Probe { gate, seen }, queue).unwrap();
        (sink, lost, open, read)
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_no_time() {
        // OPS-05
        let (sink, lost, open, read) = probe(4);
        for _ in 0..100 {
            sink.take(b"x\n".to_vec());
        }
        // The writer may have taken some before it stalled at its first write: that batch, then
        // four in the queue.
        assert!(lost.value() >= 100 - 4 - 5 - 1, "{}", lost.value());
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
        let (sink, lost, open, read) = probe(1000);
        sink.take(b"0\n".to_vec());
        for _ in 0..500 {
            sink.take(b"a line\n".to_vec());
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
        let (sink, lost, open, read) = probe(1000);
        open.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        sink.take(b"lost\n".to_vec());
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(lost.value(), 1);
        open.send(Ok(())).unwrap();
        sink.take(b"kept\n".to_vec());
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(read.try_iter().collect::<Vec<_>>().concat(), b"kept\n");
    }
}
