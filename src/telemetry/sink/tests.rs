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
fn buffers_are_given_back_once_no_line_comes() {
    let mut queue = Queue::new(0);
    queue.lull = Duration::ZERO;
    lock(&queue.waiting).spares.push(Vec::with_capacity(BATCH));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| queue.next().is_none());
        let end = Instant::now() + Duration::from_secs(10);
        while !lock(&queue.waiting).spares.is_empty() && Instant::now() < end {
            std::thread::yield_now();
        }
        let mut waiting = lock(&queue.waiting);
        let kept = waiting.spares.len();
        waiting.closed = true;
        drop(waiting);
        queue.more.notify_one();
        assert!(writer.join().unwrap());
        assert_eq!(kept, 0);
    });
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
