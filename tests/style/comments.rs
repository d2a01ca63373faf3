//! Comments are plain statements: the subject comes first.

use super::report;
use super::sources::rust_files;

/// Openings that make the reader wait for the subject.
const RIDDLES: &[&str] = &[
    "What ",
    "What's ",
    "Whoever ",
    "Whatever ",
    "Of ",
    "So many ",
    "So much ",
    "So often ",
    "Nobody ",
    "As it ",
    "Who ",
];

/// The text of a comment line, without its slashes.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

#[test]
fn no_comment_is_a_riddle() {
    let mut findings = Vec::new();
    for file in rust_files() {
        for (number, line) in file.lines() {
            let Some(text) = comment(line) else { continue };
            let begins = |sentence: &str| RIDDLES.iter().any(|riddle| sentence.starts_with(riddle));
            if begins(text) || text.split(". ").skip(1).any(begins) {
                findings.push(format!("{}:{number}: {text}", file.path));
            }
        }
    }
    report(&findings);
}

#[test]
fn every_file_says_what_it_is_for() {
    let without =
        rust_files().into_iter().filter(|file| !is_exempt(&file.path) && !file.text.starts_with("//! "));
    report(&without.map(|file| format!("{} does not begin with `//! `", file.path)).collect::<Vec<_>>());
}

/// Unit tests stand beside what they test, and fuzz targets are one call.
fn is_exempt(path: &str) -> bool {
    path.starts_with("fuzz/") || (path.starts_with("src/") && super::sources::is_test(path))
}
