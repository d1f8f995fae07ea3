//! The configuration from outside: what loads, what does not, and exactly what is said about it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends where something is not as it should be"
)]

mod bad;
mod bytes;
mod good;
mod pki;
mod policies;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use portcullis::config::{self, Checked, Problem};
use portcullis::pdp::UnixTime;

/// A folder with tests/config and a PKI in it, made anew by each run.
fn bench() -> &'static Path {
    static BENCH: OnceLock<PathBuf> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("configuration");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
        copy(&from, &folder);
        pki::write(&folder);
        for sub in ["kit", "bad"] {
            std::os::unix::fs::symlink(folder.join("pki"), folder.join(sub).join("pki")).unwrap();
        }
        folder
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn now() -> UnixTime {
    UnixTime::from_secs(pki::NOW)
}

fn load(path: &Path) -> Result<Checked, Vec<Problem>> {
    config::load(path, now(), None)
}

/// Loads a text, next to the PKI and to kit/policies.
fn load_text(text: &str) -> Result<Checked, Vec<Problem>> {
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile_in(bench())
        .unwrap();
    std::fs::write(file.path(), text).unwrap();
    load(file.path())
}

/// What a good configuration consists of at least; tests add to it.
const MINIMAL: &str = r#"
[listener.bank]
address = "127.0.0.1:8443"
public_url = "https://api.bank.example"
[listener.bank.tls]
certificate = "pki/server.pem"
private_key = "pki/server.key"
client_ca = ["pki/client-ca.pem"]
client_crl = ["pki/client-ca.crl.pem"]
[issuer.main]
issuer = "https://as.bank.example"
audience = ["https://api.bank.example"]
jwks_file = "pki/jwks.json"
[upstream.core]
servers = ["http://127.0.0.1:8080"]
plaintext = true
"#;

/// The problems, one after the other, without the folder's name.
fn said(problems: &[Problem]) -> String {
    let base = format!("{}/", bench().display());
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    text.join("\n")
        .replace(&format!("{base}bad/"), "")
        .replace(&base, "")
        + "\n"
}

/// The reports, likewise.
fn reported(checked: &Checked) -> String {
    let base = format!("{}/", bench().display());
    let text: Vec<String> = checked.reports.iter().map(ToString::to_string).collect();
    text.join("\n").replace(&base, "") + "\n"
}
