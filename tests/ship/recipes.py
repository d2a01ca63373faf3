"""One run of each recipe: its page's commands, larder with its proxy.yaml, and the requests that the page tells of."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

PROGRAM, WORK, RECIPES = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
DEADLINE = 120
# The requests to each API: a list, one course, and a change of it.
REST = ("/courses", "/courses/7", "PATCH", "/courses/7", '{"title": "Splices"}')
REQUESTS = {
    "graphql": (
        "/graphql?query=%7Bcourses%7Bid+title%7D%7D",
        "/graphql?query=%7Bcourse(id:7)%7Btitle%7D%7D",
        "POST",
        "/mutations",
        json.dumps({"query": 'mutation { rename(id: 7, title: "Splices") { title } }'}),
    )
}
passed = 0


def check(name, condition, detail=""):
    global passed
    if not condition:
        sys.exit(f"failed: {name}: {detail}")
    passed += 1
    print(f"ok {name}", flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, method, path, content=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    # Every way in has the same name, as behind a balancer.
    fields = {"Host": "shop.test", "Content-Type": "application/json", **dict(headers)}
    connection.request(method, path, content, fields)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("Cache-Status") or "", body


@contextlib.contextmanager
def running(command, port, log, **options):
    """A process that listens on `port` before the block begins, and has ended after it."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **options)
    try:
        last = time.monotonic() + DEADLINE
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > last:
                sys.exit(f"failed: {command} does not listen on {port}\n{pathlib.Path(log).read_text()}")
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
        process.wait()


@contextlib.contextmanager
def larder(folder, upstream, name="larder"):
    """larder with the recipe's file, in front of `upstream`: the ports for clients and operators."""
    port, admin = free_port(), free_port()
    command = [PROGRAM, "--config", folder / "proxy.yaml", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with running([*command, "--upstream", f"http://127.0.0.1:{upstream}"], port, WORK / f"{name}.log"):
        yield port, admin


def commands(folder):
    page = (folder / "README.md").read_text()
    block = re.search(r"```sh no-run\n(.*?)```", page, re.DOTALL)
    return block.group(1).strip().splitlines()


def copy(recipe):
    folder = WORK / recipe
    shutil.copytree(pathlib.Path("examples") / recipe, folder)
    return folder


def installed(folder):
    """Runs the page's commands but the last, which starts the server, and returns that."""
    *installs, start = commands(folder)
    for install in installs:
        subprocess.run(install, shell=True, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return start


def framework(recipe):
    folder = copy(recipe)
    start = installed(folder)
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "DATABASE": str(folder / "db.sqlite")}
    # The API purges at the admin listener, and larder needs the API's port.
    with larder(folder, port) as (proxy, admin):
        environment["LARDER_ADMIN_URL"] = f"http://127.0.0.1:{admin}"
        with running(["bash", "-c", f"exec {start}"], port, WORK / f"{recipe}.log", cwd=folder, env=environment):
            promises(recipe, proxy, port)
            if recipe == "graphql":
                mutations_by_post(proxy)


def promises(recipe, proxy, api):
    listed, one, method, target, content = REQUESTS.get(recipe, REST)
    status, said, body = ask(proxy, "GET", listed)
    check(f"{recipe}: the list is a miss and stored", status == 200 and "stored" in said, (status, said, body))
    _, said, again = ask(proxy, "GET", listed)
    check(f"{recipe}: then a hit", "; hit" in said and again == body and "Knots" in body, (said, body))
    ask(proxy, "GET", one)
    _, said, _ = ask(proxy, "GET", one)
    check(f"{recipe}: the course is a hit", "; hit" in said, said)
    changed = ask(api, method, target, content)
    check(f"{recipe}: a change past larder", changed[0] == 200, changed)
    for path in (listed, one):
        _, said, body = ask(proxy, "GET", path)
        check(f"{recipe}: {path} is new at once, and purged", "Splices" in body and "purged" in said, (said, body))
    _, said, _ = ask(proxy, "GET", listed)
    check(f"{recipe}: and a hit again", "; hit" in said, said)
    for token in ("a", "b"):
        _, said, _ = ask(proxy, "GET", listed, headers={"Authorization": f"Bearer {token}"})
        check(f"{recipe}: no hit for the caller {token}", "; hit" not in said, said)


def mutations_by_post(proxy):
    """What looks like a query by POST and is none reaches the API each time."""
    for title in ("A", "B", "A"):
        rename = 'mutation($t: String!) { rename(id: 7, title: $t) { title } }'
        content = json.dumps({"query": rename, "variables": {"t": title}})
        _, said, body = ask(proxy, "POST", "/graphql", content)
        check(f"graphql: renamed to {title}", "fwd=method" in said and title in body, (said, body))
        for expected in ("stored", "; hit"):
            _, said, body = ask(proxy, "POST", "/graphql", json.dumps({"query": "{ course(id: 7) { title } }"}))
            check(f"graphql: a query by POST: {expected}", expected in said and f'"{title}"' in body, (said, body))


class Api:
    """An API of two resources, for what is about other servers."""

    def __enter__(self):
        import http.server

        title = ["Knots"]

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = json.dumps([{"id": 7, "title": title[0], "from": self.headers.get("X-Forwarded-For")}]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_PATCH(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                title[0] = json.loads(content)["title"]
                self.do_GET()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_address[1]

    def __exit__(self, *_):
        self.server.shutdown()


# The files of each server that name ports.
SERVERS = {
    "nginx": ["nginx.conf"],
    "caddy": ["Caddyfile"],
    "envoy": ["envoy.yaml"],
    "traefik": ["traefik.yaml", "routes.yaml"],
}


def moved(recipe, folder, ports):
    """The recipe's configuration on other ports."""
    for path in (folder / file for file in SERVERS[recipe]):
        text = path.read_text().replace("/tmp/larder-nginx.pid", str(folder / "pid"))
        for old, new in ports.items():
            text = re.sub(rf"(:|port_value: ){old}\b", rf"\g<1>{new}", text)
        path.write_text(text)


def server(recipe):
    """The server in front of larder, then behind it."""
    folder = copy(recipe)
    front = free_port()
    command = installed(folder).replace(".venv/", f"{folder}/.venv/")
    environment = {**os.environ, "HOME": str(folder)}
    with Api() as api, larder(folder, api) as (proxy, _):
        moved(recipe, folder, {8000: front, 8080: proxy})
        with running(["bash", "-c", f"exec {command}"], front, WORK / f"{recipe}.log", cwd=folder, env=environment):
            through(f"{recipe} in front", front)
            _, _, body = ask(front, "GET", "/courses/8")
            check(f"{recipe} in front: the API sees the client", "127.0.0.1" in body, body)
            status, _, _ = ask(front, "PURGE", "/courses")
            check(f"{recipe} in front: nobody purges through it", status in (404, 405), status)
    folder = WORK / f"{recipe}-behind"
    shutil.copytree(pathlib.Path("examples") / recipe, folder)
    behind = free_port()
    with Api() as api, larder(folder, behind) as (proxy, _):
        moved(recipe, folder, {8000: behind, 8080: api})
        with running(["bash", "-c", f"exec {command}"], behind, WORK / f"{recipe}.log", cwd=folder, env=environment):
            through(f"{recipe} behind", proxy)


def through(name, port):
    # Traefik listens before it knows its routes.
    last = time.monotonic() + DEADLINE
    while ask(port, "GET", "/courses")[0] != 200 and time.monotonic() < last:
        time.sleep(0.1)
    _, said, _ = ask(port, "GET", "/courses")
    check(f"{name}: a hit", "; hit" in said, said)
    ask(port, "PATCH", "/courses", '{"title": "Splices"}')
    _, said, body = ask(port, "GET", "/courses")
    check(f"{name}: a write purges", "Splices" in body and "; hit" not in said, (said, body))


for recipe in RECIPES:
    if recipe in SERVERS:
        server(recipe)
    else:
        framework(recipe)
print(f"{passed} passed, 0 failed")
