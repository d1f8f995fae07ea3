//! Who may import whom, held by reading the sources: the rooms stand on floors, and each outside
//! crate that could be exchanged has one owner.

#![expect(
    clippy::expect_used,
    clippy::string_slice,
    reason = "a test that reads our own sources; if it breaks, it has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms that it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("refusal", &[]),
    ("pdp", &["refusal"]),
    ("clock", &["pdp"]),
    ("telemetry", &["pdp", "refusal"]),
    ("tls", &["pdp", "refusal", "clock", "telemetry"]),
    ("http", &["pdp", "refusal", "telemetry"]),
    ("admin", &["telemetry"]),
    ("outbound", &["tls"]),
    ("loopback", &[]),
    (
        "listener",
        &["pdp", "refusal", "tls", "http", "loopback", "telemetry"],
    ),
    (
        "replay",
        &["pdp", "refusal", "clock", "outbound", "telemetry"],
    ),
    (
        "pip",
        &["pdp", "refusal", "clock", "outbound", "replay", "telemetry"],
    ),
    ("audit", &["pdp", "refusal", "clock", "telemetry"]),
    ("revocation", &["pdp", "pip", "tls", "clock", "telemetry"]),
    (
        "upstream",
        &[
            "pdp",
            "refusal",
            "http",
            "loopback",
            "outbound",
            "telemetry",
        ],
    ),
    (
        "pipeline",
        &[
            "audit",
            "pdp",
            "refusal",
            "clock",
            "http",
            "pip",
            "upstream",
            "telemetry",
        ],
    ),
    // Of all but the first two, the settings types alone: see `SETTINGS_ONLY`.
    (
        "config",
        &[
            "pdp",
            "refusal",
            "admin",
            "audit",
            "http",
            "listener",
            "outbound",
            "pip",
            "replay",
            "revocation",
            "telemetry",
            "tls",
            "upstream",
        ],
    ),
    (
        "app",
        &[
            "cli",
            "admin",
            "audit",
            "clock",
            "config",
            "http",
            "listener",
            "outbound",
            "pdp",
            "pip",
            "pipeline",
            "refusal",
            "replay",
            "revocation",
            "telemetry",
            "tls",
            "upstream",
        ],
    ),
    ("cli", &[]),
    ("main", &["app", "cli", "config", "refusal"]),
];

/// What `config` may take whole. Of other rooms it names types that stand in their `mod.rs`, or in
/// these modules of theirs.
const SETTINGS_ONLY: (&str, &[&str]) = ("config", &["pdp", "refusal"]);
const SETTINGS_MODULES: &[(&str, &str)] = &[
    ("pip", "introspect"),
    ("pip", "registry"),
    ("tls", "identity"),
    ("tls", "trust"),
];

/// An outside crate and the only places that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("jsonwebtoken", &["pdp/jwt", "pdp/keys"]),
    ("rustls_pemfile", &["tls/pem"]),
    ("moka", &["pip/cache", "tls/known"]),
    ("redis", &["replay/link"]),
    ("httparse", &["upstream/http1"]),
    ("toml", &["config"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
];

/// What the pure rooms never name: nothing there waits, asks the time, or speaks to the outside.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio_rustls",
    "tracing",
    "moka",
    "std::fs",
    "std::env",
    "std::net::TcpStream",
    "std::thread",
    "std::process",
];

#[test]
fn every_room_keeps_to_its_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "the sources are not where they were");
    let mut found = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(&root)
            .expect("under src")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).expect("a source file can be read");
        found.extend(offences(&name, &text));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a source folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// What a source file says that it may not. `name` is its path under `src`.
fn offences(name: &str, text: &str) -> Vec<String> {
    // Tests may look wherever they need to; those of a file stand last in it, or beside it.
    if name
        .split('/')
        .any(|part| part == "tests.rs" || part == "tests")
        || name == "lib.rs"
    {
        return Vec::new();
    }
    let code = code(text);
    let room = name
        .split('/')
        .next()
        .unwrap_or(name)
        .trim_end_matches(".rs");
    let Some((_, allowed)) = ROOMS.iter().find(|(of, _)| *of == room) else {
        return vec![format!(
            "{name}: {room} is no room of the house; give it a floor in ROOMS"
        )];
    };
    let mut found = Vec::new();
    if mentions(&code, "super::super") {
        found.push(format!("{name}: super::super; write crate::{room}::…"));
    }
    let top = !name.contains('/') || name == format!("{room}/mod.rs");
    let mut roots = vec!["crate", "portcullis"];
    if top {
        roots.push("super");
    }
    for path in roots.iter().flat_map(|root| imports(&code, root)) {
        let mut parts = path.split("::");
        let (other, item) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        if other == room || !ROOMS.iter().any(|(of, _)| *of == other) {
            continue;
        }
        if !allowed.contains(&other) {
            found.push(format!("{name}: {room} may not import {other} ({path})"));
        }
        if room == SETTINGS_ONLY.0 && !SETTINGS_ONLY.1.contains(&other) {
            // A room taken as a module is looked up where its name is used.
            let used = match item {
                "" => imports(&code, other),
                item => vec![item.to_owned()],
            };
            for item in used {
                let item = item.split("::").next().unwrap_or_default();
                let settings = SETTINGS_MODULES.contains(&(other, item));
                if !settings && !item.starts_with(char::is_uppercase) {
                    found.push(format!(
                        "{name}: {room} may name settings types of {other} only ({other}::{item})"
                    ));
                }
            }
        }
    }
    for (outside, owners) in OWNERS {
        let owner = owners.iter().any(|owner| {
            name.strip_prefix(owner)
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
        if !owner && mentions(&code, outside) {
            found.push(format!(
                "{name}: only {} may use {outside}",
                owners.join(" and ")
            ));
        }
    }
    if matches!(room, "pdp" | "refusal") {
        for word in IMPURE.iter().filter(|word| mentions(&code, word)) {
            found.push(format!("{name}: the core is pure and does not use {word}"));
        }
    }
    found
}

/// The file without comments and without the test module at its end.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = |next: &&str| {
            next.trim_start()
                .trim_start_matches("pub(super) ")
                .starts_with("mod ")
        };
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(opens) {
            break;
        }
        out.push_str(line.split("//").next().unwrap_or_default());
        out.push('\n');
    }
    out
}

/// Where a path begins with this, as the name of a crate or module.
fn places<'t>(code: &'t str, path: &str) -> Vec<&'t str> {
    let letter = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let places = code.match_indices(path).filter_map(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + path.len()..];
        (!before.is_some_and(letter)).then_some(after)
    });
    places.collect()
}

fn mentions(code: &str, path: &str) -> bool {
    let ends = |after: &&str| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let used = |after: &&str| {
        path.contains("::")
            || after.starts_with("::")
            || after.starts_with(" as ")
            || after.starts_with("::{")
    };
    let named = format!("use {path};");
    code.contains(&named)
        || places(code, path)
            .iter()
            .any(|after| ends(after) && used(after))
}

/// Every path under a root: `crate::a::b` and those of `crate::{a::b, c}`.
fn imports(code: &str, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in places(code, root) {
        let Some(rest) = after.strip_prefix("::") else {
            continue;
        };
        let path = |text: &str| -> String {
            let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            text[..end.unwrap_or(text.len())]
                .trim_end_matches(':')
                .to_owned()
        };
        let Some(group) = rest.strip_prefix('{') else {
            found.push(path(rest));
            continue;
        };
        let mut depth = 0_usize;
        let mut first = true;
        for (at, c) in group.char_indices() {
            if first && !c.is_whitespace() {
                found.push(path(&group[at..]));
                first = false;
            }
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => first = true,
                _ => {}
            }
        }
    }
    found
}

#[test]
fn the_rules_catch_what_they_are_for() {
    let caught = [
        ("pdp/step.rs", "use crate::pip::Pip;"),
        (
            "pdp/mod.rs",
            "use super::http;\nfn f() { super::http::x() }",
        ),
        (
            "pdp/step.rs",
            "use crate::{\n    refusal::{Reason, Refusal},\n    telemetry::Metrics,\n};",
        ),
        ("pdp/step.rs", "use super::super::refusal;"),
        ("pdp/jwt/header.rs", "let x = tokio::time::sleep(d);"),
        ("pdp/route.rs", "use std::fs;"),
        ("refusal/mod.rs", "use crate::pdp::Route;"),
        ("pip/jwks.rs", "use moka::sync::Cache;"),
        ("pip/mod.rs", "use jsonwebtoken as jwt;"),
        ("upstream/pool.rs", "use toml;"),
        ("app/mod.rs", "#[derive(clap::Parser)]"),
        ("outbound.rs", "use crate::pdp::Peer;"),
        ("config/checked.rs", "use crate::tls::pem::read;"),
        ("config/checked.rs", "use crate::pipeline::Thing;"),
        (
            "config/checked.rs",
            "use crate::{http, pip};\nfn f() { http::connection::serve() }",
        ),
        ("nowhere.rs", ""),
        ("main.rs", "use portcullis::upstream::Pool;"),
    ];
    for (name, text) in caught {
        assert!(!offences(name, text).is_empty(), "{name}: {text}");
    }
    let fine = [
        (
            "pdp/step.rs",
            "use crate::refusal::{Reason, Refusal};\nuse super::policy::Route;",
        ),
        ("pdp/keys/parse.rs", "use jsonwebtoken::DecodingKey;"),
        ("pip/cache.rs", "use moka::sync::Cache;"),
        (
            "config/checked.rs",
            "use crate::tls::Settings;\nuse crate::pdp::policy::Route;",
        ),
        (
            "config/checked.rs",
            "use crate::{http, tls::trust};\nfn f() -> http::Limits { trust::X }",
        ),
        ("config/mod.rs", "use toml::Value;"),
        ("pdp/step.rs", "// see crate::pip\nuse http::Method;"),
        (
            "pdp/step.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use crate::pip::Pip; }",
        ),
        ("tls/trust.rs", "use rustls::pki_types::pem::PemObject;"),
        ("main.rs", "use portcullis::{app, cli};"),
    ];
    for (name, text) in fine {
        assert_eq!(offences(name, text), [""; 0], "{name}: {text}");
    }
}
