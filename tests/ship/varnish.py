"""A real Varnish in front of larder, with the VCL of docs/cdn.md. larder purges it by `cdn`."""

import contextlib
import http.client
import http.server
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

PROGRAM, WORK = sys.argv[1], pathlib.Path(sys.argv[2])
DEADLINE = 120
PAGE = pathlib.Path("docs/cdn.md").read_text()

LARDER = """
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin}"}}
upstream: http://127.0.0.1:{api}
cdn: [{{type: http, url: "http://127.0.0.1:{varnish}", repeat: 1s}}]
defaults: {{downstream: {{max_age: 0s, s_maxage: 1h}}}}
routes:
  - {{path: /courses, ttl: 10m, tags: [courses]}}
  - {{path: "/courses/{{id}}", ttl: 10m, tags: ["course:{{id}}"]}}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Api(http.server.BaseHTTPRequestHandler):
    """Each answer is another one. It says nothing of how long it may be kept."""

    protocol_version = "HTTP/1.1"
    answers = 0

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Api.answers += 1
        text = str(Api.answers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = answer

    def log_message(self, *_):
        pass


def ask(port, method, path, headers=(), source="127.0.0.1"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE, source_address=(source, 0))
    connection.request(method, path, headers=dict(headers))
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


@contextlib.contextmanager
def run(name, command, port):
    log = WORK / f"{name}.log"
    with open(log, "a") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        last = time.monotonic() + DEADLINE
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > last:
                sys.exit(f"{name} does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def eventually(what, condition):
    last = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > last:
            sys.exit(f"not within the deadline: {what}")
        time.sleep(0.05)


passed = 0


def check(what, holds, detail=""):
    global passed
    if not holds:
        sys.exit(f"FAILED {what} {detail}")
    passed += 1
    print(f"ok {what}")


api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
api.daemon_threads = True
threading.Thread(target=api.serve_forever, daemon=True).start()
port, admin, front = free_port(), free_port(), free_port()
(WORK / "proxy.yaml").write_text(
    LARDER.format(port=port, admin=admin, varnish=front, api=api.server_address[1])
)
[vcl] = [block for block in re.findall(r"```vcl\n(.*?)```", PAGE, re.S) if "xkey.purge" in block]
assert '.port = "8080"' in vcl, "the page names larder's usual port"
(WORK / "larder.vcl").write_text(vcl.replace('.port = "8080"', f'.port = "{port}"'))

LARDER_COMMAND = [PROGRAM, "--config", WORK / "proxy.yaml"]
VARNISH_COMMAND = ["varnishd", "-F", "-n", WORK / "varnish", "-a", f"127.0.0.1:{front}", "-f", WORK / "larder.vcl"]


def get(path):
    """The content, and whether Varnish had it stored: then `X-Varnish` names the request that stored it, too."""
    answer, body = ask(front, "GET", path)
    assert answer.status == 200, (path, answer.status, body)
    assert answer.getheader("xkey") is None, "names are for Varnish alone"
    return body, len(answer.getheader("X-Varnish").split()) == 2


def fill(*paths):
    contents = {}
    for path in paths:
        contents[path], _ = get(path)
        assert get(path) == (contents[path], True), f"{path} is stored"
    return contents


def metric(name, label=""):
    text = ask(admin, "GET", "/metrics")[1]
    values = re.findall(rf"^{name}{{[^}}]*{label}[^}}]*}} ([0-9.e+-]+)$", text, re.M)
    assert values, f"{name} has a value"
    return sum(float(value) for value in values)


def queue_is_empty():
    return metric("larder_cdn_queued_targets") == 0


LIST, ONE, TWO = "/courses", "/courses/1", "/courses/2"
with run("varnish", VARNISH_COMMAND, front):
    with run("larder", LARDER_COMMAND, port):
        eventually("the purge at the start is taken", lambda: metric("larder_cdn_purge_requests_total") > 0)
        eventually("its repeat, too", queue_is_empty)
        before = fill(LIST, ONE, TWO)
        check("Varnish caches what larder answers", all(get(path)[1] for path in before))
        answer, _ = ask(front, "GET", ONE)
        check("browsers ask each time", "max-age=0" in answer.getheader("Cache-Control"), answer.headers)

        ask(front, "PUT", ONE)
        eventually("a write purges Varnish", lambda: get(ONE)[0] != before[ONE])
        check("a write through Varnish purges its path there", get(ONE)[1])
        check("and nothing beside it", get(TWO) == (before[TWO], True))
        eventually("the repeat is sent", queue_is_empty)

        before = fill(LIST, ONE, TWO)
        answer, _ = ask(port, "PURGE", "/", {"Cache-Tag": "courses"})
        assert answer.status == 200, answer.status
        eventually("a purge by tag arrives", lambda: get(LIST)[0] != before[LIST])
        check("a purge by tag purges what has the tag", get(ONE) == (before[ONE], True))
        eventually("the repeat is sent", queue_is_empty)

        before = fill(LIST, ONE, TWO)
        answer, _ = ask(port, "PURGE", TWO, {"Purge-Mode": "soft"})
        assert answer.status == 200, answer.status
        eventually("what is purged softly is fetched anew", lambda: get(TWO)[0] != before[TWO])
        check("a soft purge ends in a new response", get(ONE) == (before[ONE], True))

        first = get("/other")
        check("what nothing could purge is not stored", get("/other")[0] != first[0])
        for what, headers, source in [("without names", {}, "127.0.0.1"), ("of others", {"xkey": "courses"}, "127.0.0.2")]:
            check(f"a purge {what} is refused", ask(front, "PURGE", "/", headers, source)[0].status == 403)
        check("no purge was refused", metric("larder_cdn_purge_requests_total", 'result="failed"') == 0)
        eventually("everything is sent", queue_is_empty)
        before = fill(LIST, ONE, TWO)
    with run("larder", LARDER_COMMAND, port):
        eventually("the start purges everything", lambda: all(get(path)[0] != before[path] for path in before))
        check("another start of larder purges everything", True)
print(json.dumps({"passed": passed, "failed": 0}))
