"""A real Prometheus scrapes a real larder, a Redis with a replica, and redis_exporter, with the rules of deploy/monitoring:
it has each metric and label that they name, and alerts when something ends. It answers each expression of the Grafana
dashboard, and has each metric that these name."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import yaml

PROGRAM, WORK = sys.argv[1], pathlib.Path(sys.argv[2])
DEADLINE = 120
RULES = pathlib.Path("deploy/monitoring/alerts.yaml")
BOARD = pathlib.Path("deploy/monitoring/grafana.json")
# Panels with data of a larder that has just begun and has no trouble.
LEAST_PANELS_WITH_DATA = 30
ONLY_IN_CLUSTERS = {"larder_redis_node_up"}

LARDER = """
listen:
  - 127.0.0.1:{port}
  - {{address: "127.0.0.1:{tls}", tls: {{cert: {work}/cert.pem, key: {work}/key.pem}}}}
admin: {{listen: "127.0.0.1:{admin}"}}
upstream: http://127.0.0.1:{api}
store: {{redis: "redis://127.0.0.1:{redis}", timeout: 1s, memory: 4MiB}}
cdn: [{{type: http, url: "http://127.0.0.1:{cdn}"}}]
events: [{{name: shop, pubsub: changes, purge: [items]}}]
audit: {{sample: 100%}}
routes:
  - {{path: /items, ttl: 10m, tags: [items]}}
  - {{path: "/pictures/{{id}}", ttl: 10m}}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/broken":
            self.close_connection = True
            return
        content = random.randbytes(20_000) if self.path.startswith("/pictures/") else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = answer

    def log_message(self, *_):
        pass


def ask(port, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, body


@contextlib.contextmanager
def run(name, port, *command):
    log = WORK / f"{name}.log"
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, cwd=WORK)
    try:
        last = time.monotonic() + DEADLINE
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > last:
                sys.exit(f"{name} does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def end(process):
    process.terminate()
    process.wait()


def eventually(what, condition):
    last = time.monotonic() + DEADLINE
    while not (found := condition()):
        if time.monotonic() > last:
            sys.exit(f"not within the deadline: {what}")
        time.sleep(0.2)
    print(f"ok {what}")
    return found


def query(path, **parameters):
    status, body = ask(PROMETHEUS, "GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    answer = json.loads(body)
    assert status == 200, answer
    return answer["data"]


def check_board():
    """Each expression of the dashboard can be read, names metrics that larder has, and most panels have data."""
    panels = json.loads(BOARD.read_text())["panels"]
    for panel in panels:
        for target in panel["targets"]:
            expr = target["expr"].replace("$instance", ".+")
            names = set(re.findall(r"\b(?:larder|cache)_\w+", expr))
            assert names, f"{panel['title']}: {expr}"
            for name in names - ONLY_IN_CLUSTERS:
                # Counters of what has not happened yet have a type, and no series.
                family = re.sub(r"_(total|bucket)$", "", name)
                kinds = query("metadata", metric=family) or query("metadata", metric=name)
                assert kinds, f"{panel['title']}: there is no {name}"
                is_counter = any(kind["type"] == "counter" for found in kinds.values() for kind in found)
                assert is_counter == name.endswith("_total"), f"{panel['title']}: {name} is {kinds}"

    def find_without_data():
        # An expression that can't be read, or matches many to many, is refused.
        has_data = lambda target: query("query", query=target["expr"].replace("$instance", ".+"))["result"]
        return [panel["title"] for panel in panels if not any([has_data(target) for target in panel["targets"]])]

    # A rate needs two scrapes.
    is_enough = lambda: len(panels) - len(find_without_data()) >= LEAST_PANELS_WITH_DATA
    eventually(f"{LEAST_PANELS_WITH_DATA} panels of {len(panels)} have data", is_enough)
    print(f"without data yet: {', '.join(find_without_data())}")


def fires(alert):
    return any(
        found["labels"]["alertname"] == alert and found["state"] == "firing" for found in query("alerts")["alerts"]
    )


def command(*words):
    run = ["redis-cli", "-p", str(ports["redis"]), *map(str, words)]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


def sleeps_and_fires(alert):
    """Redis is blocked for longer than a command may take, and larder's commands with it."""
    command("DEBUG", "SLEEP", 0.1)
    return fires(alert)


def find_names(rule):
    """The selectors of a rule without those of values, and the labels that it reads of what they select."""
    expr = re.sub(r"(result=~?\"[^\"]*\",?|==? ?\d+)", "", rule["expr"])
    names = set(re.findall(r"\b(?:larder|cache|redis)_\w+|\bup\b", expr))
    labels = {label for group in re.findall(r"by \(([^)]*)\)", expr) for label in re.split(r",\s*", group)}
    return names, labels | set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))


rules = yaml.safe_load(RULES.read_text())
all_rules = [rule for group in rules["groups"] for rule in group["rules"]]
for rule in all_rules:
    # Times are for operators. `promtool` tests them.
    rule.pop("for", None)
(WORK / "rules.yaml").write_text(yaml.safe_dump(rules))

ports = {name: free_port() for name in ["port", "tls", "admin", "redis", "replica", "exporter", "cdn", "prometheus"]}
PROMETHEUS = ports["prometheus"]
api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
api.daemon_threads = True
threading.Thread(target=api.serve_forever, daemon=True).start()
make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=test"
subprocess.run(make.split(), cwd=WORK, check=True, capture_output=True)
text = LARDER.format(work=WORK, api=api.server_address[1], **ports)
(WORK / "proxy.yaml").write_text(text)
targets = {"larder": ports["admin"], "redis": ports["exporter"]}
(WORK / "prometheus.yaml").write_text(
    yaml.safe_dump(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for job, port in targets.items()
            ],
        }
    )
)
REDIS = ["redis-server", "--enable-debug-command", "yes", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
(WORK / "primary").mkdir()
(WORK / "secondary").mkdir()

with contextlib.ExitStack() as stack:
    start = lambda name, *command: stack.enter_context(run(name, ports[name], *command))
    redis = start("redis", *REDIS, "--port", ports["redis"], "--dir", WORK / "primary", "--maxmemory", "100mb")
    replica = start(
        "replica", *REDIS, "--port", ports["replica"], "--dir", WORK / "secondary",
        "--replicaof", "127.0.0.1", ports["redis"],
    )
    start(
        "exporter", "prometheus-redis-exporter", "-redis.addr", f"redis://127.0.0.1:{ports['redis']}",
        "-web.listen-address", f"127.0.0.1:{ports['exporter']}",
    )
    larder = stack.enter_context(run("larder", ports["port"], PROGRAM, "--config", WORK / "proxy.yaml"))
    start(
        "prometheus", "prometheus", "--config.file", WORK / "prometheus.yaml", "--storage.tsdb.path", WORK / "tsdb",
        "--web.listen-address", f"127.0.0.1:{PROMETHEUS}",
    )
    for _ in range(3):
        ask(ports["port"], "GET", "/items")
    ask(ports["port"], "GET", "/broken")

    for rule in all_rules:
        names, labels = find_names(rule)
        assert names, rule
        for name in names:
            found = eventually(f"{rule['alert']}: {name}", lambda: query("series", **{"match[]": name}))
            # Those that only some servers have: where all are one, or none is behind.
            wanted = labels - {"job"}
            assert wanted <= set(found[0]), f"{rule['alert']}: {name} has {sorted(found[0])}, not {sorted(wanted)}"

    check_board()

    loud = [alert["labels"]["alertname"] for alert in query("alerts")["alerts"] if alert["state"] == "firing"]
    assert set(loud) <= {"LarderCdnLags"}, f"nothing else has failed: {loud}"
    eventually("LarderCdnLags fires for a CDN that does not answer", lambda: fires("LarderCdnLags"))

    (WORK / "proxy.yaml").write_text(text + "nonsense: 1\n")
    eventually("LarderConfigRefused fires for a file with an error", lambda: fires("LarderConfigRefused"))
    (WORK / "proxy.yaml").write_text(text.replace("timeout: 1s", "timeout: 2s"))
    eventually("LarderNeedsRestart fires for a change that needs one", lambda: fires("LarderNeedsRestart"))
    assert not fires("LarderConfigRefused"), "the file is in use"

    for alert in ["LarderStoreSlow", "LarderRedisSlowCommands"]:
        eventually(f"{alert} fires for a Redis that is blocked for 100 ms", lambda: sleeps_and_fires(alert))

    # Each is a miss; neither tier has room for all.
    command("CONFIG", "SET", "maxmemory", "5mb", "maxmemory-policy", "volatile-lru")
    for number in range(2000):
        ask(ports["port"], "GET", f"/pictures/{number}")
    for alert in ["LarderHitRateLow", "LarderEvictions", "LarderRedisEvictions"]:
        eventually(f"{alert} fires for 2000 large responses", lambda: fires(alert))
    command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "noeviction")

    with contextlib.ExitStack() as connected:
        for _ in range(40):
            connected.enter_context(socket.create_connection(("127.0.0.1", ports["redis"])))
        clients = int(re.search(r"connected_clients:(\d+)", command("INFO", "clients"))[1])
        command("CONFIG", "SET", "maxclients", clients + 3)
        eventually("LarderRedisClients fires for a Redis with few places", lambda: fires("LarderRedisClients"))
        command("CONFIG", "SET", "maxclients", 10_000)

    os.kill(replica.pid, signal.SIGSTOP)
    eventually("LarderRedisReplicationLag fires for a replica that halts", lambda: fires("LarderRedisReplicationLag"))
    os.kill(replica.pid, signal.SIGCONT)

    command("CONFIG", "SET", "maxmemory", "1500kb")
    eventually("LarderRedisMemory fires for a Redis that is nearly full", lambda: fires("LarderRedisMemory"))

    assert not fires("LarderRedisAway") and not fires("LarderDown"), "nothing has ended"
    end(redis)
    ask(ports["port"], "PUT", "/items")
    for alert in ["LarderRedisAway", "LarderEventSourceAway", "LarderPurgesWaiting", "LarderViewLags"]:
        eventually(f"{alert} fires without Redis", lambda: fires(alert))
    end(larder)
    eventually("LarderDown fires without larder", lambda: fires("LarderDown"))
