//! From the tree to the tests.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::keys;
use super::{Decision, Expect, Test};
use crate::config::fields::Fields;
use crate::config::problem::Problems;
use crate::config::route_fields::Placed;
use crate::config::scalars::{boolean, list, parse_header_name, parsed, text, word};
use crate::config::suggest::nearest;
use crate::config::tree::{Node, Value};
use crate::config::units;

pub fn file(root: &Node, problems: &Problems) -> Option<(PathBuf, Vec<Test>)> {
    let fields = Fields::open(root, &keys::FILE, problems)?;
    let config =
        fields.optional("config", |node, problems| text(node, "a path", problems).map(PathBuf::from));
    let blocks = fields.required("tests", |node, problems| {
        list(node, "[{name: …, request: GET /, expect: {…}}]", problems, |node, _| Some(node.clone()))
    })?;
    let names: Vec<(String, Node)> = blocks.iter().filter_map(name_of).collect();
    for (at, (name, node)) in names.iter().enumerate() {
        if let Some((_, first)) = names[..at].iter().find(|(other, _)| other == name) {
            problems
                .error(node.place, format!("two tests have the name `{name}`"))
                .note(first.place, "the first one")
                .help("give it another one");
        }
    }
    let known = Known(blocks.iter().map(|block| name_of(block).map(|(name, _)| name)).collect());
    let tests: Vec<_> = blocks.iter().map(|block| test(block, &known, problems)).collect();
    let tests = tests.into_iter().collect::<Option<_>>()?;
    Some((config.unwrap_or_else(|| "proxy.yaml".into()), tests))
}

/// The names of the tests, in the order of the file.
struct Known(Vec<Option<String>>);

fn name_of(block: &Node) -> Option<(String, Node)> {
    let Value::Mapping(entries) = &block.value else { return None };
    let (_, name) = entries.iter().find(|(key, _)| key.text() == Some("name"))?;
    Some((name.text()?.to_owned(), name.clone()))
}

fn test(block: &Node, known: &Known, problems: &Problems) -> Option<Test> {
    let fields = Fields::open(block, &keys::TEST, problems)?;
    let name = fields.required("name", |node, problems| text(node, "a name", problems).map(str::to_owned));
    let request = fields.required("request", request);
    let headers = fields.optional("headers", headers);
    let token = fields.optional("jwt", jwt);
    let data = fields.optional("data", content).unwrap_or_default();
    let response = fields.given("response").and_then(|node| response(node, problems));
    let expect = fields
        .required("expect", |node, _| Some(node.clone()))
        .and_then(|node| expect(&node, known, problems));
    let is_broken = |name| fields.given(name).is_some();
    if (headers.is_none() && is_broken("headers")) || (response.is_none() && is_broken("response")) {
        return None;
    }
    let mut headers = headers.unwrap_or_default();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token);
    }
    if !data.is_empty() {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let (method, target) = request?;
    let (status, response_headers, body) = response.unwrap_or_default();
    Some(Test {
        name: name?,
        place: fields.given("request").map_or(block.place, |node| node.place),
        method,
        target,
        headers,
        data,
        status,
        response_headers,
        body,
        expect: expect?,
    })
}

fn request(node: &Node, problems: &Problems) -> Option<(String, String)> {
    parsed(node, "a method and a path", problems, |text| {
        let (method, target) = text.trim().split_once(' ').unwrap_or(("GET", text.trim()));
        let target = target.trim();
        let help = || "write `GET /api/courses?page=2`, or a URL in full".to_owned();
        if Method::from_bytes(method.as_bytes()).is_err() || method.starts_with('/') {
            return Err((format!("`{method}` can't be a method"), help()));
        }
        let is_placed =
            target.starts_with('/') || target.starts_with("http://") || target.starts_with("https://");
        match target.parse::<Uri>() {
            Ok(_) if is_placed => Ok((method.to_owned(), target.to_owned())),
            _ => Err((format!("`{target}` can't be asked for"), help())),
        }
    })
}

/// Names, each with a value or a list of them.
fn headers(node: &Node, problems: &Problems) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let before = problems.count();
    for (key, value) in entries(node, "{Accept-Language: de}", problems)? {
        let name: Option<HeaderName> = parsed(key, "the name of a field", problems, parse_header_name);
        let values = match &value.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        for value in values {
            let value = parsed(value, "a value", problems, |text| {
                HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
                    ("no field can have this value".into(), "leave out control characters".into())
                })
            });
            if let (Some(name), Some(value)) = (&name, value) {
                headers.append(name.clone(), value);
            }
        }
    }
    (problems.count() == before).then_some(headers)
}

fn entries<'n>(node: &'n Node, example: &str, problems: &Problems) -> Option<&'n [(Node, Node)]> {
    match &node.value {
        Value::Mapping(entries) => Some(entries),
        Value::Null => Some(&[]),
        Value::Broken => None,
        Value::Scalar(_) | Value::List(_) => {
            problems
                .error(node.place, format!("this must be a mapping, not {}", node.kind()))
                .help(format!("write `{example}`"));
            None
        }
    }
}

/// An unsigned token: claims name tags, and nobody believes them.
fn jwt(node: &Node, problems: &Problems) -> Option<HeaderValue> {
    let mut claims = serde_json::Map::new();
    for (key, value) in entries(node, "{sub: ann}", problems)? {
        let (name, value) = (text(key, "a claim", problems)?, text(value, "a value", problems)?);
        claims.insert(name.to_owned(), value.into());
    }
    let claims = serde_json::Value::Object(claims).to_string();
    HeaderValue::from_str(&format!("Bearer e30.{}.unsigned", base64url(claims.as_bytes()))).ok()
}

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * at) & 63]));
        }
    }
    text
}

fn content(node: &Node, problems: &Problems) -> Option<Bytes> {
    text(node, "the content as text", problems).map(|text| Bytes::copy_from_slice(text.as_bytes()))
}

type Response = (StatusCode, HeaderMap, Option<Bytes>);

fn response(node: &Node, problems: &Problems) -> Option<Response> {
    let fields = Fields::open(node, &keys::RESPONSE, problems)?;
    let before = problems.count();
    let status = fields.optional("status", |node, problems| {
        parsed(node, "a status", problems, |text| {
            text.parse()
                .map_err(|_| (format!("`{text}` is not a status"), "write a number such as 404".into()))
        })
    });
    let headers = fields.optional("headers", headers).unwrap_or_default();
    let body = fields.optional("body", content);
    (problems.count() == before).then_some((status.unwrap_or(StatusCode::OK), headers, body))
}

fn expect(node: &Node, known: &Known, problems: &Problems) -> Option<Expect> {
    let fields = Fields::open(node, &keys::EXPECT, problems)?;
    let before = problems.count();
    let tests = |name| fields.given(name).map(|node| named(node, known, problems)).unwrap_or_default();
    let expect = Expect {
        decision: fields.optional("decision", |node, problems| {
            const ALL: [Decision; 4] = [Decision::Lookup, Decision::Pass, Decision::Write, Decision::Refused];
            placed(node, word(node, &ALL.map(|decision| (decision.as_str(), decision)), problems))
        }),
        route: fields.optional("route", |node, problems| placed(node, owned(node, problems))),
        stored: fields.optional("stored", |node, problems| placed(node, boolean(node, problems))),
        reason: fields.optional("reason", |node, problems| placed(node, owned(node, problems))),
        ttl: fields.optional("ttl", |node, problems| placed(node, ttl(node, problems))),
        tags: fields.optional("tags", tags),
        purges: fields.optional("purges", tags),
        purged_by: tests("purged_by"),
        survives: tests("survives"),
        same_as: tests("same_as"),
        differs_from: tests("differs_from"),
    };
    (problems.count() == before).then_some(expect)
}

fn placed<T>(node: &Node, value: Option<T>) -> Option<Placed<T>> {
    value.map(|value| Placed { value, place: node.place })
}

fn owned(node: &Node, problems: &Problems) -> Option<String> {
    text(node, "a single value", problems).map(str::to_owned)
}

fn ttl(node: &Node, problems: &Problems) -> Option<Option<Duration>> {
    parsed(node, "a duration such as `30s`, or `none`", problems, |text| match text {
        "none" => Ok(None),
        text => units::duration(text).map(Some),
    })
}

fn tags(node: &Node, problems: &Problems) -> Option<Placed<Vec<String>>> {
    placed(node, list(node, "[courses, \"course:7\"]", problems, owned))
}

/// Names of tests: one, or a list.
fn named(node: &Node, known: &Known, problems: &Problems) -> Vec<Placed<usize>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let found = |node: &Node| {
        let name = text(node, "the name of a test", problems)?;
        let at = known.0.iter().position(|other| other.as_deref() == Some(name));
        if at.is_none() {
            let names = known.0.iter().flatten().map(String::as_str);
            let help = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write the `name` of a test of this file".to_owned(),
            };
            problems.error(node.place, format!("no test has the name `{name}`")).help(help);
        }
        placed(node, at)
    };
    items.iter().filter_map(found).collect()
}
