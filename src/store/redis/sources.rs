//! What the replicas remember together of sources of change events, in Redis.

use std::time::Duration;

use bytes::Bytes;

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::keys::Keys;
use super::scripts::{Part, SEEN, SOURCE};
use super::servers::Servers;
use crate::store::sources::{Known, StreamPosition, Word};

pub async fn tell(servers: &Servers, keys: &Keys, word: &Word, within: Duration) -> Result<Known, Failure> {
    let flag = |set: bool| Bytes::from_static(if set { b"1" } else { b"" });
    let args = vec![
        Bytes::from(word.reader.clone()),
        Bytes::from(word.position.map(|position| position.to_string()).unwrap_or_default()),
        flag(word.begins_anew),
        flag(word.contact),
        flag(word.event),
        Bytes::from(word.reads_for.as_millis().to_string()),
    ];
    let key = keys.source(&word.source);
    let told = servers.run(Command::Source, &SOURCE, &[&key], args, Sent::IfHealthy, within).await?;
    known(&told).ok_or_else(|| Failure::Refused("what is known of a source can't be read".to_owned()))
}

fn known(told: &Part) -> Option<Known> {
    let Part::List(parts) = told else { return None };
    let [position, is_reader, contact, event] = parts.as_slice() else { return None };
    let ago = |part: &Part| part.number().map(Duration::from_millis);
    Some(Known {
        position: StreamPosition::parse(position.text()?),
        is_reader: is_reader.number()? == 1,
        contact_ago: ago(contact),
        event_ago: ago(event),
    })
}

/// Whether an event of this name was taken before.
pub async fn was_seen(servers: &Servers, keys: &Keys, id: &str, within: Duration) -> Result<bool, Failure> {
    Ok(servers.get(keys.seen(id), within).await?.is_some())
}

/// Remembers that it was.
pub async fn remember(
    servers: &Servers,
    keys: &Keys,
    id: &str,
    lasts: Duration,
    within: Duration,
) -> Result<(), Failure> {
    let args = vec![Bytes::from(lasts.as_millis().max(1).to_string())];
    servers.run(Command::Source, &SEEN, &[&keys.seen(id)], args, Sent::IfHealthy, within).await.map(drop)
}
