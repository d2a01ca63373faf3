"""Writes a test for promtool: each alert of deploy/monitoring fires beyond its threshold, once its time has passed, and
not at it."""

import pathlib
import re
import sys

import yaml

RULES = pathlib.Path("deploy/monitoring/alerts.yaml").resolve()

# A minute between samples.
SAMPLES = 120


def constant(value):
    return f"{value}x{SAMPLES}"


def by_minute(step):
    return f"0+{step}x{SAMPLES}"


def labels_of(series):
    return dict(re.findall(r'(\w+)="([^"]*)"', series))


I = 'instance="a:9090"'
R = 'instance="r:9121"'
AUDIT = f'larder_background_requests_total{{{I},kind="audit",result="purge-missing"}}'

# By alert: series that make it fire, and series that do not. Those of a case belong together.
CASES = {
    "LarderDown": [{f'up{{job="larder",{I}}}': constant(0)}, {f'up{{job="larder",{I}}}': constant(1)}],
    "LarderHitRateLow": [
        {'cache_hits_total{namespace="n"}': by_minute(790), 'cache_misses_total{namespace="n"}': by_minute(210)},
        {'cache_hits_total{namespace="n"}': by_minute(810), 'cache_misses_total{namespace="n"}': by_minute(190)},
        # Too few requests to judge by.
        {'cache_hits_total{namespace="n"}': by_minute(10), 'cache_misses_total{namespace="n"}': by_minute(40)},
    ],
    "LarderStoreSlow": [
        {
            f'larder_redis_slow_commands_total{{{I},command="get"}}': by_minute(11),
            f'larder_redis_commands_total{{{I},command="get",result="answered"}}': by_minute(500),
            f'larder_redis_commands_total{{{I},command="get",result="timeout"}}': by_minute(500),
        },
        {
            f'larder_redis_slow_commands_total{{{I},command="get"}}': by_minute(9),
            f'larder_redis_commands_total{{{I},command="get",result="answered"}}': by_minute(1000),
        },
    ],
    "LarderRedisAway": [{f"larder_redis_up{{{I}}}": constant(0)}, {f"larder_redis_up{{{I}}}": constant(1)}],
    "LarderPurgesWaiting": [
        {f"larder_purges_waiting{{{I}}}": constant(1)},
        {f"larder_purges_waiting{{{I}}}": constant(0)},
    ],
    "LarderPurgesFailed": [
        {f"larder_purges_failed_total{{{I}}}": by_minute(1)},
        {f"larder_purges_failed_total{{{I}}}": constant(3)},
    ],
    "LarderViewLags": [
        {
            f"larder_redis_confirmed_age_seconds{{{I}}}": constant(2.1),
            f"larder_redis_max_lag_seconds{{{I}}}": constant(2),
        },
        {
            f"larder_redis_confirmed_age_seconds{{{I}}}": constant(1.9),
            f"larder_redis_max_lag_seconds{{{I}}}": constant(2),
        },
        {
            f"larder_redis_confirmed_age_seconds{{{I}}}": constant(0.9),
            f"larder_redis_max_lag_seconds{{{I}}}": constant(0),
        },
    ],
    "LarderEventSourceAway": [
        {f'larder_event_source_up{{{I},source="s",kind="notify"}}': constant(0)},
        {f'larder_event_source_silent{{{I},source="s",kind="notify"}}': constant(1)},
        {f'larder_event_source_up{{{I},source="s",kind="notify"}}': constant(1)},
    ],
    "LarderCdnLags": [
        {f'larder_cdn_lag_seconds{{{I},cdn="fastly"}}': constant(31)},
        {f'larder_cdn_lag_seconds{{{I},cdn="fastly"}}': constant(29)},
    ],
    "LarderEvictions": [
        {f"larder_evicted_total{{{I}}}": by_minute(101)},
        {f"larder_evicted_total{{{I}}}": by_minute(99)},
    ],
    "LarderConfigRefused": [
        {f"larder_config_in_use{{{I}}}": constant(0)},
        {f"larder_config_in_use{{{I}}}": constant(1)},
    ],
    "LarderNeedsRestart": [
        {f"larder_config_needs_restart{{{I}}}": constant(1)},
        {f"larder_config_needs_restart{{{I}}}": constant(0)},
    ],
    # Time begins with 0 here.
    "LarderCertificateEnds": [
        {f'larder_tls_certificate_expiry_seconds{{{I},cert="c.pem"}}': constant(7 * 86400 - 60)},
        {f'larder_tls_certificate_expiry_seconds{{{I},cert="c.pem"}}': constant(8 * 86400)},
    ],
    "LarderUpstreamFails": [
        {f'larder_upstream_failures_total{{{I},reason="connect"}}': by_minute(61)},
        {f'larder_upstream_failures_total{{{I},reason="connect"}}': by_minute(59)},
    ],
    "LarderAuditFinding": [
        {AUDIT: by_minute(1)},
        # The first finding is no increase.
        {AUDIT: "_x115 1+0x10"},
        {AUDIT: constant(3)},
        {AUDIT.replace("purge-missing", "same"): by_minute(1)},
    ],
    "LarderWorkerStalled": [
        {f'larder_worker_stalled_seconds{{{I},worker="1"}}': constant(2.1)},
        {f'larder_worker_stalled_seconds{{{I},worker="1"}}': constant(1.9)},
    ],
    "LarderOutOfFiles": [
        {f"larder_accepts_failed_total{{{I}}}": by_minute(1)},
        {f"larder_accepts_failed_total{{{I}}}": constant(3)},
    ],
    "LarderRedisMemory": [
        {f"redis_memory_used_bytes{{{R}}}": constant(81), f"redis_memory_max_bytes{{{R}}}": constant(100)},
        {f"redis_memory_used_bytes{{{R}}}": constant(79), f"redis_memory_max_bytes{{{R}}}": constant(100)},
        # Without a limit.
        {f"redis_memory_used_bytes{{{R}}}": constant(81), f"redis_memory_max_bytes{{{R}}}": constant(0)},
    ],
    "LarderRedisClients": [
        {f"redis_connected_clients{{{R}}}": constant(91), f"redis_config_maxclients{{{R}}}": constant(100)},
        {f"redis_connected_clients{{{R}}}": constant(89), f"redis_config_maxclients{{{R}}}": constant(100)},
    ],
    "LarderRedisReplicationLag": [
        {f"redis_connected_slave_lag_seconds{{{R}}}": constant(2)},
        {f"redis_connected_slave_lag_seconds{{{R}}}": constant(1)},
    ],
    "LarderRedisSlowCommands": [
        {f"redis_slowlog_last_id{{{R}}}": by_minute(1)},
        {f"redis_slowlog_last_id{{{R}}}": constant(7)},
    ],
    "LarderRedisEvictions": [
        {f"redis_evicted_keys_total{{{R}}}": by_minute(101)},
        {f"redis_evicted_keys_total{{{R}}}": by_minute(99)},
    ],
}

# A second case that fires, by its place among the alert's cases.
ALSO_FIRES = {("LarderAuditFinding", 1), ("LarderEventSourceAway", 1)}

# Labels that the expression leaves out.
KEPT = {"LarderHitRateLow": ["namespace"], "LarderStoreSlow": ["instance", "command"], "LarderUpstreamFails": ["instance", "reason"]}


def render(summary, labels):
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda name: labels[name[1]], summary)
    assert "{{" not in text, text
    return text


def expected(alert, rule, series):
    labels = labels_of(next(iter(series)))
    labels = {name: value for name, value in labels.items() if name in KEPT.get(alert, labels)}
    text = render(rule["annotations"]["summary"], labels)
    return {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": {"summary": text}}


def tests():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules} == set(CASES), "each alert has its cases"
    for rule in rules:
        alert = rule["alert"]
        for place, series in enumerate(CASES[alert]):
            fires = place == 0 or (alert, place) in ALSO_FIRES
            checks = [{"eval_time": "119m", "alertname": alert}]
            if fires:
                checks[0]["exp_alerts"] = [expected(alert, rule, series)]
            if fires and "for" in rule:
                # It waits for its time.
                checks.append({"eval_time": "0m", "alertname": alert})
            yield {
                "name": f"{alert} {place}",
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": checks,
            }


written = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": list(tests())}
pathlib.Path(sys.argv[1]).write_text(yaml.safe_dump(written, sort_keys=False))
print(f"{len(written['tests'])} tests of {len(CASES)} alerts")
