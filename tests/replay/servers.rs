//! Real servers of Redis or Valkey on loopback, in a folder that goes away with them.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::outbound::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// What is installed, and a folder.
pub(crate) struct Set {
    server: PathBuf,
    cli: PathBuf,
    folder: TempDir,
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

impl Set {
    /// `None`, said aloud, where no server is installed.
    pub(crate) fn new() -> Option<Self> {
        for name in ["valkey", "redis"] {
            if let (Some(server), Some(cli)) = (
                installed(&format!("{name}-server")),
                installed(&format!("{name}-cli")),
            ) {
                return Some(Self {
                    server,
                    cli,
                    folder: tempfile::tempdir().unwrap(),
                });
            }
        }
        eprintln!("replay: NOT RUN (no valkey-server or redis-server)");
        None
    }

    /// Starts a server that keeps nothing on disk; waits until it answers.
    pub(crate) fn server(&self, arguments: &[&str]) -> Server {
        // The port is free until another takes it: then the server ends, and another is tried.
        for _ in 0..5 {
            let port = free_port();
            let folder = self.folder.path().join(port.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let mut all: Vec<String> = if arguments.contains(&"--tls-port") {
                let (port, arguments) = (port.to_string(), arguments.iter());
                let given = arguments.map(|one| if *one == "PORT" { &port } else { *one });
                given.map(ToOwned::to_owned).collect()
            } else {
                let plain = ["--port".to_owned(), port.to_string()];
                let given = arguments.iter().map(|one| (*one).to_owned());
                plain.into_iter().chain(given).collect()
            };
            for more in [
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0",
                "--repl-diskless-load",
                "swapdb",
                "--dir",
            ] {
                all.push(more.to_owned());
            }
            all.push(folder.to_string_lossy().into_owned());
            let mut server = Server {
                port,
                arguments: all,
                binary: self.server.clone(),
                cli: self.cli.clone(),
                cli_arguments: cli_arguments(arguments),
                child: None,
            };
            if server.try_start() {
                return server;
            }
        }
        panic!("no server could be started");
    }

    /// Whether the server speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        let mut command = Command::new(&self.cli);
        let help = command.arg("--help").output().unwrap();
        let text = [help.stdout, help.stderr].concat();
        String::from_utf8_lossy(&text).contains("--tls")
    }

    /// Starts a sentinel that watches `main`, fast.
    pub(crate) fn sentinel(&self, primary: &Server) -> Server {
        for _ in 0..5 {
            let port = free_port();
            let file = self.folder.path().join(format!("sentinel-{port}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n\
                 sentinel down-after-milliseconds main 500\n\
                 sentinel failover-timeout main 3000\n",
                self.folder.path().display(),
                primary.port
            );
            std::fs::write(&file, text).unwrap();
            let mut server = Server {
                port,
                arguments: vec![file.to_string_lossy().into_owned(), "--sentinel".to_owned()],
                binary: self.server.clone(),
                cli: self.cli.clone(),
                cli_arguments: Vec::new(),
                child: None,
            };
            if server.try_start() {
                // It learns of the replica from the primary.
                server.until(&["SENTINEL", "MASTER", "main"], "num-slaves\n1");
                return server;
            }
        }
        panic!("no sentinel could be started");
    }
}

/// A port whose cluster bus (10000 above) is one too.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}

fn cli_arguments(arguments: &[&str]) -> Vec<String> {
    let after = |name: &str| {
        let at = arguments.iter().position(|one| *one == name)?;
        arguments.get(at + 1).map(|value| (*value).to_owned())
    };
    let mut all = Vec::new();
    if let Some(ca) = after("--tls-ca-cert-file") {
        all.extend(["--tls".to_owned(), "--cacert".to_owned(), ca]);
        all.extend(["--sni".to_owned(), "localhost".to_owned()]);
    }
    if let Some(password) = after("--requirepass") {
        all.extend(["--no-auth-warning".to_owned(), "-a".to_owned(), password]);
    }
    all
}

/// A server of ours. It is killed with its value, and no other process ever is.
pub(crate) struct Server {
    port: u16,
    arguments: Vec<String>,
    binary: PathBuf,
    cli: PathBuf,
    cli_arguments: Vec<String>,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let child = self.child.as_mut().unwrap();
            if child.try_wait().unwrap().is_some() {
                self.child = None;
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self.cli(&["PING"]).contains("PONG")
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        false
    }

    /// As at first, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        // The port may be in TIME_WAIT for a moment.
        let until = Instant::now() + Duration::from_secs(30);
        while !self.try_start() {
            assert!(Instant::now() < until, "the server did not come back");
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is as good.
            let _gone = child.kill();
            child.wait().unwrap();
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// What the server's own client prints.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.cli);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        let said = command
            .args(&self.cli_arguments)
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&said.stdout).replace('\r', "")
    }

    /// Waits until it says this.
    pub(crate) fn until(&self, words: &[&str], says: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.cli(words);
            if said.contains(says) {
                return;
            }
            assert!(Instant::now() < until, "{words:?}: no '{says}' in {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Becomes a replica; waits until it holds what the other does.
    pub(crate) fn follow(&self, primary: &Self) {
        self.cli(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
        self.until(&["INFO", "replication"], "master_link_status:up");
        primary.until(&["INFO", "replication"], "state=online");
    }

    pub(crate) fn promote(&self) {
        self.until(&["REPLICAOF", "NO", "ONE"], "OK");
        self.until(&["INFO", "replication"], "role:master");
    }
}

/// An authority of its own and a certificate for `localhost`.
pub(crate) struct Pki {
    authority: String,
    files: [String; 3],
}

impl Pki {
    pub(crate) fn new(set: &Set) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Not the leaf's name: that would look self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let folder = set.folder.path();
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            file.to_string_lossy().into_owned()
        };
        let authority = issuer.pem();
        let number = std::fs::read_dir(folder).unwrap().count();
        Self {
            files: [
                write(&format!("{number}-ca.pem"), &authority),
                write(&format!("{number}-chain.pem"), &leaf.pem()),
                write(&format!("{number}-key.pem"), &key.serialize_pem()),
            ],
            authority,
        }
    }

    /// For a server with TLS alone and a password.
    pub(crate) fn arguments<'a>(&'a self, password: &'a str) -> Vec<&'a str> {
        let [ca, chain, key] = &self.files;
        vec![
            "--port",
            "0",
            "--tls-port",
            "PORT",
            "--tls-ca-cert-file",
            ca,
            "--tls-cert-file",
            chain,
            "--tls-key-file",
            key,
            "--tls-auth-clients",
            "no",
            "--requirepass",
            password,
        ]
    }

    /// The file of the authority.
    pub(crate) fn ca(&self) -> &str {
        &self.files[0]
    }

    /// A client that trusts it.
    pub(crate) fn trusted(&self) -> Tls {
        let ca = [("ca".to_owned(), self.authority.clone().into_bytes())];
        Tls::build(Some(&ca), None, None, false).unwrap()
    }
}
