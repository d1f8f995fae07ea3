//! The audit log of the real binary: what is in it, what shows, and what becomes of requests when
//! it cannot be written.

mod failure;
mod rules;
mod tampering;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::Value;

use crate::lab::client::{Answer, Request};
use crate::support::{Config, Gate, Stage};

/// A stage with keys for an audit log.
struct Audited {
    stage: Stage,
}

impl Audited {
    fn new() -> Self {
        let stage = Stage::new();
        std::fs::create_dir(stage.path("audit")).unwrap();
        std::fs::create_dir(stage.path("keys")).unwrap();
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let private = |name: &str, text: &str| {
            std::fs::write(stage.path(name), text).unwrap();
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(stage.path(name), mode).unwrap();
        };
        private("keys/audit", "0123456789abcdef0123456789abcdef\n");
        private("keys/sign.pem", &pair.serialize_pem());
        std::fs::write(stage.path("keys/sign.pub.pem"), pair.public_key_pem()).unwrap();
        Self { stage }
    }

    /// A sound configuration with an audit log; `lines` are further lines of its table.
    fn config(&self, lines: &str) -> Config {
        let mut config = self.stage.config();
        config.more.push_str(&format!(
            "\n[audit]\nfile = \"audit/decisions.jsonl\"\nkey = {{ file = \"keys/audit\" }}\nsigning_key = \"keys/sign.pem\"\n{lines}\n"
        ));
        config
    }

    fn start(&self, lines: &str) -> Gate {
        self.stage.start(&self.config(lines))
    }

    fn log(&self) -> PathBuf {
        self.stage.path("audit/decisions.jsonl")
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.stage.path("audit")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn text(&self) -> String {
        let texts = self
            .files()
            .into_iter()
            .map(|file| std::fs::read_to_string(file).unwrap());
        texts.collect()
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn decisions(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["kind"] == "decision");
        lines
    }

    fn audit(&self, command: &str, arguments: &[&Path]) -> (Option<i32>, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["audit", command])
            .args(arguments)
            .output()
            .unwrap();
        let text =
            String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
        (done.status.code(), text)
    }

    /// `audit verify` of all files, with these further arguments.
    fn verify(&self, further: &[&str]) -> (Option<i32>, String) {
        let (key, public) = (
            self.stage.path("keys/audit"),
            self.stage.path("keys/sign.pub.pem"),
        );
        let files = self.files();
        let mut arguments = vec![Path::new("--key"), &key, Path::new("--public-key"), &public];
        arguments.extend(further.iter().map(Path::new));
        arguments.extend(files.iter().map(PathBuf::as_path));
        self.audit("verify", &arguments)
    }

    #[track_caller]
    fn assert_intact(&self, further: &[&str]) -> String {
        let (code, text) = self.verify(further);
        assert_eq!(code, Some(0), "{text}");
        text
    }

    fn call(&self, gate: &Gate, target: &str) -> Answer {
        let request = Request::get(target).token(&self.stage.token());
        self.stage.client(gate).call(&request).unwrap()
    }
}

/// Ends a gate in order.
#[track_caller]
fn stop(mut gate: Gate) -> String {
    gate.signal("TERM");
    let status = gate
        .exit(std::time::Duration::from_secs(20))
        .expect("it ends");
    assert!(status.success(), "{status}: {}", gate.stderr());
    gate.stdout()
}
