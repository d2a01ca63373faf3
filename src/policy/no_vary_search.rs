//! `No-Vary-Search` (draft-ietf-httpbis-no-vary-search): query parameters that do not change a response.
//!
//! A response with the field answers every query that is equivalent to its own. Which queries those are is known only from
//! the response, so a replica remembers the field of the latest response of each path, and *simplifies* the queries of later
//! requests by it: without the parameters that do not matter, and sorted where their order does not matter. The simplified
//! query is the one that is looked up, and the one that is sent to the upstream.
//!
//! **Poisoning.** An upstream that says a parameter does not matter may still repeat it in the response. If a response to
//! one client's `?utm_source=<script>` answered all others, that client would choose what they see. So what is not in the
//! key is not sent: a response that answers for more than its own query was fetched without the parameters that do not
//! matter, and one that was fetched with them answers only its own query. Values are compared as written, not decoded: two
//! spellings that the draft calls equivalent may differ to a parser of the upstream.
//!
//! **Another answer than expected.** What is remembered is a hint and decides nothing. A response is given to a client only
//! if its own field says that it answers the client's query (`LookupQuery::accepts`). If not, the client's query is looked
//! up and fetched as it came.
//!
//! **Purges.** A response carries the targets of its own URL, which is the simplified one. Which other URLs it answers for
//! can't be listed, so it also carries one target for all responses with the field on its path
//! ([`Target::Equivalents`](crate::purge::Target::Equivalents)). A purge of any URL with a query names it, whatever that
//! replica's configuration says. So it may purge more than was meant, and never less.
//!
//! **Bounds.** A field or a query that is too large is treated as if the field were absent.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};

use super::query::{decode, join_pairs, parse_pairs};

pub(crate) const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

const MAX_FIELD_BYTES: usize = 2048;

/// Maximum number of parameter names in the field.
const MAX_NAMES: usize = 64;

/// Maximum number of parameters in a query that is simplified.
const MAX_PARAMETERS: usize = 256;

/// The differences between queries that do not change a response: what the draft calls a URL search variance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchVariance {
    ignored: IgnoredNames,
    ignores_order: bool,
}

/// Parameter names, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IgnoredNames {
    Only(Vec<String>),
    AllExcept(Vec<String>),
}

impl IgnoredNames {
    /// `None`: invalid.
    fn parse(params: Option<&ListEntry>, except: Option<&ListEntry>) -> Option<Self> {
        Some(match params {
            Some(ListEntry::InnerList(names)) if except.is_none() => IgnoredNames::Only(parse_names(names)?),
            Some(value) => match (parse_boolean(value)?, except) {
                (true, None) => IgnoredNames::AllExcept(Vec::new()),
                (true, Some(ListEntry::InnerList(names))) => IgnoredNames::AllExcept(parse_names(names)?),
                (false, None) => IgnoredNames::Only(Vec::new()),
                _ => return None,
            },
            None if except.is_none() => IgnoredNames::Only(Vec::new()),
            None => return None,
        })
    }
}

impl SearchVariance {
    /// Parses the field. `None` if it is absent, invalid or too large, or says that every difference matters.
    pub(crate) fn parse(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<&[u8]> = headers.get_all(NO_VARY_SEARCH).iter().map(|line| line.as_bytes()).collect();
        if lines.is_empty() || lines.iter().map(|line| line.len()).sum::<usize>() > MAX_FIELD_BYTES {
            return None;
        }
        let field: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
        let ignores_order = match field.get("key-order") {
            None => false,
            Some(value) => parse_boolean(value)?,
        };
        let ignored = IgnoredNames::parse(field.get("params"), field.get("except"))?;
        let varies_by_all = !ignores_order && ignored == IgnoredNames::Only(Vec::new());
        (!varies_by_all).then_some(Self { ignored, ignores_order })
    }

    /// The query without what does not matter. `None` if it has too many parameters.
    fn simplify<'q>(&self, query: Option<&'q str>) -> Option<Option<Cow<'q, str>>> {
        let is_ignored = |name: &str| match &self.ignored {
            IgnoredNames::Only(names) => names.iter().any(|ignored| ignored == name),
            IgnoredNames::AllExcept(names) => !names.iter().any(|kept| kept == name),
        };
        let pairs: Vec<_> = parse_pairs(query).take(MAX_PARAMETERS + 1).collect();
        if pairs.len() > MAX_PARAMETERS {
            return None;
        }
        let kept = pairs.into_iter().filter(|(name, _)| !is_ignored(name));
        let kept: Vec<_> = kept.map(|(name, pair)| (name, Cow::Borrowed(pair))).collect();
        Some(join_pairs(kept, self.ignores_order))
    }

    /// Whether a response to `sent` with this field answers `asked`.
    fn are_equivalent(&self, sent: Option<&str>, asked: Option<&str>) -> bool {
        let sent = self.simplify(sent);
        sent.is_some() && sent == self.simplify(asked)
    }
}

/// In words, for `larder explain`.
impl std::fmt::Display for SearchVariance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ignored {
            IgnoredNames::Only(names) if names.is_empty() => {}
            IgnoredNames::Only(names) => write!(f, "{}", names.join(", "))?,
            IgnoredNames::AllExcept(names) if names.is_empty() => f.write_str("all parameters")?,
            IgnoredNames::AllExcept(names) => write!(f, "all parameters but {}", names.join(", "))?,
        }
        match (self.ignores_order, &self.ignored) {
            (true, IgnoredNames::Only(names)) if names.is_empty() => f.write_str("the order of parameters"),
            (true, _) => f.write_str(", and the order"),
            (false, _) => Ok(()),
        }
    }
}

fn parse_boolean(value: &ListEntry) -> Option<bool> {
    match value {
        ListEntry::Item(item) => item.bare_item.as_boolean(),
        ListEntry::InnerList(_) => None,
    }
}

/// The names are percent-encoded as in a form.
fn parse_names(names: &InnerList) -> Option<Vec<String>> {
    if names.items.len() > MAX_NAMES {
        return None;
    }
    let name = |item: &BareItem| item.as_string().map(|name| decode(name.as_str()).into_owned());
    names.items.iter().map(|item| name(&item.bare_item)).collect()
}

/// The query of a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupQuery {
    sent: Option<String>,
    /// Set if it differs from the one that is sent. Empty: the client sent none.
    asked: Option<String>,
}

impl LookupQuery {
    /// The query as the client sent it, after the route's `query`.
    pub(crate) fn as_asked(query: Option<Cow<'_, str>>) -> Self {
        Self { sent: query.map(Cow::into_owned), asked: None }
    }

    /// The query in the simplest form by `variance`.
    pub(super) fn simplified(query: Option<Cow<'_, str>>, variance: &SearchVariance) -> Self {
        match variance.simplify(query.as_deref()) {
            Some(simple) if simple != query => {
                let sent = simple.map(Cow::into_owned);
                Self { sent, asked: Some(query.map(Cow::into_owned).unwrap_or_default()) }
            }
            _ => Self::as_asked(query),
        }
    }

    /// The query that is in the key and goes to the upstream.
    pub fn sent(&self) -> Option<&str> {
        self.sent.as_deref()
    }

    pub(crate) fn is_simplified(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether a response to the query that is sent answers the client's, by its own field.
    pub(crate) fn accepts(&self, response_headers: &HeaderMap) -> bool {
        let Some(asked) = self.asked.as_deref() else { return true };
        SearchVariance::parse(response_headers)
            .is_some_and(|variance| variance.are_equivalent(self.sent(), Some(asked)))
    }
}

#[cfg(test)]
#[path = "no_vary_search_tests.rs"]
mod tests;
