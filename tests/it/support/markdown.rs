//! Fenced blocks of the documents.

use std::path::{Path, PathBuf};

/// A block that is fenced as `language`, and where it begins.
pub struct Block {
    pub file: PathBuf,
    pub line: usize,
    pub text: String,
}

pub fn blocks(file: &Path, language: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(file).expect("a document");
    let mut found: Vec<Block> = Vec::new();
    let mut fence: Option<bool> = None;
    for (at, line) in text.lines().enumerate() {
        match (fence, line.trim_start().strip_prefix("```")) {
            (None, Some(opened)) => {
                let is_wanted = opened.trim() == language;
                if is_wanted {
                    found.push(Block { file: file.to_owned(), line: at + 2, text: String::new() });
                }
                fence = Some(is_wanted);
            }
            (Some(_), Some(_)) => fence = None,
            (Some(true), None) => {
                let block = &mut found.last_mut().expect("one is open").text;
                block.push_str(line);
                block.push('\n');
            }
            (Some(false) | None, None) => {}
        }
    }
    assert_eq!(fence, None, "{}: a block is not closed", file.display());
    found
}
