//! `config/catalogue.yaml`: three ways to keep answers right, side by side.

use serde_json::{Value, json};

use super::{Case, NOTHING, SampleApi, bucket};
use crate::support::{Redis, eventually};

const PRODUCTS: &str = "/api/catalog/products";
const PRODUCT_1: &str = "/api/catalog/products/1";
const PRODUCT_2: &str = "/api/catalog/products/2";
const IN_JAPAN: &str = "/api/catalog/accounts/acc_001/products?region=jp";
const IN_FRANCE: &str = "/api/catalog/accounts/acc_001/products?region=fr";
const STOCK_1: &str = "/api/stock/1";
const STOCK_2: &str = "/api/stock/2";
const ORDERS_OF_ANN: &str = "ann /api/orders";
const ORDER_5_OF_ANN: &str = "ann /api/orders/5";
const ORDER_6_OF_BEN: &str = "ben /api/orders/6";
const ALL: [&str; 10] = [
    PRODUCTS,
    PRODUCT_1,
    PRODUCT_2,
    IN_JAPAN,
    IN_FRANCE,
    STOCK_1,
    STOCK_2,
    ORDERS_OF_ANN,
    ORDER_5_OF_ANN,
    ORDER_6_OF_BEN,
];

const DAY: u64 = 24 * 60 * 60;

pub fn catalogue() -> Case {
    hearing("redis://127.0.0.1:1/0")
}

pub fn api() -> SampleApi {
    SampleApi::start()
        .answers("/api/catalog/products", &["products"])
        .answers("/api/catalog/products/1", &["product 1"])
        .answers("/api/catalog/products/2", &["product 2"])
        .answers("/api/catalog/accounts/acc_001/products", &["products", "prices in {region}"])
        .lists(PRODUCTS, ("products", &[("1", "product 1"), ("2", "product 2")]))
        .lists(IN_JAPAN, ("products", &[("1", "product 1")]))
        .lists(IN_FRANCE, ("products", &[("2", "product 2")]))
        .answers("/api/stock/1", &["stock", "product 1"])
        .answers("/api/stock/2", &["stock", "product 2"])
        .answers("/api/orders", &["orders of {user}"])
        .answers("/api/orders/5", &["orders of {user}"])
        .answers("/api/orders/6", &["orders of {user}"])
        .changes("POST /api/catalog/products", &["products"])
        .changes("PUT /api/catalog/products/1", &["product 1"])
        .changes("PATCH /api/catalog/products/1", &["product 1"])
        .changes("DELETE /api/catalog/products/2", &["product 2"])
        .changes("POST /api/orders", &["stock", "orders of {user}"])
        .changes("PUT /api/orders/5", &["stock", "orders of {user}"])
        .changes("DELETE /api/orders/5", &["stock", "orders of {user}"])
        .changes("POST /api/events/products/1", &[])
}

/// With the changes that are announced in this Redis.
fn hearing(redis: &str) -> Case {
    let api = api();
    let environment = [("SHOP_API", &*api.upstream.url()), ("SHOP_REDIS", redis)];
    Case::with_environment("config/catalogue.yaml", &environment, api)
}

impl Case {
    /// Reads as a client, whether the answer is current or not.
    async fn told(&self, read: &str) -> Value {
        self.send(read).await.assert_status(200).json()["facts"].take()
    }
}

#[tokio::test]
async fn the_catalogue_is_kept_until_a_change_purges_it() {
    let case = catalogue();
    let catalogue = [PRODUCTS, PRODUCT_1, PRODUCT_2, IN_JAPAN, IN_FRANCE];
    case.asked(&catalogue).await;
    // Untouched entries expire after a week, not before.
    case.larder.after(7 * DAY - 1);
    assert_eq!(case.asked(&catalogue).await, NOTHING);
    case.larder.after(1);
    assert_eq!(case.asked(&catalogue).await, catalogue);
}

#[tokio::test]
async fn stock_is_kept_for_60_seconds_and_an_order_for_90() {
    let case = catalogue();
    case.is_kept_for(60, STOCK_1).await;
    case.is_kept_for(90, ORDERS_OF_ANN).await;
    case.is_kept_for(90, ORDER_5_OF_ANN).await;
}

#[tokio::test]
async fn the_three_modes_differ_in_seeing_outside_changes() {
    let case = catalogue();
    case.asked(&ALL).await;
    for fact in ["product 1", "stock", "orders of ann"] {
        case.api.changed_unseen(fact);
    }
    // Up to 60 s and up to 90 s nobody knows.
    case.larder.after(59);
    assert_eq!(case.told(STOCK_2).await["stock"], 0);
    case.larder.after(1);
    assert_eq!(case.told(STOCK_2).await["stock"], 1);
    case.larder.after(29);
    assert_eq!(case.told(ORDERS_OF_ANN).await["orders of ann"], 0);
    case.larder.after(1);
    assert_eq!(case.told(ORDERS_OF_ANN).await["orders of ann"], 1);
    // Entries kept until purged need an announcement.
    case.larder.after(DAY);
    assert_eq!(case.told(PRODUCT_1).await["product 1"], 0);
    case.write("POST /api/events/products/1").await;
    assert_eq!(case.told(PRODUCT_1).await["product 1"], 1);
}

#[tokio::test]
async fn a_write_or_an_announced_change_purges_what_it_names() {
    let case = catalogue();
    let lists = [PRODUCTS, IN_JAPAN, IN_FRANCE];
    // Without a word on regions it may be in any list, and the route's other products go with it.
    let products = [PRODUCTS, PRODUCT_1, PRODUCT_2, IN_JAPAN, IN_FRANCE];
    let and_stock = |stock| [&products[..], &[stock]].concat();
    let (of_products_and_1, of_products_and_2) = (and_stock(STOCK_1), and_stock(STOCK_2));
    let of_product_1 = [PRODUCTS, PRODUCT_1, IN_JAPAN, IN_FRANCE, STOCK_1];
    case.purge_exactly(
        &ALL,
        &[
            ("PUT /api/catalog/products/1", &of_products_and_1),
            ("PATCH /api/catalog/products/1", &of_products_and_1),
            ("DELETE /api/catalog/products/2", &of_products_and_2),
            ("POST /api/catalog/products", &lists),
            ("POST /api/events/products/1", &of_product_1),
            ("ann POST /api/orders", &[STOCK_1, STOCK_2, ORDERS_OF_ANN, ORDER_5_OF_ANN]),
            ("ann PUT /api/orders/5", &[STOCK_1, STOCK_2, ORDERS_OF_ANN, ORDER_5_OF_ANN]),
            ("ann DELETE /api/orders/5", &[STOCK_1, STOCK_2, ORDERS_OF_ANN, ORDER_5_OF_ANN]),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_product_change_purges_only_lists_that_contain_it() {
    let case = catalogue();
    case.asked(&ALL).await;
    let of_product_1 = [PRODUCTS, PRODUCT_1, IN_JAPAN, STOCK_1];
    for change in ["PUT /api/catalog/products/1", "POST /api/events/products/1"] {
        assert_eq!(case.asked(&ALL).await, NOTHING);
        let is_event = change.starts_with("POST");
        let changed: &[&str] = if is_event { &["product 1"] } else { &[] };
        case.tell(change, &json!({"regions": ["jp"]}), changed).await;
        assert_eq!(case.asked(&ALL).await, of_product_1, "after {change}");
    }
    // It is sold in France from now on: a list that it was not in yet.
    case.tell("PATCH /api/catalog/products/1", &json!({"regions": ["jp", "fr"]}), &["prices in fr"]).await;
    assert_eq!(case.asked(&ALL).await, [PRODUCTS, PRODUCT_1, IN_JAPAN, IN_FRANCE, STOCK_1]);
    // A product in no list and in no region purges itself alone.
    case.tell("POST /api/events/products/1", &json!({"regions": ["us"]}), &["product 1"]).await;
    assert_eq!(case.asked(&ALL).await, of_product_1);
    assert_eq!(case.larder.metric("larder_widened_total").await, 0.0);
    let catalogue = case.bucket("catalog").await;
    assert_eq!((catalogue.hits, catalogue.misses), (10 + 2 + 2 + 1 + 2, 5 + 3 + 3 + 4 + 3));
    assert_eq!(case.api.upstream.total(), 10 + 4 * 4 + 1 + 4);
}

#[tokio::test]
async fn a_feed_purges_many_products_at_once() {
    let case = catalogue();
    case.asked(&ALL).await;
    case.purge(r#"{"tags": ["product:1", "product:2", "catalog:products"]}"#).await;
    assert_eq!(
        case.asked(&ALL).await,
        [PRODUCTS, PRODUCT_1, PRODUCT_2, IN_JAPAN, IN_FRANCE, STOCK_1, STOCK_2]
    );
    case.operate("DELETE /cache/tags/account:acc_001").await;
    assert_eq!(case.asked(&ALL).await, [IN_JAPAN, IN_FRANCE]);
    case.operate("DELETE /cache/tags/order:5").await;
    assert_eq!(case.asked(&ALL).await, [ORDER_5_OF_ANN]);
}

#[tokio::test]
async fn catalogues_differ_by_account_and_orders_by_caller() {
    let case = catalogue();
    case.asked(&ALL).await;
    let the_same = [
        "ann /api/catalog/products",
        "ann /api/catalog/products/1?utm_source=mail",
        "ben /api/catalog/accounts/acc_001/products?region=jp&utm_source=mail",
        "ann /api/stock/1?nocache=1",
    ];
    assert_eq!(case.asked(&the_same).await, NOTHING);
    let of_others = ["ben /api/orders", "ben /api/orders/5"];
    assert_eq!(case.asked(&of_others).await, of_others);
    assert_eq!(case.told("ben /api/orders").await, serde_json::json!({"orders of ben": 0}));
    case.send("/api/orders").await.assert_status(401).assert_fwd("bypass");
}

#[tokio::test]
async fn an_order_of_one_user_leaves_the_orders_of_others() {
    let case = catalogue();
    let orders = [ORDERS_OF_ANN, ORDER_5_OF_ANN, "ben /api/orders", "ben /api/orders/5", ORDER_6_OF_BEN];
    case.purge_exactly(
        &orders,
        &[
            ("ann POST /api/orders", &[ORDERS_OF_ANN, ORDER_5_OF_ANN]),
            ("ben POST /api/orders", &["ben /api/orders", "ben /api/orders/5", ORDER_6_OF_BEN]),
            // Another user with access to the order sees the change, too.
            ("ann PUT /api/orders/5", &[ORDERS_OF_ANN, ORDER_5_OF_ANN, "ben /api/orders/5"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn each_bucket_says_hits_misses_invalidations_and_its_time() {
    let case = catalogue();
    case.asked(&ALL).await;
    case.asked(&ALL).await;
    case.write("PUT /api/catalog/products/1").await;
    case.write("POST /api/events/products/1").await;
    case.write("ann POST /api/orders").await;
    case.asked(&[PRODUCT_1, STOCK_1, STOCK_1]).await;
    // An invalidation is counted for each name whose responses the purge reaches.
    assert_eq!(case.bucket("catalog").await, bucket(5, 6, 2, None));
    assert_eq!(case.bucket("static").await, bucket(3, 3, 3, 60));
    assert_eq!(case.bucket("volatile").await, bucket(3, 3, 1, 90));
    for (name, count) in [("catalog", 2.0), ("static", 3.0), ("volatile", 1.0)] {
        let metric = format!("cache_invalidations_total{{namespace=\"{name}\"}}");
        assert_eq!(case.larder.metric(&metric).await, count, "{metric}");
    }
}

#[tokio::test]
async fn an_announced_change_purges_one_product_only() {
    let redis = Redis::start().await;
    let case = hearing(&redis.url());
    let hears = || async {
        let health = case.operate("/healthz").await;
        (health["events"][0]["status"] == "ok").then_some(())
    };
    eventually("larder hears of changes", hears).await;
    assert_eq!(case.asked(&ALL).await, ALL);
    assert_eq!(case.asked(&ALL).await, NOTHING);
    for (announced, meaning, expected) in [
        (
            json!({"id": "1", "regions": ["jp"]}).to_string(),
            "named",
            &[PRODUCTS, PRODUCT_1, IN_JAPAN, STOCK_1][..],
        ),
        (
            json!({"id": 2, "regions": ["fr"]}).to_string(),
            "named",
            &[PRODUCTS, PRODUCT_2, IN_FRANCE, STOCK_2],
        ),
        // It does not say where: it may be in any list of an account.
        (json!({"id": 1}).to_string(), "widened", &[PRODUCTS, PRODUCT_1, IN_JAPAN, IN_FRANCE, STOCK_1]),
        (
            "{".to_owned(),
            "malformed",
            &[PRODUCTS, PRODUCT_1, PRODUCT_2, IN_JAPAN, IN_FRANCE, STOCK_1, STOCK_2],
        ),
    ] {
        let metric =
            format!("larder_events_total{{source=\"products\",kind=\"stream\",meaning=\"{meaning}\"}}");
        let before = case.larder.metric(&metric).await;
        let asked = case.api.upstream.total();
        redis.command(&["XADD", "shop:changes", "*", "data", &announced]).await;
        case.larder.metric_becomes(&metric, before + 1.0).await;
        assert_eq!(case.asked(&ALL).await, expected, "{announced}");
        assert_eq!(case.api.upstream.total(), asked + expected.len(), "{announced}");
    }
}
