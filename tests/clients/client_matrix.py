"""Many clients ask one server, directly and through larder."""

import contextlib
import dataclasses
import shutil
import subprocess
import sys

from harness import CURL, HERE, JARS, LIMIT, PYTHON, WORK, Matrix, announcing, ask, ask_slowly, end, has_modules
from harness import has_package, is_open, judge, larder, port_of, read_line, wait_until

HTTP = "get cached 304 range head gzip chunked redirect cookies upload stream continue events early purge update".split()
STREAMS = "EventSource WebSocket unary streams status".split()
TABLES = [[*HTTP, "shutdown"], [*STREAMS, "shutdown"]]
# Clients, cases, a pattern of the cell, and why it is so.
REASONS = [
    (
        "curl HTTP/2",
        "redirect|early",
        "302 exit 16|(000|413) exit (18|92)",
        "curl 7.88 loses it over HTTP/2 by prior knowledge, with nginx as with larder.",
    ),
    (
        "Chromium",
        "purge",
        "no \\(held stale\\)",
        "larder takes no PURGE from a browser ([loopback](security.md)): 403, and what was cached stays.",
    ),
]
SERVERS = {
    "http": [sys.executable, HERE / "upstream.py"],
    "websocket": [PYTHON, HERE / "streams.py", "websocket-server"],
    "grpc": [PYTHON, HERE / "streams.py", "grpc-server"],
}
OPTIONS = {
    "http": {"routes": "[{path: /text, ttl: 60s}, {path: /count, ttl: 60s}]"},
    "websocket": {"more": "limits: {drain: 3s}\n"},
    "grpc": {},
}


@dataclasses.dataclass
class Client:
    name: str
    command: list
    cases: list
    # Whether it is installed.
    is_there: object
    servers: tuple = ("http",)
    # The command for the direct way, if another one.
    direct: list = None


def build_go():
    if not shutil.which("go"):
        return False
    return subprocess.run(["go", "build", "-o", WORK / "client-go", HERE / "client.go"]).returncode == 0


def clients():
    http = [*HTTP, "shutdown"]
    options = [("curl", "--http1.1"), ("curl h2c", "--http2"), ("curl HTTP/2", "--http2-prior-knowledge")]
    for name, option in options:
        # The server speaks HTTP/1.1 only.
        yield Client(name, [CURL, option], http, lambda: shutil.which("curl"), direct=[CURL, "--http1.1"])
    for name in ["requests", "httpx", "aiohttp"]:
        yield Client(name, [PYTHON, HERE / "clients.py", name], http, has_modules(name))
    yield Client("Node fetch", ["node", HERE / "clients.mjs", "fetch"], http, lambda: shutil.which("node"))
    for name in ["axios", "undici"]:
        yield Client(name, ["node", HERE / "clients.mjs", name], http, has_package(name))
    yield Client("Go", [WORK / "client-go"], http, build_go)
    yield Client("Java", ["java", HERE / "Client.java"], http, lambda: shutil.which("javac"))
    jars = [JARS / f"{name}.jar" for name in ["httpclient5", "httpcore5", "httpcore5-h2", "slf4j-api", "slf4j-nop"]]
    command = ["java", "-cp", ":".join(map(str, jars)), HERE / "ApacheClient.java"]
    yield Client("Apache HttpClient", command, http, lambda: shutil.which("javac") and all(jar.exists() for jar in jars))
    browser = [case for case in http if case != "stream"] + ["EventSource", "WebSocket"]
    has_websockets = has_modules("websockets")
    is_there = lambda: shutil.which("chromium") and has_websockets()
    yield Client("Chromium", [PYTHON, HERE / "chromium.py"], browser, is_there, ("http", "websocket"))
    node = ["node", HERE / "streams.mjs"]
    yield Client("eventsource", [*node, "eventsource"], ["EventSource"], has_package("eventsource"))
    sockets = ["WebSocket", "shutdown"]
    yield Client("ws", [*node, "ws"], sockets, has_package("ws"), ("websocket",))
    yield Client("websockets", [PYTHON, HERE / "streams.py", "websockets"], sockets, has_websockets, ("websocket",))
    calls = ["unary", "streams", "status", "shutdown"]
    yield Client("grpc-js", [*node, "grpc"], calls, has_package("@grpc/grpc-js"), ("grpc",))
    yield Client("grpcio", [PYTHON, HERE / "streams.py", "grpcio"], calls, has_modules("grpc"), ("grpc",))


def started(stack, program, servers, origins):
    """A larder for each of a client's servers: the processes, and the URLs."""
    found = []
    for kind in servers:
        url = origins[kind]
        upstream = f"{{url: '{url}', http2: true}}" if kind == "grpc" else url
        found.append(stack.enter_context(larder(program, upstream, **OPTIONS[kind])))
    return [process for process, _ in found], [url for _, url in found]


def shut_down(process, url):
    """Asks larder to end, and returns when it accepts no connection any more."""
    process.terminate()
    wait_until(lambda: not is_open(port_of(url)), "larder accepts nothing more")


def converse(command, process, url):
    """A WebSocket that is open when larder is asked to end. It goes on, and learns of the end."""
    client = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=WORK
    )
    try:
        read_line(client)
        shut_down(process, url)
        said, _ = client.communicate("\n", timeout=LIMIT)
        return said.strip().split("\t")[-1]
    finally:
        end(client)


def ask_at_shutdown(client, program, origins):
    direct = [*(client.direct or client.command), *(origins[kind] for kind in client.servers), "slow"]
    with contextlib.ExitStack() as stack:
        processes, urls = started(stack, program, client.servers, origins)
        command = [*client.command, *urls, "slow"]
        if client.servers == ("websocket",):
            ended = converse(command, processes[0], urls[0])
            return "yes" if ended.startswith("still 1001") else f"no ({ended})"
        directly = ask_slowly(direct, lambda: None)
        through = ask_slowly(command, lambda: shut_down(processes[0], urls[0]))
        # The connection is drained: the answer came, and then the process ended by itself.
        if code := processes[0].wait(LIMIT):
            return f"larder ended with {code}"
        return judge("shutdown", directly.get("shutdown"), through.get("shutdown"))


def play(program, chosen):
    matrix = Matrix("clients", TABLES, REASONS)
    with contextlib.ExitStack() as stack:
        needed = {kind for client in chosen for kind in client.servers}
        origins = {kind: stack.enter_context(announcing(SERVERS[kind])) for kind in sorted(needed)}
        for client in chosen:
            with contextlib.ExitStack() as proxies:
                _, urls = started(proxies, program, client.servers, origins)
                directly = ask([*(client.direct or client.command), *(origins[kind] for kind in client.servers)])
                through = ask([*client.command, *urls])
            cells = {}
            for case in client.cases:
                if case == "shutdown":
                    cells[case] = ask_at_shutdown(client, program, origins)
                else:
                    cells[case] = judge(case, directly.get(case), through.get(case))
            matrix.add(client.name, cells)
    return matrix
