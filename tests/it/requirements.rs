//! docs/rfc9111.md names a file and a test for each requirement, docs/faults.md a test for each fault: they exist.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The names of all functions in Rust files below `folder`.
fn functions(folder: &Path, names: &mut HashSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a text");
            names.extend(
                text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())),
            );
        }
    }
}

fn tests() -> HashSet<String> {
    let mut tests = HashSet::new();
    functions(&root().join("src"), &mut tests);
    functions(&root().join("tests"), &mut tests);
    tests
}

/// Texts between backticks in a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_requirement_has_a_file_and_a_test() {
    let text = std::fs::read_to_string(root().join("docs/rfc9111.md")).expect("the table");
    let tests = tests();
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [.., files, shown] = cells.as_slice() else { panic!("{row}") };
        rows += 1;
        assert!(quoted(files).next().is_some() && quoted(shown).next().is_some(), "{row}");
        for file in quoted(files) {
            assert!(root().join("src").join(file).exists(), "{file} is missing: {row}");
        }
        for test in quoted(shown) {
            assert!(tests.contains(test), "no test {test}: {row}");
        }
    }
    assert!(rows > 50, "{rows}");
}

#[test]
fn every_fault_has_a_test() {
    let text = std::fs::read_to_string(root().join("docs/faults.md")).expect("the table");
    let (tests, mut rows) = (tests(), Vec::new());
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Id")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, _, _, shown] = cells.as_slice() else { panic!("{row}") };
        assert!(quoted(shown).next().is_some(), "no test: {row}");
        for test in quoted(shown) {
            assert!(tests.contains(test), "no test {test}: {row}");
        }
        rows.extend(id.split(", ").map(str::to_owned));
    }
    let ids = |kind: char, width: usize, numbers: std::ops::RangeInclusive<u32>| {
        numbers.map(move |number| format!("{kind}{number:0width$}"))
    };
    let expected = ids('R', 2, 1..=32).chain(ids('O', 2, 1..=15)).chain(ids('C', 1, 1..=9));
    let mut expected: Vec<_> = expected.chain(ids('X', 2, 1..=13)).collect();
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);
}

/// docs/answers.md lists exactly the values of `detail` that the sources write.
#[test]
fn every_reason_that_cache_status_gives_is_explained() {
    let answers = std::fs::read_to_string(root().join("docs/answers.md")).expect("the table");
    let (_, table) = answers.split_once("\n| detail |").expect("the table of details");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| `"));
    let told: std::collections::BTreeSet<String> = rows
        .flat_map(|row| {
            quoted(&format!("`{}", row.split(" | ").next().unwrap_or_default()))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut given = std::collections::BTreeSet::new();
    for (file, kinds) in [
        ("not_stored.rs", &["NotStored::"][..]),
        ("classify.rs", &["PassReason::"]),
        ("miss_reason.rs", &["MissReason::"]),
        ("caller.rs", &["UnknownCaller::"]),
        ("cache_status.rs", &["Detail::"]),
    ] {
        let text = std::fs::read_to_string(root().join("src/policy").join(file)).expect("a source");
        let arms = text.lines().filter_map(|line| line.trim().split_once(" => \""));
        let of_kind = arms.filter(|(pattern, _)| kinds.iter().any(|kind| pattern.starts_with(kind)));
        given.extend(of_kind.filter_map(|(_, name)| Some(name.split_once('"')?.0.to_owned())));
    }
    assert!(given.len() > 30, "{given:?}");
    assert_eq!(told, given);
}
