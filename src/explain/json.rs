//! An explanation for programs to read.

use serde_json::{Value, json};

use super::text::{beginning, words_of_not_stored, words_of_pass};
use super::{Explanation, Reading, Storing, Verdict, Writing, carriers};
use crate::policy::classify::Caller;
use crate::policy::invalidation::WriteEnd;
use crate::policy::lifetime::Lifetime;
use crate::policy::miss::OnMiss;
use crate::policy::routes::Routes;
use crate::policy::template::Template;
use crate::purge::Target;

pub fn told(explanation: &Explanation, routes: &Routes) -> Value {
    let route = explanation.route.as_deref();
    let mut told = json!({
        "method": explanation.method.as_str(),
        "target": explanation.target,
        "route": route.map(|route| json!({"path": route.path.as_str(), "name": &*route.name})),
    });
    let more = match &explanation.verdict {
        Verdict::Refused(why) => json!({"decision": "refused", "words": why}),
        Verdict::Pass(reason) => {
            json!({"decision": "pass", "reason": reason.as_str(), "words": words_of_pass(*reason, route)})
        }
        Verdict::Lookup(reading) => of_reading(reading),
        Verdict::Write(writing) => of_writing(writing, routes),
        Verdict::Purge(targets) => json!({"decision": "purge", "purges": of_targets(targets, routes)}),
    };
    if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
        told.extend(more);
    }
    told
}

fn of_reading(reading: &Reading) -> Value {
    let parts: Vec<Value> =
        reading.parts.iter().map(|part| json!({"name": part.name, "values": part.values})).collect();
    let on_miss = match reading.on_miss {
        OnMiss::Fetch => "fetch",
        OnMiss::Head => "forward",
        OnMiss::Pass(reason) => reason.as_str(),
        OnMiss::OnlyIfCached => "only-if-cached",
    };
    let mut told = json!({
        "decision": "lookup",
        "key": beginning(&reading.key),
        "keyParts": parts,
        "forwarded": reading.forwarded,
        "credentialOutsideKey": reading.caller == Caller::Credentialed,
        "onMiss": on_miss,
        "status": reading.status.as_u16(),
        "stored": reading.on_miss == OnMiss::Fetch && reading.fetched.is_ok(),
    });
    match &reading.fetched {
        Ok(storing) => told["terms"] = of_storing(storing),
        Err(why) => told["notStored"] = json!({"reason": why.as_str(), "words": words_of_not_stored(*why)}),
    }
    told["purgedBy"] = reading
        .purgers
        .iter()
        .map(|purger| json!({"route": purger.route, "template": purger.template, "tag": purger.tag}))
        .collect();
    told
}

fn of_storing(storing: &Storing) -> Value {
    let terms = &storing.terms;
    let from = match storing.lifetime {
        Lifetime::Explicit(_) => "response",
        Lifetime::Guessed(_) => "heuristic",
        Lifetime::Validated => "no-cache",
        Lifetime::Route(_) => "route",
        Lifetime::UntilPurged => "until-purged",
    };
    let unread: Vec<&str> = storing.unread.iter().map(Template::as_str).collect();
    json!({
        "ttlSeconds": terms.freshness_lifetime.saturating_sub(terms.initial_age).as_secs(),
        "ttlFrom": from,
        "alwaysValidated": terms.always_validate,
        "staleWhileRevalidateSeconds": terms.stale_while_revalidate.as_secs(),
        "staleIfErrorSeconds": terms.stale_if_error.as_secs(),
        "tags": storing.tags,
        "tagsInContent": unread,
    })
}

fn of_writing(writing: &Writing, routes: &Routes) -> Value {
    let end = match writing.end {
        WriteEnd::Purge => "purge",
        WriteEnd::PurgeInDoubt => "in-doubt",
        WriteEnd::Nothing => "nothing",
    };
    json!({
        "decision": "write",
        "status": writing.status.as_u16(),
        "end": end,
        "purges": of_targets(&writing.targets, routes),
        "widened": writing.widened,
    })
}

fn of_targets(targets: &[Target], routes: &Routes) -> Value {
    let told = |target: &Target| match target {
        Target::Tag(tag) => json!({"tag": tag, "carriedBy": carriers(routes, tag)}),
        Target::Path { path, .. } => json!({"path": path.as_str()}),
        Target::Url { path, query, .. } => json!({"path": path.as_str(), "query": query}),
        Target::Prefix { path, .. } => json!({"prefix": path.as_str()}),
        Target::Everything => json!({"everything": true}),
    };
    targets.iter().map(told).collect()
}
