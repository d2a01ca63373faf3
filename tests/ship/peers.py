"""Tries what README.md's table claims. A cell is `yes`, `no` or what an operator has to add, as each server's own
configuration below has it: caching of every GET for an hour, and nothing that the server does not do by itself."""

import contextlib
import http.client
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

PROGRAM, WORK = sys.argv[1], pathlib.Path(sys.argv[2])
DEADLINE = 120
SERVERS = ["larder", "nginx", "Varnish", "Redis code"]

NGINX = """
user root; daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/t; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; proxy_cache_path {dir}/cache keys_zone=c:8m;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{api}; proxy_cache c; proxy_cache_valid 200 1h; proxy_cache_lock on; }}
  }}
}}
"""
VARNISH = """
vcl 4.1;
backend api {{ .host = "127.0.0.1"; .port = "{api}"; }}
sub vcl_recv {{ if (req.method == "PURGE") {{ return (purge); }} }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
"""
LARDER = """
listen: 127.0.0.1:{port}
admin: off
upstream: http://127.0.0.1:{api}
routes: [{{path: "/{{*rest}}", ttl: 1h}}]
"""


REDIS_CODE = """
redis-server --port {redis} --save '' --bind 127.0.0.1 &
exec python3 tests/ship/redis_code.py {port} {api} {redis}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Api(http.server.ThreadingHTTPServer):
    """A version that writes raise. A GET of a path with `slow` answers when it is let go, with what it saw at first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.version, self.fetches = 0, 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reset(self):
        self.fetches = 0
        self.begun.clear()
        self.go_on.clear()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        api = self.server
        with api.lock:
            api.fetches += 1
            version = api.version
        if "slow" in self.path:
            api.begun.set()
            api.go_on.wait(DEADLINE)
        self.answer(str(version))

    def do_PATCH(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.version += 1
        self.answer("changed")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def ask(port, method, path, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request(method, path, headers=dict(headers))
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


@contextlib.contextmanager
def server(name, api):
    """Starts a server, in a process group of its own, which ends with it."""
    folder = WORK / f"{name}.d"
    folder.mkdir(exist_ok=True)
    port = free_port()
    template = {"larder": LARDER, "nginx": NGINX, "Varnish": VARNISH, "Redis code": REDIS_CODE}[name]
    file = folder / "configuration"
    file.write_text(template.format(dir=folder, port=port, api=api.server_address[1], redis=free_port()))
    command = {
        "larder": [PROGRAM, "--config", file],
        "nginx": ["nginx", "-c", file],
        "Varnish": ["varnishd", "-F", "-n", folder / "n", "-a", f"127.0.0.1:{port}", "-f", file, "-s", "malloc,16m"],
        "Redis code": ["sh", file],
    }[name]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
    try:
        last = time.monotonic() + DEADLINE
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > last:
                sys.exit(f"{name} does not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.05)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def write_purges(port, api):
    """A PATCH through the server: is the next GET new?"""
    before = ask(port, "GET", "/a")[1]
    assert ask(port, "GET", "/a")[1] == before and api.fetches == 1, "it caches"
    ask(port, "PATCH", "/a")
    return ask(port, "GET", "/a")[1] != before


def one_fetch(port, api):
    """Twenty requests for one slow response: one fetch?"""
    clients = [threading.Thread(target=ask, args=(port, "GET", "/slow/together")) for _ in range(20)]
    for client in clients:
        client.start()
    assert api.begun.wait(DEADLINE)
    # Long enough for the others to arrive; a late one can only miss being counted.
    time.sleep(1)
    api.go_on.set()
    for client in clients:
        client.join()
    return api.fetches == 1


def slow_fetch_stays_away(port, api):
    """A fetch that began before a change and its purge ends after it: is the old response served then?"""
    fetching = threading.Thread(target=ask, args=(port, "GET", "/slow/race"))
    fetching.start()
    assert api.begun.wait(DEADLINE)
    ask(api.server_address[1], "PATCH", "/slow/race")
    status, _ = ask(port, "PURGE", "/slow/race")
    if status != 200:
        api.go_on.set()
        fetching.join()
        return None
    api.go_on.set()
    fetching.join()
    return ask(port, "GET", "/slow/race")[1] == str(api.version)


def callers_apart(port, api):
    """Two callers with an Authorization field, and a response that says nothing of them: two fetches?"""
    for token in ("a", "b"):
        ask(port, "GET", "/me", {"Authorization": f"Bearer {token}"})
    return api.fetches == 2


CLAIMS = {
    "A write purges what it changed": write_purges,
    "Concurrent misses cause one fetch": one_fetch,
    "A slow fetch cannot bring back what was purged": slow_fetch_stays_away,
    "Callers with credentials share nothing by default": callers_apart,
}
WORDS = {True: "yes", False: "no", None: "no purges"}


def table():
    """The rows of README.md that this script tries."""
    rows = {}
    for line in pathlib.Path("README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] in CLAIMS:
            rows[cells[0]] = dict(zip(SERVERS, cells[1:]))
    return rows


def main():
    rows, passed, failed = table(), 0, 0
    for name in SERVERS:
        for claim, question in CLAIMS.items():
            api = Api()
            with server(name, api) as port:
                found = WORDS[question(port, api)]
            claimed = rows.get(claim, {}).get(name, "nothing").split(" (")[0]
            right = claimed == found
            passed, failed = passed + right, failed + (not right)
            print(f"{'ok' if right else 'WRONG'} {name}: {claim}: {found}" + ("" if right else f", not {claimed}"), flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
