//! Links between pages, to files and to headings resolve; every page is in the site's table of contents.

use std::collections::BTreeSet;
use std::path::Path;

use super::{documents, root};

/// The targets of all links and images of a page, as they are written.
fn links(text: &str) -> Vec<&str> {
    let mut is_fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            found.extend(line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        }
    }
    found
}

/// The anchors that a page's headings get, in mdBook as on the forge.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        is_fenced ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_fenced) else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn every_link_resolves() {
    let mut wrong = Vec::new();
    for document in documents() {
        let folder = document.path().parent().expect("a folder").to_owned();
        for link in links(&document.text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.path() } else { folder.join(file) };
            // A site has no page for a folder.
            let mut is_right = target.is_file();
            if is_right && !anchor.is_empty() {
                is_right = anchors(&std::fs::read_to_string(target).expect("a text")).contains(anchor);
            }
            if !is_right {
                wrong.push(format!("{}: {link}", document.name));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_table_of_contents_has_every_page_once() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).expect("a summary");
    let listed: Vec<_> = links(&summary)
        .into_iter()
        .map(|link| link.strip_prefix("../").map_or(format!("docs/{link}"), str::to_owned))
        .collect();
    let pages: Vec<_> = documents()
        .into_iter()
        .map(|document| document.name)
        .filter(|name| name != "docs/SUMMARY.md")
        .collect();
    let unique: BTreeSet<_> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    assert_eq!(unique, pages.iter().collect::<BTreeSet<_>>());
}

#[test]
fn pictures_are_complete_documents() {
    for entry in std::fs::read_dir(root().join("docs")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            let text = std::fs::read_to_string(Path::new(&path)).expect("a text");
            assert!(text.trim_end().ends_with("</svg>"), "{}", path.display());
            assert_eq!(text.matches("<g").count(), text.matches("</g>").count(), "{}", path.display());
        }
    }
}

/// `tests/dashboard/screens` makes them.
#[test]
fn screens_are_few_and_small_and_shown() {
    let pages: String = documents().into_iter().map(|document| document.text).collect();
    let screens: Vec<_> = std::fs::read_dir(root().join("docs/images")).expect("a folder").collect();
    assert_eq!(screens.len(), 3);
    for screen in screens {
        let path = screen.expect("an entry").path();
        let content = std::fs::read(&path).expect("a picture");
        assert!(content.starts_with(b"\x89PNG") && content.len() < 150_000, "{}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(pages.contains(&format!("](images/{name})")), "no page shows {name}");
    }
}

/// A file or folder that the text names is there.
#[test]
fn every_path_in_the_text_exists() {
    let mut missing = Vec::new();
    for document in documents() {
        for span in document.code_spans() {
            let is_path =
                ["src/", "tests/", "benches/", "config/", "deploy/", "docs/", "examples/", "fuzz/", ".ci/"]
                    .iter()
                    .any(|folder| span.starts_with(folder));
            let path = span.split(' ').next().unwrap_or_default();
            if is_path && !path.contains(['*', '…']) && !root().join(path).exists() {
                missing.push(format!("{}: {path}", document.name));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}
