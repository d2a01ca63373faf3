//! The response fields in which larder lists the tags of a response (`list_tags`), for caches in front of it. They are
//! stored with the response, so that each hit has them.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::content::Content;
use super::not_stored::NotStored;
use super::response_tags::{public_tags, response_tags};
use super::route::OwnUrl;
use super::tags::{LISTED_TAG, list_separator, parse_tag_field};
use super::{RequestHead, Route};
use crate::hex;
use crate::purge::{TargetId, tag_and_ancestors};

/// The longest list: CDNs read no more of a field.
const MAX_LIST_BYTES: usize = 16 * 1024;

/// The tags of a response that is to be stored.
#[derive(Clone, Debug)]
pub(crate) struct EntryTags {
    /// Those by which purges reach it.
    pub all: Vec<String>,
    /// Those that other caches may learn; `None`: there are more, which they may not, or some are lost.
    public: Option<Vec<String>>,
    /// Whether these are all tags. The content may name more.
    is_complete: bool,
}

impl EntryTags {
    /// `content`: if the route's tags need it and it is known.
    pub(crate) fn collect(
        route: &Route,
        request: &RequestHead<'_>,
        headers: &HeaderMap,
        content: Option<&Content>,
    ) -> Result<Self, NotStored> {
        let all = response_tags(route, request, headers, content)?;
        let public = match route.list_tags.is_empty() {
            true => Vec::new(),
            false => public_tags(route, request, headers, content)?,
        };
        Ok(Self { all, public: Some(public), is_complete: content.is_some() || !route.reads_content() })
    }

    /// The tags of a stored response that is still good. `headers`: its fields with those of the API's `update`, which has
    /// the API's own lists; larder's are taken out.
    pub(crate) fn collect_freshened<'t>(
        route: &Route,
        request: &RequestHead<'_>,
        (headers, update): (&mut HeaderMap, &HeaderMap),
        (stored, stored_tags): (&HeaderMap, impl Iterator<Item = &'t str>),
    ) -> Result<Self, NotStored> {
        for name in route.list_tags.iter().filter(|name| !update.contains_key(*name)) {
            headers.remove(name);
        }
        // The tags of the content are among the stored ones.
        let Self { mut all, public, .. } = Self::collect(route, request, headers, None)?;
        let more: Vec<_> = stored_tags.map(str::to_owned).filter(|tag| !all.contains(tag)).collect();
        all.extend(more);
        let name = route.list_tags.first().filter(|name| stored.contains_key(*name));
        let listed = name.map(|name| parse_tag_field(stored, name));
        let public = public.zip(listed).map(|(public, listed)| [public, listed].concat());
        Ok(Self { all, public, is_complete: true })
    }

    /// Lists the tags and `targets` in the fields of `list_tags`. Removes these if the list is too long, or if the response
    /// also has tags that are not public, by which other caches could not purge it.
    pub(crate) fn list_in(&self, route: &Route, targets: &[TargetId], headers: &mut HeaderMap) {
        if !self.is_complete || route.list_tags.is_empty() {
            return;
        }
        let mut seen = HashSet::new();
        let public = self.public.iter().flatten();
        let listed = public.flat_map(|tag| tag_and_ancestors(tag)).map(spell_tag);
        let listed = listed.chain(targets.iter().copied().map(spell_target));
        let listed: Vec<String> = listed.filter(|tag| seen.insert(tag.to_ascii_lowercase())).collect();
        let is_listed =
            |tag: &String| tag == LISTED_TAG || seen.contains(&spell_tag(tag).to_ascii_lowercase());
        // A purge of one caller's responses can't be relayed either.
        let names_caller = route.own_url == OwnUrl::Caller;
        let is_whole = !names_caller && self.public.is_some() && self.all.iter().all(is_listed);
        for name in &route.list_tags {
            let list = join_tags(name, &listed);
            let list = (is_whole && list.len() <= MAX_LIST_BYTES).then_some(list);
            match list.and_then(|list| HeaderValue::from_str(&list).ok()) {
                Some(list) => drop(headers.insert(name, list)),
                None => drop(headers.remove(name)),
            }
        }
    }
}

/// The list of tags in a field.
pub(crate) fn join_tags(field: &HeaderName, tags: &[String]) -> String {
    tags.join(list_separator(field))
}

/// The beginning of the name of a target, which no tag has.
const TARGET_MARK: char = '~';

/// A target as a member of a list.
pub(crate) fn spell_target(TargetId(id): TargetId) -> String {
    format!("{TARGET_MARK}{}", hex::encode(&id))
}

/// A tag as a member of a list: visible ASCII without a comma.
fn spell_tag(tag: &str) -> String {
    let mut spelled = String::with_capacity(tag.len());
    for byte in tag.bytes() {
        match byte {
            b',' => spelled.push_str("%2C"),
            0x21..=0x7e => spelled.push(char::from(byte)),
            _ => spelled.push_str(&format!("%{byte:02X}")),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::policy::fixtures::{Request, fields, route, templates};

    const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
    const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

    fn lists(tags: &[&str], request: &Request, response: &[(&'static str, &str)]) -> HeaderMap {
        let route = Route {
            tags: templates(tags),
            list_tags: vec![SURROGATE_KEY, CACHE_TAG],
            ..route("/courses/{id}")
        };
        let mut headers = fields(response);
        let found = EntryTags::collect(&route, &request.head(), &headers, None).unwrap();
        found.list_in(&route, &[TargetId(*b"/courses")], &mut headers);
        headers
    }

    #[test]
    fn each_field_has_its_separator_and_each_tag_is_one_member() {
        let request = Request::get("/courses/a%20b?q=x,y");
        let tags = ["all", "course:{id}", "q:{query.q}", "ALL", "größe", "tenant:1/x"];
        let found = lists(&tags, &request, &[("cache-tag", "two words, all")]);
        let expected = [
            "all",
            "course:a%20b",
            "q:x%2Cy",
            "q:x",
            "q:y",
            "gr%C3%B6%C3%9Fe",
            "tenant:1",
            "tenant:1/x",
            "two%20words",
            "~2f636f7572736573",
        ];
        let list = |name: HeaderName| found.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(list(SURROGATE_KEY), expected.join(" "));
        assert_eq!(list(CACHE_TAG), expected.join(","));
    }

    #[test]
    fn a_response_with_a_tag_of_its_sender_lists_nothing() {
        let request = Request::get("/courses/7?token=secret&page=2")
            .with("authorization", "Bearer e30.eyJzdWIiOiJ1NyJ9.x")
            .with("cookie", "team=red")
            .with("x-guild", "g1");
        let response = [("x-session-id", "s9"), ("surrogate-key", "own")];
        for tag in [
            "u:{jwt.sub}",
            "u:{jwt.sub}:{id}",
            "t:{cookie.team}",
            "g:{header.x-guild}",
            "k:{query.token}",
            "s:{response.header.x-session-id}",
        ] {
            let found = lists(&["course:{id}", tag], &request, &response);
            assert!(!found.contains_key(SURROGATE_KEY) && !found.contains_key(CACHE_TAG), "{tag}");
            // Without such a value there is no such tag.
            let found = lists(&["course:{id}", tag], &Request::get("/courses/7"), &[]);
            assert_eq!(found.get(SURROGATE_KEY).unwrap(), "course:7 ~2f636f7572736573", "{tag}");
        }
        let found = lists(&["p:{query.page}", "course:{id}"], &request, &response);
        assert_eq!(found.get(SURROGATE_KEY).unwrap(), "p:2 course:7 own ~2f636f7572736573");
    }

    #[test]
    fn a_list_that_is_too_long_is_none() {
        let tag = |length: usize| format!("{}, b", "x".repeat(length));
        let at_most = MAX_LIST_BYTES / 16;
        for (count, is_listed) in [(15, true), (17, false)] {
            let many: Vec<String> = (10..10 + count).map(|at| format!("{at}{}", tag(at_most - 4))).collect();
            let many = many.join(",");
            let found =
                lists(&[], &Request::get("/courses/7"), &[("cache-tag", &many), ("surrogate-key", "x")]);
            assert_eq!(found.contains_key(SURROGATE_KEY), is_listed, "{count}");
            assert_eq!(found.contains_key(CACHE_TAG), is_listed);
        }
    }

    #[test]
    fn a_fresh_304_keeps_the_tags_of_the_content_and_adds_its_own() {
        let route = Route {
            tags: templates(&["item:{response.json:$.id}", "all"]),
            list_tags: vec![SURROGATE_KEY],
            ..route("/courses/{id}")
        };
        let request = Request::get("/courses/7");
        let collect = |stored: &HeaderMap, update: &HeaderMap| {
            let mut headers = stored.clone();
            update.iter().for_each(|(name, value)| drop(headers.insert(name, value.clone())));
            let stored_tags = ["all", "item:1"].into_iter();
            let fields = (&mut headers, update);
            let tags =
                EntryTags::collect_freshened(&route, &request.head(), fields, (stored, stored_tags)).unwrap();
            tags.list_in(&route, &[], &mut headers);
            (tags.all, headers.get(SURROGATE_KEY).map(|list| list.to_str().unwrap().to_owned()))
        };
        let stored = fields(&[("surrogate-key", "all item:1")]);
        let (all, list) = collect(&stored, &fields(&[]));
        assert_eq!((all.join(" "), list.as_deref()), ("all item:1".to_owned(), Some("all item:1")));
        let (all, list) = collect(&stored, &fields(&[("surrogate-key", "new")]));
        assert_eq!(
            (all.join(" "), list.as_deref()),
            ("all new (listed) item:1".to_owned(), Some("all new item:1"))
        );
        // A stored response without a list gets none.
        assert_eq!(collect(&fields(&[]), &fields(&[("surrogate-key", "new")])).1, None);
    }
}
