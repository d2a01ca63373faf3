//! An explanation for people to read.

use std::fmt::{self, Display, Formatter};

use super::{Explainer, Explanation, Reading, Storing, Verdict, Writing, carriers};
use crate::config::show_duration;
use crate::hex;
use crate::policy::classify::{Caller, PassReason};
use crate::policy::invalidation::WriteEnd;
use crate::policy::lifetime::Lifetime;
use crate::policy::miss::OnMiss;
use crate::policy::route::{Mode, UNTIL_PURGED};
use crate::policy::routes::Routes;
use crate::policy::storing::NotStored;
use crate::policy::{CacheKey, Route};
use crate::purge::Target;

/// An explanation, and the routes that it is one under.
pub struct Text<'e>(&'e Explanation, &'e Routes);

impl Explainer<'_> {
    pub fn text<'e>(&'e self, explanation: &'e Explanation) -> Text<'e> {
        Text(explanation, self.routes)
    }
}

/// One line; what follows the first of a kind stands below it.
fn line(f: &mut Formatter<'_>, name: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "  {name:<11} {text}")
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Text(explanation, routes) = self;
        writeln!(f, "{} {}", explanation.method, explanation.target)?;
        match &explanation.route {
            Some(route) if *route.name == *route.path.as_str() => line(f, "route", route.path.as_str())?,
            Some(route) => line(f, "route", format_args!("{} ({})", route.path.as_str(), route.name))?,
            None => line(f, "route", "none")?,
        }
        match &explanation.verdict {
            Verdict::Refused(why) => line(f, "refused", why),
            Verdict::Pass(reason) => line(f, "passes", words_of_pass(*reason, explanation.route.as_deref())),
            Verdict::Lookup(reading) => write_reading(f, reading, explanation.route.as_deref()),
            Verdict::Write(writing) => write_writing(f, writing, routes),
            Verdict::Purge(targets) => write_targets(f, targets, routes),
        }
    }
}

fn write_reading(f: &mut Formatter<'_>, reading: &Reading, route: Option<&Route>) -> fmt::Result {
    let then = match reading.on_miss {
        OnMiss::Fetch => "on a miss it is fetched",
        OnMiss::Head => "on a miss it is forwarded, and nothing is stored: it is a HEAD",
        OnMiss::Pass(_) => "on a miss it passes, and nothing is stored: it asks for a part",
        OnMiss::OnlyIfCached => "on a miss it is answered 504: it says only-if-cached",
    };
    line(f, "looked up", then)?;
    if route.is_some_and(|route| route.mode == Mode::Observe) {
        line(f, "observed", "it goes to the upstream all the same (`mode: observe`)")?;
    }
    line(f, "key", beginning(&reading.key))?;
    for part in &reading.parts {
        let value = if part.values.is_empty() { "(none)".to_owned() } else { part.values.join(" | ") };
        writeln!(f, "  {:<11}   {:<14} {value}", "", part.name)?;
    }
    line(f, "asks for", &reading.forwarded)?;
    if reading.caller == Caller::Credentialed {
        line(
            f,
            "caller",
            "has a credential that is not in the key: only what says `public` or `s-maxage` is shared",
        )?;
    }
    line(f, "response", reading.status)?;
    match &reading.fetched {
        Ok(_) if reading.on_miss != OnMiss::Fetch => line(f, "not stored", "only a GET of the whole is"),
        Ok(storing) => write_storing(f, storing, reading, route),
        Err(why) => line(f, "not stored", format_args!("{}: {}", why.as_str(), words_of_not_stored(*why))),
    }
}

fn write_storing(
    f: &mut Formatter<'_>,
    storing: &Storing,
    reading: &Reading,
    route: Option<&Route>,
) -> fmt::Result {
    line(f, "stored", words_of_lifetime(storing, reading, route))?;
    let terms = &storing.terms;
    for (window, what) in [
        (terms.stale_while_revalidate, "while a new one is fetched"),
        (terms.stale_if_error, "if the upstream fails"),
    ] {
        if !window.is_zero() {
            line(f, "then stale", format_args!("{} more {what}", show_duration(window)))?;
        }
    }
    if let Some(jitter) = route.map(|route| route.jitter).filter(|jitter| *jitter > 0) {
        line(f, "less", format_args!("up to {jitter} % by chance (`jitter`)"))?;
    }
    let tags = if storing.tags.is_empty() { "(none)".to_owned() } else { storing.tags.join(", ") };
    line(f, "tags", tags)?;
    for template in &storing.unread {
        line(f, "", format_args!("{}: known with the content (--body FILE)", template.as_str()))?;
    }
    if route.is_some_and(|route| route.purges.as_ref().is_some_and(Vec::is_empty)) {
        line(f, "purged by", "no write to its own URL: `purges: []`")?;
    } else {
        line(f, "purged by", "a write to its own URL, with any query")?;
    }
    for purger in &reading.purgers {
        let same = purger.template == purger.tag;
        let names = if same { String::new() } else { format!(", which can be {}", purger.tag) };
        line(f, "", format_args!("a write to {}: {}{names}", purger.route, purger.template))?;
    }
    Ok(())
}

fn words_of_lifetime(storing: &Storing, reading: &Reading, route: Option<&Route>) -> String {
    let of_status = route.is_some_and(|route| route.status.contains_key(&reading.status.as_u16()));
    let left = show_duration(storing.terms.freshness_lifetime.saturating_sub(storing.terms.initial_age));
    let words = match storing.lifetime {
        Lifetime::UntilPurged => {
            return format!("until it is purged (`ttl: none`), for {} at most", show_duration(UNTIL_PURGED));
        }
        Lifetime::Validated => return "to be validated each time: the response says no-cache".to_owned(),
        Lifetime::Route(_) if of_status => {
            format!("the route's `status: {{{}: …}}`", reading.status.as_u16())
        }
        Lifetime::Route(_) => "the route's `ttl`".to_owned(),
        Lifetime::Explicit(_) => "the response's own word".to_owned(),
        Lifetime::Guessed(_) => "a guess from Last-Modified (`heuristic`)".to_owned(),
    };
    let bounded = route.is_some_and(|route| route.ttl_from.is_some());
    let words = if bounded { format!("{words}, within `ttl_from`") } else { words };
    match storing.terms.always_validate {
        true => format!("fresh for {left}: {words}; but validated each time: it says no-cache"),
        false => format!("fresh for {left}: {words}"),
    }
}

fn write_writing(f: &mut Formatter<'_>, writing: &Writing, routes: &Routes) -> fmt::Result {
    line(f, "write", "forwarded; what it may have changed is purged before its answer goes back")?;
    line(f, "response", writing.status)?;
    match writing.end {
        WriteEnd::Nothing => return line(f, "purges", "nothing: it did not happen"),
        WriteEnd::PurgeInDoubt => {
            line(f, "in doubt", "it may still happen: nothing fetched until then is kept")?
        }
        WriteEnd::Purge => {}
    }
    write_targets(f, &writing.targets, routes)?;
    match writing.widened {
        0 => Ok(()),
        1 => line(f, "widened", "one template found no value: more is purged in its place"),
        many => {
            line(f, "widened", format_args!("{many} templates found no value: more is purged in their place"))
        }
    }
}

fn write_targets(f: &mut Formatter<'_>, targets: &[Target], routes: &Routes) -> fmt::Result {
    if targets.is_empty() {
        return line(f, "purges", "nothing");
    }
    for (at, target) in targets.iter().enumerate() {
        let name = if at == 0 { "purges" } else { "" };
        match target {
            Target::Tag(tag) => {
                let carriers = carriers(routes, tag);
                let reached =
                    if carriers.is_empty() { "no route's tags".to_owned() } else { carriers.join(", ") };
                line(f, name, format_args!("tag {tag}  (carried by {reached})"))?;
            }
            other => line(f, name, other)?,
        }
    }
    Ok(())
}

/// Enough of it to tell it from others.
pub(super) fn beginning(key: &CacheKey) -> String {
    hex::encode(&key.0[..8])
}

/// What can be done about it.
pub(super) fn words_of_pass(reason: PassReason, route: Option<&Route>) -> String {
    let path = route.map_or("", |route| route.path.as_str());
    let words = match reason {
        PassReason::Method => "OPTIONS and TRACE are never cached",
        PassReason::NoRoute => "no route matches the path",
        PassReason::RouteOff => "its route says `mode: off`",
        PassReason::RouteNeverCaches => "its route says `ttl: never`, or has `purges` only",
        PassReason::PathSpelling => "the path has another spelling, or can be read as one of another route",
        PassReason::NoCredential => {
            "its route says `per`, and the request does not carry that credential once"
        }
        PassReason::Content => "a GET with content",
        PassReason::OverrideField => {
            "a field may change what is asked for (X-HTTP-Method-Override and the like)"
        }
        PassReason::Precondition => "If-Match and If-Unmodified-Since are the upstream's to judge",
        PassReason::Range => "it asks for a part of what is not stored",
        PassReason::Upgrade => "it asks for another protocol",
        PassReason::Position => "what was purged since its Larder-Position can't be known",
    };
    match path {
        "" => format!("{}: {words}", reason.as_str()),
        path => format!("{}: {words} ({path})", reason.as_str()),
    }
}

pub(super) fn words_of_not_stored(why: NotStored) -> &'static str {
    match why {
        NotStored::Method => "only what a GET was answered with is stored",
        NotStored::Status => "this status is not stored; `status: {404: 10s}` stores one more",
        NotStored::NoStore => "the response says no-store",
        NotStored::RequestNoStore => "the request says no-store, and the route obeys it",
        NotStored::Private => "the response says private; `override: [private]` ignores that",
        NotStored::SetCookie => "the response sets a cookie",
        NotStored::VaryStar => "its Vary matches no other request",
        NotStored::EventStream => "a stream of events is never whole",
        NotStored::Credentials => {
            "the request carries a credential that is not in the key; say `per` or `shared: true`, or let the \
             response say `public`"
        }
        NotStored::NoLifetime => "neither the response nor the route's `ttl` gives it a lifetime",
        NotStored::AlreadyStale => "it is stale on arrival, and can't be validated",
        NotStored::Partial => "parts are not stored",
        NotStored::TooLarge => "its content is larger than `max_size`",
        NotStored::TooManyTags => "it has too many tags, or one that is too long",
        NotStored::NotJson => "its content is to be read, and is no JSON by its type and charset",
        NotStored::Encoded => "its content is to be read, and has a coding other than gzip",
        NotStored::MalformedJson => "its content is no JSON, or has a name twice",
        NotStored::JsonTooLarge => "its content is to be read, and larger than `max_json`",
        NotStored::UnusableJson => "its content has a value of which no tag can be made",
        NotStored::NoExpiry => "the time that `ttl_from` names is missing or can't be read",
        NotStored::Incomplete => "the upstream cut it short",
        NotStored::Purged => "it was purged while it was fetched",
        NotStored::Observed => "its route is only watched",
    }
}
