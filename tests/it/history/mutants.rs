//! Tests of the test: worlds that are wrong in one way each, and the checker finds each.
//!
//! Some are wrong by what surrounds larder. The others are larders with one thing changed in their sources, which takes
//! a build each: `LARDER_MUTANTS=all`, or a part of their names, plays them. That what they change is still there is
//! looked at every time.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::checker::{Invariant, Promise};
use super::faults::Kind;
use super::origin::Mood;
use super::world::{Setting, World};
use super::{PROMISED_GUARDED, PROMISED_STRICT, Run, STRICT};
use crate::support::{Command, Scratch};

/// Plays until the checker finds what it must.
async fn is_caught(
    setting: Setting,
    promise: Promise,
    kinds: &'static [Kind],
    prepare: impl Fn(&World),
    expected: Invariant,
) {
    let began = Instant::now();
    // Larders of their own are rarer wrong, and take a while to start.
    let seconds = if setting.program.is_some() { 12 } else { 4 };
    // Most are found by the first seeds, within a minute; a mutant that needs a rare moment is given more of them.
    for seed in 1..=60 {
        let run = Run::play(seed, setting.clone(), kinds, seconds, false, &prepare).await;
        if run.violations(promise).iter().any(|violation| violation.invariant == expected) {
            println!("{expected:?} found after {:?}", began.elapsed());
            return;
        }
        println!("not found in seed {seed}");
    }
    panic!("{expected:?} is not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_purges_something_else_is_caught() {
    let setting = Setting { purges: "\"elsewhere:{id}\"", edits_only: true, ..STRICT };
    is_caught(setting, PROMISED_STRICT, &[], |_| {}, Invariant::FreshAfterAcknowledgement).await;
}

/// (d): purged before the answer, and no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unguarded_writes_are_caught_where_guarded_ones_are_promised() {
    // A slow upstream lets many replicas die between a change and its purge.
    let promise = Promise { unknown_after: 500_000, ..PROMISED_GUARDED };
    let prepare = |world: &World| world.origin.set(Mood::Slow);
    is_caught(STRICT, promise, &[Kind::ReplicaKilled], prepare, Invariant::UnknownOutcome).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_older_than_promised_is_caught() {
    // With wake-ups lost, the timer alone brings the view up to date, in a quarter of `max_lag`.
    let setting = Setting { store: "max_lag: 4s", ..STRICT };
    let promise = Promise { lag: 20_000, ..PROMISED_STRICT };
    is_caught(setting, promise, &[Kind::RedisHangsUp], |_| {}, Invariant::FreshAfterAcknowledgement).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_answers_for_another_key_is_caught() {
    let prepare = |world: &World| world.origin.confuses.store(20, Ordering::SeqCst);
    is_caught(STRICT, PROMISED_STRICT, &[], prepare, Invariant::RealValue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_takes_place_twice_is_caught() {
    let prepare = |world: &World| world.origin.repeats.store(5, Ordering::SeqCst);
    is_caught(STRICT, PROMISED_STRICT, &[], prepare, Invariant::ExactlyOnce).await;
}

/// A larder with something changed.
struct Mutant {
    name: &'static str,
    /// File, what stands there once, and what is put in its place.
    changes: &'static [(&'static str, &'static str, &'static str)],
    guarded: bool,
    kinds: &'static [Kind],
    expected: Invariant,
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a: one purge of a hundred is skipped",
        changes: &[(
            "src/store/redis/purge.lua",
            "\nfor from = 1, #ids, CHUNK do\n",
            "\nif version % 100 == 0 then ids = {} end\nfor from = 1, #ids, CHUNK do\n",
        )],
        guarded: false,
        kinds: &[],
        expected: Invariant::FreshAfterAcknowledgement,
    },
    Mutant {
        name: "b: a response carries the moment of its answer, not that of its request",
        changes: &[(
            "src/proxy/fetch/mod.rs",
            "        let version = self.token.read_version();\n        let target",
            "        let version = self.target.proxy().store.begin_fetch(self.token.key()).read_version();\n        let target",
        )],
        guarded: false,
        kinds: &[],
        expected: Invariant::FreshAfterAcknowledgement,
    },
    Mutant {
        name: "c: the first tier is not judged",
        changes: &[(
            "src/store/first_tier.rs",
            "if is_expired { Validity::Dead } else { validity(&stored, view) };",
            "if is_expired { Validity::Dead } else { Validity::Valid };",
        )],
        guarded: false,
        kinds: &[],
        expected: Invariant::FreshAfterAcknowledgement,
    },
    Mutant {
        name: "d: a write is purged while it is forwarded, and not after it",
        changes: &[
            (
                "src/proxy/write.rs",
                "        let write = self.until_cut(upstream_request::send(&self.worker, forwarded, head));",
                "        let early = Purge::hard(written.named());\n\
                 let early = proxy.store.purge(early).await.ok();\n\
                 let write = self.until_cut(upstream_request::send(&self.worker, forwarded, head));",
            ),
            (
                "src/proxy/write.rs",
                "let position = purge.record(outcome, now).await;",
                "let position = early;\nlet _ = (outcome, now);",
            ),
        ],
        guarded: false,
        kinds: &[],
        expected: Invariant::FreshAfterAcknowledgement,
    },
    Mutant {
        name: "e: positions are counted, and an index that is lost begins anew",
        changes: &[
            ("src/store/redis/begin.lua", "owner) or known > -high\n", "owner)\n"),
            (
                "src/store/redis/begin.lua",
                "  epoch = 'i' .. ARGV[1]\n",
                "  epoch = 'i' .. string.rep('0', 31) .. '1'\n  now = 1000000\n",
            ),
            ("src/store/redis/purge.lua", "\nraise(math.max(now, high + 1))", "\nraise(high + 1)"),
        ],
        guarded: false,
        kinds: &[Kind::RedisFlushed],
        expected: Invariant::FreshAfterAcknowledgement,
    },
    Mutant {
        name: "f: a write that ended unclearly purges nothing",
        changes: &[(
            "src/proxy/write.rs",
            "        let mut result = result.map(|response| self.client_response(response, upgrade));\n",
            "        let outcome = if result.is_err() { WriteOutcome::Nothing } else { outcome };\n        \
             let mut result = result.map(|response| self.client_response(response, upgrade));\n",
        )],
        guarded: true,
        kinds: &[Kind::UpstreamCuts],
        expected: Invariant::UnknownOutcome,
    },
    Mutant {
        name: "g: a value is taken for whatever key was asked for",
        changes: &[
            (
                "src/store/encoding/decoder.rs",
                "    reader.expect_key(key)?;\n    let fingerprint",
                "    let _ = reader.expect_key(key);\n    let fingerprint",
            ),
            ("src/store/redis/keys.rs", "hex::encode(&key.0)", "hex::encode(&[key.0[0] & 7; 32])"),
        ],
        guarded: false,
        kinds: &[],
        expected: Invariant::RealValue,
    },
    Mutant {
        name: "h: a write whose answer was lost is sent again",
        changes: &[
            (
                "src/upstream/mod.rs",
                "request.method().is_safe() && request.body().is_empty() && !request",
                "!request",
            ),
            (
                "src/upstream/balancer.rs",
                "failure.is_stale_connection && is_safe && attempts.replays == 0",
                "is_safe && attempts.replays == 0",
            ),
            (
                "src/upstream/mod.rs",
                "        *copy.headers_mut() = request.headers().clone();\n",
                "        *copy.headers_mut() = request.headers().clone();\n        copy.headers_mut().remove(http::header::CONTENT_LENGTH);\n",
            ),
            (
                "src/upstream/mod.rs",
                "request.body().replay(self.destination.settings.buffer_requests)?",
                "RequestBody::empty()",
            ),
        ],
        guarded: false,
        kinds: &[Kind::UpstreamCuts],
        expected: Invariant::ExactlyOnce,
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn what_the_mutants_change_is_there() {
    for mutant in MUTANTS {
        for (file, from, _) in mutant.changes {
            let text = std::fs::read_to_string(root().join(file)).expect(file);
            assert_eq!(text.matches(from).count(), 1, "{}: in {file}:\n{from}", mutant.name);
        }
    }
}

impl Mutant {
    /// A copy of the sources, changed and built; all share what they depend on.
    async fn build(&self, target: &Path) -> (Scratch, PathBuf) {
        let copy = Scratch::new();
        for part in [
            "src",
            "Cargo.toml",
            "Cargo.lock",
            "config",
            "proxy.yaml",
            "README.md",
            "ARCHITECTURE.md",
            "docs",
        ] {
            let to = copy.path().to_str().expect("a path");
            let status = std::process::Command::new("cp").arg("-r").arg(root().join(part)).arg(to).status();
            assert!(status.expect("cp").success(), "{part}");
        }
        for (file, from, to) in self.changes {
            let path = copy.path().join(file);
            let text = std::fs::read_to_string(&path).expect(file);
            std::fs::write(path, text.replacen(from, to, 1)).expect(file);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::with_program(cargo, &["build", "--bin", "larder"]).directory(copy.path());
        let target_dir = target.to_str().expect("a path");
        let mut build = build.env("CARGO_TARGET_DIR", target_dir).into_inner();
        let status = tokio::task::spawn_blocking(move || build.status()).await.expect("no panic");
        assert!(status.expect("cargo").success(), "{} can't be built", self.name);
        let program = copy.path().join("larder");
        std::fs::copy(target.join("debug/larder"), &program).expect("it was built");
        (copy, program)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mutant_is_caught() {
    let Ok(chosen) = std::env::var("LARDER_MUTANTS") else { return };
    let target = root().join("target/mutants");
    for mutant in MUTANTS.iter().filter(|mutant| chosen == "all" || mutant.name.contains(&chosen)) {
        let (_copy, program) = mutant.build(&target).await;
        println!("{}", mutant.name);
        let setting = Setting { program: Some(program), guarded: mutant.guarded, ..STRICT };
        let promise = if mutant.guarded { PROMISED_GUARDED } else { PROMISED_STRICT };
        // Where nothing is timed out the end comes soon; and the next write would hide what was not purged.
        let promise = Promise { unknown_after: 100_000, ..promise };
        is_caught(setting, promise, mutant.kinds, |_| {}, mutant.expected).await;
    }
}
