//! Words that a reader of Varnish's documentation or linkerd's code would stop at, and the ones to use instead.

use super::report;
use super::sources::{pages, rust_files, script_files};

/// Word or phrase in lower case, and its replacement.
const BANNED: &[(&str, &str)] = &[
    ("desk", "worker handle"),
    ("errand", "internal request"),
    ("errands", "internal requests"),
    ("glance", "lookup"),
    ("lane", "connection"),
    ("lanes", "connections"),
    ("roll call", "heartbeat request"),
    ("incarnation", "epoch"),
    ("hardness", "purge mode"),
    ("who asks", "the client"),
    ("whoever asks", "the client"),
    ("what passes", "passed requests"),
    ("in vain", "without success"),
    ("nobody unsees", "reads are monotonic"),
    ("flights", "fetches in flight"),
    ("is away", "is unavailable"),
    ("by and by", "later"),
    ("lets go of", "releases"),
    ("bites", "is suspicious"),
];

#[test]
fn no_word_needs_a_dictionary() {
    let mut findings = Vec::new();
    for file in rust_files().into_iter().chain(pages()).chain(script_files()) {
        for (number, line) in file.lines() {
            let lower = line.to_ascii_lowercase();
            for (banned, instead) in BANNED {
                if has_word(&lower, banned) {
                    findings.push(format!(
                        "{}:{number}: `{banned}`, say `{instead}`: {}",
                        file.path,
                        line.trim()
                    ));
                }
            }
        }
    }
    report(&findings);
}

/// Whether `words` stand in `text`, not as a part of longer words.
fn has_word(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + words.len()..].chars().next();
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric());
        !is_letter(before) && !is_letter(after)
    })
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("the lane rests", "lane") && has_word("a_lane", "lane"));
    assert!(!has_word("planes", "lane"));
}
