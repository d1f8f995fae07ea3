//! A server under measurement: started, watched through `/proc`, ended with the bench.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The core of the server where load and server are kept apart; the load has all others.
const SERVER_CORE: &str = "0";

/// Puts every thread of this process on the cores that are not the server's, or on all again.
pub(crate) fn keep_apart(apart: bool) {
    let cores = cores();
    let list = match (apart, cores) {
        (true, 2) => "1".to_owned(),
        (true, 3..) => format!("1-{}", cores - 1),
        (true, _) => return,
        (false, _) => format!("0-{}", cores - 1),
    };
    let id = std::process::id().to_string();
    let done = Command::new("taskset").args(["-acp", &list, &id]).output();
    assert!(
        done.is_ok_and(|done| done.status.success()),
        "taskset of util-linux is needed"
    );
}

/// Processors of the machine, whatever this process is bound to now.
pub(crate) fn cores() -> usize {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    text.lines()
        .filter(|line| line.starts_with("processor"))
        .count()
}

/// A running server.
pub(crate) struct Process {
    child: Child,
    addresses: HashMap<String, SocketAddr>,
    /// From its start to its line `ready`; only of the gate.
    pub(crate) started_in: Duration,
}

impl Process {
    /// Starts the gate; `apart`: on a core of its own. The program is that of the path in `PORTCULLIS_BENCHED`,
    /// else the one that cargo built beside the bench.
    pub(crate) fn gate(config: &Path, apart: bool) -> Self {
        let given = std::env::var("PORTCULLIS_BENCHED");
        let program = given.as_deref().unwrap_or(env!("CARGO_BIN_EXE_portcullis"));
        let mut command = command(program, apart);
        command.args(["run", "--config"]).arg(config);
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| {
            said.push_str(line);
            said.push('\n');
            line.contains(" ready ")
        });
        let started_in = began.elapsed();
        let ready = ready.unwrap_or_else(|| panic!("the gate did not get ready:\n{said}"));
        let mut addresses = HashMap::new();
        for word in ready.split_whitespace() {
            if let Some((name, address)) = word.split_once('=')
                && let Ok(address) = address.parse()
            {
                addresses.insert(name.trim_start_matches("listener.").to_owned(), address);
            }
        }
        // Nobody reads what it says later, but somebody must.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            addresses,
            started_in,
        }
    }

    /// Starts another server, which listens on `address` once it is up.
    pub(crate) fn peer(
        program: &Path,
        arguments: &[String],
        address: SocketAddr,
        log: &Path,
    ) -> Option<Self> {
        let log = std::fs::File::create(log).unwrap();
        let began = Instant::now();
        let mut child = command(program, true)
            .args(arguments)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .ok()?;
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > Duration::from_secs(20) || !matches!(child.try_wait(), Ok(None)) {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let addresses = HashMap::from([("bank".to_owned(), address)]);
        Some(Self {
            child,
            addresses,
            started_in: began.elapsed(),
        })
    }

    /// Where a listener listens; `admin` for the administration.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    /// It and its children.
    fn family(&self) -> Vec<u32> {
        let mut parents = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let after = stat.rsplit(')').next().unwrap_or_default();
            let parent = after
                .split_whitespace()
                .nth(1)
                .and_then(|text| text.parse::<u32>().ok());
            parents.push((id, parent.unwrap_or_default()));
        }
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while let Some(id) = family.get(at).copied() {
            family.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| *parent == id)
                    .map(|(id, _)| *id),
            );
            at += 1;
        }
        family
    }

    /// Time that its threads were on a processor.
    pub(crate) fn cpu(&self) -> Duration {
        let family = self.family();
        family
            .iter()
            .flat_map(|id| threads(*id))
            .map(|(_, time)| time)
            .sum()
    }

    /// The same for each data-plane thread.
    pub(crate) fn cpu_of_workers(&self) -> Vec<Duration> {
        let mut workers = threads(self.child.id());
        workers.retain(|(name, _)| name.starts_with("data-"));
        workers.sort();
        workers.into_iter().map(|(_, time)| time).collect()
    }

    /// Memory that it holds, in KiB: proportional, where processes share some.
    pub(crate) fn memory_kib(&self) -> u64 {
        let of = |id: &u32| number(&format!("/proc/{id}/smaps_rollup"), "Pss:");
        self.family().iter().map(of).sum()
    }

    /// The most resident memory that it ever held, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let of = |id: &u32| number(&format!("/proc/{id}/status"), "VmHWM:");
        self.family().iter().map(of).sum()
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> usize {
        threads(self.child.id()).len()
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// A page of the administration.
    pub(crate) fn admin(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.address("admin")).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    /// A metric: the sum over its series.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.admin("/metrics");
        let of = |line: &str| {
            let rest = line
                .strip_prefix(name)
                .filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.trim().parse::<f64>().ok()
        };
        page.lines().filter_map(of).sum()
    }

    /// The generation of the configuration that serves.
    pub(crate) fn generation(&self) -> u64 {
        let page = self.admin("/status");
        let after = page.split("\"generation\":").nth(1).expect("a generation");
        let digits: String = after
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().unwrap()
    }

    /// Has it read its file again, and waits until that serves.
    pub(crate) fn reload(&self) {
        let before = self.generation();
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-HUP", &id])
                .status()
                .unwrap()
                .success()
        );
        let began = Instant::now();
        while self.generation() <= before {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "no new generation"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        for _ in 0..20 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: impl AsRef<Path>, apart: bool) -> Command {
    if !apart || cores() < 2 {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program.as_ref());
    command
}

/// Name and time on a processor of each thread.
fn threads(id: u32) -> Vec<(String, Duration)> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else {
        return Vec::new();
    };
    let of = |path: &Path| {
        let name = std::fs::read_to_string(path.join("comm"))
            .ok()?
            .trim()
            .to_owned();
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
        Some((name, Duration::from_nanos(nanoseconds)))
    };
    tasks
        .flatten()
        .filter_map(|task| of(&task.path()))
        .collect()
}

fn number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    word.unwrap_or_default()
}
