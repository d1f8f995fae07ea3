//! Bad files, and exactly what is said about each: tests/config/bad/NAME.toml and NAME.txt.

use super::*;

// CFG-01
#[test]
fn what_is_said_about_bad_files() {
    let folder = bench().join("bad");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    names.sort();
    assert!(names.len() >= 12);
    let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config");
    std::fs::create_dir_all(&written).unwrap();
    let (mut mistakes, mut changed) = (0, Vec::new());
    for path in names {
        let problems = load(&path).expect_err("a bad file does not load");
        for problem in &problems {
            assert!(
                problem.place.line > 0 && problem.place.column > 0,
                "{problem}"
            );
            assert!(
                !problem.wrong.is_empty() && !problem.right.is_empty(),
                "{problem}"
            );
        }
        mistakes += problems.len();
        let golden = path.with_extension("txt");
        let now = said(&problems);
        if std::fs::read_to_string(&golden).unwrap_or_default() != now {
            let name = golden.file_name().unwrap();
            std::fs::write(written.join(name), &now).unwrap();
            changed.push(name.to_owned());
        }
    }
    assert!(mistakes >= 40, "{mistakes} mistakes");
    assert!(
        changed.is_empty(),
        "the words changed for {changed:?}. If that is meant, copy them from {} to tests/config/bad",
        written.display()
    );
}
