//! Few functions have many decisions or many parameters. A text count is enough for code that rustfmt has laid out.

use super::report;
use super::sources::{File, rust_files};

/// A function above this counts as complex.
const MAX_DECISIONS: usize = 10;

/// A function above this counts as one with many parameters. `self` is a parameter.
const MAX_PARAMETERS: usize = 5;

/// The share of functions, in thousandths.
const MAX_COMPLEX_SHARE: usize = 19;
const MAX_PARAMETERS_SHARE: usize = 3;

/// Keywords before which `||` begins a closure, and `&&` borrows twice.
const BEFORE_OPERANDS: &[&str] = &["move", "return", "in", "let", "mut", "else", "match", "if", "while"];

struct Function {
    place: String,
    decisions: usize,
    parameters: usize,
}

#[test]
fn few_functions_are_complex() {
    check_share(|function| function.decisions, MAX_DECISIONS, MAX_COMPLEX_SHARE, "decisions");
}

#[test]
fn few_functions_have_many_parameters() {
    check_share(|function| function.parameters, MAX_PARAMETERS, MAX_PARAMETERS_SHARE, "parameters");
}

/// Fails if more than `share` of 1,000 functions have a `size` above `max`, and lists them with the largest first.
fn check_share(size: impl Fn(&Function) -> usize, max: usize, share: usize, what: &str) {
    let files = rust_files().into_iter().filter(File::is_production);
    let functions: Vec<Function> = files.flat_map(|file| functions(&file)).collect();
    assert!(functions.len() > 2000, "only {} functions found", functions.len());
    let mut above: Vec<&Function> = functions.iter().filter(|function| size(function) > max).collect();
    above.sort_by_key(|function| std::cmp::Reverse(size(function)));
    let findings: Vec<_> =
        above.iter().map(|function| format!("{}: {} {what}", function.place, size(function))).collect();
    let found = above.len() as f64 * 1000.0 / functions.len() as f64;
    println!("{found:.1} of 1,000 functions ({}) have more than {max} {what}:", functions.len());
    println!("  {}", findings.iter().take(10).cloned().collect::<Vec<_>>().join("\n  "));
    if above.len() * 1000 > share * functions.len() {
        report(&findings);
    }
}

/// The functions of a file that have a body. A function inside another one counts for itself alone.
fn functions(file: &File) -> Vec<Function> {
    let code = file.text.split("#[cfg(test)]\nmod tests {").next().expect("a first part");
    let code = without_literals(code);
    let starts = code.match_indices("fn ").map(|(at, _)| at).filter(|at| begins_word(&code, *at));
    let found: Vec<_> = starts.filter_map(|at| Some((at, body(&code, at)?))).collect();
    let function = |(start, (open, close)): &(usize, (usize, usize))| {
        let mut text = code[*open..*close].to_owned();
        for (_, (inner, end)) in found.iter().filter(|(_, (inner, end))| open < inner && end < close) {
            text = text.replace(&code[*inner..*end], "");
        }
        let signature = &code[*start + "fn ".len()..*open];
        let name = signature.split(['(', '<']).next().unwrap_or_default();
        let line = code[..*start].matches('\n').count() + 1;
        Function {
            place: format!("{}:{line} {name}", file.path),
            decisions: decisions(&text),
            parameters: parameters(signature),
        }
    };
    found.iter().map(function).collect()
}

fn begins_word(code: &str, at: usize) -> bool {
    code[..at].chars().next_back().is_none_or(|c| !is_word(c))
        && code[at + "fn ".len()..].starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The braces of the body of the function that begins at `start`; `None` if it has none.
fn body(code: &str, start: usize) -> Option<(usize, usize)> {
    let mut depth = 0;
    let opening = code[start..].char_indices().find(|(_, c)| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        depth == 0 && ['{', ';'].contains(c)
    });
    let (open, _) = opening.filter(|(_, c)| *c == '{')?;
    let mut depth = 0;
    let (length, _) = code[start + open..].char_indices().find(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some((start + open, start + open + length))
}

/// One path, and one more for each `if`, loop with a condition, further arm of a `match`, `&&` and `||`.
fn decisions(body: &str) -> usize {
    let words = |word: &str| {
        let found = body.match_indices(word).filter(|(at, _)| {
            let after = body[at + word.len()..].chars().next();
            !body[..*at].ends_with(is_word) && after.is_none_or(|c| !is_word(c) && c != '<')
        });
        found.count()
    };
    let operators = ["&&", "||"].iter().flat_map(|operator| body.match_indices(operator));
    let is_operator = |(at, _): &(usize, &str)| {
        let before = body[..*at].trim_end();
        let last = before.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        before.ends_with(|c: char| is_word(c) || ")]}?\"'>".contains(c)) && !BEFORE_OPERANDS.contains(&last)
    };
    let further_arms = body.matches("=>").count().saturating_sub(words("match"));
    1 + words("if") + words("while") + words("for") + further_arms + operators.filter(is_operator).count()
}

/// The number of parameters in a signature after its `fn`.
fn parameters(signature: &str) -> usize {
    let (mut angles, mut depth, mut count, mut is_empty) = (0, 0, 0, true);
    let mut before = ' ';
    for c in signature.chars() {
        match c {
            '<' => angles += 1,
            '>' if !['-', '='].contains(&before) => angles -= 1,
            // The generics of the function itself come first.
            _ if angles > 0 && depth == 0 => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' if depth == 1 => return count + usize::from(!is_empty),
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 1 && angles == 0 => (count, is_empty) = (count + 1, true),
            _ if depth > 0 => is_empty &= c.is_whitespace(),
            _ => {}
        }
        before = c;
    }
    count
}

/// The code without comments, and with empty literals.
fn without_literals(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let in_word = kept.ends_with(is_word);
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            'r' if !in_word && is_raw_string(rest) => {
                let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
                let end = format!("\"{}", "#".repeat(hashes));
                let start = 2 + hashes;
                start + rest[start..].find(&end).expect("an end of the string") + end.len()
            }
            '"' => 1 + quoted_length(&rest[1..]),
            '\'' => character_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            kept.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        // Lines keep their numbers.
        kept.push_str(if c == '/' { "" } else { "\"\"" });
        kept.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    kept
}

fn is_raw_string(text: &str) -> bool {
    text[1..].trim_start_matches('#').starts_with('"')
}

/// The length of a string after its first quote, with its last one.
fn quoted_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of a character literal; 0 for a lifetime.
fn character_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    let first = characters.next().map(|(_, c)| c);
    let (at, second) = characters.next().unwrap_or((0, ' '));
    match (first, second) {
        (Some('\\'), _) => {
            text[at + second.len_utf8()..].find('\'').map_or(0, |end| at + second.len_utf8() + end + 1)
        }
        (Some(_), '\'') => at + 1,
        _ => 0,
    }
}

#[test]
fn decisions_and_parameters_are_counted() {
    let text = r##"
fn plain() {}
trait T { fn bodiless(&self, x: u8); }
fn generic<F: Fn(u8, u8) -> bool>(&self, x: HashMap<u8, u8>, (a, b): (u8, u8), S { e, f }: S) -> Result<(), Error> {
    // if this && that
    let text = "if \" && ||"; let c = '"'; let raw = r#"if "match""#;
    let closure = || x; let other = move |y| y; let borrowed = &&x;
    if a && b || c { while x {} }
    for x in y? {}
    match x { A => 1, B if c => 2, _ => 3 }
    fn inner() { if x {} }
}
"##;
    let found = functions(&File { path: "x.rs".into(), text: text.into() });
    let found: Vec<_> = found.iter().map(|it| (it.place.as_str(), it.decisions, it.parameters)).collect();
    assert_eq!(found, [("x.rs:2 plain", 1, 0), ("x.rs:4 generic", 9, 4), ("x.rs:11 inner", 2, 0)]);
}
