//! Webhooks: signed events that are posted. Each one whose time is signed is accepted once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::SourceConsumer;
use super::signature::Signed;
use crate::clock::Timestamp;
use crate::config::{EventKind, EventSource, Secret, Webhook, WebhookScheme};
use crate::hex;
use crate::metrics::WebhookRefusal;
use crate::policy::content::Content;
use crate::policy::event::{EventOutcome, EventTargets, MAX_EVENT_BYTES};
use crate::purging::Purged;
use crate::store::sources::SourceUpdate;

/// Timeout for reading the whole content.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of event ids remembered in this process.
const MAX_REMEMBERED: usize = 100_000;

/// Interval between checks of what other replicas received.
const SILENCE_POLL_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Webhooks(Vec<Arc<WebhookReceiver>>);

/// One webhook endpoint.
pub(crate) struct WebhookReceiver {
    source: Arc<SourceConsumer>,
    settings: Webhook,
    /// Those of the configuration in use.
    secrets: ArcSwap<Vec<Secret>>,
    seen: Mutex<SeenEvents>,
}

/// Ids of accepted events, oldest first.
#[derive(Default)]
struct SeenEvents {
    ids: HashSet<[u8; 32]>,
    in_order: VecDeque<(Timestamp, [u8; 32])>,
}

/// An error response to a webhook.
#[derive(Debug)]
struct WebhookError {
    status: StatusCode,
    reason: WebhookRefusal,
    message: String,
    fix: &'static str,
}

impl Webhooks {
    pub(super) fn new(sources: &[Arc<SourceConsumer>]) -> Self {
        let hook = |source: &Arc<SourceConsumer>| match &source.settings.kind {
            EventKind::Webhook(settings) => Some(Arc::new(WebhookReceiver {
                source: source.clone(),
                settings: settings.clone(),
                secrets: ArcSwap::from_pointee(settings.secrets.clone()),
                seen: Mutex::default(),
            })),
            _ => None,
        };
        Self(sources.iter().filter_map(hook).collect())
    }

    pub(super) fn use_secrets(&self, source: &EventSource) {
        let EventKind::Webhook(settings) = &source.kind else { return };
        let own = self.0.iter().filter(|hook| hook.source.settings.name == source.name);
        own.for_each(|hook| hook.secrets.store(Arc::new(settings.secrets.clone())));
    }

    /// Finds the webhook with this path on the proxy's listener (`on_proxy`) or the admin listener.
    pub(crate) fn find(&self, path: &str, on_proxy: bool) -> Option<&Arc<WebhookReceiver>> {
        self.0.iter().find(|hook| hook.settings.on_proxy == on_proxy && hook.settings.path == path)
    }
}

impl WebhookReceiver {
    /// Handles a request and returns the response's status and content.
    pub(crate) async fn receive<B>(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: B,
    ) -> (StatusCode, Value)
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let error_response = |status, error: &str, fix: &str| (status, json!({ "error": error, "fix": fix }));
        if method != Method::POST {
            return error_response(StatusCode::METHOD_NOT_ALLOWED, "events are sent by POST", "use POST");
        }
        let content = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_EVENT_BYTES).collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let error = format!("the event exceeds {MAX_EVENT_BYTES} bytes");
                self.record_refusal(WebhookRefusal::TooLarge, &error);
                return error_response(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &error,
                    "send the ids of what changed, not its content",
                );
            }
            _ => {
                return error_response(
                    StatusCode::BAD_REQUEST,
                    "the event's body was cut off",
                    "send the body without pauses",
                );
            }
        };
        match self.accept(headers, &content).await {
            Ok((EventOutcome::Ignored, _)) => (StatusCode::OK, json!({ "status": "ignored" })),
            Ok((meaning, Purged { waits, .. })) => {
                let (code, status) =
                    if waits { (StatusCode::ACCEPTED, "waits") } else { (StatusCode::OK, "purged") };
                (code, json!({ "status": status, "meaning": meaning.as_str() }))
            }
            Err(WebhookError { status, message, fix, .. }) => error_response(status, &message, fix),
        }
    }

    /// Accepts an event; its targets are purged when this returns, unless they wait for the end of a window.
    async fn accept(
        &self,
        headers: &HeaderMap,
        content: &Bytes,
    ) -> Result<(EventOutcome, Purged), WebhookError> {
        let accepted = self.try_accept(headers, content).await;
        if let Err(error) = &accepted {
            self.record_refusal(error.reason, &error.message);
        }
        accepted
    }

    fn record_refusal(&self, reason: WebhookRefusal, message: &str) {
        self.source.metrics.record_refusal(reason);
        tracing::warn!(
            source = self.source.settings.name,
            reason = reason.as_str(),
            message,
            "webhook request refused"
        );
    }

    async fn try_accept(
        &self,
        headers: &HeaderMap,
        content: &Bytes,
    ) -> Result<(EventOutcome, Purged), WebhookError> {
        let hub = &self.source.context;
        let signed = self.check_signature(headers, content)?;
        let now = hub.clock.now();
        let distance = signed.sent_at.map(|sent_at| now.since(sent_at).max(sent_at.since(now)));
        if distance.is_some_and(|distance| distance > self.settings.window) {
            return Err(WebhookError {
                status: StatusCode::UNAUTHORIZED,
                reason: WebhookRefusal::Untimely,
                message: "the timestamp is outside the accepted window".to_owned(),
                fix: "sign each event when it is sent, and synchronize both clocks",
            });
        }
        // Two equal contents without a time may be two events.
        let name = signed.sent_at.map(|_| signed.event_id(content));
        if let Some(name) = &name {
            self.check_replay(name).await?;
        }
        let (routes, mut targets) = (self.source.routes(), EventTargets::default());
        let event = Content::parse_event(content, MAX_EVENT_BYTES).ok();
        let meaning = match &event {
            Some(event) if self.settings.scheme == WebhookScheme::Github && is_ping(event) => {
                EventOutcome::Ignored
            }
            event => self.source.collect_targets(&routes, event.as_ref().into(), &mut targets),
        };
        if meaning == EventOutcome::Malformed {
            let content_type = headers.get(CONTENT_TYPE).and_then(|line| line.to_str().ok());
            let source = &self.source.settings.name;
            tracing::warn!(source, content_type, "event is not JSON: purged everything it could name");
        }
        let purged = self.source.purge(routes, targets).await.map_err(|error| WebhookError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: WebhookRefusal::NotPurged,
            message: error.to_string(),
            fix: "send the event again",
        })?;
        self.remember(name).await;
        let delay = signed.sent_at.map(|sent_at| now.since(sent_at));
        self.source.metrics.record_event(meaning, now, delay);
        Ok((meaning, purged))
    }

    /// Reads and checks the signature.
    fn check_signature(&self, headers: &HeaderMap, content: &[u8]) -> Result<Signed, WebhookError> {
        let scheme = self.settings.scheme;
        let reject = |reason, message| WebhookError {
            status: StatusCode::UNAUTHORIZED,
            reason,
            message,
            fix: scheme.instructions(),
        };
        let signed = Signed::read(scheme, headers)
            .map_err(|field| reject(WebhookRefusal::Unsigned, format!("missing or malformed `{field}`")))?;
        match signed.is_right(scheme, &self.secrets.load(), content) {
            true => Ok(signed),
            false => Err(reject(WebhookRefusal::WrongSignature, "wrong signature".to_owned())),
        }
    }

    /// Rejects a replay. If the store cannot be asked, the local record must do: a replay only purges too much.
    async fn check_replay(&self, name: &[u8; 32]) -> Result<(), WebhookError> {
        let is_known = self.lock_seen().ids.contains(name);
        if is_known || self.source.context.store.was_event_seen(&hex::encode(name)).await.unwrap_or(false) {
            return Err(WebhookError {
                status: StatusCode::CONFLICT,
                reason: WebhookRefusal::Replayed,
                message: "this event was accepted before".to_owned(),
                fix: self.settings.scheme.replay_instructions(),
            });
        }
        Ok(())
    }

    /// Remembers an accepted event. A rejected one is not remembered, so it can be sent again.
    async fn remember(&self, name: Option<[u8; 32]>) {
        if let Some(name) = name {
            // Its timestamp may lie a window in the past or in the future.
            let lasts = self.settings.window * 2;
            self.lock_seen().insert(name, self.source.context.clock.now(), lasts);
            if let Err(error) = self.source.context.store.mark_event_seen(&hex::encode(&name), lasts).await {
                tracing::debug!(%error, "failed to share an accepted event's id with other replicas");
            }
        }
        if self.source.settings.silence.is_some() {
            let heard = SourceUpdate { contact: true, event: true, ..self.source.new_update() };
            let _ = self.source.update_source(heard).await;
        }
    }

    fn lock_seen(&self) -> parking_lot::MutexGuard<'_, SeenEvents> {
        self.seen.lock()
    }
}

/// Whether GitHub only says that the webhook was made.
fn is_ping(event: &Content) -> bool {
    let Content::Json(event) = event else { return false };
    event.get("zen").is_some_and(Value::is_string) && event.get("hook_id").is_some_and(Value::is_number)
}

impl SeenEvents {
    fn insert(&mut self, name: [u8; 32], now: Timestamp, lasts: Duration) {
        let is_over = |(until, _): &(Timestamp, [u8; 32])| *until < now;
        while self.in_order.front().is_some_and(is_over) || self.in_order.len() >= MAX_REMEMBERED {
            if let Some((_, name)) = self.in_order.pop_front() {
                self.ids.remove(&name);
            }
        }
        if self.ids.insert(name) {
            self.in_order.push_back((now.plus(lasts), name));
        }
    }
}

/// Tracks events received by other replicas, if the source has a silence limit.
pub(super) async fn watch_silence(source: &SourceConsumer, mut stopping: watch::Receiver<bool>) {
    let Some(silence) = source.settings.silence else { return };
    tokio::select! {
        () = source.restore_state() => {}
        _ = stopping.wait_for(|stop| *stop) => return,
    }
    loop {
        tokio::select! {
            () = sleep(SILENCE_POLL_INTERVAL.min(silence.after / 4)) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if let Ok(known) = source.update_source(source.new_update()).await {
            source.metrics.record_heard(known.contact_ago, known.event_ago);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_events_are_forgotten_and_the_rest_is_bounded() {
        let mut seen = SeenEvents::default();
        let at = |second| Timestamp::from_secs(second);
        seen.insert([1; 32], at(0), Duration::from_secs(10));
        seen.insert([2; 32], at(5), Duration::from_secs(10));
        seen.insert([2; 32], at(6), Duration::from_secs(10));
        seen.insert([3; 32], at(11), Duration::from_secs(10));
        assert!(!seen.ids.contains(&[1; 32]) && seen.ids.contains(&[2; 32]));
        assert_eq!((seen.ids.len(), seen.in_order.len()), (2, 2));
        for number in 0..MAX_REMEMBERED as u64 {
            let mut name = [9; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            seen.insert(name, at(12), Duration::from_secs(10));
        }
        assert_eq!((seen.ids.len(), seen.in_order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    }
}
