//! Every command and script that larder sends, tried once on keys of the inspection.

use bytes::Bytes;

use super::super::command_stats::CommandKind;
use super::super::connection::Admission;
use super::super::error::RedisError;
use super::super::failure_reason::{ExplainContext, explain};
use super::super::scripts::{
    DEREGISTER, HISTORY, LEASE_END, LEASE_RENEW, LEASE_TAKE, PURGE, RATE, REMOVE, REPLACE, REPLICAS, SEEN,
    SOURCE, SYNC, Script,
};
use super::{COMMAND_TIMEOUT, FindingLevel, Probe, ServerFinding};
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::policy::rate_budget::BudgetId;
use crate::purge::Target;
use crate::store::encoding::FORMAT_VERSION;

/// Lifetime of the keys, should the inspection be killed.
const KEY_TTL_MS: &str = "60000";

/// The function of larder that needs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Sharing,
    Batching,
    Leases,
    PurgeLog,
    Events,
    WakeUps,
    Budgets,
}

/// A command, its arguments, and what needs it. `$index` and the like stand for keys.
type Trial = (&'static str, &'static [&'static str], Loss);

/// In an order in which each key exists when it is used.
const COMMANDS: &[Trial] = &[
    ("PING", &[], Loss::Sharing),
    ("CLIENT", &["ID"], Loss::WakeUps),
    ("TYPE", &["$index"], Loss::Sharing),
    ("TIME", &[], Loss::Sharing),
    ("INFO", &["server"], Loss::Sharing),
    ("SET", &["$staged", "1", "PX", KEY_TTL_MS], Loss::Sharing),
    ("RENAME", &["$staged", "$response"], Loss::Leases),
    ("GET", &["$response"], Loss::Sharing),
    ("MGET", &["$response"], Loss::Batching),
    ("GETRANGE", &["$response", "0", "1"], Loss::Leases),
    ("EXISTS", &["$response"], Loss::Leases),
    ("PEXPIREAT", &["$response", "$later"], Loss::Leases),
    ("SET", &["$lease", "1", "PX", KEY_TTL_MS], Loss::Leases),
    ("SETRANGE", &["$lease", "0", "2"], Loss::Leases),
    ("PTTL", &["$lease"], Loss::Leases),
    ("PEXPIRE", &["$lease", KEY_TTL_MS], Loss::Leases),
    ("DEL", &["$lease"], Loss::Leases),
    ("UNLINK", &["$response"], Loss::Sharing),
    ("ZADD", &["$index", "1", "a"], Loss::Sharing),
    ("PEXPIRE", &["$index", KEY_TTL_MS], Loss::Leases),
    ("PERSIST", &["$index"], Loss::PurgeLog),
    ("PEXPIRE", &["$index", KEY_TTL_MS], Loss::Leases),
    ("ZSCORE", &["$index", "a"], Loss::Sharing),
    ("ZCARD", &["$index"], Loss::Sharing),
    ("ZCOUNT", &["$index", "0", "1"], Loss::Sharing),
    ("ZRANGE", &["$index", "0", "0"], Loss::Sharing),
    ("ZRANGEBYSCORE", &["$index", "0", "1"], Loss::Sharing),
    ("ZREVRANGEBYSCORE", &["$index", "1", "0"], Loss::Sharing),
    ("ZINCRBY", &["$index", "1", "a"], Loss::Sharing),
    ("ZREM", &["$index", "a"], Loss::Sharing),
    ("XADD", &["$journal", "MAXLEN", "1", "*", "a", "b"], Loss::PurgeLog),
    ("XREVRANGE", &["$journal", "+", "-", "COUNT", "1"], Loss::PurgeLog),
    ("XRANGE", &["$journal", "-", "+", "COUNT", "1"], Loss::Events),
    ("XREAD", &["COUNT", "1", "STREAMS", "$journal", "0"], Loss::Events),
    ("XINFO", &["STREAM", "$journal"], Loss::Events),
    ("HSET", &["$source", "a", "b"], Loss::Events),
    ("HGETALL", &["$source"], Loss::Events),
    ("HDEL", &["$source", "a"], Loss::Events),
    ("PUBLISH", &["$wake", "0"], Loss::WakeUps),
    ("SCRIPT", &["LOAD", "return 1"], Loss::Sharing),
];

pub(super) struct Trials<'p> {
    probe: &'p Probe,
    now: Timestamp,
    refusals: Refusals,
}

/// The commands and scripts that were refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) tried: usize,
    refused: Vec<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    name: String,
    is_script: bool,
    loss: Loss,
    error: RedisError,
}

impl<'p> Trials<'p> {
    pub(super) fn new(probe: &'p Probe, now: Timestamp) -> Self {
        Self { probe, now, refusals: Refusals::default() }
    }

    pub(super) async fn run(mut self) -> Refusals {
        for (command, args, loss) in COMMANDS {
            let args: Vec<String> = args.iter().map(|word| self.fill_in(word)).collect();
            let words: Vec<&str> = args.iter().map(String::as_str).collect();
            let result = self.probe.send(command, &words).await.map(drop);
            let has_subcommand = matches!(*command, "CLIENT" | "XINFO" | "SCRIPT");
            let name = command.to_lowercase();
            let name = if has_subcommand { format!("{name}|{}", words[0].to_lowercase()) } else { name };
            self.record(name, false, *loss, result);
        }
        self.run_scripts().await;
        self.refusals
    }

    fn fill_in(&self, word: &str) -> String {
        let [index, journal, source, response, staged, lease, ..] = list_keys(self.probe);
        match word {
            "$index" => index,
            "$journal" => journal,
            "$source" => source,
            "$response" => response,
            "$staged" => staged,
            "$lease" => lease,
            "$wake" => self.probe.keys.wake.clone(),
            "$later" => (self.now.as_micros() / 1000 + 60_000).to_string(),
            word => word.to_owned(),
        }
    }

    async fn run_scripts(&mut self) {
        let [index, journal, source, response, staged, lease, seen, budget] = list_keys(self.probe);
        let former = [&self.probe.keys.former_index, &self.probe.keys.former_replicas];
        let on_index = [&index, former[0], former[1]];
        self.run_script("sync", &SYNC, &on_index, &self.index_args(&[]), Loss::Sharing).await;
        let purge = ["0", "h", "1000", "60000000", &self.probe.keys.wake, "", "", "10", "", "0"];
        let mut purge = self.index_args(&purge);
        purge.push(Bytes::copy_from_slice(&Target::Everything.id().0));
        let with_journal = [&index, former[0], former[1], &journal];
        self.run_script("purge", &PURGE, &with_journal, &purge, Loss::Sharing).await;
        let list = self.index_args(&[&self.probe.keys.wake, ""]);
        self.run_script("replicas", &REPLICAS, &on_index, &list, Loss::PurgeLog).await;
        self.run_script("history", &HISTORY, &[&journal], &args(&["+", "-", "1"]), Loss::PurgeLog).await;
        self.run_script(
            "deregister",
            &DEREGISTER,
            &[&index, &journal],
            &args(&["r", "k", KEY_TTL_MS]),
            Loss::PurgeLog,
        )
        .await;
        let take = args(&["token", "10000", ""]);
        self.run_script("lease-take", &LEASE_TAKE, &[&lease, &response], &take, Loss::Leases).await;
        self.run_script("lease-renew", &LEASE_RENEW, &[&lease], &args(&["token", "10000"]), Loss::Leases)
            .await;
        let end = args(&["token", "", "0", &self.probe.keys.wake, ""]);
        self.run_script("lease-end", &LEASE_END, &[&lease], &end, Loss::Leases).await;
        // The script renames a value that the writer has staged.
        if self.probe.send("SET", &[&staged, "1", "PX", KEY_TTL_MS]).await.is_ok() {
            let replace = args(&["1", "0", &self.fill_in("$later")]);
            self.run_script("replace", &REPLACE, &[&response, &staged], &replace, Loss::Leases).await;
        }
        self.run_script("remove", &REMOVE, &[&response], &args(&["1"]), Loss::Sharing).await;
        let read = args(&["check", "", "", "0", "0", "1000"]);
        self.run_script("source", &SOURCE, &[&source], &read, Loss::Events).await;
        self.run_script("seen", &SEEN, &[&seen], &args(&["1000"]), Loss::Events).await;
        // A request of 1 ms, of a budget of 10 ms.
        self.run_script("rate", &RATE, &[&budget], &args(&["1000", "10000"]), Loss::Budgets).await;
    }

    /// The arguments of `begin.lua` for a caller that is not on the roll, and more.
    fn index_args(&self, more: &[&str]) -> Vec<Bytes> {
        let nonce = crate::hex::encode(&self.probe.id);
        let mut all = args(&[&nonce, "0", "0", "10"]);
        all.push(Bytes::copy_from_slice(&self.probe.id[..8]));
        all.extend(args(&["", ""]));
        all.push(Bytes::copy_from_slice(&Target::Everything.id().0));
        all.extend(args(more));
        all
    }

    async fn run_script(
        &mut self,
        name: &str,
        script: &'static Script,
        keys: &[&String],
        args: &[Bytes],
        loss: Loss,
    ) {
        let keys: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        let (kind, within) = (CommandKind::Query, COMMAND_TIMEOUT);
        let servers = &self.probe.servers;
        let result = servers.run(kind, script, &keys, args.to_vec(), Admission::Probe, within).await;
        self.record(name.to_owned(), true, loss, result.map(drop));
    }

    fn record(&mut self, name: String, is_script: bool, loss: Loss, result: Result<(), RedisError>) {
        self.refusals.tried += 1;
        match result {
            Ok(()) => {}
            // A command that is refused for its arguments is one that the user may run.
            Err(RedisError::ErrorReply(reply)) if !is_script && !is_refusal(&reply) => {}
            Err(error) => {
                let command = match &error {
                    RedisError::ErrorReply(reply) if is_script => find_refused_command(reply),
                    _ => None,
                };
                // The command that runs a script, not one within it.
                let is_script = is_script && command.is_none();
                let name = command.unwrap_or(name);
                self.refusals.refused.push(Refusal { name, is_script, loss, error });
            }
        }
    }
}

/// The keys of an inspection, in the patterns of the smallest ACL: index, journal, source, response, staged value, lease,
/// seen event, and budget.
pub(super) fn list_keys(probe: &Probe) -> [String; 8] {
    let (keys, mut key) = (&probe.keys, [0; 32]);
    key[..16].copy_from_slice(&probe.id);
    let (key, id) = (CacheKey(key), crate::hex::encode(&probe.id));
    [
        keys.index.clone(),
        keys.history.clone(),
        keys.source(&format!("check:{id}")),
        keys.response(&key),
        keys.staged_value(&key, "check"),
        keys.lease(&key),
        keys.seen(&format!("check:{id}")),
        keys.rate(&BudgetId { hash: probe.id, is_inventable: false }),
    ]
}

/// Whether a command was refused altogether.
pub(super) fn is_refusal(reply: &str) -> bool {
    let words = [
        "NOPERM",
        "no permission",
        "executing the script can't",
        "unknown command",
        "Unknown Redis command",
        "unsupported command",
    ];
    words.iter().any(|word| reply.contains(word))
}

/// The command that a reply says was refused: `no permissions to run the 'evalsha' command`, `unknown command 'EVALSHA'`.
fn find_refused_command(reply: &str) -> Option<String> {
    let (_, after) =
        ["run the '", "command '", "command `"].iter().find_map(|words| reply.split_once(words))?;
    let name: String =
        after.chars().take_while(|c| c.is_ascii_alphanumeric() || "|-_".contains(*c)).collect();
    (!name.is_empty()).then(|| name.to_lowercase())
}

fn args(words: &[&str]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

impl Refusals {
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.refused.iter().map(|refusal| refusal.name.clone()).collect();
        names.dedup();
        names
    }

    /// One finding for each reason and loss, with the names of what was refused for it. A script that fails for a command
    /// that is reported already is left out.
    pub(super) fn findings(&self, context: ExplainContext) -> Vec<ServerFinding> {
        let has_commands = self.refused.iter().any(|refusal| !refusal.is_script);
        let mut findings: Vec<(String, Loss, Vec<&str>, &Refusal)> = Vec::new();
        for refusal in &self.refused {
            let kind = refusal.kind(context);
            let is_repeated = refusal.is_script && has_commands && kind != "other";
            if is_repeated {
                continue;
            }
            // A missing pattern concerns all commands on such keys.
            let is_same = |loss: Loss| loss == refusal.loss || kind == "key" || kind == "channel";
            match findings.iter_mut().find(|(its, loss, ..)| *its == kind && is_same(*loss)) {
                Some((_, _, names, _)) => names.push(&refusal.name),
                None => findings.push((kind, refusal.loss, vec![&refusal.name], refusal)),
            }
        }
        findings
            .into_iter()
            .map(|(kind, loss, names, first)| first.finding(&kind, loss, names, context))
            .collect()
    }
}

impl Refusal {
    fn kind(&self, context: ExplainContext) -> String {
        let RedisError::ErrorReply(reply) = &self.error else { return "other".to_owned() };
        let code = explain(&self.error, context).code;
        let lower = reply.to_lowercase();
        match code {
            "no-permission" if lower.contains("channel") => "channel".to_owned(),
            "no-permission" if lower.contains("key") && !lower.contains("command") => "key".to_owned(),
            "no-permission" => "command".to_owned(),
            "unknown-command" => "unknown".to_owned(),
            _ => "other".to_owned(),
        }
    }

    fn finding(&self, kind: &str, loss: Loss, names: Vec<&str>, context: ExplainContext) -> ServerFinding {
        let mut names = names;
        names.dedup();
        let reason = explain(&self.error, context);
        let (message, help) = match kind {
            "command" if self.is_script => (
                format!("the Redis user may not run a command of larder's scripts {}", names.join(", ")),
                Some("grant the commands of the smallest ACL in docs/redis.md".to_owned()),
            ),
            "command" => (
                format!("the Redis user may not run {}", names.join(", ")),
                Some(format!("ACL SETUSER … +{}  (docs/redis.md has the smallest ACL)", names.join(" +"))),
            ),
            "key" => (
                "the Redis user may not use larder's keys".to_owned(),
                Some(format!(
                    "ACL SETUSER … ~{{NAMESPACE}}:* ~NAMESPACE:r{FORMAT_VERSION}:* ~NAMESPACE:lease:* ~NAMESPACE:rate:*"
                )),
            ),
            "channel" => (
                "the Redis user may not use larder's channel".to_owned(),
                Some("ACL SETUSER … &NAMESPACE:wake".to_owned()),
            ),
            "unknown" => (
                format!("the server or a proxy in front of it refuses {}", names.join(", ")),
                Some("remove `rename-command` from redis.conf, or connect without the proxy".to_owned()),
            ),
            _ => (format!("{} failed: {}", names.join(", "), reason.message), None),
        };
        let message = format!("{message}: {}", loss.describe());
        ServerFinding { level: loss.level(), code: reason.code, message, help }
    }
}

impl Loss {
    fn level(self) -> FindingLevel {
        match self {
            Loss::Sharing => FindingLevel::Error,
            Loss::Batching | Loss::Leases | Loss::PurgeLog | Loss::Events | Loss::WakeUps | Loss::Budgets => {
                FindingLevel::Warning
            }
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Loss::Sharing => "responses and purges are not shared",
            Loss::Batching => "each read is a command of its own",
            Loss::Leases => "`collapse: replicas` does not work",
            Loss::PurgeLog => "`GET /purges`, `GET /replicas` or `Purge-Wait` do not work",
            Loss::Events => "events from this Redis do not work",
            Loss::WakeUps => "purges of other replicas are noticed later",
            Loss::Budgets => "each replica counts the requests of `rate` for itself",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::failure_reason::TopologyKind;
    use super::*;

    fn findings(refused: &[(&str, bool, Loss, &str)]) -> Vec<(FindingLevel, String)> {
        let refusal = |(name, is_script, loss, reply): &(&str, bool, Loss, &str)| Refusal {
            name: (*name).to_owned(),
            is_script: *is_script,
            loss: *loss,
            error: RedisError::ErrorReply((*reply).to_owned()),
        };
        let refusals = Refusals { tried: 9, refused: refused.iter().map(refusal).collect() };
        let context = ExplainContext { uses_tls: false, topology: TopologyKind::Single };
        let found = refusals.findings(context);
        found.into_iter().map(|finding| (finding.level, finding.message)).collect()
    }

    #[test]
    fn missing_rights_are_one_finding_and_their_scripts_none() {
        let noperm = "NOPERM this user has no permissions to run the 'x' command";
        let found = findings(&[
            ("get", false, Loss::Sharing, noperm),
            ("zadd", false, Loss::Sharing, noperm),
            ("xread", false, Loss::Events, noperm),
            ("sync", true, Loss::Sharing, noperm),
        ]);
        let message = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                (
                    FindingLevel::Error,
                    message("the Redis user may not run get, zadd: responses and purges are not shared")
                ),
                (
                    FindingLevel::Warning,
                    message("the Redis user may not run xread: events from this Redis do not work")
                ),
            ]
        );
    }

    #[test]
    fn keys_channels_and_renamed_commands_are_told_apart() {
        for (reply, words) in [
            ("NOPERM No permissions to access a key", "larder's keys"),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                "larder's keys",
            ),
            ("NOPERM No permissions to access a channel", "larder's channel"),
            ("ERR The user executing the script can't run this command or subcommand", "may not run zadd"),
            ("ERR unknown command 'ZADD', with args beginning with: 'a'", "refuses zadd"),
        ] {
            let found = findings(&[("zadd", false, Loss::Sharing, reply)]);
            assert!(
                matches!(&*found, [(FindingLevel::Error, message)] if message.contains(words)),
                "{found:?}"
            );
        }
    }
}
