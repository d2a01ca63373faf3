//! Files of one idea are short.

use super::report;
use super::sources::{File, rust_files};

const MAX_LINES: usize = 500;
const MAX_MEDIAN_LINES: usize = 200;

#[test]
fn no_file_is_long() {
    let long = rust_files().into_iter().map(|file| (file.text.lines().count(), file.path));
    let long = long.filter(|(lines, _)| *lines > MAX_LINES);
    report(&long.map(|(lines, path)| format!("{path} has {lines} lines")).collect::<Vec<_>>());
}

#[test]
fn most_files_are_short() {
    let files = rust_files().into_iter().filter(File::is_production);
    let mut lengths: Vec<usize> = files.map(|file| file.text.lines().count()).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    println!("{} files, {median} lines in the median one", lengths.len());
    assert!(median <= MAX_MEDIAN_LINES, "the median file has {median} lines");
}
