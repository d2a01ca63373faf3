//! The content of a QUERY or POST as a part of the key (RFC 10008 §2.7).
//!
//! JSON and forms are compared by what they mean as far as that is certain: the order of members, white space and escapes
//! don't count, the spelling of numbers does. All other content is compared byte for byte.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method};
use serde_json::Value;

use super::RequestHead;
use super::content::{ContentKind, content_kind, parse_unambiguous_json};
use super::json_query::JsonQuery;
use super::query::{QueryRule, decoded_pairs};

/// Content beyond this is forwarded and not looked up.
pub(crate) const MAX_KEY_CONTENT_BYTES: u64 = 64 * 1024;

/// The fields that say how content is to be read.
const CONTENT_METADATA: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// The methods by which a route is read, besides HEAD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadMethods {
    pub query: bool,
    pub post: bool,
}

/// The parts of the content that are not in the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IgnoredContent {
    pub json: Vec<JsonQuery>,
    /// Names of form fields; a pattern may end in `*`.
    pub form: Vec<String>,
}

impl ReadMethods {
    pub(crate) fn contains(self, method: &Method) -> bool {
        (self.query && method.as_str() == "QUERY") || (self.post && *method == Method::POST)
    }
}

/// The content as the key has it, which begins with what it is read as.
pub(crate) fn canonical_content(
    request: &RequestHead<'_>,
    ignored: &IgnoredContent,
    content: &[u8],
) -> Vec<u8> {
    let canonical = match content_kind(request.headers) {
        _ if request.headers.contains_key(CONTENT_ENCODING) => None,
        Ok(ContentKind::Json) => {
            canonical_json(content, request.json, &ignored.json).map(|json| (b'j', json))
        }
        Ok(ContentKind::Form) => canonical_form(content, &ignored.form).map(|form| (b'f', form)),
        Err(_) => None,
    };
    let (kind, canonical) = canonical.unwrap_or_else(|| (b'r', content.to_vec()));
    [&[kind][..], &canonical].concat()
}

/// `None`: not JSON, an object has a name twice, or a byte order mark that some readers refuse comes first.
fn canonical_json(content: &[u8], parsed: Option<&Value>, ignored: &[JsonQuery]) -> Option<Vec<u8>> {
    if content.starts_with(b"\xef\xbb\xbf") {
        return None;
    }
    let document = match parsed {
        Some(value) => Cow::Borrowed(value),
        None => Cow::Owned(parse_unambiguous_json(content)?),
    };
    let ignored: HashSet<String> = ignored.iter().flat_map(|query| query.pointers(&document)).collect();
    let mut writer = JsonWriter { text: content, at: 0, ignored, pointer: String::new() };
    writer.write_value()
}

/// Rewrites valid JSON. It works on the text because a parsed number may have lost digits.
struct JsonWriter<'t> {
    text: &'t [u8],
    at: usize,
    /// JSON Pointers of the values to leave out.
    ignored: HashSet<String>,
    /// The pointer of the present value.
    pointer: String,
}

impl JsonWriter<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn write_value(&mut self) -> Option<Vec<u8>> {
        match self.peek()? {
            b'{' => self.write_object(),
            b'[' => self.write_array(),
            b'"' => self.read_string().map(|string| Value::String(string).to_string().into_bytes()),
            _ => {
                let start = self.at;
                let is_end = |byte: &u8| b",]} \t\r\n".contains(byte);
                self.at += self.text[start..].iter().position(is_end).unwrap_or(self.text.len() - start);
                Some(self.text[start..self.at].to_vec())
            }
        }
    }

    fn write_object(&mut self) -> Option<Vec<u8>> {
        let mut members = Vec::new();
        self.at += 1;
        while self.peek()? != b'}' {
            let name = self.read_string()?;
            self.peek().filter(|byte| *byte == b':')?;
            self.at += 1;
            if let Some(value) = self.write_below(&name)? {
                members.push((name, value));
            }
            self.skip_comma();
        }
        self.at += 1;
        members.sort_unstable();
        let members = members
            .into_iter()
            .map(|(name, value)| [Value::String(name).to_string().as_bytes(), b":", &value].concat());
        Some([b"{", &members.collect::<Vec<_>>().join(&b","[..])[..], b"}"].concat())
    }

    fn write_array(&mut self) -> Option<Vec<u8>> {
        let (mut items, mut index) = (Vec::new(), 0_usize);
        self.at += 1;
        while self.peek()? != b']' {
            items.extend(self.write_below(&index.to_string())?);
            index += 1;
            self.skip_comma();
        }
        self.at += 1;
        Some([b"[", &items.join(&b","[..])[..], b"]"].concat())
    }

    /// The value below the present one; `Some(None)` if it is left out.
    fn write_below(&mut self, name: &str) -> Option<Option<Vec<u8>>> {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let is_ignored = !self.ignored.is_empty() && self.ignored.contains(&self.pointer);
        let value = self.write_value();
        self.pointer.truncate(length);
        value.map(|value| (!is_ignored).then_some(value))
    }

    fn read_string(&mut self) -> Option<String> {
        self.peek().filter(|byte| *byte == b'"')?;
        let start = self.at;
        self.at += 1;
        while *self.text.get(self.at)? != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        serde_json::from_slice(self.text.get(start..self.at)?).ok()
    }

    fn skip_comma(&mut self) {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
    }
}

/// The fields sorted by name, as a query of the same text would be. `None`: the order of some may have a meaning, or a `;` may
/// separate some.
fn canonical_form(content: &[u8], ignored: &[String]) -> Option<Vec<u8>> {
    let text =
        std::str::from_utf8(content).ok().filter(|text| !text.contains(';') && !has_similar_names(text))?;
    let selected = QueryRule::Ignore(ignored.to_vec()).select(Some(text));
    Some(selected.map(|form| form.into_owned().into_bytes()).unwrap_or_default())
}

/// Whether two names differ that an upstream may take for one: some ignore case, and PHP reads `a.b` as `a_b` and `a[b]` as
/// a part of `a`.
fn has_similar_names(form: &str) -> bool {
    let mut names = HashMap::new();
    decoded_pairs(form).any(|(name, _)| {
        let name_of_whole = match name.split_once('[') {
            Some((start, rest)) if rest.contains(']') => start,
            _ => &name,
        };
        let similar = name_of_whole.trim_start().to_lowercase().replace(['.', ' ', '['], "_");
        names.insert(similar, name.clone()).is_some_and(|other| other != name)
    })
}

/// The values of the fields that say how content is to be read, in their own case: not all upstreams ignore it.
pub(crate) fn content_metadata(headers: &HeaderMap) -> impl Iterator<Item = Vec<u8>> {
    CONTENT_METADATA.iter().map(move |name| {
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
        lines.join(&b","[..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    fn canonical(media_type: &str, content: &str) -> String {
        let ignore = IgnoredContent {
            json: ["$.requestId", "$.meta[*].at", "/trace/id"]
                .map(|path| JsonQuery::parse(path).unwrap())
                .to_vec(),
            form: vec!["utm_*".to_owned()],
        };
        let headers = fields(&[("content-type", media_type)]);
        let request = RequestHead::new(&Method::POST, "/a", &headers);
        String::from_utf8_lossy(&canonical_content(&request, &ignore, content.as_bytes())).into_owned()
    }

    /// The paths select in what was parsed before, and nothing is parsed again.
    #[test]
    fn json_that_was_parsed_before_is_used() {
        let headers = fields(&[("content-type", "application/json")]);
        let parsed = serde_json::json!({"ids": [{"other": 1}, {"at": 1}]});
        let request = RequestHead { json: Some(&parsed), ..RequestHead::new(&Method::POST, "/a", &headers) };
        let query = JsonQuery::parse("$.ids[?@.at].at").expect("a path");
        let ignore = IgnoredContent { json: vec![query], form: Vec::new() };
        let key = canonical_content(&request, &ignore, br#"{"ids": [{"at": 2}, {"at": 2}]}"#);
        assert_eq!(key, br#"j{"ids":[{"at":2},{}]}"#);
    }

    #[test]
    fn json_is_compared_by_what_it_means() {
        for (content, expected) in [
            (r#" { "b" : [ 1 , "x" ] , "a" : null } "#, r#"j{"a":null,"b":[1,"x"]}"#),
            (r#"{"\u0061":"\u00e9\/"}"#, r#"j{"a":"é/"}"#),
            (r#"{"requestId":"7","q":"a"}"#, r#"j{"q":"a"}"#),
            (
                r#"{"meta":[{"at":1,"b":2}],"trace":{"id":[1,{"x":2}],"n":1}}"#,
                r#"j{"meta":[{"b":2}],"trace":{"n":1}}"#,
            ),
            // Numbers keep their spelling: who knows what the upstream makes of them.
            (
                r#"{"n":[1.0,1,1e0,123456789012345678901234567890]}"#,
                r#"j{"n":[1.0,1,1e0,123456789012345678901234567890]}"#,
            ),
            ("[]", "j[]"),
            ("{}", "j{}"),
            ("\"{\\\"a\\\"}\"", r#"j"{\"a\"}""#),
            ("true", "jtrue"),
            // Not JSON with one meaning.
            (r#"{"a":1,"a":2}"#, r#"r{"a":1,"a":2}"#),
            ("{", "r{"),
            ("\u{feff}{ }", "r\u{feff}{ }"),
            ("", "r"),
        ] {
            assert_eq!(canonical("application/json", content), expected, "{content}");
        }
        assert_eq!(canonical("application/problem+json", "{ }"), "j{}");
        assert_eq!(canonical("text/plain", "{ }"), "r{ }");
        assert_eq!(canonical("application/graphql", "{ a }"), "r{ a }");
    }

    #[test]
    fn forms_are_sorted_by_name() {
        let form = |content| canonical("application/x-www-form-urlencoded", content);
        assert_eq!(form("b=2&a=1&utm_source=x&a=0"), "fa=1&a=0&b=2");
        assert_eq!(form(""), "f");
        // Some readers separate fields by `;`, too.
        for content in ["q=knots&utm_x=1;q=evil", "b=1;a=2"] {
            assert_eq!(form(content), format!("r{content}"));
        }
        assert_eq!(form("b=1%3B2&a=2"), "fa=2&b=1%3B2");
        // The upstream may take both names for one, and use the last.
        for content in ["user_id=2&user.id=1", "id=2&ID=1", "b=1&a%5B%5D=2&a%5b0%5d=1", "b+c=2&b_c=1"] {
            assert_eq!(form(content), format!("r{content}"));
        }
    }

    #[test]
    fn the_case_of_a_media_type_counts() {
        for media_type in ["multipart/form-data; boundary=AbC", "Application/JSON; Charset=UTF-8"] {
            let metadata = content_metadata(&fields(&[("content-type", media_type)])).next().unwrap();
            assert_eq!(metadata, media_type.as_bytes());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_it_panic(content in "[\\[\\]{}\",:\\\\ a0-9u.]{0,40}") {
            canonical("application/json", &content);
        }
    }
}
