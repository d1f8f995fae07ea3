//! The table of refusals is a contract: clients, dashboards and runbooks name its codes. A change
//! of it must show in review, as a change of the golden file.

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
