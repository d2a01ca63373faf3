//! Reports on a purge: its targets as understood, the routes they reach, and the stored responses they match.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Purger;
use super::literal_tags::is_never_rendered;
use crate::config::nearest;
use crate::policy::purge_scope::{reached_routes, route_tags};
use crate::policy::routes::Routes;
use crate::purge::{PurgeMode, Target, TargetId, Validity};

/// Responses are only counted in a store of at most this many, so that a purge stays cheap.
const MAX_COUNTED: u64 = 100_000;

/// Reports made at once, in the whole process, and how long a purge waits for its turn.
static REPORTS: Semaphore = Semaphore::const_new(2);
const MAX_WAIT: Duration = Duration::from_millis(100);

/// Maximum number of targets in a report.
const MAX_TARGETS: usize = 100;

/// Maximum number of most requested paths in a report.
const MAX_HOTTEST: usize = 10;

/// The stored responses of this replica that a purge matches.
#[derive(Debug, Default)]
pub(super) struct Matched {
    responses: u64,
    bytes: u64,
    /// Paths by use count, highest first.
    hottest: Vec<(u32, String)>,
    pub(super) targets: HashSet<TargetId>,
}

impl Purger {
    /// Reports on a purge before it is done. Matches are `null` if too many responses are stored, or too many purges
    /// are reported on at once.
    pub(crate) async fn report(&self, targets: &[Target], mode: PurgeMode, is_dry_run: bool) -> Value {
        let reached = reached_routes(&self.routes, targets);
        let mut names: Vec<&str> = reached.iter().map(|route| &*route.name).collect();
        names.dedup();
        let matched = self.count_matches(targets).await;
        let mut report = json!({
            "mode": mode.as_str(),
            "targets": targets.iter().take(MAX_TARGETS).map(Target::to_string).collect::<Vec<_>>(),
            "targetCount": targets.len(),
            "routes": names,
            "matched": matched.as_ref().map(|matched| {
                let mut counts = json!({"responses": matched.responses, "bytes": matched.bytes});
                if is_dry_run {
                    counts["hottest"] = matched.hottest.iter().map(|(_, path)| path.as_str()).collect();
                }
                counts
            }),
        });
        let warnings = warnings(&self.routes, targets, matched.as_ref());
        if !warnings.is_empty() {
            report["warnings"] = warnings.into();
        }
        report
    }

    pub(super) async fn count_matches(&self, targets: &[Target]) -> Option<Matched> {
        if self.store.stats().entries > MAX_COUNTED {
            return None;
        }
        let permit = timeout(MAX_WAIT, REPORTS.acquire()).await.ok()?.ok()?;
        let (store, ids) = (self.store.clone(), targets.iter().map(Target::id).collect::<HashSet<_>>());
        let counting = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut matched = Matched::default();
            for response in store.local_responses() {
                let head = &response.head;
                let mut hits = head.targets.iter().filter(|id| ids.contains(id)).peekable();
                if hits.peek().is_none() || store.validity(&head.stamp, &head.targets) == Validity::Dead {
                    continue;
                }
                matched.targets.extend(hits);
                matched.responses += 1;
                matched.bytes += response.weight();
                if let Some(path) = head.usage.path() {
                    matched.hottest.push((head.usage.use_count(), path.to_owned()));
                }
            }
            matched.hottest.sort_unstable_by(|one, other| other.cmp(one));
            matched.hottest.dedup_by(|one, other| one.1 == other.1);
            matched.hottest.truncate(MAX_HOTTEST);
            matched
        });
        counting.await.ok()
    }
}

/// Names the tags that no response here carries, where no route has them or they look like a pattern or a list, and the
/// paths that look like a pattern and match nothing.
fn warnings(routes: &Routes, targets: &[Target], matched: Option<&Matched>) -> Vec<String> {
    let Some(matched) = matched else { return Vec::new() };
    let known = route_tags(routes);
    let unmatched = targets.iter().filter(|target| !matched.targets.contains(&target.id()));
    // The readings of one path are several targets.
    let names_known_path = OnceCell::new();
    let is_known_path =
        || *names_known_path.get_or_init(|| targets.iter().any(|target| is_known_path(routes, target)));
    let warnings = unmatched.take(MAX_TARGETS).filter_map(|target| {
        let is_reaching = || !reached_routes(routes, std::slice::from_ref(target)).is_empty();
        let tag = match target {
            Target::Tag(tag) => tag,
            Target::Path { path, .. } | Target::Url { path, .. } => {
                return warn_of_pattern(path.as_str()).or_else(|| warn_of_path(path.as_str(), is_known_path()));
            }
            Target::Prefix { path, .. } => return warn_of_path(path.as_str(), is_known_path()),
            _ => return None,
        };
        if is_reaching() {
            let warning =
                || format!("no response here carries the tag `{tag}`: tags are compared as a whole; list each of them");
            return looks_like_pattern(tag).then(warning);
        }
        let near = nearest(tag, known.iter().map(String::as_str));
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Some(format!("no route has the tag `{tag}`, and no response here carries it{hint}"))
    });
    warnings.collect()
}

fn looks_like_pattern(tag: &str) -> bool {
    tag.contains(|c: char| is_never_rendered(c) || c.is_whitespace() || "[]()\"'".contains(c))
}

/// Whether a route caches the path, or one below it.
fn is_known_path(routes: &Routes, target: &Target) -> bool {
    let is_path = matches!(target, Target::Path { .. } | Target::Url { .. } | Target::Prefix { .. });
    is_path && !reached_routes(routes, std::slice::from_ref(target)).is_empty()
}

fn warn_of_path(path: &str, is_known: bool) -> Option<String> {
    let warning = || {
        format!(
            "no route caches `{path}`, and no response here has this path: the path of the client's request counts"
        )
    };
    (!is_known).then(warning)
}

fn warn_of_pattern(path: &str) -> Option<String> {
    let warning = || {
        format!(
            "`{path}` is taken literally, and no response here has this path; for all below a path, end it in `/*`"
        )
    };
    path.contains(is_operator).then(warning)
}

/// Whether it is an operator of regular expressions that a path rarely has.
fn is_operator(c: char) -> bool {
    matches!(c, '[' | ']' | '(' | ')' | '|' | '^' | '$' | '+' | '\\' | '{' | '}')
}
