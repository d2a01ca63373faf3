//! Hides what may be secret in a line of a configuration that is shown to people. It is read as text, since a file that is
//! no YAML is shown, too; where it is unsure it hides.

/// Names of keys with secrets contain one of these, in lower case and with `-` for `_`.
const SECRET_PARTS: &[&str] = &[
    "token",
    "passw",
    "passphrase",
    "secret",
    "apikey",
    "api-key",
    "authorization",
    "cookie",
    "credential",
    "bearer",
];

/// Names like these are taken for misspelt ones.
const SECRET_NAMES: &[&str] = &["token", "password", "secret", "authorization"];

/// Keys of mappings in which each value may be secret.
const SECRET_MAPPINGS: &[&str] = &["headers"];

/// A line of the text, counted from 0, with spaces for control characters, and stars for what may be secret.
pub(super) fn mask_line(text: &str, number: usize) -> Vec<char> {
    let lines: Vec<&str> = text.lines().collect();
    let written = lines.get(number).copied().unwrap_or_default();
    let mut shown: Vec<char> = written.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let parent = parent_key(&lines, number);
    if parent.is_some_and(|key| is_secret_key(key.chars())) {
        let start = indent(written) + usize::from(written.trim_start().starts_with("- ")) * 2;
        mask(&mut shown, start, written.chars().count());
        return shown;
    }
    let are_all_secret = parent.is_some_and(|key| SECRET_MAPPINGS.contains(&key));
    let line = shown.clone();
    for colon in (0..line.len()).filter(|at| ends_key(&line, *at)) {
        let key = key_before(&line[..colon]);
        if are_all_secret || is_secret_key(key.iter().copied()) || is_secret_mapping(key, &line[colon + 1..])
        {
            let (start, end) = value_after(&line, colon + 1);
            if !is_reference(&line[start..end]) {
                mask(&mut shown, start, end);
            }
        }
    }
    mask_user_info(&mut shown);
    shown
}

/// The last key of the nearest line above that is indented less: it holds this line, if the line is its value.
fn parent_key<'t>(lines: &[&'t str], number: usize) -> Option<&'t str> {
    let line = lines.get(number)?;
    let (own, is_item) = (indent(line), line.trim_start().starts_with('-'));
    let above = lines[..number].iter().rev().filter(|line| {
        let text = line.trim_start();
        !text.is_empty() && !text.starts_with('#')
    });
    let mut holds = above.filter(|line| {
        indent(line) < own || is_item && indent(line) == own && !line.trim_start().starts_with('-')
    });
    let parent = holds.next()?;
    let (before, _) = parent.rsplit_once(':')?;
    let key = before.rsplit(['{', '[', ',']).next()?.trim();
    Some(key.trim_start_matches(['-', ' ']).trim_matches(['"', '\'']))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a key ends before this colon.
fn ends_key(line: &[char], at: usize) -> bool {
    let is_quoted = at.checked_sub(1).is_some_and(|before| matches!(line[before], '"' | '\''));
    line[at] == ':' && (is_quoted || line.get(at + 1).is_none_or(|c| c.is_whitespace()))
}

fn key_before(line: &[char]) -> &[char] {
    let end = line.iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
    match line[..end].split_last() {
        Some((quote @ ('"' | '\''), inner)) => {
            let start = inner.iter().rposition(|c| c == quote).map_or(0, |at| at + 1);
            &inner[start..]
        }
        _ => {
            let is_before = |c: &char| matches!(c, '{' | '[' | ',' | '"' | '\'' | ' ' | '\t');
            let start = line[..end].iter().rposition(is_before).map_or(0, |at| at + 1);
            &line[start..end]
        }
    }
}

fn is_secret_key(key: impl Iterator<Item = char>) -> bool {
    let name: String = key.flat_map(char::to_lowercase).map(|c| if c == '_' { '-' } else { c }).collect();
    // The path of a file with a secret is none.
    !name.ends_with("-file")
        && (SECRET_PARTS.iter().any(|part| name.contains(part))
            || SECRET_NAMES.iter().any(|known| strsim::damerau_levenshtein(&name, known) <= 2))
        && name != "credentials"
}

fn is_secret_mapping(key: &[char], after: &[char]) -> bool {
    let is_named = |name: &&str| name.chars().eq(key.iter().copied());
    SECRET_MAPPINGS.iter().any(is_named) && after.iter().find(|c| !c.is_whitespace()) == Some(&'{')
}

/// The first and the last character of the value that begins at `from`.
fn value_after(line: &[char], from: usize) -> (usize, usize) {
    let start = line[from..].iter().position(|c| !c.is_whitespace()).map_or(line.len(), |at| from + at);
    let rest = &line[start..];
    let length = match rest.first() {
        // A quote may be in a quoted value, so the last one counts.
        Some(quote @ ('"' | '\'')) => {
            let is_end = |at: &usize| {
                rest[*at] == *quote
                    && rest[at + 1..].iter().find(|c| !c.is_whitespace()).is_none_or(|c| ",]}#".contains(*c))
            };
            (1..rest.len()).find(is_end).map_or(rest.len(), |at| at + 1)
        }
        Some('{' | '[') => {
            let mut depth = 0_usize;
            let closes = |c: &char| {
                match c {
                    '{' | '[' => depth += 1,
                    '}' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                depth == 0
            };
            rest.iter().position(closes).map_or(rest.len(), |at| at + 1)
        }
        _ if line[..start].iter().any(|c| matches!(c, '{' | '[')) => {
            rest.iter().position(|c| matches!(c, ',' | '}' | ']')).unwrap_or(rest.len())
        }
        _ => rest.len(),
    };
    (start, start + length)
}

/// Whether a value is none, or one of the environment, and nothing besides.
fn is_reference(value: &[char]) -> bool {
    let text: String = value.iter().collect();
    let text = text.trim().trim_matches(['"', '\'']);
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    text == "none" || name.is_some_and(|name| name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()))
}

/// Hides user names and passwords in URLs. A password may have a slash.
fn mask_user_info(shown: &mut [char]) {
    let scheme_ends: Vec<usize> =
        shown.windows(3).enumerate().filter(|(_, w)| *w == [':', '/', '/']).map(|(at, _)| at + 3).collect();
    for start in scheme_ends {
        let is_end = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
        let end = shown[start..].iter().position(is_end).map_or(shown.len(), |at| start + at);
        if let Some(at) = shown[start..end].iter().rposition(|c| *c == '@') {
            mask(shown, start, start + at);
        }
    }
}

/// Leaves quotes, brackets, commas and spaces.
fn mask(shown: &mut [char], start: usize, end: usize) {
    for c in shown.iter_mut().take(end).skip(start) {
        if !matches!(c, '"' | '\'' | '[' | ']' | '{' | '}' | ',' | ' ') {
            *c = '*';
        }
    }
}
