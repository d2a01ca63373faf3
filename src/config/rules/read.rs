//! The keys of a test file, and the tests they make.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::{Decision, Expect, Test};
use crate::config::diagnostics::Diagnostics;
use crate::config::fields::{Fields, Located};
use crate::config::keys::{Reader, deferred};
use crate::config::scalars::{
    BOOLEAN, PATH, TEXT, entries, list, one_or_many, parse_header_name, parsed, text, words,
};
use crate::config::section::Kind;
use crate::config::settings::{Settings, mapping, settings};
use crate::config::suggest::nearest;
use crate::config::units;
use crate::config::yaml::{Value, YamlNode};

settings! {
    struct FileFields = "a test file" {
        /// The configuration under test, relative to this file.
        config: PathBuf = PATH, default "proxy.yaml";
        /// The tests, each one request.
        tests: YamlNode = deferred(Kind::ListOf(&Kind::Mapping(TestFields::SECTION))), required;
    }
}

settings! {
    partial struct TestFields = "a test" {
        /// The unique name, by which other tests refer to this one.
        name: String = TEXT, required;
        /// `GET /api/courses?page=2`; a path alone is a GET.
        request: (String, String) = REQUEST, required;
        /// Fields of the request, each with a value or a list.
        headers: HeaderMap = HEADERS, default "{}";
        /// Claims of an unsigned bearer token: `{sub: ann}`.
        jwt: HeaderValue = JWT, optional;
        /// The request's content; JSON if there is no Content-Type.
        data: Bytes = CONTENT, default "\"\"";
        /// The upstream's response. Default: a 200 without cache directives.
        response: ResponseFields = mapping(), default "{}";
        /// The expected handling; what is left out is not checked.
        expect: ExpectFields = mapping(), required;
    }
}

settings! {
    struct ResponseFields = "`response`" {
        /// The status.
        status: StatusCode = STATUS, default "200";
        /// The fields; JSON if there is no Content-Type.
        headers: HeaderMap = HEADERS, default "{}";
        /// The content, for tags and times in it.
        body: Bytes = CONTENT, optional;
    }
}

settings! {
    partial struct ExpectFields = "`expect`" {
        /// How the request is handled.
        decision: Located<Decision> = DECISION, optional;
        /// The path of its route as the configuration has it; `none`.
        route: Located<String> = LOCATED_TEXT, optional;
        /// Whether the response of a miss is stored.
        stored: Located<bool> = LOCATED_BOOLEAN, optional;
        /// Why it is forwarded uncached or not stored: the `detail` of `Cache-Status`.
        reason: Located<String> = LOCATED_TEXT, optional;
        /// How long it is fresh; `none`: until purged.
        ttl: Located<Option<Duration>> = TTL, optional;
        /// Exactly these tags, in any order.
        tags: Located<Vec<String>> = TAGS, optional;
        /// Exactly these tags are purged by a write, in any order.
        purges: Located<Vec<String>> = TAGS, optional;
        /// Tests of writes that purge the response stored here.
        purged_by: Vec<Located<String>> = TEST_NAMES, default "[]";
        /// Tests of writes that do not.
        survives: Vec<Located<String>> = TEST_NAMES, default "[]";
        /// Tests whose requests are answered by the same stored response.
        same_as: Vec<Located<String>> = TEST_NAMES, default "[]";
        /// Tests whose requests are answered by another one.
        differs_from: Vec<Located<String>> = TEST_NAMES, default "[]";
    }
}

/// Reads the file: the path of the configuration and the tests. Returns `None` if there is an error.
pub(super) fn file(root: &YamlNode, diagnostics: &Diagnostics) -> Option<(PathBuf, Vec<Test>)> {
    if root.entry("tests").is_none() && root.entry("routes").or_else(|| root.entry("upstream")).is_some() {
        diagnostics
            .error(root.location, "this is a configuration, not a file of tests")
            .help("`larder check FILE` checks it; a test file has `config: FILE` and `tests: […]`");
        return None;
    }
    let FileFields { config, tests } = FileFields::from_node(root, diagnostics)?;
    let example = "[{name: …, request: GET /, expect: {…}}]";
    let blocks = list(&tests, example, diagnostics, |node, _| Some(node.clone()))?;
    if blocks.is_empty() {
        diagnostics.error(tests.location, "nothing is tested").help("add tests, or remove the file");
        return None;
    }
    let names: Vec<Option<&YamlNode>> = blocks.iter().map(name_node).collect();
    for (at, node) in names.iter().enumerate() {
        let Some(node) = node else { continue };
        let name = node.text();
        if let Some(first) = names[..at].iter().flatten().find(|other| other.text() == name) {
            diagnostics
                .error(node.location, format!("two tests have the name `{}`", name.unwrap_or_default()))
                .note(first.location, "the first one")
                .help("rename one of them");
        }
    }
    let names: Vec<_> = names.into_iter().map(|node| node.and_then(YamlNode::text)).collect();
    let tests: Vec<_> = blocks.iter().map(|block| test(block, &names, diagnostics)).collect();
    Some((config, tests.into_iter().collect::<Option<_>>()?))
}

fn name_node(block: &YamlNode) -> Option<&YamlNode> {
    let Value::Mapping(entries) = &block.value else { return None };
    entries.iter().find(|(key, _)| key.text() == Some("name")).map(|(_, name)| name)
}

/// `names`: those of all tests, in the order of the file.
fn test(block: &YamlNode, names: &[Option<&str>], diagnostics: &Diagnostics) -> Option<Test> {
    let fields = Fields::open(block, TestFields::SECTION, diagnostics)?;
    let read = TestFields::read(&fields)?;
    let expect = read.expect.and_then(|read| expect(read, names, diagnostics));
    let (mut headers, data, response) = (read.headers?, read.data?, read.response?);
    if let Some(token) = read.jwt? {
        headers.insert(AUTHORIZATION, token);
    }
    if !data.is_empty() {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let (method, target) = read.request?;
    Some(Test {
        name: read.name?,
        location: fields.value_location("request"),
        method,
        target,
        headers,
        data,
        status: response.status,
        response_headers: response.headers,
        body: response.body,
        expect: expect?,
    })
}

fn expect(read: ExpectFields, names: &[Option<&str>], diagnostics: &Diagnostics) -> Option<Expect> {
    let resolve = |others: Option<Vec<Located<String>>>| -> Option<Vec<Located<usize>>> {
        let resolved: Vec<_> = others?.iter().map(|name| test_index(name, names, diagnostics)).collect();
        resolved.into_iter().collect()
    };
    let (purged_by, survives) = (resolve(read.purged_by), resolve(read.survives));
    let (same_as, differs_from) = (resolve(read.same_as), resolve(read.differs_from));
    Some(Expect {
        decision: read.decision?,
        route: read.route?,
        stored: read.stored?,
        reason: read.reason?,
        ttl: read.ttl?,
        tags: read.tags?,
        purges: read.purges?,
        purged_by: purged_by?,
        survives: survives?,
        same_as: same_as?,
        differs_from: differs_from?,
    })
}

fn test_index(
    name: &Located<String>,
    names: &[Option<&str>],
    diagnostics: &Diagnostics,
) -> Option<Located<usize>> {
    let Located { value: name, location } = name;
    let index = names.iter().position(|other| *other == Some(name));
    if index.is_none() {
        let help = match nearest(name, names.iter().copied().flatten()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write the `name` of a test of this file".to_owned(),
        };
        diagnostics.error(*location, format!("no test has the name `{name}`")).help(help);
    }
    Some(Located { value: index?, location: *location })
}

/// Reads a value together with its location.
fn located<T>(node: &YamlNode, reader: &Reader<T>, diagnostics: &Diagnostics) -> Option<Located<T>> {
    reader.read(node, diagnostics).map(|value| Located { value, location: node.location })
}

const LOCATED_TEXT: Reader<Located<String>> =
    Reader::new(Kind::Text, |node, diagnostics| located(node, &TEXT, diagnostics));

const LOCATED_BOOLEAN: Reader<Located<bool>> =
    Reader::new(Kind::Boolean, |node, diagnostics| located(node, &BOOLEAN, diagnostics));

const DECISION: Reader<Located<Decision>> =
    Reader::new(Kind::Word(&["lookup", "pass", "write", "refused"]), |node, diagnostics| {
        let decision = words!(
            "lookup" => Decision::Lookup, "pass" => Decision::Pass, "write" => Decision::Write,
            "refused" => Decision::Refused
        );
        located(node, &decision, diagnostics)
    });

const TTL: Reader<Located<Option<Duration>>> =
    Reader::new(Kind::OneOf(&[Kind::Duration, Kind::Word(&["none"])]), |node, diagnostics| {
        let value = parsed(node, "a duration such as `30s`, or `none`", diagnostics, |text| match text {
            "none" => Ok(None),
            text => units::duration(text).map(Some),
        })?;
        Some(Located { value, location: node.location })
    });

const TAGS: Reader<Located<Vec<String>>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let value =
        list(node, "[courses, \"course:7\"]", diagnostics, |node, diagnostics| TEXT.read(node, diagnostics))?;
    Some(Located { value, location: node.location })
});

/// One name or a list.
const TEST_NAMES: Reader<Vec<Located<String>>> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]), |node, diagnostics| {
        let names = one_or_many(node).iter().map(|node| {
            let name = text(node, "the name of a test", diagnostics)?;
            Some(Located { value: name.to_owned(), location: node.location })
        });
        names.collect()
    });

const REQUEST: Reader<(String, String)> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a method and a path", diagnostics, |text| {
        const HELP: &str = "write `GET /api/courses?page=2`, or an absolute URL";
        let (method, target) = text.trim().split_once(' ').unwrap_or(("GET", text.trim()));
        let target = target.trim();
        if Method::from_bytes(method.as_bytes()).is_err() || method.starts_with('/') {
            return Err((format!("`{method}` is not a method"), HELP.into()));
        }
        let has_right_form = ["/", "http://", "https://"].iter().any(|start| target.starts_with(start));
        match target.parse::<Uri>() {
            Ok(_) if has_right_form => Ok((method.to_owned(), target.to_owned())),
            _ => Err((format!("`{target}` is not a path or a URL"), HELP.into())),
        }
    })
});

/// Field names, each with a value or a list of them.
const HEADERS: Reader<HeaderMap> = Reader::new(Kind::Names(&Kind::Text), |node, diagnostics| {
    let mut headers = HeaderMap::new();
    let before = diagnostics.error_count();
    for (key, values) in entries(node, "{Accept-Language: de}", diagnostics)? {
        let name: Option<HeaderName> = parsed(key, "a field name", diagnostics, parse_header_name);
        for value in one_or_many(values) {
            let value = parsed(value, "a value", diagnostics, |text| {
                HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
                    ("this is not a valid field value".into(), "remove the control characters".into())
                })
            });
            if let (Some(name), Some(value)) = (&name, value) {
                headers.append(name.clone(), value);
            }
        }
    }
    (diagnostics.error_count() == before).then_some(headers)
});

/// The claims of an unsigned token. It serves tags only: larder never verifies tokens.
const JWT: Reader<HeaderValue> = Reader::new(Kind::Names(&Kind::Text), |node, diagnostics| {
    let mut claims = serde_json::Map::new();
    for (key, value) in entries(node, "{sub: ann}", diagnostics)? {
        let (name, value) = (text(key, "a claim", diagnostics)?, text(value, "a value", diagnostics)?);
        claims.insert(name.to_owned(), value.into());
    }
    let claims = BASE64_URL_SAFE_NO_PAD.encode(serde_json::Value::Object(claims).to_string());
    HeaderValue::from_str(&format!("Bearer e30.{claims}.unsigned")).ok()
});

const CONTENT: Reader<Bytes> = Reader::new(Kind::Text, |node, diagnostics| {
    text(node, "the content as text", diagnostics).map(|text| Bytes::copy_from_slice(text.as_bytes()))
});

const STATUS: Reader<StatusCode> = Reader::new(Kind::Count, |node, diagnostics| {
    parsed(node, "a status", diagnostics, |text| {
        text.parse().map_err(|_| (format!("`{text}` is not a status"), "write a number such as 404".into()))
    })
});
