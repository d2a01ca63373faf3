//! The most likely mistake behind an error of the YAML parser, which often stands on an earlier line than the error.

use super::diagnostics::Location;

/// Returns the place of the mistake, and the fix. Without a likely mistake, the place is the error's.
pub(super) fn locate_syntax_error(
    text: &str,
    message: &str,
    location: Location,
) -> (Location, Option<&'static str>) {
    let (at_line, column) = match location {
        Location::Text { line, column, .. } => (line, column),
        _ => (usize::MAX, 1),
    };
    let of_indent = |c: char| c.is_whitespace() && c != ' ';
    // The parser notices it here or one line later or earlier.
    let bad_indent = text.lines().enumerate().take(at_line.saturating_add(1)).find_map(|(at, line)| {
        let indent = line.len() - line.trim_start().len();
        let found = line[..indent].char_indices().find(|(_, c)| of_indent(*c))?;
        Some((at + 1, line[..found.0].chars().count() + 1, found.1))
    });
    if let Some((line, column, found)) = bad_indent {
        let help = match found {
            '\t' => "indent with spaces; YAML does not allow tabs there",
            _ => {
                "this is a non-breaking or other special space, as in text copied from a web page; indent with spaces"
            }
        };
        return (Location::Text { line, column, length: 1 }, Some(help));
    }
    let line = text.lines().nth(at_line.saturating_sub(1)).unwrap_or_default();
    let rest = line.chars().skip(column.saturating_sub(1)).collect::<String>();
    let is_alias = rest.trim_start().starts_with('*')
        || ["anchor", "alias"].iter().any(|word| message.contains(word)) && line.contains('*');
    let is_alias = is_alias && !message.contains("exceeds a limit");
    let known = [
        ("tabs disallowed", "indent with spaces; YAML does not allow tabs there"),
        ("may not precede any of", "put text with braces in quotes: `\"course:{id}\"`"),
        ("quoted scalar", "a quote is not closed, here or on an earlier line"),
        ("mapping values are not allowed", INDENT),
        ("did not find expected", INDENT),
        ("expected <document start>", INDENT),
        ("indent", INDENT),
    ];
    let help = match is_alias {
        true => Some("text that begins with `*` is an alias in YAML; put it in quotes: `\"*\"`"),
        false if has_bare_variable(message, line) => {
            Some("within `{…}` and `[…]` put a variable in quotes: `\"${NAME}\"`")
        }
        false => known.into_iter().find(|(words, _)| message.contains(words)).map(|(_, help)| help),
    };
    (location, help)
}

/// Whether a variable stands without quotes, where YAML takes its braces for a mapping.
fn has_bare_variable(message: &str, line: &str) -> bool {
    let words = ["did not find expected", "mapping values are not allowed"];
    line.contains(": ${") && words.iter().any(|words| message.contains(words))
}

const INDENT: &str = "compare the indentation with the lines before: the keys of one mapping, and the `-` of one list, begin \
                      in the same column; text with `: ` needs quotes";
