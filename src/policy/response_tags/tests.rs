use super::*;
use crate::policy::credential::Credential;
use crate::policy::fixtures::{Request, fields, route, templates};
use crate::policy::query::QueryRule;
use crate::policy::tags::parse_list;

fn check(tags: &[&str], target: &str, response: &[(&'static str, &str)], expected: &[&str]) {
    let page = ("page".to_owned(), Some("1".to_owned()));
    let route = Route { tags: templates(tags), query: QueryRule::Only(vec![page]), ..route("/courses/{id}") };
    let found = response_tags(&route, &Request::get(target).head(), &fields(response), None);
    assert_eq!(found.as_deref(), Ok(&expected.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>()[..]));
}

#[test]
fn tags_come_from_the_route_and_from_the_response() {
    check(&["courses", "course:{id}"], "/courses/7", &[], &["courses", "course:7"]);
    check(&["u:{jwt.sub}", "c:{response.header.x-course}"], "/courses/7", &[], &[]);
    check(&["c:{response.header.x-course}"], "/courses/7", &[("x-course", "1, 2")], &["c:1", "c:2"]);
    check(&[], "/courses/7", &[("surrogate-key", " a  b c,d ")], &["a", "b", "c,d", LISTED_TAG]);
    check(&[], "/courses/7", &[("cache-tag", "a, b c ,,d")], &["a", "b c", "d", LISTED_TAG]);
    check(&[], "/courses/7", &[("edge-cache-tag", "a,b")], &["a", "b", LISTED_TAG]);
    for name in ["xkey", "ykey", "cache-tags", "x-cache-tags", "purge-cache-tags"] {
        check(&[], "/courses/7", &[(name, "a b,c"), (name, "d")], &["a", "b", "c", "d", LISTED_TAG]);
    }
}

#[test]
fn a_response_of_one_caller_has_the_tags_that_name_callers() {
    let with = |claims: &str| Request::get("/a").with("authorization", &format!("Bearer e30.{claims}.x"));
    let (with_sub, without) = (with("eyJzdWIiOiJ1NyJ9"), with("e30"));
    for (per, expected) in
        [(Some(Credential::Authorization), Err(NotStored::NoCallerTag)), (None, Ok(vec![]))]
    {
        let route = Route { tags: templates(&["u:{jwt.sub}"]), per, ..route("/a") };
        let tags = |request: &Request| response_tags(&route, &request.head(), &fields(&[]), None);
        assert_eq!(tags(&with_sub), Ok(vec!["u:u7".to_owned()]));
        assert_eq!(tags(&without), expected);
    }
}

#[test]
fn a_tag_stands_once_whatever_its_case() {
    let response = &[("cache-tag", "Courses, COURSE:7, new"), ("surrogate-key", "new, other")];
    let expected = &["courses", "course:7", "new", "other", LISTED_TAG];
    check(&["courses", "course:{id}"], "/courses/7", response, expected);
}

#[test]
fn query_defaults_name_tags_and_dropped_parameters_do_not() {
    check(&["page:{query.page}"], "/courses/7", &[], &["page:1"]);
    check(&["page:{query.page}"], "/courses/7?page=3", &[], &["page:3"]);
    check(&["x:{query.x}"], "/courses/7?x=3", &[], &[]);
}

#[test]
fn over_the_bound_there_are_no_tags_but_an_error() {
    let many = |count: usize| (0..count).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
    let (most, more) = (many(MAX_TAGS), many(MAX_TAGS + 1));
    let (longest, longer) = ("x".repeat(MAX_TAG_BYTES), "x".repeat(MAX_TAG_BYTES + 1));
    let request = Request::get("/a");
    for (value, is_ok) in [(&most, true), (&more, false), (&longest, true), (&longer, false)] {
        let found = response_tags(&route("/a"), &request.head(), &fields(&[("cache-tag", value)]), None);
        assert_eq!(found.is_ok(), is_ok);
    }
    let deep = |depth: usize| vec!["x"; depth].join("/");
    let (deepest, many_deep) = (deep(32), (0..128).map(|i| format!("{i}/{}", deep(20))).collect::<Vec<_>>());
    for (value, is_ok) in [(&deepest, true), (&deep(33), false), (&many_deep.join(","), false)] {
        let found = response_tags(&route("/a"), &request.head(), &fields(&[("cache-tag", value)]), None);
        assert_eq!(found.is_ok(), is_ok);
    }
    // Template values count too.
    let route = Route { tags: templates(&["q:{query.q}"]), ..route("/a") };
    let long = Request::get(&format!("/a?q={longest}"));
    assert_eq!(response_tags(&route, &long.head(), &fields(&[]), None), Err(NotStored::TooManyTags));
    let many = Request::get(&format!("/a?q={}", more.replace(',', "&q=")));
    assert_eq!(response_tags(&route, &many.head(), &fields(&[]), None), Err(NotStored::TooManyTags));
}

#[test]
fn a_list_may_be_by_comma_space_or_both() {
    assert_eq!(parse_list(" a,b  c\t,,d "), ["a", "b", "c", "d"]);
    assert!(parse_list(" , ").is_empty());
}
