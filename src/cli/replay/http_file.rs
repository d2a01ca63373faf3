//! Reads a file of requests, as editors play them: a request line, fields, an empty line and the content, with `###`
//! between two requests.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// Largest file.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

const MAX_REQUESTS: usize = 100_000;
const MAX_CONTENT_BYTES: usize = 1 << 20;
const MAX_LINE_BYTES: usize = 16 << 10;
const MAX_FIELDS: usize = 100;
const MAX_VARIABLES: usize = 1_000;

/// Most errors that are told at once.
const MAX_ERRORS: usize = 20;

const REQUEST_HELP: &str = "write `GET /api/courses?page=2`, or an absolute URL";
const FIELD_HELP: &str = "write `Name: value`, and an empty line before the content";
const VARIABLE_HELP: &str = "write `@name = value` above the request, or set the environment variable";
const SIZE_HELP: &str = "split the file";

/// A request of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRequest {
    /// The line of its request line; lines count from 1.
    pub line: usize,
    pub method: Method,
    /// The path and the query.
    pub target: PathAndQuery,
    /// With a `Host`, if the request names one.
    pub headers: HeaderMap,
    pub content: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineError {
    line: usize,
    message: String,
    help: &'static str,
}

/// The lines of one request with their numbers.
type Block<'t> = [(usize, &'t str)];

struct HttpFileReader<'e> {
    environment: &'e dyn Fn(&str) -> Option<String>,
    variables: HashMap<String, String>,
}

/// Reads the requests. `environment` has the variables that the file does not define.
///
/// # Errors
/// Every request that can't be read, up to [`MAX_ERRORS`].
pub(super) fn parse(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<FileRequest>, Vec<LineError>> {
    let mut reader = HttpFileReader { environment, variables: HashMap::new() };
    let (mut requests, mut errors) = (Vec::new(), Vec::new());
    let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(at, line)| (at + 1, line)).collect();
    for block in lines.split(|(_, line)| line.starts_with("###")) {
        match reader.read_block(block) {
            Ok(Some(request)) if requests.len() < MAX_REQUESTS => requests.push(request),
            Ok(Some(request)) => {
                errors.push(error(request.line, format!("more than {MAX_REQUESTS} requests"), SIZE_HELP));
                break;
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        if errors.len() >= MAX_ERRORS {
            break;
        }
    }
    if errors.is_empty() && requests.is_empty() {
        errors.push(error(1, "the file has no request", REQUEST_HELP));
    }
    if errors.is_empty() { Ok(requests) } else { Err(errors) }
}

fn error(line: usize, message: impl Into<String>, help: &'static str) -> LineError {
    LineError { line, message: message.into(), help }
}

impl LineError {
    /// The error as one text, with the file's name.
    pub(super) fn render(&self, file: &impl fmt::Display) -> String {
        format!("{file}:{}: error: {}\n  help: {}", self.line, self.message, self.help)
    }
}

impl HttpFileReader<'_> {
    /// Returns `None` for a block without a request.
    fn read_block(&mut self, block: &Block<'_>) -> Result<Option<FileRequest>, LineError> {
        if let Some((line, _)) = block.iter().find(|(_, text)| text.len() > MAX_CONTENT_BYTES) {
            return Err(error(*line, format!("the line has more than {MAX_CONTENT_BYTES} bytes"), SIZE_HELP));
        }
        let mut at = 0;
        while let Some((line, text)) = block.get(at) {
            let text = text.trim();
            match text.strip_prefix('@') {
                Some(definition) => self.define(*line, definition)?,
                None if text.is_empty() || is_comment(text) => {}
                None => return self.read_request(&block[at..]).map(Some),
            }
            at += 1;
        }
        Ok(None)
    }

    /// `block` begins with the request line.
    fn read_request(&self, block: &Block<'_>) -> Result<FileRequest, LineError> {
        let (line, first) = block[0];
        let mut request_line = first.trim().to_owned();
        let is_continued =
            |text: &&str| text.starts_with([' ', '\t']) && text.trim_start().starts_with(['?', '&']);
        let continued = block[1..].iter().map(|(_, text)| *text).take_while(is_continued);
        let mut at = 1;
        for part in continued {
            request_line.truncate(without_version(&request_line).len());
            request_line.push_str(part.trim());
            at += 1;
        }
        request_line.truncate(without_version(&request_line).len());
        let request_line = self.substitute(line, &request_line, MAX_LINE_BYTES)?;
        let (method, uri) = read_request_line(line, &request_line)?;
        let content_at = block[at..].iter().position(|(_, text)| text.trim().is_empty());
        let content_at = content_at.map_or(block.len(), |found| at + found);
        let headers = self.read_fields(&block[at..content_at], &uri)?;
        let content = self.read_content(&block[content_at..])?;
        let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(FileRequest { line, method, target, headers, content })
    }

    fn read_fields(&self, lines: &Block<'_>, uri: &Uri) -> Result<HeaderMap, LineError> {
        let mut headers = HeaderMap::new();
        for (line, text) in lines.iter().filter(|(_, text)| !is_comment(text.trim())) {
            let text = self.substitute(*line, text.trim(), MAX_LINE_BYTES)?;
            let field = text.split_once(':').and_then(|(name, value)| {
                let name: HeaderName = name.trim().parse().ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            // The text may be a secret, and is not shown.
            let (name, value) = field.ok_or_else(|| error(*line, "this is no request field", FIELD_HELP))?;
            if headers.len() >= MAX_FIELDS {
                let message = format!("the request has more than {MAX_FIELDS} fields");
                return Err(error(*line, message, "remove some"));
            }
            // The content is framed as it is sent.
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                headers.append(name, value);
            }
        }
        let authority = uri.authority().and_then(|authority| authority.as_str().parse().ok());
        if let Some(host) = authority {
            headers.entry(HOST).or_insert(host);
        }
        Ok(headers)
    }

    fn read_content(&self, lines: &Block<'_>) -> Result<Bytes, LineError> {
        let is_empty = |(_, text): &&(usize, &str)| text.trim().is_empty();
        let leading = lines.iter().take_while(is_empty).count();
        let lines = &lines[leading..];
        let Some((first, _)) = lines.first() else { return Ok(Bytes::new()) };
        let is_reference = |text: &str| text.starts_with("< ") || text.starts_with("<@");
        let is_script = |text: &str| ["> {%", "> ./", "<> "].iter().any(|start| text.starts_with(start));
        if let Some((line, _)) = lines.iter().find(|(_, text)| is_script(text)) {
            return Err(error(*line, "scripts for responses are not run", "remove them"));
        }
        if is_reference(lines[0].1) {
            return Err(error(*first, "the content of another file is not read", "write the content here"));
        }
        let content = lines.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n");
        self.substitute(*first, content.trim_end(), MAX_CONTENT_BYTES).map(Bytes::from)
    }

    /// Reads `name = value`.
    fn define(&mut self, line: usize, definition: &str) -> Result<(), LineError> {
        let (name, value) = definition
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, _)| is_variable(name))
            .ok_or_else(|| error(line, "this defines no variable", "write `@name = value`"))?;
        let value = self.substitute(line, value, MAX_LINE_BYTES)?;
        if self.variables.len() >= MAX_VARIABLES && !self.variables.contains_key(name) {
            return Err(error(line, format!("more than {MAX_VARIABLES} variables"), "remove some"));
        }
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    /// Replaces each `{{name}}` by its value. Other braces stay.
    fn substitute(&self, line: usize, text: &str, max_bytes: usize) -> Result<String, LineError> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let variable = after.split_once("}}").map(|(name, behind)| (name.trim(), behind));
            let Some((name, behind)) = variable.filter(|(name, _)| is_variable(name)) else {
                out.push_str("{{");
                rest = after;
                continue;
            };
            let value = self.variables.get(name).cloned().or_else(|| (self.environment)(name));
            let unknown = || error(line, format!("the variable `{name}` has no value"), VARIABLE_HELP);
            out.push_str(&value.ok_or_else(unknown)?);
            rest = behind;
            if out.len() > max_bytes {
                break;
            }
        }
        out.push_str(rest);
        match out.len() <= max_bytes {
            true => Ok(out),
            false => Err(error(line, format!("this has more than {max_bytes} bytes"), "shorten it")),
        }
    }
}

fn is_comment(text: &str) -> bool {
    text.starts_with('#') || text.starts_with("//")
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte))
}

fn without_version(request_line: &str) -> &str {
    match request_line.rsplit_once(char::is_whitespace) {
        Some((before, last)) if last.starts_with("HTTP/") => before.trim_end(),
        _ => request_line,
    }
}

/// Reads a method and a target; a target alone is a GET.
fn read_request_line(line: usize, text: &str) -> Result<(Method, Uri), LineError> {
    let (method, target) = text.split_once(char::is_whitespace).unwrap_or(("GET", text));
    let target = target.trim();
    let is_method = method.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte));
    let method = Method::from_bytes(method.as_bytes()).ok().filter(|_| is_method);
    let method = method.ok_or_else(|| error(line, "the line does not begin with a method", REQUEST_HELP))?;
    let has_right_form = ["/", "http://", "https://"].iter().any(|start| target.starts_with(start));
    match target.parse::<Uri>() {
        Ok(uri) if has_right_form => Ok((method, uri)),
        _ => Err(error(line, "the target is no path and no absolute URL", REQUEST_HELP)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<FileRequest>, Vec<LineError>> {
        parse(text, &|name| (name == "TOKEN").then(|| "from the environment".to_owned()))
    }

    #[test]
    fn requests_are_read_with_fields_contents_and_variables() {
        let text = "# courses
@host = https://api.example
@page=2

### the list
GET {{host}}/api/courses
    ?page={{ page }}
    &limit=20 HTTP/1.1
Accept: application/json
// a comment
Authorization: Bearer {{TOKEN}}
Content-Length: 7

###
/api/courses/7
###

### a write
POST /api/courses HTTP/1.1\r
Content-Type: application/json\r
\r

{\"title\": \"{{page}}\",
 \"as it is\": {{ \"a\": {} }}}

###
";
        let requests = read(text).unwrap();
        let seen: Vec<_> = requests.iter().map(|r| (r.line, r.method.as_str(), r.target.as_str())).collect();
        assert_eq!(
            seen,
            [
                (6, "GET", "/api/courses?page=2&limit=20"),
                (15, "GET", "/api/courses/7"),
                (19, "POST", "/api/courses")
            ]
        );
        assert_eq!(requests[0].headers["authorization"], "Bearer from the environment");
        assert_eq!(requests[0].headers["host"], "api.example");
        assert!(!requests[0].headers.contains_key("content-length"));
        assert_eq!(requests[2].content, "{\"title\": \"2\",\n \"as it is\": {{ \"a\": {} }}}");
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_line() {
        let text = "@x
###
get /a
###
GET a/b
###
GET /a
secret without a colon
###
GET /{{nothing}}
###
POST /a

< ./content.json
###
POST /a

x
> {% client.log() %}
";
        let errors = read(text).unwrap_err();
        let told: Vec<_> = errors.iter().map(|error| error.render(&"a.http")).collect();
        for (line, part) in [
            (1, "defines no variable"),
            (3, "method"),
            (5, "no path"),
            (8, "no request field"),
            (10, "`nothing` has no value"),
            (14, "another file"),
            (19, "scripts"),
        ] {
            let start = format!("a.http:{line}: error: ");
            assert!(
                told.iter().any(|text| text.starts_with(&start) && text.contains(part)),
                "{part}\n{told:?}"
            );
        }
        assert_eq!(told.len(), 7);
        assert!(!told.concat().contains("secret"), "a value is not shown");
        assert!(read("").is_err() && read("###\n# nothing\n").is_err());
    }

    #[test]
    fn everything_is_bounded() {
        let doubled: String =
            (0..40).map(|at| format!("@v{} = {{{{v{at}}}}}{{{{v{at}}}}}\n", at + 1)).collect();
        assert!(read(&format!("@v0 = xx\n{doubled}\nGET /{{{{v40}}}}")).is_err());
        assert_eq!(read(&"GET /a\n###\n".repeat(MAX_REQUESTS)).unwrap().len(), MAX_REQUESTS);
        assert!(read(&"GET /a\n###\n".repeat(MAX_REQUESTS + 1)).is_err());
        assert!(read(&format!("GET /a\n{}", "a: b\n".repeat(MAX_FIELDS + 1))).is_err());
        assert!(read(&format!("POST /a\n\n{}", "{{TOKEN}}\n".repeat(100_000))).is_err());
        assert!(read(&"nothing\n###\n".repeat(1000)).unwrap_err().len() <= MAX_ERRORS);
        for text in ["{{", "GET /{{", "@", "GET", "\u{0}", "GET /\u{0}", "###", "GET /a\n: b"] {
            let _no_panic = read(text);
        }
    }
}
