//! The table of refusals is a contract: clients, dashboards and runbooks name its codes. A change
//! of it must show in review, as a change of the golden file.

#![expect(
    clippy::expect_used,
    reason = "a test that reads its neighbours; if it breaks, it has failed"
)]

use portcullis::refusal::table;

#[test]
fn the_table_is_the_golden_one() {
    let golden = include_str!("golden/reasons.txt");
    let now = table::markdown();
    let written = concat!(env!("CARGO_TARGET_TMPDIR"), "/reasons.txt");
    std::fs::write(written, &now).expect("the folder for temporary files of tests takes a file");
    assert!(
        golden == now,
        "the table of refusals changed. If that is meant, note it in CHANGELOG.md and copy {written} \
         to tests/golden/reasons.txt"
    );
}

/// Reasons that no test can bring about from outside, each with why.
const UNSEEN: &[(&str, &str)] = &[(
    "internal",
    "a bug of ours; decisions.rs brings it about inside",
)];

/// A row that nothing brings about is one that nobody knows to be right.
#[test]
fn every_reason_is_brought_about_by_some_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut texts = String::new();
    collect(&root.join("decisions"), &mut texts);
    collect(&root.join("e2e"), &mut texts);
    let missing: Vec<_> = portcullis::refusal::Reason::ALL
        .iter()
        .map(|reason| reason.spec().code)
        .filter(|code| !UNSEEN.iter().any(|(unseen, _)| unseen == code))
        .filter(|code| !texts.contains(&format!("\"{code}\"")))
        .collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
}

fn collect(folder: &std::path::Path, texts: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, texts);
        } else if path
            .extension()
            .is_some_and(|end| end == "rs" || end == "toml")
        {
            texts.push_str(&std::fs::read_to_string(&path).expect("a test"));
        }
    }
}
