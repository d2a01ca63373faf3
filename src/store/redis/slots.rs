//! Which node of a cluster has which slots, as one of them tells it. Pure.

use std::collections::HashMap;

use super::scripts::Part;
use crate::config::RedisHost;

pub const SLOTS: usize = 16_384;

/// Owners of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    pub owners: Vec<RedisHost>,
    /// By slot: which of the owners, or [`NOBODY`].
    by_slot: Vec<u16>,
}

const NOBODY: u16 = u16::MAX;

pub fn slot_of(key: &str) -> u16 {
    fred::util::redis_keyslot(key.as_bytes())
}

impl Slots {
    /// The reply of CLUSTER SLOTS: for each range its first and last slot, its owner, and its replicas. `told_by` is
    /// meant where no host is named. `None` if nobody owns anything, or if it is not such a reply.
    pub fn told(reply: &Part, told_by: &RedisHost) -> Option<Self> {
        let Part::List(ranges) = reply else { return None };
        let mut slots = Slots { owners: Vec::new(), by_slot: vec![NOBODY; SLOTS] };
        let mut numbers: HashMap<RedisHost, u16> = HashMap::new();
        for range in ranges {
            let Part::List(range) = range else { return None };
            let [first, last, owner, ..] = range.as_slice() else { return None };
            let (first, last) = (first.number()?, last.number()?);
            let owner = host(owner, told_by)?;
            let number = *numbers.entry(owner.clone()).or_insert_with(|| {
                slots.owners.push(owner);
                // There are no more owners than slots.
                u16::try_from(slots.owners.len() - 1).unwrap_or(NOBODY)
            });
            let range = usize::try_from(first).ok()?..=usize::try_from(last).ok()?;
            slots.by_slot.get_mut(range)?.fill(number);
        }
        (!slots.owners.is_empty()).then_some(slots)
    }

    pub fn is_whole(&self) -> bool {
        !self.by_slot.contains(&NOBODY)
    }

    /// Which of [`Slots::owners`].
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let number = *self.by_slot.get(usize::from(slot))?;
        (number != NOBODY).then_some(usize::from(number))
    }
}

/// `[host, port, …]`; no host, or an empty one, is that of the node that tells it.
fn host(node: &Part, told_by: &RedisHost) -> Option<RedisHost> {
    let Part::List(node) = node else { return None };
    let [host, port, ..] = node.as_slice() else { return None };
    let host = match host.text() {
        // Of a node whose name is not known the cluster says so.
        Some("?") => return None,
        Some(host) if !host.is_empty() => host,
        _ => &told_by.host,
    };
    Some(RedisHost { host: host.to_owned(), port: u16::try_from(port.number()?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Part {
        Part::Bytes(bytes::Bytes::from_static(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: Part, port: i64) -> Part {
        let replica = Part::List(vec![text("10.0.0.9"), Part::Number(6379), text("id")]);
        let owner = Part::List(vec![host, Part::Number(port), text("id"), Part::List(vec![])]);
        Part::List(vec![Part::Number(first), Part::Number(last), owner, replica])
    }

    fn at(host: &str, port: u16) -> RedisHost {
        RedisHost { host: host.to_owned(), port }
    }

    #[test]
    fn every_slot_has_the_owner_that_was_told() {
        let reply = Part::List(vec![
            range(0, 99, text("10.0.0.1"), 6379),
            range(100, 16_000, text("redis-2"), 6380),
            range(16_001, 16_001, text("10.0.0.1"), 6379),
            range(16_383, 16_383, Part::Nothing, 6381),
        ]);
        let slots = Slots::told(&reply, &at("10.0.0.7", 1)).unwrap();
        assert_eq!(slots.owners, [at("10.0.0.1", 6379), at("redis-2", 6380), at("10.0.0.7", 6381)]);
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
        assert!(!slots.is_whole());
        let all = Part::List(vec![range(0, 16_383, text("10.0.0.1"), 6379)]);
        assert!(Slots::told(&all, &at("10.0.0.7", 1)).unwrap().is_whole());
    }

    #[test]
    fn what_is_no_map_is_none() {
        let told_by = at("10.0.0.7", 1);
        for reply in [
            Part::Nothing,
            text("ERR"),
            Part::List(vec![]),
            Part::List(vec![text("x")]),
            Part::List(vec![range(0, 16_384, text("a"), 1)]),
            Part::List(vec![range(-1, 5, text("a"), 1)]),
            Part::List(vec![range(7, 5, text("a"), 1)]),
            Part::List(vec![range(0, 5, text("a"), 70_000)]),
            Part::List(vec![range(0, 5, text("?"), 1)]),
            Part::List(vec![Part::List(vec![Part::Number(0), Part::Number(1), text("a")])]),
        ] {
            assert_eq!(Slots::told(&reply, &told_by), None, "{reply:?}");
        }
    }

    /// The index has a hash tag; responses have none, and are spread.
    #[test]
    fn responses_are_spread_over_the_slots() {
        let keys = super::super::Keys::new("shop");
        let mut slots = std::collections::HashSet::new();
        for number in 0..1_000_u16 {
            let mut hash = [0x5a; 32];
            hash[..2].copy_from_slice(&number.to_be_bytes());
            slots.insert(slot_of(&keys.response(&crate::policy::CacheKey(hash))));
        }
        assert!(slots.len() > 900, "{}", slots.len());
        assert_eq!(slot_of(&keys.index), slot_of("shop"));
    }
}
