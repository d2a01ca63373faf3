//! `config/analytics.yaml`: figures over the events of a chat community's guilds.

use serde_json::json;

use super::{Case, NOTHING, SampleApi, bucket, issued, send};
use crate::support::{Answer, Issuer, eventually};

const GHOSTS: &str = "ann /api/analytics/ghosts?guildId=7&since=7d";
const LURKERS: &str = "ann /api/analytics/lurkers?guildId=7&since=7d";
const SHIFTS: &str = "ann /api/analytics/shifts?guildId=7&since=7d";
const HEATMAP: &str = "ann /api/analytics/heatmap?guildId=7&since=7d";
const ROLES: &str = "ann /api/analytics/roles?guildId=7&since=7d";
const CLIENTS: &str = "ann /api/analytics/clients?guildId=7&since=7d";
const OF_GUILD_7: [&str; 6] = [GHOSTS, LURKERS, SHIFTS, HEATMAP, ROLES, CLIENTS];
const HEATMAP_OF_8: &str = "ann /api/analytics/heatmap?guildId=8&since=7d";
const CLIENTS_OF_8: &str = "ann /api/analytics/clients?guildId=8&since=7d";
const ALL: [&str; 8] = [GHOSTS, LURKERS, SHIFTS, HEATMAP, ROLES, CLIENTS, HEATMAP_OF_8, CLIENTS_OF_8];

pub fn api() -> SampleApi {
    SampleApi::start()
        .members_only("/api/analytics/")
        .answers("/api/analytics/ghosts", &["messages of {guildId}"])
        .answers("/api/analytics/lurkers", &["messages of {guildId}", "presence in {guildId}"])
        .answers("/api/analytics/shifts", &["messages of {guildId}"])
        .answers("/api/analytics/heatmap", &["messages of {guildId}"])
        .answers("/api/analytics/roles", &["roles in {guildId}"])
        .answers("/api/analytics/clients", &["presence in {guildId}"])
        .changes("POST /api/guilds/7/messages", &["messages of 7"])
        .changes("POST /api/guilds/7/roles", &["roles in 7"])
        .changes("POST /api/guilds/7/presence", &["presence in 7"])
        .changes("POST /api/guilds/7/events", &["messages of 7", "roles in 7", "presence in 7"])
        .changes("POST /api/guilds/8/messages", &["messages of 8"])
        .changes("POST /api/events", &[])
}

pub fn analytics() -> Case {
    Case::start("config/analytics.yaml", "ANALYTICS_API", api())
}

#[tokio::test]
async fn each_figure_is_kept_for_its_own_time() {
    let case = analytics();
    for (minutes, read) in [(5, GHOSTS), (5, LURKERS), (5, SHIFTS), (15, HEATMAP), (10, ROLES), (2, CLIENTS)]
    {
        case.is_kept_for(minutes * 60, read).await;
    }
}

#[tokio::test]
async fn guild_and_time_span_tell_figures_apart_and_nothing_else_does() {
    let case = analytics();
    assert_eq!(case.asked(&ALL).await, ALL);
    let the_same = [
        "ann /api/analytics/ghosts?since=7d&guildId=7",
        "cleo /api/analytics/ghosts?guildId=7&since=7d&_=1763640000",
        "ben /api/analytics/ghosts?utm_source=mail&guildId=7&since=7d",
        "ann /api/analytics/ghosts?guildId=7&since=7d",
        "ben /api/analytics/ghosts?guildId=7&since=7d",
    ];
    assert_eq!(case.asked(&the_same).await, NOTHING);
    let others = [
        "ann /api/analytics/ghosts?guildId=7&since=1d",
        "ann /api/analytics/ghosts?guildId=8&since=7d",
        // Without a time span it is an answer of its own.
        "ann /api/analytics/ghosts?guildId=7",
    ];
    assert_eq!(case.asked(&others).await, others);
    assert_eq!(case.asked(&others).await, NOTHING);

    // Parameters outside the key do not reach the API.
    assert_eq!(case.asked(&["ann /api/analytics/roles?_=17&since=1d&guildId=7"]).await.len(), 1);
    assert_eq!(
        case.api.upstream.last("/api/analytics/roles").target,
        "/api/analytics/roles?guildId=7&since=1d"
    );
}

#[tokio::test]
async fn figures_are_for_members() {
    let case = analytics();
    case.asked(&ALL).await;
    let (_, target) = GHOSTS.split_once(' ').expect("a user first");
    case.send(target).await.assert_status(401).assert_detail("anonymous-caller");
    let forged = Issuer::new("sample").token(&json!({"sub": "ann"}));
    let expired = issued(&json!({"sub": "ann", "exp": case.larder.clock.now().as_secs() - 1}));
    for (sent, detail) in [
        (&*format!("Bearer {forged}"), "refused-caller"),
        (&*expired, "expired-caller"),
        ("Bearer garbage", "refused-caller"),
        ("Basic YW5uOnA=", "refused-caller"),
    ] {
        case.api.upstream.once("/api/analytics/ghosts", Answer::status(401));
        case.larder.get(target).header("authorization", sent).await.assert_status(401).assert_detail(detail);
    }
    assert_eq!(case.asked(&ALL).await, NOTHING);
}

#[tokio::test]
async fn an_event_purges_what_it_touches_of_its_guild_alone() {
    let case = analytics();
    case.purge_exactly(
        &ALL,
        &[
            ("POST /api/guilds/7/messages", &[GHOSTS, LURKERS, SHIFTS, HEATMAP]),
            ("POST /api/guilds/7/roles", &[ROLES]),
            ("POST /api/guilds/7/presence", &[LURKERS, CLIENTS]),
            ("ann POST /api/guilds/7/events", &OF_GUILD_7),
            ("POST /api/guilds/8/messages", &[HEATMAP_OF_8]),
        ],
    )
    .await;
    // An event that the API refuses changed nothing.
    case.api.upstream.once("/api/guilds/7/events", Answer::status(422));
    case.send("POST /api/guilds/7/events").await.assert_status(422);
    assert_eq!(case.asked(&ALL).await, NOTHING);
}

#[tokio::test]
async fn many_events_leave_hits_and_show_after_a_window() {
    let case = Case::as_shipped("config/analytics.yaml", "ANALYTICS_API", api());
    let shows = async |version: u64| {
        eventually("the figure is renewed behind", || async {
            let ghosts = case.send(GHOSTS).await;
            assert!(ghosts.is_hit(), "{ghosts}");
            (ghosts.json()["facts"]["messages of 7"] == version).then_some(())
        })
        .await;
    };
    case.send(GHOSTS).await.assert_stored();
    // The first makes the figure stale at once, which is served while it is renewed.
    case.write("POST /api/guilds/7/messages").await;
    shows(1).await;
    for _ in 0..20 {
        case.write("POST /api/guilds/7/messages").await;
    }
    case.larder.after(29);
    assert_eq!(case.send(GHOSTS).await.assert_hit().json()["query"], 2);
    case.larder.after(1);
    shows(21).await;
    assert_eq!(case.api.upstream.count("/api/analytics/ghosts"), 3);
    // The first look within a minute of an event shows the figure from before it; a later one waits for the new one.
    case.larder.after(30);
    case.write("POST /api/guilds/7/messages").await;
    case.larder.after(59);
    assert_eq!(case.send(GHOSTS).await.assert_hit().json()["facts"]["messages of 7"], 21);
    shows(22).await;
    case.write("POST /api/guilds/7/messages").await;
    case.larder.after(60);
    assert_eq!(case.send(GHOSTS).await.json()["facts"]["messages of 7"], 23);
}

#[tokio::test]
async fn computing_is_limited_and_hits_and_events_are_not() {
    let case = analytics();
    let mut stored = 0;
    let refused = loop {
        let reply = case.send(&format!("ann /api/analytics/roles?guildId={stored}")).await;
        if reply.status == 429 {
            break reply;
        }
        reply.assert_stored();
        stored += 1;
    };
    assert!(stored >= 100 && refused.header("retry-after").is_some(), "{stored}: {refused}");
    for guild in 0..10 {
        case.send(&format!("ann /api/analytics/roles?guildId={guild}")).await.assert_hit();
        case.write("POST /api/guilds/7/messages").await;
    }
}

#[tokio::test]
async fn an_event_refetches_only_what_its_content_names() {
    let case = analytics();
    case.asked(&ALL).await;
    for (event, changed, expected) in [
        (json!({"guildId": 7, "touches": ["roles"]}), &["roles in 7"][..], &[ROLES][..]),
        (
            json!({"guildId": "7", "touches": ["messages"]}),
            &["messages of 7"],
            &[GHOSTS, LURKERS, SHIFTS, HEATMAP],
        ),
        (
            json!({"guildId": 7, "touches": ["roles", "presence"], "by": {"id": 4}}),
            &["roles in 7", "presence in 7"],
            &[LURKERS, ROLES, CLIENTS],
        ),
        (json!({"guildId": 8, "touches": ["presence"]}), &["presence in 8"], &[CLIENTS_OF_8]),
        (json!({"guildId": 9, "touches": ["messages", "roles", "presence"]}), &[], &[]),
        (json!({"guildId": "*", "touches": ["messages"]}), &[], &[]),
    ] {
        assert_eq!(case.asked(&ALL).await, NOTHING, "before {event}");
        case.tell("POST /api/events", &event, changed).await;
        assert_eq!(case.asked(&ALL).await, expected, "after {event}");
    }
    assert_eq!(case.larder.metric("larder_widened_total").await, 0.0);
    // 8 to begin with, and what was purged: of 6 events that the API also saw.
    assert_eq!(case.api.upstream.total(), 8 + 1 + 4 + 3 + 1 + 6);
}

#[tokio::test]
async fn an_event_without_values_may_touch_everything() {
    let case = analytics();
    case.asked(&ALL).await;
    for event in [
        json!({"guildId": 7}),
        json!({"touches": ["roles"]}),
        json!({"guildId": null, "touches": ["roles"]}),
        json!({"guildId": 7, "touches": []}),
        json!({"guildId": {"id": 7}, "touches": ["roles"]}),
        json!({"guildId": 7, "touches": [["roles"]]}),
        json!("roles of 7"),
    ] {
        case.tell("POST /api/events", &event, &["roles in 7"]).await;
        assert_eq!(case.asked(&ALL).await, ALL, "after {event}");
        assert_eq!(case.asked(&ALL).await, NOTHING, "after {event}");
    }
    assert_eq!(case.larder.metric("larder_widened_total").await, 7.0);
    // Nor does one whose content is no JSON.
    case.api.changed_unseen("roles in 7");
    case.send("POST /api/events").await.assert_status(200);
    assert_eq!(case.asked(&ALL).await, ALL);
}

#[tokio::test]
async fn an_operator_clears_all_one_kind_or_one_guild() {
    let case = analytics();
    case.asked(&ALL).await;
    for (request, expected) in [
        ("DELETE /cache/tags/analytics:ghosts", &[GHOSTS][..]),
        ("DELETE /cache/tags/analytics:lurkers", &[LURKERS]),
        ("DELETE /cache/tags/analytics:shifts", &[SHIFTS]),
        ("DELETE /cache/tags/analytics:heatmap", &[HEATMAP, HEATMAP_OF_8]),
        ("DELETE /cache/tags/analytics:roles", &[ROLES]),
        ("DELETE /cache/tags/analytics:clients", &[CLIENTS, CLIENTS_OF_8]),
        ("DELETE /cache/tags/guild:7", &OF_GUILD_7),
        ("DELETE /cache/tags/guild:9", &[]),
        ("DELETE /cache", &ALL),
    ] {
        assert_eq!(case.asked(&ALL).await, NOTHING, "before {request}");
        case.operate(request).await;
        assert_eq!(case.asked(&ALL).await, expected, "after {request}");
    }
}

#[tokio::test]
async fn the_statistics_count_every_request_by_figure_and_in_all() {
    let case = analytics();
    case.asked(&ALL).await;
    case.asked(&ALL).await;
    case.write("POST /api/guilds/7/messages").await;
    case.asked(&[GHOSTS, GHOSTS, ROLES]).await;
    for write in ["POST /api/guilds/7/roles", "POST /api/guilds/7/presence", "POST /api/guilds/7/events"] {
        case.write(write).await;
    }

    assert_eq!(case.bucket("ghosts").await, bucket(2, 2, 2, 300));
    assert_eq!(case.bucket("lurkers").await, bucket(1, 1, 3, 300));
    assert_eq!(case.bucket("shifts").await, bucket(1, 1, 2, 300));
    assert_eq!(case.bucket("heatmap").await, bucket(2, 2, 2, 900));
    assert_eq!(case.bucket("roles").await, bucket(2, 1, 2, 600));
    assert_eq!(case.bucket("clients").await, bucket(2, 2, 2, 120));
    assert_eq!(case.bucket("events").await, bucket(0, 0, 0, None));
    assert_eq!(case.larder.metric("cache_hit_rate{namespace=\"ghosts\"}").await, 0.5);

    let stats = case.operate("/stats").await;
    let totals = &stats["stats"];
    assert_eq!((&totals["hits"], &totals["misses"]), (&json!(10), &json!(9)));
    assert_eq!(totals["hitRate"], json!(52.63));
    assert_eq!(totals["evictedKeys"], json!(0));
    assert_eq!((&stats["status"], &stats["timestamp"]), (&json!("ok"), &json!("2025-11-20T12:00:00.000Z")));
    assert!(totals["keyCount"].as_u64() >= Some(8), "{stats}");
    assert!(totals["memoryUsed"].as_u64() > Some(0), "{stats}");
}

#[tokio::test]
async fn stale_figures_are_served_while_the_api_is_down() {
    let case = analytics();
    case.asked(&[GHOSTS]).await;
    case.larder.after(5 * 60);
    case.api.upstream.on("/api/analytics/ghosts", Answer::status(503));
    let stale = case.send(GHOSTS).await.assert_status(200);
    assert_eq!(stale.json()["query"], json!(1));
    // For 5 minutes, also once a message has made it stale, and never once another event has purged it.
    case.larder.after(5 * 60 - 1);
    case.send(GHOSTS).await.assert_status(200);
    case.write("POST /api/guilds/7/messages").await;
    case.send(GHOSTS).await.assert_status(200);
    case.write("ann POST /api/guilds/7/events").await;
    case.send(GHOSTS).await.assert_status(503);

    case.api.upstream.on("/api/analytics/roles", Answer::ok("roles"));
    case.send(ROLES).await.assert_status(200);
    case.api.upstream.on("/api/analytics/roles", Answer::status(503));
    case.larder.after(15 * 60);
    case.send(ROLES).await.assert_status(503);
}

#[tokio::test]
async fn with_a_token_only_its_bearer_operates() {
    let api = api();
    let url = api.upstream.url();
    let environment = [("ANALYTICS_API", url.as_str()), ("LARDER_ADMIN_TOKEN", "open-sesame")];
    let case = Case::with_environment("config/analytics.yaml", &environment, api);
    case.asked(&ALL).await;
    for request in ["DELETE /cache", "DELETE /cache/tags/guild:7", "/stats", "ann DELETE /cache"] {
        send(&case.larder.admin, request).await.assert_status(401);
    }
    assert_eq!(case.asked(&ALL).await, NOTHING);
    let bearer = "Bearer open-sesame";
    case.larder.admin.request("DELETE", "/cache").header("authorization", bearer).await.assert_status(200);
    assert_eq!(case.asked(&ALL).await, ALL);
}
