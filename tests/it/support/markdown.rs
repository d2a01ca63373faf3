//! Fenced blocks of the documents.

use std::path::{Path, PathBuf};

/// A fenced block, and the line its text begins on.
pub struct Block {
    pub file: PathBuf,
    pub line: usize,
    /// Everything after the opening fence: `yaml`, `sh no-run`.
    pub info: String,
    pub text: String,
}

/// All fenced blocks of a document.
pub fn all_blocks(file: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(file).expect("a document");
    let mut found: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (at, line) in text.lines().enumerate() {
        match (is_open, line.trim_start().strip_prefix("```")) {
            (false, Some(info)) => {
                let info = info.trim().to_owned();
                found.push(Block { file: file.to_owned(), line: at + 2, info, text: String::new() });
                is_open = true;
            }
            (true, Some(_)) => is_open = false,
            (true, None) => {
                let block = &mut found.last_mut().expect("one is open").text;
                block.push_str(line);
                block.push('\n');
            }
            (false, None) => {}
        }
    }
    assert!(!is_open, "{}: a block is not closed", file.display());
    found
}

/// The fenced blocks with exactly this info string.
pub fn blocks(file: &Path, info: &str) -> Vec<Block> {
    all_blocks(file).into_iter().filter(|block| block.info == info).collect()
}
