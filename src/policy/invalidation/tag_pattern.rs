//! Regular expressions over the tags of a response, as Magento, API Platform and FOSHttpCache send them: alternatives of
//! whole tags.

/// How deep groups may be nested.
const MAX_DEPTH: usize = 8;

/// The edges of a tag: before it, and after it.
const STARTS: [&str; 8] = ["(^|,)", "(^|\\,)", "(,|^)", "(\\,|^)", "(^| )", "(^|\\s)", "(\\s|^)", "^"];
const ENDS: [&str; 8] = ["(,|$)", "(\\,|$)", "($|,)", "($|\\,)", "( |$)", "(\\s|$)", "($|\\s)", "$"];

/// A tag, and the sides on which the pattern says that it ends there.
struct Alternative {
    tag: String,
    has_start: bool,
    has_end: bool,
}

/// The tags of a pattern such as `((^|,)a(,|$))|((^|,)(b|c)(,|$))`. `None`: it may match other tags, or parts of tags.
pub(super) fn parse_tag_pattern(pattern: &str) -> Option<Vec<String>> {
    let mut rest = pattern.trim();
    let alternatives = parse_alternatives(&mut rest, 0)?;
    let is_whole = alternatives.iter().all(|alternative| alternative.has_start && alternative.has_end);
    (rest.is_empty() && is_whole)
        .then(|| alternatives.into_iter().map(|alternative| alternative.tag).collect())
}

fn parse_alternatives(rest: &mut &str, depth: usize) -> Option<Vec<Alternative>> {
    let mut all = parse_sequence(rest, depth)?;
    while strip(rest, "|") {
        all.extend(parse_sequence(rest, depth)?);
    }
    Some(all)
}

/// A tag or a group, and the edges around it.
fn parse_sequence(rest: &mut &str, depth: usize) -> Option<Vec<Alternative>> {
    let has_start = STARTS.iter().any(|start| strip(rest, start));
    let mut alternatives = if strip(rest, "(?:") || strip(rest, "(") {
        if depth == MAX_DEPTH {
            return None;
        }
        let inner = parse_alternatives(rest, depth + 1)?;
        strip(rest, ")").then_some(inner)?
    } else {
        vec![Alternative { tag: parse_literal(rest)?, has_start: false, has_end: false }]
    };
    let has_end = ENDS.iter().any(|end| strip(rest, end));
    for alternative in &mut alternatives {
        alternative.has_start |= has_start;
        alternative.has_end |= has_end;
    }
    Some(alternatives)
}

fn parse_literal(rest: &mut &str) -> Option<String> {
    let (mut length, mut is_escaped) = (0, false);
    for c in rest.chars() {
        if !is_escaped && matches!(c, '(' | ')' | '|' | '$' | '^' | ',') {
            break;
        }
        is_escaped = c == '\\' && !is_escaped;
        length += c.len_utf8();
    }
    let (written, after) = rest.split_at(length);
    *rest = after;
    literal(written).filter(|tag| !tag.is_empty() && !has_any_character(written))
}

fn strip(rest: &mut &str, prefix: &str) -> bool {
    let after = rest.strip_prefix(prefix);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

/// Whether an unescaped dot stands for any character.
pub(super) fn has_any_character(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '.' => return true,
            _ => {}
        }
    }
    false
}

/// The text that a pattern without operators matches, if its dots are literal ones.
pub(super) fn literal(pattern: &str) -> Option<String> {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(|c| c.is_ascii_punctuation())?),
            '*' | '+' | '?' | '[' | ']' | '(' | ')' | '{' | '}' | '^' | '$' | '|' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_whole_tags_is_their_list() {
        for (pattern, expected) in [
            ("(^|,)a(,|$)", Some(&["a"][..])),
            ("((^|,)(a|b)(,|$))", Some(&["a", "b"])),
            ("((^|,)cat_p_1(,|$))|((^|,)cat_c_3(,|$))", Some(&["cat_p_1", "cat_c_3"])),
            ("(^|\\,)/books/1($|\\,)", Some(&["/books/1"])),
            ("((^|\\,)/a\\-b\\.c($|\\,))|((^|\\,)/d($|\\,))", Some(&["/a-b.c", "/d"])),
            ("(^| )(cat_1|cat_3)( |$)", Some(&["cat_1", "cat_3"])),
            ("(?:^|,)a(,|$)", None),
            ("^(?:a|(b|c))$", Some(&["a", "b", "c"])),
            ("(^|,)a\\(1\\)(,|$)", Some(&["a(1)"])),
            // Parts of tags, and what only a regular expression finds.
            ("a", None),
            ("(^|,)a", None),
            ("a(,|$)", None),
            ("(^|,)(a|b(,|$))", None),
            ("(^|,)a.*(,|$)", None),
            ("(^|,)[ab](,|$)", None),
            ("(^|,)(,|$)", None),
            ("(^|,)a,b(,|$)", None),
            ("(^|,)a(,|$)x", None),
            ("((^|,)a(,|$)", None),
            ("(^|,)a\\d(,|$)", None),
            ("(^|,)(a.7)(,|$)", None),
            ("(^|,)(a\\.7)(,|$)", Some(&["a.7"])),
            ("(^|,)(a\\\\.7)(,|$)", None),
            ("(^|,)a\\", None),
            ("", None),
        ] {
            let expected = expected.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
            assert_eq!(parse_tag_pattern(pattern), expected, "{pattern}");
        }
        assert_eq!(parse_tag_pattern(&"(".repeat(100_000)), None);
        assert_eq!(
            parse_tag_pattern(&format!("^{}a{}$", "(".repeat(7), ")".repeat(7))).map(|tags| tags.len()),
            Some(1)
        );
    }
}
