//! The documentation is true: snippets load, commands run and print what is shown, links resolve.

mod commands;
mod links;
mod project;
pub mod sessions;
mod shown;
mod snippets;

use std::path::{Path, PathBuf};

use crate::support::markdown::{Block, all_blocks};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A page of the documentation.
struct Document {
    /// Relative to the root of the repository.
    name: String,
    text: String,
}

impl Document {
    fn path(&self) -> PathBuf {
        root().join(&self.name)
    }

    fn blocks(&self) -> Vec<Block> {
        all_blocks(&self.path())
    }

    /// The code spans outside of fenced blocks.
    fn code_spans(&self) -> Vec<String> {
        let mut spans = Vec::new();
        let mut is_fenced = false;
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            } else if !is_fenced {
                spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        spans
    }
}

fn documents() -> Vec<Document> {
    let mut files = Vec::new();
    let entries = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path())
    };
    let folders = ["", "docs", "deploy", "config", "fuzz", "tests/conformance"].map(|name| root().join(name));
    let recipes = entries(root().join("examples")).filter(|entry| entry.is_dir());
    for folder in folders.into_iter().chain(recipes) {
        files.extend(entries(folder));
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let read = |file: PathBuf| Document {
        name: file.strip_prefix(root()).expect("below").to_string_lossy().into_owned(),
        text: std::fs::read_to_string(&file).expect("a text"),
    };
    let documents: Vec<_> = files.into_iter().map(read).collect();
    for expected in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/dependencies.md"] {
        assert!(documents.iter().any(|document| document.name == expected), "{expected} is missing");
    }
    documents
}
