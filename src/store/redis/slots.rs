//! The slot map of a cluster, parsed from a node's reply.

use std::collections::HashMap;

use super::scripts::RespValue;
use crate::config::RedisHost;

const SLOT_COUNT: usize = 16_384;

/// The owner of each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    pub owners: Vec<RedisHost>,
    /// Index into `owners` by slot, or [`UNASSIGNED`].
    by_slot: Vec<u16>,
}

const UNASSIGNED: u16 = u16::MAX;

/// The hash slot of a key: the CRC-16 (XMODEM) of the part in its first braces, or of all of it.
pub(super) fn key_slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| Some(rest.split_once('}')?.0));
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

impl SlotMap {
    /// Parses the reply of CLUSTER SLOTS: for each range its first and last slot, its owner, and its replicas. An empty
    /// host means `replied_by`. `None` if no slot has an owner, or if the reply is malformed.
    pub(super) fn parse(reply: &RespValue, replied_by: &RedisHost) -> Option<Self> {
        let RespValue::Array(ranges) = reply else { return None };
        let mut slots = SlotMap { owners: Vec::new(), by_slot: vec![UNASSIGNED; SLOT_COUNT] };
        let mut numbers: HashMap<RedisHost, u16> = HashMap::new();
        for range in ranges {
            let RespValue::Array(range) = range else { return None };
            let [first, last, owner, ..] = range.as_slice() else { return None };
            let (first, last) = (first.number()?, last.number()?);
            let owner = parse_host(owner, replied_by)?;
            let number = *numbers.entry(owner.clone()).or_insert_with(|| {
                slots.owners.push(owner);
                // There are at most as many owners as slots.
                u16::try_from(slots.owners.len() - 1).unwrap_or(UNASSIGNED)
            });
            let range = usize::try_from(first).ok()?..=usize::try_from(last).ok()?;
            slots.by_slot.get_mut(range)?.fill(number);
        }
        (!slots.owners.is_empty()).then_some(slots)
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.by_slot.contains(&UNASSIGNED)
    }

    /// Index into [`SlotMap::owners`].
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        let number = *self.by_slot.get(usize::from(slot))?;
        (number != UNASSIGNED).then_some(usize::from(number))
    }
}

/// Parses `[host, port, …]`. A missing or empty host is that of the node that replied.
fn parse_host(node: &RespValue, replied_by: &RedisHost) -> Option<RedisHost> {
    let RespValue::Array(node) = node else { return None };
    let [host, port, ..] = node.as_slice() else { return None };
    let host = match host.text() {
        // The cluster writes `?` for an unknown host.
        Some("?") => return None,
        Some(host) if !host.is_empty() => host,
        _ => &replied_by.host,
    };
    Some(RedisHost { host: host.to_owned(), port: u16::try_from(port.number()?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> RespValue {
        RespValue::Bytes(bytes::Bytes::from_static(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: RespValue, port: i64) -> RespValue {
        let replica = RespValue::Array(vec![text("10.0.0.9"), RespValue::Integer(6379), text("id")]);
        let owner =
            RespValue::Array(vec![host, RespValue::Integer(port), text("id"), RespValue::Array(vec![])]);
        RespValue::Array(vec![RespValue::Integer(first), RespValue::Integer(last), owner, replica])
    }

    fn host(host: &str, port: u16) -> RedisHost {
        RedisHost { host: host.to_owned(), port }
    }

    #[test]
    fn every_slot_has_the_owner_of_its_range() {
        let reply = RespValue::Array(vec![
            range(0, 99, text("10.0.0.1"), 6379),
            range(100, 16_000, text("redis-2"), 6380),
            range(16_001, 16_001, text("10.0.0.1"), 6379),
            range(16_383, 16_383, RespValue::Nil, 6381),
        ]);
        let slots = SlotMap::parse(&reply, &host("10.0.0.7", 1)).unwrap();
        assert_eq!(slots.owners, [host("10.0.0.1", 6379), host("redis-2", 6380), host("10.0.0.7", 6381)]);
        for (slot, owner) in [
            (0, Some(0)),
            (99, Some(0)),
            (100, Some(1)),
            (16_000, Some(1)),
            (16_001, Some(0)),
            (16_002, None),
            (16_382, None),
            (16_383, Some(2)),
            (u16::MAX, None),
        ] {
            assert_eq!(slots.owner(slot), owner, "{slot}");
        }
        assert!(!slots.is_complete());
        let all = RespValue::Array(vec![range(0, 16_383, text("10.0.0.1"), 6379)]);
        assert!(SlotMap::parse(&all, &host("10.0.0.7", 1)).unwrap().is_complete());
    }

    #[test]
    fn malformed_replies_are_none() {
        let replied_by = host("10.0.0.7", 1);
        for reply in [
            RespValue::Nil,
            text("ERR"),
            RespValue::Array(vec![]),
            RespValue::Array(vec![text("x")]),
            RespValue::Array(vec![range(0, 16_384, text("a"), 1)]),
            RespValue::Array(vec![range(-1, 5, text("a"), 1)]),
            RespValue::Array(vec![range(7, 5, text("a"), 1)]),
            RespValue::Array(vec![range(0, 5, text("a"), 70_000)]),
            RespValue::Array(vec![range(0, 5, text("?"), 1)]),
            RespValue::Array(vec![RespValue::Array(vec![
                RespValue::Integer(0),
                RespValue::Integer(1),
                text("a"),
            ])]),
        ] {
            assert_eq!(SlotMap::parse(&reply, &replied_by), None, "{reply:?}");
        }
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        for (key, slot) in [("123456789", 12_739), ("foo", 12_182), ("{foo}:bar", 12_182), ("", 0)] {
            assert_eq!(key_slot(key), slot, "{key}");
        }
        assert_eq!(key_slot("foo{}{bar}"), 8_363);
        assert_eq!(key_slot("foo{{bar}}zap"), key_slot("{bar"));
    }

    /// The index has a hash tag. Responses have none, so they are spread.
    #[test]
    fn responses_are_spread_over_the_slots() {
        let keys = super::super::KeyNames::new("shop");
        let mut slots = std::collections::HashSet::new();
        for number in 0..1_000_u16 {
            let mut hash = [0x5a; 32];
            hash[..2].copy_from_slice(&number.to_be_bytes());
            slots.insert(key_slot(&keys.response(&crate::policy::CacheKey(hash))));
        }
        assert!(slots.len() > 900, "{}", slots.len());
        assert_eq!(key_slot(&keys.index), key_slot("shop"));
    }
}
