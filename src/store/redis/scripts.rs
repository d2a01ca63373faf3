//! The scripts on the purge index, and the reply that they have in common.

use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::clock::{Moment, Timestamp};
use crate::hex;
use crate::purge::{Epoch, IndexChange, IntentId, PurgeMode, PurgeVersion, SyncReply, TargetId};

/// Tells what was purged since. On the way it resets the index where its owner has changed, and puts the caller on the roll.
pub(super) static SYNC: Script = Script::new(concat!(include_str!("begin.lua"), include_str!("tell.lua")));

/// Purges, and tells as [`SYNC`] does.
pub(super) static PURGE: Script =
    Script::new(concat!(include_str!("begin.lua"), include_str!("purge.lua"), include_str!("tell.lua")));

/// Takes the lease of a key, or says what it is waited for.
pub(super) static LEASE_TAKE: Script = Script::new(include_str!("lease_take.lua"));

/// Lets a lease last on.
pub(super) static LEASE_RENEW: Script = Script::new(include_str!("lease_renew.lua"));

/// Ends a lease, and wakes those who wait for it.
pub(super) static LEASE_END: Script = Script::new(include_str!("lease_end.lua"));

/// Puts a value in its place, unless what stands there is of a later fetch.
pub(crate) static REPLACE: Script = Script::new(include_str!("replace.lua"));

/// Takes this replica off the roll.
pub(super) static DEREGISTER: Script = Script::new(include_str!("beat.lua"));

/// Lists the replicas on the roll, and forgets those that have been silent for too long.
pub(super) static REPLICAS: Script =
    Script::new(concat!(include_str!("begin.lua"), include_str!("replicas.lua")));

/// Reads the journal of purges.
pub(super) static HISTORY: Script = Script::new(include_str!("history.lua"));

/// Removes a value that can't be read, unless it has been replaced since: it is compared by how it begins.
pub(crate) static REMOVE: Script = Script::new(include_str!("remove.lua"));

/// Tells what is new of a source of change events, and what is known of it.
pub(super) static SOURCE: Script = Script::new(include_str!("source.lua"));

/// Reads a stream of change events, and its state.
pub(super) static STREAM: Script = Script::new(include_str!("stream.lua"));

/// Remembers that a signed event was taken.
pub(super) static SEEN: Script = Script::new(include_str!("seen.lua"));

/// Charges a request to a budget.
pub(super) static RATE: Script = Script::new(include_str!("rate.lua"));

pub(crate) struct Script {
    pub text: &'static str,
    sha: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, sha: OnceLock::new() }
    }

    /// The digest by which every server knows the script.
    pub(super) fn sha(&self) -> &str {
        self.sha.get_or_init(|| {
            hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes()).as_ref())
        })
    }
}

/// A value of a reply, independent of the client library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RespValue {
    /// Null.
    Nil,
    /// An integer.
    Integer(i64),
    /// A bulk or simple string.
    Bytes(Bytes),
    /// An array.
    Array(Vec<RespValue>),
}

/// The reply of [`SYNC`] and [`PURGE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScriptReply {
    pub sync: SyncReply,
    /// The version of the purge; zero where none was asked for.
    pub version: PurgeVersion,
    /// When the epoch began, on the server's clock.
    pub epoch_began: Timestamp,
}

/// The reply of [`REPLICAS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RollReply {
    pub epoch: Epoch,
    pub replicas: Vec<RollEntry>,
}

/// A replica on the roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RollEntry {
    /// Its member of the index.
    pub place: Bytes,
    /// The score of that member, which changes with every report.
    pub reported: String,
    /// It knows all purges up to here.
    pub known: PurgeVersion,
    pub silent_for: Duration,
}

/// A call of a script that begins with `begin.lua`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The reply repeats it.
    pub nonce: String,
    pub sent_at: Moment,
    /// Whether it puts its caller on the roll.
    pub registers: bool,
}

/// Parses the reply to `call`; `None` if it is any other.
pub(super) fn parse_reply(reply: &RespValue, call: &Call) -> Option<ScriptReply> {
    let [echo, epoch, now, base, high_water, is_complete, version, records, began] = reply.array()? else {
        return None;
    };
    if echo.bytes()? != call.nonce.as_bytes() {
        return None;
    }
    let changes = records.array()?.chunks(3).map(parse_change).collect::<Option<Vec<_>>>()?;
    let sync = SyncReply {
        epoch: parse_epoch(epoch)?,
        base: PurgeVersion(base.number()?),
        high_water: PurgeVersion(high_water.number()?),
        is_complete: is_complete.number()? == 1,
        changes,
        server_time: Timestamp::from_micros(now.number()?),
        sent_at: call.sent_at,
        is_member: call.registers,
    };
    let epoch_began = Timestamp::from_micros(began.number()?);
    Some(ScriptReply { sync, version: PurgeVersion(version.number()?), epoch_began })
}

/// Like [`parse_reply`], for [`REPLICAS`].
pub(super) fn parse_roll(reply: &RespValue, call: &Call) -> Option<RollReply> {
    let [echo, epoch, _now, _began, replicas] = reply.array()? else { return None };
    if echo.bytes()? != call.nonce.as_bytes() {
        return None;
    }
    let entry = |entry: &RespValue| {
        let [place, reported, known, silent_for] = entry.array()? else { return None };
        Some(RollEntry {
            place: Bytes::copy_from_slice(place.bytes()?),
            reported: reported.text()?.to_owned(),
            known: PurgeVersion(known.number()?),
            silent_for: Duration::from_micros(silent_for.number()?),
        })
    };
    let replicas = replicas.array()?.iter().map(entry).collect::<Option<Vec<_>>>()?;
    Some(RollReply { epoch: parse_epoch(epoch)?, replicas })
}

fn parse_epoch(epoch: &RespValue) -> Option<Epoch> {
    u128::from_str_radix(epoch.text()?, 16).ok().map(Epoch)
}

fn parse_change(record: &[RespValue]) -> Option<IndexChange> {
    let [member, version, until] = record else { return None };
    let version = PurgeVersion(version.number()?);
    let until = Timestamp::from_micros(until.number()?);
    // Another version's ids are longer, and begin like these: its purges hold here too.
    let id = |name: &[u8]| name.first_chunk().copied().map(TargetId);
    let purged = |name, mode| Some(IndexChange::Purged { id: id(name)?, version, mode });
    match member.bytes()?.split_first()? {
        (b'h', name) => purged(name, PurgeMode::Hard),
        (b's', name) => purged(name, PurgeMode::Soft),
        (b'd', name) => Some(IndexChange::Doubted { id: id(name)?, version, until }),
        (b'm', name) => {
            let (name, intent) = name.split_last_chunk()?;
            Some(IndexChange::Intent { id: id(name)?, intent: IntentId(*intent), version, until })
        }
        (b'l', intent) => Some(IndexChange::Resolved { intent: IntentId(intent.try_into().ok()?), version }),
        (b'b', bucket) => {
            Some(IndexChange::Folded { bucket: u16::from_le_bytes(bucket.try_into().ok()?), version, until })
        }
        _ => None,
    }
}

impl RespValue {
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            RespValue::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn into_bytes(self) -> Option<Bytes> {
        match self {
            RespValue::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn array(&self) -> Option<&[RespValue]> {
        match self {
            RespValue::Array(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            RespValue::Integer(number) => u64::try_from(*number).ok(),
            part => part.text()?.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> RespValue {
        RespValue::Bytes(Bytes::from_static(text.as_bytes()))
    }

    fn call(nonce: &str) -> Call {
        Call { nonce: nonce.to_owned(), sent_at: Moment::now(), registers: true }
    }

    fn reply(records: Vec<RespValue>) -> Vec<RespValue> {
        let marks = ["nonce", "ff", "1763640000123456", "0", "1763640000123455"];
        let mut parts: Vec<RespValue> = marks.into_iter().map(text).collect();
        parts.extend([RespValue::Integer(1), text("7"), RespValue::Array(records), text("9")]);
        parts
    }

    #[test]
    fn versions_and_dates_are_read_whole() {
        let records = [
            ["h01234567", "1763640000123457", "0"],
            ["d01234567", "6", "1763640000123459"],
            ["lMARKMARK", "7", "0"],
            ["bxy", "5", "8"],
        ];
        let records = records.into_iter().flatten().map(text).collect();
        let call = call("nonce");
        let told = parse_reply(&RespValue::Array(reply(records)), &call).unwrap();
        assert_eq!((told.version, told.epoch_began), (PurgeVersion(7), Timestamp::from_micros(9)));
        let id = TargetId(*b"01234567");
        let changes = vec![
            IndexChange::Purged { id, version: PurgeVersion(1_763_640_000_123_457), mode: PurgeMode::Hard },
            IndexChange::Doubted {
                id,
                version: PurgeVersion(6),
                until: Timestamp::from_micros(1_763_640_000_123_459),
            },
            IndexChange::Resolved { intent: IntentId(*b"MARKMARK"), version: PurgeVersion(7) },
            IndexChange::Folded {
                bucket: u16::from_le_bytes(*b"xy"),
                version: PurgeVersion(5),
                until: Timestamp::from_micros(8),
            },
        ];
        let expected = SyncReply {
            epoch: Epoch(255),
            base: PurgeVersion(0),
            high_water: PurgeVersion(1_763_640_000_123_455),
            is_complete: true,
            changes,
            server_time: Timestamp::from_micros(1_763_640_000_123_456),
            sent_at: call.sent_at,
            is_member: true,
        };
        assert_eq!(told.sync, expected);
    }

    /// They stay in the index for as long as a response may live.
    #[test]
    fn purges_by_a_version_with_longer_ids_hold() {
        let records = [
            ["s0123456789abcdef", "5", "0"],
            ["m0123456789abcdefMARKMARK", "6", "60"],
            ["m01234567MARKMARK", "7", "70"],
        ];
        let records = records.into_iter().flatten().map(text).collect();
        let told = parse_reply(&RespValue::Array(reply(records)), &call("nonce")).unwrap();
        let (id, intent) = (TargetId(*b"01234567"), IntentId(*b"MARKMARK"));
        let marked = |version, until| IndexChange::Intent {
            id,
            intent,
            version: PurgeVersion(version),
            until: Timestamp::from_micros(until),
        };
        let changes = vec![
            IndexChange::Purged { id, version: PurgeVersion(5), mode: PurgeMode::Soft },
            marked(6, 60),
            marked(7, 70),
        ];
        assert_eq!(told.sync.changes, changes);
    }

    #[test]
    fn a_reply_that_is_not_the_expected_one_proves_nothing() {
        let whole = reply(vec![]);
        let parse = |parts: Vec<RespValue>, nonce| parse_reply(&RespValue::Array(parts), &call(nonce));
        assert!(parse(whole.clone(), "nonce").is_some());
        assert!(parse(whole.clone(), "another").is_none());
        for at in 0..whole.len() {
            let mut parts = whole.clone();
            parts[at] = RespValue::Nil;
            assert!(parse(parts, "nonce").is_none(), "{at}");
            assert!(parse(whole[..at].to_vec(), "nonce").is_none(), "{at}");
        }
        for record in ["h0123456", "m0123456MARKMARK", "lMARK", "x01234567", "", "b1"] {
            let parts = reply(vec![text(record), text("5"), text("0")]);
            assert!(parse(parts, "nonce").is_none(), "{record}");
        }
        assert!(parse(reply(vec![text("bxy"), text("5")]), "nonce").is_none());
    }
}
