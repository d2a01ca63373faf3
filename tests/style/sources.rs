//! The files that the rules apply to.

use std::path::{Path, PathBuf};

/// Folders with Rust code of this project.
const RUST_FOLDERS: &[&str] = &["src", "tests", "benches", "examples", "fuzz/src", "fuzz/fuzz_targets"];

/// Folders and files with prose.
const PROSE: &[&str] =
    &["docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "proxy.yaml", "config"];

pub struct File {
    /// Relative to the root of the project.
    pub path: String,
    pub text: String,
}

impl File {
    pub fn is_production(&self) -> bool {
        self.path.starts_with("src/") && !is_test(&self.path)
    }

    /// The lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// All Rust files, but for this folder, which quotes what it forbids.
pub fn rust_files() -> Vec<File> {
    let files: Vec<File> = RUST_FOLDERS
        .iter()
        .flat_map(|folder| files_below(Path::new(folder), &["rs"]))
        .filter(|file| !file.path.starts_with("tests/style/"))
        .collect();
    assert!(files.len() > 200, "only {} Rust files found", files.len());
    files
}

/// All pages, examples and configurations.
pub fn prose_files() -> Vec<File> {
    PROSE.iter().flat_map(|place| files_below(Path::new(place), &["md", "yaml"])).collect()
}

/// Whether a file is compiled for tests alone.
pub fn is_test(path: &str) -> bool {
    let mut parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts.any(|part| part == "tests" || part.ends_with("_tests"))
        || ["testing.rs", "fixtures.rs", "key_properties.rs", "hostile_paths.rs"]
            .iter()
            .any(|name| path.ends_with(name))
}

fn files_below(place: &Path, endings: &[&str]) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut pending: Vec<PathBuf> = vec![root.join(place)];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            pending.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let path = path.strip_prefix(root).expect("a path below the root").to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}
