//! `GET /dashboard`: one static page that renders `/dashboard/data` and `/purges`. The page is open; its data need
//! the same authorization as `/stats`.

mod data;
mod health_notices;
mod notice;
mod rules;
mod upstream_notices;

use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::response::{AdminResponse, with_content_type};

pub(super) use data::{collect_notices, dashboard_data};
pub(super) use rules::describe_rules;

/// A file of the page: its path, its type and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asset(&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The scripts are modules, one for each view, and what they share.
const ASSETS: [Asset; 16] = [
    Asset("/dashboard", HTML, include_str!("page.html")),
    Asset("/dashboard/style.css", CSS, include_str!("style.css")),
    Asset("/dashboard/audit.js", SCRIPT, include_str!("audit.js")),
    Asset("/dashboard/build.js", SCRIPT, include_str!("build.js")),
    Asset("/dashboard/chart.js", SCRIPT, include_str!("chart.js")),
    Asset("/dashboard/entry.js", SCRIPT, include_str!("entry.js")),
    Asset("/dashboard/format.js", SCRIPT, include_str!("format.js")),
    Asset("/dashboard/overview.js", SCRIPT, include_str!("overview.js")),
    Asset("/dashboard/purge.js", SCRIPT, include_str!("purge.js")),
    Asset("/dashboard/purges.js", SCRIPT, include_str!("purges.js")),
    Asset("/dashboard/reasons.js", SCRIPT, include_str!("reasons.js")),
    Asset("/dashboard/replicas.js", SCRIPT, include_str!("replicas.js")),
    Asset("/dashboard/request.js", SCRIPT, include_str!("request.js")),
    Asset("/dashboard/route.js", SCRIPT, include_str!("route.js")),
    Asset("/dashboard/script.js", SCRIPT, include_str!("script.js")),
    Asset("/dashboard/tag.js", SCRIPT, include_str!("tag.js")),
];

/// Own files only, nothing inline, no framing.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Asset {
    pub(super) fn find(path: &str) -> Option<Self> {
        ASSETS.into_iter().find(|Asset(known, ..)| *known == path)
    }

    pub(super) fn response(self) -> AdminResponse {
        let Asset(_, content_type, content) = self;
        let mut answer = with_content_type(StatusCode::OK, HeaderValue::from_static(content_type), content);
        let fields: [(HeaderName, &'static str); 3] = [
            (CONTENT_SECURITY_POLICY, CSP),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ];
        answer.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
        answer
    }
}
