//! A Redis stream: nothing in it is lost, whatever is restarted.

use ::larder::clock::Clock;

use super::{
    ALL, LIST, ONE, ROUTES, TWO, events_become, hits, missed, missed_becomes, source, source_becomes,
};
use crate::support::{Larder, Redis, Replica, Upstream, eventually};

const NOTHING: [&str; 0] = [];

/// Configuration of a larder that stores its responses and its stream position in `store`.
fn yaml(store: &Redis, stream: &Redis, more: &str) -> String {
    format!(
        "store: {{redis: \"{}\", max_lag: 0s, timeout: 5s}}\n{ROUTES}{}",
        store.url(),
        events(stream, more)
    )
}

fn events(stream: &Redis, more: &str) -> String {
    format!(
        "events:\n  - {{name: shop, stream: \"shop:changes\", redis: \"{}\", \
         purge: [products, \"product:{{event.json:/id}}\"]{more}}}\n",
        stream.url()
    )
}

async fn replica(store: &Redis, stream: &Redis, upstream: &Upstream) -> Replica {
    let replica = Replica::with(&yaml(store, stream, ""), upstream, Clock::system());
    replica.is_connected().await;
    replica
}

async fn changes(stream: &Redis, fields: &[&str]) -> String {
    stream.command(&[&["XADD", "shop:changes", "*"], fields].concat()).await
}

/// All of `ALL` is in Redis, and not only on its way there.
async fn is_filled(larder: &Larder, redis: &Redis) {
    hits(larder).await;
    redis.holds(ALL.len()).await;
    assert_eq!(hits(larder).await, ALL);
}

/// One that has read an event, of nothing that it stores, and has stored all since.
async fn replica_with_a_position(store: &Redis, stream: &Redis, upstream: &Upstream) -> Replica {
    let larder = replica(store, stream, upstream).await;
    source_becomes(&larder, "ok").await;
    changes(stream, &["id", "9"]).await;
    events_become(&larder, "stream", "named", 1.0).await;
    is_filled(&larder, store).await;
    larder
}

#[tokio::test]
async fn an_event_purges_what_it_names_and_the_rest_stays() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Larder::with(&format!("{ROUTES}{}", events(&redis, "")), &upstream);
    source_becomes(&larder, "ok").await;
    assert_eq!(hits(&larder).await, NOTHING);
    assert_eq!(hits(&larder).await, ALL);
    let id = changes(&redis, &["id", "1", "type", "updated"]).await;
    events_become(&larder, "stream", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    assert_eq!([LIST, ONE, TWO].map(|target| upstream.count(target)), [2, 2, 1]);
    eventually("the position", || async { (source(&larder).await["position"] == *id).then_some(()) }).await;
    let source = source(&larder).await;
    assert_eq!((&source["kind"], &source["events"]), (&"stream".into(), &1.into()));
    assert!(source["lastEvent"].as_str().is_some(), "{source}");
    let purges = larder.admin.get("/purges?limit=1").await.json();
    assert_eq!(
        (&purges["purges"][0]["source"], &purges["purges"][0]["from"]),
        (&"event".into(), &"shop".into())
    );
    assert_eq!(purges["purges"][0]["targets"], serde_json::json!(["tag products", "tag product:1"]));
}

#[tokio::test]
async fn events_during_a_restart_are_purged_afterwards() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = replica(&redis, &redis, &upstream).await;
    source_becomes(&larder, "ok").await;
    is_filled(&larder, &redis).await;
    larder.ends().await;
    changes(&redis, &["id", "1"]).await;
    let larder = replica(&redis, &redis, &upstream).await;
    events_become(&larder, "stream", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    assert_eq!(source(&larder).await["missed"], 0, "its position was known");
}

#[tokio::test]
async fn entries_that_went_unread_purge_all_that_they_could_name() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&redis, &redis, &upstream).await;
    larder.ends().await;
    for id in ["1", "8", "9"] {
        changes(&redis, &["id", id]).await;
    }
    redis.command(&["XTRIM", "shop:changes", "MAXLEN", "1"]).await;
    let larder = replica(&redis, &redis, &upstream).await;
    source_becomes(&larder, "ok").await;
    assert_eq!(hits(&larder).await, NOTHING);
    assert_eq!(source(&larder).await["missed"], 1);
}

#[tokio::test]
async fn a_lost_stream_purges_everything_and_starts_over() {
    let (store, mut stream, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&store, &stream, &upstream).await;
    stream.kill();
    source_becomes(&larder, "away").await;
    assert_eq!(larder.admin.get("/readyz").await.assert_status(200).json()["status"], "degraded");
    assert_eq!(hits(&larder).await, ALL, "nobody has said that anything changed");
    stream.restart().await;
    source_becomes(&larder, "ok").await;
    assert_eq!(hits(&larder).await, NOTHING);
    changes(&stream, &["id", "1"]).await;
    events_become(&larder, "stream", "named", 2.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
}

#[tokio::test]
async fn a_persistent_restart_loses_no_event_and_purges_no_more() {
    let store = Redis::start().await;
    let mut stream = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let upstream = Upstream::start();
    let larder = replica_with_a_position(&store, &stream, &upstream).await;
    let before = source(&larder).await["missed"].clone();
    stream.restart().await;
    changes(&stream, &["id", "1"]).await;
    events_become(&larder, "stream", "named", 2.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    assert_eq!(source(&larder).await["missed"], before);
}

#[tokio::test]
async fn an_unreadable_entry_purges_all_and_blocks_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Larder::with(&format!("{ROUTES}{}", events(&redis, ", field: data")), &upstream);
    source_becomes(&larder, "ok").await;
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(64 * 1024));
    for (data, meaning) in
        [("{\"id\":", "malformed"), (long.as_str(), "widened"), ("{}", "widened"), ("[[[[", "malformed")]
    {
        hits(&larder).await;
        let metric = format!("larder_events_total{{source=\"shop\",kind=\"stream\",meaning=\"{meaning}\"}}");
        let before = larder.metric(&metric).await;
        changes(&redis, &["data", data]).await;
        larder.metric_becomes(&metric, before + 1.0).await;
        assert_eq!(hits(&larder).await, NOTHING, "{data:.20}");
    }
    // An entry without the field, and one that has it twice.
    changes(&redis, &["other", "{\"id\": 1}"]).await;
    changes(&redis, &["data", "{\"id\": 1}", "data", "{\"id\": 2}"]).await;
    events_become(&larder, "stream", "malformed", 4.0).await;
    hits(&larder).await;
    changes(&redis, &["data", "{\"id\": 1}"]).await;
    events_become(&larder, "stream", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
}

#[tokio::test]
async fn an_event_about_something_else_purges_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let when = ", when: {/type: [updated, deleted]}";
    let larder = Larder::with(&format!("{ROUTES}{}", events(&redis, when)), &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    changes(&redis, &["id", "1", "type", "read"]).await;
    events_become(&larder, "stream", "ignored", 1.0).await;
    assert_eq!(hits(&larder).await, ALL);
    changes(&redis, &["id", "1", "type", "deleted"]).await;
    events_become(&larder, "stream", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
}

#[tokio::test]
async fn one_replica_reads_and_another_takes_over() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = replica(&redis, &redis, &upstream).await;
    source_becomes(&one, "ok").await;
    let other = replica(&redis, &redis, &upstream).await;
    source_becomes(&other, "standby").await;
    is_filled(&one, &redis).await;
    assert_eq!(hits(&other).await, ALL);
    changes(&redis, &["id", "1"]).await;
    events_become(&one, "stream", "named", 1.0).await;
    assert_eq!(hits(&other).await, [TWO]);
    one.ends().await;
    changes(&redis, &["id", "2"]).await;
    events_become(&other, "stream", "named", 1.0).await;
    assert_eq!(hits(&other).await, [ONE]);
    assert_eq!(source(&other).await["missed"], 0);
}

#[tokio::test]
async fn a_reader_that_died_is_replaced_when_its_turn_is_over() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let before = replica(&redis, &redis, &upstream).await;
    source_becomes(&before, "ok").await;
    before.ends().await;
    let now: u64 = redis.command(&["TIME"]).await.lines().next().unwrap().parse().unwrap();
    let (key, until) = (state_key(&redis).await, (now * 1000 + 2500).to_string());
    redis.command(&["HSET", &key, "reader", "dead", "until", &until, "position", "0-0"]).await;
    let larder = replica(&redis, &redis, &upstream).await;
    source_becomes(&larder, "standby").await;
    source_becomes(&larder, "ok").await;
    changes(&redis, &["id", "1"]).await;
    events_become(&larder, "stream", "named", 1.0).await;
}

/// The key of what the replicas share about the stream.
async fn state_key(redis: &Redis) -> String {
    eventually("a key", async || {
        let keys = redis.command(&["KEYS", "{larder}:events:shop:*"]).await;
        keys.lines().next().filter(|key| !key.is_empty()).map(str::to_owned)
    })
    .await
}

async fn recorded_position(redis: &Redis) -> String {
    redis.command(&["HGET", &state_key(redis).await, "position"]).await.trim().to_owned()
}

#[tokio::test]
async fn a_purge_that_waits_is_done_by_the_next_reader() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let often = yaml(&redis, &redis, "").replace("[products,", "[{tag: products, at_most_every: 3s},");
    let larder = Replica::with(&often, &upstream, Clock::system());
    larder.is_connected().await;
    source_becomes(&larder, "ok").await;
    // The second purge of `products` waits, and the third event names nothing else.
    let mut entries = Vec::new();
    for id in ["7", "8", "9"] {
        entries.push(changes(&redis, &["id", id]).await.trim().to_owned());
        events_become(&larder, "stream", "named", entries.len() as f64).await;
    }
    assert_ne!(recorded_position(&redis).await, entries[2]);
    eventually("the position", async || (recorded_position(&redis).await == entries[2]).then_some(())).await;
}

#[tokio::test]
async fn time_without_a_replica_counts_as_silence() {
    let (store, mut stream, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let yaml = yaml(&store, &stream, ", stale_after: 10m");
    let larder = Replica::with(&yaml, &upstream, Clock::system());
    larder.is_connected().await;
    source_becomes(&larder, "ok").await;
    larder.ends().await;
    stream.kill();
    let is_silent = "larder_event_source_silent{source=\"shop\",kind=\"stream\"}";
    for (seconds_ago, silent) in [(300, 0.0), (660, 1.0)] {
        let now =
            store.command(&["TIME"]).await.lines().next().expect("seconds").parse::<u64>().expect("seconds");
        let heard = ((now - seconds_ago) * 1000).to_string();
        store.command(&["HSET", &state_key(&store).await, "contact", &heard]).await;
        let larder = Replica::with(&yaml, &upstream, Clock::system());
        larder.is_connected().await;
        source_becomes(&larder, "away").await;
        larder.metric_becomes(is_silent, silent).await;
        larder.ends().await;
    }
}

/// During a rolling deployment a replica may still have a mapping that ignores what the new one purges by.
#[tokio::test]
async fn a_stream_is_read_for_each_mapping_by_itself() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let when = |kinds: &str| yaml(&redis, &redis, &format!(", when: {{/kind: {kinds}}}"));
    let one = Replica::with(&when("[moved]"), &upstream, Clock::system());
    one.is_connected().await;
    source_becomes(&one, "ok").await;
    let other = Replica::with(&when("[moved, sold]"), &upstream, Clock::system());
    other.is_connected().await;
    source_becomes(&other, "ok").await;
    is_filled(&other, &redis).await;
    changes(&redis, &["id", "1", "kind", "sold"]).await;
    events_become(&one, "stream", "ignored", 1.0).await;
    events_become(&other, "stream", "named", 1.0).await;
    assert_eq!(hits(&other).await, [TWO]);
}

#[tokio::test]
async fn from_the_beginning_all_that_the_stream_holds_is_purged() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    changes(&redis, &["id", "1"]).await;
    changes(&redis, &["id", "2"]).await;
    let yaml = yaml(&redis, &redis, ", from: beginning");
    let larder = Replica::with(&yaml, &upstream, Clock::system());
    events_become(&larder, "stream", "named", 2.0).await;
    assert_eq!(source(&larder).await["missed"], 0);
}

/// A purge that the store did not take keeps the position where it was.
#[tokio::test]
async fn an_event_during_an_outage_is_purged_afterwards() {
    let (mut store, stream, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let larder = replica(&store, &stream, &upstream).await;
    source_becomes(&larder, "ok").await;
    store.kill();
    larder.is_cut_off().await;
    changes(&stream, &["id", "1"]).await;
    source_becomes(&larder, "away").await;
    store.restart().await;
    larder.is_connected().await;
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    changes(&stream, &["id", "2"]).await;
    eventually("the last one is purged", || async {
        let position = source(&larder).await["position"].as_str().map(str::to_owned);
        let last = stream.command(&["XREVRANGE", "shop:changes", "+", "-", "COUNT", "1"]).await;
        position.filter(|position| last.starts_with(position.as_str()))
    })
    .await;
    events_become(&larder, "stream", "named", 2.0).await;
}

/// Fills the store with all of `ALL`, through a larder without the stream.
async fn filled(store: &Redis, upstream: &Upstream) {
    let yaml = format!("store: {{redis: \"{}\", max_lag: 0s, timeout: 5s}}\n{ROUTES}", store.url());
    let larder = Replica::with(&yaml.replace("]}", "], purged_by: admin}"), upstream, Clock::system());
    larder.is_connected().await;
    is_filled(&larder, store).await;
    larder.ends().await;
}

#[tokio::test]
async fn the_first_read_of_a_stream_purges_all_it_could_name() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    filled(&redis, &upstream).await;
    changes(&redis, &["id", "1"]).await;
    let larder = replica(&redis, &redis, &upstream).await;
    source_becomes(&larder, "ok").await;
    assert_eq!(source(&larder).await["missed"], 1);
    assert_eq!(hits(&larder).await, NOTHING);
}

#[tokio::test]
async fn a_beginning_that_is_there_no_more_may_have_said_anything() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    filled(&redis, &upstream).await;
    for id in ["1", "8", "9"] {
        changes(&redis, &["id", id]).await;
    }
    redis.command(&["XTRIM", "shop:changes", "MAXLEN", "1"]).await;
    let yaml = yaml(&redis, &redis, ", from: beginning");
    let larder = Replica::with(&yaml, &upstream, Clock::system());
    missed_becomes(&larder, 1).await;
    assert_eq!(hits(&larder).await, NOTHING);
}

/// The reader waits behind an entry; that, and the next one, go before it has read again.
#[tokio::test]
async fn entries_trimmed_before_they_are_read_purge_all() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&redis, &redis, &upstream).await;
    let before = missed(&larder).await;
    let at_once = "redis.call('XADD', KEYS[1], '*', 'id', '1'); redis.call('XADD', KEYS[1], '*', 'id', '9'); \
                   return redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)";
    redis.command(&["EVAL", at_once, "1", "shop:changes"]).await;
    missed_becomes(&larder, before + 1).await;
    assert_eq!(hits(&larder).await, NOTHING);
}

/// A worker deletes what it has done; larder had not read it yet.
#[tokio::test]
async fn an_event_that_was_deleted_unread_counts_as_missed() {
    let (store, stream, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&store, &stream, &upstream).await;
    let before = missed(&larder).await;
    let deletes = "local id = redis.call('XADD', KEYS[1], '*', 'id', '1'); redis.call('XDEL', KEYS[1], id); \
                   redis.call('XADD', KEYS[1], '*', 'id', '9') return 'OK'";
    assert_eq!(stream.command(&["EVAL", deletes, "1", "shop:changes"]).await, "OK");
    missed_becomes(&larder, before + 1).await;
    assert_eq!(hits(&larder).await, NOTHING);
}

/// The newest entry is gone before it was read, and none follows.
#[tokio::test]
async fn an_event_that_was_deleted_as_the_last_one_counts_as_missed() {
    let (store, stream, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&store, &stream, &upstream).await;
    let before = missed(&larder).await;
    let deletes = "redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '*', 'id', '1')) return 'OK'";
    assert_eq!(stream.command(&["EVAL", deletes, "1", "shop:changes"]).await, "OK");
    eventually("it is missed", || async { (missed(&larder).await > before).then_some(()) }).await;
    assert_eq!(hits(&larder).await, NOTHING);
    changes(&stream, &["id", "1"]).await;
    events_become(&larder, "stream", "named", 2.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    assert_eq!(missed(&larder).await, before + 1, "once");
}

/// A worker keeps the stream short by deleting what it has done. larder had read it.
#[tokio::test]
async fn an_event_that_was_deleted_after_it_was_read_costs_nothing() {
    let (store, stream, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&store, &stream, &upstream).await;
    let before = source(&larder).await["missed"].clone();
    for (number, id) in ["1", "8", "9"].into_iter().enumerate() {
        let entry = changes(&stream, &["id", id]).await;
        events_become(&larder, "stream", "named", 2.0 + number as f64).await;
        eventually("it is read", || async { (source(&larder).await["position"] == *entry).then_some(()) })
            .await;
        stream.command(&["XDEL", "shop:changes", &entry]).await;
    }
    assert_eq!(source(&larder).await["missed"], before);
}

/// Adds so many events in one step each, and deletes all that larder has read by then. Deletes one unread, if so asked.
async fn work(redis: &Redis, count: usize, deletes_unread: bool) {
    const STEP: &str = "
        local read = redis.call('HGET', KEYS[2], 'position')
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', read)) do redis.call('XDEL', KEYS[1], entry[1]) end
        local ids = {}
        for number = 1, 1 + ARGV[1] % 3 do ids[number] = redis.call('XADD', KEYS[1], '*', 'id', '9') end
        if ARGV[2] == 'true' then redis.call('XDEL', KEYS[1], ids[1]) end
        return #ids";
    let (state, deletes_unread) = (state_key(redis).await, deletes_unread.to_string());
    for number in 0..count {
        let number = number.to_string();
        redis.command(&["EVAL", STEP, "2", "shop:changes", &state, &number, &deletes_unread]).await;
    }
}

/// It reads while others add and delete: one step of theirs comes between any two of its own.
#[tokio::test]
async fn a_busy_worker_that_deletes_what_was_read_costs_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&redis, &redis, &upstream).await;
    let before = missed(&larder).await;
    work(&redis, 1500, false).await;
    events_become(&larder, "stream", "named", 3001.0).await;
    assert_eq!(missed(&larder).await, before);
    assert_eq!(hits(&larder).await, [ONE, TWO], "the list is in each event");
    // One that goes unread among them.
    tokio::join!(work(&redis, 100, false), work(&redis, 1, true));
    eventually("it is missed", || async { (missed(&larder).await > before).then_some(()) }).await;
    work(&redis, 100, false).await;
    let last = changes(&redis, &["id", "1"]).await;
    eventually("all is read", || async { (source(&larder).await["position"] == *last).then_some(()) }).await;
    assert_eq!(missed(&larder).await, before + 1, "once");
}

/// Another replica goes on where the first has ended, although the entry there is gone.
#[tokio::test]
async fn a_restart_behind_a_deleted_entry_misses_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = replica_with_a_position(&redis, &redis, &upstream).await;
    let last = changes(&redis, &["id", "9"]).await;
    eventually("its position", || async { (recorded_position(&redis).await == last.trim()).then_some(()) })
        .await;
    larder.ends().await;
    redis.command(&["XTRIM", "shop:changes", "MAXLEN", "0"]).await;
    changes(&redis, &["id", "1"]).await;
    let larder = replica(&redis, &redis, &upstream).await;
    events_become(&larder, "stream", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    assert_eq!(source(&larder).await["missed"], 0);
}

/// Other events need a restart. Until then the former ones name tags that nothing stored has any more.
#[tokio::test]
async fn a_reload_that_renames_tags_of_events_misses_none() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = |tag: &str| yaml(&redis, &redis, "").replace("product:", &format!("{tag}:"));
    let larder = Replica::with(&yaml("product"), &upstream, Clock::system());
    larder.is_connected().await;
    source_becomes(&larder, "ok").await;
    larder.reconfigure(&yaml("item")).await;
    is_filled(&larder, &redis).await;
    changes(&redis, &["id", "1"]).await;
    events_become(&larder, "stream", "named", 1.0).await;
    assert_eq!(hits(&larder).await, NOTHING, "all that is stored under the new rules");
    // Back to those that the events belong to.
    larder.reconfigure(&yaml("product")).await;
    is_filled(&larder, &redis).await;
    changes(&redis, &["id", "1"]).await;
    events_become(&larder, "stream", "named", 2.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
}
