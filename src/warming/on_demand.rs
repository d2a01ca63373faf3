//! `POST /warm` and `POST /refresh`: runs started by an operator. An invalid request is refused as a whole.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{SharedTally, Tally, Warming};
use crate::config::{PageWalk, WarmEntry, WarmList};
use crate::policy::Route;
use crate::policy::json_query::JsonQuery;
use crate::policy::path::{PathTemplate, Segment};
use crate::policy::url_template::{PAGE_NUMBER, PlaceholderValues, UrlTemplate};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WarmRequest {
    /// The name of an entry of `warm`.
    name: Option<String>,
    /// A route's name, or its path as written in the configuration.
    route: Option<String>,
    /// Values of the path's parameters.
    values: BTreeMap<String, Vec<Value>>,
    urls: Vec<String>,
    headers: BTreeMap<String, String>,
    /// These four are those of an entry of `warm`.
    from: Option<String>,
    each: Option<String>,
    until: Option<String>,
    next: Option<String>,
}

/// A result whose error is a message and its fix.
pub(crate) type WarmResult<T> = Result<T, (String, String)>;

/// A run that an operator has started. It goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    progress: SharedTally,
    task: JoinHandle<()>,
}

impl ActiveRun {
    pub(super) fn start(progress: SharedTally, run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { progress, task: tokio::spawn(run) }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.progress.lock().clone()
    }

    /// Waits for the end of the run, but not longer than this; returns whether it has ended.
    pub(crate) async fn wait(&mut self, within: Duration) -> bool {
        self.task.is_finished() || timeout(within, &mut self.task).await.is_ok()
    }
}

impl Warming {
    pub(crate) fn warm_now(self: &Arc<Self>, request: WarmRequest) -> WarmResult<ActiveRun> {
        if let Some(name) = &request.name {
            return self.run_named(name, &request);
        }
        let headers = self.with_configured_headers(parse_headers(&request.headers)?);
        if !headers.contains_key(HOST) {
            let fix = "add `\"headers\": {\"Host\": \"api.example.com\"}`, or `background: {host: …}` to proxy.yaml";
            return Err(("no Host for the warm requests".into(), fix.into()));
        }
        let routes = self.live.load().config.routes.clone();
        let list = request.read_list()?;
        let (get, values) = request.resolve_templates(&routes, list.as_ref())?;
        let entry = WarmEntry {
            name: "on demand".to_owned(),
            get,
            values,
            list,
            every: None,
            on_start: false,
            headers,
        };
        let (warming, progress) = (self.clone(), SharedTally::default());
        Ok(ActiveRun::start(progress.clone(), async move { warming.send_entry(&entry, progress).await }))
    }

    /// Starts an entry of the configuration, unless it is running.
    fn run_named(self: &Arc<Self>, name: &str, request: &WarmRequest) -> WarmResult<ActiveRun> {
        if !request.has_only_name() {
            return Err(("`name` stands alone".into(), "remove the other fields, or `name`".into()));
        }
        let proxy = self.live.load_full();
        let Some(entry) = proxy.config.warm.iter().find(|entry| entry.name == name) else {
            let known: Vec<&str> = proxy.config.warm.iter().map(|entry| entry.name.as_str()).collect();
            let known = if known.is_empty() { "it has no entries".to_owned() } else { known.join(", ") };
            return Err((format!("`warm` has no entry {name:?}"), format!("use a name in `warm`: {known}")));
        };
        let progress = SharedTally::default();
        if !self.start_run(name, &progress, proxy.clock.now()) {
            let fix = "wait for its end; GET /warm shows the progress";
            return Err((format!("the entry {name:?} is running"), fix.into()));
        }
        let run = self.clone().run_entry_now(Arc::new(entry.clone()), progress.clone());
        Ok(ActiveRun::start(progress, run))
    }
}

impl WarmRequest {
    /// Whether all fields but `name` are absent.
    fn has_only_name(&self) -> bool {
        let texts = [&self.route, &self.from, &self.each, &self.until, &self.next];
        texts.iter().all(|text| text.is_none())
            && self.values.is_empty()
            && self.urls.is_empty()
            && self.headers.is_empty()
    }

    /// The list of `from`, `each`, `until` and `next`.
    fn read_list(&self) -> WarmResult<Option<WarmList>> {
        const EXAMPLE: &str = r#"send {"from": "/api/items?page={page}", "each": "$.items[*].id", "until": "last_page", "urls": ["/api/items/{}"]}"#;
        let query = |text: &String| JsonQuery::parse(text).map_err(|error| (error, EXAMPLE.to_owned()));
        let pages = match self.until.as_deref() {
            Some("last_page") => Some(PageWalk { next: self.next.as_ref().map(query).transpose()? }),
            None if self.next.is_none() => None,
            _ => return Err(("unknown value of `until`".into(), EXAMPLE.into())),
        };
        let (url, query) = match (&self.from, &self.each) {
            (Some(from), Some(each)) => (parse_template(from)?, query(each)?),
            (None, None) if pages.is_none() => return Ok(None),
            _ => return Err(("`from` and `each` belong together".into(), EXAMPLE.into())),
        };
        let is_other = |name: &&str| *name != PAGE_NUMBER || pages.is_none();
        let other = url.placeholders().find(is_other).map(str::to_owned);
        match other {
            None => Ok(Some(WarmList { url, query, pages })),
            Some(name) => Err((format!("`from` can't have `{{{name}}}`"), EXAMPLE.into())),
        }
    }

    /// The URLs to fetch, and the values of their placeholders; those of `{}` are in the list.
    fn resolve_templates(
        &self,
        routes: &[Arc<Route>],
        list: Option<&WarmList>,
    ) -> WarmResult<(Vec<UrlTemplate>, PlaceholderValues)> {
        let mut templates =
            self.urls.iter().map(|url| parse_template(url)).collect::<WarmResult<Vec<_>>>()?;
        let paths = match &self.route {
            Some(name) => self.find_paths(name, routes, list.is_some())?,
            None => Vec::new(),
        };
        for mut path in paths {
            if let Some((before, after)) = path.split_once('{').filter(|_| list.is_some()) {
                let after = after.split_once('}').map_or("", |(_, after)| after);
                path = format!("{before}{{}}{after}");
            }
            templates.push(parse_template(&path)?);
        }
        if templates.is_empty() && list.is_none_or(|list| list.pages.is_none()) {
            let fix = r#"send {"route": "/api/courses/{id}", "values": {"id": [1, 2]}} or {"urls": ["/api/courses"]}"#;
            return Err(("no route or URL is named".into(), fix.into()));
        }
        let values = self.values.iter().map(|(name, values)| Ok((name.clone(), value_texts(values)?)));
        let values: PlaceholderValues = values.collect::<WarmResult<_>>()?;
        let placeholders: Vec<&str> = templates.iter().flat_map(UrlTemplate::placeholders).collect();
        let has_values = |name: &str| values.contains_key(name) || name.is_empty() && list.is_some();
        if let Some(placeholder) = placeholders.iter().find(|placeholder| !has_values(placeholder)) {
            return Err((
                format!("`{{{placeholder}}}` has no values"),
                format!("add \"values\": {{\"{placeholder}\": [1, 2]}}"),
            ));
        }
        if let Some(name) = values.keys().find(|name| !placeholders.contains(&name.as_str())) {
            return Err((format!("no URL has a `{{{name}}}`"), "remove shared values".into()));
        }
        Ok((templates, values))
    }

    /// Finds the paths of the routes with this name or path, as written with alternatives, whose parameters have values
    /// here; an only parameter may have those of a list.
    fn find_paths(&self, name: &str, routes: &[Arc<Route>], has_list: bool) -> WarmResult<Vec<String>> {
        let has_these_values = |route: &&Arc<Route>| {
            let parameters = route.path.segments().iter().filter_map(Segment::parameter);
            let parameters: Vec<_> = parameters.collect();
            let has_values = match has_list {
                true => parameters.len() == 1 && self.values.is_empty(),
                false => parameters == self.values.keys().map(String::as_str).collect::<Vec<_>>(),
            };
            route.caches() && has_values
        };
        let written = PathTemplate::parse_alternatives(name).unwrap_or_default();
        let is_written = |route: &&Arc<Route>| {
            written.iter().any(|path| path.as_str() == route.path.as_str()) || *route.name == *name
        };
        let mut found: Vec<_> = routes.iter().filter(is_written).filter(has_these_values).collect();
        if found.is_empty() {
            // The error names the missing parameters of one route.
            found.extend(routes.iter().find(|route| route.path.as_str() == name));
        }
        if found.is_empty() {
            let error = format!("no caching route {name:?} has exactly these parameters");
            return Err((error, "use the route's path or name as in proxy.yaml".into()));
        }
        // `{*rest}` is a single placeholder here; a slash in its value stays one.
        Ok(found.iter().map(|route| route.path.as_str().replace("{*", "{")).collect())
    }
}

fn parse_template(text: &str) -> WarmResult<UrlTemplate> {
    UrlTemplate::parse(text).map_err(|error| match error.split_once("; ") {
        Some((error, fix)) => (error.to_owned(), fix.to_owned()),
        None => (error, "write a path such as /api/courses".into()),
    })
}

fn parse_headers(written: &BTreeMap<String, String>) -> WarmResult<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let field = HeaderName::try_from(name).ok().zip(HeaderValue::from_str(value).ok());
        let error = || {
            (format!("{name:?} is not a valid header field"), "use a valid field name and value".to_owned())
        };
        let (name, value) = field.ok_or_else(error)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn value_texts(values: &[Value]) -> WarmResult<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err((format!("unexpected value {other}"), "use strings or numbers".to_owned())),
    };
    values.iter().map(text).collect()
}
