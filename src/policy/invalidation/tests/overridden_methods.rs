//! A POST whose query or content asks for another method reaches below its path as that method does.

use super::*;

fn shop() -> Routes {
    routes([route("/items"), route("/items/{id}"), route("/items/{id}/notes")])
}

fn form(text: &str) -> Content {
    Content::Form(text.to_owned())
}

fn json(text: &str) -> Content {
    Content::Json(serde_json::from_str(text).unwrap())
}

fn post(target: &str) -> Request {
    Request::new("POST", target)
}

/// A POST with the media type of the content.
fn post_with(target: &str, content: &Content) -> Request {
    post(target).with(
        "content-type",
        match content {
            Content::Json(_) => "application/json",
            Content::Form(_) => "application/x-www-form-urlencoded",
        },
    )
}

fn below(routes: &Routes, request: &Request, content: Option<&Content>) -> (Vec<Target>, usize) {
    let plan = plan(routes, request);
    let exchange = WriteExchange { request_content: content, ..WriteExchange::default() };
    let head = plan.head_targets(&request.head());
    let (_, found) = plan.finish(&request.head(), head, WriteOutcome::Purge, &exchange);
    let is_prefix = |target: &&Target| matches!(target, Target::Prefix { .. });
    (found.targets.iter().filter(is_prefix).cloned().collect(), found.widened)
}

#[test]
fn a_query_that_deletes_reaches_what_lies_below() {
    for (target, expected) in [
        ("/items/7?_method=delete", &["/items/7"][..]),
        ("/items/7?a=1;%5FHttpMethod=MOVE", &["/items/7"]),
        ("/items?_method=PATCH", &["/items"]),
        ("/items/7?_method=PATCH", &[]),
        ("/items/7?_method=x%20y", &[]),
        ("/items/7?_method=get", &[]),
        ("/items/7?method=delete", &[]),
        ("/items/7/notes?_method=delete", &[]),
        ("/?_method=delete", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|path| prefix(path)).collect();
        assert_eq!(below(&shop(), &post(target), None), (expected, 0), "{target}");
    }
    let put = Request::new("PUT", "/items/7?_method=delete");
    assert_eq!(below(&shop(), &put, None), (vec![], 0), "only a POST stands for another method");
}

#[test]
fn a_content_that_deletes_reaches_what_lies_below() {
    for (target, content, expected) in [
        ("/items/7", form("a=1&_method=delete"), &["/items/7"][..]),
        ("/items/7", form("_method=put&_method=delete"), &["/items/7"]),
        ("/items/7", json(r#"{"_method": "DELETE"}"#), &["/items/7"]),
        ("/items/7", json(r#"{"_HttpMethod": " delete "}"#), &["/items/7"]),
        ("/items/7", json(r#"[{"a": 1}, {"_method": "DELETE"}]"#), &["/items/7"]),
        ("/items", json(r#"{"_method": "put"}"#), &["/items"]),
        ("/items?_method=patch", form("_method=delete"), &["/items"]),
        ("/items/7", json(r#"{"_method": ["DELETE"], "a": {"_method": "DELETE"}}"#), &[]),
        ("/items/7", form("_method=post"), &[]),
        ("/items/7/notes", form("_method=delete"), &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|path| prefix(path)).collect();
        assert_eq!(
            below(&shop(), &post_with(target, &content), Some(&content)),
            (expected, 0),
            "{target} {content:?}"
        );
    }
    let put = Request::new("PUT", "/items/7").with("content-type", "application/x-www-form-urlencoded");
    assert_eq!(below(&shop(), &put, Some(&form("_method=delete"))), (vec![], 0));
}

/// A method that could not be read is widened like a value that could not be: not while the write is in doubt.
#[test]
fn a_content_that_cannot_be_read_may_delete() {
    for (fields, expected) in [
        (&[("content-type", "application/json")][..], 1),
        (&[("content-type", "application/x-www-form-urlencoded"), ("content-length", "7")], 1),
        (&[("content-type", "application/json"), ("content-length", "0")], 0),
        (&[("content-type", "image/png")], 0),
        (&[], 0),
    ] {
        let request =
            fields.iter().fold(post("/items/7"), |request, (name, value)| request.with(name, value));
        let (targets, widened) = below(&shop(), &request, None);
        assert_eq!((targets.len(), widened), (expected, expected), "{fields:?}");
        let plan = plan(&shop(), &request).finish(
            &request.head(),
            WriteTargets::default(),
            WriteOutcome::PurgeInDoubt,
            &WriteExchange::default(),
        );
        assert!(!plan.1.targets.to_vec().contains(&prefix("/items/7")), "{fields:?}");
    }
}

#[test]
fn the_content_is_buffered_where_something_lies_below() {
    let buffers = |target: &str, method: &str| {
        let request = Request::new(method, target).with("content-type", "application/json");
        let routes = shop();
        let plan = plan(&routes, &request);
        let buffered = plan.content_to_buffer().request.is_some();
        let intended = plan.possible_targets(&request.head());
        assert_eq!(intended.iter().any(|it| matches!(it, Target::Prefix { .. })), buffered, "{target}");
        buffered
    };
    assert!(buffers("/items", "POST") && buffers("/items/7", "POST"));
    assert!(!buffers("/items/7/notes", "POST") && !buffers("/items/7", "PUT"));
    let request = post("/items/7").with("content-type", "image/png");
    assert!(plan(&shop(), &request).content_to_buffer().request.is_none());
    let no_children = RelatedPaths { children: false, ..RelatedPaths::default() };
    let request = post("/items/7?_method=delete").with("content-type", "application/json");
    let routes = shop();
    let plan = WritePlan::new(&routes, &request.head(), no_children);
    assert!(plan.content_to_buffer().request.is_none());
    assert!(!plan.head_targets(&request.head()).targets.to_vec().contains(&prefix("/items/7")));
}

/// An API that ignores `_method` creates something.
#[test]
fn what_was_absent_ends_whatever_method_is_asked_for() {
    let absent = Route { status: [(404, Duration::from_secs(60))].into(), ..route("/items/{id}") };
    let routes = routes([route("/items"), absent]);
    let (targets, _) = named(&routes, &post("/items?_method=delete"));
    assert!(targets.contains(&absence_target("/items")), "{targets:?}");
}
