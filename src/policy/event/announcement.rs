//! Recognises the purges that larder itself announces (`store.publish`, `GET /events`, the journal in Redis), where a source
//! of events brings them.

use serde_json::Value;

/// A purge that larder announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    /// Its reason was no other purge.
    Original,
    /// An announcement was its reason.
    Relayed,
}

/// `None`: it is another event.
pub(super) fn find_announcement(event: &Value) -> Option<Announcement> {
    // An entry of the journal has the record as text.
    let record = event.get("record").and_then(Value::as_str);
    match record.and_then(|record| serde_json::from_str::<Value>(record).ok()) {
        Some(record) if event.get("position").is_some() => find_record(&record),
        _ => find_record(event),
    }
}

fn find_record(record: &Value) -> Option<Announcement> {
    let has = |name: &str, is_right: fn(&Value) -> bool| record.get(name).is_some_and(is_right);
    let is_record = has("replica", Value::is_string)
        && has("targets", Value::is_array)
        && has("targetCount", Value::is_number)
        && has("source", Value::is_string);
    is_record.then(|| match has("relayed", |relayed| *relayed == Value::Bool(true)) {
        true => Announcement::Relayed,
        false => Announcement::Original,
    })
}
