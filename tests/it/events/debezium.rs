//! The entries of a Redis stream that Debezium Server writes, as in `docs/events.md`.

use super::{ALL, ROUTES, TWO, events_become, hits, source_becomes};
use crate::support::{Larder, Redis, Upstream};

/// Debezium Server's sink writes such entries with `message.format=extended`, for PostgreSQL and for MySQL.
#[tokio::test]
async fn rows_that_debezium_names_in_an_entry_are_purged() {
    const KEY: &str = r#"{"id":1}"#;
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let row = "{event.json:$['before','after'].id}";
    let events = format!(
        "events: [{{name: shop, stream: shop.public.products, redis: \"{}\", field: value, purge: [products, \"product:{row}\"]}}]\n",
        redis.url()
    );
    let larder = Larder::with(&format!("{ROUTES}{events}"), &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    for (number, value) in [
        // pgoutput, REPLICA IDENTITY DEFAULT
        r#"{"before":null,"after":{"id":1,"name":"Cup","price":"9.50"},"source":{"version":"3.2.0.Final","connector":"postgresql","name":"shop","ts_ms":1763640000123,"snapshot":"false","db":"shop","sequence":"[\"26925696\",\"26925752\"]","ts_us":1763640000123456,"ts_ns":1763640000123456000,"schema":"public","table":"products","txId":758,"lsn":26925752,"xmin":null},"transaction":null,"op":"u","ts_ms":1763640000321,"ts_us":1763640000321654,"ts_ns":1763640000321654321}"#,
        r#"{"before":{"id":1,"name":null,"price":null},"after":null,"source":{"version":"3.2.0.Final","connector":"postgresql","name":"shop","ts_ms":1763640001123,"snapshot":"false","db":"shop","sequence":"[\"26925752\",\"26925896\"]","ts_us":1763640001123456,"ts_ns":1763640001123456000,"schema":"public","table":"products","txId":759,"lsn":26925896,"xmin":null},"transaction":null,"op":"d","ts_ms":1763640001321,"ts_us":1763640001321654,"ts_ns":1763640001321654321}"#,
        // row-based binary log
        r#"{"before":{"id":1,"name":"Cup","price":"9.50"},"after":{"id":1,"name":"Cup","price":"9.00"},"source":{"version":"3.2.0.Final","connector":"mysql","name":"shop","ts_ms":1763640002000,"snapshot":"false","db":"shop","sequence":null,"ts_us":1763640002000000,"ts_ns":1763640002000000000,"table":"products","server_id":223344,"gtid":null,"file":"mysql-bin.000003","pos":484,"row":0,"thread":7,"query":null},"transaction":null,"op":"u","ts_ms":1763640002321,"ts_us":1763640002321654,"ts_ns":1763640002321654321}"#,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(hits(&larder).await, ALL);
        redis.command(&["XADD", "shop.public.products", "*", "key", KEY, "value", value]).await;
        events_become(&larder, "stream", "named", (number + 1) as f64).await;
        assert_eq!(hits(&larder).await, [TWO], "{value}");
    }
}
