//! The commands, each on the database as it is. `None`: nothing that larder sends looks like this.

use std::ops::Bound;

use bytes::Bytes;

use super::zset::Limit;
use super::{Database, Entry, Reply, SortedSet, Stream, Value, number};

type Answer = Option<Reply>;

impl Database {
    pub(super) fn run(&mut self, name: &str, words: &[Bytes]) -> Answer {
        if self.is_cut_off && is_write(name) {
            return Some(Reply::Error("NOREPLICAS Not enough good replicas to write.".to_owned()));
        }
        match name {
            "PING" => Some(Reply::Status("PONG")),
            "TIME" => Some(self.time()),
            "INFO" => Some(Reply::text(self.info())),
            "PUBLISH" => {
                self.published.push((words[0].clone(), words[1].clone()));
                Some(Reply::Integer(1))
            }
            "GET" | "SET" | "GETRANGE" | "SETRANGE" => self.run_on_text(name, words),
            "TYPE" | "EXISTS" | "DEL" | "UNLINK" | "RENAME" | "PTTL" | "PEXPIRE" | "PEXPIREAT"
            | "PERSIST" => self.run_on_key(name, words),
            "HGETALL" | "HSET" => self.run_on_hash(name, words),
            "XADD" | "XDEL" | "XRANGE" | "XREVRANGE" | "XREAD" | "XINFO" => self.run_on_stream(name, words),
            _ if name.starts_with('Z') => self.run_on_sorted_set(name, words),
            _ => None,
        }
    }

    fn time(&self) -> Reply {
        let (seconds, micros) = (self.now / 1_000_000, self.now % 1_000_000);
        Reply::Array(vec![Reply::text(seconds.to_string()), Reply::text(micros.to_string())])
    }

    fn info(&self) -> String {
        let (run, former) = (self.run_id, self.former_id);
        format!(
            "run_id:{run:040x}\r\nrole:master\r\nmaster_replid2:{former:040x}\r\nused_memory:1\r\nmaxmemory:0\r\n"
        )
    }

    pub(super) fn read_text(&mut self, key: &Bytes) -> Reply {
        self.drop_expired(Some(key));
        match self.keys.get(key).map(|entry| &entry.value) {
            Some(Value::Text(text)) => Reply::Bulk(Bytes::copy_from_slice(text)),
            _ => Reply::Nil,
        }
    }

    fn run_on_text(&mut self, name: &str, words: &[Bytes]) -> Answer {
        let key = &words[0];
        if name == "SET" {
            return self.set(words);
        }
        let text = match self.keys.get_mut(key).map(|entry| &mut entry.value) {
            Some(Value::Text(text)) => text,
            Some(_) => return Some(Reply::wrong_type()),
            None if name == "GETRANGE" => return Some(Reply::text("")),
            None => return Some(Reply::Nil),
        };
        match name {
            "GET" => Some(Reply::Bulk(Bytes::copy_from_slice(text))),
            "GETRANGE" => {
                let (from, to): (usize, i64) = (number(&words[1])?, number(&words[2])?);
                let end = usize::try_from(to + 1).ok()?.min(text.len());
                Some(Reply::Bulk(Bytes::copy_from_slice(text.get(from..end).unwrap_or_default())))
            }
            _ => {
                let from: usize = number(&words[1])?;
                text.get_mut(from..from + words[2].len())?.copy_from_slice(&words[2]);
                Some(Reply::Integer(text.len() as i64))
            }
        }
    }

    fn set(&mut self, words: &[Bytes]) -> Answer {
        let mut expires_at = None;
        let mut options = words[2..].iter();
        while let Some(option) = options.next() {
            match &option[..] {
                b"NX" if self.keys.contains_key(&words[0]) => return Some(Reply::Nil),
                b"NX" => {}
                b"PX" => expires_at = Some(self.now / 1000 + number::<u64>(options.next()?)?),
                b"PXAT" => expires_at = Some(number(options.next()?)?),
                _ => return None,
            }
        }
        self.keys.insert(words[0].clone(), Entry { value: Value::Text(words[1].to_vec()), expires_at });
        Some(Reply::Status("OK"))
    }

    fn run_on_key(&mut self, name: &str, words: &[Bytes]) -> Answer {
        let (key, millis) = (&words[0], self.now / 1000);
        let Some(entry) = self.keys.get_mut(key) else {
            return Some(match name {
                "TYPE" => Reply::Status("none"),
                "PTTL" => Reply::Integer(-2),
                "RENAME" => Reply::Error("ERR no such key".to_owned()),
                _ => Reply::Integer(0),
            });
        };
        Some(match name {
            "TYPE" => Reply::Status(entry.value.type_name()),
            "EXISTS" => Reply::Integer(1),
            "PTTL" => entry.expires_at.map_or(Reply::Integer(-1), |end| {
                Reply::Integer(i64::try_from(end.saturating_sub(millis)).unwrap_or(i64::MAX))
            }),
            "PEXPIRE" => {
                entry.expires_at = Some(millis + number::<u64>(&words[1])?);
                Reply::Integer(1)
            }
            "PERSIST" => Reply::flag(entry.expires_at.take().is_some()),
            "PEXPIREAT" => {
                entry.expires_at = Some(number(&words[1])?);
                Reply::Integer(1)
            }
            "RENAME" => {
                let entry = self.keys.remove(key)?;
                self.keys.insert(words[1].clone(), entry);
                Reply::Status("OK")
            }
            _ => {
                self.keys.remove(key);
                Reply::Integer(1)
            }
        })
    }

    fn run_on_hash(&mut self, name: &str, words: &[Bytes]) -> Answer {
        if name == "HGETALL" {
            return Some(match self.keys.get(&words[0]).map(|entry| &entry.value) {
                Some(Value::Hash(hash)) => Reply::Array(
                    hash.iter().flat_map(|(field, value)| [field, value]).cloned().map(Reply::Bulk).collect(),
                ),
                Some(_) => Reply::wrong_type(),
                None => Reply::Array(Vec::new()),
            });
        }
        let entry = self.entry(&words[0], || Value::Hash(Default::default()));
        let Value::Hash(hash) = &mut entry.value else { return Some(Reply::wrong_type()) };
        Some(Reply::flag(hash.insert(words[1].clone(), words[2].clone()).is_none()))
    }

    fn run_on_sorted_set(&mut self, name: &str, words: &[Bytes]) -> Answer {
        let Some(entry) = self.keys.get_mut(&words[0]) else {
            return match name {
                "ZADD" => {
                    self.entry(&words[0], || Value::Sorted(SortedSet::default()));
                    self.run_on_sorted_set(name, words)
                }
                "ZSCORE" => Some(Reply::Nil),
                "ZREM" | "ZCARD" | "ZCOUNT" => Some(Reply::Integer(0)),
                _ => Some(Reply::Array(Vec::new())),
            };
        };
        let Value::Sorted(set) = &mut entry.value else { return Some(Reply::wrong_type()) };
        let reply = set.run(name, &words[1..]);
        if set.is_empty() {
            self.keys.remove(&words[0]);
        }
        reply
    }

    fn run_on_stream(&mut self, name: &str, words: &[Bytes]) -> Answer {
        let key = match name {
            "XREAD" => words.last().and_then(|_| words.get(words.len() - 2))?,
            "XINFO" => &words[1],
            _ => &words[0],
        };
        let now = self.now / 1000;
        if name != "XADD" && !self.keys.contains_key(key) {
            return Some(match name {
                "XDEL" => Reply::Integer(0),
                "XINFO" => Reply::Error("ERR no such key".to_owned()),
                "XREAD" => Reply::Nil,
                _ => Reply::Array(Vec::new()),
            });
        }
        let entry = self.entry(key, || Value::Stream(Stream::default()));
        let Value::Stream(stream) = &mut entry.value else { return Some(Reply::wrong_type()) };
        stream.run(name, words, now)
    }

    fn entry(&mut self, key: &Bytes, new: impl FnOnce() -> Value) -> &mut Entry {
        self.keys.entry(key.clone()).or_insert_with(|| Entry { value: new(), expires_at: None })
    }
}

fn is_write(name: &str) -> bool {
    match name {
        "PING" | "TIME" | "INFO" | "PUBLISH" | "GET" | "GETRANGE" | "TYPE" | "EXISTS" | "PTTL"
        | "HGETALL" | "XRANGE" | "XREVRANGE" | "XREAD" | "XINFO" | "ZSCORE" | "ZCARD" | "ZCOUNT" => false,
        _ => !name.contains("RANGE") || name == "SETRANGE",
    }
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) => "string",
            Value::Sorted(_) => "zset",
            Value::Hash(_) => "hash",
            Value::Stream(_) => "stream",
        }
    }
}

impl SortedSet {
    fn run(&mut self, name: &str, words: &[Bytes]) -> Answer {
        let limit = |word: &Bytes| Limit::parse(std::str::from_utf8(word).ok()?);
        let integer = |number: usize| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        Some(match name {
            "ZADD" => return self.add(words),
            "ZREM" => integer(words.iter().filter(|member| self.remove(member)).count()),
            "ZSCORE" => self.score(&words[0]).map_or(Reply::Nil, |score| Reply::text(score.to_string())),
            "ZCARD" => integer(self.len()),
            "ZCOUNT" => integer(self.range(limit(&words[0])?, limit(&words[1])?).len()),
            "ZINCRBY" => {
                let score = self.score(&words[1]).unwrap_or_default() + number::<f64>(&words[0])?;
                self.insert(words[1].clone(), score);
                Reply::text(score.to_string())
            }
            "ZRANGE" => listed(self.ranks(number(&words[0])?, number(&words[1])?), &words[2..])?,
            "ZRANGEBYSCORE" => listed(self.range(limit(&words[0])?, limit(&words[1])?), &words[2..])?,
            "ZREVRANGEBYSCORE" => {
                let mut members = self.range(limit(&words[1])?, limit(&words[0])?);
                members.reverse();
                listed(members, &words[2..])?
            }
            _ => return None,
        })
    }

    fn add(&mut self, words: &[Bytes]) -> Answer {
        let (only, pairs) = match &words[0][..] {
            b"GT" => (Some(true), &words[1..]),
            b"LT" => (Some(false), &words[1..]),
            _ => (None, words),
        };
        let mut new = 0;
        for pair in pairs.chunks(2) {
            let (score, member) = (number::<f64>(&pair[0])?, pair.get(1)?);
            let is_wanted = match (only, self.score(member)) {
                (Some(true), Some(before)) => score > before,
                (Some(false), Some(before)) => score < before,
                _ => true,
            };
            if is_wanted && self.insert(member.clone(), score) {
                new += 1;
            }
        }
        Some(Reply::Integer(new))
    }
}

/// Members as a range command returns them, with `WITHSCORES` and `LIMIT 0 count`.
fn listed(members: Vec<(Bytes, f64)>, options: &[Bytes]) -> Answer {
    let has_scores = options.iter().any(|option| &option[..] == b"WITHSCORES");
    let count = match options.iter().position(|option| &option[..] == b"LIMIT") {
        Some(at) => number(options.get(at + 2)?)?,
        None => usize::MAX,
    };
    let mut replies = Vec::new();
    for (member, score) in members.into_iter().take(count) {
        replies.push(Reply::Bulk(member));
        if has_scores {
            replies.push(Reply::text(score.to_string()));
        }
    }
    Some(Reply::Array(replies))
}

impl Stream {
    fn run(&mut self, name: &str, words: &[Bytes], now: u64) -> Answer {
        Some(match name {
            "XADD" => return self.add(words, now),
            "XDEL" => {
                let id = parse_id(&words[1])?;
                let is_gone = self.entries.remove(&id).is_some();
                if is_gone {
                    self.max_deleted = self.max_deleted.max(id);
                }
                Reply::flag(is_gone)
            }
            "XRANGE" => {
                let from = match words[1].strip_prefix(b"(") {
                    Some(after) => Bound::Excluded(parse_id(after)?),
                    None => Bound::Included(parse_id(&words[1])?),
                };
                let to = if &words[2][..] == b"+" { (u64::MAX, u64::MAX) } else { parse_id(&words[2])? };
                let found = self.entries.range((from, Bound::Included(to)));
                Reply::Array(found.take(number(&words[4])?).map(entry_reply).collect())
            }
            "XREVRANGE" => Reply::Array(self.entries.iter().rev().take(200).map(entry_reply).collect()),
            "XREAD" => {
                let after = parse_id(words.last()?)?;
                let entries: Vec<Reply> = self
                    .entries
                    .range(after..)
                    .filter(|(id, _)| **id > after)
                    .take(100)
                    .map(entry_reply)
                    .collect();
                if entries.is_empty() {
                    return Some(Reply::Nil);
                }
                let key = Reply::Bulk(words[words.len() - 2].clone());
                Reply::Array(vec![Reply::Array(vec![key, Reply::Array(entries)])])
            }
            _ => Reply::Array(vec![
                Reply::text("length"),
                Reply::Integer(self.entries.len() as i64),
                Reply::text("last-generated-id"),
                id_reply(self.last),
                Reply::text("max-deleted-entry-id"),
                id_reply(self.max_deleted),
                Reply::text("entries-added"),
                Reply::Integer(self.added as i64),
                Reply::text("first-entry"),
                self.entries.first_key_value().map_or(Reply::Nil, entry_reply),
            ]),
        })
    }

    /// `XADD key [MAXLEN ~ count] id field value …`; nothing is trimmed.
    fn add(&mut self, words: &[Bytes], now: u64) -> Answer {
        let at = if &words[1][..] == b"MAXLEN" { 4 } else { 1 };
        let id = match &words[at][..] {
            b"*" => (now.max(self.last.0), self.last.1 + 1),
            id => parse_id(id)?,
        };
        if id <= self.last {
            return Some(Reply::Error("ERR The ID specified in XADD is equal or smaller".to_owned()));
        }
        self.entries.insert(id, words[at + 1..].to_vec());
        (self.last, self.added) = (id, self.added + 1);
        Some(id_reply(id))
    }
}

fn parse_id(word: &[u8]) -> Option<(u64, u64)> {
    let (millis, number) = std::str::from_utf8(word).ok()?.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}

fn id_reply((millis, number): (u64, u64)) -> Reply {
    Reply::text(format!("{millis}-{number}"))
}

fn entry_reply((id, fields): (&(u64, u64), &Vec<Bytes>)) -> Reply {
    Reply::Array(vec![id_reply(*id), Reply::Array(fields.iter().cloned().map(Reply::Bulk).collect())])
}
