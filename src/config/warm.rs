//! `warm` and `background`: the requests that larder sends by itself, and their share of the upstream.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::diagnostics::{Diagnostics, Location};
use super::fields::Fields;
use super::keys::Reader;
use super::scalars::{
    BOOLEAN, COUNT, PERCENT, TEXT, entries, list, one_or_many, parse_header_name, parsed, split_help, words,
};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::units::FieldError;
use super::upstream::OFF_OR_DURATION;
use super::yaml::{Value, YamlNode};
use super::{Listen, ListenerSettings, PageWalk, WarmEntry, WarmList, url};
use crate::policy::Route;
use crate::policy::credential::whole_value;
use crate::policy::forwarding_fields::X_FORWARDED_PROTO;
use crate::policy::json_query::JsonQuery;
use crate::policy::route::RouteMode;
use crate::policy::routes::Routes;
use crate::policy::url_template::{PAGE_NUMBER, PlaceholderValues, UrlTemplate};

settings! {
    /// How larder sends the requests that no client has sent.
    pub(crate) struct BackgroundSettings = "background" {
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
        get: Vec<(UrlTemplate, Location)> = TEMPLATES, optional;
        /// The values of each `{name}`: `{id: [1, 2, 3]}`.
        values: PlaceholderValues = VALUES, optional;
        /// The path of a JSON response that lists what to request.
        from: UrlTemplate = LIST_PAGE, optional;
        /// The values in it that fill `{}`: `$.items[*].id`.
        each: JsonQuery = LIST_QUERY, optional;
        /// `last_page`: `from` is the first of many pages, and each is requested, too. A page leads to the next by
        /// `Link: …; rel=next`, or by the field in `next`; with `{page}` in `from` the pages are 1, 2, 3 … until one has
        /// nothing for `each`. At most 1,000 pages.
        until: () = UNTIL, optional;
        /// The field of a page that has the URL of the next one: `$.links.next`.
        next: JsonQuery = LIST_QUERY, optional;
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

/// The scheme and host if `background.host` is absent: those by which clients on this machine ask.
pub(super) fn default_host(listen: &[Listen], settings: &[ListenerSettings]) -> HeaderMap {
    let Some(Listen::Tcp(address)) = listen.first() else { return HeaderMap::new() };
    if address.ip().is_unspecified() {
        return HeaderMap::new();
    }
    let is_tls = settings.first().is_some_and(|settings| !settings.tls.is_empty());
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(&address.to_string()) {
        headers.insert(HOST, host);
    }
    if is_tls {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
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
    from: Location,
}

fn entry(
    node: &YamlNode,
    context: Option<&WarmContext<'_>>,
    diagnostics: &Diagnostics,
) -> Option<(WarmEntry, EntryLocations)> {
    let fields = Fields::open(node, WarmFields::SECTION, diagnostics)?;
    let read = WarmFields::read(&fields)?;
    let (every, on_start) = (read.every?, read.on_start?);
    let pages = page_walk(&fields, (read.until?, read.next?), diagnostics)?;
    let list = warm_list(&fields, read.from?, read.each?, pages, diagnostics)?;
    let get = read.get?.unwrap_or_default();
    if get.is_empty() && list.as_ref().is_none_or(|list| list.pages.is_none()) {
        fields.report_missing("get");
        return None;
    }
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
    let (get, get_locations): (Vec<_>, Vec<_>) = get.into_iter().unzip();
    let first = get.first().or(list.as_ref().map(|list| &list.url));
    let name = read.name?.unwrap_or_else(|| first.map_or("", UrlTemplate::as_str).to_owned());
    let values = read.values?.unwrap_or_default();
    let from = fields.value_location("from");
    let locations = EntryLocations { entry: node.location, get: get_locations, from };
    Some((WarmEntry { name, get, values, list, every, on_start, headers }, locations))
}

/// Reads `until` and `next`. Returns `Some(None)` if both are absent.
fn page_walk(
    fields: &Fields<'_>,
    read: (Option<()>, Option<JsonQuery>),
    diagnostics: &Diagnostics,
) -> Option<Option<PageWalk>> {
    match read {
        (None, None) => Some(None),
        (Some(()), next) => Some(Some(PageWalk { next })),
        (None, Some(_)) => {
            diagnostics
                .error(fields.value_location("next"), "`next` has no effect without `until`")
                .help("add `until: last_page`");
            None
        }
    }
}

/// Combines `from` and `each`, which belong together. Returns `Some(None)` if both are absent.
fn warm_list(
    fields: &Fields<'_>,
    from: Option<UrlTemplate>,
    each: Option<JsonQuery>,
    pages: Option<PageWalk>,
    diagnostics: &Diagnostics,
) -> Option<Option<WarmList>> {
    let (key, message, help) = match (from, each) {
        (Some(url), Some(query)) if url.placeholders().next().is_none() || pages.is_some() => {
            return Some(Some(WarmList { url, query, pages }));
        }
        (Some(_), Some(_)) => {
            ("from", "`{page}` needs `until`", "add `until: last_page`, or write the number of one page")
        }
        (None, None) if pages.is_none() => return Some(None),
        (None, None) => (
            "until",
            "`until` has no `from`",
            "add `from: /api/items` and `each: $.items[*].id`: the first page, and what its items are",
        ),
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

const UNTIL: Reader<()> = words!("last_page" => ());

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

pub(super) const LIST_URL: Reader<Uri> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a path such as `/api/files?recent=1`", diagnostics, |text| {
        const HELP: &str = "write a path such as `/api/files?recent=1`";
        let template = UrlTemplate::parse(text).map_err(|error| split_help(error, HELP))?;
        let url = template.expand(&PlaceholderValues::new()).into_iter().next();
        url.ok_or_else(|| ("`from` can't have placeholders".into(), HELP.into()))
    })
});

const LIST_PAGE: Reader<UrlTemplate> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a path such as `/api/files?recent=1`", diagnostics, |text| {
        let template = UrlTemplate::parse(text)
            .map_err(|error| split_help(error, "write a path such as `/api/files?recent=1`"))?;
        let other = template.placeholders().find(|name| *name != PAGE_NUMBER).map(str::to_owned);
        match other {
            None => Ok(template),
            Some(name) => Err((
                format!("`from` can't have `{{{name}}}`"),
                "write a path such as `/api/files?page={page}`".into(),
            )),
        }
    })
});

pub(super) const LIST_QUERY: Reader<JsonQuery> = Reader::new(Kind::Text, |node, diagnostics| {
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
            "https" => _ = headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https")),
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
    // Where `get` is given, the list itself need not be cached.
    let page = entry.list.as_ref().filter(|_| entry.get.is_empty()).map(|list| (&list.url, &locations.from));
    for (template, location) in entry.get.iter().zip(&locations.get).chain(page) {
        let has_values = |name: &str| match name {
            "" => entry.list.is_some(),
            PAGE_NUMBER if page.is_some_and(|(from, _)| from == template) => true,
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
        // The values of a list, and its pages, are not known yet.
        let mut values = entry.values.clone();
        for unknown in ["", PAGE_NUMBER] {
            values.entry(unknown.to_owned()).or_insert_with(|| vec!["x".to_owned()]);
        }
        let refused = template.expand(&values).into_iter().find_map(|url| {
            let route = context.routes.find(url.path());
            Some((never_stored_reason(route.map(AsRef::as_ref), &entry.headers)?, url))
        });
        if let Some(((wrong, help), url)) = refused {
            let has_values = template.placeholders().any(|name| entry.values.contains_key(name));
            let with_values = if has_values { format!(" with these values: `{url}`") } else { String::new() };
            let wrong = format!("`{}` {wrong}{with_values}", template.as_str());
            diagnostics.error(*location, wrong).help(help);
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
    let has_value = |credential| whole_value(credential, headers).is_some();
    (!per.alternatives().iter().any(has_value)).then(|| {
        let why = format!("matches `{path}`, which stores one response for each caller");
        (why, "add `headers:` with the credential of the caller to warm it for")
    })
}

impl WarmEntry {
    /// The time between two runs; zero for an entry that runs only at the start.
    pub(crate) fn retention(&self) -> Duration {
        self.every.unwrap_or_default()
    }
}
