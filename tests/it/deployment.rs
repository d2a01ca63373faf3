//! Everything that `deploy/` names exists: files parse, commands and flags are known, metrics are exposed, ports and
//! paths agree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use larder::config::{Config, Listen, SettingOverrides};

use crate::support::{Command, Larder, Upstream};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn sidecar() -> Config {
    let environment = |name: &str| match name {
        "LARDER_REDIS" => Some("redis://redis:6379".to_owned()),
        "LARDER_ADMIN_TOKEN" => Some("secret".to_owned()),
        _ => None,
    };
    let text = text("kubernetes/proxy.yaml");
    let config = Config::parse(&text, "proxy.yaml", &environment, &SettingOverrides::default());
    config.unwrap_or_else(|errors| panic!("{errors}"))
}

fn port(listen: &Listen) -> u16 {
    match listen {
        Listen::Tcp(address) => address.port(),
        Listen::Unix(path) => panic!("{}", path.display()),
    }
}

/// Every name in `text` that looks like one of larder's metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("larder_") || word.starts_with("cache_")).collect()
}

#[tokio::test]
async fn alerts_and_panels_name_existing_metrics() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics");
    let mut known = String::new();
    for entry in std::fs::read_dir(source).expect("the metrics") {
        known += &std::fs::read_to_string(entry.expect("an entry").path()).expect("a text");
    }
    // Counters and histograms have endings that their names in the source lack.
    let exposed = Larder::with("routes: []", &Upstream::start()).admin.get("/metrics").await;
    for file in ["monitoring/alerts.yaml", "monitoring/grafana.json"] {
        let text = text(file);
        let named = metrics_in(&text);
        assert!(named.len() > 8, "{file}: {named:?}");
        for metric in named {
            let base = metric.strip_suffix("_total").or_else(|| metric.strip_suffix("_bucket"));
            let is_known = known.contains(&format!("\"{}\"", base.unwrap_or(metric)));
            assert!(is_known, "{file} names {metric}, and larder has no such metric");
            // Those that are always there are there as they are written.
            let always =
                exposed.text().lines().any(|line| line.starts_with(&format!("# TYPE {metric} gauge")));
            assert!(
                base.is_some()
                    || always
                    || metric.starts_with("larder_redis_")
                    || metric == "larder_tls_certificate_expiry_seconds"
                    || ["larder_purges_waiting", "larder_cdn_lag_seconds"].contains(&metric),
                "{file}: {metric} is no gauge"
            );
        }
    }
}

#[test]
fn every_metric_is_named_on_a_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str, ending: &str| -> String {
        let entries =
            std::fs::read_dir(root.join(folder)).expect(folder).map(|entry| entry.expect("an entry").path());
        let files = entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(ending)));
        files.map(|path| std::fs::read_to_string(path).expect("a text")).collect()
    };
    let (metrics, pages) = (read("src/metrics", ".rs"), read("docs", ".md"));
    let quoted = metrics.split('"').skip(1).step_by(2);
    let is_name = |text: &&str| {
        let is_ours = text.starts_with("larder_") || text.starts_with("cache_");
        is_ours && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let names: BTreeSet<&str> = quoted.filter(is_name).collect();
    assert!(names.len() > 60, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !pages.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "add to the tables of docs/operations.md or docs/redis.md: {missing:?}");
}

#[test]
fn alerts_have_the_thresholds_that_operators_expect() {
    let alerts = text("monitoring/alerts.yaml");
    for (alert, threshold) in [
        ("LarderRedisMemory", "> 0.8"),
        ("LarderHitRateLow", "< 0.8"),
        ("LarderRedisClients", "> 0.9"),
        ("LarderStoreSlow", "> 0.01"),
        ("LarderRedisReplicationLag", "> 1"),
        ("LarderRedisEvictions", "* 60 > 100"),
        ("LarderRedisSlowCommands", "increase(redis_slowlog_last_id[5m]) > 0"),
        ("LarderPurgesWaiting", "> 0"),
        ("LarderViewLags", "> clamp_min(larder_redis_max_lag_seconds, 1)"),
        ("LarderEvictions", "* 60 > 100"),
        ("LarderCdnLags", "> 30"),
        ("LarderWorkerStalled", "> 2"),
        ("LarderCertificateEnds", "< 7 * 86400"),
        ("LarderAuditFinding", "result=~\"purge-missing|shared-wrongly\"}[15m]) > 0"),
        // The first finding is no increase.
        ("LarderAuditFinding", "or (larder_background_requests_total{kind=\"audit\""),
    ] {
        let (_, rule) = alerts.split_once(&format!("alert: {alert}\n")).unwrap_or_else(|| panic!("{alert}"));
        let rule = rule.split("- alert:").next().expect("a rule");
        let expression = rule.split("labels:").next().expect("an expression");
        assert!(expression.contains(threshold), "{alert}: {expression}");
        assert!(rule.contains("severity:") && rule.contains("summary:"), "{alert}: {rule}");
    }
}

/// Helm packs only what is below the chart.
#[test]
fn the_chart_has_the_alerts() {
    assert_eq!(text("helm/files/alerts.yaml"), text("monitoring/alerts.yaml"));
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value = serde_json::from_str(&text("monitoring/grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            assert_eq!(expression.matches('(').count(), expression.matches(')').count(), "{expression}");
        }
    }
}

#[test]
fn the_sidecar_manifest_agrees_with_its_configuration() {
    let (config, deployment) = (sidecar(), text("kubernetes/deployment.yaml"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let admin = config.admin.listen.as_ref().expect("an admin listener");
    for (name, port) in [("http", port(&config.listen[0])), ("admin", port(admin))] {
        let declared = format!("{{name: {name}, containerPort: {port}}}");
        assert!(deployment.contains(&declared), "{declared}");
    }
    assert!(deployment.contains(&format!("prometheus.io/port: \"{}\"", port(admin))));
    for path in ["path: /healthz, port: admin", "path: /readyz, port: admin", "prometheus.io/path: /metrics"]
    {
        assert!(deployment.contains(path), "{path}");
    }
    let number = |after: &str| -> u64 {
        let (_, rest) = deployment.rsplit_once(after).unwrap_or_else(|| panic!("{after}"));
        rest.trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    let grace = number("terminationGracePeriodSeconds:");
    // The API is the first container, larder the last.
    let (api, larder) = (word_after(&deployment, "sleep: {seconds: "), number("sleep: {seconds:"));
    let (api, ended) = (api.parse().expect("seconds"), larder + config.limits.drain.as_secs());
    assert!(ended < api && api < grace, "{ended} < {api} < {grace}: larder ends before the API");
    let memory = number("limits: {memory:") * 1024 * 1024;
    assert!(config.store.memory * 2 < memory);
    for variable in ["LARDER_REDIS", "LARDER_ADMIN_TOKEN"] {
        let documented = format!("--from-literal={variable}=");
        assert!(text("kubernetes/kustomization.yaml").contains(&documented), "{variable}");
    }
    assert!(deployment.contains("envFrom:\n            - secretRef: {name: larder}\n"));
    assert!(text("kubernetes/service.yaml").contains("targetPort: http"));
    for file in ["deployment.yaml", "service.yaml", "proxy.yaml"] {
        assert!(text("kubernetes/kustomization.yaml").contains(file), "{file}");
    }
}

#[tokio::test]
async fn the_commands_in_the_units_and_manifests_are_understood() {
    let scratch = crate::support::Scratch::new();
    let config = scratch.file("proxy.yaml", "upstream: http://127.0.0.1:3000\n");
    let unit = text("systemd/larder.service");
    for (line, arguments) in [
        ("ExecStartPre=/usr/bin/larder check /etc/larder/proxy.yaml", vec!["check"]),
        ("ExecStart=/usr/bin/larder run --config /etc/larder/proxy.yaml", vec!["run", "--config"]),
    ] {
        assert!(unit.contains(line), "{line}");
        let path = config.to_str().expect("a path");
        let help: &[&str] = if arguments[0] == "run" { &["--help"] } else { &[] };
        let command = [arguments.as_slice(), &[path], help].concat();
        Command::new(&command).stdout().await;
    }
    assert!(text("kubernetes/deployment.yaml").contains("args: [run, --config, /etc/larder/proxy.yaml]"));
    assert!(unit.contains("kill -HUP $MAINPID"));
}

#[test]
fn the_socket_unit_has_the_default_addresses() {
    let text_of_unit = text("systemd/larder.socket");
    let defaults =
        Config::parse("upstream: http://127.0.0.1:3000", "", &|_| None, &SettingOverrides::default());
    let config = defaults.expect("the defaults");
    for listen in config.listen.iter().chain(&config.admin.listen) {
        let line = format!("ListenStream=127.0.0.1:{}", port(listen));
        assert!(text_of_unit.contains(&line), "{line}");
    }
    let seconds = text("systemd/larder.service");
    let (_, stop) = seconds.split_once("TimeoutStopSec=").expect("a deadline");
    let stop: u64 = stop.lines().next().and_then(|line| line.parse().ok()).expect("seconds");
    assert!(stop > config.limits.drain.as_secs());
}

/// The text after `before`, up to the end of its word.
fn word_after<'t>(text: &'t str, before: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before}"));
    rest.split([' ', '\n', '"', ':', ',', '}']).next().expect("a word")
}

#[test]
fn the_compose_file_and_the_dockerfile_agree() {
    let (compose, dockerfile) = (text("compose.yaml"), text("Dockerfile"));
    let config = Config::parse(&text("larder/proxy.yaml"), "", &|_| None, &SettingOverrides::default())
        .expect("it is right");
    for line in compose.lines().filter(|line| line.contains("./")) {
        let source = word_after(line, "./");
        assert!(deploy(source).exists(), "{source}: {line}");
    }
    let of_config = word_after(&dockerfile, "LARDER_CONFIG=");
    let folder = of_config.strip_suffix("/proxy.yaml").expect("the file's name");
    assert!(compose.contains(&format!("./larder:{folder}:ro")), "{of_config}");
    let served = port(&config.listen[0]);
    assert!(dockerfile.contains(&format!("EXPOSE {served}\n")));
    assert!(compose.contains(&format!("127.0.0.1::{served}")));
    assert!(compose.contains("dockerfile: deploy/Dockerfile") && compose.contains("context: .."));
    // The service's own name, and what it is asked for.
    assert!(
        text("larder/proxy.yaml").contains("upstream: http://api:80\n") && compose.contains("\n  api:\n")
    );
    let page = word_after(&compose, "http://127.0.0.1/");
    assert!(deploy("api").join(page).exists(), "{page}");
    // The build makes what is copied, and is not sent what it has no use for.
    let target = word_after(&dockerfile, "rustup target add ");
    assert!(
        dockerfile.contains(&format!("--from=build /src/target/{target}/release/larder /usr/bin/larder"))
    );
    assert!(dockerfile.contains(&format!("--locked --target {target}\n")));
    assert!(dockerfile.contains("WORKDIR /src\n") && dockerfile.contains("ENTRYPOINT [\"/usr/bin/larder\"]"));
    let admin = port(config.admin.listen.as_ref().expect("an admin listener"));
    assert!(compose.contains(&format!("[CMD, /usr/bin/larder, health, --admin, \"127.0.0.1:{admin}\"]")));
    let ignored = std::fs::read_to_string(deploy("../.dockerignore")).expect("it");
    for folder in [".git", "target"] {
        assert!(ignored.lines().any(|line| line == folder), "{folder}");
    }
    // The compiler is the one that the sources ask for.
    let manifest = std::fs::read_to_string(deploy("../Cargo.toml")).expect("it");
    let compiler = word_after(&manifest, "rust-version = \"");
    assert!(dockerfile.contains(&format!("FROM rust:{compiler}-")), "{compiler}");
}

/// The one user of the Redis that is shipped may use no other.
#[test]
fn shipped_files_use_the_namespace_of_the_redis_acl() {
    let users = text("users.acl");
    let compose = Config::parse(&text("larder/proxy.yaml"), "", &|_| None, &SettingOverrides::default())
        .expect("it is right");
    for config in [sidecar(), compose] {
        let namespace = &config.store.namespace;
        for right in
            [format!("~{{{namespace}}}:*"), format!("~{namespace}:lease:*"), format!("&{namespace}:wake")]
        {
            assert!(users.contains(&right), "{right}");
        }
    }
}
