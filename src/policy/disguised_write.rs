//! Finds writes among the POSTs by which a route is read: GraphQL mutations, JSON-RPC calls, and forms that stand for another
//! method. Frameworks read such members of the URL's query, too. A POST that can't be told from a write counts as one: a write
//! that the store answered would be lost.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};

use super::content::{Content, parse_unambiguous_json};
use super::field_syntax::{find_unquoted, is_token_byte};
use super::methods::is_safe;
use super::query::decoded_pairs_of_any_reader;
use super::{RequestHead, graphql};

/// The decoded content that is looked at.
const MAX_DECODED_BYTES: u64 = 1024 * 1024;

/// The parameters by which frameworks let a form ask for another method: Rails, Laravel, Symfony, Spring; ASP.NET.
const METHOD_PARAMETERS: [&str; 2] = ["_method", "_httpmethod"];

/// Members of a GraphQL request that names its document otherwise than by its text.
const PERSISTED_MEMBERS: [&str; 5] = ["doc_id", "documentid", "queryid", "variables", "operationname"];

/// The forms of content in which a write may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    UrlEncoded,
    GraphQl,
    Multipart,
    /// No media type: Rack reads a form.
    Unnamed,
    /// Not one media type: nobody knows which of them an upstream takes it for.
    Unclear,
    Other,
}

/// Whether a request may write, by its content.
#[derive(Debug, PartialEq)]
pub(super) enum ContentRole {
    MayWrite,
    /// With its JSON, if it was parsed: it is decoded.
    Reads(Option<Value>),
}

/// Whether a POST with this content may write.
pub(super) fn find_role(request: &RequestHead<'_>, content: &[u8]) -> ContentRole {
    if *request.method != Method::POST {
        return ContentRole::Reads(None);
    }
    let in_query = Members::from_form(request.query.unwrap_or_default());
    let may_write = match find_form(request.headers) {
        _ if content.is_empty() => in_query.may_write(),
        Form::Json | Form::UrlEncoded => return find_parsed_role(request.headers, content, in_query),
        _ if in_query.may_write() => true,
        form if request.headers.contains_key(CONTENT_ENCODING) => form != Form::Other,
        Form::GraphQl => str::from_utf8(content).map_or(true, graphql::may_write),
        Form::Multipart | Form::Unclear => true,
        Form::Unnamed => {
            let form = Members::from_form(str::from_utf8(content).unwrap_or_default());
            let json = parse_unambiguous_json(content);
            form.may_write() || json.is_none_or(|value| json_may_write(&value, &in_query))
        }
        // Some APIs take all content for JSON.
        Form::Other => parse_unambiguous_json(content).is_some_and(|value| json_may_write(&value, &in_query)),
    };
    if may_write { ContentRole::MayWrite } else { ContentRole::Reads(None) }
}

fn find_parsed_role(headers: &HeaderMap, content: &[u8], in_query: Members<'_>) -> ContentRole {
    match Content::parse_request(headers, content, MAX_DECODED_BYTES) {
        Ok(Content::Json(value)) if !json_may_write(&value, &in_query) => ContentRole::Reads(Some(value)),
        Ok(Content::Form(form)) if !in_query.with(Members::from_form(&form)).may_write() => {
            ContentRole::Reads(None)
        }
        _ => ContentRole::MayWrite,
    }
}

/// Whether a POST whose content is not looked at may write, by its media type and its query.
pub(crate) fn may_write_unread(method: &Method, headers: &HeaderMap, query: Option<&str>) -> bool {
    *method == Method::POST
        && (find_form(headers) != Form::Other || Members::from_form(query.unwrap_or_default()).may_write())
}

/// Whether the query of a POST asks for another method that writes.
pub(super) fn query_overrides_method(request: &RequestHead<'_>) -> bool {
    query_parameters(request).any(|(name, value)| overrides_method(&name, &value))
}

/// The methods that the query of a POST asks for.
pub(super) fn query_methods<'q>(request: &RequestHead<'q>) -> impl Iterator<Item = Cow<'q, str>> {
    query_parameters(request).filter(|(name, _)| is_method_parameter(name)).map(|(_, value)| value)
}

fn query_parameters<'q>(request: &RequestHead<'q>) -> impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)> {
    let query = request.query.filter(|query| *request.method == Method::POST && query.contains(['_', '%']));
    query.map(decoded_pairs_of_any_reader).into_iter().flatten()
}

/// The methods that the content of a POST asks for; in a batch, those of all its requests.
pub(super) fn content_methods(content: &Content) -> Vec<String> {
    let requests = match content {
        Content::Form(form) => {
            let fields = decoded_pairs_of_any_reader(form).filter(|(name, _)| is_method_parameter(name));
            return fields.map(|(_, value)| value.into_owned()).collect();
        }
        Content::Json(Value::Array(requests)) => requests.as_slice(),
        Content::Json(request) => std::slice::from_ref(request),
    };
    let members = requests.iter().filter_map(Value::as_object).flatten();
    let members = members.filter(|(name, _)| is_method_parameter(name));
    members.filter_map(|(_, value)| value.as_str().map(str::to_owned)).collect()
}

fn is_method_parameter(name: &str) -> bool {
    name.contains('_') && METHOD_PARAMETERS.iter().any(|other| name.trim().eq_ignore_ascii_case(other))
}

fn overrides_method(name: &str, value: &str) -> bool {
    let is_other = |method: Method| method != Method::POST && !is_safe(&method);
    let parse = || Method::from_bytes(value.trim().to_ascii_uppercase().as_bytes());
    is_method_parameter(name) && !value.is_empty() && parse().map_or(true, is_other)
}

fn find_form(headers: &HeaderMap) -> Form {
    let mut fields = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    match (fields.next(), fields.next()) {
        (Some(field), None) => parse_form(&String::from_utf8_lossy(field).to_ascii_lowercase()),
        (None, _) => Form::Unnamed,
        // Which line counts is not known.
        (Some(_), Some(_)) => Form::Unclear,
    }
}

/// `field`: in lower case.
fn parse_form(field: &str) -> Form {
    let media_type = field.split(';').next().unwrap_or_default().trim();
    if field.trim().is_empty() {
        Form::Unnamed
    } else if !is_media_type(media_type) || is_list(field) {
        Form::Unclear
    } else {
        named_form(media_type)
    }
}

fn named_form(media_type: &str) -> Form {
    match media_type {
        "application/x-www-form-urlencoded" => Form::UrlEncoded,
        "application/graphql" => Form::GraphQl,
        _ if media_type.starts_with("multipart/") => Form::Multipart,
        _ if media_type.ends_with("json") => Form::Json,
        _ => Form::Other,
    }
}

/// RFC 9110 §8.3.1.
fn is_media_type(text: &str) -> bool {
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    text.split_once('/').is_some_and(|(name, subtype)| is_token(name) && is_token(subtype))
}

/// Whether a comma outside of quotes follows, or a quote has no end.
fn is_list(field: &str) -> bool {
    find_unquoted(&format!("{field},"), ',') != Some(field.len())
}

/// A request, or a batch of such.
fn json_may_write(value: &Value, in_query: &Members<'_>) -> bool {
    match value {
        Value::Object(request) => in_query.clone().with(Members::from_object(request)).may_write(),
        // To which of the requests the query belongs is not known.
        Value::Array(_) if in_query.names_operation() => true,
        Value::Array(requests) => {
            let mut objects = requests.iter().filter_map(Value::as_object);
            objects.any(|request| Members::from_object(request).may_write())
        }
        _ => in_query.may_write(),
    }
}

/// The members of an object or the fields of a form. Names are in lower case: some APIs read them in any.
#[derive(Clone)]
struct Members<'v>(Vec<(String, Cow<'v, Value>)>);

impl<'v> Members<'v> {
    fn from_form(form: &str) -> Self {
        let fields = decoded_pairs_of_any_reader(form)
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), Cow::Owned(Value::from(value))));
        Self(fields.collect())
    }

    fn from_object(object: &'v Map<String, Value>) -> Self {
        Self(object.iter().map(|(name, value)| (name.to_ascii_lowercase(), Cow::Borrowed(value))).collect())
    }

    fn with(mut self, others: Members<'v>) -> Self {
        self.0.extend(others.0);
        self
    }

    fn find<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Value> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_ref())
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).any(|value| !value.is_null())
    }

    /// Whether any member is one that [`Self::may_write`] reads.
    fn names_operation(&self) -> bool {
        let others = ["jsonrpc", "method", "params", "query", "extensions"];
        let mut known = others.iter().chain(&PERSISTED_MEMBERS).chain(&METHOD_PARAMETERS);
        known.any(|name| self.find(name).next().is_some())
    }

    fn may_write(&self) -> bool {
        // JSON-RPC; version 1.0 has no `jsonrpc`.
        if self.has("jsonrpc") || self.has("method") && self.has("params") {
            return true;
        }
        let overrides = |(name, value): &(String, Cow<'_, Value>)| {
            value.as_str().is_some_and(|value| overrides_method(name, value))
        };
        if self.0.iter().any(overrides) {
            return true;
        }
        let documents = self.find("query").filter_map(Value::as_str).filter(|text| !text.is_empty());
        let mut documents = documents.peekable();
        if documents.peek().is_some() {
            return documents.any(graphql::may_write);
        }
        PERSISTED_MEMBERS.iter().any(|name| self.has(name)) || self.find("extensions").any(is_persisted)
    }
}

fn is_persisted(extensions: &Value) -> bool {
    match extensions {
        Value::String(text) => text.contains("persistedQuery"),
        other => other.get("persistedQuery").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    fn is_write(media_type: &str, content: &str) -> bool {
        let headers = fields(&[("content-type", media_type)]);
        may_write(&RequestHead::new(&Method::POST, "/a", &headers), content.as_bytes())
    }

    fn may_write(request: &RequestHead<'_>, content: &[u8]) -> bool {
        find_role(request, content) == ContentRole::MayWrite
    }

    #[test]
    fn a_post_that_may_write_is_no_read() {
        let (json, form) = ("application/json", "application/x-www-form-urlencoded");
        for (media_type, content) in [
            (json, r#"{"query": "mutation { a }"}"#),
            (json, r#"{"Query": "mutation { a }"}"#),
            (json, r#"[{"query": "{ a }"}, {"query": "mutation { a }"}]"#),
            (json, r#"{"query": "{ a"}"#),
            ("application/graphql+json; charset=utf-8", r#"{"query": "subscription { a }"}"#),
            ("text/plain", r#"{"query": "mutation { a }"}"#),
            ("application/graphql", "mutation { a }"),
            (json, r#"{"extensions": {"persistedQuery": {"version": 1}}}"#),
            (json, r#"{"query": null, "extensions": {"persistedQuery": {"version": 1}}}"#),
            (json, r#"{"id": "7f", "variables": {}}"#),
            (json, r#"{"doc_id": "7"}"#),
            (json, r#"{"operationName": "Rename"}"#),
            (json, r#"{"jsonrpc": "2.0", "method": "get"}"#),
            (json, r#"[{"jsonrpc": "2.0", "method": "get"}]"#),
            (json, r#"{"method": "get", "params": [], "id": 1}"#),
            (json, r#"{"_method": "DELETE"}"#),
            (json, r#"{"query": "{ a }", "query": "mutation { a }"}"#),
            (json, r#"{"q": "#),
            (form, "a=1&_method=delete"),
            (form, "_HttpMethod=PUT"),
            (form, "%5Fmethod=patch"),
            (form, "_method=x%20y"),
            (form, "x=1;_method=DELETE"),
            (form, "x=1; _method=DELETE&y=2"),
            // Not media types: Rack and PHP read some of them as forms.
            ("application/x-www-form-urlencoded,x", "_method=DELETE"),
            ("application/x-www-form-urlencoded x", "_method=DELETE"),
            ("text/plain; a=b, application/json", "x"),
            ("text/plain; a=\"b", "x"),
            ("text", "x"),
            ("", "_method=DELETE"),
            (form, "query=mutation+%7B+a+%7D"),
            (form, "extensions=%7B%22persistedQuery%22:%7B%7D%7D"),
            ("multipart/form-data; boundary=x", "--x"),
        ] {
            assert!(is_write(media_type, content), "{media_type} {content}");
        }
    }

    #[test]
    fn searches_are_reads() {
        let (json, form) = ("application/json", "application/x-www-form-urlencoded");
        for (media_type, content) in [
            (json, ""),
            (json, "{}"),
            (json, "[7, [1]]"),
            (json, r#"{"query": "query Q { mutation }"}"#),
            (json, r#"{"query": "query Q { a }", "variables": {}, "operationName": "Q"}"#),
            (json, r#"{"query": "what's new?", "id": 7}"#),
            (json, r#"{"query": {"match": {"title": "mutation {"}}}"#),
            (json, r#"{"id": "7", "method": "card", "_method": "GET"}"#),
            ("application/graphql", "{ a }"),
            (form, "q=knots&_method=&query=knots"),
            (form, "_method=post"),
            (form, "_method=HEAD"),
            ("text/plain", "mutation { a }"),
            ("application/xml", "<a/>"),
            ("", r#"{"q": "knots"}"#),
            (form, "q=knots;page=2"),
            ("text/plain; charset=\"a,\\\",b\" ; x=y;", "x"),
        ] {
            assert!(!is_write(media_type, content), "{media_type} {content}");
        }
    }

    #[test]
    fn the_query_of_a_post_counts_as_its_content_does() {
        let json = fields(&[("content-type", "application/json")]);
        let other = HeaderMap::new();
        for (headers, query, content, expected) in [
            (&json, "query=mutation%7Ba%7D", "{}", true),
            (&json, "query=mutation%7Ba%7D", "", true),
            (&json, "query=mutation%7Ba%7D", r#"{"query": "{ a }"}"#, true),
            (&json, "extensions=%7B%22persistedQuery%22:%7B%7D%7D", "{}", true),
            (&json, "documentId=7", r#"{"a": 1}"#, true),
            (&json, "jsonrpc=2.0", "[]", true),
            (&json, "query=knots", "[{}, {}]", true),
            (&json, "page=2", "[{}, {}]", false),
            (&json, "method=get", r#"{"params": []}"#, true),
            (&other, "method=get&params=%5B%5D", "", true),
            (&json, "a=1;_method=DELETE", "{}", true),
            (&json, "query=%7Ba%7D", r#"{"variables": {}}"#, false),
            (&json, "operationName=Q", r#"{"query": "query Q { a }"}"#, false),
            (&json, "query=knots&page=2", "{}", false),
            (&other, "page=2", "", false),
        ] {
            let request =
                RequestHead { query: Some(query), ..RequestHead::new(&Method::POST, "/a", headers) };
            assert_eq!(may_write(&request, content.as_bytes()), expected, "{query} {content}");
        }
        let other = fields(&[("content-type", "text/plain")]);
        assert!(may_write_unread(&Method::POST, &other, Some("query=mutation%7Ba%7D")));
        assert!(!may_write_unread(&Method::POST, &other, Some("page=2")));
    }

    /// Rack reads it as a form, and some APIs as JSON.
    #[test]
    fn content_without_a_media_type_may_write() {
        let headers = HeaderMap::new();
        let request = RequestHead::new(&Method::POST, "/a", &headers);
        for (content, expected) in [
            ("_method=DELETE", true),
            ("x", true),
            (r#"{"_method": "DELETE"}"#, true),
            (r#"{"q": "&_method=DELETE&"}"#, true),
            (r#"{"q": "knots"}"#, false),
            ("", false),
        ] {
            assert_eq!(may_write(&request, content.as_bytes()), expected, "{content}");
        }
        assert!(may_write_unread(&Method::POST, &headers, None));
    }

    #[test]
    fn content_with_a_coding_is_decoded_or_may_write() {
        for (coding, form, expected) in [
            ("br", "application/json", true),
            ("gzip", "application/json", true),
            ("br", "application/graphql", true),
            ("br", "text/plain", false),
        ] {
            let headers = fields(&[("content-type", form), ("content-encoding", coding)]);
            let request = RequestHead::new(&Method::POST, "/a", &headers);
            assert_eq!(may_write(&request, b"\x1f\x8b"), expected, "{coding} {form}");
        }
        let query = Method::from_bytes(b"QUERY").unwrap();
        let headers = fields(&[("content-type", "application/json")]);
        assert!(!may_write(&RequestHead::new(&query, "/a", &headers), br#"{"jsonrpc": "2.0"}"#));
    }

    #[test]
    fn a_query_may_ask_for_another_method() {
        for (query, expected) in [
            ("a=1&_method=DELETE", true),
            ("a=1;_method=DELETE", true),
            ("%5fmethod=put", true),
            ("_method=get", false),
            ("a=%20", false),
        ] {
            let headers = HeaderMap::new();
            let request =
                RequestHead { query: Some(query), ..RequestHead::new(&Method::POST, "/a", &headers) };
            assert_eq!(query_overrides_method(&request), expected, "{query}");
        }
    }
}
