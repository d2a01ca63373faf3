//! `GET /dashboard`: one page that draws what `GET /dashboard/data` and `GET /purges` tell. The page itself is the same for
//! everybody and tells nothing; its data are for whoever may read statistics.

mod feed;
mod words;

use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::answer::{Answer, with_type};

pub use feed::feed;

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Page,
    Style,
    Script,
}

/// Only this listener's own files, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl File {
    pub fn find(path: &str) -> Option<Self> {
        match path {
            "/dashboard" => Some(File::Page),
            "/dashboard/style.css" => Some(File::Style),
            "/dashboard/script.js" => Some(File::Script),
            _ => None,
        }
    }

    pub fn answer(self) -> Answer {
        let (content_type, content) = match self {
            File::Page => ("text/html; charset=utf-8", include_str!("page.html")),
            File::Style => ("text/css; charset=utf-8", include_str!("style.css")),
            File::Script => ("text/javascript; charset=utf-8", include_str!("script.js")),
        };
        let mut answer = with_type(StatusCode::OK, HeaderValue::from_static(content_type), content);
        let fields: [(HeaderName, &'static str); 3] = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ];
        answer.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
        answer
    }
}
