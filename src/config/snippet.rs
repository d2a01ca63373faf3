//! Renders a diagnostic for people: `file:line:column: level: message`, the line with carets below, and the fix. Values
//! that may be secret are masked.

use std::fmt::Write;

use super::diagnostics::{Diagnostic, Location};
use super::masking::{mask, mask_line};

pub(super) fn render(level: &str, diagnostic: &Diagnostic, source: &str, text: &str) -> String {
    let mut out =
        format!("{}: {level}: {}\n", format_location(diagnostic.location, source), diagnostic.message);
    out.push_str(&snippet(diagnostic.location, text));
    if let Some((location, note)) = &diagnostic.note {
        // Writing to a string can't fail.
        let _ = writeln!(out, "  note: {note}: {}", format_location(*location, source));
        out.push_str(&snippet(*location, text));
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "  help: {help}");
    }
    out
}

fn format_location(location: Location, source: &str) -> String {
    match location {
        Location::Start => source.to_owned(),
        Location::Text { line, column, .. } => format!("{source}:{line}:{column}"),
        Location::Override(name) => name.to_owned(),
    }
}

/// A longer line is cut to this width around the location.
const MAX_SNIPPET_CHARS: usize = 120;

fn snippet(location: Location, text: &str) -> String {
    let Location::Text { line, column, length } = location else { return String::new() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A location behind the end of the file is shown at the end of the last line.
    let (line, column) = match text.lines().count() {
        0 => return String::new(),
        last if line > last => (last, usize::MAX),
        _ => (line, column),
    };
    let shown = mask_line(text, line.saturating_sub(1));
    let at = column.saturating_sub(1).min(shown.len());
    let from = if shown.len() > MAX_SNIPPET_CHARS { at.saturating_sub(MAX_SNIPPET_CHARS / 2) } else { 0 };
    let to = shown.len().min(from + MAX_SNIPPET_CHARS);
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

/// The text with stars in place of the secrets that errors are about.
pub(super) fn hide_secrets(text: &str, diagnostics: &[Diagnostic]) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines: Vec<Vec<char>> = text.split('\n').map(|line| line.chars().collect()).collect();
    for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.is_secret) {
        let Location::Text { line, column, length } = diagnostic.location else { continue };
        let Some(line) = lines.get_mut(line.saturating_sub(1)) else { continue };
        let start = column.saturating_sub(1).min(line.len());
        match line.get(start) {
            // The length of a list or mapping is that of its first character.
            Some('[' | '{' | '-') => mask(line, start, usize::MAX),
            _ => line.iter_mut().skip(start).take(length).for_each(|c| *c = '*'),
        }
    }
    lines.iter().map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}
