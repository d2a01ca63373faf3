//! `warm` and `background`: the requests that larder sends by itself, and their share of the upstream.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::diagnostics::{Diagnostics, Location};
use super::fields::Fields;
use super::keys::{Kind, Reader, Settings, settings};
use super::scalars::{
    BOOLEAN, COUNT, PERCENT, TEXT, entries, list, one_or_many, parse_header_name, parsed, split_help,
};
use super::units::FieldError;
use super::upstream::OFF_OR_DURATION;
use super::yaml::{Value, YamlNode};
use super::{Listen, WarmEntry, WarmList, url};
use crate::policy::Route;
use crate::policy::credentials;
use crate::policy::json_query::JsonQuery;
use crate::policy::route::RouteMode;
use crate::policy::routes::Routes;
use crate::policy::url_template::{PlaceholderValues, UrlTemplate};

settings! {
    /// How larder sends the requests that no client has sent.
    pub struct BackgroundSettings = "background" {
        /// Maximum number of requests to the upstream per second. Entries that are still fresh cost nothing.
        rate: usize = COUNT, default "20";
        /// Maximum number of requests at once.
        concurrency: usize = COUNT, default "4";
        /// Maximum share of `upstream.max_connections`. No request starts while clients use more than half of them.
        share as "connections": usize = PERCENT, default "25%";
        /// The scheme and host that clients ask for, `https://api.example.com`: entries are stored under them. If empty,
        /// the first address of `listen`.
        host: HeaderMap = BASE_URL, default "\"\"";
        /// More request fields, such as a service's credential.
        headers: HeaderMap = HEADERS, default "{}";
    }
}

settings! {
    partial struct WarmFields = "warm" {
        /// The path and query to request, or a list of them. `{name}` stands for each of its `values`, `{}` for each
        /// value that `each` finds.
        get: Vec<(UrlTemplate, Location)> = TEMPLATES, required;
        /// The values of each `{name}`: `{id: [1, 2, 3]}`.
        values: PlaceholderValues = VALUES, optional;
        /// The path of a JSON response that lists what to request.
        from: Uri = LIST_URL, optional;
        /// The values in it that fill `{}`: `$.items[*].id`.
        each: JsonQuery = LIST_QUERY, optional;
        /// How often to request it; what would expire before the next time is fetched anew. `off`: only at the start.
        every: Option<Duration> = OFF_OR_DURATION, default "off";
        /// Whether to request it when larder starts.
        on_start: bool = BOOLEAN, default "true";
        /// The `background.host` of this entry.
        host: HeaderMap = BASE_URL, optional;
        /// More request fields: those in the key, or a credential.
        headers: HeaderMap = HEADERS, optional;
        /// The name in metrics and logs. Default: the first path.
        name: String = TEXT, optional;
    }
}

pub(super) const WARM_KIND: Kind = Kind::ListOf(&Kind::Mapping(WarmFields::SECTION));

/// The `Host` if `background.host` is absent: the one that clients on this machine send.
pub(super) fn default_host(listen: &[Listen]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(Listen::Tcp(address)) = listen.first()
        && !address.ip().is_unspecified()
        && let Ok(value) = HeaderValue::from_str(&address.to_string())
    {
        headers.insert(HOST, value);
    }
    headers
}

/// The settings that entries are checked against.
pub(super) struct WarmContext<'k> {
    pub routes: &'k Routes,
    pub background: &'k BackgroundSettings,
}

/// Reads the entries; returns `None` if one has an error. Without `context`, because those settings have errors, only
/// the entries themselves are checked.
pub(super) fn warm(
    node: &YamlNode,
    context: Option<&WarmContext<'_>>,
    diagnostics: &Diagnostics,
) -> Option<Vec<WarmEntry>> {
    if matches!(node.value, Value::Null) {
        return Some(Vec::new());
    }
    let before = diagnostics.error_count();
    let entries = list(node, "[{get: /api/courses, every: 5m}]", diagnostics, |node, diagnostics| {
        let (entry, locations) = entry(node, context, diagnostics)?;
        check_entry(&entry, &locations, context, diagnostics);
        Some(entry)
    })?;
    (diagnostics.error_count() == before).then_some(entries)
}

struct EntryLocations {
    entry: Location,
    get: Vec<Location>,
}

fn entry(
    node: &YamlNode,
    context: Option<&WarmContext<'_>>,
    diagnostics: &Diagnostics,
) -> Option<(WarmEntry, EntryLocations)> {
    let fields = Fields::open(node, WarmFields::SECTION, diagnostics)?;
    let read = WarmFields::read(&fields)?;
    let (every, on_start) = (read.every?, read.on_start?);
    let list = warm_list(&fields, read.from?, read.each?, diagnostics)?;
    if every.is_none() && !on_start && fields.node("every").is_none() {
        diagnostics
            .error(node.location, "nothing ever starts this entry")
            .help("add `every: 5m`, or remove `on_start`");
    }
    let background = context.map(|context| context.background);
    let mut headers = background.map(|background| background.headers.clone()).unwrap_or_default();
    let own_host = read.host?.filter(|host| !host.is_empty());
    headers.extend(own_host.or_else(|| Some(background?.host.clone())).unwrap_or_default());
    for (name, value) in &read.headers?.unwrap_or_default() {
        headers.insert(name, value.clone());
    }
    let (get, get_locations): (Vec<_>, Vec<_>) = read.get?.into_iter().unzip();
    let name = read.name?.unwrap_or_else(|| get.first().map_or("", UrlTemplate::as_str).to_owned());
    let values = read.values?.unwrap_or_default();
    let locations = EntryLocations { entry: node.location, get: get_locations };
    Some((WarmEntry { name, get, values, list, every, on_start, headers }, locations))
}

/// Combines `from` and `each`, which belong together. Returns `Some(None)` if both are absent.
fn warm_list(
    fields: &Fields<'_>,
    from: Option<Uri>,
    each: Option<JsonQuery>,
    diagnostics: &Diagnostics,
) -> Option<Option<WarmList>> {
    let (key, message, help) = match (from, each) {
        (Some(url), Some(query)) => return Some(Some(WarmList { url, query })),
        (None, None) => return Some(None),
        (Some(_), None) => (
            "from",
            "`from` has no `each`",
            "add `each: $.items[*].id`: which values of that response fill the `{}` of `get`",
        ),
        (None, Some(_)) => (
            "each",
            "`each` has no `from`",
            "add `from: /api/items`: the URL of the response that it is read from",
        ),
    };
    diagnostics.error(fields.value_location(key), message).help(help);
    None
}

/// One template or a list, each with its location.
const TEMPLATES: Reader<Vec<(UrlTemplate, Location)>> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]), |node, diagnostics| {
        if node.is_empty_list() {
            diagnostics.error(node.location, "`get` names nothing").help("write `get: [/api/courses]`");
            return None;
        }
        let read = one_or_many(node).iter().filter_map(|node| {
            let template = parsed(node, "a path such as `/api/courses?page=1`", diagnostics, |text| {
                UrlTemplate::parse(text)
                    .map_err(|error| split_help(error, "write a path such as `/api/courses/{id}`"))
            });
            Some((template?, node.location))
        });
        let read: Vec<_> = read.collect();
        (!read.is_empty()).then_some(read)
    });

const VALUES: Reader<PlaceholderValues> =
    Reader::new(Kind::Names(&Kind::ListOf(&Kind::Text)), |node, diagnostics| {
        let mut values = BTreeMap::new();
        for (name, given) in entries(node, "values: {id: [1, 2, 3]}", diagnostics)? {
            let texts =
                list(given, "[1, 2, 3]", diagnostics, |node, diagnostics| TEXT.read(node, diagnostics));
            if let (Some(name), Some(texts)) = (name.text(), texts) {
                values.insert(name.to_owned(), texts);
            }
        }
        Some(values)
    });

const LIST_URL: Reader<Uri> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a path such as `/api/files?recent=1`", diagnostics, |text| {
        const HELP: &str = "write a path such as `/api/files?recent=1`";
        let template = UrlTemplate::parse(text).map_err(|error| split_help(error, HELP))?;
        let url = template.expand(&PlaceholderValues::new()).into_iter().next();
        url.ok_or_else(|| ("`from` can't have placeholders".into(), HELP.into()))
    })
});

const LIST_QUERY: Reader<JsonQuery> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a JSONPath such as `$.items[*].id`", diagnostics, |text| {
        JsonQuery::parse(text).map_err(|error| split_help(error, "write `$.items[*].id`"))
    })
});

/// The fields that carry scheme and host: `https://api.example.com`, or the host alone for http. Empty if the text is.
const BASE_URL: Reader<HeaderMap> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a host such as `https://api.example.com`", diagnostics, |text| {
        if text.is_empty() {
            return Ok(HeaderMap::new());
        }
        let (scheme, host) = text.trim_end_matches('/').split_once("://").unwrap_or(("http", text));
        let host = url::authority(host)?;
        let mut headers = HeaderMap::new();
        match scheme {
            "http" => {}
            "https" => _ = headers.insert("x-forwarded-proto", HeaderValue::from_static("https")),
            _ => return Err((format!("`{scheme}` is not an HTTP scheme"), "write `http` or `https`".into())),
        }
        let value = HeaderValue::from_str(&host)
            .map_err(|_| (format!("`{host}` is not valid in a field"), "write `host:port`".to_owned()))?;
        headers.insert(HOST, value);
        Ok(headers)
    })
});

const HEADERS: Reader<HeaderMap> = Reader::new(Kind::Names(&Kind::Text), |node, diagnostics| {
    let field_name = |text: &str| -> Result<HeaderName, FieldError> {
        match parse_header_name(text)? {
            HOST => Err(("`Host` has a key of its own".into(), "write `host: api.example.com`".into())),
            name => Ok(name),
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in entries(node, "headers: {Accept-Encoding: gzip}", diagnostics)? {
        let name = parsed(name, "a field name", diagnostics, field_name);
        let value = parsed(value, "a field value", diagnostics, |text| {
            HeaderValue::from_str(text)
                .map_err(|_| ("this is not valid in a field".into(), "use visible ASCII characters".into()))
        });
        if let (Some(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    Some(headers)
});

/// Reports placeholders without values, and requests whose responses could never be stored.
fn check_entry(
    entry: &WarmEntry,
    locations: &EntryLocations,
    context: Option<&WarmContext<'_>>,
    diagnostics: &Diagnostics,
) {
    if context.is_some() && !entry.headers.contains_key(HOST) {
        diagnostics.error(locations.entry, "there is no `Host` for these requests").help(
            "responses are stored by scheme and host: write `background: {host: https://api.example.com}`",
        );
    }
    for (template, location) in entry.get.iter().zip(&locations.get) {
        let has_values = |name: &str| match name {
            "" => entry.list.is_some(),
            name => entry.values.contains_key(name),
        };
        if let Some(name) = template.placeholders().find(|name| !has_values(name)) {
            let help = match name {
                "" => "`{}` is filled by `from: /api/items` and `each: $.items[*].id`".to_owned(),
                name => format!("add `values: {{{name}: [1, 2]}}`"),
            };
            diagnostics.error(*location, format!("`{{{name}}}` has no values")).help(help);
            return;
        }
        let Some(context) = context else { continue };
        let names = entry.values.keys().cloned().chain([String::new()]);
        let samples: PlaceholderValues = names.map(|name| (name, vec!["x".to_owned()])).collect();
        let Some(url) = template.expand(&samples).into_iter().next() else { continue };
        let route = context.routes.find(url.path());
        if let Some((wrong, help)) = never_stored_reason(route.map(AsRef::as_ref), &entry.headers) {
            diagnostics.error(*location, format!("`{}` {wrong}", template.as_str())).help(help);
        }
    }
}

fn never_stored_reason(route: Option<&Route>, headers: &HeaderMap) -> Option<(String, &'static str)> {
    let Some(route) = route else {
        return Some(("matches no route".into(), "add a route with a `ttl` for it"));
    };
    let path = route.path.as_str();
    if !route.caches() {
        return Some((format!("matches `{path}`, which stores nothing"), "give that route a `ttl`"));
    }
    if route.mode == RouteMode::Observe {
        return Some((format!("matches `{path}`, which only observes"), "set `mode: on`"));
    }
    let per = route.per.as_ref()?;
    if per.is_verified() {
        return None;
    }
    let has_value = |credential| credentials::credential_value(credential, headers).is_some();
    (!per.alternatives().iter().any(has_value)).then(|| {
        let why = format!("matches `{path}`, which stores one response for each caller");
        (why, "add `headers:` with the credential of the caller to warm it for")
    })
}

impl WarmEntry {
    /// The time between two runs; zero for an entry that runs only at the start.
    pub fn retention(&self) -> Duration {
        self.every.unwrap_or_default()
    }
}
