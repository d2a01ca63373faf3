//! The cases: configurations, requests and responses, most of which have to do with each other.

use http::HeaderMap;
use larder::explain::ExplainResponse as Said;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::json;

use crate::support::{Answer, bearer};

pub const PATHS: [&str; 9] = ["/a", "/a/1", "/a/2", "/a/1/b", "/c", "/c/x/y", "/A/1", "/a/%31", "/none"];

#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: &'static str,
}

#[derive(Clone, Debug)]
pub struct Say {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: &'static str,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub yaml: String,
    /// The answer to GETs.
    pub read: Say,
    /// The answer to all other methods.
    pub write: Say,
    pub asks: Vec<Ask>,
}

/// One of these, or (so many times more often than each of them) the first word.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    weight: u32,
    others: Vec<T>,
) -> impl Strategy<Value = T> {
    let count = u32::try_from(others.len()).expect("few");
    prop_oneof![weight => Just(usual), count => select(others)]
}

fn rarely(lines: Vec<&'static str>) -> impl Strategy<Value = &'static str> {
    let weight = 5 * u32::try_from(lines.len()).expect("few");
    mostly("", weight, lines)
}

fn listed(key: &'static str, tags: Vec<&'static str>, at_most: usize) -> impl Strategy<Value = String> {
    let some = 0..=at_most.min(tags.len());
    subsequence(tags, some).prop_map(move |tags| match tags.is_empty() {
        true => String::new(),
        false => format!(
            "    {key}: [{}]\n",
            tags.iter().map(|tag| format!("'{tag}'")).collect::<Vec<_>>().join(", ")
        ),
    })
}

fn route(path: &'static str) -> impl Strategy<Value = String> {
    let mut tags = vec![
        "t",
        "q:{query.x}",
        "u:{jwt.sub}",
        "h:{header.x-t}",
        "k:{cookie.c}",
        "j:{response.json:$.ids[*]}",
        "r:{response.header.x-r}",
    ];
    if path.contains("{id}") {
        tags.extend(["a:{id}", "a/{id}/x"]);
    }
    let purges =
        vec!["t", "s1", "a:{query.x}", "u:{jwt.sub}", "j:{request.json:/id}", "r:{response.header.x-r}", "a"];
    let keys = (
        mostly(
            "    ttl: 30s\n",
            6,
            vec![
                "",
                "    ttl: none\n    purged_by: admin\n",
                "    ttl: upstream\n",
                "    ttl: 90s\n",
                "    ttl: never\n",
            ],
        ),
        listed("tags", tags, 3),
        prop_oneof![3 => listed("purges", purges, 3), 1 => Just("    purges: []\n".to_owned())],
        mostly("", 4, vec!["    query: [x]\n", "    query: {x: 1}\n", "    query: {ignore: [y]}\n"]),
        mostly(
            "    shared: true\n",
            14,
            vec![
                "",
                "    per: authorization\n",
                "    per: cookie.c\n",
                "    per: header.x-t\n",
                "    per: authorization | cookie.c\n",
            ],
        ),
        rarely(vec!["    headers: [X-T]\n", "    cookies: [c]\n"]),
        rarely(vec!["    status: {404: 10s}\n"]),
        rarely(vec!["    override: [lifetime]\n", "    override: [private]\n", "    override: [no-cache]\n"]),
        rarely(vec![
            "    request_directives: true\n",
            "    heuristic: true\n",
            "    mode: off\n",
            "    max_size: 10\n",
        ]),
    );
    keys.prop_map(move |(a, b, c, d, e, f, g, h, i)| {
        format!("  - path: '{path}'\n{a}{b}{c}{d}{e}{f}{g}{h}{i}")
    })
}

fn configuration() -> impl Strategy<Value = String> {
    let routes = (
        route("/a").prop_map(Some),
        route("/a/{id}").prop_map(Some),
        prop::option::weighted(0.4, route("/a/{id}/b")),
        prop::option::weighted(0.4, route("/c")),
        prop::option::weighted(0.4, route("/c/{*rest}")),
        prop::option::weighted(0.2, route("/A/{id}")),
    );
    routes.prop_map(|(a, b, c, d, e, f)| {
        let routes: String = [a, b, c, d, e, f].into_iter().flatten().collect();
        format!("upstream: ${{UPSTREAM}}\nroutes:\n{routes}")
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let method = prop_oneof![6 => Just("GET"), 1 => Just("HEAD"), 1 => Just("OPTIONS"), 4 => select(vec!["POST", "PUT", "DELETE"])];
    let query = mostly("", 9, vec!["?x=1", "?x=2", "?y=1", "?x=1&y=2", "?y=2&x=1", "?x=1&x=2"]);
    let path = mostly("/a/1", 12, PATHS.iter().copied().chain(["/a"; 6]).collect());
    let headers = (
        mostly(None, 3, vec![Some("ann"), Some("ben")]),
        mostly(None, 9, vec![Some("c=1"), Some("c=2"), Some("c=1; d=2")]),
        mostly(None, 6, vec![Some("1"), Some("2")]),
        prop_oneof![
            30 => Just(None),
            1 => Just(Some(("if-match", "\"1\""))),
            1 => Just(Some(("range", "bytes=0-1"))),
            1 => Just(Some(("cache-control", "no-store"))),
            1 => Just(Some(("cache-control", "only-if-cached"))),
            1 => Just(Some(("x-http-method-override", "PUT"))),
        ],
    );
    let body = select(vec!["", "{\"id\": 1}", "{\"id\": 2}", "{\"id\": []}", "no json"]);
    (method, path, query, headers, body, any::<Index>()).prop_map(
        |(method, path, query, (user, cookie, x_t, other), body, dice)| {
            let mut headers: Vec<(&str, String)> = Vec::new();
            headers.extend(user.map(|user| ("authorization", bearer(&json!({"sub": user}).to_string()))));
            headers.extend(cookie.map(|cookie| ("cookie", cookie.to_owned())));
            headers.extend(x_t.map(|value| ("x-t", value.to_owned())));
            headers.extend(other.map(|(name, value)| (name, value.to_owned())));
            let is_safe = ["GET", "HEAD", "OPTIONS"].contains(&method);
            // A GET with content is rare.
            let body = if is_safe && (method != "GET" || dice.index(10) != 0) { "" } else { body };
            if !body.is_empty() {
                headers.push(("content-type", "application/json".to_owned()));
            }
            Ask { method, target: format!("{path}{query}"), headers, body }
        },
    )
}

fn read() -> impl Strategy<Value = Say> {
    let parts = (
        prop_oneof![14 => Just(200), 1 => Just(404), 1 => Just(500)],
        mostly(
            None,
            14,
            vec![
                Some("max-age=60"),
                Some("no-store"),
                Some("private"),
                Some("public, max-age=20"),
                Some("s-maxage=40"),
                Some("no-cache"),
                Some("max-age=0"),
                Some("max-age=10, stale-while-revalidate=5"),
            ],
        ),
        mostly(None, 12, vec![Some("X-T"), Some("X-T"), Some("*")]),
        select(vec![None, Some("1, 2"), Some("3")]),
        mostly(
            None,
            4,
            vec![
                Some(("surrogate-key", "s1 t")),
                Some(("set-cookie", "s=1")),
                Some(("cache-groups", "\"t\"")),
            ],
        ),
        select(vec![None, Some("\"1\"")]),
        mostly(
            ("application/json", "{\"ids\": [1, 2]}"),
            9,
            vec![
                ("application/json", "{}"),
                ("application/json", "{\"ids\": [[]]}"),
                ("application/json", "no"),
                ("text/plain", "text"),
            ],
        ),
    );
    parts.prop_map(|(status, control, vary, x_r, other, etag, (content_type, body))| {
        let mut headers = vec![("content-type", content_type)];
        headers.extend(control.map(|value| ("cache-control", value)));
        headers.extend(vary.map(|value| ("vary", value)));
        headers.extend(x_r.map(|value| ("x-r", value)));
        headers.extend(other);
        headers.extend(etag.map(|value| ("etag", value)));
        Say { status, headers, body }
    })
}

fn write() -> impl Strategy<Value = Say> {
    let parts = (
        prop_oneof![5 => Just(200), 1 => Just(201), 1 => Just(302), 1 => Just(404), 1 => Just(500)],
        select(vec![
            None,
            Some(("location", "/a/1")),
            Some(("location", "/a/1")),
            Some(("location", "http://elsewhere/a/1")),
            Some(("content-location", "2")),
        ]),
        select(vec![None, Some("1"), Some("3")]),
        select(vec![None, None, Some("\"t\"")]),
    );
    parts.prop_map(|(status, location, x_r, groups)| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(location);
        headers.extend(x_r.map(|value| ("x-r", value)));
        headers.extend(groups.map(|value| ("cache-group-invalidation", value)));
        Say { status, headers, body: "{}" }
    })
}

pub fn cases() -> impl Strategy<Value = Case> {
    // Few requests, each again and again: else nothing would ever be a hit.
    let asks = (prop::collection::vec(ask(), 3..7), prop::collection::vec(any::<Index>(), 10..20));
    let asks = asks.prop_map(|(few, order)| order.iter().map(|at| at.get(&few).clone()).collect());
    (configuration(), read(), write(), asks).prop_map(|(yaml, read, write, asks)| Case {
        yaml,
        read,
        write,
        asks,
    })
}

impl Say {
    pub fn answer(&self) -> Answer {
        let answer = Answer::status(self.status).body(self.body);
        self.headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value))
    }

    pub fn said(&self) -> Said {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(*name, value.parse().expect("a value"));
        }
        let status = self.status.try_into().expect("a status");
        Said { status, headers, body: Some(self.body.into()) }
    }
}
