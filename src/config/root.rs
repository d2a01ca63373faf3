//! The top level of the file: its keys, and the checks that need several of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::admin::{ADMIN, AdminSettings, PURGE, PurgeSettings};
use super::admin_at::ADMIN_AT;
use super::audit::{AUDIT, AuditSettings};
use super::callers::{CALLER_ENTRIES, CallerMethod, CallerSettings};
use super::cdn::{CDN, CdnSettings};
use super::diagnostics::Diagnostics;
use super::events::{EVENTS_KIND, EventContext};
use super::fields::Fields;
use super::keys::{Reader, deferred};
use super::limits::Limits;
use super::listen::LISTENERS;
use super::log::{LogSettings, TRACING, TracingSettings};
use super::route_fields::{DEFAULTS_KIND, ROUTES_KIND};
use super::scalars::{HEADER_NAME, NETWORKS, is_off, list, words};
use super::section::Kind;
use super::settings::{Settings, mapping, settings};
use super::store::{STORE, StoreSettings};
use super::upstream::{UPSTREAM, UpstreamSettings};
use super::warm::{BackgroundSettings, WARM_KIND, WarmContext};
use super::yaml::{Value, YamlNode};
use super::{
    Config, Listen, ListenerSettings, OperationPaths, RequestIds, Underscores, UpstreamAddress, admin_at,
    ambiguous_names, encryption_checks, events, lint, listen, overlay_checks, routes, warm, warnings,
};
use crate::policy::credential::Credential;
use crate::policy::rate_limit::{RateKey, RateLimit};
use crate::policy::routes::Routes;
use crate::policy::template::Template;
use crate::policy::{CallerFields, Route, override_fields};

settings! {
    pub(super) partial struct RootFields = "the configuration" {
        /// The address for clients: an address and port, `unix:/path`, a mapping with `address` and more, or a list of
        /// them.
        listen: (Vec<Listen>, Vec<ListenerSettings>) = LISTENERS, default "127.0.0.1:8080";
        /// The API behind larder: its URL (`http://`, `https://`, `unix:/path`), a list of the URLs of its instances, or a
        /// mapping with `url` and more.
        upstream: UpstreamSettings = UPSTREAM, required;
        /// Where responses are stored.
        store: StoreSettings = STORE, default "{}";
        /// The caches in front of larder that purges are relayed to: `[{type: fastly, service: …, token: …}]`. Each route then
        /// lists its tags for them. See docs/cdn.md.
        cdn: Vec<CdnSettings> = CDN, default "[]";
        /// The listener for operators. /healthz, /readyz and /metrics are open to all; everything else needs the token, or
        /// loopback if there is none. `off`: no such listener.
        admin: AdminSettings = ADMIN, default "{}";
        /// Operations at paths of the API, for those whom the API lets operate it: see docs/operations.md. Without a path,
        /// operations are on the admin listener alone.
        admin_at: YamlNode = ADMIN_AT, default "{}";
        /// The sources of PURGE requests, and the purges by writes that match no route.
        purge: PurgeSettings = PURGE, default "{}";
        /// Compare a share of the hits with the API's present answer, and explain what differs: see docs/audit.md. `off`: no
        /// hit is compared.
        audit: Option<AuditSettings> = AUDIT, default "off";
        /// Networks whose `X-Forwarded-For`, `-Host`, `-Proto`, `-Port`, `-Prefix`, `Forwarded` and `X-Real-IP` are trusted.
        /// From others these fields are replaced.
        trusted_proxies: Vec<IpNet> = NETWORKS, default "[]";
        /// More fields of `trusted_proxies` that the API believes, and that each of them sets or removes: `[X-Original-URL,
        /// X-Script-Name]`. They are in the key. All others that may change a method, path or host are dropped, whoever sends
        /// them.
        trusted_fields: Vec<HeaderName> = TRUSTED_FIELDS, default "[]";
        /// Request fields that identify a caller. A request with one of them neither reads nor fills a shared response,
        /// unless its route has `per` or `shared`, or the response has `public` or `s-maxage` (RFC 9111 §3.5). Default:
        /// `Authorization`, `Cookie`, `X-API-Key`, and all fields whose names look like a credential's (`X-Auth-Token`,
        /// `Remote-User`, `X-Tenant-Id` …). A list stands for these fields and no others.
        credentials: CallerFields = CREDENTIALS, default "{}";
        /// Named ways to know who sends a request, for the routes' `callers`: `{app: {jwt: {…}}, session: {ask: {…}}}`. See
        /// docs/callers.md.
        callers: Vec<CallerSettings> = CALLER_ENTRIES, default "{}";
        /// Request fields with ambiguous names: with `_`, `.` or anything else but letters, digits and `-`, which CGI, WSGI and
        /// PHP servers read as the field with `-`. `drop`: they are not forwarded; `refuse`: the request is answered 400;
        /// `pass`: they are forwarded, and a GET with one is not cached.
        underscores: Underscores = UNDERSCORES, default "drop";
        /// `X-Request-Id`, the client's or a new one. `forward`: sent to the upstream; `respond`: sent to the client too;
        /// `off`: no special handling.
        request_id: RequestIds = REQUEST_ID, default "forward";
        /// Limits on client connections and their requests.
        limits: Limits = mapping(), default "{}";
        /// The log: its format, its level, and the access log.
        log: LogSettings = mapping(), default "{}";
        /// Export spans of requests, metrics and logs to an OpenTelemetry collector.
        tracing: Option<TracingSettings> = TRACING, default "off";
        /// Requests that larder sends before clients do: at the start, and periodically. See docs/warming.md.
        warm: YamlNode = deferred(WARM_KIND), default "[]";
        /// How larder sends the requests that no client has sent: to warm, to refresh, and after a purge.
        background: BackgroundSettings = mapping(), default "{}";
        /// Keys of a route, for the routes that do not set them.
        defaults: YamlNode = deferred(DEFAULTS_KIND), default "{}";
        /// The routes that are cached: for how long, and what purges them. Requests that match no route are forwarded uncached.
        routes: YamlNode = deferred(ROUTES_KIND), default "[]";
        /// Sources that announce changes made elsewhere; each announcement purges tags.
        events: YamlNode = deferred(EVENTS_KIND), default "[]";
    }
}

const UNDERSCORES: Reader<Underscores> = words!(
    "drop" => Underscores::Drop, "refuse" => Underscores::Refuse, "pass" => Underscores::Pass
);

settings! {
    struct CredentialFields = "credentials" {
        /// More request fields that identify a caller.
        also: Vec<HeaderName> = HEADER_NAMES, default "[]";
        /// Request fields that identify nobody, although their names look so.
        not: Vec<HeaderName> = HEADER_NAMES, default "[]";
    }
}

const HEADER_NAMES: Reader<Vec<HeaderName>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    list(node, "[Authorization, Cookie, X-API-Key]", diagnostics, |node, diagnostics| {
        HEADER_NAME.read(node, diagnostics)
    })
});

const TRUSTED_FIELDS: Reader<Vec<HeaderName>> =
    Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
        list(node, "[X-Original-URL, X-Script-Name]", diagnostics, |node, diagnostics| {
            let name = HEADER_NAME.read(node, diagnostics)?;
            if !override_fields::is_override(&name) {
                diagnostics
                    .error(node.location, format!("larder does not drop `{name}`, so it needs no trust"))
                    .help("name fields that change a method, path or host, such as `X-Original-URL`");
                return None;
            }
            Some(name)
        })
    });

const CREDENTIALS_KIND: Kind =
    Kind::OneOf(&[Kind::ListOf(&Kind::Text), Kind::Mapping(CredentialFields::SECTION)]);

const CREDENTIALS: Reader<CallerFields> = Reader::new(CREDENTIALS_KIND, |node, diagnostics| {
    if matches!(node.value, Value::Mapping(_)) {
        let CredentialFields { also, not } = CredentialFields::from_node(node, diagnostics)?;
        return Some(CallerFields::recognised(also, not));
    }
    let names = HEADER_NAMES.read(node, diagnostics)?;
    if names.is_empty() {
        diagnostics
            .warning(node.location, "no field identifies callers, so responses to one are served to all")
            .help("name at least `Authorization` and `Cookie`");
    }
    Some(CallerFields::only(names))
});

const REQUEST_ID: Reader<RequestIds> =
    Reader::new(Kind::Word(&["forward", "respond", "off"]), |node, diagnostics| {
        if node.text().is_some_and(is_off) {
            return Some(RequestIds::Off);
        }
        let words = words!(
            "forward" => RequestIds::Forward, "respond" => RequestIds::Respond, "off" => RequestIds::Off
        );
        words.read(node, diagnostics)
    });

/// The depth of the checks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Check,
    /// `Check`, and files of TLS must be usable.
    Start,
    /// `Check`, and the files that are named must be there.
    CheckFiles,
    Lint,
}

/// Reads the whole file. Every part is read before the first error returns.
pub(super) fn config(root: &YamlNode, mode: Mode, diagnostics: &Diagnostics) -> Option<Config> {
    let fields = Fields::open(root, RootFields::SECTION, diagnostics)?;
    let read = RootFields::read(&fields)?;
    check_addresses(&read, &fields, diagnostics);
    if let (Some(admin), Some(purge)) = (&read.admin, &read.purge) {
        purge.warn_of_hosts(admin, fields.value_location("purge"), diagnostics);
    }
    let context = EventContext {
        store: read.store.as_ref(),
        has_admin: read.admin.as_ref().is_none_or(|admin| admin.listen.is_some()),
    };
    let events = events::read(&read.events?, &context, diagnostics);
    let context = routes::RouteContext {
        sources: events.as_deref(),
        response_timeout: read
            .upstream
            .as_ref()
            .map_or(std::time::Duration::MAX, |upstream| upstream.response_timeout),
        callers: read.callers.as_deref(),
        cdn_fields: read.cdn.iter().flatten().map(|cdn| cdn.api.field()).collect(),
        is_strict: read.store.as_ref().is_some_and(|store| store.max_lag.is_zero()),
    };
    let routes = routes::read(&read.defaults?, &read.routes?, &context, diagnostics);
    if let Some(underscores) = read.underscores {
        let callers = read.callers.as_deref().unwrap_or_default();
        let place = (fields.value_location("callers"), underscores);
        ambiguous_names::check_callers(callers, place, diagnostics);
        ambiguous_names::check_routes(routes.as_deref().unwrap_or_default(), underscores, diagnostics);
    }
    if let (Some(store), Some(parsed)) = (&read.store, &routes) {
        warnings::warn_of_sizes(store, parsed, diagnostics);
        encryption_checks::require_keys(store, parsed, diagnostics);
    }
    if let (Some(UpstreamSettings { http2: true, .. }), Some(parsed)) = (&read.upstream, &routes) {
        warnings::warn_of_expectations(parsed, diagnostics);
    }
    if let Some(trusted) = &read.trusted_proxies {
        warnings::warn_of_networks(trusted, fields.value_location("trusted_proxies"), diagnostics);
    }
    let warm_node = read.warm?;
    let (Some(parsed), Some(credentials), Some((listen, listener_settings)), Some(mut background)) =
        (routes, read.credentials, read.listen, read.background)
    else {
        warm::warm(&warm_node, None, diagnostics);
        return None;
    };
    if mode == Mode::Lint {
        let verifies = |entry: &CallerSettings| matches!(entry.method, CallerMethod::Jwt(_));
        let verifies_tokens = read.callers.iter().flatten().any(verifies);
        let sources = events.as_deref().unwrap_or_default();
        lint::add_findings(&parsed, sources, (&credentials, verifies_tokens), diagnostics);
    }
    let callers = read.callers;
    let operations_node = read.admin_at?;
    let admin_at = admin_at::admin_at(&operations_node, callers.as_deref(), diagnostics);
    let mut routes: Vec<Route> = parsed.into_iter().map(|parsed| parsed.route).collect();
    for route in &mut routes {
        route.fingerprint = route.fingerprint.with_caller_fields(&credentials);
    }
    overlay_checks::add_shared_parts(
        &mut routes,
        callers.as_deref().unwrap_or_default(),
        &background.headers,
    );
    let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
    if background.host.is_empty() {
        background.host = warm::default_host(&listen, &listener_settings);
    }
    let context = WarmContext { routes: &Routes::new(&routes), background: &background };
    let warm = warm::warm(&warm_node, Some(&context), diagnostics)?;
    let run_by_operators = admin_at.iter().flatten().find_map(OperationPaths::warm_entry);
    if let Some(name) = run_by_operators.filter(|name| warm.iter().all(|entry| entry.name != *name)) {
        diagnostics
            .error(
                operations_node.location,
                format!("`warm` has no entry `{name}`, which `admin_at.warm` runs"),
            )
            .help(format!("give an entry of `warm` this name: `[{{name: {name}, get: /api/items}}]`"));
    }
    Some(Config {
        source: String::new(),
        listen,
        listener_settings,
        upstream: read.upstream?,
        store: read.store?,
        cdn: read.cdn?,
        admin: read.admin?,
        admin_at: admin_at?,
        purge: read.purge?,
        audit: read.audit?,
        trusted_proxies: read.trusted_proxies?,
        trusted_fields: read.trusted_fields?,
        credentials,
        callers: with_claims(callers?, &routes),
        underscores: read.underscores?,
        request_id: read.request_id?,
        limits: read.limits?,
        log: read.log?,
        tracing: read.tracing?,
        routes,
        warm,
        background,
        events: events?.into_iter().map(|parsed| parsed.source).collect(),
        warnings: Vec::new(),
    })
}

/// Adds the claims that routes use.
fn with_claims(mut callers: Vec<CallerSettings>, routes: &[Arc<Route>]) -> Vec<CallerSettings> {
    for route in routes {
        let Some(entry) = route.callers.as_ref().and_then(|source| callers.get_mut(source.index)) else {
            continue;
        };
        let in_key = match &route.per {
            Some(Credential::Claims(claims)) => claims.as_slice(),
            _ => &[],
        };
        let in_tags = route.tags.iter().chain(route.purge_templates()).flat_map(Template::claims);
        let of_rate = match &route.rate {
            Some(RateLimit { by: RateKey::Claim(claim), .. }) => Some(claim.as_str()),
            _ => None,
        };
        for claim in in_key.iter().map(String::as_str).chain(in_tags).chain(of_rate) {
            if !entry.claims.iter().any(|known| known == claim) {
                entry.claims.push(claim.to_owned());
            }
        }
    }
    callers
}

/// Whether connections to `authority` reach a listener on this machine.
fn is_own_listener(listen: &SocketAddr, authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let own = listen.ip();
    let is_host = match address {
        // The wildcard of IPv6 takes connections to IPv4 addresses, too.
        Ok(address) => {
            let is_covered = own.is_unspecified() && (own.is_ipv6() || address.is_ipv4());
            address == own || is_covered && address.is_loopback()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost") && (own.is_loopback() || own.is_unspecified()),
    };
    is_host && port.parse() == Ok(listen.port())
}

/// Checks the addresses of the listeners against each other, the upstream and the trusted proxies.
fn check_addresses(read: &RootFields, fields: &Fields<'_>, diagnostics: &Diagnostics) {
    let Some(listeners) = &read.listen else { return };
    if let Some(trusted) = &read.trusted_proxies {
        let location = fields.value_location("listen");
        listen::require_trusted_proxies(listeners, !trusted.is_empty(), location, diagnostics);
    }
    let Some(admin) = &read.admin else { return };
    let listen = &listeners.0;
    let error = |key: &str, message: &str, help: &str| {
        diagnostics.error(fields.value_location(key), message).help(help);
    };
    // Each listener on port 0 gets a free port of its own.
    let is_fixed = |address: &Listen| !matches!(address, Listen::Tcp(address) if address.port() == 0);
    let is_repeated = |(at, address): (usize, &Listen)| is_fixed(address) && listen[..at].contains(address);
    if listen.iter().enumerate().any(is_repeated) {
        error("listen", "the same address occurs twice", "remove one of them");
    }
    if admin.listen.as_ref().is_some_and(|admin| is_fixed(admin) && listen.contains(admin)) {
        error(
            "admin",
            "the admin listener has the same address as `listen`",
            "give it a port of its own, such as `127.0.0.1:9090`",
        );
    }
    let mut upstreams = read.upstream.iter().flat_map(|upstream| &upstream.addresses);
    let is_own = |upstream: &UpstreamAddress| {
        listen.iter().any(|address| match (address, upstream) {
            (Listen::Tcp(one), UpstreamAddress::Http { authority }) => is_own_listener(one, authority),
            (Listen::Unix(one), UpstreamAddress::Unix(other)) => one == other,
            _ => false,
        })
    };
    if upstreams.any(is_own) {
        error(
            "upstream",
            "the upstream is larder itself: requests would loop",
            "write the address at which the API listens",
        );
    }
}
