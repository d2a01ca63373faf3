//! Bounds of what one write names, and its targets by outcome.

use super::*;

#[test]
fn no_request_makes_a_write_name_or_read_more_than_its_bound() {
    let route = |path| Route {
        tags: templates(&[
            "t:{id}:{query.x}",
            "u:{query.x}{query.y}",
            "h:{header.x-h}",
            "c:{cookie.c}",
            "s:{jwt.sub}",
        ]),
        ..route(path)
    };
    let routes = routes([route("/api/id/{id}"), route("/api/ID/{id}/"), route("/{id}/{x}/{y}")]);
    let list = |count: usize, part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<Vec<_>>();
    let post = |target: &str| Request::new("POST", target);
    let values = list(3500, &|n| format!("x={n}")).join("&");
    let same = list(8000, &|_| "x=1".to_owned()).join("&");
    let both = list(800, &|n| format!("x={n}&y={n}")).join("&");
    let cookies = list(9000, &|_| "c=".to_owned()).join(";");
    let token = format!("Bearer a.{}.c", "e30".repeat(2600));
    let mut lines = post("/api/id/1");
    for line in list(95, &|n| format!("{n}{}", "h".repeat(300))) {
        lines.headers.append("x-h", line.parse().unwrap());
    }
    for request in [
        post(&format!("/api/id/1?{values}")),
        post(&format!("/api/id/1?{same}")),
        post(&format!("/api/id/1?{both}")),
        post(&format!("/{}", "a/".repeat(15_000))),
        post(&format!("/api/id/{}", "%25".repeat(9000))),
        post(&format!("/{}api/id/1", "a/../".repeat(6000))),
        post(&format!("/{}", "a.php/01/".repeat(3000))),
        post("/x/a.php/x/0x1/%3f/1_0.a"),
        post(&format!("/api/id/%2561?{values}")).with("x-original-url", "/API/id/2/"),
        post("/api/id/1").with("cookie", &cookies),
        post("/api/id/1").with("authorization", &token),
        lines,
    ] {
        let (targets, _) = named(&routes, &request);
        let tags = targets.iter().filter(|target| matches!(target, Target::Tag(_))).count();
        assert!(tags <= 64 + 3, "{tags} tags of {:.60}", request.path);
        assert!(targets.len() <= 64 + 3 + 80, "{} targets of {:.60}", targets.len(), request.path);
    }
}

#[test]
fn a_write_names_so_many_tags_and_then_its_own_route() {
    let many = Route {
        tags: templates(&["all"]),
        purges: Some(fixtures::purges(&["n:{request.json:$[*]}"])),
        ..route("/many")
    };
    let found = |route: Route, ids: usize| {
        let routes = routes([route, Route { tags: templates(&["n:{id}"]), ..fixtures::route("/n/{id}") }]);
        let content = Content::Json((0..ids).collect());
        let exchange = WriteExchange { request_content: Some(&content), ..WriteExchange::default() };
        exchanged(&routes, &Request::new("POST", "/many"), &exchange)
    };
    for (ids, max, named, widened) in
        [(64, 64, 64, 0), (65, 64, 64, 1), (5000, 64, 64, 1), (600, 1000, 600, 0), (2, 1, 1, 1)]
    {
        let (targets, count) = found(Route { max_targets: max, ..many.clone() }, ids);
        assert_eq!((targets.len(), count), (named + widened, widened), "{ids} of {max}");
        assert_eq!(targets.contains(&stored_by("/many")), widened == 1);
        assert!(!targets.contains(&tag(LISTED_TAG)));
    }
}

/// A list among the values of a JSONPath: the others are purged, and what the unusable one may have named.
#[test]
fn an_unusable_value_does_not_keep_the_others_from_a_purge() {
    let own = Route { purges: Some(fixtures::purges(&["n:{request.json:$..id}"])), ..route("/many") };
    let routes = routes([own]);
    let found = |text: &str, outcome| {
        let content = Content::Json(serde_json::from_str(text).unwrap());
        let exchange = WriteExchange { request_content: Some(&content), ..WriteExchange::default() };
        let request = Request::new("POST", "/many");
        let plan = plan(&routes, &request);
        let (_, found) = plan.finish(&request.head(), WriteTargets::default(), outcome, &exchange);
        (found.targets.to_vec(), found.widened)
    };
    let list = r#"[{"id": 1}, {"id": [2]}, {"id": 3.5}, {"id": null}, {"id": "4"}]"#;
    let named = vec![tag("n:1"), tag("n:4")];
    let all = [&named[..], &[stored_by("/many")]].concat();
    assert_eq!(found(list, WriteOutcome::Purge), (all, 1));
    assert_eq!(found(list, WriteOutcome::PurgeInDoubt), (named, 1));
    assert_eq!(found(r#"[{"id": 1}, {"id": null}]"#, WriteOutcome::Purge), (vec![tag("n:1")], 0));
    assert_eq!(found(r#"[{"id": {}}]"#, WriteOutcome::Purge), (vec![stored_by("/many")], 1));
    let many = format!("[{}1]", r#"{"id": []},"#.repeat(5000));
    assert_eq!(found(&many, WriteOutcome::Purge), (vec![stored_by("/many")], 1));
}

#[test]
fn content_without_a_value_purges_what_the_entry_says() {
    let template = Template::parse("guild:{request.json:/guild}").unwrap();
    let rule = PurgeRule { otherwise: vec!["guilds".to_owned(), "all".to_owned()], ..template.into() };
    let routes = routes([Route { ttl: Ttl::Never, purges: Some(vec![rule]), ..route("/w") }]);
    let found = |text: &str| {
        let content = serde_json::from_str(text).ok().map(Content::Json);
        let exchange = WriteExchange { request_content: content.as_ref(), ..WriteExchange::default() };
        exchanged(&routes, &Request::new("POST", "/w"), &exchange)
    };
    assert_eq!(found("{}"), (vec![tag("guilds"), tag("all")], 1));
    assert_eq!(found(r#"{"guild": 1}"#), (vec![tag("guild:1")], 0));
}

#[test]
fn each_outcome_has_its_targets() {
    let tagged = Route { tags: templates(&["all", "q:{query.q}"]), ..route("/a") };
    let routes = routes([tagged]);
    let request = Request::new("POST", "/a");
    let headers = fields(&[("location", "/b"), ("cache-group-invalidation", "\"g\"")]);
    let exchange = WriteExchange { response_headers: Some(&headers), ..WriteExchange::default() };
    let group = tag("http://api.example g");
    let (all, widened) = (tag("all"), stored_by("/a"));
    for (outcome, expected, targets) in [
        (WriteOutcome::Nothing, WriteOutcome::Purge, vec![group.clone()]),
        (WriteOutcome::PurgeUrl, WriteOutcome::Purge, vec![path("/a"), group.clone()]),
        (
            WriteOutcome::PurgeInDoubt,
            WriteOutcome::PurgeInDoubt,
            vec![path("/a"), all.clone(), path("/b"), group.clone()],
        ),
        (WriteOutcome::Purge, WriteOutcome::Purge, vec![path("/a"), all, widened, path("/b"), group]),
    ] {
        let plan = plan(&routes, &request);
        let (end, found) =
            plan.finish(&request.head(), plan.head_targets(&request.head()), outcome, &exchange);
        assert_eq!((end, found.targets.to_vec()), (expected, targets), "{outcome:?}");
    }
    let plan = plan(&routes, &request);
    let nothing = plan.finish(
        &request.head(),
        WriteTargets::default(),
        WriteOutcome::Nothing,
        &WriteExchange::default(),
    );
    assert_eq!(nothing, (WriteOutcome::Nothing, WriteTargets::default()));
}

/// A purge intent stands until the exchange has named the targets, so it covers all that it could name.
#[test]
fn an_intent_covers_every_target_the_exchange_may_name() {
    let guild = Route {
        ttl: Ttl::Never,
        purges: Some(fixtures::purges(&["guild:{request.json:/guild}", "all"])),
        ..route("/api/events")
    };
    let read = Route { tags: templates(&["Guild:{id}"]), ..route("/api/guilds/{id}") };
    let routes = routes([guild, read, Route { tags: templates(&["other:{id}"]), ..route("/other/{id}") }]);
    let request = Request::new("POST", "/api/events");
    let targets = plan(&routes, &request).possible_targets(&request.head());
    assert!(reach_plain(&targets, &[("surrogate-key", "guild:7")]), "{targets:?}");
    assert!(!reach_plain(&targets, &[]), "{targets:?}");
    assert!(targets.contains(&stored_by("/api/guilds/{id}")) && targets.contains(&tag("all")), "{targets:?}");
    assert!(!targets.contains(&stored_by("/other/{id}")), "{targets:?}");
    let named = Request::new("POST", "/api/courses/7");
    assert!(!plan(&api(), &named).possible_targets(&named.head()).contains(&tag(LISTED_TAG)));
}
