//! Hides what may be secret in a line of a configuration that is shown to people. It is read as text, since a file that is
//! no YAML is shown, too; where it is unsure it hides.

use std::borrow::Cow;

use crate::policy::secret_parameters::mask_parameters;

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
pub(super) const SECRET_NAMES: &[&str] = &["token", "password", "secret", "authorization"];

/// Words that a credential follows, in any letter case (RFC 9110 §11.1), besides those with a part of a secret's name.
const SCHEMES: &[&str] = &["basic", "digest", "negotiate", "ntlm"];

/// Keys of sections with a token, which may be written in place of the section or of a key in it.
const TOKEN_SECTIONS: &[&str] = &["admin", "purge"];

/// Letters of either case and digits in a row that are taken for a secret.
const MIN_RANDOM_CHARS: usize = 16;

/// Keys of mappings in which each value may be secret.
const SECRET_MAPPINGS: &[&str] = &["headers"];

/// Keys of sections that are about secrets: a mistaken key or value in them may be one.
pub(super) const SECRET_SECTIONS: &[&str] = &["encrypt", "sign", "auth", "jwt"];

/// Keys in such sections, which are shown.
const SECTION_KEYS: &[&str] = &["keys", "id", "secret", "exec"];

/// Keys in such sections that are shown with their values.
const PUBLIC_KEYS: &[&str] = &["issuer", "audience", "algorithms", "from", "ignore", "leeway", "every"];

/// A line of the text, counted from 0, with spaces for control characters, and stars for what may be secret.
pub(super) fn mask_line(text: &str, number: usize) -> Vec<char> {
    let lines: Vec<&str> = text.lines().collect();
    let written = lines.get(number).copied().unwrap_or_default();
    let mut shown: Vec<char> = written.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let parents = parent_keys(&lines, number);
    let parent = parents.first().copied();
    // A private key may be written out in place of its path.
    if parent.is_some_and(|key| is_secret_key(key.chars()) || key == "key") {
        let start = indent(written) + usize::from(written.trim_start().starts_with("- ")) * 2;
        mask(&mut shown, start, written.chars().count());
        return shown;
    }
    if parents.iter().any(|key| SECRET_SECTIONS.contains(key)) {
        hide_section(&mut shown, (indent(written), written.chars().count()));
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
        } else if SECRET_SECTIONS.iter().any(|section| section.chars().eq(key.iter().copied())) {
            let (start, end) = value_after(&line, colon + 1);
            if !is_reference(&line[start..end]) {
                hide_section(&mut shown, (start, end));
            }
        } else if TOKEN_SECTIONS.iter().any(|section| section.chars().eq(key.iter().copied())) {
            hide_bare_words(&mut shown, value_after(&line, colon + 1));
        }
    }
    mask_without_colon(&mut shown, &line);
    mask_random(&mut shown);
    mask_urls(&mut shown);
    shown
}

/// Whether a text is most likely a secret: a JSON Web Token, or letters of either case and digits in disorder.
pub(super) fn looks_random(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|run| {
        let has = |is_kind: fn(&char) -> bool| run.chars().any(|c| is_kind(&c));
        run.len() >= MIN_RANDOM_CHARS
            && (run.starts_with("eyJ")
                || has(char::is_ascii_digit)
                    && has(char::is_ascii_lowercase)
                    && has(char::is_ascii_uppercase))
    })
}

/// Hides words that look like secrets. Paths and references are shown.
fn mask_random(shown: &mut [char]) {
    let is_end = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']' | '{' | '}' | '`');
    let mut from = 0;
    while let Some(start) = shown[from..].iter().position(|c| !is_end(c)).map(|at| from + at) {
        let end = shown[start..].iter().position(is_end).map_or(shown.len(), |at| start + at);
        let word: String = shown[start..end].iter().collect();
        if !word.contains('/') && looks_random(&word) {
            mask(shown, start, end);
        }
        from = end;
    }
}

/// Hides the parts of a value that are not the value of a key.
fn hide_bare_words(shown: &mut [char], (start, end): (usize, usize)) {
    let line = shown.to_vec();
    let mut from = start;
    while from < end {
        let mut is_in_reference = false;
        let is_end = |at: &usize| {
            is_in_reference |= line[*at] == '{' && *at > 0 && line[*at - 1] == '$';
            let is_end = !is_in_reference && matches!(line[*at], '{' | '}' | '[' | ']' | ',');
            is_in_reference &= line[*at] != '}';
            is_end
        };
        let to = (from..end).find(is_end).unwrap_or(end);
        let part = &line[from..to];
        let text: String = part.iter().collect();
        if !part.contains(&':') && !is_reference(part) && !matches!(text.trim(), "off" | "#") {
            mask(shown, from, to);
        } else if let (true, Some(first)) = (from == start, text.find(": ")) {
            // `admin: a: b`, which is no YAML.
            mask(shown, from, from + first);
        }
        from = to + 1;
    }
}

/// The last keys of the lines above that are each indented less than the one before: the nearest holds this line, if the
/// line is its value.
fn parent_keys<'t>(lines: &[&'t str], number: usize) -> Vec<&'t str> {
    let Some(line) = lines.get(number) else { return Vec::new() };
    let (mut own, mut is_item) = (indent(line), line.trim_start().starts_with('-'));
    let mut keys = Vec::new();
    for line in lines[..number].iter().rev() {
        let text = line.trim_start();
        let holds = indent(line) < own || is_item && indent(line) == own && !text.starts_with('-');
        if text.is_empty() || text.starts_with('#') || !holds {
            continue;
        }
        (own, is_item) = (indent(line), text.starts_with('-'));
        if let Some(key) = line.rsplit_once(':').and_then(|(before, _)| before.rsplit(['{', '[', ',']).next())
        {
            keys.push(key.trim().trim_start_matches(['-', ' ']).trim_matches(['"', '\'']));
        } else if keys.is_empty() {
            break;
        }
    }
    keys
}

/// Hides a part of a line that belongs to a section about secrets, but for what is known to be none.
fn hide_section(shown: &mut [char], (start, end): (usize, usize)) {
    let line = shown.to_vec();
    mask(shown, start, end);
    for colon in (start..end).filter(|at| ends_key(&line, *at)) {
        let key = key_before(&line[..colon]);
        let is_one_of = |keys: &[&str]| keys.iter().any(|it| it.chars().eq(key.iter().copied()));
        let (value, value_end) = value_after(&line, colon + 1);
        let is_public = is_one_of(PUBLIC_KEYS) || is_reference(&line[value..value_end]);
        if is_one_of(PUBLIC_KEYS) || is_one_of(SECTION_KEYS) || is_one_of(SECRET_SECTIONS) {
            let key_start = colon - line[..colon].iter().rev().take_while(|c| !" {[,".contains(**c)).count();
            shown[key_start..=colon].copy_from_slice(&line[key_start..=colon]);
        }
        if is_public {
            shown[value..value_end].copy_from_slice(&line[value..value_end]);
        }
    }
}

/// Hides what follows the name of a secret without a colon between them: `token abc`, `token=abc`.
fn mask_without_colon(shown: &mut [char], line: &[char]) {
    let is_word = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let is_start = |at: usize| {
        let before = line[..at].iter().rposition(|c| !matches!(c, ' ' | '"' | '\''));
        before.is_none_or(|before| {
            matches!(line[before], '{' | '[' | ',' | ':')
                || line[..=before].iter().all(|c| matches!(c, '-' | ' '))
        })
    };
    let starts = (0..line.len())
        .filter(|at| is_word(&line[*at]) && (*at == 0 || !is_word(&line[*at - 1])) && is_start(*at));
    for start in starts {
        let end = line[start..].iter().position(|c| !is_word(c)).map_or(line.len(), |length| start + length);
        let name: String = line[start..end].iter().collect::<String>().to_lowercase().replace('_', "-");
        let gap = line[end..].iter().take_while(|c| matches!(c, ' ' | '=')).count();
        let follows = line.get(end + gap).filter(|_| gap > 0);
        if follows.is_some_and(|c| !":|,]}#".contains(*c))
            && (SCHEMES.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part)))
        {
            let rest = &line[end + gap..];
            let length = rest.iter().position(|c| matches!(c, ',' | '}' | ']')).unwrap_or(rest.len());
            mask(shown, end + gap, end + gap + length);
        }
    }
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

/// Whether a value is none, a boolean, or one of the environment, and nothing besides.
fn is_reference(value: &[char]) -> bool {
    let text: String = value.iter().collect();
    let text = text.trim().trim_matches(['"', '\'']);
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    matches!(text, "none" | "true" | "false")
        || name.is_some_and(|name| name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()))
}

/// Hides in URLs what may be secret: user names and passwords, queries, and keys that are written out. A password may have
/// a slash.
fn mask_urls(shown: &mut [char]) {
    let is_end = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
    let mut from = 0;
    while let Some(start) = shown[from..].iter().position(|c| !is_end(c)).map(|at| from + at) {
        let end = shown[start..].iter().position(is_end).map_or(shown.len(), |at| start + at);
        let word: String = shown[start..end].iter().collect();
        if word.starts_with("-----BEGIN") {
            let end = shown.len();
            return mask(shown, start, end);
        }
        mask_url(&mut shown[start..end], &word);
        from = end;
    }
}

fn mask_url(shown: &mut [char], word: &str) {
    let scheme = shown.windows(3).position(|w| *w == [':', '/', '/']);
    if let Some(at) = shown.iter().rposition(|c| *c == '@') {
        let is_part = |c: &char| matches!(c, '{' | '[');
        let start = shown[..at].iter().rposition(is_part).map_or(0, |before| before + 1);
        match scheme {
            Some(scheme) => mask(shown, scheme + 3, at),
            // `user:password@host`, without a scheme.
            None if shown[start] != '/' && shown[start..at].contains(&':') => mask(shown, start, at),
            None => {}
        }
    }
    let Some(query) = shown.iter().position(|c| *c == '?').map(|at| at + 1) else { return };
    if scheme.is_some() || matches!(mask_parameters(word), Cow::Owned(_)) {
        let end = shown.len();
        mask(shown, query, end);
    }
}

/// The message of an error without what may be secret in the text that it quotes.
pub(super) fn mask_message(message: String) -> String {
    let is_named = |text: &str| SECRET_PARTS.iter().chain(SCHEMES).any(|part| text.contains(part));
    let is_suspicious = message.contains(['@', '?', '=']) || message.contains("-----BEGIN");
    if !is_suspicious && !is_named(&message.to_lowercase()) && !looks_random(&message) {
        return message;
    }
    let quoted = message.split('`').enumerate().map(|(number, text)| match number % 2 {
        0 => Cow::Borrowed(text),
        _ => {
            let line: Vec<char> = text.chars().collect();
            let mut shown = line.clone();
            mask_without_colon(&mut shown, &line);
            mask_random(&mut shown);
            mask_urls(&mut shown);
            Cow::Owned(shown.into_iter().collect())
        }
    });
    quoted.collect::<Vec<_>>().join("`")
}

/// Leaves quotes, brackets, commas and spaces.
pub(super) fn mask(shown: &mut [char], start: usize, end: usize) {
    for c in shown.iter_mut().take(end).skip(start) {
        if !matches!(c, '"' | '\'' | '[' | ']' | '{' | '}' | ',' | ' ') {
            *c = '*';
        }
    }
}
