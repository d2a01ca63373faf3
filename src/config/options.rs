//! `docs/options.md`: the table of keys for people to read.

use std::fmt::Write;

use super::keys::{DEFAULTS, Kind, ROOT, ROUTE, Section};

const HEAD: &str = "# Every option of proxy.yaml

Written by `larder schema --format markdown` from the table that the file is read by. Durations are written `250ms`,
`30s`, `2m`, `1h`, `7d`, sizes `64KiB`, `256MiB`. `${VAR}` and `${VAR:-default}` stand in any value. `proxy.yaml` in the
repository has all of it with an example.
";

pub fn options() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Top level", &ROOT);
    of_keys(&mut page, "", &ROOT);
    page
}

/// The sections below this one, each under its path.
fn of_keys(page: &mut String, path: &str, parent: &'static Section) {
    for key in parent.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        for inner in sections(&key.kind) {
            // What `defaults` may hold stands with the routes.
            if std::ptr::eq(inner, &DEFAULTS) {
                continue;
            }
            let is_route = std::ptr::eq(inner, &ROUTE);
            let title = if is_route {
                "`routes[]`, and all but the first two in `defaults`".into()
            } else {
                format!("`{path}`")
            };
            section(page, &title, inner);
            of_keys(page, &path, inner);
        }
    }
}

fn section(page: &mut String, title: &str, section: &Section) {
    let _ = write!(page, "\n## {title}\n\n| option | default | what it means |\n|---|---|---|\n");
    for key in section.keys {
        let default = match (key.default, key.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_owned(),
            (None, false) => "–".to_owned(),
        };
        let _ = writeln!(page, "| `{}` | {} | {} |", key.name, cell(&default), cell(key.doc));
    }
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn sections(kind: &'static Kind) -> Vec<&'static Section> {
    match kind {
        Kind::Mapping(section) => vec![section],
        Kind::ListOf(kind) | Kind::Names(kind) | Kind::Statuses(kind) => sections(kind),
        Kind::OneOf(kinds) => {
            let mut found: Vec<&'static Section> = Vec::new();
            for section in kinds.iter().flat_map(sections) {
                // One, or a list of the same.
                if !found.iter().any(|known| std::ptr::eq(*known, section)) {
                    found.push(section);
                }
            }
            found
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_the_one_that_larder_writes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == super::options(),
            "docs/options.md differs; write it anew: larder schema --format markdown > docs/options.md"
        );
    }
}
