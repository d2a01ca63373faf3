//! A path of the document with what a cache has to know of its operations.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;
use serde_json::Value;

use super::document::{Document, as_scalar};
use crate::policy::hop_by_hop::is_hop_by_hop;
use crate::policy::is_ambiguous_name;
use crate::policy::path::{AffixedParameter, PathTemplate};

const WRITES: [&str; 4] = ["post", "put", "patch", "delete"];

/// Request fields that change no response, or that larder handles by itself.
const PLAIN_FIELDS: [&str; 12] = [
    "accept",
    "accept-encoding",
    "authorization",
    "content-type",
    "cookie",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "range",
    "traceparent",
    "x-request-id",
];

/// A segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::draft) enum PathSegment {
    Literal(String),
    Parameter(String),
    Affixed(AffixedParameter),
}

impl PathSegment {
    /// The text, if the segment has no parameter.
    pub(super) fn literal(&self) -> Option<&str> {
        match self {
            PathSegment::Literal(text) => Some(text),
            PathSegment::Parameter(_) | PathSegment::Affixed(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(in crate::draft) struct PathItem {
    pub segments: Vec<PathSegment>,
    /// Some parameters of the document are only a part of their segment.
    pub is_widened: bool,
    pub read: Option<ReadOperation>,
    pub writes: Vec<WriteOperation>,
}

/// A GET.
#[derive(Clone, Debug)]
pub(in crate::draft) struct ReadOperation {
    pub name: String,
    /// The parameters with their defaults; `None`: they can't be listed.
    pub query: Option<BTreeMap<String, Option<String>>>,
    pub headers: BTreeSet<String>,
    pub cookies: BTreeSet<String>,
    pub access: Access,
    /// The document says that the response has `Cache-Control` or `Expires`.
    pub has_lifetime: bool,
    /// The directives of `Cache-Control`, if the document says which.
    pub cache_control: Option<String>,
    /// A reference to what is not in the document, and what it stands for.
    pub missing: Option<String>,
    pub is_stream: bool,
    /// The schema of its response, or of the items in it.
    pub schema: Option<String>,
    /// All schemas that its response embeds.
    pub embedded: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(in crate::draft) struct WriteOperation {
    /// In upper case.
    pub method: String,
    pub name: String,
    /// Its path in the document, if a parameter there is only a part of its segment.
    pub partial_path: Option<String>,
}

/// Between the credentials in `per`, of which callers send one or more.
const ANY_OF: &str = " | ";

/// How a request shows who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::draft) enum Access {
    Open,
    /// The value of `per`, and whether requests without the credential are allowed.
    Credential {
        per: String,
        is_optional: bool,
    },
    /// An API key in a query parameter.
    Query(String),
    Unclear(String),
}

impl PathItem {
    /// # Errors
    /// The path can't be a route's.
    pub(super) fn read<'d>(
        document: &Document<'d>,
        base: &str,
        path: &str,
        node: &'d Value,
    ) -> Result<Self, String> {
        if let Some(missing) = document.missing_reference(node) {
            return Err(format!("`{missing}` is not in this document"));
        }
        let template = format!("{base}{path}");
        let partial_path = split(&template).1.then(|| template.clone());
        let writes = WRITES.iter().filter_map(|method| {
            let operation = document.resolve(document.members(node)?.get(*method)?);
            let (method, name) = (method.to_uppercase(), operation_name(operation));
            Some(WriteOperation { method, name, partial_path: partial_path.clone() })
        });
        let operation = document.members(node).and_then(|members| members.get("get"));
        let read = operation.map(|operation| match document.missing_reference(operation) {
            Some(missing) => {
                ReadOperation { missing: Some(missing.to_owned()), ..ReadOperation::unknown(String::new()) }
            }
            None => ReadOperation::new(document, node, document.resolve(operation)),
        });
        Self::from_template(&template, read, writes.collect())
    }

    /// The path of a template with its operations.
    ///
    /// # Errors
    /// The path can't be a route's.
    pub(in crate::draft) fn from_template(
        template: &str,
        read: Option<ReadOperation>,
        writes: Vec<WriteOperation>,
    ) -> Result<Self, String> {
        let (segments, is_widened) = split(template);
        let item = Self { segments, is_widened, read, writes };
        PathTemplate::parse_alternatives(&item.path()).map(|_| item)
    }

    pub(super) fn path(&self) -> String {
        self.write_path(|name| name)
    }

    /// The segments without the empty one behind a slash at the end.
    pub(super) fn named_segments(&self) -> &[PathSegment] {
        match self.segments.split_last() {
            Some((PathSegment::Literal(last), before)) if last.is_empty() => before,
            _ => &self.segments,
        }
    }

    /// The path without the names of its parameters.
    pub(super) fn shape(&self) -> String {
        self.write_path(|_| "").to_ascii_lowercase()
    }

    fn write_path<'s>(&'s self, parameter: impl Fn(&'s str) -> &'s str) -> String {
        let segment = |segment: &'s PathSegment| match segment {
            PathSegment::Literal(text) => format!("/{text}"),
            PathSegment::Parameter(name) => format!("/{{{}}}", parameter(name)),
            PathSegment::Affixed(AffixedParameter { prefix, name, suffix }) => {
                format!("/{prefix}{{{}}}{suffix}", parameter(name))
            }
        };
        let path: String = self.segments.iter().map(segment).collect();
        if path.is_empty() { "/".into() } else { path }
    }

    /// Adds the operations of another spelling of the path.
    pub(super) fn merge(&mut self, other: Self) {
        self.is_widened |= other.is_widened;
        self.writes.extend(other.writes);
        if self.read.is_none() {
            self.read = other.read;
        }
    }
}

/// Splits a path. A parameter that is a part of a segment, beside what a route can't have there, becomes the whole segment.
fn split(path: &str) -> (Vec<PathSegment>, bool) {
    let (mut segments, mut is_widened, mut names) = (Vec::new(), false, BTreeSet::new());
    let mut parameter = |text: &str| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let clean: String = text.chars().map(|c| if is_word(c) { c } else { '_' }).collect();
        let clean =
            if clean.starts_with(|c: char| c.is_ascii_alphabetic()) { clean } else { format!("p{clean}") };
        let mut name = clean.clone();
        while !names.insert(name.clone()) {
            name = format!("{clean}{}", names.len());
        }
        name
    };
    for segment in path.trim_start_matches('/').split('/') {
        let parts =
            segment.split_once('{').and_then(|(prefix, after)| Some((prefix, after.split_once('}')?)));
        segments.push(match parts {
            Some(("", (name, ""))) => PathSegment::Parameter(parameter(name)),
            Some((prefix, (name, suffix))) => {
                let name = parameter(name);
                match PathTemplate::parse(&format!("/{prefix}{{{name}}}{suffix}")) {
                    Ok(_) => PathSegment::Affixed(AffixedParameter {
                        prefix: prefix.to_owned(),
                        name,
                        suffix: suffix.to_owned(),
                    }),
                    Err(_) => {
                        is_widened = true;
                        PathSegment::Parameter(name)
                    }
                }
            }
            None => PathSegment::Literal(segment.to_owned()),
        });
    }
    if segments == [PathSegment::Literal(String::new())] {
        segments.clear();
    }
    (segments, is_widened)
}

fn operation_name(operation: &Value) -> String {
    let text = |key: &str| operation.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    text("operationId").or_else(|| text("summary")).unwrap_or_default().to_owned()
}

impl ReadOperation {
    /// A read of which nothing is known but its requests.
    pub(in crate::draft) fn unknown(name: String) -> Self {
        Self {
            name,
            query: Some(BTreeMap::new()),
            headers: BTreeSet::new(),
            cookies: BTreeSet::new(),
            access: Access::Open,
            has_lifetime: false,
            cache_control: None,
            missing: None,
            is_stream: false,
            schema: None,
            embedded: BTreeSet::new(),
        }
    }

    fn new<'d>(document: &Document<'d>, item: &'d Value, operation: &'d Value) -> Self {
        let mut read =
            Self { access: Access::read(document, operation), ..Self::unknown(operation_name(operation)) };
        // The operation's own parameters come last, and replace those of the path.
        for owner in [item, operation] {
            let listed = owner.get("parameters").unwrap_or(&Value::Null);
            let parameters = document.resolve(listed).as_array().into_iter().flatten();
            for parameter in std::iter::once(listed).chain(parameters) {
                read.missing = document.missing_reference(parameter).map(str::to_owned).or(read.missing);
                read.add_parameter(document, document.resolve(parameter));
            }
        }
        for (status, response) in document.members(document.get(operation, "responses")).into_iter().flatten()
        {
            if status.starts_with('2') {
                read.add_response(document, document.resolve(response));
            }
        }
        if let (Access::Query(name), Some(query)) = (&read.access, &mut read.query) {
            query.entry(name.clone()).or_default();
        }
        read
    }

    fn add_parameter<'d>(&mut self, document: &Document<'d>, parameter: &'d Value) {
        let Some(name) = parameter.get("name").and_then(as_scalar) else { return };
        let schema = document.get(parameter, "schema");
        match parameter.get("in").and_then(Value::as_str) {
            // An object is sent as several parameters.
            Some("query") if name.is_empty() || is_object(schema) || parameter.get("content").is_some() => {
                self.query = None
            }
            Some("query") => {
                let default = schema.get("default").and_then(as_scalar).filter(|text| !text.is_empty());
                self.query.iter_mut().for_each(|query| _ = query.insert(name.clone(), default.clone()));
            }
            Some("header") => self.headers.extend(key_field(&name)),
            Some("cookie") if is_cookie_name(&name) => _ = self.cookies.insert(name),
            _ => {}
        }
    }

    fn add_response<'d>(&mut self, document: &Document<'d>, response: &'d Value) {
        for (name, header) in document.members(document.get(response, "headers")).into_iter().flatten() {
            if name.eq_ignore_ascii_case("cache-control") {
                self.has_lifetime = true;
                self.cache_control = documented_value(document, header).or(self.cache_control.take());
            }
            self.has_lifetime |= name.eq_ignore_ascii_case("expires");
        }
        for (content_type, media) in document.members(document.get(response, "content")).into_iter().flatten()
        {
            self.is_stream |= content_type.starts_with("text/event-stream");
            let Some(schema) = document.resolve(media).get("schema") else { continue };
            let name = document.schema_name(schema).map(str::to_owned);
            self.schema = self.schema.take().or(name);
            self.embedded.extend(document.schema_names(schema).into_iter().map(str::to_owned));
        }
    }
}

/// The value of a field, if the document says that it is the only one.
fn documented_value<'d>(document: &Document<'d>, header: &'d Value) -> Option<String> {
    let header = document.resolve(header);
    let schema = document.get(header, "schema");
    let only = match schema.get("enum").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => Some(one),
        _ => None,
    };
    let example = || header.get("example").or_else(|| schema.get("example"));
    let value = schema.get("const").or(only).or_else(|| schema.get("default")).or_else(example);
    value.and_then(as_scalar)
}

/// The name of a request field that belongs in the key, in lower case.
fn key_field(name: &str) -> Option<String> {
    let name: HeaderName = name.parse().ok()?;
    let is_plain = PLAIN_FIELDS.contains(&name.as_str()) || is_hop_by_hop(&name, &http::HeaderMap::new());
    (!is_plain).then(|| name.as_str().to_owned())
}

fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn is_object(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema.get("type").and_then(Value::as_str) == Some("object")
}

impl Access {
    fn read(document: &Document<'_>, operation: &Value) -> Self {
        let mut credentials = BTreeSet::new();
        let mut is_optional = false;
        for requirement in document.security(operation) {
            let names: Vec<_> = requirement.as_object().into_iter().flatten().map(|(name, _)| name).collect();
            is_optional |= names.is_empty();
            for name in names {
                match document.security_scheme(name).map(credential) {
                    Some(Ok(credential)) => _ = credentials.insert(credential),
                    Some(Err(why)) => return Access::Unclear(why),
                    None => return Access::Unclear(format!("the security scheme `{name}` is not declared")),
                }
            }
        }
        let in_query = credentials.iter().find_map(|credential| credential.strip_prefix("query."));
        match (in_query, credentials.len()) {
            (_, 0) => Access::Open,
            (Some(name), 1) => Access::Query(name.to_owned()),
            (Some(name), _) => Access::Unclear(format!(
                "callers identify themselves by the parameter `{name}` or otherwise, and `per` takes no parameter"
            )),
            (None, _) if credentials.iter().all(|credential| is_ambiguous(credential)) => {
                Access::Unclear(format!(
                    "callers identify themselves by `{}`, and a GET with a field of such a name is not cached",
                    credentials.into_iter().collect::<Vec<_>>().join(ANY_OF)
                ))
            }
            (None, _) => {
                let per = credentials.into_iter().collect::<Vec<_>>().join(ANY_OF);
                Access::Credential { per, is_optional }
            }
        }
    }

    /// The request fields that identify callers, other than `Authorization` and `Cookie`.
    pub(super) fn headers(&self) -> impl Iterator<Item = String> {
        let per = match self {
            Access::Credential { per, .. } => per.as_str(),
            _ => "",
        };
        per.split(ANY_OF).filter_map(|credential| credential.strip_prefix("header.")).map(str::to_owned)
    }
}

/// Whether a credential is in a field that servers may read as another one.
fn is_ambiguous(credential: &str) -> bool {
    let name = credential.strip_prefix("header.").and_then(|name| name.parse().ok());
    name.is_some_and(|name| is_ambiguous_name(&name))
}

/// The credential of a security scheme, as `per` names it; `query.NAME` for a parameter.
fn credential(scheme: &Value) -> Result<String, String> {
    let text = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
    let name = text("name");
    match (text("type"), text("in")) {
        ("http" | "oauth2" | "openIdConnect", _) => Ok("authorization".into()),
        ("apiKey", "query") => Ok(format!("query.{name}")),
        ("apiKey", "header") => match name.parse::<HeaderName>() {
            Ok(http::header::AUTHORIZATION) => Ok("authorization".into()),
            Ok(name) if name != http::header::COOKIE && !is_hop_by_hop(&name, &http::HeaderMap::new()) => {
                Ok(format!("header.{name}"))
            }
            _ => Err(format!("`{name}` is no field that identifies callers")),
        },
        ("apiKey", "cookie") if is_cookie_name(name) => Ok(format!("cookie.{name}")),
        (kind, _) => Err(format!("callers identify themselves by `{kind}`, which is no part of a request")),
    }
}
