//! The real binary as a process: started, watched, told things, and never left behind.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::client::Answer;
use crate::lab::http1::{Framing, Reader};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Lines {
    fn collect(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let lines = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lines.lines.lock().unwrap().push(line);
                lines.changed.notify_all();
            }
            lines.ended.store(true, Ordering::Release);
        });
    }

    /// Waits until everything that a process that has ended wrote is here.
    fn all(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.ended.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn find<T>(&self, within: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let until = Instant::now() + within;
        let mut lines = self.lines.lock().unwrap();
        let mut looked_at = 0;
        loop {
            while looked_at < lines.len() {
                if let Some(found) = wanted(&lines[looked_at]) {
                    return Some(found);
                }
                looked_at += 1;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            lines = self.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// A running gate. Killed when dropped, and when the test process ends in whatever way.
pub(crate) struct Gate {
    child: Child,
    /// Ends the gate when the pipe to it closes, which it does when this process is no more.
    watcher: Child,
    lifeline: Option<ChildStdin>,
    addresses: HashMap<String, SocketAddr>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

impl Gate {
    /// Starts with this file and waits until it says that it is ready.
    pub(crate) fn start(config: &Path) -> Self {
        Self::start_with(config, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(config: &Path, arguments: &[&str]) -> Self {
        Self::ready(Self::spawn(config, arguments))
    }

    fn ready(mut gate: Self) -> Self {
        let until = Instant::now() + PATIENCE;
        let ready = loop {
            let is_ready = |line: &str| line.contains(" ready ").then(|| line.to_owned());
            if let Some(line) = gate.stderr.find(Duration::from_millis(50), is_ready) {
                break line;
            }
            let ended = gate.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "the gate did not get ready ({ended:?}):\n{}",
                gate.stderr.text()
            );
        };
        for word in ready.split_whitespace() {
            if let Some((name, address)) = word.split_once('=')
                && let Ok(address) = address.parse()
            {
                let name = name.strip_prefix("listener.").unwrap_or(name);
                gate.addresses.insert(name.to_owned(), address);
            }
        }
        gate
    }

    /// Starts a gate that a limit on the size of files does not kill, but shows as an error.
    pub(crate) fn start_ignoring_file_limits(config: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(env!("CARGO_BIN_EXE_portcullis"));
        Self::ready(Self::spawn_by(command, config, &[]))
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn spawn(config: &Path, arguments: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        Self::spawn_by(command, config, arguments)
    }

    fn spawn_by(mut command: Command, config: &Path, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["run", "--config"])
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut watcher = Command::new("sh")
            .args(["-c", "read forever; kill -9 \"$0\" 2>/dev/null"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        stdout.collect(child.stdout.take().unwrap());
        stderr.collect(child.stderr.take().unwrap());
        Self {
            lifeline: watcher.stdin.take(),
            child,
            watcher,
            addresses: HashMap::new(),
            stdout,
            stderr,
        }
    }

    /// Starts with this file and expects it to end by itself: its status and stderr.
    pub(crate) fn fail_to_start(config: &Path) -> (ExitStatus, String) {
        let mut gate = Self::spawn(config, &[]);
        let status = gate.exit(PATIENCE).expect("it ends by itself");
        (status, gate.stderr())
    }

    /// Where a listener listens; `admin` for the administration.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let found = self.addresses.get(name).copied();
        found.unwrap_or_else(|| panic!("no {name} in the ready line: {:?}", self.addresses))
    }

    /// All of stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// All of stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits for a line on stderr that has this text.
    pub(crate) fn says(&self, text: &str) -> String {
        self.stderr
            .find(PATIENCE, |line| {
                line.contains(text).then(|| line.to_owned())
            })
            .unwrap_or_else(|| panic!("{text:?} is not on stderr:\n{}", self.stderr.text()))
    }

    /// Waits for the log line in which this field has this value.
    pub(crate) fn log(&self, field: &str, value: &str) -> Value {
        self.find_log(field, value, PATIENCE).unwrap_or_else(|| {
            panic!(
                "no log line with {field} = {value}:\n{}",
                self.stdout.text()
            )
        })
    }

    /// The same, or none after this time.
    pub(crate) fn find_log(&self, field: &str, value: &str, within: Duration) -> Option<Value> {
        self.stdout.find(within, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line[field].as_str() == Some(value)).then_some(line)
        })
    }

    /// Every log line so far in which this field has this value.
    pub(crate) fn logs(&self, field: &str, value: &str) -> Vec<Value> {
        let text = self.stdout.text();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line[field].as_str() == Some(value))
            .collect()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success(), "kill -{name}");
    }

    /// Waits for its end.
    pub(crate) fn exit(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.stdout.all();
                self.stderr.all();
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Memory that it holds, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse().unwrap()
    }

    /// Asks the administration.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        use std::io::Write as _;
        let mut socket = std::net::TcpStream::connect(self.address("admin")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut reader = Reader::new(socket);
        let head = reader.head().unwrap().expect("an answer");
        let mut answer = Answer::of(head).unwrap();
        let framing = crate::lab::http1::answer_framing(&answer.head, answer.status, "GET");
        assert_ne!(framing, Framing::None, "{path} has no content");
        (answer.body, answer.trailers) = reader.body(framing).unwrap();
        answer
    }

    /// `/status`.
    pub(crate) fn status(&self) -> Value {
        self.admin("/status").json()
    }

    /// A metric's value: the sum over its series whose labels have all these texts.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = String::from_utf8(self.admin("/metrics").body).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The generation that serves.
    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().expect("a generation")
    }

    /// Tells it to read its file again and waits until the new configuration serves.
    pub(crate) fn reload(&self) {
        let before = self.generation();
        self.signal("HUP");
        self.until("a new generation", || self.generation() > before);
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so() {
            assert!(
                Instant::now() < until,
                "{what} did not come:\n{}",
                self.stderr.text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The watcher first: once the gate is reaped its number may be another's.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        drop(self.lifeline.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
