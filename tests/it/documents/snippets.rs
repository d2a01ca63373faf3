//! Configurations and JSON in the documentation are read by larder's own readers.

use larder::config::{Config, ConfigErrors, SettingOverrides};

use super::{documents, root};

/// Every language that a block may have. Those of other programs are shown and not checked.
const LANGUAGES: [&str; 14] = [
    "yaml",
    "yaml tests",
    "sh",
    "sh no-run",
    "console",
    "json",
    "text",
    "redis",
    "sql",
    "vcl",
    "nginx",
    "caddyfile",
    "js",
    "toml",
];

#[test]
fn every_block_says_its_language() {
    for block in documents().iter().flat_map(|document| document.blocks()) {
        let place = format!("{}:{}", block.file.display(), block.line);
        assert!(LANGUAGES.contains(&block.info.as_str()), "{place}: ```{}", block.info);
    }
}

#[test]
fn every_yaml_snippet_loads() {
    let mut snippets = 0;
    for block in documents().iter().flat_map(|document| document.blocks()) {
        if block.info == "yaml" {
            let place = format!("{}:{}", block.file.display(), block.line);
            if let Err(errors) = load(&block.text) {
                panic!("{place}:\n{}\n{errors}", block.text);
            }
            snippets += 1;
        }
    }
    assert!(snippets > 20, "{snippets}");
}

#[test]
fn every_json_snippet_parses() {
    for block in documents().iter().flat_map(|document| document.blocks()) {
        if block.info == "json" {
            // `…` stands for members that are not shown.
            let text = block.text.replace(", …}", "}").replace(", …]", "]");
            let parsed = serde_json::from_str::<serde_json::Value>(&text);
            assert!(parsed.is_ok(), "{}:{}: {parsed:?}", block.file.display(), block.line);
        }
    }
}

/// The examples in the comments of `proxy.yaml` take the place of the key that they are examples of.
#[test]
fn every_example_in_the_reference_configuration_loads() {
    let file = std::fs::read_to_string(root().join("proxy.yaml")).expect("the reference");
    let lines: Vec<_> = file.lines().collect();
    let mut examples = 0;
    for at in 0..lines.len() {
        if let Some(example) = Example::parse_at(&lines, at) {
            examples += 1;
            if let Err(errors) = load(&example.in_place(&lines)) {
                panic!("proxy.yaml:{}:\n{}\n{errors}", at + 1, example.text);
            }
        }
    }
    assert!(examples > 10, "{examples}");
}

/// `#   key: value`, with the lines below it that are indented further.
struct Example<'t> {
    at: usize,
    indent: &'t str,
    key: &'t str,
    text: String,
}

impl<'t> Example<'t> {
    fn parse_at(lines: &[&'t str], at: usize) -> Option<Self> {
        let (indent, first) = lines[at].split_once("#   ")?;
        let (key, _) = first.split_once(':')?;
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if !is_key || !indent.trim().is_empty() {
            return None;
        }
        let deeper = format!("{indent}#     ");
        let below = lines[at + 1..].iter().take_while(|line| line.starts_with(&deeper));
        let below = below.map(|line| format!("\n{indent}{}", &line[indent.len() + 4..]));
        Some(Self { at, indent, key, text: format!("{indent}{first}{}", below.collect::<String>()) })
    }

    /// The file with the example in place of the next such key at the same depth, and of everything below that.
    fn in_place(&self, lines: &[&str]) -> String {
        let opening = format!("{}{}:", self.indent, self.key);
        let deeper = format!("{} ", self.indent);
        let mut text: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        match (self.at..lines.len()).find(|&line| lines[line].starts_with(&opening)) {
            Some(begin) => {
                let below = lines[begin + 1..].iter().take_while(|line| line.starts_with(&deeper)).count();
                text.splice(begin..=begin + below, [self.text.clone()]);
            }
            // A key without a default stands in the comments only.
            None => text.insert(self.at + 1, self.text.clone()),
        }
        text.join("\n")
    }
}

/// Reads a whole configuration or a part of one: some routes, or some top-level keys.
fn load(snippet: &str) -> Result<Config, ConfigErrors> {
    let routes = if snippet.trim_start().starts_with("- path:") { "routes:\n" } else { "" };
    let has_upstream = snippet.lines().any(|line| line.starts_with("upstream:"));
    let upstream = if has_upstream { "" } else { "upstream: http://127.0.0.1:3000\n" };
    let text = format!("{upstream}{routes}{snippet}");
    // A variable without a default has a value.
    let variable = |name: &str| {
        text.contains(&format!("${{{name}}}")).then(|| "at-least-thirty-two-bytes-of-secret".to_owned())
    };
    Config::parse(&text, "snippet", &variable, &SettingOverrides::default())
}
