//! Comments are plain statements: the subject comes first.

use super::report;
use super::sources::{File, rust_files, script_files};

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
    "As ",
    "Who ",
];

/// The text of the comment in a line, which may stand behind code. A mark inside a word, as in a URL, begins none.
fn comment<'l>(line: &'l str, mark: &str) -> Option<&'l str> {
    let begins = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    let at = line.match_indices(mark).map(|(at, _)| at).find(begins)?;
    Some(line[at + mark.len()..].trim_start_matches(['/', '!', '#', '-', '"']).trim_start())
}

fn mark(file: &File) -> &'static str {
    match file.path.rsplit_once('.') {
        Some((_, "rs")) => "//",
        Some((_, "lua")) => "--",
        _ => "#",
    }
}

fn is_riddle(text: &str) -> bool {
    let begins = |sentence: &str| RIDDLES.iter().any(|riddle| sentence.starts_with(riddle));
    text.split(". ").any(begins)
}

#[test]
fn no_comment_is_a_riddle() {
    let mut findings = Vec::new();
    for file in rust_files().into_iter().chain(script_files()) {
        for (number, line) in file.lines() {
            if let Some(text) = comment(line, mark(&file)).filter(|text| is_riddle(text)) {
                findings.push(format!("{}:{number}: {text}", file.path));
            }
        }
    }
    report(&findings);
}

#[test]
fn comments_are_found_in_every_language() {
    assert_eq!(comment("let x = 1; // Of no use", "//"), Some("Of no use"));
    assert_eq!(comment("    /// What", "//"), Some("What"));
    assert_eq!(comment("let url = \"http://api\";", "//"), None);
    assert_eq!(comment("listen: 1 # Who asks", "#"), Some("Who asks"));
    assert_eq!(comment("-- So many", "--"), Some("So many"));
    assert!(is_riddle("True. What follows is not.") && !is_riddle("A statement. Another."));
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
