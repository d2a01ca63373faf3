//! Property: adding a restricting directive never allows more storing or serving.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::classify::Caller;
use super::lifetime::MAX_STORED_LIFETIME;
use super::not_stored::NotStored;
use super::reuse::{Reuse, assess};
use super::route::{Overrides, Route, Ttl};
use super::testing::{NOW, headers, lookup, request, route, secs, store_for, stored};
use crate::stored_response::Terms;

/// Directives that restrict in every context.
const ALWAYS: [&str; 8] = [
    "no-store",
    "private",
    "private=\"x\"",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "no-transform",
    "no-cache",
];

fn directives() -> impl Strategy<Value = Vec<String>> {
    let directive = prop_oneof![
        (0..200_u64).prop_map(|seconds| format!("max-age={seconds}")),
        (0..200_u64).prop_map(|seconds| format!("s-maxage={seconds}")),
        (0..200_u64).prop_map(|seconds| format!("stale-while-revalidate={seconds}")),
        (0..200_u64).prop_map(|seconds| format!("stale-if-error={seconds}")),
        proptest::sample::select(vec!["public", "must-revalidate", "immutable", "x=\"private\"", "no-cache"])
            .prop_map(str::to_owned),
    ];
    proptest::collection::vec(directive, 0..5)
}

/// Directives that restrict in the context of `present`: lifetimes and windows can be shortened. Without one,
/// `max-age=0` would add a lifetime.
fn restrictions(present: &[String]) -> Vec<String> {
    let shorter =
        ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"].into_iter().flat_map(|name| {
            let is_there = present.iter().any(|directive| directive.starts_with(&format!("{name}=")));
            is_there
                .then(|| [format!("{name}=0"), format!("{name}=50"), format!("{name}=oops"), name.to_owned()])
        });
    ALWAYS.into_iter().map(str::to_owned).chain(shorter.flatten()).collect()
}

#[derive(Clone, Debug)]
struct Case {
    route: Route,
    caller: Caller,
    asks: Caller,
    status: u16,
    other_fields: &'static str,
    present: Vec<String>,
    added: String,
    after: Duration,
    soft_purged: bool,
    /// `Cache-Control`, or a targeted field.
    field: &'static str,
    /// The request's `Cache-Control`.
    asked: String,
}

fn routes() -> impl Strategy<Value = Route> {
    let ttl = proptest::sample::select(vec![Ttl::Upstream, Ttl::UntilPurged, Ttl::For(secs(100))]);
    let overrides = any::<[bool; 4]>().prop_map(|[lifetime, private, no_cache, s_maxage_revalidation]| {
        Overrides { lifetime, private, no_cache, s_maxage_revalidation }
    });
    let flags = any::<[bool; 3]>();
    let windows = (0..100_u64, 0..100_u64);
    (ttl, overrides, flags, windows).prop_map(
        |(ttl, overrides, [heuristic, any_status, request_directives], (while_revalidate, on_error))| Route {
            heuristic,
            any_status,
            request_directives,
            ttl,
            overrides,
            status: [(404, secs(50)), (599, secs(50))].into(),
            stale_while_revalidate: secs(while_revalidate),
            stale_if_error: secs(on_error),
            ..route()
        },
    )
}

fn callers() -> impl Strategy<Value = Caller> {
    proptest::sample::select(vec![Caller::InKey, Caller::Credentialed { until: None }])
}

/// Directives of the request; half of the routes ignore them.
fn asked() -> impl Strategy<Value = String> {
    let directive = prop_oneof![
        Just(String::new()),
        Just("no-cache".to_owned()),
        Just("max-stale".to_owned()),
        (0..200_u64).prop_map(|seconds| format!("max-stale={seconds}")),
        (0..200_u64).prop_map(|seconds| format!("max-age={seconds}")),
        (0..200_u64).prop_map(|seconds| format!("min-fresh={seconds}")),
    ];
    proptest::collection::vec(directive, 0..3).prop_map(|directives| directives.join(", "))
}

fn cases() -> impl Strategy<Value = Case> {
    let fields = vec![
        "",
        "ETag: \"1\"\n",
        "Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\n",
        "Age: 30\n",
        "Expires: Sun, 06 Nov 1994 08:50:37 GMT\n",
        "Vary: a\n",
    ];
    let of_response = (
        proptest::sample::select(vec![200, 301, 302, 404, 500, 599]),
        proptest::sample::select(fields),
        directives(),
        any::<proptest::sample::Index>(),
    );
    let of_request = (callers(), callers(), (0..400_u64).prop_map(secs), any::<bool>(), asked());
    (routes(), of_response, of_request, any::<bool>()).prop_map(
        |(route, of_response, (caller, asks, after, soft_purged, asked), targeted)| {
            let (status, other_fields, present, index) = of_response;
            // In a structured field the last duplicate counts, so a prefix changes nothing.
            let restrictions = match targeted {
                true => ALWAYS.map(str::to_owned).to_vec(),
                false => restrictions(&present),
            };
            let field = if targeted { "Larder-Cache-Control" } else { "Cache-Control" };
            let added = index.get(&restrictions).clone();
            Case {
                route,
                caller,
                asks,
                status,
                other_fields,
                present,
                added,
                after,
                soft_purged,
                field,
                asked,
            }
        },
    )
}

impl Case {
    fn store(&self, directives: &[String]) -> Result<Terms, NotStored> {
        // The first member of a targeted field disables `Expires`, which may let the route's lifetime apply; `x`
        // does that before the test adds a member.
        let directives =
            ["x"].into_iter().chain(directives.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
        let response = format!("{}{}: {directives}", self.other_fields, self.field);
        store_for(self.caller, &self.route, self.status, &response)
    }

    /// Ranks reuse: 3 fresh, 2 stale while revalidating, 1 stale on error, 0 never.
    fn served(&self, stored_terms: &Result<Terms, NotStored>) -> u8 {
        let Ok(terms) = stored_terms else { return 0 };
        let (fields, route) =
            (headers(&format!("Cache-Control: {}", self.asked)), Arc::new(self.route.clone()));
        let request = request(&Method::GET, &fields);
        let head = stored("", *terms);
        match assess(
            &head,
            &lookup(&route, self.asks),
            &request,
            self.soft_purged.then_some(NOW),
            NOW.plus(self.after),
        ) {
            Reuse::Fresh { .. } => 3,
            Reuse::StaleWhileRevalidate { .. } | Reuse::StaleOnRequest { .. } => 2,
            Reuse::Validate { if_error: true, .. } => 1,
            Reuse::Validate { if_error: false, .. } | Reuse::ValidateOnRequest { .. } | Reuse::No(_) => 0,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_restricting_response_directive_never_allows_more(case in cases()) {
        let before = case.store(&case.present);
        for at in 0..=case.present.len() {
            let mut directives = case.present.clone();
            directives.insert(at, case.added.clone());
            let after = case.store(&directives);
            prop_assert!(case.served(&after) <= case.served(&before), "{directives:?}: {before:?} {after:?}");
            // `no-cache` makes a response without lifetime storable, for validation.
            if case.added != "no-cache" && before.is_err() {
                prop_assert!(after.is_err(), "{directives:?}: {before:?} {after:?}");
            }
        }
    }

    #[test]
    fn a_restricting_request_directive_never_allows_more(case in cases(), seconds in 0..200_u64) {
        let terms = case.store(&case.present);
        let added = ["no-cache".to_owned(), format!("max-age={seconds}"), format!("min-fresh={seconds}"), "max-age=x".to_owned()];
        for added in added {
            let asked = format!("{}, {added}", case.asked);
            let restricted = Case { asked, ..case.clone() };
            prop_assert!(restricted.served(&terms) <= case.served(&terms), "{}: {terms:?}", restricted.asked);
        }
    }

    #[test]
    fn what_is_never_stored_is_never_stored(case in cases(), forbidden in 0..4_usize) {
        let mut directives = case.present.clone();
        let mut case = case;
        match forbidden {
            0 => directives.push("no-store".to_owned()),
            1 => case.other_fields = "Set-Cookie: a=b\n",
            2 => case.other_fields = "Vary: a, *\n",
            _ => case.status = 206,
        }
        prop_assert!(case.store(&directives).is_err());
    }

    #[test]
    fn nothing_is_served_past_its_windows_or_the_longest_lifetime(case in cases()) {
        // `max-stale` asks for more than the windows allow.
        let case = Case { asked: String::new(), ..case };
        let terms = case.store(&case.present);
        if let Ok(terms) = &terms {
            let windows = terms.stale_while_revalidate.max(terms.stale_if_error);
            let last = terms.freshness_lifetime + windows;
            let late = Case { after: last.saturating_sub(terms.initial_age).min(MAX_STORED_LIFETIME), ..case.clone() };
            prop_assert_eq!(late.served(&Ok(*terms)), 0);
        }
    }
}

/// Regression: a response that the request refused was still used on an upstream error, but only after a window had
/// been removed.
#[test]
fn a_shorter_window_makes_no_refused_response_usable() {
    let case = |present: &[&str], added: &str, after| Case {
        route: Route { request_directives: true, stale_if_error: secs(60), ..route() },
        caller: Caller::InKey,
        asks: Caller::InKey,
        status: 200,
        other_fields: "",
        present: present.iter().map(|directive| (*directive).to_owned()).collect(),
        added: added.to_owned(),
        after: secs(after),
        soft_purged: false,
        field: "Cache-Control",
        asked: "max-age=0".to_owned(),
    };
    for case in [
        case(&["max-age=39", "stale-while-revalidate=37"], "stale-while-revalidate=oops", 39),
        case(&["stale-while-revalidate=65", "max-age=174"], "max-age=0", 20),
        case(&["stale-while-revalidate=65", "max-age=174"], "stale-while-revalidate=0", 200),
    ] {
        let restricted = [case.present.clone(), vec![case.added.clone()]].concat();
        assert_eq!(case.served(&case.store(&case.present)), 0, "{case:?}");
        assert_eq!(case.served(&case.store(&restricted)), 0, "{case:?}");
    }
}
