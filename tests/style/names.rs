//! Functions are verb phrases, a type has one meaning, and the names of tests fit a line.

use std::collections::BTreeMap;

use super::report;
use super::sources::{File, rust_files};

/// Prepositions are no names for functions.
const PREPOSITIONS: &[&str] = &["of", "in", "at", "by", "under", "within", "beyond", "beside", "until"];

const LONGEST_TEST_NAME: usize = 60;

#[test]
fn functions_are_verb_phrases() {
    let mut findings = Vec::new();
    for file in rust_files() {
        for (number, line) in file.lines() {
            let Some(name) = function(line) else { continue };
            if PREPOSITIONS.contains(&name) || name.starts_with("of_") || name.ends_with("_of") {
                findings.push(format!("{}:{number}: fn {name}", file.path));
            }
        }
    }
    report(&findings);
}

#[test]
fn a_type_has_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files().into_iter().filter(File::is_production) {
        let code = file.text.split("#[cfg(test)]\nmod tests {").next().expect("a first part");
        for (number, line) in code.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if let Some(name) = declared_type(line) {
                places.entry(name.to_owned()).or_default().push(format!("{}:{number}", file.path));
            }
        }
    }
    let several = places.into_iter().filter(|(_, places)| places.len() > 1);
    report(&several.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect::<Vec<_>>());
}

#[test]
fn names_of_tests_fit_a_line() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let mut is_test = false;
        for (number, line) in file.lines() {
            is_test |= line.contains("#[test]") || line.contains("#[tokio::test");
            if let Some(name) = function(line) {
                if is_test && name.len() > LONGEST_TEST_NAME {
                    findings.push(format!("{}:{number}: {name} has {} characters", file.path, name.len()));
                }
                is_test = false;
            }
        }
    }
    report(&findings);
}

/// The name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (before, after) = line.split_at(line.find("fn ")?);
    let is_qualifier =
        |word: &str| word.starts_with("pub") || ["const", "async", "unsafe", "super)"].contains(&word);
    before.split_whitespace().all(is_qualifier).then(|| word(&after["fn ".len()..]))
}

/// The name of the type that a line declares, also inside a macro or a function. An indented `type` is an associated one.
fn declared_type(line: &str) -> Option<&str> {
    let is_indented = line.starts_with(' ');
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let kinds: &[&str] = match is_indented {
        true => &["struct ", "enum ", "trait "],
        false => &["struct ", "enum ", "trait ", "type "],
    };
    kinds.iter().find_map(|kind| line.strip_prefix(kind)).map(word).filter(|name| !name.is_empty())
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[test]
fn declarations_are_recognised() {
    assert_eq!(function("    pub(super) async fn of(x: u8) {"), Some("of"));
    assert_eq!(function("// a fn of nothing"), None);
    assert_eq!(declared_type("pub(crate) struct Route<'a> {"), Some("Route"));
    assert_eq!(declared_type("    struct RateFields = \"rate\" {"), Some("RateFields"));
    assert_eq!(declared_type("    type Error = Infallible;"), None);
    assert_eq!(declared_type("published struct"), None);
}
