//! Route rules that shorten a lifetime: a time named by the response (`ttl_from`), and random jitter (`jitter`).

use http::HeaderMap;

use super::content::Content;
use super::not_stored::NotStored;
use super::ttl_from::TtlFrom;
use super::{CacheKey, Route};
use crate::clock::Timestamp;
use crate::stored_response::Terms;

/// Applies `ttl_from` where it only reads headers.
pub(crate) fn bound_by_headers(route: &Route, terms: Terms, headers: &HeaderMap) -> Result<Terms, NotStored> {
    match &route.ttl_from {
        Some(from) if !from.reads_content() => from.bound_terms(terms, headers, None),
        _ => Ok(terms),
    }
}

/// Applies `ttl_from` and `jitter`. `content` is needed if `ttl_from` reads it.
pub fn limit_lifetime(
    route: &Route,
    key: &CacheKey,
    terms: Terms,
    headers: &HeaderMap,
    content: Option<&Content>,
) -> Result<Terms, NotStored> {
    let terms = match &route.ttl_from {
        Some(from) => from.bound_terms(terms, headers, content)?,
        None => terms,
    };
    // Jitter comes after the bound, so that responses with the same end are not refetched together.
    let thousandths = jitter_thousandths(key, terms.received_at, route.jitter);
    Ok(terms.shortened_by(thousandths))
}

/// Whether `ttl_from` reads the content.
pub(crate) fn needs_content(route: &Route) -> bool {
    route.ttl_from.as_ref().is_some_and(TtlFrom::reads_content)
}

/// Derives the jitter from the key and the time of receipt, so that no random number is needed.
fn jitter_thousandths(key: &CacheKey, received_at: Timestamp, percent: u8) -> u32 {
    let (head, _) = key.0.split_at(8);
    let seed = head.iter().fold(received_at.as_micros(), |seed, byte| {
        (seed ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    u32::try_from(seed % (u64::from(percent) * 10 + 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::testing::{NOW, route, secs, store};

    fn shortened(number: u8, jitter: u8, header: &str) -> Terms {
        let route = Route { jitter, ..route() };
        let terms = store(&route, 200, header).unwrap();
        limit_lifetime(&route, &CacheKey([number; 32]), terms, &HeaderMap::new(), None).unwrap()
    }

    #[test]
    fn what_came_together_does_not_expire_together() {
        let header = "Cache-Control: max-age=1000, stale-if-error=500";
        let lifetimes: Vec<_> = (0..100).map(|n| shortened(n, 10, header).freshness_lifetime).collect();
        assert!(
            lifetimes.iter().all(|lifetime| (secs(900)..=secs(1000)).contains(lifetime)),
            "{lifetimes:?}"
        );
        let parts = |from, to| lifetimes.iter().filter(|l| (secs(from)..secs(to)).contains(l)).count();
        for (from, to) in [(900, 925), (925, 950), (950, 975), (975, 1001)] {
            assert!(parts(from, to) > 10, "{from}..{to}: {lifetimes:?}");
        }
        let one = shortened(1, 10, header);
        assert_eq!(one, shortened(1, 10, header));
        assert_eq!(one.expires_at, NOW.plus(one.freshness_lifetime + secs(500)));
    }

    #[test]
    fn without_it_nothing_is_lost() {
        let header = "Cache-Control: max-age=1000";
        assert_eq!(shortened(1, 0, header), store(&route(), 200, header).unwrap());
    }

    #[test]
    fn what_is_kept_for_long_is_kept_for_half_of_that_at_least() {
        for header in
            ["Cache-Control: max-age=2000000000", "Cache-Control: no-cache, max-age=2000000000\nETag: \"1\""]
        {
            let whole = store(&route(), 200, header).unwrap().expires_at.since(NOW);
            let kept: Vec<Duration> =
                (0..100).map(|n| shortened(n, 50, header).expires_at.since(NOW)).collect();
            assert!(kept.iter().all(|kept| *kept >= whole / 2 && *kept <= whole), "{kept:?}");
        }
    }
}
