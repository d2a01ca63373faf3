//! Facts that a server tells about itself: by INFO, by CONFIG, or only by HELLO where a service refuses both.

use super::super::scripts::RespValue;
use super::Probe;

/// Facts about a server; `None` where it does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// `redis`, `valkey` …
    pub name: Option<String>,
    pub version: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: Option<String>,
    pub used_memory: Option<u64>,
    /// Zero: no limit.
    pub max_memory: Option<u64>,
    pub eviction_policy: Option<String>,
    pub appends_to_file: Option<bool>,
    pub saves_snapshots: Option<bool>,
    pub replicas: Option<u64>,
    /// `min-replicas-to-write`. Zero: not set.
    pub min_replicas: Option<u64>,
    /// Seconds after which the server closes idle connections. Zero: never.
    pub idle_timeout: Option<u64>,
    pub may_read_info: bool,
    pub may_read_config: bool,
}

/// Settings that only CONFIG tells.
const SETTINGS: [&str; 6] =
    ["maxmemory", "maxmemory-policy", "appendonly", "save", "min-replicas-to-write", "timeout"];

/// Reads what the server tells. Refusals leave gaps.
pub(super) async fn read_facts(probe: &Probe) -> ServerFacts {
    let mut facts = ServerFacts::default();
    if let Ok(hello) = probe.send("HELLO", &[]).await {
        facts.read_hello(&hello);
    }
    if let Ok(info) = probe.send("INFO", &[]).await {
        facts.may_read_info = true;
        facts.read_info(info.text().unwrap_or_default());
    }
    for name in SETTINGS {
        let Ok(reply) = probe.send("CONFIG", &["GET", name]).await else { break };
        facts.may_read_config = true;
        if let Some([_, value]) = reply.array() {
            facts.read_setting(name, value.text().unwrap_or_default());
        }
    }
    facts
}

impl ServerFacts {
    fn read_hello(&mut self, hello: &RespValue) {
        for pair in hello.array().unwrap_or_default().chunks_exact(2) {
            let value = pair[1].text().map(str::to_owned);
            match pair[0].text() {
                Some("server") => self.name = value,
                Some("version") => self.version = value,
                Some("mode") => self.mode = value,
                _ => {}
            }
        }
    }

    fn read_info(&mut self, info: &str) {
        for line in info.lines() {
            let Some((name, value)) = line.trim_end().split_once(':') else { continue };
            let (text, number) = (|| Some(value.to_owned()), value.parse::<u64>().ok());
            match name {
                "redis_version" if self.version.is_none() => self.version = text(),
                "valkey_version" => (self.name, self.version) = (Some("valkey".to_owned()), text()),
                "redis_mode" | "server_mode" => self.mode = text(),
                "used_memory" => self.used_memory = number,
                "maxmemory" => self.max_memory = number,
                "maxmemory_policy" => self.eviction_policy = text(),
                "aof_enabled" => self.appends_to_file = number.map(|is_on| is_on == 1),
                "connected_slaves" => self.replicas = number,
                // The line is there if the limit is set.
                "min_slaves_good_slaves" => self.min_replicas = self.min_replicas.or(Some(1)),
                _ => {}
            }
        }
        if self.replicas.is_some() {
            self.min_replicas = self.min_replicas.or(Some(0));
        }
    }

    fn read_setting(&mut self, name: &str, value: &str) {
        let number = value.parse().ok();
        match name {
            "maxmemory" => self.max_memory = number.or(self.max_memory),
            "maxmemory-policy" => self.eviction_policy = Some(value.to_owned()),
            "appendonly" => self.appends_to_file = Some(value == "yes"),
            "save" => self.saves_snapshots = Some(!value.is_empty()),
            "min-replicas-to-write" => self.min_replicas = number.or(self.min_replicas),
            "timeout" => self.idle_timeout = number,
            _ => {}
        }
    }

    /// The first two numbers of the version.
    pub(crate) fn version_numbers(&self) -> Option<(u64, u64)> {
        let mut numbers = self.version.as_deref()?.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_and_config_complete_each_other() {
        let mut facts = ServerFacts::default();
        facts.read_info(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nused_memory:1024\r\nmaxmemory:0\r\n\
             maxmemory_policy:noeviction\r\naof_enabled:1\r\nconnected_slaves:2\r\n",
        );
        assert_eq!((facts.version_numbers(), facts.min_replicas), (Some((7, 0)), Some(0)));
        assert_eq!((facts.appends_to_file, facts.saves_snapshots), (Some(true), None));
        facts.read_setting("save", "3600 1");
        facts.read_setting("min-replicas-to-write", "2");
        assert_eq!((facts.saves_snapshots, facts.min_replicas), (Some(true), Some(2)));
        facts.read_info("valkey_version:8.1.0\r\n");
        assert_eq!((facts.name.as_deref(), facts.version_numbers()), (Some("valkey"), Some((8, 1))));
    }

    #[test]
    fn a_version_that_is_none_is_unknown() {
        for version in ["", "7", "x.y", "v7.2"] {
            let facts = ServerFacts { version: Some(version.to_owned()), ..ServerFacts::default() };
            assert_eq!(facts.version_numbers(), None, "{version}");
        }
    }
}
