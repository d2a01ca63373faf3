//! The scripts on the purge index, and the reply that they have in common.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::clock::{Moment, Timestamp};
use crate::purge::{Change, Confirmation, Hardness, Incarnation, MarkId, Position, TargetId};

/// Tells what was purged since; on the way it makes a new incarnation where one is due.
pub static CONFIRM: Script = Script::new(concat!(include_str!("begin.lua"), include_str!("tell.lua")));

/// Purges, and tells as [`CONFIRM`] does.
pub static PURGE: Script =
    Script::new(concat!(include_str!("begin.lua"), include_str!("purge.lua"), include_str!("tell.lua")));

/// Takes the lease of a key, or says what it is waited for.
pub static LEASE_TAKE: Script = Script::new(include_str!("lease_take.lua"));

/// Lets a lease last on.
pub static LEASE_RENEW: Script = Script::new(include_str!("lease_renew.lua"));

/// Ends a lease, and wakes those who wait for it.
pub static LEASE_END: Script = Script::new(include_str!("lease_end.lua"));

/// Puts a value in its place, unless what stands there is of a later fetch.
pub static REPLACE: Script = Script::new(include_str!("replace.lua"));

/// Says that this replica is there, or that it leaves.
pub static BEAT: Script = Script::new(include_str!("beat.lua"));

/// Which replicas there are.
pub static REPLICAS: Script = Script::new(include_str!("replicas.lua"));

/// Reads the journal of purges.
pub static HISTORY: Script = Script::new(include_str!("history.lua"));

/// Removes a value that can't be read, unless it has been replaced since: it is compared by how it begins.
pub static REMOVE: Script = Script::new(include_str!("remove.lua"));

/// Tells what is new of a source of change events, and what is known of it.
pub static SOURCE: Script = Script::new(include_str!("source.lua"));

/// Remembers that a signed event was taken.
pub static SEEN: Script = Script::new(include_str!("seen.lua"));

pub struct Script {
    pub text: &'static str,
    /// What Redis calls it; learned when it is loaded, and the same on every server.
    pub sha: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, sha: OnceLock::new() }
    }
}

/// What a reply consists of, whatever library read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Nothing,
    Number(i64),
    Bytes(Bytes),
    List(Vec<Part>),
}

/// The reply of [`CONFIRM`] and [`PURGE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub confirmation: Confirmation,
    /// Of the purge; zero where none was asked for.
    pub position: Position,
}

/// `None` if the reply is not the one to the call that carried `nonce`.
pub fn told(reply: &Part, nonce: &str, asked_at: Moment) -> Option<Told> {
    let Part::List(parts) = reply else { return None };
    let [echo, incarnation, now, after, high_water, is_whole, position, records] = parts.as_slice() else {
        return None;
    };
    if echo.bytes()? != nonce.as_bytes() {
        return None;
    }
    let incarnation = u128::from_str_radix(incarnation.text()?, 16).ok()?;
    let Part::List(records) = records else { return None };
    let changes = records.chunks(2).map(change).collect::<Option<Vec<_>>>()?;
    let confirmation = Confirmation {
        incarnation: Incarnation(incarnation),
        after: Position(after.number()?),
        high_water: Position(high_water.number()?),
        is_whole: is_whole.number()? == 1,
        changes,
        now: Timestamp::from_micros(now.number()?),
        asked_at,
    };
    Some(Told { confirmation, position: Position(position.number()?) })
}

fn change(record: &[Part]) -> Option<Change> {
    let [member, position] = record else { return None };
    let position = Position(position.number()?);
    // Another version's names are longer, and begin like these: its purges hold here too.
    let id = |name: &[u8]| name.first_chunk().copied().map(TargetId);
    let purged = |name, hardness| Some(Change::Purged { id: id(name)?, position, hardness });
    match member.bytes()?.split_first()? {
        (b'h', name) => purged(name, Hardness::Hard),
        (b's', name) => purged(name, Hardness::Soft),
        (b'm', marked) => {
            let (name, mark) = marked.split_last_chunk()?;
            Some(Change::Marked { id: id(name)?, mark: MarkId(*mark), date: position })
        }
        (b'b', bucket) => {
            Some(Change::Folded { bucket: u16::from_le_bytes(bucket.try_into().ok()?), position })
        }
        _ => None,
    }
}

impl Part {
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Part::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Part::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub fn number(&self) -> Option<u64> {
        match self {
            Part::Number(number) => u64::try_from(*number).ok(),
            part => part.text()?.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Part {
        Part::Bytes(Bytes::from_static(text.as_bytes()))
    }

    fn reply(records: Vec<Part>) -> Vec<Part> {
        let marks = ["nonce", "ff", "1763640000123456", "0", "1763640000123455"];
        let mut parts: Vec<Part> = marks.into_iter().map(text).collect();
        parts.extend([Part::Number(1), text("7"), Part::List(records)]);
        parts
    }

    #[test]
    fn positions_are_read_whole() {
        let records = vec![text("h01234567"), text("1763640000123457"), text("bxy"), text("5")];
        let asked_at = Moment::now();
        let told = told(&Part::List(reply(records)), "nonce", asked_at).unwrap();
        assert_eq!(told.position, Position(7));
        let id = TargetId(*b"01234567");
        let changes = vec![
            Change::Purged { id, position: Position(1_763_640_000_123_457), hardness: Hardness::Hard },
            Change::Folded { bucket: u16::from_le_bytes(*b"xy"), position: Position(5) },
        ];
        let confirmation = Confirmation {
            incarnation: Incarnation(255),
            after: Position(0),
            high_water: Position(1_763_640_000_123_455),
            is_whole: true,
            changes,
            now: Timestamp::from_micros(1_763_640_000_123_456),
            asked_at,
        };
        assert_eq!(told.confirmation, confirmation);
    }

    /// They stand in the index for as long as a response may live.
    #[test]
    fn purges_by_a_version_with_longer_names_hold() {
        let records = vec![
            text("s0123456789abcdef"),
            text("5"),
            text("m0123456789abcdefMARKMARK"),
            text("6"),
            text("m01234567MARKMARK"),
            text("7"),
        ];
        let told = told(&Part::List(reply(records)), "nonce", Moment::now()).unwrap();
        let (id, mark) = (TargetId(*b"01234567"), MarkId(*b"MARKMARK"));
        let changes = vec![
            Change::Purged { id, position: Position(5), hardness: Hardness::Soft },
            Change::Marked { id, mark, date: Position(6) },
            Change::Marked { id, mark, date: Position(7) },
        ];
        assert_eq!(told.confirmation.changes, changes);
    }

    #[test]
    fn a_reply_that_is_not_the_expected_one_proves_nothing() {
        let whole = reply(vec![]);
        assert!(told(&Part::List(whole.clone()), "nonce", Moment::now()).is_some());
        assert!(told(&Part::List(whole.clone()), "another", Moment::now()).is_none());
        for at in 0..whole.len() {
            let mut parts = whole.clone();
            parts[at] = Part::Nothing;
            assert!(told(&Part::List(parts), "nonce", Moment::now()).is_none(), "{at}");
            assert!(told(&Part::List(whole[..at].to_vec()), "nonce", Moment::now()).is_none(), "{at}");
        }
        for record in [text("h0123456"), text("m0123456MARKMARK"), text("x01234567"), text(""), text("b1")] {
            let parts = reply(vec![record, text("5")]);
            assert!(told(&Part::List(parts), "nonce", Moment::now()).is_none());
        }
        assert!(told(&Part::List(reply(vec![text("bxy")])), "nonce", Moment::now()).is_none());
    }
}
