//! The routes of a draft: one for each path that is read, or whose writes change what is read.

use std::collections::{BTreeMap, BTreeSet};

use super::caution;
use super::operation::{Access, PathItem, ReadOperation};
use super::resource::{Resource, Tag, is_reached, reaches_any, shape, tag_name, without_format};
use crate::draft::{Draft, DraftRoute, Setting, flow_item, scalar, sequence};
use crate::policy::path::is_caller_segment;

/// The lifetime where no documented write ends it earlier.
const TTL_UNPURGED: &str = "30s";
const TTL_PURGED: &str = "1m";

/// A schema of more kinds than this is an envelope, not a kind of its own.
const MAX_KINDS_OF_SCHEMA: usize = 2;

/// The source that names the paths and their operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::draft) enum RouteSource {
    Document,
    Log,
}

/// A path with its tags.
struct Planned<'p> {
    item: &'p PathItem,
    source: RouteSource,
    resource: Resource,
    /// The tags of its responses.
    tags: Vec<Tag>,
    /// Further tags that its writes purge.
    purges: Vec<Tag>,
    /// A path whose writes may change it, by another spelling of its name.
    other_spelling: Option<String>,
}

/// Adds the routes and questions. Returns the request fields in `per`.
pub(in crate::draft) fn add(draft: &mut Draft, items: &[PathItem], source: RouteSource) -> BTreeSet<String> {
    let mut planned: Vec<_> = items.iter().map(|item| Planned::new(item, source)).collect();
    add_bulk_tags(&mut planned);
    add_view_tags(&mut planned);
    add_embedded_tags(&mut planned);
    keep_matching_tags(&mut planned);
    let mut names = BTreeSet::new();
    draft.questions.extend(ask_about_spellings(&mut planned));
    let has_reads = planned.iter().any(Planned::caches);
    let mut uncached = Vec::new();
    for plan in &planned {
        match plan.item.read.as_ref().map(|read| (read, plan.obstacle(read))) {
            Some((read, None)) => {
                names.extend(read.access.headers());
                draft.routes.push(plan.caching_route(read));
                draft.questions.extend(plan.questions(read));
            }
            Some((_, Some(why))) => {
                draft.questions.push(format!("GET {}: not cached: {why}", plan.item.path()));
                draft.routes.extend(plan.writing_route());
                uncached.push(plan.item.path());
            }
            None => draft.routes.extend(plan.writing_route()),
        }
        draft.questions.extend(plan.ask_about_partial_writes());
        draft.questions.extend(plan.ask_about_searches());
        draft.questions.extend(plan.ask_about_writes().filter(|_| has_reads));
    }
    uncached.iter().for_each(|path| draft.leave_uncached(path));
    names
}

/// Notes the writes that may change a read which no write purges, and asks about them.
fn ask_about_spellings(planned: &mut [Planned<'_>]) -> Vec<String> {
    let writing: Vec<&PathItem> =
        planned.iter().map(|plan| plan.item).filter(|item| !item.writes.is_empty()).collect();
    let mut questions = Vec::new();
    for plan in planned.iter_mut().filter(|plan| plan.caches() && !plan.is_purged()) {
        let is_other = |item: &&&PathItem| caution::find_other_spelling(plan.item, item).is_some();
        let Some(other) = writing.iter().find(is_other) else { continue };
        let (path, other) = (plan.item.path(), other.path());
        questions.push(format!(
            "GET {path}: do writes to {other} change it? Then give it a tag, and name that in `purges` there."
        ));
        plan.other_spelling = Some(other);
    }
    questions
}

impl<'p> Planned<'p> {
    fn new(item: &'p PathItem, source: RouteSource) -> Self {
        let resource = Resource::new(item);
        let mut tags: Vec<Tag> = resource
            .items
            .iter()
            .map(|text| Tag { text: text.clone(), why: "the item on its path".into() })
            .collect();
        tags.extend(
            resource.list.iter().map(|text| Tag { text: text.clone(), why: format!("the list of {text}") }),
        );
        let mut purges = Vec::new();
        if !item.writes.is_empty() {
            // `/pets/{petId}.feed`: the value would be `7.feed`, which no response carries.
            let is_named = item.writes.iter().any(|write| write.partial_path.is_none());
            let named = if is_named { resource.items.as_slice() } else { &[] };
            let items = named.iter().map(|text| (text.clone(), "a write below an item changes it"));
            let kinds = resource.kinds.iter().map(|text| (text.clone(), "and the lists of its kind"));
            let list = resource.list.iter().map(|text| (text.clone(), "a write to a list changes it"));
            purges.extend(items.chain(kinds).chain(list).map(|(text, why)| Tag { text, why: why.into() }));
        }
        Self { item, source, resource, tags, purges, other_spelling: None }
    }

    /// Whether a write of the document ends the lifetime of its responses.
    fn is_purged(&self) -> bool {
        !self.tags.is_empty() || !self.item.writes.is_empty()
    }

    fn caches(&self) -> bool {
        self.item.read.as_ref().is_some_and(|read| self.obstacle(read).is_none())
    }

    /// Why responses are not cached.
    fn obstacle(&self, read: &ReadOperation) -> Option<String> {
        let path = self.item.path();
        let mut segments = path.split('/').map(without_format);
        if let Some(missing) = &read.missing {
            return Some(format!("`{missing}` is not in this document. Which parameters does it have?"));
        }
        if read.is_stream {
            return Some("it is an event stream.".into());
        }
        let directives = read.cache_control.iter().flat_map(|value| value.split(','));
        if directives.into_iter().any(|directive| directive.trim().eq_ignore_ascii_case("no-store")) {
            return Some(
                "the document says `Cache-Control: no-store`. Is it meant for shared caches?".into(),
            );
        }
        let who = "Who may share its responses?";
        match &read.access {
            Access::Unclear(why) => Some(format!("{why}. {who}")),
            Access::Open if let Some(name) = segments.find(|segment| is_caller_segment(segment)) => {
                let unknown = match self.source {
                    RouteSource::Document => "the document has no `security` here",
                    RouteSource::Log => "a log does not tell callers apart",
                };
                Some(format!("`{name}` stands for the caller, and {unknown}. {who}"))
            }
            _ if read.has_lifetime => None,
            _ => caution::find_action(self.item, read),
        }
    }

    /// Writes whose path names an item by a part of a segment, such as `/pets/{petId}.feed`.
    fn ask_about_partial_writes(&self) -> Option<String> {
        let writes = &self.item.writes;
        let mut partial =
            writes.iter().filter_map(|write| Some((&write.method, write.partial_path.as_ref()?)));
        let (method, path) = partial.next()?;
        let kinds = self.resource.kinds.join("`, `");
        (!kinds.is_empty() && !self.purges.is_empty()).then(|| format!(
            "{method} {path}: no tag can name the item, since a route can't say what stands beside its parameter; the write purges \
             all of `{kinds}`. Does it change what is read at all?"
        ))
    }

    /// POSTs that most likely read.
    fn ask_about_searches(&self) -> Option<String> {
        let write = self.item.writes.iter().find(|write| caution::is_search(self.item, write))?;
        let path = self.item.path();
        Some(format!(
            "{} {path}: does it only read? Then write a route for it with `purges: []`, or to cache it a `ttl` and \
             `methods: [GET, POST]`; as a write it purges what is stored under paths like its own.",
            write.method
        ))
    }

    /// Writes that purge nothing that is read, and those of many items that purge no item.
    fn ask_about_writes(&self) -> Option<String> {
        let mut writes = self.item.writes.iter().filter(|write| !caution::is_search(self.item, write));
        let write = writes.next()?;
        let (method, path) = (&write.method, self.item.path());
        if caution::is_login(self.item) {
            return None;
        }
        if self.purges.is_empty() && !self.caches() {
            return Some(format!(
                "{method} {path}: it purges nothing that is read here. What does it change? Name the tags of that in `purges`."
            ));
        }
        caution::is_bulk(self.item).then(|| {
            format!("{method} {path}: does it change more than its tags name, such as single items? Add their tags.")
        })
    }

    fn caching_route(&self, read: &ReadOperation) -> DraftRoute {
        let mut settings = vec![self.ttl(read)];
        settings.extend(query(read));
        settings.extend(access(&read.access));
        let list = |names: &BTreeSet<String>| sequence(names.iter().map(String::as_str));
        if !read.headers.is_empty() {
            settings.push(Setting::new(
                "headers",
                list(&read.headers),
                "documented request fields, a part of the key",
            ));
        }
        if !read.cookies.is_empty() {
            settings.push(Setting::new(
                "cookies",
                list(&read.cookies),
                "documented cookies, a part of the key",
            ));
        }
        settings.extend(tag_setting("tags", &self.tags));
        settings.extend(tag_setting("purges", &self.own_purges()));
        DraftRoute { path: self.item.path(), about: vec![self.describe()], settings }
    }

    /// The route of a path without cached responses; `None` if its writes change nothing that is cached.
    fn writing_route(&self) -> Option<DraftRoute> {
        let purges = tag_setting("purges", &self.purges)?;
        Some(DraftRoute { path: self.item.path(), about: vec![self.describe()], settings: vec![purges] })
    }

    fn describe(&self) -> String {
        let read = self.item.read.iter().map(|read| ("GET", &read.name));
        let writes = self.item.writes.iter().map(|write| (write.method.as_str(), &write.name));
        let mut operations: Vec<String> = Vec::new();
        for (method, name) in read.chain(writes) {
            operations.push(if name.is_empty() { method.to_owned() } else { format!("{method} {name}") });
        }
        let widened = if self.item.is_widened { "; a parameter here takes its whole segment" } else { "" };
        format!("{}{widened}", operations.join(", "))
    }

    fn ttl(&self, read: &ReadOperation) -> Setting {
        match (read.has_lifetime, self.is_purged()) {
            (true, _) => {
                let why = match read.cache_control.as_ref() {
                    Some(value) => format!("the document says `Cache-Control: {value}`"),
                    None => "the document says that the response has a lifetime".into(),
                };
                Setting::new("ttl", "upstream", why)
            }
            (false, true) => {
                Setting::new("ttl", TTL_PURGED, "the writes below end it earlier; this bounds a missed one")
            }
            (false, false) => {
                let why = match &self.other_spelling {
                    Some(other) => format!("writes to {other} may change it, and no tag says so"),
                    None if self.source == RouteSource::Log => {
                        "no write in the log changes it by its path, so only time does".into()
                    }
                    None => "no documented write changes it, so only time does".into(),
                };
                Setting::new("ttl", TTL_UNPURGED, why)
            }
        }
    }

    /// The purges that its own tags do not include.
    fn own_purges(&self) -> Vec<Tag> {
        let is_own = |tag: &&Tag| !self.tags.iter().any(|own| own.text == tag.text);
        self.purges.iter().filter(is_own).cloned().collect()
    }

    fn questions(&self, read: &ReadOperation) -> Option<String> {
        let path = self.item.path();
        if read.query.is_none() {
            return Some(format!(
                "GET {path}: an object in the query can't be listed, so every parameter makes a key. Which matter?"
            ));
        }
        if let Access::Credential { per, is_optional: true } = &read.access {
            return Some(format!(
                "GET {path}: `{per}` is optional; requests without it pass. Do they all get one response?"
            ));
        }
        None
    }
}

fn query(read: &ReadOperation) -> Option<Setting> {
    let query = read.query.as_ref().filter(|query| !query.is_empty())?;
    let why = "documented parameters; others are neither in the key nor sent on";
    let has_defaults = query.values().any(Option::is_some);
    // One parameter named `ignore` with a list would be another form.
    let value = match has_defaults {
        false => sequence(query.keys().map(String::as_str)),
        true => {
            let entry = |(name, default): (&String, &Option<String>)| match default {
                Some(default) => format!("{}: {}", flow_item(name), flow_item(default)),
                None => format!("{}: ~", flow_item(name)),
            };
            format!("{{{}}}", query.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    };
    Some(Setting::new("query", value, why))
}

fn access(access: &Access) -> Option<Setting> {
    match access {
        Access::Credential { per, .. } => Some(Setting::new(
            "per",
            scalar(per),
            "callers identify themselves by it; `shared: true` if all get the same",
        )),
        Access::Open | Access::Query(_) | Access::Unclear(_) => None,
    }
}

fn tag_setting(key: &'static str, tags: &[Tag]) -> Option<Setting> {
    if tags.is_empty() {
        return None;
    }
    let mut reasons: Vec<&str> = Vec::new();
    for tag in tags {
        if !reasons.contains(&tag.why.as_str()) {
            reasons.push(&tag.why);
        }
    }
    Some(Setting::new(key, sequence(tags.iter().map(|tag| tag.text.as_str())), reasons.join("; ")))
}

/// A PUT, PATCH or DELETE of a list changes all of its items, so they carry the name of the list, and so does a write to
/// an item that no tag can name.
fn add_bulk_tags(planned: &mut [Planned<'_>]) {
    let is_bulk = |plan: &&Planned<'_>| plan.item.writes.iter().any(|write| write.method != "POST");
    let lists = planned.iter().filter(is_bulk).filter_map(|plan| plan.resource.list.clone());
    let is_partial = |plan: &&Planned<'_>| plan.item.writes.iter().any(|write| write.partial_path.is_some());
    let kinds = planned.iter().filter(is_partial).flat_map(|plan| plan.resource.kinds.clone());
    let lists: BTreeSet<String> = lists.chain(kinds).collect();
    for plan in planned {
        for kind in plan.resource.kinds.clone() {
            if lists.contains(&kind) && plan.tags.iter().all(|tag| tag.text != kind) {
                let why = format!("a write to the list of {kind} changes its items");
                plan.tags.push(Tag { text: kind, why });
            }
        }
    }
}

/// `/courses/latest` and `/courses/by-category/{cat}` show courses: beside `/courses/{id}`, they carry the name of the list.
fn add_view_tags(planned: &mut [Planned<'_>]) {
    let view_path = |plan: &Planned<'_>| without_format(&shape(&plan.item.path())).to_owned();
    let paths: Vec<String> = planned.iter().map(view_path).collect();
    let collections: BTreeSet<String> =
        paths.iter().filter_map(|path| path.strip_suffix("/{}")).map(str::to_owned).collect();
    let is_written = |collection: &&String| {
        let written = planned.iter().zip(&paths).filter(|(plan, _)| !plan.item.writes.is_empty());
        written.into_iter().any(|(_, path)| path.strip_suffix("/{}").unwrap_or(path) == *collection)
    };
    let written: Vec<String> = collections.iter().filter(is_written).cloned().collect();
    for (plan, path) in planned.iter_mut().zip(&paths) {
        for collection in &written {
            let is_view = path
                .strip_prefix(collection.as_str())
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.starts_with('{'));
            let name = collection.rsplit('/').next().and_then(tag_name).filter(|_| is_view);
            if let Some(text) = name
                && plan.tags.iter().all(|tag| tag.text != text)
            {
                let why = format!("a view of the list of {text}, which writes to its items change");
                plan.tags.push(Tag { text, why });
            }
        }
    }
}

/// A response whose schema embeds another kind carries the name of that kind.
fn add_embedded_tags(planned: &mut [Planned<'_>]) {
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for plan in planned.iter() {
        let schema = plan.item.read.as_ref().and_then(|read| read.schema.clone());
        if let (Some(schema), Some(kind)) = (schema, plan.resource.item_kind()) {
            kinds.entry(schema).or_default().insert(kind.to_owned());
        }
    }
    kinds.retain(|_, kinds| kinds.len() <= MAX_KINDS_OF_SCHEMA);
    for plan in planned.iter_mut() {
        let Some(read) = &plan.item.read else { continue };
        for (schema, kinds) in kinds.iter().filter(|(schema, _)| read.embedded.contains(*schema)) {
            for kind in kinds {
                let is_own = plan.resource.kinds.contains(kind) || plan.resource.list.as_ref() == Some(kind);
                if !is_own && plan.tags.iter().all(|tag| tag.text != *kind) {
                    let why = format!("its schema embeds {schema}");
                    plan.tags.push(Tag { text: kind.clone(), why });
                }
            }
        }
    }
}

/// Drops tags that no write purges, and purges of tags that no response carries.
fn keep_matching_tags(planned: &mut [Planned<'_>]) {
    let caching = planned.iter().filter(|plan| plan.caches());
    let carried: BTreeSet<String> = caching.flat_map(|plan| &plan.tags).map(|tag| shape(&tag.text)).collect();
    for plan in planned.iter_mut() {
        plan.purges.retain(|tag| reaches_any(&shape(&tag.text), &carried));
    }
    let purged: BTreeSet<String> =
        planned.iter().flat_map(|plan| &plan.purges).map(|tag| shape(&tag.text)).collect();
    for plan in planned {
        plan.tags.retain(|tag| is_reached(&shape(&tag.text), &purged));
    }
}
