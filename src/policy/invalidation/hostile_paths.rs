//! Property: no spelling of a path poisons the response stored for another path, and none evades a purge.

use http::HeaderMap;

use super::*;
use crate::policy::CacheKey;
use crate::policy::caller::NoCallers;
use crate::policy::classify::{Classification, classify};
use crate::policy::fixtures::{Random, Request, caller_fields, generated_cases, route, routes, templates};
use crate::policy::path::{is_normal, percent_decoded};
use crate::policy::response_tags::response_tags;
use crate::policy::route::Route;
use crate::policy::routes::Routes;
use crate::purge::TargetId;

fn api() -> Routes {
    routes([
        Route { tags: templates(&["course:{id}"]), ..route("/api/courses/{id}") },
        Route { tags: templates(&["me"]), ..route("/api/users/me") },
        Route { tags: templates(&["user:{id}"]), ..route("/api/users/{id}") },
        Route { tags: templates(&["file:{rest}"]), ..route("/files/{*rest}") },
        Route { purges: Some(vec![]), ..route("/search/{*any}") },
    ])
}

const PATHS: [&str; 6] = [
    "/api/courses/7",
    "/api/courses/a%20b",
    "/api/users/me",
    "/api/users/caf%C3%A9",
    "/files/a/b.c",
    "/files/x",
];

fn key(routes: &Routes, path: &str) -> Option<CacheKey> {
    match classify(routes, &Request::get(path).head(), false, &caller_fields(), &NoCallers) {
        Classification::Lookup(lookup) => Some(lookup.key),
        _ => None,
    }
}

/// All targets of the response to a GET, and the targets of its tags.
fn names(routes: &Routes, path: &str) -> (Vec<TargetId>, Vec<TargetId>) {
    let request = Request::get(path);
    let route = routes.find(path).unwrap();
    let tags = response_tags(route, &request.head(), &HeaderMap::new(), None).unwrap();
    let all = Target::ids_for_response(
        &request.host,
        &NormalizedPath::new(path),
        "",
        tags.iter().map(String::as_str),
    );
    (all, tags.into_iter().map(|tag| Target::tag(tag).id()).collect())
}

#[test]
fn no_spelling_poisons_or_evades_a_purge() {
    let routes = api();
    let mut random = Random(2);
    let (mut passed, cases) = (0, generated_cases() / 10);
    for _ in 0..cases {
        let path = random.pick(&PATHS);
        let normal = key(&routes, path).unwrap();
        let spelling = respelled(path, &mut random);
        let (reached, reached_by_tag) = names(&routes, path);

        if spelling != path {
            assert_ne!(key(&routes, &spelling), Some(normal), "{spelling}");
        }
        passed += usize::from(!is_normal(&spelling));

        let write = Request::new("POST", &spelling);
        let found =
            WritePlan::new(&routes, &write.head(), RelatedPaths::default()).head_targets(&write.head());
        let purged = found.targets.to_vec();
        let by_url =
            purged.iter().any(|target| !matches!(target, Target::Tag(_)) && reached.contains(&target.id()));
        assert!(by_url, "{spelling} does not purge the URL {path}: {purged:?}");
        let by_tag = purged.iter().any(|target| reached_by_tag.contains(&target.id()));
        assert!(by_tag, "{spelling} does not purge the tags of {path}: {purged:?}");

        let asked =
            parse_purge_request(&routes, &Request::new("PURGE", &spelling).head(), false, false).unwrap().0;
        assert!(asked.iter().any(|target| reached.contains(&target.id())), "PURGE {spelling}: {asked:?}");
    }
    assert!(passed > cases / 2);
}

#[test]
fn what_is_stored_has_one_spelling() {
    let routes = api();
    let mut random = Random(3);
    for _ in 0..generated_cases() / 10 {
        let path = respelled(random.pick(&PATHS), &mut random);
        if key(&routes, &path).is_some() {
            assert_eq!(normalize(&path), path);
            // Decoding once is enough for the most lenient reader.
            let once = percent_decoded(&path).to_ascii_lowercase();
            assert_eq!(NormalizedPath::new(&path).as_str(), once.trim_end_matches('/'), "{path}");
        }
    }
}

/// A spelling of `path` that some reader takes for `path` itself.
fn respelled(path: &str, random: &mut Random) -> String {
    let mut text = path.to_owned();
    let mut encodings = 0;
    for _ in 0..=random.below(4) {
        let at = random.below(text.len());
        if !text.is_char_boundary(at) {
            continue;
        }
        let (before, after) = text.split_at(at);
        let next = after.as_bytes()[0];
        text = match random.below(7) {
            // Not within an escape, and at most as often as any reader decodes.
            0 | 1 if encodings < 2 && next != b'/' && !in_escape(before) => {
                encodings += 1;
                let escape = if random.one_in(2) { format!("%{next:02x}") } else { format!("%{next:02X}") };
                format!("{before}{escape}{}", &after[1..])
            }
            2 => format!("{before}{}{}", char::from(next).to_ascii_uppercase(), &after[1..]),
            3 if next == b'/' => {
                let extra = [
                    "//", "/./", "/x/../", "/x/..%2f", "\\", "/%2e/", "/;a=b/", "/x;/../", "/.;/", "%5c",
                    "%2F",
                ];
                // A path needs its first slash.
                if at == 0 {
                    format!("/{}", after.trim_start_matches('/'))
                } else {
                    format!("{before}{}{}", random.pick(&extra), &after[1..])
                }
            }
            4 if next == b'/' && at > 0 => format!("{before};v=1{after}"),
            5 => format!("{text}{}", random.pick(&["/", ";", ";x=%2e", "/.", "//", "/x/.."])),
            _ => continue,
        };
    }
    let ends_in_escape = text.len() > 2 && text.as_bytes()[text.len() - 3] == b'%';
    if text.ends_with(char::is_alphanumeric) && !ends_in_escape && random.one_in(4) {
        // Frameworks drop these.
        text.push_str(random.pick(&[".json", "%0a", "%20", "%09", ".json%0A"]));
    }
    if random.one_in(6) {
        // Below a route with `purges: []`.
        text = format!(
            "{}{text}",
            random.pick(&["/search/..", "/search/x/../..", "/search/%2e%2E", "/search/..;"])
        );
    }
    if random.one_in(6) {
        text.push_str(random.pick(&["%00.json", "%3Fa=b", "%23", "%253f"]));
    }
    text
}

fn in_escape(before: &str) -> bool {
    before.ends_with('%') || before.len() > 1 && before.as_bytes()[before.len() - 2] == b'%'
}
