//! A purge between two indexes.

use super::*;
use crate::config::{RedisHost, RedisServers, RedisSettings};
use crate::purge::Validity;

const SECOND: Duration = Duration::from_secs(1);

/// Of a server that is not there.
fn index() -> RedisIndex {
    let nobody = RedisHost { host: "127.0.0.1".to_owned(), port: 1 };
    let settings = RedisSettings {
        servers: RedisServers::One(nobody),
        database: 0,
        username: None,
        password: None,
        tls: None,
    };
    let keys = Keys::new("shop");
    let servers = Servers::connect(&settings, &keys, SECOND).unwrap();
    let beat = Beat::new("one".to_owned(), SECOND);
    RedisIndex::new(servers, keys, beat, Bounds::default(), Clock::system(), SECOND, SECOND)
}

fn told(incarnation: u128, position: u64, asked_at: Moment) -> Told {
    let confirmation = Confirmation {
        incarnation: Incarnation(incarnation),
        after: Position::default(),
        high_water: Position(position),
        is_whole: true,
        changes: Vec::new(),
        now: Timestamp::from_micros(position),
        asked_at,
    };
    Told { confirmation, position: Position(position) }
}

#[tokio::test]
async fn a_purge_that_only_an_index_of_the_past_has_is_not_acknowledged() {
    let (index, began) = (index(), Moment::now());
    let ids = [Target::tag("a").id()];
    index.learn(&told(1, 10, began).confirmation);
    // The reply comes when the view has gone on to the next index.
    let late = told(1, 11, began.plus(SECOND));
    index.learn(&told(2, 20, began.plus(2 * SECOND)).confirmation);
    let taken = index.taken(&ids, Hardness::Hard, Duration::ZERO, &late);
    assert_eq!(taken, Err(Failure::Replaced));
}

#[tokio::test]
async fn what_the_index_before_took_holds_under_the_next_and_waits_for_it() {
    let (index, began) = (index(), Moment::now());
    let ids = [Target::tag("a").id()];
    index.learn(&told(1, 10, began).confirmation);
    assert_eq!(index.taken(&ids, Hardness::Hard, Duration::ZERO, &told(1, 11, began)), Ok(()));
    index.learn(&told(2, 20, began.plus(SECOND)).confirmation);
    let stamp = index.view.read().stamp();
    assert_eq!(index.view.judge(&stamp, &ids), Validity::Dead);
    assert_eq!(index.waiting(), 1);
}
