//! The requests by which caches purge.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::queue::Batch;
use crate::config::{CdnApi, CdnSettings, Secret};
use crate::policy::tag_lists::{join_tags, spell_target};
use crate::purge::{PurgeMode, Target, TargetId};
use crate::upstream::{Destination, RequestBody, Timeouts, Upstream};

/// The most that Fastly takes at once.
const MAX_FASTLY_TAGS: usize = 256;

/// The most that Cloudflare takes at once on every plan.
const MAX_CLOUDFLARE_TAGS: usize = 30;

/// 2 KiB in a field.
const MAX_HTTP_TAGS: usize = 100;

const MAX_ANSWER_BYTES: usize = 64 * 1024;

pub(super) struct CdnClient {
    settings: CdnSettings,
    upstream: Upstream,
}

/// Why a cache has not taken a purge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CdnFailure {
    pub reason: String,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<String> for CdnFailure {
    fn from(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

/// One request.
#[derive(Debug, PartialEq)]
struct PurgeCall {
    method: Method,
    /// Below the path of the URL.
    path: String,
    headers: HeaderMap,
    content: Option<Value>,
}

impl CdnClient {
    pub(super) fn new(settings: &CdnSettings) -> io::Result<Self> {
        let upstream = Upstream::new(Destination::new(&settings.url.upstream)?);
        Ok(Self { settings: settings.clone(), upstream })
    }

    pub(super) fn max_tags(&self) -> usize {
        match self.settings.api {
            CdnApi::Fastly { .. } => MAX_FASTLY_TAGS,
            CdnApi::Cloudflare { .. } => MAX_CLOUDFLARE_TAGS,
            CdnApi::Http { .. } => MAX_HTTP_TAGS,
        }
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<(), CdnFailure> {
        let PurgeCall { method, path, headers, content } = purge_call(&self.settings, batch);
        let target = &self.settings.url.target;
        let base = target.path().trim_end_matches('/');
        let uri: Uri = match path.is_empty() {
            true => target.clone().into(),
            false => format!("{base}{path}").parse().map_err(|_| "no such path".to_owned())?,
        };
        let body = content.map(|content| Bytes::from(content.to_string()));
        let mut request =
            Box::new(Request::new(body.map_or_else(RequestBody::empty, RequestBody::from_content)));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        let wait = self.settings.url.upstream.response_timeout;
        let timeouts = Timeouts { response: wait, idle: wait, stream_idle: wait };
        let answer = self.upstream.send(request, timeouts).await.map_err(|error| error.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = timeout(wait, Limited::new(body, MAX_ANSWER_BYTES).collect()).await;
        if parts.status.is_success() {
            return Ok(());
        }
        let text = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let said: String = String::from_utf8_lossy(&text).chars().take(200).collect();
        let seconds = parts.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        Err(CdnFailure {
            reason: format!("it answered {}: {said}", parts.status),
            retry_after: seconds.map(Duration::from_secs),
        })
    }
}

fn purge_call(settings: &CdnSettings, batch: &Batch) -> PurgeCall {
    let mut headers = HeaderMap::new();
    let bearer = |token: &Secret| HeaderValue::try_from(format!("Bearer {}", token.expose())).ok();
    let ids: Vec<TargetId> = match batch {
        Batch::Everything(_) => vec![Target::Everything.id()],
        Batch::Targets(_, targets) => targets.iter().map(|(target, _)| *target).collect(),
    };
    let names: Vec<String> = ids.into_iter().map(spell_target).collect();
    let is_everything = matches!(batch, Batch::Everything(_));
    let is_soft = matches!(batch, Batch::Targets(PurgeMode::Soft, _));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let mut list = |name: HeaderName| {
        if let Ok(value) = HeaderValue::try_from(join_tags(&name, &names)) {
            headers.insert(name, value);
        }
    };
    match &settings.api {
        CdnApi::Fastly { service } => {
            let path = if is_everything { "purge_all" } else { "purge" };
            if !is_everything {
                list(settings.api.field());
            }
            let key = settings.token.as_ref().and_then(|key| HeaderValue::try_from(key.expose()).ok());
            headers.extend(key.map(|key| (HeaderName::from_static("fastly-key"), key)));
            if is_soft {
                headers.insert("fastly-soft-purge", HeaderValue::from_static("1"));
            }
            PurgeCall {
                method: Method::POST,
                path: format!("/service/{service}/{path}"),
                headers,
                content: None,
            }
        }
        CdnApi::Cloudflare { zone } => {
            headers.extend(settings.token.as_ref().and_then(bearer).map(|token| (AUTHORIZATION, token)));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let content = match is_everything {
                true => json!({"purge_everything": true}),
                false => json!({"tags": names}),
            };
            let path = format!("/zones/{zone}/purge_cache");
            PurgeCall { method: Method::POST, path, headers, content: Some(content) }
        }
        CdnApi::Http { method, field } => {
            list(field.clone());
            headers.extend(settings.token.as_ref().and_then(bearer).map(|token| (AUTHORIZATION, token)));
            if is_soft {
                headers.insert("larder-purge", HeaderValue::from_static("soft"));
            }
            PurgeCall { method: method.clone(), path: String::new(), headers, content: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdn::queue::Waiting;
    use crate::config::Config;

    fn call(settings: &str, batch: &Batch) -> (String, HeaderMap, Option<Value>) {
        let text = format!("upstream: http://127.0.0.1:3000\ncdn: [{{{settings}}}]");
        let config = Config::parse(&text, "proxy.yaml", &|_| None, &Default::default());
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let PurgeCall { method, path, headers, content } = purge_call(&config.cdn[0], batch);
        (format!("{method} {path}"), headers, content)
    }

    fn batch(mode: PurgeMode) -> Batch {
        let targets = [[1; 8], [2; 8]].map(|id| (TargetId(id), Waiting::default()));
        Batch::Targets(mode, targets.to_vec())
    }

    const FASTLY: &str = "type: fastly, service: s1, token: t";
    const CLOUDFLARE: &str = "type: cloudflare, zone: z1, token: t";
    const VARNISH: &str = "type: http, url: 'http://varnish:6081/p', token: t";

    #[test]
    fn each_cache_is_asked_in_its_own_way() {
        let names = "~0101010101010101 ~0202020202020202";
        let (request, fields, content) = call(FASTLY, &batch(PurgeMode::Soft));
        assert_eq!((&*request, content), ("POST /service/s1/purge", None));
        for (name, value) in [("surrogate-key", names), ("fastly-key", "t"), ("fastly-soft-purge", "1")] {
            assert_eq!(fields[name], value);
        }
        let (request, fields, content) = call(CLOUDFLARE, &batch(PurgeMode::Soft));
        let tags = json!({"tags": ["~0101010101010101", "~0202020202020202"]});
        assert_eq!((&*request, content), ("POST /zones/z1/purge_cache", Some(tags)));
        assert_eq!(
            (&fields["authorization"], &fields["content-type"]),
            (&"Bearer t".parse().unwrap(), &"application/json".parse().unwrap())
        );
        let (request, fields, content) = call(VARNISH, &batch(PurgeMode::Hard));
        assert_eq!((&*request, content, &fields["xkey"]), ("PURGE ", None, &names.parse().unwrap()));
        assert!(!fields.contains_key("larder-purge"));
    }

    #[test]
    fn everything_is_purged_in_one_request() {
        let everything = Batch::Everything(Waiting::default());
        let (request, fields, _) = call(FASTLY, &everything);
        assert_eq!(request, "POST /service/s1/purge_all");
        assert!(!fields.contains_key("surrogate-key"));
        assert_eq!(call(CLOUDFLARE, &everything).2, Some(json!({"purge_everything": true})));
        // Each response lists the name of everything, too.
        let name = spell_target(Target::Everything.id());
        assert_eq!(call(VARNISH, &everything).1["xkey"], *name);
    }

    #[test]
    fn a_cache_that_can_not_be_purged_is_refused() {
        for (entry, message) in [
            ("type: fastly, token: t", "has no `service`"),
            ("type: fastly, service: s1", "has no `token`"),
            ("type: cloudflare, token: t", "has no `zone`"),
            ("type: http", "has no `url`"),
            ("type: http, url: 'http://a', field: X-Tags", "is not a field that lists tags"),
            ("type: fastly, service: a/b, token: t", "not an id"),
            ("type: akamai", "unknown value `akamai`"),
            ("type: http, url: 'http://a'}, {type: http, url: 'http://b'", "have the name `http`"),
        ] {
            let text = format!("upstream: http://127.0.0.1:3000\ncdn: [{{{entry}}}]");
            let errors = Config::parse(&text, "proxy.yaml", &|_| None, &Default::default());
            let errors = errors.map(drop).unwrap_err().to_string();
            assert!(errors.contains(message), "{entry}: {errors}");
        }
    }
}
