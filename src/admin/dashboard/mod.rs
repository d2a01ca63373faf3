//! `GET /dashboard`: one static page that renders `/dashboard/data` and `/purges`. The page is open; its data need
//! the same authorization as `/stats`.

mod data;
mod health_notices;

use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::response::{AdminResponse, with_content_type};

pub(super) use data::dashboard_data;

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Style,
    Script,
}

/// Own files only, nothing inline, no framing.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Asset {
    pub(super) fn find(path: &str) -> Option<Self> {
        match path {
            "/dashboard" => Some(Asset::Page),
            "/dashboard/style.css" => Some(Asset::Style),
            "/dashboard/script.js" => Some(Asset::Script),
            _ => None,
        }
    }

    pub(super) fn response(self) -> AdminResponse {
        let (content_type, content) = match self {
            Asset::Page => ("text/html; charset=utf-8", include_str!("page.html")),
            Asset::Style => ("text/css; charset=utf-8", include_str!("style.css")),
            Asset::Script => ("text/javascript; charset=utf-8", include_str!("script.js")),
        };
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
