"""The load: wrk on a core of its own, and what a round of it says."""

import re
import subprocess
import time

# Each request a path of its own kind; keys by Zipf's law (a key is as likely as one by its number). With a rate, each
# connection waits before it asks, at random, so that all together ask so often.
SCRIPT = """
local kind, keys, zipf, gap, field, value = "%(kind)s", %(keys)d, %(zipf)s, %(gap)f, "%(field)s", "%(value)s"
local head = {}
if field ~= "" then head[field] = value end
local requests, at = {}, 0
function init()
  math.randomseed(%(seed)d)
  for n = 1, 20000 do
    local key = zipf and math.floor(keys ^ math.random()) or math.random(keys)
    requests[n] = wrk.format("%(method)s", kind .. key, head)
  end
end
function request()
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
    def __init__(self, name, kind, keys=1, zipf=False, connections=64, field="", value="", method="GET", purges=0):
        self.name, self.kind, self.keys, self.zipf, self.connections = name, kind, keys, zipf, connections
        self.field, self.value, self.method, self.purges = field, value, method, purges


class Round:
    def __init__(self, requests, seconds, cpu, p50, p99, p999, errors, size):
        self.requests, self.errors, self.bytes = requests, errors, size
        self.rate = requests / seconds
        # Microseconds of the server's processor time for each request.
        self.cpu = cpu / max(requests, 1) * 1e6
        self.p50, self.p99, self.p999 = p50, p99, p999


def run(server, scenario, seconds, core, scratch, seed=1, rate=0):
    gap = scenario.connections / rate * 1000 if rate else 0
    script = scratch / "wrk.lua"
    script.write_text(SCRIPT % {**vars(scenario), "zipf": str(scenario.zipf).lower(), "gap": gap, "seed": seed})
    before, began = server.cpu_seconds(), time.monotonic()
    done = subprocess.run(["taskset", "-c", str(core), "wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s",
                           "-s", str(script), f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=True)
    cpu = server.cpu_seconds() - before
    found = re.search(r"p50 ([\d.]+) p99 ([\d.]+) p999 ([\d.]+)\s+count (\d+) seconds ([\d.]+) errors (\d+) bytes (\d+)",
                      done.stdout)
    if not found:
        raise RuntimeError(f"wrk said: {done.stdout} {done.stderr}")
    p50, p99, p999, count, took, errors, size = (float(value) for value in found.groups())
    return Round(int(count), took or time.monotonic() - began, cpu, p50, p99, p999, int(errors), int(size))
