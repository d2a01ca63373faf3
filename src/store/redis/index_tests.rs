//! A purge between two indexes.

use super::*;
use crate::clock::Timestamp;
use crate::config::{RedisHost, RedisServers, RedisSettings};
use crate::purge::{PurgeMode, SyncReply, Validity};
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
        rules: None,
        sent_at,
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
