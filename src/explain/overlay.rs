//! Explains a route with `overlay`: the part that all callers share, and those of the caller.

use std::fmt::{self, Formatter};

use serde_json::{Value, json};

use super::caller::ExplainedCaller;
use super::describe::{abbreviate_key, describe_pass, write_line};
use super::{ExplainResponse, Explainer, LookupExplanation};
use crate::policy::cache_key::{KeyPart, describe_key};
use crate::policy::caller::UnknownCaller;
use crate::policy::classify::{Classification, PassReason, classify, look_up_shared_part};
use crate::policy::credentials::is_anonymous;
use crate::policy::overlay::{OnPartError, OverlayAs};
use crate::policy::route::SharedPart;
use crate::policy::{CacheKey, Route};
use crate::proxy::ClientHead;

/// A part of the caller.
#[derive(Debug)]
pub(crate) struct ExplainedPart {
    pub url: String,
    pub verdict: PartVerdict,
}

#[derive(Debug)]
pub(crate) enum PartVerdict {
    /// It is looked up under this key.
    Lookup { key: CacheKey, parts: Vec<KeyPart> },
    /// The service that knows callers is asked first.
    Identify,
    /// The caller is nobody: no item is selected.
    Anonymous,
    /// The whole request is forwarded for this reason.
    Pass(PassReason),
}

impl Explainer<'_> {
    /// Explains the lookup of the shared part, and what is merged into it.
    pub(super) fn explain_overlay(
        &self,
        part: &SharedPart,
        route: &Route,
        head: &ClientHead,
        response: &ExplainResponse,
    ) -> LookupExplanation {
        let shared = head.for_shared_part(part, &self.config.credentials);
        let request = shared.as_policy();
        let lookup = look_up_shared_part(part, &request, &self.config.credentials);
        let explained = self.explain_lookup(&lookup, &request, response);
        let caller_parts = route.caller_parts().into_iter().map(|url| {
            let own = head.for_caller_part(url, self.routes);
            ExplainedPart { url: url.to_string(), verdict: self.explain_part(&own) }
        });
        LookupExplanation { caller_parts: caller_parts.collect(), ..explained }
    }

    fn explain_part(&self, head: &ClientHead) -> PartVerdict {
        let (callers, credentials) = (ExplainedCaller { explainer: self, head }, &self.config.credentials);
        match classify(self.routes, &head.as_policy(), false, credentials, &callers) {
            Classification::Lookup(lookup) => {
                let (request, query) = (head.as_policy(), lookup.query.sent());
                let parts = describe_key(lookup.route, &request, query, None, credentials);
                PartVerdict::Lookup { key: lookup.key, parts }
            }
            Classification::Identify { .. } => PartVerdict::Identify,
            Classification::Pass {
                reason: PassReason::NoCredential | PassReason::Caller(UnknownCaller::Anonymous),
                route: Some(route),
            } if is_anonymous(route, &head.parts.headers, credentials) => PartVerdict::Anonymous,
            Classification::Pass { reason, .. } => PartVerdict::Pass(reason),
            Classification::ContentRead { .. } | Classification::Write { .. } => {
                PartVerdict::Pass(PassReason::Method)
            }
        }
    }
}

/// Writes what precedes the lookup of the shared part.
pub(super) fn write_shared_part(f: &mut Formatter<'_>, route: &Route) -> fmt::Result {
    let asked = match route.overlay_as {
        OverlayAs::Anonymous => "without the caller's credentials",
        OverlayAs::Background => "with `background.headers` instead of the caller's credentials",
    };
    write_line(f, "shared part", format_args!("what all callers share is asked for {asked}"))
}

/// Writes what is merged into the shared part.
pub(super) fn write_caller_parts(
    f: &mut Formatter<'_>,
    lookup: &LookupExplanation,
    route: &Route,
) -> fmt::Result {
    for part in &lookup.caller_parts {
        write_line(f, "merged with", format_args!("{}: {}", part.url, describe(&part.verdict)))?;
        if let PartVerdict::Lookup { parts, .. } = &part.verdict {
            for part in parts.iter().filter(|part| !part.values.is_empty()) {
                writeln!(f, "  {:<11}   {:<14} {}", "", part.name, part.values.join(" | "))?;
            }
        }
        for overlay in route.overlay.iter().filter(|overlay| overlay.from.to_string() == part.url) {
            let names: Vec<&str> = overlay.members.iter().map(|member| member.name.as_str()).collect();
            let (into, on) = (&overlay.into, &overlay.on);
            let failing = match overlay.on_error {
                OnPartError::Pass => "if it fails, the request is forwarded",
                OnPartError::Default => "if it fails, no item is selected",
            };
            write_line(f, "", format_args!("{into} by `{on}` get {}; {failing}", names.join(", ")))?;
        }
    }
    Ok(())
}

fn describe(verdict: &PartVerdict) -> String {
    match verdict {
        PartVerdict::Lookup { key, .. } => format!("looked up for this caller, key {}", abbreviate_key(key)),
        PartVerdict::Identify => "the service in `ask` says first who the caller is".to_owned(),
        PartVerdict::Anonymous => "the request has no credential, so no item is selected".to_owned(),
        PartVerdict::Pass(reason) => {
            format!("can't be had, so the request is forwarded: {}", describe_pass(*reason, None))
        }
    }
}

pub(super) fn caller_parts_to_json(parts: &[ExplainedPart]) -> Value {
    let part = |part: &ExplainedPart| {
        let (decision, key, reason) = match &part.verdict {
            PartVerdict::Lookup { key, .. } => ("lookup", Some(abbreviate_key(key)), None),
            PartVerdict::Identify => ("identify", None, None),
            PartVerdict::Anonymous => ("anonymous", None, None),
            PartVerdict::Pass(reason) => ("pass", None, Some(reason.as_str())),
        };
        json!({"url": part.url, "decision": decision, "key": key, "reason": reason})
    };
    parts.iter().map(part).collect()
}
