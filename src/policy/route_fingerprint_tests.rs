use http::HeaderName;

use super::*;
use crate::policy::fixtures::{route, templates};
use crate::policy::route::{Overrides, Shared};

#[test]
fn the_fingerprint_changes_with_the_reuse_rules() {
    let base = || route("/a/{id}");
    let different = [
        base(),
        route("/{id}/a"),
        Route { tags: templates(&["a"]), ..base() },
        Route { tags: templates(&["a", "b"]), ..base() },
        Route { query: QueryRule::Only(vec![]), ..base() },
        Route { query: QueryRule::Only(vec![("a".to_owned(), None)]), ..base() },
        Route { query: QueryRule::Only(vec![("a".to_owned(), Some(String::new()))]), ..base() },
        Route { query: QueryRule::Ignore(vec![]), ..base() },
        Route { query: QueryRule::Ignore(vec!["a".to_owned()]), ..base() },
        Route { shared: Shared::All, ..base() },
        Route { per: Some(Credential::Authorization), ..base() },
        Route { per: Some(Credential::Cookie("x".to_owned())), ..base() },
        Route { per: Some(Credential::Header(HeaderName::from_static("x"))), ..base() },
        Route { headers: vec![HeaderName::from_static("x")], ..base() },
        Route { cookies: vec!["x".to_owned()], ..base() },
        Route { encrypt: Some(true), ..base() },
        Route { encrypt: Some(false), ..base() },
        Route { overrides: Overrides { private: true, ..Overrides::default() }, ..base() },
    ];
    for (at, one) in different.iter().enumerate() {
        for other in &different[..at] {
            assert_ne!(Fingerprint::from_route(one), Fingerprint::from_route(other), "{one:?} {other:?}");
        }
    }
    let same = Route {
        index: 7,
        name: "other".into(),
        max_size: 1,
        purges: Some(vec![]),
        fingerprint: Fingerprint(1),
        ..base()
    };
    assert_eq!(Fingerprint::from_route(&same), Fingerprint::from_route(&base()));
}

#[test]
fn the_fingerprint_is_the_same_in_every_process() {
    assert_eq!(Fingerprint::from_route(&route("/a")), Fingerprint(11_698_158_542_785_788_434));
}
