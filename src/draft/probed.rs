//! Routes from answers of the API to requests without credentials.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, VARY};
use http::{HeaderMap, HeaderName, StatusCode};

use super::{DraftRoute, Setting};
use crate::observation::{is_value_segment, parameter_name};
use crate::policy::not_stored::NotStored;

/// The lifetime that is proposed where the API says none.
const PROPOSED_TTL: &str = "30s";

/// An answer of the API to a GET without credentials.
#[derive(Clone, Debug)]
pub(crate) struct ProbedAnswer {
    pub path: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub took: Duration,
    /// Whether a route with `ttl: upstream` stores it, and the lifetime if so.
    pub stored: Result<Duration, NotStored>,
}

impl ProbedAnswer {
    /// The route to propose, or why there is none.
    pub(crate) fn to_route(&self) -> Result<DraftRoute, String> {
        let about = self.describe();
        if !self.status.is_success() {
            return Err(about);
        }
        let settings = match self.stored {
            Ok(lifetime) => {
                let why = format!("its own lifetime: {} s", lifetime.as_secs());
                vec![Setting::new("ttl", "upstream", why)]
            }
            Err(NotStored::NoLifetime) => vec![
                Setting::new("mode", "observe", "nothing is stored; remove this line to cache"),
                Setting::new("ttl", PROPOSED_TTL, "the response has no lifetime; choose one that you accept"),
            ],
            Err(reason) => vec![Setting::new("ttl", "upstream", refusal(reason))],
        };
        Ok(DraftRoute { path: self.route_path(), about: vec![about], settings })
    }

    /// The path without its query, which a route has none of, and with parameters in the place of values. Other braces are
    /// escaped as a template needs.
    pub(crate) fn route_path(&self) -> String {
        let path = self.path.split('?').next().unwrap_or(&self.path);
        let mut values = 0;
        let segments = path.split('/').map(|segment| {
            if !is_value_segment(segment) {
                return segment.replace('{', "%7B").replace('}', "%7D");
            }
            values += 1;
            parameter_name(values)
        });
        segments.collect::<Vec<_>>().join("/")
    }

    fn describe(&self) -> String {
        let millis = self.took.as_secs_f64() * 1e3;
        let mut text = format!("GET {}: {} in {millis:.0} ms", self.path, self.status.as_u16());
        let shown: [HeaderName; 4] = [CONTENT_TYPE, CACHE_CONTROL, EXPIRES, VARY];
        for name in &shown {
            for value in self.headers.get_all(name) {
                text.push_str(&format!("; {name}: {}", String::from_utf8_lossy(value.as_bytes())));
            }
        }
        text
    }
}

/// The reason why such a response is not stored, with the key that would change it.
fn refusal(reason: NotStored) -> String {
    let hint = match reason {
        NotStored::Private => "; `per` names the credential of its caller",
        NotStored::SetCookie => "; `drop_response` stores it without",
        NotStored::AlreadyStale => "; `override: [lifetime]` with a `ttl` would",
        _ => "",
    };
    format!("not stored as it is ({}){hint}", reason.as_str())
}
