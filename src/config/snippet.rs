//! A problem as it is shown: its place, the line with a caret below, the fix. Never shows what may be a secret.

use std::fmt::Write;

use super::problem::{Place, Problem};

/// A problem with its place, the line it stands in with a caret below, and the fix.
pub fn render(level: &str, problem: &Problem, source: &str, text: &str) -> String {
    let mut out = format!("{}: {level}: {}\n", name_of(problem.place, source), problem.message);
    out.push_str(&snippet(problem.place, text));
    if let Some((place, note)) = &problem.note {
        // Writing to a string can't fail.
        let _ = writeln!(out, "  note: {note}: {}", name_of(*place, source));
        out.push_str(&snippet(*place, text));
    }
    if let Some(help) = &problem.help {
        let _ = writeln!(out, "  help: {help}");
    }
    out
}

fn name_of(place: Place, source: &str) -> String {
    match place {
        Place::Start => source.to_owned(),
        Place::Text { line, column, .. } => format!("{source}:{line}:{column}"),
        Place::Override(name) => name.to_owned(),
    }
}

/// A line longer than this is shown around the column in question.
const WINDOW: usize = 120;

fn snippet(place: Place, text: &str) -> String {
    let Place::Text { line, column, length } = place else { return String::new() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // What is missing at the end of the file is shown at the end of its last line.
    let (line, column) = match text.lines().count() {
        0 => return String::new(),
        last if line > last => (last, usize::MAX),
        _ => (line, column),
    };
    let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let shown = without_secrets(written);
    let at = column.saturating_sub(1).min(shown.len());
    let from = if shown.len() > WINDOW { at.saturating_sub(WINDOW / 2) } else { 0 };
    let to = shown.len().min(from + WINDOW);
    let carets = length.clamp(1, to.saturating_sub(at).max(1));
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let excerpt: String = shown[from..to].iter().collect();
    format!(
        " {margin} |\n {number} | {}\n {margin} | {}{}\n",
        excerpt.trim_end(),
        " ".repeat(at - from),
        "^".repeat(carets)
    )
}

/// The line without control characters; a password in a URL, a token and a password are starred out.
fn without_secrets(line: &str) -> Vec<char> {
    let mut shown: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let find = |shown: &[char], word: &str, from: usize| {
        let word: Vec<char> = word.chars().collect();
        let at = shown.get(from..)?.windows(word.len()).position(|window| window == word)?;
        Some(from + at + word.len())
    };
    let mut from = 0;
    while let Some(start) = find(&shown, "://", from) {
        let host = shown[start..]
            .iter()
            .position(|c| *c == '/' || c.is_whitespace())
            .map_or(shown.len(), |n| start + n);
        if let Some(at) = shown[start..host].iter().rposition(|c| *c == '@') {
            shown[start..start + at].fill('*');
        }
        from = start;
    }
    for key in ["token:", "password:"] {
        let Some(after) = find(&shown, key, 0) else { continue };
        let start = after + shown[after..].iter().take_while(|c| matches!(c, ' ' | '"' | '\'')).count();
        let end =
            start + shown[start..].iter().take_while(|c| !matches!(c, ',' | '}' | ' ' | '"' | '\'')).count();
        let value: String = shown[start..end].iter().collect();
        if value != "none" && !value.starts_with("${") {
            shown[start..end].fill('*');
        }
    }
    shown
}
