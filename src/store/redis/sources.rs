//! The offsets of change event sources, which the replicas share in Redis.

use std::time::Duration;

use bytes::Bytes;

use super::command_stats::CommandKind;
use super::connection::Admission;
use super::error::RedisError;
use super::keys::KeyNames;
use super::request::millis_arg;
use super::scripts::{RespValue, SEEN, SOURCE};
use super::servers::Servers;
use crate::store::sources::{SourceState, SourceUpdate, StreamPosition, StreamProgress};

pub(crate) async fn update_source(
    servers: &Servers,
    keys: &KeyNames,
    update: &SourceUpdate,
    timeout: Duration,
) -> Result<SourceState, RedisError> {
    let flag = |set: bool| Bytes::from_static(if set { b"1" } else { b"" });
    let args = vec![
        Bytes::from(update.reader.clone()),
        Bytes::from(update.progress.map(|read| read.position.to_string()).unwrap_or_default()),
        flag(update.rewinds),
        flag(update.contact),
        flag(update.event),
        millis_arg(update.reader_lease),
        Bytes::from(
            update.progress.and_then(|read| read.added).map(|added| added.to_string()).unwrap_or_default(),
        ),
    ];
    let key = keys.source(&update.source);
    let reply =
        servers.run(CommandKind::Source, &SOURCE, &[&key], args, Admission::IfHealthy, timeout).await?;
    let malformed = || RedisError::ErrorReply("malformed state of an event source".to_owned());
    parse_state(&reply).ok_or_else(malformed)
}

fn parse_state(reply: &RespValue) -> Option<SourceState> {
    let RespValue::Array(parts) = reply else { return None };
    let [position, is_reader, contact, event, added] = parts.as_slice() else { return None };
    let millis = |part: &RespValue| part.number().map(Duration::from_millis);
    Some(SourceState {
        progress: StreamPosition::parse(position.text()?)
            .map(|position| StreamProgress { position, added: added.number() }),
        is_reader: is_reader.number()? == 1,
        contact_ago: millis(contact),
        event_ago: millis(event),
    })
}

pub(crate) async fn was_event_seen(
    servers: &Servers,
    key: String,
    timeout: Duration,
) -> Result<bool, RedisError> {
    Ok(servers.get(key, timeout).await?.is_some())
}

pub(crate) async fn mark_event_seen(
    servers: &Servers,
    key: &str,
    ttl: Duration,
    timeout: Duration,
) -> Result<(), RedisError> {
    let args = vec![Bytes::from(ttl.as_millis().max(1).to_string())];
    servers.run(CommandKind::Source, &SEEN, &[key], args, Admission::IfHealthy, timeout).await.map(drop)
}
