//! Rules of style that the compiler cannot check: the language of comments and names, sizes of files, and which module
//! may import which. Run with `cargo test --test style`; every finding is printed with its place, and the figures with
//! `-- --nocapture`.

mod arrows;
mod comments;
mod complexity;
mod layers;
mod names;
mod sizes;
mod sources;
mod words;

/// Fails with one finding a line.
fn report(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
