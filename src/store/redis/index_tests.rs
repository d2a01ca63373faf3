//! A purge between two indexes.

use super::*;
use crate::clock::Timestamp;
use crate::config::{RedisHost, RedisServers, RedisSettings};
use crate::purge::{Purge, PurgeMode, SyncReply, TargetId, Validity};
use crate::store::redis::SentinelTrust;

const SECOND: Duration = Duration::from_secs(1);

/// An index on a server that does not exist.
fn index() -> RedisIndex {
    let nobody = RedisHost { host: "127.0.0.1".to_owned(), port: 1 };
    let settings = RedisSettings {
        servers: RedisServers::One(nobody),
        database: 0,
        username: None,
        password: None,
        credentials: None,
        tls: None,
    };
    let keys = KeyNames::new("shop");
    let servers = Servers::connect(&settings, &keys, SECOND, SentinelTrust::Any).unwrap();
    let membership = Membership::new("one".to_owned(), SECOND, Timestamp::default()).unwrap();
    RedisIndex::new(servers, keys, membership, IndexBounds::default(), Clock::system(), SECOND, SECOND)
}

fn told(epoch: u128, version: u64, sent_at: Moment) -> ScriptReply {
    let sync = SyncReply {
        epoch: Epoch(epoch),
        base: PurgeVersion::default(),
        high_water: PurgeVersion(version),
        is_complete: true,
        changes: Vec::new(),
        server_time: Timestamp::from_micros(version),
        sent_at,
        is_member: true,
    };
    ScriptReply { sync, version: PurgeVersion(version), epoch_began: Timestamp::default() }
}

#[tokio::test]
async fn a_purge_of_a_former_epoch_is_not_acknowledged() {
    let (index, began) = (index(), Moment::now());
    let ids = [Target::tag("a").id()];
    index.apply(&told(1, 10, began));
    // The reply comes when the view has gone on to the next index.
    let late = told(1, 11, began.plus(SECOND));
    index.apply(&told(2, 20, began.plus(2 * SECOND)));
    let taken = index.apply_purge(&ids, PurgeMode::Hard, Duration::ZERO, &late);
    assert_eq!(taken, Err(RedisError::IndexReplaced));
}

/// The reply to a purge by former rules is one page of many, without the purge itself.
#[tokio::test]
async fn a_purge_by_former_rules_holds_here_at_once() {
    let (index, began) = (index(), Moment::now());
    let [former, present] = ["former", "present"].map(TargetId::hash_rules);
    index.apply(&told(1, 10, began));
    index.view.set_rules(present);
    let read = index.view.read().read_version();
    let stored = [Target::tag("new name").id(), present];
    let purge = Purge { rules: Some(former), ..Purge::hard(vec![Target::tag("a")]) };
    let mut page = told(1, 11, began);
    (page.sync.is_complete, page.version) = (false, PurgeVersion(5000));
    assert_eq!(index.view.check_validity(&read, &stored), Validity::Valid);
    assert_eq!(index.apply_purge(&purge.ids(), PurgeMode::Hard, Duration::ZERO, &page), Ok(()));
    assert_eq!(index.view.check_validity(&read, &stored), Validity::Dead);
}

/// It waits for Redis while the rules change twice.
#[tokio::test]
async fn a_purge_that_waits_reaches_all_rules_but_its_own() {
    let (index, began) = (index(), Moment::now());
    let rules = ["first", "second", "third"].map(TargetId::hash_rules);
    index.apply(&told(1, 10, began));
    index.view.set_rules(rules[0]);
    let read = index.view.read().read_version();
    let purge = Purge { rules: Some(rules[0]), ..Purge::hard(vec![Target::tag("a")]) };
    assert!(index.purge(&purge).await.is_err(), "there is no server");
    for used in &rules[1..] {
        index.view.set_rules(*used);
        let stored = [Target::tag("new name").id(), *used];
        assert_eq!(index.view.check_validity(&read, &stored), Validity::Dead);
    }
    let waiting = index.journals[0].take().expect("it waits");
    assert_eq!(waiting.targets, purge.ids());
}

#[tokio::test]
async fn purges_of_a_former_epoch_are_replayed_in_the_next() {
    let (index, began) = (index(), Moment::now());
    let ids = [Target::tag("a").id()];
    index.apply(&told(1, 10, began));
    assert_eq!(index.apply_purge(&ids, PurgeMode::Hard, Duration::ZERO, &told(1, 11, began)), Ok(()));
    index.apply(&told(2, 20, began.plus(SECOND)));
    let stamp = index.view.read().read_version();
    assert_eq!(index.view.check_validity(&stamp, &ids), Validity::Dead);
    assert_eq!(index.pending_targets(), 1);
}
