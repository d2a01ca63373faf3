//! Tests of the simulation: larders with one defect each, which it must find.
//!
//! `LARDER_SIM_MUTANTS=all`, or a part of a name, plays them. One build has all that are in Rust, and a variable switches
//! one on. Scripts are changed when they are loaded. Every run checks that the changed text is still there.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How long a mutant may survive, on one core.
const SECONDS: &str = "60";

struct Mutant {
    name: &'static str,
    file: &'static str,
    /// A text that the file has once. In Rust `MUTANT` stands for the name of the switch.
    from: &'static str,
    to: &'static str,
}

/// Two conditions are not here, since nothing breaks without them: that a reply joins on to what is known, and that one from
/// before brings no former epoch back (`PurgeView::apply`). A view that returns to an epoch replays a purge of everything
/// (`RecentPurges::on_epoch_change`), and within an epoch what it knows only grows.
const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "v1: a write does not purge responses under other rules",
        file: "src/purge/index.rs",
        from: "record.until = record.until.max(until);",
        to: "if MUTANT && id.is_rules() {\n            record.hard = PurgeVersion(0);\n        }\n        \
             record.until = record.until.max(until);",
    },
    Mutant {
        name: "v1: a mark does not reach responses under other rules",
        file: "src/purge/index.rs",
        from: "self.intents.add(intent, *id, version, until);\n",
        to: "if !MUTANT || !id.is_rules() {\n                self.intents.add(intent, *id, version, until);\n            }\n",
    },
    Mutant {
        name: "v1: a purge that Redis did not take holds under its own rules alone",
        file: "src/store/redis/index/writing.rs",
        from: "if recorded.is_err() && !targets.is_empty() {",
        to: "let targets: Vec<_> = targets.into_iter().filter(|id| !MUTANT || recorded.is_ok() || !id.is_rules()).collect();\n        \
             if recorded.is_err() && !targets.is_empty() {",
    },
    Mutant {
        name: "v1: rules that are folded reach nothing",
        file: "src/store/redis/purge.lua",
        from: "redis.call('ZADD', index, 'GT', oldest[at + 1], (date and 'd' or 'h') .. folded)",
        to: "",
    },
    Mutant {
        name: "v2: a young epoch counts as applied",
        file: "src/store/redis/index/roll.rs",
        from: "|| !membership.is_epoch_settled(",
        to: "|| !MUTANT && !membership.is_epoch_settled(",
    },
    Mutant {
        name: "v2: a silent replica is forgotten while it may answer",
        file: "src/store/redis/replicas.rs",
        from: "(parse_trust(&entry.place) + EXPIRY_SLACK).max(MIN_EXPIRY) {",
        to: "(parse_trust(&entry.place) + EXPIRY_SLACK).max(MIN_EXPIRY)\n                \
             || (MUTANT && silent_for > Duration::from_millis(100))\n            {",
    },
    Mutant {
        name: "v3: responses under other rules are served",
        file: "src/purge/index.rs",
        from: "if self.has_other_rules(targets) {",
        to: "if !MUTANT && self.has_other_rules(targets) {",
    },
    Mutant {
        name: "v4: a response is kept although it was fetched within settle",
        file: "src/purge/mod.rs",
        from: "if settle.is_zero() {",
        to: "if settle.is_zero() || MUTANT {",
    },
    Mutant {
        name: "v4: settle ends with a lost index",
        file: "src/store/redis/begin.lua",
        from: "'n',\n    whole(now), 'h' .. ARGV[8])",
        to: "'n')",
    },
    Mutant {
        name: "v5: a write is sent after its mark has expired",
        file: "src/purging/intent_guard.rs",
        from: "poll_fn(|cx| match self.is_expired() {",
        to: "poll_fn(|cx| match !MUTANT && self.is_expired() {",
    },
    Mutant {
        name: "v6: entries that were deleted unread are not missed",
        file: "src/events/stream.rs",
        from: "    if has_gap(read, found) {",
        to: "    if !MUTANT && has_gap(read, found) {",
    },
    Mutant {
        name: "v6: events are not purged before their position is recorded",
        file: "src/events/stream.rs",
        from: "    purge_entries(source, &found.entries).await?;",
        to: "    if !MUTANT {\n        purge_entries(source, &found.entries).await?;\n    }",
    },
    Mutant {
        name: "v7: a former primary that is cut off goes on",
        file: "src/store/redis/begin.lua",
        from: "redis.call('ZREM', KEYS[1], '')",
        to: "",
    },
    Mutant {
        name: "a: one purge of ten is skipped",
        file: "src/store/redis/purge.lua",
        from: "\nfor from = 1, #ids, CHUNK do\n",
        to: "\nif version % 10 == 0 then ids = {} end\nfor from = 1, #ids, CHUNK do\n",
    },
    Mutant {
        name: "b: an index that another server has is believed",
        file: "src/store/redis/begin.lua",
        from: "not redis.call('ZSCORE', index, owner) or known > -high",
        to: "false",
    },
    Mutant {
        name: "c: the first tier is not judged",
        file: "src/store/first_tier.rs",
        from: "if is_expired { Validity::Dead } else { validity(&stored, view) };",
        to: "if is_expired { Validity::Dead } else if MUTANT { Validity::Valid } else { validity(&stored, view) };",
    },
    Mutant {
        name: "d: a purge that Redis did not take does not hold here",
        file: "src/store/redis/index/writing.rs",
        from: "let journal = &self.journals[usize::from(!purge.in_doubt_for.is_zero())];",
        to: "if MUTANT {\n                return recorded;\n            }\n            \
             let journal = &self.journals[usize::from(!purge.in_doubt_for.is_zero())];",
    },
    Mutant {
        name: "e: a view is confirmed as of the reply",
        file: "src/store/redis/index.rs",
        from: "let reply = parse_reply(&reply, &call)",
        to: "let call = Call { sent_at: if MUTANT { Moment::now() } else { call.sent_at }, ..call };\n        \
             let reply = parse_reply(&reply, &call)",
    },
    Mutant {
        name: "f: a write with an unknown outcome leaves no doubt",
        file: "src/store/redis/purge.lua",
        from: "elseif in_doubt > 0 then",
        to: "elseif false then",
    },
    Mutant {
        name: "g: max_lag is not compared",
        file: "src/store/tiered/lag_policy.rs",
        from: "now.since(proved) <= lag)",
        to: "(MUTANT || now.since(proved) <= lag))",
    },
    Mutant {
        name: "h: a strict hit waits for no confirmation",
        file: "src/store/tiered/responses.rs",
        from: "if view.confirmed_at().is_none_or(|confirmed| confirmed < required)",
        to: "if !MUTANT && view.confirmed_at().is_none_or(|confirmed| confirmed < required)",
    },
    Mutant {
        name: "i: a position is taken as known",
        file: "src/store/redis/index.rs",
        from: "true => position.version <= high_water,",
        to: "true => MUTANT || position.version <= high_water,",
    },
    Mutant {
        name: "j: the last purge is not told",
        file: "src/store/redis/tell.lua",
        from: "'(' .. whole(known), whole(high)",
        to: "'(' .. whole(known), whole(high - 1)",
    },
    Mutant {
        name: "k: a mark does not outlive its replica",
        file: "src/store/redis/purge.lua",
        from: "if kind == 'd' or kind == 'm' then",
        to: "if kind == 'd' then",
    },
    Mutant {
        name: "l: a lost index begins with the former name",
        file: "src/store/redis/begin.lua",
        from: "  epoch = 'i' .. ARGV[1]\n",
        to: "  epoch = 'i' .. string.rep('0', 31) .. '1'\n",
    },
    Mutant {
        name: "m: folded records are forgotten",
        file: "src/store/redis/purge.lua",
        from: "new = new + redis.call('ZADD', index, 'GT', oldest[at + 1], 'b' .. folded)",
        to: "new = new + 0",
    },
    Mutant {
        name: "n: the date of a folded doubt is forgotten",
        file: "src/store/redis/purge.lua",
        from: "if date then redis.call('ZADD', index, 'LT', date, 'u' .. folded) end",
        to: "",
    },
    Mutant {
        name: "o: a doubt is lost with the index",
        file: "src/store/redis/recent_purges.rs",
        from: "Replay { targets, in_doubt: purged.in_doubt.keys().copied().collect(), ",
        to: "Replay { targets, in_doubt: purged.in_doubt.keys().copied().filter(|_| !MUTANT).collect(), ",
    },
    Mutant {
        name: "p: what was found valid outlives a change",
        file: "src/purge/view.rs",
        from: "if is_new || !reply.changes.is_empty() {",
        to: "if is_new || (!MUTANT && !reply.changes.is_empty()) {",
    },
    Mutant {
        name: "q: times are stored on the clock of the replica",
        file: "src/store/encoding/clock_offset.rs",
        from: "shift(here, self.lower)",
        to: "if MUTANT { here } else { shift(here, self.lower) }",
    },
    Mutant {
        name: "u: a body whose tags are not known is shared after a purge",
        file: "src/purge/index.rs",
        from: "&& self.high_water <= read.version",
        to: "&& (MUTANT || self.high_water <= read.version)",
    },
    Mutant {
        name: "t: a fetch under way is joined although it was purged",
        file: "src/store/tiered/purges.rs",
        from: "let validity = view.check_validity(version, targets);",
        to: "let validity = if MUTANT { Validity::Valid } else { view.check_validity(version, targets) };",
    },
    Mutant {
        name: "w: a replica that has left answers on",
        file: "src/store/redis/index/roll.rs",
        from: "        self.view.leave();\n",
        to: "        if !MUTANT {\n            self.view.leave();\n        }\n",
    },
    Mutant {
        name: "x: a replica that has left is confirmed again",
        file: "src/purge/view.rs",
        from: "&& !self.has_left.load(Ordering::Relaxed)",
        to: "&& (MUTANT || !self.has_left.load(Ordering::Relaxed))",
    },
    Mutant {
        name: "r: a soft purge leaves its targets fresh",
        file: "src/purge/index.rs",
        from: "if record.soft > read.version {",
        to: "if !MUTANT && record.soft > read.version {",
    },
    Mutant {
        name: "s: a doubt is compared with the version, not the time",
        file: "src/purge/index.rs",
        from: "|| self.doubted_until(id, record) > read.time\n",
        to: "|| (!MUTANT && self.doubted_until(id, record) > read.time)\n",
    },
    Mutant {
        name: "y: applied waits for nobody",
        file: "src/store/redis/index/roll.rs",
        from: "false => entry.known >= version,",
        to: "false => MUTANT || entry.known >= version,",
    },
    Mutant {
        name: "z: a mark that has expired leaves nothing",
        file: "src/purge/index.rs",
        from: "false => self.insert_record(*target, intent.version, PurgeMode::Hard, until),",
        to: "false if MUTANT => {}\n                false => self.insert_record(*target, intent.version, PurgeMode::Hard, until),",
    },
    Mutant {
        name: "aa: a purge that Redis refused once more counts as taken",
        file: "src/store/redis/index/writing.rs",
        from: "Ok(_) => journal.complete(&batch, &self.view),",
        to: "Ok(_) => journal.complete(&batch, &self.view),\n                Err(_) if MUTANT => journal.complete(&batch, &self.view),",
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Mutant {
    fn is_script(&self) -> bool {
        self.file.ends_with(".lua")
    }
}

/// The text of a script, changed if a variable names a mutant.
pub fn changed_script(text: &str) -> String {
    let chosen = std::env::var("LARDER_SIM_MUTANT").unwrap_or_default();
    let mutant = MUTANTS.iter().find(|mutant| mutant.is_script() && mutant.name == chosen);
    mutant.map_or_else(|| text.to_owned(), |mutant| text.replacen(mutant.from, mutant.to, 1))
}

#[test]
fn changed_texts_are_there_once() {
    for mutant in MUTANTS {
        let text = std::fs::read_to_string(root().join(mutant.file)).expect(mutant.file);
        assert_eq!(
            text.matches(mutant.from).count(),
            1,
            "{}: in {}: {}",
            mutant.name,
            mutant.file,
            mutant.from
        );
    }
}

/// Copies the sources with a switch for each mutant, and builds this simulation of them.
fn build_with_switches(copy: &Path) -> PathBuf {
    _ = std::fs::remove_dir_all(copy);
    std::fs::create_dir_all(copy).expect("a directory");
    for part in
        ["src", "tests", "benches", "Cargo.toml", "Cargo.lock", "config", "proxy.yaml", "README.md", "docs"]
    {
        let status = Command::new("cp").arg("-r").arg(root().join(part)).arg(copy).status();
        assert!(status.expect("cp").success(), "{part}");
    }
    for mutant in MUTANTS.iter().filter(|mutant| !mutant.is_script()) {
        let path = copy.join(mutant.file);
        let text = std::fs::read_to_string(&path).expect(mutant.file);
        let switch = format!("crate::is_mutant({:?})", mutant.name);
        std::fs::write(path, text.replacen(mutant.from, &mutant.to.replace("MUTANT", &switch), 1))
            .expect("a file");
    }
    let lib = std::fs::read_to_string(copy.join("src/lib.rs")).expect("the library");
    let switch = "fn is_mutant(name: &str) -> bool {\n    static CHOSEN: std::sync::OnceLock<Option<String>> = \
                  std::sync::OnceLock::new();\n    CHOSEN.get_or_init(|| std::env::var(\"LARDER_SIM_MUTANT\").ok())\
                  .as_deref() == Some(name)\n}\n";
    std::fs::write(copy.join("src/lib.rs"), lib + switch).expect("a file");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // The profile of `tests/sim-seeds`; the program itself is built faster, and runs slower.
    build.envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")]);
    build.args(["test", "--locked", "--release", "--test", "sim", "--no-run", "--message-format=json"]);
    build.args(["--config", "profile.release.package.larder.opt-level=1"]);
    let built =
        build.current_dir(copy).env("CARGO_TARGET_DIR", root().join("target/sim")).output().expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let program =
        messages.lines().rev().find_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    program.expect("the simulation").into()
}

#[test]
fn every_mutant_is_caught() {
    let Ok(chosen) = std::env::var("LARDER_SIM_MUTANTS") else { return };
    let copy = root().join("target/sim/mutants");
    let program = build_with_switches(&copy);
    let mut survivors = Vec::new();
    println!("| defect | seed | core seconds | broken |\n|---|--:|--:|---|");
    for mutant in MUTANTS.iter().filter(|mutant| chosen == "all" || mutant.name.contains(&chosen)) {
        let mut run = Command::new(&program);
        run.args(["new_seeds_keep_every_promise", "--nocapture"]).env("LARDER_SIM_MUTANT", mutant.name);
        run.env("LARDER_SIM_SEED", "1").env("LARDER_SIM_SEEDS", "1000000").env("LARDER_SIM_SECONDS", SECONDS);
        let output = run.env_remove("LARDER_SIM_MUTANTS").output().expect("the simulation");
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        let found = printed.lines().find_map(|line| {
            let (seed, promise) = line.strip_prefix("seed ")?.split_once(" breaks a promise after ")?;
            let (seconds, promise) = promise.split_once(": ")?;
            Some((seed, seconds, promise.split(" (").next()?))
        });
        match found {
            Some((seed, seconds, promise)) => {
                println!("| {} | {seed} | {seconds} | {promise} |", mutant.name)
            }
            None => survivors.push(mutant.name),
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}
