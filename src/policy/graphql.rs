//! Tells GraphQL documents that only read from those that may write. Nothing but their tokens is looked at.

/// The operations that are no reads.
const WRITING_OPERATIONS: [&[u8]; 2] = [b"mutation", b"subscription"];

/// Tokens of one byte, parts of numbers, and what stands between tokens.
const SINGLE_BYTES: &[u8] = b"0123456789 \t\r\n!$&+-.,:=@|";

const BRACKETS: [(u8, u8); 3] = [(b'{', b'}'), (b'(', b')'), (b'[', b']')];

const BLOCK_QUOTE: &[u8] = b"\"\"\"";

/// Whether `text` is a document with a mutation or a subscription, or one that can't be told apart. A text without a brace is
/// no document: servers refuse it.
pub(super) fn may_write(text: &str) -> bool {
    if !text.contains('{') {
        return false;
    }
    let mut tokens = Tokens { rest: text.as_bytes(), open: Vec::new() };
    loop {
        match tokens.next() {
            Some(GraphqlToken::End) => return !tokens.open.is_empty(),
            Some(GraphqlToken::Name(name))
                if tokens.open.is_empty() && WRITING_OPERATIONS.contains(&name) =>
            {
                return true;
            }
            Some(_) => {}
            None => return true,
        }
    }
}

enum GraphqlToken<'t> {
    Name(&'t [u8]),
    Other,
    End,
}

struct Tokens<'t> {
    rest: &'t [u8],
    /// The brackets that close what is open.
    open: Vec<u8>,
}

impl<'t> Tokens<'t> {
    /// `None`: no token of the language begins here, or one has no end.
    fn next(&mut self) -> Option<GraphqlToken<'t>> {
        let Some(&first) = self.rest.first() else { return Some(GraphqlToken::End) };
        match first {
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => return Some(GraphqlToken::Name(self.read_name())),
            b'"' => self.skip_string()?,
            b'#' => {
                let is_end = |byte: &u8| b"\r\n".contains(byte);
                self.skip(self.rest.iter().position(is_end).unwrap_or(self.rest.len()));
            }
            _ if SINGLE_BYTES.contains(&first) => self.skip(1),
            // A byte order mark is ignored wherever it stands.
            0xef => self.rest = self.rest.strip_prefix(b"\xef\xbb\xbf")?,
            _ => self.skip_bracket(first)?,
        }
        Some(GraphqlToken::Other)
    }

    fn skip(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }

    fn read_name(&mut self) -> &'t [u8] {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = self.rest.iter().take_while(|byte| is_part(byte)).count();
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name
    }

    fn skip_bracket(&mut self, bracket: u8) -> Option<()> {
        match BRACKETS.iter().find(|(open, _)| *open == bracket) {
            Some((_, close)) => self.open.push(*close),
            None => drop(self.open.pop().filter(|close| *close == bracket)?),
        }
        self.skip(1);
        Some(())
    }

    fn skip_string(&mut self) -> Option<()> {
        let is_block = self.rest.starts_with(BLOCK_QUOTE);
        let quote = if is_block { BLOCK_QUOTE } else { b"\"" };
        self.skip(quote.len());
        while !self.rest.starts_with(quote) {
            let length = match (self.rest.first()?, is_block) {
                (_, true) if self.rest.starts_with(b"\\\"\"\"") => 4,
                (b'\\', false) => 2,
                (b'\r' | b'\n', false) => return None,
                _ => 1,
            };
            self.rest = self.rest.get(length..)?;
        }
        self.skip(quote.len());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_of_queries_are_reads() {
        for query in [
            "{ course(id: 7) { title } }",
            "query { a }",
            "\u{feff}query Q($a: In = {b: [1, -2.5e3]}, $c: [Int!]!) @d(x: \"mutation\") { mutation(e: $a) { f } }",
            "fragment F on T { subscription } query { ...F }",
            "# mutation {\nquery { a(b: \"}\\\" mutation {\") }",
            "{ a(b: \"\"\"} mutation { \\\"\"\" \" \"\"\") }",
            "query A { mutation: b } query B { c { mutation } }",
            // Searches of other APIs.
            "mutation testing",
            "what's new? (",
            "",
        ] {
            assert!(!may_write(query), "{query}");
        }
        for other in [
            "mutation { rename(id: 7) { title } }",
            "mutation($t: String!) { rename(id: 7, title: $t) { id } }",
            "  # {\n , mutation M { a }",
            "query Q { a } mutation M { b }",
            "subscription { a }",
            "query Q($a: In = {b: 1}) { a } mutation { b }",
            "{ a(b: \"\"\"x\\\"\"\"\"\"\") } mutation { c }",
            // A server may be less strict.
            "query { a",
            "query { a } }",
            "query { a ] ",
            "query { a(b: \"x) }",
            "query { a(b: \"x\n\") }",
            "{ a(b: \"\"\"x\") }",
            "query { é }",
            "query { a; }",
            "{ \\",
            "{ \"\\",
        ] {
            assert!(may_write(other), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\{[\\[\\]{}()\"\\\\#a é\n$]{0,40}") {
            may_write(&text);
        }
    }
}
