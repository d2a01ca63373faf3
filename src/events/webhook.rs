//! Events that are posted: signed by HMAC-SHA256 over their time and content, and taken once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Source;
use crate::clock::Timestamp;
use crate::config::{EventKind, Webhook};
use crate::hex;
use crate::metrics::NotTaken;
use crate::policy::content::Content;
use crate::policy::event::{MAX_EVENT, Meaning};
use crate::store::sources::Word;

/// Seconds since 1970, with a fraction where more than one event may come in a second.
const TIMESTAMP: &str = "larder-timestamp";

/// `sha256=` and the HMAC of `timestamp.content` in hexadecimal; several by comma, of which one must be right.
const SIGNATURE: &str = "larder-signature";

/// For the whole of a request's content.
const IN_ALL: Duration = Duration::from_secs(10);

/// So many signatures of one request are tried.
const MOST_SIGNATURES: usize = 4;

/// So many events are remembered here.
const REMEMBERED: usize = 100_000;

/// Between looks at what other replicas have heard.
const LOOKS: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Webhooks(Vec<Arc<Hook>>);

/// Where events are posted.
pub struct Hook {
    source: Arc<Source>,
    settings: Webhook,
    taken: Mutex<Taken>,
}

/// Names of events taken, the oldest first.
#[derive(Default)]
struct Taken {
    names: HashSet<[u8; 32]>,
    in_order: VecDeque<(Timestamp, [u8; 32])>,
}

/// Why an event is not taken, as the one who posted it is told.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    reason: NotTaken,
    message: String,
    fix: &'static str,
}

impl Webhooks {
    pub(super) fn of(sources: &[Arc<Source>]) -> Self {
        let hook = |source: &Arc<Source>| match &source.settings.kind {
            EventKind::Webhook(settings) => Some(Arc::new(Hook {
                source: source.clone(),
                settings: settings.clone(),
                taken: Mutex::default(),
            })),
            _ => None,
        };
        Self(sources.iter().filter_map(hook).collect())
    }

    /// The one that is posted to at this path of the proxy's listener, or of the admin's.
    pub fn find(&self, path: &str, on_proxy: bool) -> Option<&Arc<Hook>> {
        self.0.iter().find(|hook| hook.settings.on_proxy == on_proxy && hook.settings.path == path)
    }
}

impl Hook {
    /// A request for it, and what to answer.
    pub async fn receive<B>(&self, method: &Method, headers: &HeaderMap, body: B) -> (StatusCode, Value)
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let refused = |status, error: &str, fix: &str| (status, json!({ "error": error, "fix": fix }));
        if method != Method::POST {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "an event is posted", "send it by POST");
        }
        let content = match timeout(IN_ALL, Limited::new(body, MAX_EVENT).collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let error = format!("an event has at most {MAX_EVENT} bytes");
                self.refuse(NotTaken::TooLarge, &error);
                return refused(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &error,
                    "send what changed, and not what it is now",
                );
            }
            _ => {
                return refused(StatusCode::BAD_REQUEST, "its content did not come whole", "send it at once");
            }
        };
        match self.take(headers, &content).await {
            Ok(Meaning::Ignored) => (StatusCode::OK, json!({ "status": "ignored" })),
            Ok(meaning) => (StatusCode::OK, json!({ "status": "purged", "meaning": meaning.as_str() })),
            Err(Refused { status, message, fix, .. }) => refused(status, &message, fix),
        }
    }

    /// Takes an event: when this returns what it named is purged.
    async fn take(&self, headers: &HeaderMap, content: &Bytes) -> Result<Meaning, Refused> {
        let taken = self.try_take(headers, content).await;
        if let Err(refused) = &taken {
            self.refuse(refused.reason, &refused.message);
        }
        taken
    }

    fn refuse(&self, reason: NotTaken, message: &str) {
        self.source.figures.not_taken(reason);
        tracing::warn!(
            source = self.source.settings.name,
            reason = reason.as_str(),
            message,
            "a webhook's request is refused"
        );
    }

    async fn try_take(&self, headers: &HeaderMap, content: &Bytes) -> Result<Meaning, Refused> {
        let hub = &self.source.hub;
        let (timestamp, sent_at) = timestamp(headers)?;
        self.check_signature(headers, timestamp, content)?;
        let now = hub.clock.now();
        if now.since(sent_at).max(sent_at.since(now)) > self.settings.window {
            return Err(Refused {
                status: StatusCode::UNAUTHORIZED,
                reason: NotTaken::Untimely,
                message: "its time is too far from now".to_owned(),
                fix: "sign each event when it is sent, and set both clocks right",
            });
        }
        let name = name(timestamp, content);
        self.check_new(&name).await?;
        let mut targets = Vec::new();
        let meaning = self.source.apply(Content::of_event(content, MAX_EVENT).ok().as_ref(), &mut targets);
        self.source.purge(targets).await.map_err(|error| Refused {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: NotTaken::NotPurged,
            message: error.to_string(),
            fix: "send it again",
        })?;
        self.remember(name).await;
        self.source.figures.event(meaning, now, Some(now.since(sent_at)));
        Ok(meaning)
    }

    fn check_signature(&self, headers: &HeaderMap, timestamp: &[u8], content: &[u8]) -> Result<(), Refused> {
        const FIX: &str = "sign `TIMESTAMP.CONTENT` by HMAC-SHA256 with `secret`, and send it as `Larder-Signature: sha256=HEX`";
        let refused = |reason, message: &str| Refused {
            status: StatusCode::UNAUTHORIZED,
            reason,
            message: message.to_owned(),
            fix: FIX,
        };
        let lines = headers.get_all(SIGNATURE).iter().map(|line| line.as_bytes());
        let parts = lines.flat_map(|line| line.split(|byte| *byte == b',')).take(MOST_SIGNATURES);
        let signatures: Vec<[u8; 32]> = parts.filter_map(signature).collect();
        if signatures.is_empty() {
            return Err(refused(NotTaken::Unsigned, "it has no signature that can be read"));
        }
        let is_right = self.settings.secrets.iter().any(|secret| {
            // A key of any length will do.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
                return false;
            };
            mac.update(timestamp);
            mac.update(b".");
            mac.update(content);
            // Compared in constant time.
            signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        });
        if is_right {
            Ok(())
        } else {
            Err(refused(NotTaken::WrongSignature, "its signature is not the right one"))
        }
    }

    /// Where the store can't be asked, what is known here has to do: a replay purges too much and does no other harm.
    async fn check_new(&self, name: &[u8; 32]) -> Result<(), Refused> {
        let is_known = self.taken().names.contains(name);
        if is_known || self.source.hub.store.was_seen(&hex::encode(name)).await.unwrap_or(false) {
            return Err(Refused {
                status: StatusCode::CONFLICT,
                reason: NotTaken::Replayed,
                message: "this very event was taken before".to_owned(),
                fix: "two events in one second need a fraction in their timestamps to be told apart",
            });
        }
        Ok(())
    }

    /// Only once it has purged: one that was refused can be sent again.
    async fn remember(&self, name: [u8; 32]) {
        // From as far in the past to as far in the future as its time may be.
        let lasts = self.settings.window * 2;
        self.taken().add(name, self.source.hub.clock.now(), lasts);
        if let Err(error) = self.source.hub.store.remember_seen(&hex::encode(&name), lasts).await {
            tracing::debug!(%error, "other replicas don't know that an event was taken");
        }
        if self.source.settings.silence.is_some() {
            let heard = Word { contact: true, event: true, ..self.source.word() };
            let _ = self.source.tell(heard).await;
        }
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn add(&mut self, name: [u8; 32], now: Timestamp, lasts: Duration) {
        let is_over = |(until, _): &(Timestamp, [u8; 32])| *until < now;
        while self.in_order.front().is_some_and(is_over) || self.in_order.len() >= REMEMBERED {
            if let Some((_, name)) = self.in_order.pop_front() {
                self.names.remove(&name);
            }
        }
        if self.names.insert(name) {
            self.in_order.push_back((now.plus(lasts), name));
        }
    }
}

/// What other replicas have heard, as long as that means something; until told to stop.
pub(super) async fn watch(source: &Source, mut stopping: watch::Receiver<bool>) {
    let Some(silence) = source.settings.silence else { return };
    tokio::select! {
        () = source.learn() => {}
        _ = stopping.wait_for(|stop| *stop) => return,
    }
    loop {
        tokio::select! {
            () = sleep(LOOKS.min(silence.after / 4)) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if let Ok(known) = source.tell(source.word()).await {
            source.figures.heard_at(known.contact_ago, known.event_ago);
        }
    }
}

/// As it is signed, and what it means.
fn timestamp(headers: &HeaderMap) -> Result<(&[u8], Timestamp), Refused> {
    let mut fields = headers.get_all(TIMESTAMP).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => field.as_bytes(),
        _ => return Err(unreadable_time()),
    };
    let micros = std::str::from_utf8(field).ok().and_then(micros).ok_or_else(unreadable_time)?;
    Ok((field, Timestamp::from_micros(micros)))
}

/// Digits, and up to six after a point.
fn micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)
}

fn unreadable_time() -> Refused {
    Refused {
        status: StatusCode::UNAUTHORIZED,
        reason: NotTaken::Unsigned,
        message: "it does not say when it was signed".to_owned(),
        fix: "send `Larder-Timestamp: SECONDS`, since 1970, and sign it with the content",
    }
}

fn signature(text: &[u8]) -> Option<[u8; 32]> {
    hex::decode(std::str::from_utf8(text.trim_ascii()).ok()?.strip_prefix("sha256=")?)
}

/// The same whichever secret it was signed with.
fn name(timestamp: &[u8], content: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(timestamp);
    hash.update(b".");
    hash.update(content);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &str, timestamp: &str, content: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
        mac.update(format!("{timestamp}.").as_bytes());
        mac.update(content);
        format!("sha256={}", hex::encode(&mac.finalize().into_bytes()))
    }

    #[test]
    fn a_time_is_digits_with_at_most_six_after_the_point() {
        for (text, expected) in [
            ("1763640000", Some(1_763_640_000_000_000)),
            ("1763640000.5", Some(1_763_640_000_500_000)),
            ("1763640000.000001", Some(1_763_640_000_000_001)),
            ("0", Some(0)),
            ("", None),
            ("1.", None),
            (".5", None),
            ("1.0000001", None),
            ("-1", None),
            ("+1", None),
            ("1e9", None),
            (" 1", None),
            ("99999999999999999999", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }

    #[test]
    fn a_signature_is_64_digits_and_says_by_what_it_was_made() {
        let hex = "0a".repeat(32);
        assert_eq!(signature(format!(" sha256={hex} ").as_bytes()), Some([10; 32]));
        for text in [
            hex.clone(),
            format!("sha1={hex}"),
            format!("sha256={hex}0"),
            "sha256=".into(),
            format!("sha256=é{}", &hex[2..]),
        ] {
            assert_eq!(signature(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_signature_is_the_one_that_openssl_makes() {
        let expected = "sha256=a246d5a866c5c94829da12398c313c3b18110246ee4e427f5947c9f2232e40fd";
        assert_eq!(sign("a secret of larder", "1763640000", br#"{"id": 7}"#), expected);
    }

    #[test]
    fn what_is_over_is_forgotten_and_no_more_than_a_bound_is_remembered() {
        let mut taken = Taken::default();
        let at = |second| Timestamp::from_secs(second);
        taken.add([1; 32], at(0), Duration::from_secs(10));
        taken.add([2; 32], at(5), Duration::from_secs(10));
        taken.add([2; 32], at(6), Duration::from_secs(10));
        taken.add([3; 32], at(11), Duration::from_secs(10));
        assert!(!taken.names.contains(&[1; 32]) && taken.names.contains(&[2; 32]));
        assert_eq!((taken.names.len(), taken.in_order.len()), (2, 2));
        for number in 0..REMEMBERED as u64 {
            let mut name = [9; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            taken.add(name, at(12), Duration::from_secs(10));
        }
        assert_eq!((taken.names.len(), taken.in_order.len()), (REMEMBERED, REMEMBERED));
    }
}
