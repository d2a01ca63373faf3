//! The syntax of nginx: directives with words and blocks.

use super::{MAX_DEPTH, MAX_STATEMENTS};

/// A directive with its arguments, and the directives of its block.
#[derive(Debug)]
pub(super) struct NginxDirective {
    pub line: usize,
    pub words: Vec<String>,
    pub block: Vec<NginxDirective>,
}

/// Reads a file.
///
/// # Errors
/// Blocks or quotations do not end, or there are too many.
pub(super) fn parse(text: &str) -> Result<Vec<NginxDirective>, String> {
    Parser { rest: text, line: 1, count: 0 }.block(0)
}

struct Parser<'t> {
    rest: &'t str,
    line: usize,
    count: usize,
}

enum NginxToken {
    Word(String),
    Open,
    Close,
    End,
}

impl Parser<'_> {
    /// Reads directives up to the end of the block.
    fn block(&mut self, depth: usize) -> Result<Vec<NginxDirective>, String> {
        let (mut directives, mut words) = (Vec::new(), Vec::new());
        loop {
            let token = self.token()?;
            let line = self.line;
            if self.count > MAX_STATEMENTS || depth > MAX_DEPTH {
                return Err(format!("line {line}: the file is too large or too deeply nested"));
            }
            match token {
                Some(NginxToken::Word(word)) => words.push(word),
                Some(NginxToken::End) if words.is_empty() => {}
                Some(NginxToken::End) => {
                    self.count += 1;
                    directives.push(NginxDirective {
                        line,
                        words: std::mem::take(&mut words),
                        block: Vec::new(),
                    });
                }
                Some(NginxToken::Open) => {
                    self.count += 1;
                    let words = std::mem::take(&mut words);
                    // Code of another language is not read.
                    let block = match words.first().is_some_and(|name| name.ends_with("_by_lua_block")) {
                        true => self.skip_block()?,
                        false => self.block(depth + 1)?,
                    };
                    directives.push(NginxDirective { line, words, block });
                }
                Some(NginxToken::Close) if depth > 0 => return Ok(directives),
                None if depth == 0 && words.is_empty() => return Ok(directives),
                Some(NginxToken::Close) | None => {
                    return Err(format!("line {line}: `}}` or `;` is not where nginx expects it"));
                }
            }
        }
    }

    fn skip_block(&mut self) -> Result<Vec<NginxDirective>, String> {
        let mut open = 1;
        while let Some(next) = self.next_char() {
            open += i32::from(next == '{') - i32::from(next == '}');
            if open == 0 {
                return Ok(Vec::new());
            }
        }
        Err(format!("line {}: a block has no end", self.line))
    }

    fn next_char(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn token(&mut self) -> Result<Option<NginxToken>, String> {
        while let Some(next) = self.rest.chars().next() {
            match next {
                '#' => while self.next_char().is_some_and(|c| c != '\n') {},
                c if c.is_whitespace() => _ = self.next_char(),
                _ => break,
            }
        }
        let Some(first) = self.next_char() else { return Ok(None) };
        Ok(Some(match first {
            '{' => NginxToken::Open,
            '}' => NginxToken::Close,
            ';' => NginxToken::End,
            '"' | '\'' => NginxToken::Word(self.quoted(first)?),
            first => {
                let mut word = String::from(first);
                while let Some(next) = self.rest.chars().next() {
                    // `${name}` is a variable.
                    if next.is_whitespace() || next == ';' || next == '{' && !word.ends_with('$') {
                        break;
                    }
                    word.extend(self.next_char());
                }
                NginxToken::Word(word)
            }
        }))
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut word = String::new();
        while let Some(next) = self.next_char() {
            match next {
                '\\' => word.extend(self.next_char()),
                next if next == quote => return Ok(word),
                next => word.push(next),
            }
        }
        Err(format!("line {}: a quotation has no end", self.line))
    }
}

impl NginxDirective {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        // A field that nginx sends in place of the client may be a password.
        let is_secret =
            self.name() == "proxy_set_header" && !self.words.last().is_some_and(|word| word.contains('$'));
        let shown = if is_secret { self.words.len().min(2) } else { self.words.len() };
        let rest = if shown < self.words.len() { " …" } else { "" };
        format!("line {}: `{}{rest}`", self.line, self.words[..shown].join(" "))
    }
}
