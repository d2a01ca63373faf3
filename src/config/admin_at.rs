//! The section `admin_at`: operations at paths of the API, for those whom the API lets operate it.

use std::fmt;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::callers::{CallerMethod, CallerSettings};
use super::diagnostics::Diagnostics;
use super::fields::{Fields, expand_short_form};
use super::keys::Reader;
use super::scalars::{NON_EMPTY, POSITIVE_DURATION, entries, list, parsed, split_help};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::units::show_duration;
use super::webhooks::WEBHOOK_PATH;
use super::yaml::YamlNode;
use crate::policy::caller::CallerSource;
use crate::policy::json_query::{JsonQuery, UnusableValue};
use crate::policy::operation_content::{ClearContent, RefreshContent, WarmContent};
use crate::policy::path::is_normal;
use crate::policy::template::Template;

settings! {
    struct AdminAtFields = "admin_at" {
        /// The entry of `callers`, with `ask`, that knows operators: its URL is one that the API answers to operators alone.
        /// Others get 401 or 403, and all get 503 if it can't be asked.
        callers: String = NON_EMPTY, optional;
        /// GET: hits, misses and purges of all replicas, in total and by route, and memory.
        stats: String = WEBHOOK_PATH, optional;
        /// DELETE or POST: purges everything, or what its content names, as in `POST /purge`. A path, or a mapping that says
        /// what the API's own clients send.
        clear: ClearFields = CLEAR, optional;
        /// DELETE or POST: purges the tag at the end of the path, such as `/api/admin/cache/tags/{tag}`.
        invalidate: String = TAG_PATH, optional;
        /// POST: fetches what its content names, as `POST /warm` does. GET: progress of the entries of `warm`. A path, or a
        /// mapping.
        warm: WarmFields = WARM, optional;
        /// POST: refreshes what its content names, as `POST /refresh` does. A path, or a mapping.
        refresh: RefreshFields = REFRESH, optional;
    }
}

settings! {
    struct ClearFields = "admin_at.clear" {
        /// The path of the operation.
        path: String = WEBHOOK_PATH, required;
        /// The tags to purge, with values of the request's JSON: `file:{request.json:/file_id}`. A request that has none of the
        /// values is one without this key.
        tags: Vec<Template> = TAGS, default "[]";
    }
}

settings! {
    struct WarmFields = "admin_at.warm" {
        /// The path of the operation.
        path: String = WEBHOOK_PATH, required;
        /// The entry of `warm` to run if the request has no content.
        name: String = NON_EMPTY, optional;
        /// The name or path of the route whose parameters have `values`.
        route: String = NON_EMPTY, optional;
        /// Where the values of the route's parameters are in the request's JSON: `{id: "$.file_ids[*]"}`.
        values: Vec<(String, JsonQuery)> = VALUES, default "{}";
    }
}

settings! {
    struct RefreshFields = "admin_at.refresh" {
        /// The path of the operation.
        path: String = WEBHOOK_PATH, required;
        /// If the request has no content, entries that expire within this time are refreshed.
        expiring_within: Duration = POSITIVE_DURATION, optional;
    }
}

const CLEAR: Reader<ClearFields> = Reader::new(
    Kind::OneOf(&[WEBHOOK_PATH.kind, Kind::Mapping(ClearFields::SECTION)]),
    |node, diagnostics| ClearFields::from_node(&expand_short_form(node, "path"), diagnostics),
);

const WARM: Reader<WarmFields> = Reader::new(
    Kind::OneOf(&[WEBHOOK_PATH.kind, Kind::Mapping(WarmFields::SECTION)]),
    |node, diagnostics| {
        let node = expand_short_form(node, "path");
        let fields = Fields::open(&node, WarmFields::SECTION, diagnostics)?;
        let read = WarmFields::read(&fields)?;
        if read.route.is_some() == read.values.is_empty() {
            diagnostics
                .error(node.location, "`route` and `values` belong together")
                .help("write `route: file-url, values: {id: \"$.file_ids[*]\"}`, or neither");
            return None;
        }
        Some(read)
    },
);

const REFRESH: Reader<RefreshFields> = Reader::new(
    Kind::OneOf(&[WEBHOOK_PATH.kind, Kind::Mapping(RefreshFields::SECTION)]),
    |node, diagnostics| RefreshFields::from_node(&expand_short_form(node, "path"), diagnostics),
);

const TAGS: Reader<Vec<Template>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    const HELP: &str = "write a tag with values of the content: `file:{request.json:/file_id}`";
    list(node, "[\"file:{request.json:/file_id}\"]", diagnostics, |node, diagnostics| {
        parsed(node, "a tag", diagnostics, |text| match Template::parse(text) {
            Ok(tag) if tag.reads_only_request_json() => Ok(tag),
            Ok(_) => Err((format!("`{text}`: this operation has values of its content alone"), HELP.into())),
            Err(error) => Err(split_help(error, HELP)),
        })
    })
});

const VALUES: Reader<Vec<(String, JsonQuery)>> =
    Reader::new(Kind::Names(&Kind::Text), |node, diagnostics| {
        const EXAMPLE: &str = "{id: \"$.file_ids[*]\"}";
        let value = |(name, query): &(YamlNode, YamlNode)| {
            let name = parsed(name, "a parameter", diagnostics, |name| Ok(name.to_owned()))?;
            let query = parsed(query, "a JSONPath such as `$.ids[*]`", diagnostics, |text| {
                JsonQuery::parse(text).map_err(|error| split_help(error, EXAMPLE))
            })?;
            Some((name, query))
        };
        entries(node, EXAMPLE, diagnostics)?.iter().map(value).collect()
    });

/// The end of the path of `invalidate`.
const TAG_PLACE: &str = "{tag}";

/// Reads the path without its placeholder, up to the last `/`.
const TAG_PATH: Reader<String> = Reader::new(Kind::Matching("^/.*[{]tag[}]$"), |node, diagnostics| {
    parsed(node, "a path such as `/api/admin/cache/tags/{tag}`", diagnostics, |path| {
        let before = path.strip_suffix(TAG_PLACE).filter(|before| {
            before.starts_with('/') && before.ends_with('/') && is_normal(before) && !before.contains('{')
        });
        before.map(str::to_owned).ok_or_else(|| {
            (
                format!("`{path}` does not end with `/{TAG_PLACE}`"),
                format!("write a plain path with `/{TAG_PLACE}` at its end"),
            )
        })
    })
});

pub(super) const ADMIN_AT: Reader<YamlNode> = super::keys::deferred(Kind::Mapping(AdminAtFields::SECTION));

/// A request of an operator at a path of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Statistics.
    Stats,
    /// Purges everything.
    Clear,
    /// Holds the tag as spelled in the path.
    Invalidate(String),
    /// Starts a warming run.
    Warm,
    /// Fetches again what is stored.
    Refresh,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Stats => "stats",
            Operation::Clear => "clear",
            Operation::Invalidate(_) => "invalidate",
            Operation::Warm => "warm",
            Operation::Refresh => "refresh",
        })
    }
}

/// The paths of operations, and who may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperationPaths {
    pub callers: CallerSource,
    stats: Option<String>,
    clear: Option<(String, ClearContent)>,
    /// The path before the tag.
    invalidate: Option<String>,
    warm: Option<(String, WarmContent)>,
    refresh: Option<(String, RefreshContent)>,
}

impl OperationPaths {
    /// The operation that a request asks for. A path of an operation with another method is the API's.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<Operation> {
        let is_at = |at: Option<&String>| at.is_some_and(|at| at == path);
        let is_read = *method == Method::GET || *method == Method::HEAD;
        let is_purge = *method == Method::DELETE || *method == Method::POST;
        if is_at(self.stats.as_ref()) && is_read {
            return Some(Operation::Stats);
        }
        if is_at(self.clear.as_ref().map(|(path, _)| path)) && is_purge {
            return Some(Operation::Clear);
        }
        if is_at(self.warm.as_ref().map(|(path, _)| path)) && (is_read || *method == Method::POST) {
            return Some(Operation::Warm);
        }
        if is_at(self.refresh.as_ref().map(|(path, _)| path)) && *method == Method::POST {
            return Some(Operation::Refresh);
        }
        let tag = path.strip_prefix(self.invalidate.as_deref()?).filter(|tag| !tag.is_empty() && is_purge);
        tag.map(|tag| Operation::Invalidate(tag.to_owned()))
    }

    /// The entry of `warm` that a request without content runs.
    pub(super) fn warm_entry(&self) -> Option<&str> {
        self.warm.as_ref().and_then(|(_, warm)| warm.name.as_deref())
    }

    /// The content of an operation in larder's form; `None`: it is in that form.
    ///
    /// # Errors
    /// If a value of the content is neither text nor a number.
    pub(crate) fn translate(
        &self,
        operation: &Operation,
        content: &[u8],
    ) -> Result<Option<Value>, UnusableValue> {
        match operation {
            Operation::Clear => self.clear.as_ref().map_or(Ok(None), |(_, clear)| clear.translate(content)),
            Operation::Warm => self.warm.as_ref().map_or(Ok(None), |(_, warm)| warm.translate(content)),
            Operation::Refresh => {
                Ok(self.refresh.as_ref().and_then(|(_, refresh)| refresh.translate(content)))
            }
            Operation::Stats | Operation::Invalidate(_) => Ok(None),
        }
    }
}

/// Reads the section. `callers`: `None` if they have errors. Returns `Some(None)` where no path is given.
pub(super) fn admin_at(
    node: &YamlNode,
    callers: Option<&[CallerSettings]>,
    diagnostics: &Diagnostics,
) -> Option<Option<OperationPaths>> {
    let fields = Fields::open(node, AdminAtFields::SECTION, diagnostics)?;
    let AdminAtFields { callers: name, stats, clear, invalidate, warm, refresh } =
        AdminAtFields::read(&fields)?;
    let named = [
        ("stats", stats.as_ref()),
        ("clear", clear.as_ref().map(|clear| &clear.path)),
        ("warm", warm.as_ref().map(|warm| &warm.path)),
        ("refresh", refresh.as_ref().map(|refresh| &refresh.path)),
    ];
    for (at, (key, path)) in named.iter().enumerate() {
        if let Some((other, _)) = named[..at].iter().find(|(_, other)| path.is_some() && other == path) {
            diagnostics
                .error(fields.value_location(key), format!("`{key}` has the path of `{other}`"))
                .help("give each operation a path of its own");
            return None;
        }
    }
    let has_paths = invalidate.is_some() || named.iter().any(|(_, path)| path.is_some());
    let Some(name) = name else {
        if has_paths {
            fields.report_missing("callers");
            return None;
        }
        return Some(None);
    };
    let callers = find_asked(&name, callers?, &fields, diagnostics)?;
    let warm_content = |warm: WarmFields| {
        let values = warm.values.into_iter().collect();
        (warm.path, WarmContent { name: warm.name, route: warm.route, values })
    };
    let refresh_content = |refresh: RefreshFields| {
        let expiring_within = refresh.expiring_within.map(show_duration);
        (refresh.path, RefreshContent { expiring_within })
    };
    Some(has_paths.then(|| OperationPaths {
        callers,
        stats,
        clear: clear.map(|clear| (clear.path, ClearContent { tags: clear.tags })),
        invalidate,
        warm: warm.map(warm_content),
        refresh: refresh.map(refresh_content),
    }))
}

/// Finds the entry that asks the API. A valid token alone says nothing about who may operate the API.
fn find_asked(
    name: &str,
    callers: &[CallerSettings],
    fields: &Fields<'_>,
    diagnostics: &Diagnostics,
) -> Option<CallerSource> {
    let index = callers.iter().position(|entry| *entry.name == *name);
    match index.map(|index| (&callers[index], index)) {
        Some((entry @ CallerSettings { method: CallerMethod::Ask(_), .. }, index)) => {
            Some(entry.source(index))
        }
        Some(_) => {
            diagnostics
                .error(
                    fields.value_location("callers"),
                    format!("`{name}` knows every holder of a token, not who may operate this cache"),
                )
                .help("name an entry with `ask: {url: …}`, whose URL the API answers to operators alone");
            None
        }
        None => {
            diagnostics
                .error(fields.value_location("callers"), format!("`callers` has no entry `{name}`"))
                .help(format!(
                    "add it at the top level: `callers: {{{name}: {{ask: {{url: http://127.0.0.1:3000/api/admin/me}}}}}}`"
                ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SettingOverrides};

    const CALLERS_YAML: &str = "upstream: http://127.0.0.1:3000\ncallers:
  operators: {ask: {url: http://127.0.0.1:3000/api/admin/me}}
  users: {jwt: {secret: 0123456789abcdef0123456789abcdef}}\n";

    fn parse(section: &str) -> Result<Config, String> {
        let text = format!("{CALLERS_YAML}admin_at: {section}\n");
        Config::parse(&text, "proxy.yaml", &|_| None, &SettingOverrides::default())
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_method_and_a_path_name_an_operation() {
        let section = "{callers: operators, stats: /a/stats, clear: /a/clear, invalidate: '/a/{tag}', warm: /a/warm, refresh: /a/refresh}";
        let paths = parse(section).unwrap_or_else(|error| panic!("{error}")).admin_at.expect("paths");
        for (method, path, expected) in [
            ("GET", "/a/stats", Some(Operation::Stats)),
            ("HEAD", "/a/stats", Some(Operation::Stats)),
            ("OPTIONS", "/a/stats", None),
            ("DELETE", "/a/clear", Some(Operation::Clear)),
            ("POST", "/a/clear", Some(Operation::Clear)),
            ("GET", "/a/clear", None),
            ("POST", "/a/warm", Some(Operation::Warm)),
            ("GET", "/a/warm", Some(Operation::Warm)),
            ("POST", "/a/refresh", Some(Operation::Refresh)),
            ("PUT", "/a/refresh", None),
            ("DELETE", "/a/guild:7", Some(Operation::Invalidate("guild:7".to_owned()))),
            ("GET", "/a/guild:7", None),
            ("DELETE", "/a/", None),
            ("DELETE", "/A/guild:7", None),
            ("GET", "//a/stats", None),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(paths.find(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn an_unguarded_or_ambiguous_section_is_refused() {
        for (section, expected) in [
            ("{stats: /stats}", "has no `callers`"),
            ("{callers: nobody, stats: /stats}", "has no entry `nobody`"),
            ("{callers: users, stats: /stats}", "every holder of a token"),
            ("{callers: operators, stats: stats}", "is not a normalized path"),
            ("{callers: operators, stats: '/a/{x}'}", "is not a normalized path"),
            ("{callers: operators, invalidate: /a}", "does not end with"),
            ("{callers: operators, invalidate: '/a{tag}'}", "does not end with"),
            ("{callers: operators, stats: /a, warm: /a}", "has the path of `stats`"),
            ("{callers: operators, purge: /a}", "unknown key `purge`"),
            ("{callers: operators, stats: /a, refresh: {path: /a}}", "has the path of `stats`"),
            ("{callers: operators, warm: {path: /a, name: x}}", "`warm` has no entry `x`"),
            ("{callers: operators, clear: {tags: [a]}}", "has no `path`"),
            ("{callers: operators, clear: {path: /a, tags: ['{query.id}']}}", "values of its content alone"),
            ("{callers: operators, warm: {path: /a, route: x}}", "`route` and `values` belong together"),
            ("{callers: operators, warm: {path: /a, route: x, values: {id: x}}}", "begins neither"),
        ] {
            let error = parse(section).expect_err(section);
            assert!(error.contains(expected), "{section}: {error}");
        }
        assert_eq!(parse("{}").expect("an empty section").admin_at, None);
    }
}
