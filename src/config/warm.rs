//! `warm` and `background`: what larder asks for itself, and how much of the upstream it may use for that.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::fields::Fields;
use super::keys;
use super::problem::{Place, Problems};
use super::scalars::{
    boolean, count, list, message_and_help, parse_header_name, parsed, positive_duration, text,
};
use super::sections::is_off;
use super::tree::{Node, Value};
use super::units::Wrong;
use super::{BackgroundSettings, Listen, WarmEntry, WarmList, url};
use crate::policy::Route;
use crate::policy::credentials;
use crate::policy::json_query::JsonQuery;
use crate::policy::route::Mode;
use crate::policy::routes::Routes;
use crate::policy::url_template::{UrlTemplate, Values};

pub fn background(node: &Node, problems: &Problems) -> Option<BackgroundSettings> {
    let fields = Fields::open(node, &keys::BACKGROUND, problems)?;
    let rate = fields.read("rate", count);
    let concurrency = fields.read("concurrency", count);
    let share = fields.read("connections", percent);
    let host = fields.given("host").map(|node| host(node, problems));
    let headers = fields.read("headers", headers);
    let host = match host {
        Some(host) => Some(host?),
        None => None,
    };
    Some(BackgroundSettings {
        rate: rate?,
        concurrency: concurrency?,
        share: share?,
        host: host.unwrap_or_default(),
        headers: headers?,
    })
}

/// Where no `host` is given: what clients on this machine send.
pub fn known_as(listen: &[Listen]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(Listen::Tcp(address)) = listen.first()
        && !address.ip().is_unspecified()
        && let Ok(value) = HeaderValue::from_str(&address.to_string())
    {
        headers.insert(HOST, value);
    }
    headers
}

/// What entries are judged by, beside their own fields.
pub struct Known<'k> {
    pub routes: &'k Routes,
    pub background: &'k BackgroundSettings,
}

/// `None` once something is wrong with an entry. `known`: where all of that is right; else only what an entry says itself
/// is judged.
pub fn warm(node: Option<&Node>, known: Option<&Known<'_>>, problems: &Problems) -> Option<Vec<WarmEntry>> {
    let Some(node) = node else { return Some(Vec::new()) };
    if matches!(node.value, Value::Null) {
        return Some(Vec::new());
    }
    let before = problems.count();
    let entries = list(node, "[{get: /api/courses, every: 5m}]", problems, |node, problems| {
        let (entry, places) = entry(node, known, problems)?;
        check(&entry, &places, known, problems);
        Some(entry)
    })?;
    (problems.count() == before).then_some(entries)
}

/// Where the parts of an entry stand.
struct Places {
    get: Vec<Place>,
    of_entry: Place,
}

fn entry(node: &Node, known: Option<&Known<'_>>, problems: &Problems) -> Option<(WarmEntry, Places)> {
    let fields = Fields::open(node, &keys::WARM, problems)?;
    let gets = fields.required("get", templates)?;
    let values = fields.optional("values", values).unwrap_or_default();
    let from = fields.optional("from", source);
    let each = fields.optional("each", each);
    let every = fields.read("every", every)?;
    let on_start = fields.read("on_start", boolean)?;
    let host = fields.optional("host", host).filter(|host| !host.is_empty());
    let of_all = |field: fn(&BackgroundSettings) -> &HeaderMap| {
        known.map(|known| field(known.background).clone()).unwrap_or_default()
    };
    let host = host.unwrap_or_else(|| of_all(|background| &background.host));
    let own = fields.optional("headers", headers).unwrap_or_default();
    let name = fields.optional("name", |node, problems| text(node, "a name", problems).map(str::to_owned));
    let (templates, places): (Vec<_>, Vec<_>) = gets.into_iter().unzip();
    let list = match (from, each, fields.given("from"), fields.given("each")) {
        (Some(url), Some(query), ..) => Some(WarmList { url, query }),
        (_, _, None, None) => None,
        (_, _, Some(given), None) => {
            let help = "add `each: $.items[*].id`: which values of that answer fill the `{}` of `get`";
            problems.error(given.place, "`from` has no `each`").help(help);
            return None;
        }
        (_, _, None, Some(given)) => {
            let help = "add `from: /api/items`: the URL of the answer that it is read from";
            problems.error(given.place, "`each` has no `from`").help(help);
            return None;
        }
        _ => return None,
    };
    if every.is_none() && !on_start && fields.given("every").is_none() {
        problems
            .error(fields.place(), "nothing ever starts this")
            .help("add `every: 5m`, or leave out `on_start`");
    }
    let mut all = of_all(|background| &background.headers);
    all.extend(host);
    own.iter().for_each(|(name, value)| drop(all.insert(name, value.clone())));
    let first = templates.first().map(|template| template.as_str().to_owned()).unwrap_or_default();
    let places = Places { get: places, of_entry: fields.place() };
    let name = name.unwrap_or(first);
    Some((WarmEntry { name, get: templates, values, list, every, on_start, headers: all }, places))
}

/// `Some(None)`: `off`.
fn every(node: &Node, problems: &Problems) -> Option<Option<Duration>> {
    match node.text() {
        Some(word) if is_off(word) => Some(None),
        _ => positive_duration(node, problems).map(Some),
    }
}

/// One or a list, each with its place.
fn templates(node: &Node, problems: &Problems) -> Option<Vec<(UrlTemplate, Place)>> {
    let one = |node: &Node, problems: &Problems| {
        let read = parsed(node, "a path such as `/api/courses?page=1`", problems, |text| {
            UrlTemplate::parse(text)
                .map_err(|wrong| message_and_help(wrong, "write a path such as `/api/courses/{id}`"))
        });
        read.map(|template| (template, node.place))
    };
    match &node.value {
        Value::List(items) if items.is_empty() => {
            problems.error(node.place, "`get` names nothing").help("write `get: [/api/courses]`");
            None
        }
        Value::List(_) => list(node, "[/api/courses, /api/courses?page=2]", problems, one),
        _ => one(node, problems).map(|template| vec![template]),
    }
}

fn values(node: &Node, problems: &Problems) -> Option<Values> {
    let Value::Mapping(entries) = &node.value else {
        problems
            .error(node.place, format!("this must be a mapping, not {}", node.kind()))
            .help("write `values: {id: [1, 2, 3]}`");
        return None;
    };
    let mut values = BTreeMap::new();
    for (name, given) in entries {
        let texts = list(given, "[1, 2, 3]", problems, |node, problems| {
            text(node, "a value", problems).map(str::to_owned)
        });
        if let (Some(name), Some(texts)) = (name.text(), texts) {
            values.insert(name.to_owned(), texts);
        }
    }
    Some(values)
}

fn source(node: &Node, problems: &Problems) -> Option<Uri> {
    parsed(node, "a path such as `/api/files?recent=1`", problems, |text| {
        const HELP: &str = "write a path such as `/api/files?recent=1`";
        let template = UrlTemplate::parse(text).map_err(|wrong| message_and_help(wrong, HELP))?;
        let url = template.urls(&Values::new()).into_iter().next();
        url.ok_or_else(|| ("`from` has no values to be filled with".into(), HELP.into()))
    })
}

fn each(node: &Node, problems: &Problems) -> Option<JsonQuery> {
    parsed(node, "a JSONPath such as `$.items[*].id`", problems, |text| {
        JsonQuery::parse(text).map_err(|wrong| message_and_help(wrong, "write `$.items[*].id`"))
    })
}

/// `https://api.example.com`, or the host alone for http; empty: not given.
fn host(node: &Node, problems: &Problems) -> Option<HeaderMap> {
    parsed(node, "a host such as `https://api.example.com`", problems, |text| {
        if text.is_empty() {
            return Ok(HeaderMap::new());
        }
        let (scheme, host) = text.trim_end_matches('/').split_once("://").unwrap_or(("http", text));
        let host = url::authority(host)?;
        let mut headers = HeaderMap::new();
        match scheme {
            "http" => {}
            "https" => _ = headers.insert("x-forwarded-proto", HeaderValue::from_static("https")),
            _ => {
                return Err((
                    format!("`{scheme}` is not a scheme of HTTP"),
                    "write `http` or `https`".into(),
                ));
            }
        }
        let value = HeaderValue::from_str(&host)
            .map_err(|_| (format!("`{host}` can't stand in a field"), "write `host:port`".to_owned()))?;
        headers.insert(HOST, value);
        Ok(headers)
    })
}

fn headers(node: &Node, problems: &Problems) -> Option<HeaderMap> {
    let Value::Mapping(entries) = &node.value else {
        problems
            .error(node.place, format!("this must be a mapping, not {}", node.kind()))
            .help("write `headers: {Accept-Encoding: gzip}`");
        return None;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in entries {
        let field = |name: &str| -> Result<HeaderName, Wrong> {
            match parse_header_name(name)? {
                HOST => Err(("`Host` has a key of its own".into(), "write `host: api.example.com`".into())),
                name => Ok(name),
            }
        };
        let name = parsed(name, "the name of a request field", problems, field);
        let value = parsed(value, "the value of a field", problems, |text| {
            HeaderValue::from_str(text)
                .map_err(|_| ("this can't stand in a field".into(), "use visible ASCII characters".into()))
        });
        if let (Some(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    Some(headers)
}

fn percent(node: &Node, problems: &Problems) -> Option<usize> {
    parsed(node, "a share such as `25%`", problems, |text| {
        match text.strip_suffix('%').and_then(|digits| digits.parse().ok()) {
            Some(percent @ 1..=100) => Ok(percent),
            _ => Err((format!("`{text}` is not a share"), "write it from `1%` to `100%`".into())),
        }
    })
}

/// What could never be stored is asked for in vain.
fn check(entry: &WarmEntry, places: &Places, known: Option<&Known<'_>>, problems: &Problems) {
    if known.is_some() && !entry.headers.contains_key(HOST) {
        problems.error(places.of_entry, "nobody knows under which name clients ask for this").help(
            "responses are kept by scheme and host: write `background: {host: https://api.example.com}`",
        );
    }
    let named = |template: &UrlTemplate| template.places().map(str::to_owned).collect::<Vec<_>>();
    for (template, place) in entry.get.iter().zip(&places.get) {
        for name in named(template) {
            let is_known =
                if name.is_empty() { entry.list.is_some() } else { entry.values.contains_key(&name) };
            if !is_known {
                let help = match name.as_str() {
                    "" => "`{}` is filled by `from: /api/items` and `each: $.items[*].id`".to_owned(),
                    name => format!("add `values: {{{name}: [1, 2]}}`"),
                };
                problems.error(*place, format!("`{{{name}}}` has no values")).help(help);
                return;
            }
        }
        let Some(known) = known else { continue };
        let sample = |_: &String| vec!["x".to_owned()];
        let mut values: Values = entry.values.keys().map(|name| (name.clone(), sample(name))).collect();
        values.insert(String::new(), vec!["x".to_owned()]);
        let Some(url) = template.urls(&values).into_iter().next() else { continue };
        let route = known.routes.find(url.path());
        if let Some((wrong, help)) = why_never_stored(route.map(AsRef::as_ref), &entry.headers) {
            problems.error(*place, format!("`{}` {wrong}", template.as_str())).help(help);
        }
    }
}

fn why_never_stored(route: Option<&Route>, headers: &HeaderMap) -> Option<(String, &'static str)> {
    let Some(route) = route else {
        return Some(("falls under no route".into(), "add a route with a `ttl` for it"));
    };
    if !route.caches() {
        return Some((
            format!("falls under `{}`, which keeps nothing", route.path.as_str()),
            "give that route a `ttl`",
        ));
    }
    if route.mode == Mode::Observe {
        return Some((
            format!("falls under `{}`, which is only watched", route.path.as_str()),
            "set `mode: on`",
        ));
    }
    let per = route.per.as_ref()?;
    credentials::value_of(per, headers).is_none().then(|| {
        let why = format!("falls under `{}`, which is kept for each caller apart", route.path.as_str());
        (why, "add `headers:` with the credential of the one to warm it for")
    })
}

/// How long there is between two runs; for an entry that runs at the start alone, nothing is expected of later.
impl WarmEntry {
    pub fn keeps_for(&self) -> Duration {
        self.every.unwrap_or_default()
    }
}
