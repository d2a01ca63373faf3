//! The tests that `docs/cases.md` names exist.

use super::root;

/// The texts in backticks that are names of tests: `module::test`.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        text.contains("::") && !text.contains(|c: char| !c.is_alphanumeric() && !"_:".contains(c))
    })
}

/// Whether a file of `tests/it` has the test.
fn has_test(name: &str) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let path = root().join("tests/it").join(module.replace("::", "/"));
    let files = [path.with_extension("rs"), path.join("mod.rs")];
    let declared = format!("fn {test}(");
    files.iter().any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains(&declared)))
}

#[test]
fn every_need_of_the_cases_names_a_test_that_exists_or_a_page() {
    let text = std::fs::read_to_string(root().join("docs/cases.md")).expect("the page");
    let rows: Vec<&str> = text
        .split("## What each case asks for")
        .nth(1)
        .expect("the tables")
        .lines()
        .filter(|line| {
            line.starts_with("| ") && !line.starts_with("| need") && line.matches(" | ").count() == 2
        })
        .collect();
    assert!(rows.len() > 70, "{}", rows.len());
    for row in rows {
        let shown = row.rsplit(" | ").next().expect("a last cell");
        let missing: Vec<&str> = named_tests(shown).filter(|name| !has_test(name)).collect();
        assert_eq!(missing, [""; 0], "{row}");
        assert!(named_tests(shown).next().is_some() || shown.contains("]("), "{row}");
    }
}
