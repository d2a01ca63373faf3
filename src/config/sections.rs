//! The sections of the file that are not about routes, each read into its settings.

use std::time::Duration;

use super::fields::Fields;
use super::keys;
use super::problem::Problems;
use super::scalars::{
    boolean, count, duration, list, listen, network, networks, parsed, positive_duration, positive_size,
    size, token, word,
};
use super::tree::{Node, Value};
use super::{
    AdminSettings, Limits, Listen, OnStoreLoss, PurgeSettings, RequestIds, StoreSettings, UpstreamHost,
    UpstreamSettings, redis, url,
};

/// A URL, or a mapping with `url`.
pub fn upstream(node: &Node, problems: &Problems) -> Option<UpstreamSettings> {
    let short = Node { value: Value::Mapping(Vec::new()), place: node.place };
    let (fields, address) = match &node.value {
        Value::Mapping(_) => {
            let fields = Fields::open(node, &keys::UPSTREAM, problems)?;
            let address = fields.required("url", url::upstream);
            (fields, address)
        }
        _ => (Fields::open(&short, &keys::UPSTREAM, problems)?, url::upstream(node, problems)),
    };
    let connect_timeout = fields.read("connect_timeout", positive_duration);
    let response_timeout = fields.read("response_timeout", positive_duration);
    let idle_timeout = fields.read("idle_timeout", positive_duration);
    let max_connections = fields.read("max_connections", count);
    let queue_timeout = fields.read("queue_timeout", positive_duration);
    let breaker = fields.read("breaker", off_or_count);
    let http2 = fields.read("http2", boolean);
    let host = fields.read("host", upstream_host);
    Some(UpstreamSettings {
        address: address?,
        connect_timeout: connect_timeout?,
        response_timeout: response_timeout?,
        idle_timeout: idle_timeout?,
        max_connections: max_connections?,
        queue_timeout: queue_timeout?,
        breaker: breaker?,
        http2: http2?,
        host: host?,
    })
}

/// `Some(None)`: `off`.
fn off_or_count(node: &Node, problems: &Problems) -> Option<Option<usize>> {
    match node.text() {
        Some(word) if is_off(word) => Some(None),
        _ => count(node, problems).map(Some),
    }
}

fn upstream_host(node: &Node, problems: &Problems) -> Option<UpstreamHost> {
    parsed(node, "`preserve` or a host name", problems, |text| match text {
        "preserve" => Ok(UpstreamHost::Preserve),
        name => url::authority(name).map(UpstreamHost::Set),
    })
}

pub fn store(node: &Node, problems: &Problems) -> Option<StoreSettings> {
    let fields = Fields::open(node, &keys::STORE, problems)?;
    let redis_node = fields.given("redis").filter(|node| !redis::is_none(node));
    let redis_settings = redis_node.and_then(|node| redis::read(node, problems));
    let memory = fields.read("memory", size);
    if let (Some(0), Some(given), None) = (memory, fields.given("memory"), redis_node) {
        problems
            .error(given.place, "without `redis`, `memory` is the whole store: it can't be 0")
            .help("to cache nothing, write `defaults: {mode: off}`");
    }
    let namespace = fields.read("namespace", namespace);
    let max_lag = fields.read("max_lag", duration);
    let on_store_loss = fields.read("on_store_loss", on_store_loss);
    let timeout = fields.read("timeout", positive_duration);
    let replica = fields.optional("replica", replica);
    Some(StoreSettings {
        memory: memory?,
        namespace: namespace?,
        redis: redis_settings,
        max_lag: max_lag?,
        on_store_loss: on_store_loss?,
        timeout: timeout?,
        replica,
    })
}

fn replica(node: &Node, problems: &Problems) -> Option<String> {
    parsed(node, "a name", problems, |text| match text.len() {
        1..=128 if text.chars().all(|c| c.is_ascii_graphic() && c != ',') => Ok(text.to_owned()),
        _ => Err((
            "this can't be the name of a replica".into(),
            "write a short name without spaces, such as `${HOSTNAME}`".into(),
        )),
    })
}

/// It begins the names of keys in Redis, where braces choose the slot of a cluster.
fn namespace(node: &Node, problems: &Problems) -> Option<String> {
    const LONGEST: usize = 128;
    parsed(node, "a name", problems, |text| {
        let wrong = match text {
            "" => "the namespace is empty",
            text if text.contains(['{', '}']) => "a namespace has no braces",
            text if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                "a namespace has no spaces"
            }
            text if text.len() > LONGEST => "the namespace is too long",
            text => return Ok(text.to_owned()),
        };
        Err((wrong.into(), "write a short name such as `larder` or `shop-staging`".into()))
    })
}

fn on_store_loss(node: &Node, problems: &Problems) -> Option<OnStoreLoss> {
    match &node.value {
        Value::Mapping(_) => {
            let fields = Fields::open(node, &keys::ON_STORE_LOSS, problems)?;
            fields.required("serve", positive_duration).map(OnStoreLoss::Serve)
        }
        _ => parsed(node, "`bypass` or `{serve: 30s}`", problems, |text| match text {
            "bypass" => Ok(OnStoreLoss::Bypass),
            _ => Err((format!("`{text}` is not known here"), "write `bypass`, or `{serve: 30s}`".into())),
        }),
    }
}

/// `off`, or where it listens and which token it wants.
pub fn admin(node: &Node, problems: &Problems) -> Option<AdminSettings> {
    if let Some(word) = node.text() {
        return match is_off(word) {
            true => Some(AdminSettings { listen: None, token: None }),
            false => {
                problems
                    .error(node.place, format!("`{word}` is not known here"))
                    .help("write `admin: off`, or `admin: {listen: 127.0.0.1:9090, token: none}`");
                None
            }
        };
    }
    let fields = Fields::open(node, &keys::ADMIN, problems)?;
    let listen = fields.read("listen", listen);
    let token = fields.read("token", token);
    let (listen, token) = (listen?, token?);
    if let (Listen::Tcp(address), None) = (&listen, &token)
        && !address.ip().is_loopback()
    {
        let place = fields.given("listen").map_or(fields.place(), |node| node.place);
        problems
            .warning(place, "the admin listener can be reached from other machines and has no token")
            .help("without a token it answers purge and stats to loopback only; set `token: ${LARDER_ADMIN_TOKEN}`");
    }
    Some(AdminSettings { listen: Some(listen), token })
}

pub fn is_off(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "off" | "false" | "no")
}

pub fn purge(node: &Node, problems: &Problems) -> Option<PurgeSettings> {
    let fields = Fields::open(node, &keys::PURGE, problems)?;
    let allow = fields.read("allow", networks);
    let token = fields.read("token", token);
    let parents = fields.read("parents", boolean);
    let wait_timeout = fields.read("wait_timeout", positive_duration);
    let reprime = fields.read("reprime", off_or_count);
    let (allow, token) = (allow?, token?);
    if token.is_none() && allow.iter().any(|net| net.prefix_len() == 0) {
        let place = fields.given("allow").map_or(fields.place(), |node| node.place);
        problems
            .warning(place, "anybody who reaches larder may purge")
            .help("name the networks that may, or set `token: ${LARDER_PURGE_TOKEN}`");
    }
    Some(PurgeSettings { allow, token, wait_timeout: wait_timeout?, parents: parents?, reprime: reprime? })
}

pub fn trusted_proxies(node: &Node, problems: &Problems) -> Option<Vec<ipnet::IpNet>> {
    list(node, "[10.0.0.0/8]", problems, network)
}

pub fn request_id(node: &Node, problems: &Problems) -> Option<RequestIds> {
    if node.text().is_some_and(is_off) {
        return Some(RequestIds::Off);
    }
    let words =
        [("forward", RequestIds::Forward), ("respond", RequestIds::Respond), ("off", RequestIds::Off)];
    word(node, &words, problems)
}

pub fn limits(node: &Node, problems: &Problems) -> Option<Limits> {
    let fields = Fields::open(node, &keys::LIMITS, problems)?;
    let connections = fields.read("connections", count);
    let header_bytes = fields.read("header_bytes", header_bytes);
    let header_count = fields.read("header_count", header_count);
    let header_timeout = fields.read("header_timeout", positive_duration);
    let body_timeout = fields.read("body_timeout", positive_duration);
    let idle_timeout = fields.read("idle_timeout", positive_duration);
    let tunnel_idle = fields.read("tunnel_idle", positive_duration);
    let drain: Option<Duration> = fields.read("drain", duration);
    Some(Limits {
        connections: connections?,
        header_bytes: header_bytes?,
        header_count: header_count?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        idle_timeout: idle_timeout?,
        tunnel_idle: tunnel_idle?,
        drain: drain?,
    })
}

fn header_count(node: &Node, problems: &Problems) -> Option<usize> {
    match count(node, problems)? {
        count @ 10..=10_000 => Some(count),
        _ => {
            problems
                .error(node.place, "the fields of a header section are bounded between 10 and 10000")
                .help("write `100`");
            None
        }
    }
}

fn header_bytes(node: &Node, problems: &Problems) -> Option<usize> {
    let bytes = positive_size(node, problems)?;
    match usize::try_from(bytes) {
        // Below it, the parser has no room to answer 431.
        Ok(bytes @ 8192..=16_777_216) => Some(bytes),
        _ => {
            problems
                .error(node.place, "a header section is bounded between 8KiB and 16MiB")
                .help("write `32KiB`");
            None
        }
    }
}
