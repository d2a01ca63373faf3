//! Property: equal keys imply equal requests to the upstream, apart from what the route drops. Tested on pairs of
//! similar requests: bytes moved between parts, other encodings, split and merged lines, explicit defaults.

use super::*;
use crate::policy::cache_key::describe_key;
use crate::policy::caller::NoCallers;
use crate::policy::credential::Credential;
use crate::policy::fixtures::{Random, Request, caller_fields, generated_cases, route, routes};
use crate::policy::query::QueryRule;
use crate::purge::normalize_escapes;

fn api() -> Routes {
    let default = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let x_a = HeaderName::from_static("x-a");
    let x_b = HeaderName::from_static("x-b");
    routes([
        Route { query: QueryRule::Only(vec![default("a", "1"), ("b".to_owned(), None)]), ..route("/only") },
        Route {
            query: QueryRule::Ignore(vec!["u*".to_owned()]),
            shared: Shared::All,
            ..route("/ignore/{id}")
        },
        Route { headers: vec![x_a.clone(), x_b.clone()], ..route("/all/{id}") },
        Route { cookies: vec!["c".to_owned(), "d".to_owned()], headers: vec![x_a], ..route("/cookies") },
        Route { per: Some(Credential::Authorization), headers: vec![x_b.clone()], ..route("/me") },
        Route { per: Some(Credential::Cookie("c".to_owned())), ..route("/session/{*rest}") },
        Route { per: Some(Credential::Header(x_b)), query: QueryRule::Only(vec![]), ..route("/key") },
    ])
}

/// The request to the upstream, as far as it can affect the response; computed independently of the key.
#[derive(Debug, PartialEq)]
struct Forwarded {
    target: [String; 4],
    fields: Vec<Vec<String>>,
    cookies: Vec<Vec<String>>,
}

fn forwarded(request: &Request, lookup: &CacheLookup<'_>) -> Forwarded {
    let route = lookup.route;
    let dropped = lines(request, "connection").join(",").to_ascii_lowercase();
    let is_dropped = |name: &str| dropped.split(',').any(|option| option.trim() == name);
    let sent = |name: &str| if is_dropped(name) { vec![] } else { lines(request, name) };
    let credential = match &route.per {
        Some(Credential::Authorization) => sent("authorization"),
        Some(Credential::Header(name)) => sent(name.as_str()),
        _ => vec![],
    };
    let own_cookie = match &route.per {
        Some(Credential::Cookie(name)) => Some(name),
        _ => None,
    };
    let signature = own_cookie.map(|name| format!("{name}.sig"));
    let cookie = |name: &String| {
        let all = sent("cookie").join(";");
        let named = all.split(';').map(str::trim).filter(|pair| pair.split('=').next() == Some(name));
        named.map(str::to_owned).collect::<Vec<_>>()
    };
    let query =
        lookup.query.sent().map_or_else(String::new, |query| format!("?{}", normalize_escapes(query)));
    Forwarded {
        target: [request.scheme.to_owned(), request.host.clone(), request.path.clone(), query],
        fields: route.headers.iter().map(|name| sent(name.as_str())).chain([credential]).collect(),
        cookies: route.cookies.iter().chain(own_cookie).chain(&signature).map(cookie).collect(),
    }
}

fn lines(request: &Request, name: &str) -> Vec<String> {
    let lines = request.headers.get_all(name).iter();
    lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
}

#[test]
fn equal_keys_imply_equal_requests_to_the_upstream() {
    let routes = api();
    let mut random = Random(1);
    let (mut equal, mut unequal) = (0, 0);
    let cases = generated_cases();
    for _ in 0..cases {
        let seed = random.0;
        let one = generate(&mut random);
        let mut other = one.clone();
        for _ in 0..=random.below(2) {
            mutate(&mut other, &mut random);
        }
        let classes = [&one, &other]
            .map(|request| classify(&routes, &request.head(), false, &caller_fields(), &NoCallers));
        let [Classification::Lookup(first), Classification::Lookup(second)] = classes else { continue };
        // The description distinguishes keys exactly as the key does.
        let words = |lookup: &CacheLookup<'_>, request: &Request| {
            describe_key(lookup.route, &request.head(), lookup.query.sent(), None, &caller_fields())
        };
        assert_eq!(
            first.key == second.key,
            (first.route.index, words(&first, &one)) == (second.route.index, words(&second, &other)),
            "{seed}: {one:?} {other:?}"
        );
        if first.key == second.key {
            assert_eq!(forwarded(&one, &first), forwarded(&other, &second), "{seed}: {one:?} {other:?}");
            equal += 1;
        } else {
            unequal += 1;
        }
    }
    // Otherwise the test would prove nothing.
    assert!(equal > cases / 20 && unequal > cases / 20, "{equal} equal, {unequal} unequal keys");
}

fn generate(random: &mut Random) -> Request {
    let path = random.pick(&[
        "/only",
        "/ignore/7",
        "/ignore/a%20b",
        "/all/7",
        "/all/me",
        "/cookies",
        "/me",
        "/session/x/y",
        "/key",
    ]);
    let mut request = Request::get(path);
    request.query = [None, Some(""), Some("a=1"), Some("a=1&b=2"), Some("b=2&a=1&u=3"), Some("a=1&a=2")]
        [random.below(6)]
    .map(str::to_owned);
    if path == "/key" || random.one_in(3) {
        append(&mut request, "x-b", random.pick(&["1", "1, 2", "", "12"]));
    }
    if path == "/me" || random.one_in(8) {
        append(&mut request, "authorization", random.pick(&["Bearer a", "Bearer b"]));
    }
    if path.starts_with("/session") || path == "/cookies" || random.one_in(8) {
        append(
            &mut request,
            "cookie",
            random.pick(&["c=1", "c=1; d=2", "d=2; c=1; e=3", "c=12", "c", "c=", "c=1; c.sig=2"]),
        );
    }
    request
}

fn append(request: &mut Request, name: &'static str, value: &str) {
    request.headers.append(name, value.parse().unwrap());
}

/// Mutates the request slightly.
fn mutate(request: &mut Request, random: &mut Random) {
    match random.below(12) {
        0 => request.method = Method::HEAD,
        1 => request.path = edited(&request.path, random),
        2 => move_bytes_between_parts(request, random),
        3 => request.host = random.pick(&["api.example", "b.example", "api.example:8080"]).to_owned(),
        4 => request.scheme = "https",
        5 | 6 => {
            let query = request.query.take().unwrap_or_default();
            request.query = Some(edited_query(&query, random)).filter(|_| !random.one_in(10));
        }
        7 | 8 => {
            let name = random.pick(&["x-a", "x-b", "authorization", "cookie", "accept", "connection"]);
            let value =
                random.pick(&["1", "", "1, 2", "2", "c=1", "d=2", "x-a", "close", "X-B", "cookie", "*/*"]);
            append(request, name, value);
        }
        9 => split_or_merge_lines(request, random),
        10 => {
            let from = random.pick(&["x-a", "x-b", "cookie", "authorization"]);
            let to = random.pick(&["x-a", "x-b", "cookie"]);
            if let Some(value) = request.headers.remove(from) {
                request.headers.append(to, value);
            }
        }
        _ => {
            let name = random.pick(&["cookie", "x-a", "x-b", "authorization"]);
            if let Some(value) = request.headers.get_mut(name) {
                let text = edited(&String::from_utf8_lossy(value.as_bytes()), random);
                *value = text.parse().unwrap_or_else(|_| value.clone());
            }
        }
    }
}

/// Edits text into another spelling or another value.
fn edited(text: &str, random: &mut Random) -> String {
    let at = random.below(text.len() + 1);
    if !text.is_char_boundary(at) {
        return text.to_owned();
    }
    let (before, after) = text.split_at(at);
    let next = after.chars().next().filter(char::is_ascii);
    match (random.below(6), next) {
        (0, Some(c)) => format!("{before}%{:02X}{}", c as u32, &after[1..]),
        (1, Some(c)) => format!("{before}%{:02x}{}", c as u32, &after[1..]),
        (2, Some(c)) => format!("{before}{}{}", c.to_ascii_uppercase(), &after[1..]),
        (3, Some(_)) => format!("{before}{}", &after[1..]),
        _ => {
            let new =
                ["/", "//", ";", "; ", " ", "=", "&", "%2F", "%2e", "/./", "..", "1", ",", "a", "c=1", "\\"];
            format!("{before}{}{after}", random.pick(&new))
        }
    }
}

fn edited_query(query: &str, random: &mut Random) -> String {
    let mut pairs: Vec<&str> = query.split('&').collect();
    match random.below(7) {
        0 => pairs.reverse(),
        1 => pairs.push(random.pick(&["a=1", "b=2", "u=9", "utm=1", "z=", "z", "", "a", "a=", "A=1"])),
        2 => pairs.insert(0, random.pick(&["a=1", "b=2", "u=9", "%61=1", "a=%31", "b=+", "b=%20"])),
        3 => {
            pairs.pop();
        }
        4 => pairs.retain(|pair| *pair != "a=1"),
        _ => return edited(query, random),
    }
    pairs.join("&")
}

fn move_bytes_between_parts(request: &mut Request, random: &mut Random) {
    match random.below(3) {
        0 => {
            let path = std::mem::take(&mut request.path);
            let (host, path) = path.split_at(path.char_indices().nth(1).map_or(path.len(), |(at, _)| at));
            request.host.push_str(host);
            request.path = path.to_owned();
        }
        1 => {
            let query = request.query.take().unwrap_or_default();
            request.path = format!("{}{}{query}", request.path, random.pick(&["", "%3F", "?"]));
        }
        _ => {
            let (path, tail) = request.path.split_at(request.path.rfind('/').unwrap_or(0));
            let query = request.query.clone().unwrap_or_default();
            request.query = Some(format!("{tail}{query}"));
            request.path = path.to_owned();
        }
    }
}

fn split_or_merge_lines(request: &mut Request, random: &mut Random) {
    let name = random.pick(&["x-a", "x-b", "cookie"]);
    let separator = if name == "cookie" { "; " } else { ", " };
    let joined = lines(request, name).join(separator);
    if joined.is_empty() {
        return;
    }
    let merge = random.one_in(2);
    request.headers.remove(name);
    let values = if merge { vec![joined.as_str()] } else { joined.split(separator).collect() };
    for value in values {
        append(request, name, value);
    }
}
