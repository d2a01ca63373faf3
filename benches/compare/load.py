"""The load: wrk on a core of its own, and what a round of it says."""

import re
import subprocess
import time

# Keys by Zipf's law: a key is as likely as one by its number. Without a number of keys each request has one of its own,
# or as many in a row as `together` says have the same; a walk asks for one key after another.
# With a rate, each connection waits before it asks, at random, so that all together ask so often.
SCRIPT = """
local kind, keys, zipf, gap, field, value = "%(kind)s", %(keys)d, %(zipf)s, %(gap)f, "%(field)s", "%(value)s"
local head = {}
if field ~= "" then head[field] = value end
local requests, at = {}, 0
local own, together, walk = keys == 0, %(together)d, %(walk)d
function init()
  math.randomseed(%(seed)d)
  if own then
    local whole = wrk.format("%(method)s", kind .. "@", head)
    local cut = whole:find("@", 1, true)
    before, after = whole:sub(1, cut - 1) .. "%(seed)d-%(run)s-", whole:sub(cut + 1)
    return
  end
  for n = 1, 20000 do
    local key = zipf and math.floor(keys ^ math.random()) or math.random(keys)
    requests[n] = wrk.format("%(method)s", kind .. key, head)
  end
end
function request()
  if own then
    at = at + 1
    return before .. math.floor(at / together) .. after
  end
  if walk >= 0 then
    at = at + 1
    return wrk.format("%(method)s", kind .. (walk + at), head)
  end
  at = at %% 20000 + 1
  return requests[at]
end
if gap > 0 then function delay() return math.random() * 2 * gap end end
function done(summary, latency)
  io.write(string.format("p50 %%f p99 %%f p999 %%f\\n", latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
  io.write(string.format("count %%d seconds %%f errors %%d bytes %%d\\n", summary.requests, summary.duration / 1e6,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout,
    summary.bytes))
end
"""


class Scenario:
    """`reaches`: of so many of a hundred requests the upstream must hear, from the least to the most."""

    def __init__(self, name, kind, keys=1, zipf=False, connections=64, field="", value="", method="GET", purges=0,
                 reaches=(0, 2), latency=False, together=1, slow=0, h2=False, stored=False):
        self.name, self.kind, self.keys, self.zipf, self.connections = name, kind, keys, zipf, connections
        self.field, self.value, self.method, self.purges = field, value, method, purges
        self.reaches, self.latency, self.together = reaches, latency, together
        # `slow`: clients beside these that read slowly; `h2`: HTTP/2 without TLS; `stored`: all keys are stored first.
        self.slow, self.h2, self.stored = slow, h2, stored

    def plain(self):
        """The same, asked without the field."""
        return Scenario(self.name, self.kind, self.keys, self.zipf, self.connections)

    def walk(self):
        """The same, each key in its turn."""
        return Scenario(self.name, self.kind, self.keys, False, self.connections)


class Round:
    def __init__(self, requests, seconds, cpu, p50, p99, p999, errors, size, upstream):
        self.requests, self.errors, self.bytes = requests, errors, size
        # The share of requests that reached the upstream, in percent.
        self.reached = max(upstream, 0) / max(requests, 1) * 100
        self.rate = requests / seconds
        # Microseconds of the server's processor time for each request.
        self.cpu = cpu / max(requests, 1) * 1e6
        self.p50, self.p99, self.p999 = p50, p99, p999


def run(server, scenario, seconds, core, scratch, upstream_requests, seed=1, rate=0, walk=-1):
    if scenario.h2:
        return run_h2(server, scenario, seconds, core, upstream_requests)
    gap = scenario.connections / rate * 1000 if rate else 0
    script = scratch / "wrk.lua"
    script.write_text(SCRIPT % {**vars(scenario), "zipf": str(scenario.zipf).lower(), "gap": gap, "seed": seed, "walk": walk,
                                "run": format(time.monotonic_ns(), "x")})
    asked = upstream_requests()
    before, began = server.cpu_seconds(), time.monotonic()
    done = subprocess.run(["taskset", "-c", str(core), "wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s",
                           "-s", str(script), f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=True)
    cpu = server.cpu_seconds() - before
    # Those that were under way at the end are not counted by wrk.
    asked = upstream_requests() - asked - scenario.connections
    found = re.search(r"p50 ([\d.]+) p99 ([\d.]+) p999 ([\d.]+)\s+count (\d+) seconds ([\d.]+) errors (\d+) bytes (\d+)",
                      done.stdout)
    if not found:
        raise RuntimeError(f"wrk said: {done.stdout} {done.stderr}")
    p50, p99, p999, count, took, errors, size = (float(value) for value in found.groups())
    return Round(int(count), took or time.monotonic() - began, cpu, p50, p99, p999, int(errors), int(size), asked)


def run_h2(server, scenario, seconds, core, upstream_requests):
    """h2load: ten requests at a time on each connection."""
    urls = [f"http://127.0.0.1:{server.h2_port}{scenario.kind}{key}" for key in range(1, scenario.keys + 1)]
    asked = upstream_requests()
    before = server.cpu_seconds()
    done = subprocess.run(["taskset", "-c", str(core), "h2load", "-t1", f"-c{scenario.connections}", "-m10", f"-D{seconds}", *urls],
                          capture_output=True, text=True, check=True)
    cpu = server.cpu_seconds() - before
    asked = upstream_requests() - asked
    rate = float(re.search(r"finished in [^,]+, ([\d.]+) req/s", done.stdout)[1])
    count, failed = (int(re.search(rf"(\d+) {what}", done.stdout)[1]) for what in ("done", "failed"))
    other = sum(int(re.search(rf"(\d+) {what}", done.stdout)[1]) for what in ("3xx", "4xx", "5xx"))
    return Round(count, count / rate if rate else seconds, cpu, 0, 0, 0, failed + other, 0, asked)


def store_all(server, scenario, core, scratch, upstream_requests):
    """Asks for each key once, so that what is measured then is hits."""
    at = 0
    while at < scenario.keys:
        asked = run(server, scenario.walk(), 2, core, scratch, upstream_requests, walk=at).requests
        # Some of those that were under way at the end are asked for again.
        at += max(1, asked - 2 * scenario.connections)
