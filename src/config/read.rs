//! From a text to a [`Config`]: the order of the stages, and nothing else.

use std::path::Path;
use std::sync::Arc;

use super::fields::Fields;
use super::keys;
use super::problem::{ConfigErrors, Place, Problem, Problems};
use super::scalars::{header_name, list};
use super::snippet::render;
use super::tree::{self, Node, Value};
use super::variables::{self, Environment};
use super::{
    Config, Listen, UpstreamAddress, UpstreamSettings, events, lint, listen, log, routes, sections, warm,
};
use crate::policy::routes::Routes;

/// What flags and `LARDER_*` variables say; each takes the place of what the file says.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub listen: Vec<String>,
    pub upstream: Option<String>,
    pub admin_listen: Option<String>,
    pub log_format: Option<String>,
    pub log_level: Option<String>,
}

impl Config {
    /// Reads a file, with the variables of this process.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        Self::load_with(path, &Overrides::default())
    }

    pub fn load_with(path: impl AsRef<Path>, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let (text, source) = file(path.as_ref())?;
        Self::parse(&text, &source, &|name| std::env::var(name).ok(), overrides)
    }

    /// `source` is the file's name in errors.
    pub fn parse(
        text: &str,
        source: &str,
        environment: Environment<'_>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigErrors> {
        let (mut config, warnings) = read((text, source), environment, overrides, Care::Check)?;
        config.warnings = warnings.iter().map(|warning| render("warning", warning, source, text)).collect();
        Ok(config)
    }

    /// As [`Config::lint`], of a file.
    pub fn lint_file(path: impl AsRef<Path>) -> Result<Vec<Finding>, ConfigErrors> {
        let (text, source) = file(path.as_ref())?;
        Self::lint(&text, &source, &|name| std::env::var(name).ok(), &Overrides::default())
    }

    /// All that `larder check` warns of, and all that bites whoever uses a file without being wrong.
    pub fn lint(
        text: &str,
        source: &str,
        environment: Environment<'_>,
        overrides: &Overrides,
    ) -> Result<Vec<Finding>, ConfigErrors> {
        let (_, warnings) = read((text, source), environment, overrides, Care::Lint)?;
        let finding = |warning: &Problem| Finding {
            name: warning.name,
            text: render(&format!("warning[{}]", warning.name), warning, source, text),
        };
        Ok(warnings.iter().map(finding).collect())
    }
}

/// The text of a file, and its name in errors.
pub(super) fn file(path: &Path) -> Result<(String, String), ConfigErrors> {
    let source = path.display().to_string();
    let unreadable = |message: String, help: &str| {
        let problems = Problems::default();
        problems.error(Place::Start, message).help(help);
        ConfigErrors::new(&source, "", problems.into_parts().0)
    };
    let bytes = std::fs::read(path).map_err(|error| {
        unreadable(format!("the file can't be read: {error}"), "name another one with `--config FILE`")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable("the file is not text in UTF-8".into(), "save it in UTF-8"))?;
    Ok((text, source))
}

/// What `larder lint` has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// By which it can be allowed.
    pub name: &'static str,
    /// With its place and the fix, ready to be shown.
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    Check,
    Lint,
}

fn read(
    (text, source): (&str, &str),
    environment: Environment<'_>,
    overrides: &Overrides,
    care: Care,
) -> Result<(Config, Vec<Problem>), ConfigErrors> {
    let problems = Problems::default();
    let config = tree::parse(text, &problems).and_then(|mut root| {
        overrides.apply(&mut root);
        variables::fill(&mut root, environment, &problems);
        config(&root, care, &problems)
    });
    let (errors, warnings) = problems.into_parts();
    match config {
        Some(config) if errors.is_empty() => Ok((config, warnings)),
        _ => Err(ConfigErrors::new(source, text, errors)),
    }
}

fn config(root: &Node, care: Care, problems: &Problems) -> Option<Config> {
    let fields = Fields::open(root, &keys::ROOT, problems)?;
    // All are read before the first that failed ends it.
    let listeners = fields.read("listen", listen::listeners);
    let upstream = fields.required("upstream", sections::upstream);
    let store = fields.read("store", sections::store);
    let admin = fields.read("admin", sections::admin);
    let purge = fields.read("purge", sections::purge);
    let trusted_proxies = fields.read("trusted_proxies", sections::trusted_proxies);
    let credentials = fields.read("credentials", |node, problems| {
        list(node, "[Authorization, Cookie, X-API-Key]", problems, header_name)
    });
    let request_id = fields.read("request_id", sections::request_id);
    let limits = fields.read("limits", sections::limits);
    let log = fields.read("log", log::log);
    let tracing = fields.read("tracing", log::tracing);
    let background = fields.read("background", warm::background);
    let is_strict = store.as_ref().is_some_and(|store| store.max_lag.is_zero());
    let has_admin = admin.as_ref().is_none_or(|admin| admin.listen.is_some());
    let events = events::read(fields.given("events"), store.as_ref(), has_admin, problems);
    let sources = events.as_deref();
    let routes = routes::read(fields.given("defaults"), fields.given("routes"), sources, is_strict, problems);
    if let (Some((listen, doors)), Some(trusted)) = (&listeners, &trusted_proxies) {
        let place = fields.given("listen").map_or(fields.place(), |node| node.place);
        listen::refuse_unnamed_balancers(listen, doors, !trusted.is_empty(), place, problems);
    }
    if let (Some((listen, _)), Some(admin)) = (&listeners, &admin) {
        refuse_same_addresses(listen, admin.listen.as_ref(), upstream.as_ref(), &fields, problems);
    }
    let warmed = fields.given("warm");
    if credentials.is_none() || routes.is_none() || listeners.is_none() || background.is_none() {
        // All errors come at once.
        warm::warm(warmed, None, problems);
    }
    let credentials = credentials?;
    if let (true, Some(given)) = (credentials.is_empty(), fields.given("credentials")) {
        problems
            .warning(given.place, "no field identifies callers: what one of them gets is given to all")
            .help("name at least `Authorization` and `Cookie`");
    }
    let routes = routes?;
    if care == Care::Lint {
        lint::give(&routes, sources.unwrap_or_default(), &credentials, problems);
    }
    let routes = routes.into_iter().map(|routes::Checked { mut route, .. }| {
        route.fingerprint = route.fingerprint.with_credentials(&credentials);
        Arc::new(route)
    });
    let routes: Vec<_> = routes.collect();
    let (listen, doors) = listeners?;
    let mut background = background?;
    if background.host.is_empty() {
        background.host = warm::known_as(&listen);
    }
    let known = warm::Known { routes: &Routes::new(&routes), background: &background };
    let warm = warm::warm(warmed, Some(&known), problems)?;
    let events = events?.into_iter().map(|checked| checked.source).collect();
    Some(Config {
        listen,
        doors,
        upstream: upstream?,
        store: store?,
        admin: admin?,
        purge: purge?,
        trusted_proxies: trusted_proxies?,
        credentials,
        request_id: request_id?,
        limits: limits?,
        log: log?,
        tracing: tracing?,
        routes,
        warm,
        background,
        events,
        warnings: Vec::new(),
    })
}

fn refuse_same_addresses(
    listen: &[Listen],
    admin: Option<&Listen>,
    upstream: Option<&UpstreamSettings>,
    fields: &Fields<'_>,
    problems: &Problems,
) {
    let place = |name: &str| fields.given(name).map_or(fields.place(), |node| node.place);
    // Port 0 is another one each time.
    let fixed = |address: &Listen| !matches!(address, Listen::Tcp(address) if address.port() == 0);
    let twice = |(at, address): (usize, &Listen)| fixed(address) && listen[..at].contains(address);
    if listen.iter().enumerate().any(twice) {
        problems.error(place("listen"), "the same address stands twice").help("keep one of them");
    }
    if admin.is_some_and(|admin| fixed(admin) && listen.contains(admin)) {
        problems
            .error(place("admin"), "the admin listener has the same address as `listen`")
            .help("give it a port of its own, such as `127.0.0.1:9090`");
    }
    let is_upstream = |address: &Listen| match (address, upstream.map(|upstream| &upstream.address)) {
        (Listen::Tcp(one), Some(UpstreamAddress::Http { authority })) => one.to_string() == *authority,
        (Listen::Unix(one), Some(UpstreamAddress::Unix(other))) => one == other,
        _ => false,
    };
    if listen.iter().any(is_upstream) {
        problems
            .error(place("upstream"), "the upstream is larder itself: requests would go round in circles")
            .help("write the address at which the API listens");
    }
}

impl Overrides {
    /// Puts the values into the tree, as if they stood in the file.
    fn apply(&self, root: &mut Node) {
        let scalar = |text: &str, name| Node::scalar(text, Place::Override(name));
        if !self.listen.is_empty() {
            let place = Place::Override("--listen (LARDER_LISTEN)");
            let items = self.listen.iter().map(|text| Node::scalar(text, place)).collect();
            set(root, &["listen"], Node { value: Value::List(items), place });
        }
        if let Some(text) = &self.upstream {
            let url = scalar(text, "--upstream (LARDER_UPSTREAM)");
            let keeps_settings =
                entry(root, "upstream").is_some_and(|node| matches!(node.value, Value::Mapping(_)));
            set(root, if keeps_settings { &["upstream", "url"] } else { &["upstream"] }, url);
        }
        // `off` is a word for the whole block, as it is in the file.
        let is_off = self.admin_listen.as_ref().is_some_and(|text| text.eq_ignore_ascii_case("off"));
        let admin: &[&str] = if is_off { &["admin"] } else { &["admin", "listen"] };
        for (text, name, path) in [
            (&self.admin_listen, "--admin (LARDER_ADMIN)", admin),
            (&self.log_format, "--log-format (LARDER_LOG_FORMAT)", &["log", "format"]),
            (&self.log_level, "--log-level (LARDER_LOG)", &["log", "level"]),
        ] {
            if let Some(text) = text {
                set(root, path, scalar(text, name));
            }
        }
    }
}

/// Sets the value under `path`. A section that is missing or `off` is made; one that is wrong stays an error.
fn set(node: &mut Node, path: &[&str], value: Node) {
    let [name, rest @ ..] = path else {
        *node = value;
        return;
    };
    if matches!(node.value, Value::Null) || node.text().is_some_and(sections::is_off) {
        node.value = Value::Mapping(Vec::new());
    }
    let Value::Mapping(entries) = &mut node.value else { return };
    match entries.iter_mut().find(|(key, _)| key.text() == Some(name)) {
        Some((_, known)) => set(known, rest, value),
        None => {
            let place = value.place;
            let mut new = Node { value: Value::Null, place };
            set(&mut new, rest, value);
            entries.push((Node::scalar(*name, place), new));
        }
    }
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Mapping(entries) => {
            entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
        }
        _ => None,
    }
}
