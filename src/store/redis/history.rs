//! The last purges of all replicas, for people: how they are written into the journal, and read from it.
//!
//! A purge's script adds the record; should that fail, it purges all the same.

use std::time::Duration;

use bytes::Bytes;

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::keys::Keys;
use super::scripts::{HISTORY, Part};
use super::servers::Servers;
use crate::clock::Timestamp;
use crate::purge::{Asked, Position, Record};

/// Records in one reply.
const PAGE: usize = 200;

/// An operator can wait for longer than a request.
const PATIENCE: Duration = Duration::from_secs(1);

/// As the purge's script adds it; position and time are the script's to know.
pub fn written(record: Option<&Record>) -> Bytes {
    record.and_then(|record| serde_json::to_vec(record).ok()).unwrap_or_default().into()
}

/// The latest first. One that can't be read is passed over.
pub async fn read(servers: &Servers, keys: &Keys, asked: &Asked) -> Result<Vec<Record>, Failure> {
    let since = match asked.since {
        Position(0) => "-".to_owned(),
        Position(since) => format!("({since}-0"),
    };
    let mut until = "+".to_owned();
    let mut records = Vec::new();
    loop {
        let args = [&until, &since, &PAGE.to_string()].map(|arg| Bytes::from(arg.clone()));
        let keys = [keys.history.as_str()];
        let page =
            servers.run(Command::History, &HISTORY, &keys, args.into(), Sent::IfHealthy, PATIENCE).await?;
        let Part::List(page) = page else { return Ok(records) };
        records.extend(page.iter().filter_map(record).filter(|record| record.is_asked_for(asked)));
        let last = page.last().and_then(id);
        match last {
            Some(last) if page.len() == PAGE && records.len() < asked.limit => until = format!("({last}"),
            _ => break,
        }
    }
    records.truncate(asked.limit);
    Ok(records)
}

fn id(entry: &Part) -> Option<&str> {
    let Part::List(parts) = entry else { return None };
    parts.first()?.text()
}

fn record(entry: &Part) -> Option<Record> {
    let Part::List(parts) = entry else { return None };
    let Part::List(fields) = parts.get(1)? else { return None };
    let value = |name: &str| {
        let pair = fields.chunks(2).find(|pair| pair[0].bytes() == Some(name.as_bytes()))?;
        pair.get(1)?.bytes()
    };
    let number = |name| std::str::from_utf8(value(name)?).ok()?.parse::<u64>().ok();
    let record: Record = serde_json::from_slice(value("record")?).ok()?;
    let (position, at) = (Position(number("position")?), Timestamp::from_micros(number("at")?));
    Some(Record { position, at, ..record })
}
