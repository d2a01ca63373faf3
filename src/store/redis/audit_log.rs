//! The audit log of all replicas' purges in Redis: encodes and reads its records.
//!
//! The script of a purge appends the record. If that fails, it purges all the same.

use std::time::Duration;

use bytes::Bytes;

use super::command_stats::CommandKind;
use super::connection::Admission;
use super::error::RedisError;
use super::keys::KeyNames;
use super::scripts::{HISTORY, RespValue};
use super::servers::Servers;
use crate::clock::Timestamp;
use crate::purge::{AuditFilter, AuditRecord, PurgeVersion};

/// Records in one reply.
const PAGE_SIZE: usize = 200;

/// An operator can wait longer than a request.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Encodes a record for the purge's script, which adds version and time.
pub(super) fn encode_record(record: Option<&AuditRecord>) -> Bytes {
    record.and_then(|record| serde_json::to_vec(record).ok()).unwrap_or_default().into()
}

/// Reads the matching records, the latest first. Skips malformed ones.
pub(crate) async fn read_purges(
    servers: &Servers,
    keys: &KeyNames,
    asked: &AuditFilter,
) -> Result<Vec<AuditRecord>, RedisError> {
    let since = match asked.since {
        PurgeVersion(0) => "-".to_owned(),
        PurgeVersion(since) => format!("({since}-0"),
    };
    let mut until = "+".to_owned();
    let mut records = Vec::new();
    loop {
        let args = [&until, &since, &PAGE_SIZE.to_string()].map(|arg| Bytes::from(arg.clone()));
        let keys = [keys.history.as_str()];
        let page = servers
            .run(CommandKind::History, &HISTORY, &keys, args.into(), Admission::IfHealthy, READ_TIMEOUT)
            .await?;
        let RespValue::Array(page) = page else { return Ok(records) };
        records.extend(page.iter().filter_map(parse_record).filter(|record| record.matches(asked)));
        let last = page.last().and_then(entry_id);
        match last {
            Some(last) if page.len() == PAGE_SIZE && records.len() < asked.limit => {
                until = format!("({last}")
            }
            _ => break,
        }
    }
    records.truncate(asked.limit);
    Ok(records)
}

fn entry_id(entry: &RespValue) -> Option<&str> {
    let RespValue::Array(parts) = entry else { return None };
    parts.first()?.text()
}

fn parse_record(entry: &RespValue) -> Option<AuditRecord> {
    let RespValue::Array(parts) = entry else { return None };
    let RespValue::Array(fields) = parts.get(1)? else { return None };
    let value = |name: &str| {
        let pair = fields.chunks(2).find(|pair| pair[0].bytes() == Some(name.as_bytes()))?;
        pair.get(1)?.bytes()
    };
    let number = |name| std::str::from_utf8(value(name)?).ok()?.parse::<u64>().ok();
    let record: AuditRecord = serde_json::from_slice(value("record")?).ok()?;
    let (position, at) = (PurgeVersion(number("position")?), Timestamp::from_micros(number("at")?));
    Some(AuditRecord { position, at, ..record })
}
