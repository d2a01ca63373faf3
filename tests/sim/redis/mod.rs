//! A model of a Redis server: the commands that larder and its scripts use.

mod commands;
pub mod lua;
mod zset;

use std::collections::BTreeMap;

use bytes::Bytes;
use larder::store::{RedisError, RespValue};

pub use zset::SortedSet;

/// All that a server remembers, and what its replies depend on.
#[derive(Clone, Debug, Default)]
pub struct Database {
    keys: BTreeMap<Bytes, Entry>,
    /// Microseconds since 1970 on its clock.
    pub now: u64,
    pub run_id: u64,
    /// The second replication id: that of the primary it was promoted from.
    pub former_id: u64,
    /// A primary that is cut off from its replicas, and refuses writes (`min-replicas-to-write`).
    pub is_cut_off: bool,
    /// Messages that are not delivered yet, with their channels.
    pub published: Vec<(Bytes, Bytes)>,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    /// In milliseconds.
    expires_at: Option<u64>,
}

#[derive(Clone, Debug)]
enum Value {
    Text(Vec<u8>),
    Sorted(SortedSet),
    Hash(BTreeMap<Bytes, Bytes>),
    Stream(Stream),
}

/// Entries by milliseconds and number.
#[derive(Clone, Debug, Default)]
struct Stream {
    entries: BTreeMap<(u64, u64), Vec<Bytes>>,
    last: (u64, u64),
    added: u64,
    max_deleted: (u64, u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Integer(i64),
    Bulk(Bytes),
    Status(&'static str),
    Array(Vec<Reply>),
    Error(String),
}

impl Reply {
    fn text(text: impl Into<String>) -> Self {
        Reply::Bulk(text.into().into())
    }

    fn flag(is_set: bool) -> Self {
        Reply::Integer(i64::from(is_set))
    }

    fn wrong_type() -> Self {
        Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
    }

    pub fn into_result(self) -> Result<RespValue, RedisError> {
        Ok(match self {
            Reply::Nil => RespValue::Nil,
            Reply::Integer(number) => RespValue::Integer(number),
            Reply::Bulk(text) => RespValue::Bytes(text),
            Reply::Status(text) => RespValue::Bytes(Bytes::from_static(text.as_bytes())),
            Reply::Array(replies) => {
                let values = replies.into_iter().map(|reply| reply.into_result().unwrap_or(RespValue::Nil));
                RespValue::Array(values.collect())
            }
            Reply::Error(error) => return Err(RedisError::ErrorReply(error)),
        })
    }
}

impl Database {
    /// Runs a command: its name and arguments.
    pub fn command(&mut self, words: &[Bytes]) -> Reply {
        let name = std::str::from_utf8(&words[0]).expect("the name of a command");
        self.drop_expired(words.get(1));
        if name == "RENAME" {
            self.drop_expired(words.get(2));
        }
        match name {
            "EVALSHA" => lua::run(self, &words[1..]),
            "MGET" => Reply::Array(words[1..].iter().map(|key| self.read_text(key)).collect()),
            _ => self.run(name, &words[1..]).unwrap_or_else(|| {
                Reply::Error(format!("ERR the simulation has no {name} like this: {words:?}"))
            }),
        }
    }

    /// Forgets everything; the scripts stay.
    pub fn flush(&mut self) {
        self.keys.clear();
    }

    /// Evicts the keys whose names match.
    pub fn evict(&mut self, mut is_evicted: impl FnMut(&[u8]) -> bool) {
        self.keys.retain(|key, _| !is_evicted(key));
    }

    fn drop_expired(&mut self, key: Option<&Bytes>) {
        let Some(key) = key else { return };
        let millis = self.now / 1000;
        let is_expired = |entry: &Entry| entry.expires_at.is_some_and(|end| end <= millis);
        if self.keys.get(key).is_some_and(is_expired) {
            self.keys.remove(key);
        }
    }
}

pub fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
