//! The twelve orders of a fill and a write that matter, step by step:
//!
//! F1 a fill reads the old data at the upstream · F2 it is answered and stored · W1 a write is forwarded · W2 it is
//! applied · W3 it is answered, so it was purged · P a purge · R all replicas read · K `kill -9`.
//!
//! In every order, reads after the answer have the new data, and it is stored again.

mod stage;

use stage::{A, ALL, B, C, Mode, SHARED, Stage};

use crate::support::{HOST, Line, Process, Request, eventually};

#[tokio::test]
async fn s01_a_fill_that_read_before_a_write_and_is_stored_after_it() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        let fill = stage.fill_reads(A).await;
        stage.writes(A, "new").await;
        // It was asked for before the write, so it may have the old data.
        stage.fill_stores(fill).await.assert_text("old");
        stage.everybody_reads(B, "new").await;
    }
}

#[tokio::test]
async fn s02_a_fill_that_is_stored_between_a_change_and_its_answer() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        let fill = stage.fill_reads(A).await;
        let write = stage.write_is_forwarded(B).await;
        stage.has("new");
        stage.fill_stores(fill).await;
        stage.write_is_answered(write).await;
        stage.everybody_reads(C, "new").await;
    }
}

#[tokio::test]
async fn s03_a_fill_that_reads_while_a_write_is_on_its_way() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        let write = stage.write_is_forwarded(B).await;
        let fill = stage.fill_reads(A).await;
        stage.has("new");
        stage.write_is_answered(write).await;
        stage.fill_stores(fill).await;
        stage.everybody_reads(A, "new").await;
    }
}

#[tokio::test]
async fn s04_a_fill_that_is_stored_where_the_write_did_not_pass() {
    for mode in SHARED {
        let stage = Stage::start(mode).await;
        let fill = stage.fill_reads(A).await;
        stage.writes(B, "new").await;
        stage.fill_stores(fill).await.assert_text("old");
        stage.everybody_reads(A, "new").await;
    }
    // And what A has had for long.
    for mode in SHARED {
        let stage = Stage::start(mode).await;
        stage.everybody_has("old").await;
        stage.writes(B, "new").await;
        stage.everybody_reads(A, "new").await;
    }
}

#[tokio::test]
async fn s05_a_fill_that_reaches_redis_later_than_it_was_sent() {
    for mode in SHARED {
        // Sent before the purge, and there after it.
        let stage = Stage::start(mode).await;
        let sent = stage.fill_is_sent(stage.fill_reads(A).await).await;
        let write = stage.write_is_forwarded(B).await;
        stage.has("new");
        write.acknowledged().await;
        stage.fill_arrives(sent).await;
        stage.is_known_to_all().await;
        stage.everybody_reads(C, "new").await;

        // Sent before the change, and there before the purge.
        let stage = Stage::start(mode).await;
        let sent = stage.fill_is_sent(stage.fill_reads(A).await).await;
        let write = stage.write_is_forwarded(B).await;
        stage.has("new");
        stage.fill_arrives(sent).await;
        stage.write_is_answered(write).await;
        stage.everybody_reads(C, "new").await;
    }
}

#[tokio::test]
async fn s06_two_fills_and_two_writes_in_turn() {
    for mode in SHARED {
        for (later_first, index_lost) in [(false, false), (true, false), (false, true), (true, true)] {
            let stage = Stage::start(mode).await;
            let of_old = stage.fill_reads(A).await;
            if index_lost {
                stage.redis().flush().await;
            }
            stage.writes(C, "newer").await;
            let of_newer = stage.fill_reads(B).await;
            stage.writes(A, "newest").await;
            let (first, second) = if later_first { (of_newer, of_old) } else { (of_old, of_newer) };
            stage.fill_stores(first).await;
            stage.everybody_reads(C, "newest").await;
            // Where it comes, something newer is stored.
            stage.fill_answers(second).await;
            stage.everybody_reads(A, "newest").await;
        }
    }
}

#[tokio::test]
async fn s07_a_validation_across_a_write() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        stage.everybody_has("old").await;
        let soft = stage.replica(C).request("PURGE", "/a").header("purge-mode", "soft");
        let position = soft.await.assert_status(200).header("larder-position").expect("a position");
        // Bounded, A may not know of it yet.
        let knows = stage.replica(A).get("/a").header("larder-position", &position);
        let fill = stage.fill_reads_for(A, knows).await;
        assert_eq!(stage.upstream.last("/a").header("if-none-match").as_deref(), Some("\"old\""));
        stage.writes(B, "new").await;
        stage.fill_stores(fill).await.assert_text("old");
        stage.everybody_reads(A, "new").await;
    }
}

#[tokio::test]
async fn s08_a_reader_after_the_write_joins_no_earlier_fetch() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        let fill = stage.fill_reads(A).await;
        stage.writes(B, "new").await;
        let followers = [(); 5].map(|()| stage.replica(A).get("/a").spawn());
        let here = stage.replica(A);
        eventually("they wait", || async {
            // The leader and the followers.
            (here.metric("larder_connections").await >= 6.0).then_some(())
        })
        .await;
        stage.fill_stores(fill).await.assert_text("old");
        for follower in followers {
            follower.await.unwrap().assert_text("new");
        }
        stage.everybody_reads(A, "new").await;
    }
}

#[tokio::test]
async fn s09_a_tag_is_purged_that_only_the_answer_names() {
    for mode in ALL {
        // Before the answer comes, and in the middle of it.
        let stage = Stage::start(mode).await;
        let fill = stage.fill_reads(A).await;
        stage.has("new");
        stage.purges_tag(B, "from-field").await;
        stage.fill_stores(fill).await.assert_text("old");
        stage.everybody_reads(A, "new").await;

        let stage = Stage::start(mode).await;
        let (answer, feed) = crate::support::Answer::fed();
        stage.upstream.once("/a", answer.header("surrogate-key", "from-field"));
        let mut slow = stage.replica(A).get("/a").start().await;
        feed.send("old").await;
        slow.read_until("old").await;
        stage.has("new");
        stage.purges_tag(B, "from-field").await;
        feed.end().await;
        slow.whole().await.unwrap();
        stage.everybody_reads(A, "new").await;
    }
    // While Redis is about to be told what the answer names.
    for mode in SHARED {
        let stage = Stage::start(mode).await;
        let sent = stage.fill_is_sent(stage.fill_reads(A).await).await;
        stage.has("new");
        let purge = stage.replica(B).request("PURGE", "/any").header("cache-tag", "from-field");
        purge.await.assert_status(200);
        stage.fill_arrives(sent).await;
        stage.is_known_to_all().await;
        stage.everybody_reads(C, "new").await;
    }
}

#[tokio::test]
async fn s10_head_and_range_and_variant_across_a_purge() {
    let ways: [fn(Request) -> Request; 2] =
        [|request| request.header("accept-language", "de"), |request| request.header("range", "bytes=0-9")];
    for mode in ALL {
        for way in ways {
            let stage = Stage::start(mode).await;
            // Its variants are known.
            stage.everybody_has("old").await;
            stage.purges_tag(C, "a").await;
            let fill = stage.fill_reads_for(A, way(stage.replica(A).get("/a"))).await;
            stage.writes(B, "new").await;
            stage.fill_answers(fill).await;
            stage.everybody_reads(A, "new").await;
            stage.everybody_reads_by(B, "new", way).await;
        }
        // A HEAD that was answered before the write freshens nothing after it.
        let stage = Stage::start(mode).await;
        stage.everybody_has("old").await;
        let soft = stage.replica(A).request("PURGE", "/a").header("purge-mode", "soft");
        soft.await.assert_status(200);
        let fill = stage.fill_reads_for(A, stage.replica(A).request("HEAD", "/a")).await;
        stage.writes(B, "new").await;
        stage.fill_answers(fill).await;
        stage.everybody_reads(A, "new").await;
    }
}

/// Only a guard survives this.
#[tokio::test]
async fn s11_larder_is_killed_between_the_change_and_its_purge() {
    let stage = Stage::start(Mode::Guarded).await;
    let yaml = format!(
        "upstream: {{url: \"${{UPSTREAM}}\", connect_timeout: 500ms, response_timeout: 1s}}\n\
         store: {{redis: \"{}\", max_lag: 0s, timeout: 10s}}\nroutes: [{{path: /a, ttl: 1h, tags: [a]}}, {{path: /w, purges: [a]}}]",
        stage.redis().url()
    );
    let mut killed = Process::with(&yaml, &stage.upstream).await;
    killed.is_connected().await;
    let fill = stage.fill_reads(A).await;
    let held = stage.upstream.hold("/w");
    let write = tokio::spawn(killed.request("POST", "/w").header("host", HOST).attempt());
    held.arrived().await;
    stage.has("new");
    killed.signal("KILL");
    killed.ended().await;
    assert!(write.await.unwrap().is_err());
    stage.fill_stores(fill).await.assert_text("old");
    // Its mark stands; at its date it becomes a purge, and what is fetched then is stored again.
    stage.everybody_reads(B, "new").await;
}

#[tokio::test]
async fn s12_the_client_leaves_between_the_change_and_its_answer() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        stage.everybody_has("old").await;
        stage.purges_tag(C, "a").await;
        let fill = stage.fill_reads(A).await;
        let write = stage.write_is_forwarded(B).await;
        stage.has("new");
        write.reply.abort();
        if mode == Mode::Guarded {
            for replica in [B, C] {
                stage.replica(replica).get("/a").await.assert_text("new");
            }
        }
        stage.write_is_answered_to_nobody(B, write).await;
        stage.fill_stores(fill).await;
        stage.everybody_reads(C, "new").await;
    }
}

/// The schedules would prove nothing if no fill were ever shared.
#[tokio::test]
async fn without_a_write_a_fill_is_everybodys() {
    for mode in ALL {
        let stage = Stage::start(mode).await;
        let fill = stage.fill_reads(A).await;
        stage.purges_tag(B, "something-else").await;
        stage.has("new");
        stage.fill_stores(fill).await;
        for replica in [C, B, A] {
            stage.replica(replica).get("/a").await.assert_hit().assert_text("old");
        }
    }
}

/// A value read from Redis may be older than one fetched here meanwhile.
#[tokio::test]
async fn a_newer_local_fetch_is_not_replaced_from_redis() {
    let stage = Stage::start(Mode::Bounded).await;
    let of_old = stage.fill_reads(B).await;
    stage.has("new");
    let of_new = stage.fill_reads(A).await;
    stage.fill_stores(of_old).await;
    stage.line(Line::Dead);
    let asking = stage.replica(A).get("/a").spawn();
    stage.line_holds("larder:r5:").await;
    let arriving = stage.fill_is_answered(of_new).await;
    stage.fill_arrives(arriving).await;
    asking.await.unwrap();
    stage.replica(A).get("/a").await.assert_hit().assert_text("new");
}
