//! The files that the rules apply to.

use std::path::{Path, PathBuf};

/// Folders with Rust code of this project.
const RUST_FOLDERS: &[&str] = &["src", "tests", "benches", "examples", "fuzz/src", "fuzz/fuzz_targets"];

/// Folders and files with prose, scripts and configuration.
const PLACES: &[&str] = &[
    ".ci",
    ".config",
    ".github",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "benches",
    "clippy.toml",
    "config",
    "deny.toml",
    "deploy",
    "docs",
    "examples",
    "fuzz",
    "proxy.yaml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "src",
    "tests",
];

/// Folders that are made by tools, and the scripts of the former release, which stay as they were.
const FOREIGN_FOLDERS: &[&str] = &["target", "node_modules", ".venv", "corpus", "former_release"];

/// Files whose comments begin with `#`, or with `--` for Lua. A script without an ending has a shebang.
const SCRIPTS: &[&str] = &["lua", "py", "sh", "yaml", "yml", "toml", "spec", "conf"];

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
        .flat_map(|folder| files_below(Path::new(folder), &|path, _| has_ending(path, &["rs"])))
        .filter(|file| !file.path.starts_with("tests/style/"))
        .collect();
    assert!(files.len() > 200, "only {} Rust files found", files.len());
    files
}

/// All pages.
pub fn pages() -> Vec<File> {
    files_in_places(&|path, _| has_ending(path, &["md"]))
}

/// All files but Rust's that have comments.
pub fn script_files() -> Vec<File> {
    let is_script = |path: &Path, text: &str| {
        has_ending(path, SCRIPTS) || (path.extension().is_none() && text.starts_with("#!"))
    };
    let files = files_in_places(&is_script);
    assert!(files.len() > 80, "only {} scripts found", files.len());
    files
}

/// Whether a file is compiled for tests alone.
pub fn is_test(path: &str) -> bool {
    let mut parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts.any(|part| part == "tests" || part.ends_with("_tests"))
        || ["testing.rs", "fixtures.rs", "key_properties.rs", "hostile_paths.rs"]
            .iter()
            .any(|name| path.ends_with(name))
}

type IsWanted<'w> = &'w dyn Fn(&Path, &str) -> bool;

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
}

fn files_in_places(is_wanted: IsWanted<'_>) -> Vec<File> {
    PLACES.iter().flat_map(|place| files_below(Path::new(place), is_wanted)).collect()
}

fn files_below(place: &Path, is_wanted: IsWanted<'_>) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut pending: Vec<PathBuf> = vec![root.join(place)];
    while let Some(path) = pending.pop() {
        if FOREIGN_FOLDERS.iter().any(|folder| path.file_name().is_some_and(|name| name == *folder)) {
            continue;
        }
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            pending.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if let Ok(text) = std::fs::read_to_string(&path)
            && is_wanted(&path, &text)
        {
            let path = path.strip_prefix(root).expect("a path below the root").to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}
