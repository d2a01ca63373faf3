//! Texts of others as YAML: quoted so that they stay one scalar, or as a comment that stays one.

/// Most characters of a text in a comment.
const MAX_COMMENT_CHARS: usize = 400;

/// Writes a text as a scalar of a block mapping. `${` stands for itself, not for a variable.
pub(crate) fn scalar(text: &str) -> String {
    match is_plain_path(text) || is_plain_item(text) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Writes texts as a flow sequence.
pub(crate) fn sequence<'t>(items: impl IntoIterator<Item = &'t str>) -> String {
    format!("[{}]", items.into_iter().map(flow_item).collect::<Vec<_>>().join(", "))
}

/// Writes a text as a scalar within a flow sequence or mapping.
pub(crate) fn flow_item(text: &str) -> String {
    if is_plain_item(text) { text.to_owned() } else { quoted(text) }
}

/// Replaces line breaks and control characters by spaces, and cuts long texts.
pub(super) fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_whitespace() || c.is_control();
    let words: Vec<_> = text.split(is_break).filter(|word| !word.is_empty()).collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_COMMENT_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A path without characters that mean something in a block scalar.
fn is_plain_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.contains("${")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.{}*?|~%".contains(&byte))
}

/// A word that no YAML reader takes for a number, a boolean or null.
fn is_plain_item(text: &str) -> bool {
    const WORDS: [&str; 7] = ["true", "false", "null", "yes", "no", "on", "off"];
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
