//! The rules that a simulated larder may use: the same routes and events, with other names for the tags.

use std::sync::{Arc, OnceLock};

use larder::config::{Config, EventSource};
use larder::policy::Route;
use larder::policy::routes::Routes;

use crate::upstream::ITEMS;

/// The stream of change events, and the source that reads it.
pub const STREAM: &str = "changes";
const SOURCE: &str = "shop";

/// Where the replicas record how far the stream is read.
pub fn position_key() -> String {
    format!("{{larder}}:events:{SOURCE}")
}

pub struct Rules {
    pub routes: Arc<Routes>,
    pub events: Vec<EventSource>,
}

/// The rules of this number; there are three.
pub fn numbered(number: u64) -> &'static Rules {
    static ALL: OnceLock<[Rules; 3]> = OnceLock::new();
    &ALL.get_or_init(|| [0, 1, 2].map(parse))[number as usize % 3]
}

/// The route of a resource.
pub fn route(number: u64, resource: usize) -> &'static Route {
    let path = if resource == ITEMS { "/items" } else { "/items/{id}" };
    let mut routes = numbered(number).routes.iter();
    routes.find(|route| route.path.as_str() == path).expect("a route")
}

/// The tag of an item.
pub fn tag(number: u64, item: usize) -> String {
    format!("{}:{item}", tag_name(number))
}

fn tag_name(number: u64) -> &'static str {
    ["item", "thing", "article"][number as usize % 3]
}

fn parse(number: u64) -> Rules {
    let tag = tag_name(number);
    let yaml = format!(
        "upstream: http://127.0.0.1:1\n\
         routes:\n\
         - {{path: \"/items/{{id}}\", ttl: 1s, tags: [\"{tag}:{{id}}\"]}}\n\
         - {{path: /items, ttl: 1s, tags: [\"{tag}:0\", \"{tag}:1\", \"{tag}:2\"]}}\n\
         events:\n\
         - {{name: {SOURCE}, redis: \"redis://simulated\", stream: {STREAM}, purge: [\"{tag}:{{event.json:/id}}\"]}}\n"
    );
    let config = Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).expect("a configuration");
    Rules { routes: Arc::new(Routes::new(&config.routes)), events: config.events }
}
