//! Findings about the cookies of the usual frameworks: tokens against forged requests and analytics, which every browser has,
//! and sessions that get another value with each response.

use http::header::COOKIE;

use super::diagnostics::{Diagnostics, Location};
use super::finding_name::FindingName;
use super::parsed_route::ParsedRoute;
use crate::policy::credential::Credential;
use crate::policy::route::Shared;
use crate::policy::template::TemplateNeed;
use crate::policy::{CallerFields, Route};

/// The use of a cookie, as far as a cache is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Every browser has one of its own, also of visitors who are nobody.
    Everybody,
    /// A session with the same value for long.
    Session,
    /// A session whose value changes while it lasts.
    RollingSession,
}

use Use::{Everybody, RollingSession, Session};

/// Names of cookies, without `__Host-` and `__Secure-`; `*` stands for anything. The first that matches counts.
const COOKIES: [(&str, &str, Use); 27] = [
    ("csrftoken", "Django", Everybody),
    ("sessionid", "Django", Session),
    ("XSRF-TOKEN", "Laravel, Angular and Spring", Everybody),
    ("laravel_session", "Laravel", RollingSession),
    (".AspNetCore.Antiforgery.*", "ASP.NET Core", Everybody),
    (".AspNetCore.Session", "ASP.NET Core", Session),
    (".AspNetCore.*", "ASP.NET Core", RollingSession),
    ("ASP.NET_SessionId", "ASP.NET", Session),
    ("_csrf", "Express", Everybody),
    ("connect.sid", "Express", Session),
    ("next-auth.csrf-token", "NextAuth.js", Everybody),
    ("next-auth.session-token*", "NextAuth.js", RollingSession),
    ("authjs.csrf-token", "Auth.js", Everybody),
    ("authjs.session-token*", "Auth.js", RollingSession),
    ("PHPSESSID", "PHP", Session),
    ("JSESSIONID", "Spring and Java servlets", Session),
    ("CSRF-TOKEN", "Rails", Everybody),
    ("_ga*", "Google Analytics", Everybody),
    ("_gid", "Google Analytics", Everybody),
    ("_gcl_*", "Google Ads", Everybody),
    ("_fbp", "Meta Pixel", Everybody),
    ("_hj*", "Hotjar", Everybody),
    ("_pk_*", "Matomo", Everybody),
    ("_clck", "Microsoft Clarity", Everybody),
    ("ajs_*", "Segment", Everybody),
    ("_session_id", "Rails", RollingSession),
    ("_*_session", "Rails", RollingSession),
];

/// A cookie of the table.
#[derive(Clone, Copy)]
struct Known<'n> {
    name: &'n str,
    framework: &'static str,
    used_for: Use,
}

fn find(name: &str) -> Option<Known<'_>> {
    let bare = ["__Host-", "__Secure-"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let matches = |pattern: &str| match pattern.split_once('*') {
        Some((start, end)) => {
            bare.len() > start.len() + end.len() && bare.starts_with(start) && bare.ends_with(end)
        }
        None => bare == pattern,
    };
    let (_, framework, used_for) = COOKIES.into_iter().find(|(pattern, ..)| matches(pattern))?;
    Some(Known { name, framework, used_for })
}

/// `lint`: warns of routes whose responses are shared less than it seems, because of a cookie that the file names.
pub(super) fn check(routes: &[ParsedRoute], credentials: &CallerFields, diagnostics: &Diagnostics) {
    let named = routes.iter().flat_map(|parsed| named_cookies(&parsed.route)).find_map(find);
    for parsed in routes.iter().filter(|parsed| parsed.route.caches()) {
        let CookieFinding { location, message, help } = match find_in_key(parsed) {
            Some(finding) => finding,
            None => match named.filter(|_| is_closed_to_browsers(&parsed.route, credentials)) {
                Some(cookie) => closed_to_browsers(parsed, cookie),
                None => continue,
            },
        };
        diagnostics.warning(location, message).help(help).name(FindingName::FrameworkCookie);
    }
}

struct CookieFinding {
    location: Location,
    message: String,
    help: &'static str,
}

/// A cookie in the key by which responses are shared with nobody.
fn find_in_key(parsed: &ParsedRoute) -> Option<CookieFinding> {
    let ParsedRoute { route, own, path_location, .. } = parsed;
    let of_per = route.per.iter().flat_map(Credential::alternatives).filter_map(cookie_name).find_map(find);
    let per_location = own.per.as_ref().map_or(*path_location, |per| per.location);
    let finding = |location, (Known { name, framework, .. }, says): (Known<'_>, &str), help| {
        Some(CookieFinding { location, message: format!("`{name}` ({framework}) {says}"), help })
    };
    match of_per {
        Some(cookie) if cookie.used_for == Everybody => {
            let says = "is no caller's: every browser has one of its own, with or without a session";
            return finding(
                per_location,
                (cookie, says),
                "name the cookie of the session: `per: cookie.NAME`",
            );
        }
        Some(cookie) if cookie.used_for == RollingSession => {
            let says = "gets another value while the session lasts, and each is a miss";
            let help = "know the caller by `callers` with `ask`, and write `per: identity`";
            return finding(per_location, (cookie, says), help);
        }
        _ => {}
    }
    let in_key = route.cookies.iter().find_map(|name| find(name))?;
    let location = own.cookies.as_ref().map_or(*path_location, |cookies| cookies.location);
    let says = "in the key gives each browser a response of its own";
    let help = match in_key.used_for {
        Everybody => {
            "leave it out, and write `credentials: {not: [Cookie]}` if no cookie but those in `cookies` matters"
        }
        Session | RollingSession => {
            "write `per: cookie.NAME` for the session, or `callers` with `ask` and `per: identity`"
        }
    };
    finding(location, (in_key, says), help)
}

/// Whether requests with a cookie get no shared response, and the route does not say whose its responses are.
fn is_closed_to_browsers(route: &Route, credentials: &CallerFields) -> bool {
    route.per.is_none()
        && route.shared == Shared::No
        && route.callers.is_none()
        && route.merged_part().is_none()
        && credentials.identify(&COOKIE)
        && !route.exempt.contains(&COOKIE)
}

fn closed_to_browsers(parsed: &ParsedRoute, Known { name, framework, .. }: Known<'_>) -> CookieFinding {
    CookieFinding {
        location: parsed.path_location,
        message: format!(
            "browsers send cookies such as `{name}` ({framework}), and a request with one shares nothing here"
        ),
        help: "write `shared: true`, or `credentials: {not: [Cookie]}`, if all get the same; else `per:`. Allow this if the \
               API marks its responses `public`",
    }
}

/// The cookies that a route names.
fn named_cookies(route: &Route) -> impl Iterator<Item = &str> {
    let of_tags = route.tags.iter().flat_map(|tag| tag.needs()).filter_map(|need| match need {
        TemplateNeed::Cookie(name) => Some(name),
        _ => None,
    });
    let of_callers = route.callers.iter().flat_map(|callers| &callers.credentials);
    let credentials = route.per.iter().flat_map(Credential::alternatives).chain(of_callers);
    credentials.filter_map(cookie_name).chain(route.cookies.iter().map(String::as_str)).chain(of_tags)
}

fn cookie_name(credential: &Credential) -> Option<&str> {
    match credential {
        Credential::Cookie(name) => Some(name),
        _ => None,
    }
}
