//! The documents: every piece of `proxy.yaml` in them loads.

use std::path::{Path, PathBuf};

use larder::config::{Config, Overrides};

/// By which a block is known as a piece of `proxy.yaml`; others are of other programs.
const SECTIONS: [&str; 11] = [
    "listen",
    "upstream",
    "store",
    "admin",
    "purge",
    "trusted_proxies",
    "credentials",
    "limits",
    "log",
    "defaults",
    "routes",
];

/// A block that is fenced as `language`, and where it begins.
pub struct Block {
    pub file: PathBuf,
    pub line: usize,
    pub text: String,
}

/// README.md and docs/*.md.
pub fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).expect("a folder") {
        let file = entry.expect("an entry").path();
        files.extend(file.extension().is_some_and(|extension| extension == "md").then_some(file));
    }
    files
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

fn is_ours(block: &str) -> bool {
    let keys = block.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    keys.filter_map(|line| line.split_once(':')).any(|(key, _)| SECTIONS.contains(&key))
}

fn complete(block: &str) -> String {
    let names_upstream = block.lines().any(|line| line.starts_with("upstream:"));
    if names_upstream { block.to_owned() } else { format!("{block}\nupstream: http://127.0.0.1:3000\n") }
}

#[test]
fn every_piece_of_a_configuration_in_a_document_loads_without_a_warning() {
    let mut loaded = 0;
    for file in documents() {
        for block in blocks(&file, "yaml").iter().filter(|block| is_ours(&block.text)) {
            let name = format!("{}, the block at line {}", file.display(), block.line);
            let config = Config::parse(&complete(&block.text), &name, &|_| None, &Overrides::default());
            let config = config.unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
            loaded += 1;
        }
    }
    assert!(loaded >= 2, "{loaded} blocks");
}

#[test]
fn a_block_of_another_program_is_not_ours() {
    assert!(is_ours("# Comment\nroutes:\n  - path: /a\n") && is_ours("listen: 127.0.0.1:80\n"));
    assert!(!is_ours("services:\n  listen: x\n") && !is_ours("apiVersion: v1\n"));
}
