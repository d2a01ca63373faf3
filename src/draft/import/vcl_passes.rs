//! The requests that VCL passes or refuses, and its changes to requests.

use super::region::PathSet;
use super::vcl_text::Statement;
use super::{Import, ask, exclude};

/// Fields with which larder forwards a request uncached by itself.
const FORWARDED_ANYWAY: [&str; 3] = ["http.authorization", "http.cookie", "http.upgrade"];

/// Excludes what is passed or refused. `conditions` are those around the block.
pub(super) fn add_passes<'s>(
    draft: &mut Import,
    conditions: &mut Vec<&'s Statement>,
    block: &'s [Statement],
) {
    for (at, statement) in block.iter().enumerate() {
        let action = statement.text.replace(' ', "");
        let is_refusal = ["return(synth(", "return(error", "return(fail", "error"]
            .iter()
            .any(|refusal| action.starts_with(refusal));
        if is_refusal || action.starts_with("return(pass") || action.starts_with("return(pipe)") {
            add_pass(draft, conditions, statement, is_refusal);
        }
        // An `else` depends on the conditions before it.
        let before = conditions.len();
        if statement.text == "else" {
            let chain = block[..at].iter().rev();
            let first = chain.clone().position(|earlier| earlier.text.starts_with("if"));
            conditions.extend(chain.take(first.map_or(0, |first| first + 1)));
        }
        conditions.push(statement);
        add_passes(draft, conditions, &statement.block);
        conditions.truncate(before);
    }
}

fn add_pass(draft: &mut Import, conditions: &[&Statement], action: &Statement, is_refusal: bool) {
    let about = conditions.last().map_or_else(|| action.about(), |condition| condition.about());
    let is_else = conditions.last().is_some_and(|condition| condition.text == "else");
    let why = format!("`{}`", action.text);
    let has = |part: &str| conditions.iter().any(|condition| condition.text.contains(part));
    if is_refusal && has("req.method") && has("client.ip") {
        ask(draft, format!("{about}: `purge.allow` and `purge.token` say who may purge."));
    } else if is_refusal {
        ask(draft, format!("{about} refuses (`{}`). larder does not; who may read it?", action.text));
    }
    let paths = conditions.iter().rev().find_map(|condition| condition.paths());
    match paths {
        _ if conditions.is_empty() => {
            ask(draft, format!("{about}: whatever no statement before it selects. Which paths are cached?"));
            exclude(draft, PathSet::everything(), &about, &why);
        }
        Some(_) if is_else => exclude(draft, PathSet::unknown(), &about, &why),
        Some(paths) => {
            for set in paths {
                exclude(draft, set, &about, &why);
            }
        }
        // The methods of purges and bans.
        None if is_refusal && has("req.method") => {}
        None if is_forwarded_anyway(conditions) => ask(
            draft,
            format!(
                "{about} passes. larder passes writes and requests with credentials by itself; is more needed?"
            ),
        ),
        None => {
            ask(
                draft,
                format!(
                    "{about}: no key of a route says this, so nothing is cached. Which requests are these?"
                ),
            );
            exclude(draft, PathSet::everything(), &about, &why);
        }
    }
}

/// Whether one of the conditions selects only requests that larder does not cache.
fn is_forwarded_anyway(conditions: &[&Statement]) -> bool {
    // Behind an `else` the conditions are those that do not hold.
    conditions.iter().all(|condition| condition.text != "else")
        && conditions.iter().any(|condition| {
            let text = condition.text.to_ascii_lowercase();
            let mut parts = text.split("req.");
            let mut is_negated = parts.next().is_some_and(|before| before.trim_end().ends_with('!'));
            text.contains("req.")
                && !text.contains("client.")
                && parts.all(|field| {
                    let is_known = selects_uncached(field) && !is_negated;
                    is_negated = field.trim_end().ends_with('!');
                    is_known
                })
        })
}

/// Whether a comparison, from its field's name on, holds for no request that larder caches.
fn selects_uncached(comparison: &str) -> bool {
    let is_unequal = comparison.contains("!=") || comparison.contains("!~");
    let names_reads = ["\"get\"", "\"head\"", "get|", "|get", "|head", "head|"];
    let is_read = names_reads.iter().any(|name| comparison.contains(name));
    if comparison.starts_with("method") || comparison.starts_with("request") {
        return is_unequal == is_read;
    }
    !is_unequal && FORWARDED_ANYWAY.iter().any(|known| comparison.starts_with(known))
}
