//! The findings of `larder lint`.

use super::with;
use crate::config::{Config, SettingOverrides};

/// `name line` of each finding beyond what `larder check` says.
fn found(more: &str) -> Vec<String> {
    let text = with(more);
    let findings = Config::lint(&text, "proxy.yaml", &|_| None, &SettingOverrides::default())
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    let line = |text: &str| text.split(':').nth(1).unwrap_or_default().to_owned();
    let own = findings.iter().filter(|finding| finding.diagnostic.name != "advice");
    own.map(|finding| format!("{} {}", finding.diagnostic.name, line(&finding.text))).collect()
}

#[test]
fn each_finding_stands_at_its_line_and_what_is_right_has_none() {
    for (routes, expected) in [
        ("[{path: /a, ttl: 1m, tags: [a]}, {path: /b, purges: [a]}]", &[][..]),
        // A tag that is dropped from the query before it is read.
        ("\n  - path: /a\n    query: [x]\n    tags: ['p:{query.page}']", &["tag-never-resolves 5"]),
        (
            "\n  - path: /a\n    query: {ignore: ['p*']}\n    tags: ['p:{query.page}']",
            &["tag-never-resolves 5"],
        ),
        ("[{path: /a, query: [page], tags: ['p:{query.page}']}]", &[]),
        // A value of the caller, where what callers ask for is not stored.
        ("\n  - path: /a\n    tags: ['u:{jwt.sub}']", &["tag-never-resolves 4"]),
        ("\n  - path: /a\n    per: cookie.s\n    tags: ['u:{jwt.sub}']", &["tag-never-resolves 5"]),
        ("\n  - path: /a\n    tags: ['u:{cookie.s}']", &["tag-never-resolves 4"]),
        ("[{path: /a, per: authorization, tags: ['u:{jwt.sub}']}]", &[]),
        ("[{path: /a, cookies: [s], tags: ['u:{cookie.s}']}]", &[]),
        ("[{path: /a, per: cookie.s, tags: ['u:{cookie.s}']}]", &[]),
        ("[{path: /a, tags: ['u:{header.x-region}']}]", &[]),
        // Nothing purges it.
        (
            "\n  - path: /a\n    tags: [files, 'f:{query.x}']\n    purges: []",
            &["tag-never-purged 4", "tag-never-purged 4"],
        ),
        ("[{path: /a, tags: ['f/{query.x}'], purges: []}, {path: /b, purges: [f]}]", &[]),
        // Nothing carries it.
        ("\n  - path: /a\n    purges: [guilds]", &["tag-never-carried 4"]),
        ("[{path: /a, tags: ['t/{query.x}/y']}, {path: /b, purges: ['t/{query.z}']}]", &[]),
        // A credential that the other routes don't know of.
        ("\n  - {path: /a, per: header.x-stall}\n  - {path: /b, ttl: 1m}", &["unknown-credential 3"]),
        ("[{path: /a, per: header.x-session}, {path: /b, ttl: 1m, shared: true}]", &[]),
        ("[{path: /a, per: header.x-api-key}, {path: /b, ttl: 1m}]", &[]),
        // Nothing is ever looked up.
        ("\n  - path: /a\n    per: header.x-original-url\n    shared: false", &["never-cached 3"]),
        ("\n  - path: /a\n    per: header.keep-alive", &["never-cached 4"]),
        // Keys that say nothing.
        ("\n  - {path: /a, ttl: never, query: [x]}", &["no-effect 3"]),
        ("\n  - {path: /a, purges: [], per: authorization}", &["no-effect 3"]),
        ("\n  - path: /a\n    override: [lifetime]", &["no-effect 4"]),
        ("[{path: /a, override: [lifetime], status: {404: 1m}}]", &[]),
        ("[{path: /a, mode: off, query: [x]}]", &[]),
        // A window that the response closes.
        ("\n  - path: /a\n    stale_if_error: 1h", &["s-maxage-forbids-stale 4"]),
        ("[{path: /a, stale_if_error: 1h, override: [s-maxage-revalidation]}]", &[]),
        ("[{path: /a, ttl: 1m, stale_if_error: 1h}, {path: /b, stale_while_revalidate: 1m}]", &[]),
        // A default that is meant as a type.
        ("\n  - path: /a\n    query: {q: any, page: 1}", &["default-like-a-type 4"]),
        ("[{path: /a, query: {q: ~, page: 1, sort: all}}]", &[]),
    ] {
        assert_eq!(found(&format!("routes: {routes}")), expected, "{routes}");
    }
}

#[test]
fn paths_mean_what_they_usually_do() {
    let list = "{path: /orders, ttl: 1m, tags: [orders]}";
    let item = |more: &str| format!("[{list}, {{path: '/orders/{{id}}', ttl: 1m{more}}}]");
    let with_event = format!(
        "{}\nevents: [{{webhook: /hooks/a, secret: '{}', purge: [orders]}}]",
        item(", tags: ['order:{id}']"),
        "x".repeat(32)
    );
    for (routes, expected) in [
        // A write to the item leaves the list.
        (item(", tags: ['order:{id}']"), &["list-not-purged 2"][..]),
        (
            item(", purges: ['orders:{id}']").replace("tags: [orders]", "tags: [orders, 'orders:{query.q}']"),
            &[],
        ),
        (item(", tags: ['order:{id}'], purges: [orders]"), &[]),
        (item(", tags: [orders, 'order:{id}']"), &[]),
        (item(", tags: ['order:{id}'], purges: []"), &["tag-never-purged 2"]),
        // `purge.parents` does it.
        (item(""), &[]),
        (item(", tags: ['order:{id}']").replace(", tags: [orders]", ""), &[]),
        // `purges` says all that is purged.
        (
            item(", purges: ['order:{id}'], tags: ['order:{id}']").replace(", tags: [orders]", ""),
            &["list-not-purged 2"],
        ),
        (
            format!(
                "{}, {{path: '/orders/{{id}}/pay', purges: [orders]}}]",
                item(", tags: ['o:{id}']").trim_end_matches(']')
            ),
            &[],
        ),
        (with_event, &[]),
        // One response for all callers.
        ("[{path: /users/me, ttl: 1m, shared: true}]".into(), &["shared-caller 2"]),
        ("[{path: /users/me, ttl: 1m, per: authorization}]".into(), &[]),
        ("[{path: /me-too, ttl: 1m, shared: true}]".into(), &[]),
        ("[{path: '/users/{id}', ttl: 1m, shared: true}]".into(), &["shared-caller 2"]),
        ("[{path: '/users/{id}', ttl: 1m}]".into(), &[]),
        ("[{path: '/users/{id}', ttl: 1m, shared: true}, {path: /users/me, ttl: never}]".into(), &[]),
        ("[{path: '/courses/{id}', ttl: 1m, shared: true}]".into(), &[]),
        ("[{path: /api/login, ttl: 1m}]".into(), &["stored-login 2"]),
        (
            "[{path: /api/login, ttl: never}, {path: /logout, ttl: upstream}, {path: /token, purges: []}]"
                .into(),
            &[],
        ),
    ] {
        assert_eq!(found(&format!("routes: {routes}")), expected, "{routes}");
    }
}

#[test]
fn cookies_of_the_usual_frameworks_are_known() {
    for (routes, expected) in [
        // Everybody has one.
        ("\n  - path: /a\n    per: cookie.csrftoken", &["framework-cookie 4"][..]),
        ("\n  - path: /a\n    per: authorization | cookie._ga_X1", &["framework-cookie 4"]),
        ("\n  - path: /a\n    per: cookie.__Host-next-auth.csrf-token", &["framework-cookie 4"]),
        // Each response sets another one.
        ("\n  - path: /a\n    per: cookie.laravel_session", &["framework-cookie 4"]),
        ("\n  - path: /a\n    per: cookie._shop_session", &["framework-cookie 4"]),
        ("\n  - path: /a\n    per: cookie..AspNetCore.Cookies", &["framework-cookie 4"]),
        ("[{path: /a, per: cookie.sessionid}, {path: /b, per: cookie.connect.sid}]", &[]),
        ("[{path: /a, per: cookie.PHPSESSID}, {path: /b, per: cookie._session}]", &[]),
        // Each browser has a response of its own.
        ("\n  - path: /a\n    shared: true\n    cookies: [lang, XSRF-TOKEN]", &["framework-cookie 5"]),
        ("\n  - path: /a\n    shared: true\n    cookies: [JSESSIONID]", &["framework-cookie 5"]),
        ("[{path: /a, shared: true, cookies: [lang]}]", &[]),
        // Browsers share nothing on the route that says nothing.
        ("\n  - {path: /a, per: cookie.sessionid}\n  - {path: /b, ttl: 1m}", &["framework-cookie 4"]),
        (
            "\n  - {path: /a, per: cookie.sessionid}\n  - {path: /b, ttl: 1m, cookies: [lang]}",
            &["framework-cookie 4"],
        ),
        ("[{path: /a, per: cookie.sessionid}, {path: /b, ttl: 1m, shared: true}]", &[]),
        ("[{path: /a, per: cookie.sessionid}, {path: /b, ttl: 1m, credentials: {not: [Cookie]}}]", &[]),
        ("[{path: /a, per: cookie.my-own}, {path: /b, ttl: 1m}]", &[]),
        ("[{path: /a, per: cookie.sessionid}, {path: /b, purges: []}]", &[]),
    ] {
        assert_eq!(found(&format!("routes: {routes}")), expected, "{routes}");
    }
}

#[test]
fn a_claim_that_could_be_verified_is_to_be() {
    let with_callers =
        |routes| found(&format!("callers: {{app: {{jwt: {{keys: k.json}}}}}}\nroutes: {routes}"));
    let verified = "[{path: /a, callers: app, per: jwt.sub, tags: ['u:{jwt.sub}', 'by:{caller}']}]";
    assert_eq!(with_callers(verified), [""; 0]);
    let as_it_comes = "[{path: /a, per: authorization, tags: ['u:{jwt.sub}']}]";
    assert_eq!(with_callers(as_it_comes), ["unverified-claim 3"]);
}

#[test]
fn a_finding_shows_its_name_its_line_and_the_fix() {
    let text = with("routes: [{path: /a, query: [x], tags: ['p:{query.page}']}]");
    let findings =
        Config::lint(&text, "proxy.yaml", &|_| None, &SettingOverrides::default()).expect("a right file");
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    for part in
        ["proxy.yaml:2:40: warning[tag-never-resolves]: ", "^^^", "help: add `page` to the route's `query`"]
    {
        assert!(finding.text.contains(part), "{part}\n{}", finding.text);
    }
}
