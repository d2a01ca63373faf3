//! Renders an explanation as text.

use std::fmt::{self, Display, Formatter};

use super::caller::describe_caller;
use super::describe::{
    abbreviate_key, describe_credential, describe_not_stored, describe_pass, header_in_words, write_line,
};
use super::overlay::{write_caller_parts, write_shared_part};
use super::{
    Explainer, Explanation, LookupExplanation, StoreExplanation, Verdict, WriteExplanation, routes_with_tag,
};
use crate::config::show_duration;
use crate::policy::Route;
use crate::policy::lifetime::Lifetime;
use crate::policy::not_stored::NotStored;
use crate::policy::on_miss::OnMiss;
use crate::policy::route::{MAX_UNTIL_PURGED_LIFETIME, RouteMode};
use crate::policy::routes::Routes;
use crate::policy::write_outcome::WriteOutcome;
use crate::purge::Target;

/// An explanation and its routes, which `Display` renders.
pub struct ExplanationText<'e>(&'e Explanation, &'e Routes);

impl Explainer<'_> {
    /// The explanation as `larder explain` prints it.
    pub fn text<'e>(&'e self, explanation: &'e Explanation) -> ExplanationText<'e> {
        ExplanationText(explanation, self.routes)
    }
}

impl Display for ExplanationText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ExplanationText(explanation, routes) = self;
        writeln!(f, "{} {}", explanation.method, explanation.target)?;
        match &explanation.route {
            Some(route) if *route.name == *route.path.as_str() => {
                write_line(f, "route", route.path.as_str())?
            }
            Some(route) => write_line(f, "route", format_args!("{} ({})", route.path.as_str(), route.name))?,
            None => write_line(f, "route", "none")?,
        }
        if let Some(caller) = &explanation.caller {
            write_line(f, "caller", describe_caller(caller))?;
        }
        match &explanation.verdict {
            Verdict::Identify => write_line(f, "asks first", "the service in `ask` says who the caller is"),
            Verdict::Refused(why) => write_line(f, "refused", why),
            Verdict::Pass(reason) => {
                write_line(f, "passes", describe_pass(*reason, explanation.route.as_deref()))
            }
            Verdict::Lookup(lookup) => write_lookup(f, lookup, explanation.route.as_deref()),
            Verdict::Write(write) => write_write(f, write, routes),
            Verdict::Purge(targets) => write_targets(f, targets, routes),
            Verdict::Operation(operation) => write_line(
                f,
                "answers",
                format_args!("`admin_at.{operation}`, once the API has said that the caller may"),
            ),
        }
    }
}

fn write_lookup(f: &mut Formatter<'_>, lookup: &LookupExplanation, route: Option<&Route>) -> fmt::Result {
    let Some(merged) = route.filter(|_| !lookup.caller_parts.is_empty()) else {
        return write_cached(f, lookup, route);
    };
    write_shared_part(f, merged)?;
    write_cached(f, lookup, route)?;
    write_caller_parts(f, lookup, merged)
}

fn write_cached(f: &mut Formatter<'_>, lookup: &LookupExplanation, route: Option<&Route>) -> fmt::Result {
    let then = match lookup.on_miss {
        OnMiss::Fetch => "fetched from the API",
        OnMiss::Head => "forwarded and not stored, because it is a HEAD",
        OnMiss::OnlyIfCached => "answered 504, because of only-if-cached",
    };
    write_line(f, "on a miss", then)?;
    if route.is_some_and(|route| route.mode == RouteMode::Observe) {
        write_line(f, "observed", "the request is forwarded in any case (`mode: observe`)")?;
    }
    write_key(f, lookup)?;
    write_line(f, "forwards", &lookup.forwarded)?;
    for (name, listed) in &lookup.left_out {
        let name = name.escape_debug();
        match listed {
            Some(listed) => {
                write_line(f, "left out", format_args!("`{name}`: `query` has `{listed}`, another name"))?
            }
            None => write_line(f, "left out", format_args!("`{name}`, by the route's `query`"))?,
        }
    }
    if !lookup.caller.is_in_key() {
        write_line(f, "credential", describe_credential(route, lookup.field_outside_key.as_ref()))?;
        write_line(f, "", "until then only responses with `public` or `s-maxage` are stored and served")?;
    }
    write_line(f, "response", lookup.status)?;
    match &lookup.fetched {
        Ok(_) if lookup.on_miss != OnMiss::Fetch => {
            write_line(f, "not stored", "only complete responses to GET are")
        }
        Ok(store) => write_store(f, store, lookup, route),
        Err(why) => write_not_stored(f, *why, lookup.clock_lag),
    }
}

fn write_key(f: &mut Formatter<'_>, lookup: &LookupExplanation) -> fmt::Result {
    write_line(f, "key", abbreviate_key(&lookup.key))?;
    for part in &lookup.parts {
        let value = if part.values.is_empty() { "(none)".to_owned() } else { part.values.join(" | ") };
        writeln!(f, "  {:<11}   {:<14} {value}", "", part.name)?;
    }
    Ok(())
}

fn write_not_stored(f: &mut Formatter<'_>, why: NotStored, clock_lag: Option<i64>) -> fmt::Result {
    write_line(f, "not stored", format_args!("{}: {}", why.as_str(), describe_not_stored(why)))?;
    match clock_lag.filter(|_| why == NotStored::AlreadyStale) {
        Some(lag) => write_line(
            f,
            "",
            format_args!(
                "its Date is {lag} s behind this clock, which counts as age: set the clock of the API, or \
                 `override: [lifetime]` with a `ttl`"
            ),
        ),
        None => Ok(()),
    }
}

fn write_store(
    f: &mut Formatter<'_>,
    store: &StoreExplanation,
    lookup: &LookupExplanation,
    route: Option<&Route>,
) -> fmt::Result {
    write_line(f, "stored", describe_lifetime(store, lookup, route))?;
    write_stale_windows(f, store)?;
    if let Some(variance) = &store.equivalents {
        match route.is_some_and(|route| route.no_vary_search) {
            true => {
                write_line(f, "also for", format_args!("queries that differ in {variance} (No-Vary-Search)"))?
            }
            false => {
                write_line(f, "not for", "other queries: `no_vary_search: true` would obey No-Vary-Search")?
            }
        }
    }
    if let Some(jitter) = route.map(|route| route.jitter).filter(|jitter| *jitter > 0) {
        write_line(f, "jitter", format_args!("up to {jitter} % less at random (`jitter`)"))?;
    }
    let tags = if store.tags.is_empty() { "(none)".to_owned() } else { store.tags.join(", ") };
    write_line(f, "tags", tags)?;
    for template in &store.unresolved_tags {
        write_line(f, "", format_args!("{}: needs the content (--body FILE)", template.as_str()))?;
    }
    for (at, (name, value)) in store.cache_fields.iter().enumerate() {
        let label = if at == 0 { "to caches" } else { "" };
        write_line(f, label, format_args!("{}: {value}", header_in_words(name)))?;
    }
    write_purging_writes(f, lookup, route)
}

fn write_stale_windows(f: &mut Formatter<'_>, store: &StoreExplanation) -> fmt::Result {
    let terms = &store.terms;
    for (window, what) in [
        (terms.stale_while_revalidate, "while a new one is fetched"),
        (terms.stale_if_error, "if the upstream fails"),
    ] {
        if !window.is_zero() {
            write_line(f, "then stale", format_args!("{} more {what}", show_duration(window)))?;
        }
    }
    if store.closed_by_s_maxage {
        let reason = "no more: s-maxage forbids it (RFC 9111 §5.2.2.10); `override: [s-maxage-revalidation]`, or \
                      `stale_while_revalidate` on the route, allows it";
        write_line(f, "then stale", reason)?;
    }
    Ok(())
}

fn write_purging_writes(
    f: &mut Formatter<'_>,
    lookup: &LookupExplanation,
    route: Option<&Route>,
) -> fmt::Result {
    match route.is_some_and(|route| route.has_empty_purges()) {
        true => write_line(f, "purged by", "no write to its own URL: `purges: []`")?,
        false => write_line(f, "purged by", "a write to its own URL, with any query")?,
    }
    for purging in &lookup.purging_routes {
        let same = purging.template == purging.tag;
        let names = if same { String::new() } else { format!(", which can produce {}", purging.tag) };
        let by = if purging.by_location { "whose `Location` is of" } else { "to" };
        write_line(f, "", format_args!("a write {by} {}: {}{names}", purging.route, purging.template))?;
    }
    Ok(())
}

fn describe_lifetime(store: &StoreExplanation, lookup: &LookupExplanation, route: Option<&Route>) -> String {
    let of_status = route.is_some_and(|route| route.status.contains_key(&lookup.status.as_u16()));
    let left = show_duration(store.terms.freshness_lifetime.saturating_sub(store.terms.initial_age));
    let reason_text = match store.lifetime {
        Lifetime::UntilPurged => {
            return format!(
                "until it is purged (`ttl: none`), {} at most",
                show_duration(MAX_UNTIL_PURGED_LIFETIME)
            );
        }
        Lifetime::AlwaysValidated => {
            return "validated on each request: the response has no-cache".to_owned();
        }
        Lifetime::Route(_) if of_status => {
            format!("the route's `status: {{{}: …}}`", lookup.status.as_u16())
        }
        Lifetime::Route(_) => "the route's `ttl`".to_owned(),
        Lifetime::Explicit(_) => "the response's own lifetime".to_owned(),
        Lifetime::Heuristic(_) => "a tenth of the time since Last-Modified (`heuristic`)".to_owned(),
    };
    let bounded = route.is_some_and(|route| route.ttl_from.is_some());
    let reason_text = if bounded { format!("{reason_text}, bounded by `ttl_from`") } else { reason_text };
    match store.terms.always_validate {
        true => format!("fresh for {left}: {reason_text}; but validated on each request: it has no-cache"),
        false => format!("fresh for {left}: {reason_text}"),
    }
}

fn write_write(f: &mut Formatter<'_>, write: &WriteExplanation, routes: &Routes) -> fmt::Result {
    write_line(f, "write", "forwarded; the targets are purged before its response is sent")?;
    write_line(f, "response", write.status)?;
    match write.end {
        WriteOutcome::Nothing => {
            return write_line(f, "purges", "nothing: the status says that nothing changed");
        }
        WriteOutcome::PurgeInDoubt => write_line(
            f,
            "in doubt",
            "the write may still take effect: responses fetched meanwhile are not kept",
        )?,
        WriteOutcome::PurgeUrl | WriteOutcome::PurgeUrlOfCut => {
            write_line(f, "redirected", "its own URL is purged, and nothing else")?
        }
        WriteOutcome::Purge => {}
    }
    write_targets(f, &write.targets, routes)?;
    match write.widened_templates {
        0 => Ok(()),
        count => write_line(
            f,
            "widened",
            format_args!(
                "{count} template{} without a value: all responses of the write's own routes are purged in their \
                 place, and none of other routes, so the response has no `Larder-Position`",
                if count == 1 { "" } else { "s" },
            ),
        ),
    }
}

fn write_targets(f: &mut Formatter<'_>, targets: &[Target], routes: &Routes) -> fmt::Result {
    if targets.is_empty() {
        return write_line(f, "purges", "nothing");
    }
    for (at, target) in targets.iter().enumerate() {
        let name = if at == 0 { "purges" } else { "" };
        match target {
            Target::Tag(tag) => {
                let carriers = routes_with_tag(routes, tag);
                let reached = if carriers.is_empty() { "no route".to_owned() } else { carriers.join(", ") };
                write_line(f, name, format_args!("tag {tag}  (carried by {reached})"))?;
            }
            other => write_line(f, name, other)?,
        }
    }
    Ok(())
}
