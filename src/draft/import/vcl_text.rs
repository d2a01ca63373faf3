//! The syntax of VCL: statements, and blocks with the words before them.

use super::region::PathSet;
use super::{MAX_DEPTH, MAX_STATEMENTS};

/// A statement, or a block with the words before it.
pub(super) struct Statement {
    pub line: usize,
    pub text: String,
    pub block: Vec<Statement>,
}

/// Reads a file.
///
/// # Errors
/// Blocks do not end, or there are too many.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, String> {
    let cleaned = without_comments(text);
    VclReader { rest: &cleaned, line: 1, count: 0 }.statements(0)
}

impl Statement {
    pub(super) fn about(&self) -> String {
        format!("line {}: `{}`", self.line, self.text)
    }

    /// Whether the block runs only under a condition.
    pub(super) fn is_conditional(&self) -> bool {
        self.text.starts_with("if") || self.is_alternative()
    }

    pub(super) fn is_alternative(&self) -> bool {
        self.text == "else" || self.text.starts_with("else ")
    }

    /// The text between the parentheses of a condition.
    fn condition(&self) -> Option<&str> {
        let condition = self.text.trim_start_matches("else").trim().strip_prefix("if")?.trim();
        Some(condition.strip_prefix('(')?.strip_suffix(')')?.trim())
    }

    /// The paths for which the block runs at most, one set for each alternative; `None` if it asks for no path.
    pub(super) fn paths(&self) -> Option<Vec<PathSet>> {
        let condition = self.condition()?;
        if !condition.contains("req.url") {
            return None;
        }
        let (either, both) = (condition.contains("||"), condition.contains("&&"));
        Some(match (either, both) {
            (true, true) => vec![PathSet::unknown()],
            (true, false) => condition.split("||").map(paths_of_comparison).collect(),
            _ => {
                let parts = condition.split("&&").filter(|part| part.contains("req.url"));
                // Each of them holds.
                parts.take(1).map(paths_of_comparison).collect()
            }
        })
    }

    /// The paths, if the condition asks for nothing else.
    pub(super) fn only_paths(&self) -> Option<PathSet> {
        let is_simple = self.condition().is_some_and(|text| !text.contains("&&") && !text.contains("||"));
        self.paths().filter(|_| is_simple)?.pop()
    }
}

/// The paths of `req.url ~ "^/api"`.
fn paths_of_comparison(comparison: &str) -> PathSet {
    let read = || {
        let (field, pattern) = comparison.split_once(['~', '='])?;
        let pattern = pattern.trim_start_matches('=').trim().trim_end_matches(')');
        let quoted = pattern.trim().strip_prefix('"')?.strip_suffix('"')?;
        let field = field.trim().trim_start_matches('(').trim();
        let is_url = ["req.url", "bereq.url"].contains(&field) && !quoted.contains('"');
        is_url.then(|| match comparison.contains("==") {
            true => PathSet::from_pattern(&format!("^{}$", quoted.replace('.', "\\."))),
            false => PathSet::from_pattern(quoted),
        })
    };
    read().unwrap_or_else(PathSet::unknown)
}

/// Replaces comments by white space; lines stay.
fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['"', '#', '/']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (kept, length) = match from.as_bytes() {
            [b'"', ..] => {
                let end = from[1..].find(['"', '\n']).map_or(from.len(), |end| end + 2);
                (true, end)
            }
            [b'#', ..] | [b'/', b'/', ..] => (false, from.find('\n').unwrap_or(from.len())),
            [b'/', b'*', ..] => (false, from.find("*/").map_or(from.len(), |end| end + 2)),
            _ => (true, 1),
        };
        match kept {
            true => out.push_str(&from[..length]),
            false => out.extend(from[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = &from[length..];
    }
    out.push_str(rest);
    out
}

struct VclReader<'t> {
    rest: &'t str,
    line: usize,
    count: usize,
}

impl VclReader<'_> {
    fn statements(&mut self, depth: usize) -> Result<Vec<Statement>, String> {
        let mut statements = Vec::new();
        loop {
            let (text, end) = self.until_end();
            let line = self.line;
            self.count += 1;
            if self.count > MAX_STATEMENTS || depth > MAX_DEPTH {
                return Err(format!("line {line}: the file is too large or too deeply nested"));
            }
            let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for word in ["elsif", "elseif", "elif"] {
                if let Some(condition) = text.strip_prefix(word) {
                    text = format!("else if {}", condition.trim_start());
                }
            }
            match end {
                Some('{') => {
                    let block = self.statements(depth + 1)?;
                    statements.push(Statement { line, text, block });
                }
                Some('}') if depth > 0 => return Ok(statements),
                None if depth == 0 => return Ok(statements),
                Some(';') if text.is_empty() => {}
                Some(';') => statements.push(Statement { line, text, block: Vec::new() }),
                _ => return Err(format!("line {line}: `}}` is not where VCL expects it")),
            }
        }
    }

    /// The text up to the next `{`, `}` or `;` outside of quotation marks.
    fn until_end(&mut self) -> (String, Option<char>) {
        let (mut text, mut is_quoted) = (String::new(), false);
        for (at, c) in self.rest.char_indices() {
            self.line += usize::from(c == '\n');
            match c {
                '"' => is_quoted = !is_quoted,
                '{' | '}' | ';' if !is_quoted => {
                    self.rest = &self.rest[at + 1..];
                    return (text, Some(c));
                }
                _ => {}
            }
            text.push(c);
        }
        self.rest = "";
        (text, None)
    }
}
