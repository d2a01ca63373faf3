//! A draft from the traffic that larder has observed: each line with the evidence for it.

use std::collections::{BTreeMap, BTreeSet};

use super::{DEFAULT_UPSTREAM, Draft, DraftRoute, Setting, scalar, sequence};
use crate::observation::{
    LIFETIMES, ObservedRoute, ObservedTraffic, SharedChange, SharedValue, WriteLink, is_plain_word,
};

/// Most routes of a draft, and fewest reads of one.
const MAX_ROUTES: usize = 100;
const MIN_READS: u64 = 2;

/// Intervals in which a write to another item, or by another caller, changed nothing.
const MIN_SPARED: u64 = 3;

/// Shortest mean time between changes without a write for which a response is cached, in milliseconds.
const MIN_MILLIS_BETWEEN_CHANGES: u64 = 20_000;

/// The lifetimes where nothing changed without a write: with a purge, and without one.
const TTL_PURGED: &str = "5m";
const TTL_UNPURGED: &str = "1m";

/// A read to cache, and the purges that its evidence asks for.
struct ObservedPlan<'t> {
    route: &'t ObservedRoute,
    tags: BTreeSet<String>,
    /// Purges of writes to the same path.
    purges: BTreeSet<String>,
    /// Sentences about each write that changes it.
    causes: Vec<String>,
}

/// Drafts a configuration from a report of `GET /observed`. `upstream` takes precedence over the URLs in the report.
///
/// # Errors
/// Nothing was observed.
pub(crate) fn draft(
    traffic: &ObservedTraffic,
    source: &str,
    upstream: Option<&str>,
) -> Result<Draft, String> {
    let mut draft = Draft {
        about: about(traffic, source),
        settings: vec![
            upstream_setting(traffic, upstream),
            Setting::new("defaults", "{mode: observe}", "everything passes; remove it to cache"),
        ],
        ..Draft::default()
    };
    let (mut plans, uncached) = plan_reads(traffic, &mut draft.questions);
    if plans.is_empty() {
        return Err(format!(
            "{source} has observed no request often enough: send requests to routes with `mode: observe`, and try again"
        ));
    }
    let mut writes: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for plan in &mut plans {
        plan.link(&mut writes, &mut draft.questions);
    }
    for plan in &mut plans {
        if let Some((_, purges)) = writes.remove(&plan.route.path) {
            plan.purges = purges.difference(&plan.tags).cloned().collect();
        }
        draft.questions.extend(plan.questions());
    }
    draft.routes.extend(plans.iter().map(ObservedPlan::to_route));
    draft.routes.extend(writes.into_iter().map(|(path, (names, purges))| DraftRoute {
        path,
        about: vec![names.into_iter().collect::<Vec<_>>().join(", ")],
        settings: vec![Setting::new(
            "purges",
            sequence(purges.iter().map(String::as_str)),
            "changes that followed it",
        )],
    }));
    uncached.into_iter().for_each(|path| draft.leave_uncached(path));
    if upstream.is_none() && traffic.upstream.is_empty() {
        draft.questions.push(format!(
            "Where is the API? This larder doesn't tell; {DEFAULT_UPSTREAM} is a guess. Name it with `--upstream`."
        ));
    }
    draft.questions.push(
        "Writes that did not occur meanwhile are not in this file, and changes by jobs or other services look as if \
         they came by themselves. Which are there?"
            .into(),
    );
    Ok(draft)
}

/// The reads to cache, and the paths of those that are not to be.
fn plan_reads<'t>(
    traffic: &'t ObservedTraffic,
    questions: &mut Vec<String>,
) -> (Vec<ObservedPlan<'t>>, Vec<&'t str>) {
    let reads = traffic.routes.iter().filter(|route| route.reads >= MIN_READS).take(MAX_ROUTES);
    let (mut plans, mut uncached) = (Vec::new(), Vec::new());
    for route in reads {
        let path = &route.path;
        if !is_plain(path) {
            let question = "the path has unusual characters. Write a route for it by hand?";
            questions.push(format!("GET {path}: {question}"));
            continue;
        }
        match obstacle(route) {
            Some(question) => {
                questions.push(format!("GET {path}: not cached: {question}"));
                uncached.push(path.as_str());
            }
            None => plans.push(ObservedPlan::new(route)),
        }
    }
    (plans, uncached)
}

fn upstream_setting(traffic: &ObservedTraffic, upstream: Option<&str>) -> Setting {
    let value = match (upstream, traffic.upstream.as_slice()) {
        (Some(url), _) => scalar(url),
        (None, []) => scalar(DEFAULT_UPSTREAM),
        (None, [url]) => scalar(url),
        (None, urls) => sequence(urls.iter().map(String::as_str)),
    };
    Setting::new("upstream", value, "")
}

fn about(traffic: &ObservedTraffic, source: &str) -> Vec<String> {
    let ObservedTraffic { seconds, seen, sampled, left_out, .. } = traffic;
    let mut about = vec![format!(
        "Suggested by `larder suggest` from {source}, which observed {seen} reads in {} and compared {sampled}. Nothing is \
         cached while `defaults` has `mode: observe`. The numbers are evidence, not proof.",
        show_seconds(*seconds)
    )];
    if *left_out > 0 {
        about.push(format!("{left_out} reads were left out, because there were too many different paths."));
    }
    about
}

/// Why no lifetime is proposed.
fn obstacle(route: &ObservedRoute) -> Option<String> {
    let is_cookie = |name: &String| name == "cookie";
    if route.caller.different > 0 && !route.credentials.is_empty() && route.credentials.iter().all(is_cookie)
    {
        return Some(
            "it differs between callers with cookies. Which cookie names the caller (`per: cookie.NAME`)?"
                .into(),
        );
    }
    if route.changed + route.unchanged + route.unchanged_alone == 0 {
        return Some(format!(
            "none of its {} reads was asked twice while it was observed, so nothing says when it changes. What changes it? \
             Give it a tag that those writes purge.",
            route.reads
        ));
    }
    let has_cause = route.changed_alone > 0 || find_causes(route).contains(&true);
    if route.changed > 0 && !has_cause {
        return Some(format!(
            "it changed {} times, and no write explains it. What changes it?",
            route.changed
        ));
    }
    let between = route.quiet_millis.checked_div(route.changed_alone)?;
    (between < MIN_MILLIS_BETWEEN_CHANGES).then(|| {
        format!(
            "it changed {} times in {} without a write. May it be old for some seconds?",
            route.changed_alone,
            show_seconds(route.quiet_millis / 1_000)
        )
    })
}

fn show_seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

impl<'t> ObservedPlan<'t> {
    fn new(route: &'t ObservedRoute) -> Self {
        Self { route, tags: BTreeSet::new(), purges: BTreeSet::new(), causes: Vec::new() }
    }

    /// Adds the tags, and the purges of the writes that change it, by the writes' paths.
    fn link(
        &mut self,
        writes: &mut BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
        questions: &mut Vec<String>,
    ) {
        let route = self.route;
        let is_linked = find_causes(route);
        let mut names: Vec<&str> = route.links.iter().map(|link| link.write.as_str()).collect();
        names.dedup();
        for name in names {
            let Some((_, path)) = name.split_once(' ').filter(|(_, path)| is_plain(path)) else { continue };
            let of_write = route.links.iter().zip(&is_linked).filter(|(link, _)| link.write == name);
            let (linked, others): (Vec<_>, Vec<_>) = of_write.partition(|(_, is_linked)| **is_linked);
            let links =
                |pairs: Vec<(&'t WriteLink, &bool)>| pairs.into_iter().map(|(link, _)| link).collect();
            let (linked, others): (Vec<&WriteLink>, Vec<&WriteLink>) = (links(linked), links(others));
            if linked.is_empty() {
                if others.iter().any(|link| is_unsure(link)) {
                    questions.push(format!("Does {name} change GET {}? The evidence is thin.", route.path));
                }
                continue;
            }
            let kind = || (kind_tag(&route.path), kind_tag(&route.path));
            let (own, purge) = narrow_tags(route, &linked, &others).unwrap_or_else(kind);
            let sum = |part: fn(&WriteLink) -> u64| linked.iter().map(|link| part(link)).sum::<u64>();
            self.causes.push(format!(
                "{} after {name} alone, {} after it and others ({} times it did not)",
                sum(|link| link.alone_changed),
                sum(|link| link.among_changed),
                sum(|link| link.alone_same + link.among_same),
            ));
            self.tags.insert(own);
            let (known, purges) = writes.entry(path.to_owned()).or_default();
            known.insert(name.to_owned());
            purges.insert(purge);
        }
    }

    fn to_route(&self) -> DraftRoute {
        let mut settings = vec![self.ttl()];
        settings.extend(self.query());
        settings.extend(self.access());
        let selects = |name: &&String| self.route.fields[*name].different > 0;
        let fields: Vec<&str> = self.route.fields.keys().filter(selects).map(String::as_str).collect();
        if !fields.is_empty() {
            settings.push(Setting::new(
                "headers",
                sequence(fields),
                "request fields that changed the answer",
            ));
        }
        let list = |tags: &BTreeSet<String>| sequence(tags.iter().map(String::as_str));
        if !self.tags.is_empty() {
            settings.push(Setting::new("tags", list(&self.tags), "the writes above purge them"));
        }
        if !self.purges.is_empty() {
            settings.push(Setting::new("purges", list(&self.purges), "changes that followed a write here"));
        }
        DraftRoute { path: self.route.path.clone(), about: self.describe(), settings }
    }

    fn describe(&self) -> Vec<String> {
        let ObservedRoute { reads, bytes, millis, hits, changed, changed_alone, .. } = self.route;
        let each = |sum: u64| sum / reads.max(&1);
        let shares = hits.iter().zip(LIFETIMES).map(|(hits, (_, name))| {
            let saved = match each(*millis) * hits {
                0 => String::new(),
                millis => format!(" (saves {} of the API's time)", show_millis(millis)),
            };
            format!("{} % at {name}{saved}", hits * 100 / reads.max(&1))
        });
        let shares: Vec<String> = shares.collect();
        let mut about = vec![format!(
            "GET: {reads} reads, {} bytes and {} ms each; hits with this key and these purges: {}",
            each(*bytes),
            each(*millis),
            shares.join(", ")
        )];
        let mut causes = self.causes.clone();
        if *changed_alone > 0 {
            causes.push(format!("{changed_alone} without a write"));
        }
        if *changed > 0 {
            about.push(format!("changed {changed} times: {}", causes.join("; ")));
        }
        about
    }

    fn ttl(&self) -> Setting {
        let between = self.route.quiet_millis.checked_div(self.route.changed_alone);
        match between {
            Some(millis) => Setting::new(
                "ttl",
                format!("{}s", (millis / 20_000).clamp(1, 300)),
                format!(
                    "a twentieth of the {} between changes without a write",
                    show_seconds(millis / 1_000)
                ),
            ),
            None if self.tags.is_empty() => {
                Setting::new("ttl", TTL_UNPURGED, "it did not change while it was observed")
            }
            None => {
                Setting::new("ttl", TTL_PURGED, "the writes end it earlier; this bounds one that was missed")
            }
        }
    }

    fn query(&self) -> Option<Setting> {
        let is_without_effect = |name: &&String| self.route.parameters[*name].is_without_effect();
        let (without, kept): (Vec<_>, Vec<_>) = self.route.parameters.keys().partition(is_without_effect);
        let names: Vec<&str> = without.iter().map(|name| name.as_str()).collect();
        (!without.is_empty() && kept.iter().all(|name| is_plain_word(name))).then(|| {
            let why = format!("changed nothing, and is not sent on: {}", names.join(", "));
            Setting::new("query", sequence(kept.into_iter().map(String::as_str)), why)
        })
    }

    fn access(&self) -> Option<Setting> {
        let ObservedRoute { caller, callers, credentials, .. } = self.route;
        let named = |is_such: fn(&&String) -> bool| credentials.iter().find(is_such);
        let first = named(|name| *name == "authorization")
            .or_else(|| named(|name| *name != "cookie" && is_plain_word(name)))
            .or_else(|| named(|name| *name == "cookie"))?;
        if self.is_shared() {
            let why =
                format!("{} pairs of {callers} callers got the same answer; is it so for all?", caller.same);
            return Some(Setting::new("shared", "true", why));
        }
        let why = match caller.different {
            0 => "too few callers or contents were compared; `shared: true` if all get the same".to_owned(),
            pairs => format!("{pairs} pairs of callers got different answers"),
        };
        let per = match first.as_str() {
            "authorization" => "authorization".to_owned(),
            // Its name is not known, and requests with a cookie pass.
            "cookie" => return None,
            name => format!("header.{name}"),
        };
        Some(Setting::new("per", scalar(&per), why))
    }

    fn is_shared(&self) -> bool {
        let ObservedRoute { caller, callers, agreed_contents, .. } = self.route;
        caller.makes_shared(*callers, *agreed_contents)
    }

    fn questions(&self) -> Option<String> {
        let ObservedRoute { path, credentials, caller, callers, .. } = self.route;
        match credentials.len() {
            0 => None,
            _ if self.is_shared() => Some(format!("GET {path}: may every caller get the same answer?")),
            _ if caller.different == 0 && caller.same > 0 => Some(format!(
                "GET {path}: {callers} callers got the same answer {} times, and never another. Is it so for all, and when it \
                 changes? Then write `shared: true` instead of `per`.",
                caller.same
            )),
            1 => None,
            _ => Some(format!(
                "GET {path}: callers send {}. Which of them names the caller?",
                credentials.join(" and ")
            )),
        }
    }
}

/// Whether a path is a template as it stands. Clients choose paths.
fn is_plain(path: &str) -> bool {
    let is_parameter = |segment: &str| {
        let number = segment.strip_prefix("{id").and_then(|rest| rest.strip_suffix('}'));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    path == "/" || path.split('/').skip(1).all(|segment| is_parameter(segment) || is_plain_word(segment))
}

/// Which links of a route are causes of its changes: those that changed it alone, and of the others as many as it takes to
/// explain every change; one that left it unchanged whenever it was alone, only for changes that no other explains. A purge
/// too many costs a miss, one too few an old answer.
fn find_causes(route: &ObservedRoute) -> Vec<bool> {
    let mut causes: Vec<bool> = route.links.iter().map(|link| is_cause_alone(route, link)).collect();
    if route.changed_alone * 20 > route.changed {
        // It changes by itself, too, and so after any write.
        return causes;
    }
    let is_refuted = |link: &WriteLink| link.alone_changed == 0 && link.alone_same > 0;
    explain_changes(route, &mut causes, |link| !is_refuted(link));
    explain_changes(route, &mut causes, |_| true);
    causes
}

/// Adds the candidate that explains most, until none explains a further change.
fn explain_changes(route: &ObservedRoute, causes: &mut [bool], is_candidate: impl Fn(&WriteLink) -> bool) {
    loop {
        let is_explained =
            |change: &&SharedChange| change.links.iter().any(|at| causes.get(*at).is_none_or(|cause| *cause));
        let mut scores = vec![0; route.links.len()];
        for change in route.changes.iter().filter(|change| !is_explained(change)) {
            for at in change.links.iter().filter(|at| is_candidate(&route.links[**at])) {
                let WriteLink { alone_changed, alone_same, among_changed, among_same, .. } =
                    &route.links[*at];
                let changed = alone_changed + among_changed;
                scores[*at] += change.times * 1_000 * changed / (changed + alone_same + among_same).max(1);
            }
        }
        match scores.iter().enumerate().max_by_key(|(_, score)| **score) {
            Some((at, score)) if *score > 0 => causes[at] = true,
            _ => return,
        }
    }
}

/// Whether the read changed more often after such a write alone than without any.
fn is_cause_alone(route: &ObservedRoute, link: &WriteLink) -> bool {
    let quiet = (route.changed_alone + route.unchanged_alone).max(1);
    let all = link.alone_changed + link.alone_same;
    link.alone_changed > 0 && link.alone_changed * quiet > 2 * route.changed_alone * all
}

/// Whether a write that is no cause may be one: it changed the read, or was never seen alone.
fn is_unsure(link: &WriteLink) -> bool {
    link.alone_changed > 0 || link.alone_same == 0 && link.among_changed > 0
}

/// The tags, for the read and for the write, of one item or one caller, if the write changes no other.
fn narrow_tags(
    route: &ObservedRoute,
    linked: &[&WriteLink],
    others: &[&WriteLink],
) -> Option<(String, String)> {
    let is_spared = |is_inside: &dyn Fn(&WriteLink) -> bool| {
        let outside = || others.iter().filter(|link| !is_inside(link));
        linked.iter().all(|link| is_inside(link))
            && outside().all(|link| link.alone_changed == 0)
            && outside().map(|link| link.alone_same).sum::<u64>() >= MIN_SPARED
    };
    let base = base(&route.path);
    let shared = linked.first()?.shared.as_ref();
    if let Some(SharedValue { read, write }) = shared
        && is_spared(&|link| link.shared.as_ref() == shared)
    {
        return Some((format!("{base}:{read}"), format!("{base}:{write}")));
    }
    let has_subjects = route.with_subject > 0 && route.with_subject + route.anonymous == route.reads;
    let own = format!("{base}:{{jwt.sub}}");
    (has_subjects && is_spared(&|link| link.is_own)).then(|| (own.clone(), own))
}

fn show_millis(millis: u64) -> String {
    if millis < 10_000 { format!("{millis} ms") } else { show_seconds(millis / 1_000) }
}

/// The literal segments of a template, without those of every path.
fn base(path: &str) -> String {
    let is_version = |segment: &str| segment.len() < 4 && segment.starts_with('v');
    let literals = path.split('/').filter(|segment| {
        !segment.is_empty() && !segment.starts_with('{') && *segment != "api" && !is_version(segment)
    });
    let base: Vec<&str> = literals.collect();
    if base.is_empty() { "all".to_owned() } else { base.join("-") }
}

/// The tag of all responses of a template.
fn kind_tag(path: &str) -> String {
    let suffix = if path.contains('{') { ":item" } else { "" };
    format!("{}{suffix}", base(path))
}

#[cfg(test)]
mod tests;
