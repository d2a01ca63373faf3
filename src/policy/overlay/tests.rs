use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::fixtures::{fields, route};
use crate::policy::overlay_fields::{MergedContent, merged_fields, merged_tag, restore_tags};
use crate::policy::route::SharedPart;
use crate::policy::{CallerFields, Route};

fn each(text: &str) -> SelectingValues {
    SelectingValues::new(JsonQuery::parse(text).expect("a query"))
}

fn overlay(into: &str) -> Overlay {
    let member = |name: &str, set: Option<&str>, default: Option<&str>| {
        OverlayMember::new(name.to_owned(), set.map(str::to_owned), default.map(str::to_owned))
    };
    Overlay {
        from: "/me".parse().expect("a path"),
        each: each("$.enrollments[*].courseId"),
        into: ItemsPath::parse(into).expect("a path"),
        on: "id".to_owned(),
        members: vec![
            member("isEnrolled", Some("true"), Some("false")),
            member("badge", Some("\"mine\""), None),
        ],
        on_error: OnPartError::Pass,
    }
}

fn merged(document: &str, into: &str, selected: &[&str]) -> Result<String, Mismatch> {
    merge(document, &selected.iter().map(ToString::to_string).collect(), &overlay(into))
}

#[test]
fn items_get_their_members_and_all_else_stays_byte_for_byte() {
    for (document, into, expected) in [
        (
            r#"{ "courses" : [ {"id": 7, "t":"a\u0062"} , {"id":8} ], "n": 1.50 }"#,
            "$.courses[*]",
            r#"{ "courses" : [ {"id": 7, "t":"a\u0062","isEnrolled":true,"badge":"mine"} , {"id":8,"isEnrolled":false} ], "n": 1.50 }"#,
        ),
        // A member that an item has is replaced where it stands, also before its id.
        (
            r#"[{"isEnrolled": null, "id": "7"}, {"badge":"x","id":"9","isEnrolled":[1, {}]}]"#,
            "$[*]",
            r#"[{"isEnrolled": true, "id": "7","badge":"mine"}, {"badge":"x","id":"9","isEnrolled":false}]"#,
        ),
        (r#"{"id":7}"#, "$", r#"{"id":7,"isEnrolled":true,"badge":"mine"}"#),
        (
            r#"{"a b":{"x":[[{"id":7}],[]]}}"#,
            "$['a b'].x[*][*]",
            r#"{"a b":{"x":[[{"id":7,"isEnrolled":true,"badge":"mine"}],[]]}}"#,
        ),
        (r#"{"courses":[], "id": [}"#, "$.courses[*]", ""),
        (r#"{"courses":[]}"#, "$.courses[*]", r#"{"courses":[]}"#),
        // Names and ids are compared decoded.
        (
            r#"{"\u0063ourses":[{"i\u0064":"\u0037"}]}"#,
            "$.courses[*]",
            r#"{"\u0063ourses":[{"i\u0064":"\u0037","isEnrolled":true,"badge":"mine"}]}"#,
        ),
    ] {
        let expected = if expected.is_empty() { Err(Mismatch::Malformed) } else { Ok(expected.to_owned()) };
        assert_eq!(merged(document, into, &["7"]), expected, "{document}");
    }
}

#[test]
fn another_form_is_not_guessed_at() {
    for (document, mismatch) in [
        ("", Mismatch::Malformed),
        (r#"{"courses":[{"id":7}]"#, Mismatch::Malformed),
        (r#"{"courses":[{"id":7}]} x"#, Mismatch::Malformed),
        (r#"{"courses":[{"id":7,}]}"#, Mismatch::Malformed),
        (r#"{"error":"x"}"#, Mismatch::NoItems),
        (r#"{"courses":null}"#, Mismatch::NoItems),
        (r#"{"courses":{"id":7}}"#, Mismatch::NoItems),
        ("[]", Mismatch::NoItems),
        ("7", Mismatch::NoItems),
        (r#"{"courses":[{}]}"#, Mismatch::NoId),
        (r#"{"courses":[7]}"#, Mismatch::NoId),
        (r#"{"courses":[{"id":null}]}"#, Mismatch::NoId),
        (r#"{"courses":[{"id":7.0}]}"#, Mismatch::NoId),
        (r#"{"courses":[{"id":{}}]}"#, Mismatch::NoId),
        (r#"{"courses":[{"id":7,"id":8}]}"#, Mismatch::Duplicate),
        (r#"{"courses":[{"badge":1,"id":8,"badge":2}]}"#, Mismatch::Duplicate),
        (r#"{"courses":[],"courses":[]}"#, Mismatch::Duplicate),
    ] {
        assert_eq!(merged(document, "$.courses[*]", &["7"]), Err(mismatch), "{document}");
    }
}

proptest! {
    /// The stream and a tree agree.
    #[test]
    fn a_merge_means_what_a_tree_would(
        items in prop::collection::vec((0_u8..9, any::<bool>(), "[a-z\"\\\\é]{0,6}"), 0..9),
        selected in prop::collection::hash_set(0_u8..9, 0..6),
        pretty in any::<bool>(),
    ) {
        let item = |(id, has_member, text): &(u8, bool, String)| match has_member {
            true => json!({"title": text, "isEnrolled": "?", "id": id, "deep": {"id": 1, "isEnrolled": 2}}),
            false => json!({"id": id.to_string(), "title": text}),
        };
        let document = json!({"total": items.len(), "courses": items.iter().map(item).collect::<Vec<_>>()});
        let text = if pretty { format!("{document:#}") } else { document.to_string() };
        let names: Vec<String> = selected.iter().map(u8::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let merged: Value = serde_json::from_str(&merged(&text, "$.courses[*]", &names).unwrap()).unwrap();
        let mut expected = document;
        for (item, (id, ..)) in expected["courses"].as_array_mut().unwrap().iter_mut().zip(&items) {
            let is_selected = selected.contains(id);
            item["isEnrolled"] = is_selected.into();
            if is_selected {
                item["badge"] = "mine".into();
            }
        }
        prop_assert_eq!(merged, expected);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}\",:0-9a-z \\\\]{0,40}") {
        _ = merged(&text, "$[*]", &["7"]);
        _ = merged(&text, "$", &["7"]);
    }
}

#[test]
fn the_path_of_items_has_names_and_stars_alone() {
    for text in ["$", "$[*]", "$.data.items[*]", "$['my items'][*]", "$[\"x\"].y-z"] {
        assert!(ItemsPath::parse(text).is_ok(), "{text}");
    }
    for text in
        ["", "items", "$..id", "$.", "$.items[0]", "$.items[?@.id]", "$[']", "$['a\\'b']", "$ .a", "$.*"]
    {
        assert!(ItemsPath::parse(text).is_err(), "{text}");
    }
}

fn select(text: &str) -> Option<Vec<String>> {
    let content =
        Content::parse_response(&fields(&[("content-type", "application/json")]), text.as_bytes(), 999);
    let mut ids: Vec<String> = overlay("$").select(&content.ok()?)?.into_iter().collect();
    ids.sort_unstable();
    Some(ids)
}

#[test]
fn ids_are_text_or_whole_numbers() {
    let list = |ids: &str| format!("{{\"enrollments\":[{ids}]}}");
    let found = select(&list(r#"{"courseId":7},{"courseId":"7"},{"courseId":" a"}"#));
    assert_eq!(found, Some(vec![" a".to_owned(), "7".to_owned()]));
    for other in ["7.5", "true", "[7]", "{}", "null"] {
        assert_eq!(select(&list(&format!("{{\"courseId\":{other}}}"))), None, "{other}");
    }
}

/// Such a part says nothing of the caller, least of all that nothing is the caller's.
#[test]
fn a_part_without_what_each_names_selects_nothing_for_certain() {
    for empty in [r#"{"enrollments":[]}"#, r#"{"enrollments":null}"#] {
        assert_eq!(select(empty), Some(Vec::new()), "{empty}");
    }
    for other in ["{}", r#"{"error":"down"}"#, r#"{"enrollments":[{}]}"#, r#"{"enrollments":7}"#, "[]", "7"] {
        assert_eq!(select(other), None, "{other}");
    }
    let selected = |each: &str, text: &str| {
        let overlay = Overlay { each: self::each(each), ..overlay("$") };
        let content = Content::parse_event(text.as_bytes(), 999).expect("JSON");
        overlay.select(&content).map(|ids| ids.len())
    };
    for (each, text, expected) in [
        ("$.current.id", r#"{"current":null}"#, Some(0)),
        ("$.current.id", r#"{"current":{"id":null}}"#, Some(0)),
        ("$.current.id", "{}", None),
        ("/current/id", r#"{"current":{}}"#, None),
        ("/current/id", r#"{"current":{"id":7}}"#, Some(1)),
        ("$.ids[*]", r#"{"ids":[7,"8"]}"#, Some(2)),
        ("$.byId[*].id", r#"{"byId":{"a":{"id":7}}}"#, Some(1)),
        ("$..courseId", "{}", Some(0)),
        ("$.enrollments[?@.courseId].courseId", r#"{"enrollments":[{}]}"#, Some(0)),
    ] {
        assert_eq!(selected(each, text), expected, "{each} {text}");
    }
}

fn part(route: Route, credentials: &[&'static str], background: &[(&'static str, &str)]) -> SharedPart {
    let names = credentials.iter().map(|name| HeaderName::from_static(name)).collect();
    SharedPart::new(&route, names, &fields(background))
}

#[test]
fn the_shared_part_is_fetched_without_the_callers_credentials() {
    let base = Route {
        headers: vec![HeaderName::from_static("x-tenant"), HeaderName::from_static("accept-language")],
        cookies: vec!["theme".to_owned()],
        ..route("/courses")
    };
    let request = fields(&[
        ("authorization", "Bearer ann"),
        ("proxy-authorization", "x"),
        ("cookie", "sid=1; theme=dark"),
        ("x-api-key", "k"),
        ("x-user-id", "7"),
        ("x-org-id", "acme"),
        ("who", "ann"),
        ("x-tenant", "t"),
        ("accept-language", "de"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("if-none-match", "\"x\""),
        ("range", "bytes=0-1"),
    ]);
    let asked = part(base.clone(), &["who"], &[("authorization", "service")])
        .request_fields(&request, &CallerFields::default());
    assert_eq!(
        asked,
        fields(&[
            ("cookie", "theme=dark"),
            ("x-tenant", "t"),
            ("x-org-id", "acme"),
            ("accept-language", "de"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
        ])
    );
    let own = Route { overlay_as: OverlayAs::Background, ..base };
    let own = part(own, &[], &[("authorization", "service")]);
    assert_eq!(own.request_fields(&request, &CallerFields::default())["authorization"], "service");
}

fn fields_merged(shared: &[(&'static str, &str)], of_caller: &[(&'static str, &str)]) -> HeaderMap {
    let (shared, of_caller) = (fields(shared), fields(of_caller));
    let tag = merged_tag(&shared, b"[]");
    merged_fields(
        &route("/courses"),
        MergedContent { tag: tag.as_ref(), shared: &shared, of_caller: &[&of_caller] },
    )
}

#[test]
fn no_cache_may_share_what_is_merged() {
    let shared = [
        ("content-type", "application/json"),
        ("cache-control", "public, max-age=60, s-maxage=60"),
        ("cdn-cache-control", "max-age=60"),
        ("surrogate-control", "max-age=60"),
        ("expires", "Sun, 06 Nov 2094 08:49:37 GMT"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-encoding", "gzip"),
        ("content-length", "9"),
        ("content-digest", "sha-256=:x:"),
        ("set-cookie", "sid=nobody"),
        ("x-ratelimit-remaining", "9"),
        ("link", "</next>; rel=next"),
    ];
    let mut merged = fields_merged(&shared, &[("set-cookie", "sid=ann"), ("x-of", "caller")]);
    let tag = merged.remove(ETAG).expect("a tag");
    assert!(
        tag.to_str().is_ok_and(|tag| tag.starts_with("\"-larder-overlay-") && tag.len() == 50),
        "{tag:?}"
    );
    assert_eq!(
        merged,
        fields(&[
            ("content-type", "application/json"),
            ("link", "</next>; rel=next"),
            ("cache-control", "private, no-cache"),
            ("accept-ranges", "none"),
            ("set-cookie", "sid=ann"),
        ])
    );
    assert_eq!(fields_merged(&[], &[("cache-control", "no-store")])["cache-control"], "private, no-store");
}

#[test]
fn the_tag_names_that_of_the_shared_part_and_is_restored() {
    let strong = fields_merged(&[("etag", "\"v1\"")], &[])[ETAG].clone();
    let weak = fields_merged(&[("etag", "W/\"v1\"")], &[])[ETAG].clone();
    let restored = |sent: String| {
        let mut request = fields(&[("if-match", &sent)]);
        restore_tags(&mut request, IF_MATCH);
        request[IF_MATCH].to_str().expect("text").to_owned()
    };
    let (strong, weak) = (strong.to_str().expect("text"), weak.to_str().expect("text"));
    assert_eq!(restored(strong.to_owned()), "\"v1\"");
    assert_eq!(restored(format!("\"a\", {strong},{strong}")), "\"a\", \"v1\",\"v1\"");
    for kept in [weak, "*", "\"v1-larder-overlay-0\"", "\"x-larder-overlay-\"", "\"-larder-overlay-"] {
        assert_eq!(restored(kept.to_owned()), kept);
    }
}

#[test]
fn the_rules_of_a_shared_part_are_its_own() {
    let base = Route { overlay: vec![overlay("$")], ..route("/courses") };
    let asked = |overlay_as| part(Route { overlay_as, ..base.clone() }, &[], &[]).route.fingerprint;
    let (anonymous, background) = (asked(OverlayAs::Anonymous), asked(OverlayAs::Background));
    assert!(anonymous != base.fingerprint && background != base.fingerprint && anonymous != background);
}
