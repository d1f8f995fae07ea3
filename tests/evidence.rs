//! Which test proves which requirement: the table that an auditor asks for, held by a golden file.
//!
//! A test proves what it names: `// DPOP-06` in its body or right above it, `covers = ["TOK-01"]` in a
//! case. Every *must* is covered, or stands in `evidence/open.toml` with the reason.

#![expect(
    clippy::expect_used,
    clippy::string_slice,
    reason = "a test that reads its neighbours; if it breaks, it has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const REQUIREMENTS: &str = include_str!("evidence/requirements.tsv");

struct Requirement {
    id: &'static str,
    level: &'static str,
    text: &'static str,
}

fn requirements() -> Vec<Requirement> {
    let lines = REQUIREMENTS.lines().map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().expect("three cells a line");
        Requirement {
            id: cell(),
            level: cell(),
            text: cell(),
        }
    });
    lines.collect()
}

/// Requirement to the tests that name it.
type Evidence = BTreeMap<String, BTreeSet<String>>;

/// The ids that a text names: `A-01`, `A-01 to A-05`, `A-01 to -05`, `A-01, -03`.
fn ids(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((kind, number, after)) = next_id(rest) {
        let mut last = number;
        found.push(named(kind, number));
        rest = after;
        loop {
            let (joined, range) = match () {
                () if rest.starts_with(" to ") => (&rest[4..], true),
                () if rest.starts_with(", ") => (&rest[2..], false),
                () if rest.starts_with(" and ") => (&rest[5..], false),
                () => break,
            };
            let joined = joined.strip_prefix(kind).unwrap_or(joined);
            let Some((number, after)) = joined.strip_prefix('-').and_then(two_digits) else {
                break;
            };
            if range {
                found.extend((last + 1..=number).map(|number| named(kind, number)));
            } else {
                found.push(named(kind, number));
            }
            last = number;
            rest = after;
        }
    }
    found
}

fn named(kind: &str, number: u32) -> String {
    format!("{kind}-{number:02}")
}

fn two_digits(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..2)?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let ends = !text[2..].starts_with(|c: char| c.is_ascii_alphanumeric());
    (number && ends).then(|| (digits.parse().expect("digits"), &text[2..]))
}

fn next_id(text: &str) -> Option<(&str, u32, &str)> {
    for (at, _) in text.match_indices('-') {
        let before = &text[..at];
        let kind = before.len()
            - before
                .bytes()
                .rev()
                .take_while(u8::is_ascii_uppercase)
                .count();
        let alone = !before[..kind].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        if (2..=5).contains(&(at - kind))
            && alone
            && let Some((number, after)) = two_digits(&text[at + 1..])
        {
            return Some((&before[kind..], number, after));
        }
    }
    None
}

/// What the tests of a Rust file name.
fn of_rust(file: &str, text: &str, evidence: &mut Evidence) {
    let mut current: Option<(String, usize)> = None;
    let mut pending: Vec<String> = Vec::new();
    let mut attribute = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        if let Some((name, at)) = &current {
            for id in ids(line) {
                evidence
                    .entry(id)
                    .or_default()
                    .insert(format!("{file}: {name}"));
            }
            if indent == *at && words == "}" {
                current = None;
            }
            continue;
        }
        let function = words.strip_prefix("async ").unwrap_or(words);
        if words.starts_with("#[test]") || words.starts_with("#[tokio::test") {
            attribute = true;
        } else if let Some(rest) = function.strip_prefix("fn ") {
            if attribute {
                let name = rest.split(['(', '<']).next().unwrap_or(rest).to_owned();
                for id in pending.drain(..) {
                    evidence
                        .entry(id)
                        .or_default()
                        .insert(format!("{file}: {name}"));
                }
                if !words.ends_with('}') {
                    current = Some((name, indent));
                }
            }
            pending.clear();
            attribute = false;
        } else if words.starts_with("//") {
            pending.extend(ids(line));
        } else if !words.starts_with("#[") && !words.is_empty() {
            pending.clear();
        }
    }
}

/// What cases name under `covers`.
fn of_cases(file: &str, text: &str, evidence: &mut Evidence) {
    let cases: toml::Table = toml::from_str(text).expect("cases are TOML");
    for case in cases
        .get("case")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = case.get("name").and_then(toml::Value::as_str).unwrap_or("");
        let covers = case.get("covers").and_then(toml::Value::as_array);
        for id in covers.into_iter().flatten().filter_map(toml::Value::as_str) {
            evidence
                .entry(id.to_owned())
                .or_default()
                .insert(format!("{file}: {name}"));
        }
    }
}

/// What cases of the interoperability kit are named by: `'jar-05-expired'` proves JAR-05.
fn of_interop(file: &str, text: &str, evidence: &mut Evidence) {
    for line in text.lines() {
        for name in line.split('\'').skip(1).step_by(2) {
            if !name.contains(|c: char| c != '-' && !c.is_ascii_lowercase() && !c.is_ascii_digit())
            {
                for id in ids(&name.to_ascii_uppercase()) {
                    evidence
                        .entry(id)
                        .or_default()
                        .insert(format!("{file}: {name}"));
                }
            }
        }
    }
}

fn collect(folder: &Path, to: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, to);
        } else {
            to.push(path);
        }
    }
    to.sort();
}

fn gathered() -> Evidence {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("tests"), &mut files);
    collect(&root.join("src"), &mut files);
    let mut evidence = Evidence::new();
    for path in files {
        let name = path
            .strip_prefix(root)
            .expect("below the root")
            .display()
            .to_string();
        let kind = path.extension().and_then(|kind| kind.to_str());
        let text = || std::fs::read_to_string(&path).expect("a text");
        match kind {
            Some("rs") if name != "tests/evidence.rs" => of_rust(&name, &text(), &mut evidence),
            Some("toml") if name.starts_with("tests/decisions/") => {
                of_cases(&name, &text(), &mut evidence);
            }
            Some("mjs") => of_interop(&name, &text(), &mut evidence),
            _ => {}
        }
    }
    evidence
}

/// What is open, each with the reason.
fn open() -> BTreeMap<String, String> {
    toml::from_str(include_str!("evidence/open.toml")).expect("id = \"reason\"")
}

#[test]
fn every_must_is_proven_or_open_with_a_reason() {
    let (evidence, open) = (gathered(), open());
    let requirements = requirements();
    let known = |id: &str| requirements.iter().any(|requirement| requirement.id == id);
    let missing: Vec<&str> = requirements
        .iter()
        .filter(|requirement| requirement.level == "must")
        .map(|requirement| requirement.id)
        .filter(|id| !evidence.contains_key(*id) && !open.contains_key(*id))
        .collect();
    assert!(missing.is_empty(), "neither proven nor open: {missing:?}");
    let stale: Vec<&String> = open
        .keys()
        .filter(|id| evidence.contains_key(*id) || !known(id))
        .collect();
    assert!(
        stale.is_empty(),
        "proven by now, or no requirement: {stale:?}"
    );
    assert!(
        open.values().all(|reason| reason.len() > 20),
        "a reason says why"
    );
    let unknown: Vec<&String> = evidence
        .keys()
        .filter(|id| {
            requirements
                .iter()
                .any(|one| one.id.split('-').next() == id.split('-').next())
        })
        .filter(|id| !known(id))
        .collect();
    assert!(
        unknown.is_empty(),
        "tests name what is no requirement: {unknown:?}"
    );
}

#[test]
fn the_table_for_auditors_is_the_golden_one() {
    let (evidence, open) = (gathered(), open());
    let requirements = requirements();
    let mut text = String::from(
        "# Evidence\n\nRequirement, and the tests that prove it. Written by `cargo test --test evidence`; `tests/evidence/open.toml`\n\
         holds what is open and why.\n\n",
    );
    let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("to a String");
    for level in ["must", "should", "could"] {
        let of: Vec<&Requirement> = requirements
            .iter()
            .filter(|one| one.level == level)
            .collect();
        let proven = of
            .iter()
            .filter(|one| evidence.contains_key(one.id))
            .count();
        line(format_args!("* {level}: {proven} of {} proven", of.len()));
    }
    line(format_args!(
        "\n| id | level | requirement | tests |\n| --- | --- | --- | --- |"
    ));
    for one in &requirements {
        let tests = match (evidence.get(one.id), open.get(one.id)) {
            (Some(tests), _) => {
                let shown: Vec<String> = tests
                    .iter()
                    .take(4)
                    .map(|test| format!("`{test}`"))
                    .collect();
                let more = match tests.len().saturating_sub(shown.len()) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                shown.join("<br>") + &more
            }
            (None, Some(reason)) => format!("open: {reason}"),
            (None, None) => "open".to_owned(),
        };
        let (id, level, words) = (one.id, one.level, one.text.replace('|', "\\|"));
        line(format_args!(
            "| {id} | {level} | {words} | {} |",
            tests.replace('|', "\\|")
        ));
    }
    let written = concat!(env!("CARGO_TARGET_TMPDIR"), "/evidence.md");
    std::fs::write(written, &text).expect("the folder for temporary files of tests takes a file");
    let golden =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evidence.md"));
    assert!(
        golden.is_ok_and(|golden| golden == text),
        "the evidence changed. If that is meant, copy {written} to docs/evidence.md"
    );
}

#[test]
fn every_duty_of_a_profile_is_a_requirement_that_a_test_proves() {
    let (evidence, requirements) = (gathered(), requirements());
    for (profile, text) in portcullis::config::built_in_policies() {
        let policy: toml::Table = toml::from_str(text).expect("a policy");
        let duties = policy["duty"].as_array().expect("duties");
        assert!(duties.len() >= 14, "{profile}");
        for duty in duties {
            let id = duty["id"].as_str().expect("an id");
            assert!(
                requirements.iter().any(|one| one.id == id),
                "{profile}: {id} is no requirement"
            );
            let open = duty.get("not_enforced").is_some();
            assert!(
                open || evidence.contains_key(id),
                "{profile}: no test proves {id}"
            );
        }
    }
}

#[test]
fn ids_are_read_as_they_are_written() {
    assert_eq!(
        ids("// STEP-01 to STEP-03, ERR-03"),
        ["STEP-01", "STEP-02", "STEP-03", "ERR-03"]
    );
    assert_eq!(
        ids("DPOP-22, -23 and -40"),
        ["DPOP-22", "DPOP-23", "DPOP-40"]
    );
    assert_eq!(ids("MTLS-03 to -05"), ["MTLS-03", "MTLS-04", "MTLS-05"]);
    assert!(ids("SHA-256 UTF-16LE x-A-01 PS-2 A-01").is_empty());
    let mut evidence = Evidence::new();
    let file = "// TLS-01\n#[test]\nfn a() {\n    // TLS-02\n}\n// TLS-03\nfn b() {}\n#[test]\nfn c() {}\n";
    of_rust("f", file, &mut evidence);
    let said: Vec<(&str, Vec<&str>)> = evidence
        .iter()
        .map(|(id, tests)| (id.as_str(), tests.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(said, [("TLS-01", vec!["f: a"]), ("TLS-02", vec!["f: a"])]);
}
