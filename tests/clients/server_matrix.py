"""One client asks many servers, directly and through larder."""

import asyncio
import contextlib
import dataclasses
import getpass
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

import sample
from harness import CURL, ENVIRONMENT, HERE, JARS, LIMIT, PYTHON, WORK, Matrix, announcing, ask, ask_slowly, free_port
from harness import has_modules, has_package, is_open, judge, larder, listening, port_of

CASES = "get cached 304 range head gzip chunked redirect cookies upload stream continue events early".split()
TABLES = [[*CASES, "shutdown", "race", "race, unset"]]
# Servers, cases, a pattern of the cell, and why it is so.
REASONS = [
    (
        ".*",
        "race, unset",
        "\\d{1,2} of 2000 failed with \\[502\\]",
        "The server closed connections just when writes came: 502. (All but Apache announce no time-out.) They are not sent again,"
        " since they may have arrived. Set `upstream.idle_timeout` to the server's time, or less.",
    ),
]
SERVERS = HERE / "servers"
CONFIGURATIONS = ["nginx.conf", "apache.conf", "Caddyfile", "haproxy.cfg", "puma.rb"]
MODULES = "/usr/lib/apache2/modules"
# The race: on all connections at once a POST, and again when the server is about to close what is idle. For each case: how
# often, the least and the longest pause in parts of the time for which the server keeps idle connections, and whether
# larder is told that time.
CONNECTIONS = 100
RACES = {"race": (50, 0.3, 1.1, True), "race, unset": (20, 0.9, 1.1, False)}
# A write without an answer: the connection is closed or reset, or nothing comes within LIMIT.
UNANSWERED = (asyncio.IncompleteReadError, ConnectionError, TimeoutError)


@dataclasses.dataclass
class Server:
    name: str
    # The command, with PORT, ORIGIN and FOLDER to be replaced.
    command: list
    is_there: object
    # The signal after which requests in flight still end.
    stop: int = signal.SIGTERM
    # Seconds for which it keeps an idle connection. A server in Python or Ruby may be late by a part of a second.
    keep_alive: int = 1


def servers():
    yield Server("nginx", ["nginx", "-c", "nginx.conf"], lambda: shutil.which("nginx"), signal.SIGQUIT)
    apache = ["apache2", "-DFOREGROUND", "-f", "apache.conf"]
    yield Server("Apache", apache, lambda: shutil.which("apache2"), signal.SIGWINCH)
    caddy = ["caddy", "run", "--adapter", "caddyfile", "--config", "Caddyfile"]
    yield Server("Caddy", caddy, lambda: shutil.which("caddy"))
    yield Server("HAProxy", ["haproxy", "-db", "-q", "-f", "haproxy.cfg"], lambda: shutil.which("haproxy"), signal.SIGUSR1)
    express = ["node", SERVERS / "express.mjs", "PORT", "KEEP_ALIVE"]
    yield Server("Express", express, has_package("express"))
    quiet = ["--log-level", "error"]
    uvicorn = [PYTHON, "-m", "uvicorn", "fastapi_app:app", "--port", "PORT", "--timeout-keep-alive", "KEEP_ALIVE", *quiet]
    yield Server("FastAPI on uvicorn", uvicorn, has_modules("fastapi", "uvicorn"), keep_alive=2)
    hypercorn = [PYTHON, "-m", "hypercorn", "fastapi_app:app", "-b", "127.0.0.1:PORT", "--keep-alive", "KEEP_ALIVE", *quiet]
    yield Server("FastAPI on hypercorn", hypercorn, has_modules("fastapi", "hypercorn"), keep_alive=2)
    gunicorn = [PYTHON, "-m", "gunicorn", "-b", "127.0.0.1:PORT", "--keep-alive", "KEEP_ALIVE", "--threads", 128, *quiet]
    yield Server("Flask on gunicorn", [*gunicorn, "flask_app:app"], has_modules("flask", "gunicorn"), keep_alive=2)
    yield Server("Django on gunicorn", [*gunicorn, "django_app:app"], has_modules("django", "gunicorn"), keep_alive=2)
    puma = ["puma", "--silent", "-C", "puma.rb", SERVERS / "app.ru"]
    yield Server("Puma", puma, lambda: shutil.which("puma"), keep_alive=2)
    names = ["server", "http", "io", "util"]
    jars = [*(JARS / f"jetty9-{name}.jar" for name in names), JARS / "servlet-api.jar"]
    jetty = ["java", "-cp", ":".join(map(str, jars)), SERVERS / "JettyServer.java", "PORT", "KEEP_ALIVE"]
    yield Server("Jetty", jetty, lambda: shutil.which("java") and all(jar.exists() for jar in jars))


def make_site(folder):
    """The files that web servers send by themselves."""
    site = folder / "site"
    site.mkdir()
    folder.chmod(0o755)
    for name, content in {"text": sample.TEXT, "gzip": sample.TEXT, "set-cookies": b"set"}.items():
        (site / name).write_bytes(content)


@contextlib.contextmanager
def running(server, origin):
    """The server's process and URL."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        folder = pathlib.Path(directory)
        make_site(folder)
        words = {
            "PORT": port,
            "ORIGIN": origin.removeprefix("http://"),
            "FOLDER": folder,
            "MODULES": MODULES,
            "KEEP_ALIVE": server.keep_alive,
            "USER": getpass.getuser() if getpass.getuser() != "root" else "www-data",
        }

        def replaced(text):
            for word, value in words.items():
                text = text.replace(word, str(value))
            return text

        command = [replaced(str(part)) for part in server.command]
        for at, part in enumerate(command):
            if part in CONFIGURATIONS:
                command[at] = folder / part
                command[at].write_text(replaced((SERVERS / part).read_text()))
        # The applications, and the sample that they import.
        paths = {"PYTHONPATH": f"{SERVERS}{os.pathsep}{HERE}", "XDG_DATA_HOME": directory}
        environment = {**ENVIRONMENT, **paths, "PYTHONDONTWRITEBYTECODE": "1"}
        with listening(command, port, cwd=WORK, env=environment) as process:
            yield process, f"http://127.0.0.1:{port}"


def stop(server, process, url):
    process.send_signal(server.stop)
    # Not each server closes its listener before its requests have ended.
    last = time.monotonic() + 3
    while is_open(port_of(url)) and time.monotonic() < last:
        time.sleep(0.02)


def ask_at_shutdown(server, program, origin):
    answers = []
    for through in [False, True]:
        with contextlib.ExitStack() as stack:
            process, url = stack.enter_context(running(server, origin))
            asked = stack.enter_context(larder(program, url))[1] if through else url
            command = [CURL, "--http1.1", asked, "slow"]
            answers.append(ask_slowly(command, lambda: stop(server, process, url)).get("shutdown"))
    return judge("shutdown", *answers)


async def write(reader, writer):
    """The status of the answer to a POST, and whether the connection ends with it."""
    writer.write(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}")
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "content-length: " in head:
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    return int(head.split()[1]), "connection: close" in head


async def post(port, statuses, gaps):
    """A connection of a client, which sends a POST in each round."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begin = time.monotonic()
    for gap in gaps:
        begin += gap
        await asyncio.sleep(max(0, begin - time.monotonic()))
        try:
            async with asyncio.timeout(LIMIT):
                status, is_last = await write(reader, writer)
        except UNANSWERED:
            status, is_last = "no answer", True
        statuses.append(status)
        if is_last:
            writer.close()
            # Without a new connection, the next write has no answer either.
            with contextlib.suppress(*UNANSWERED):
                async with asyncio.timeout(LIMIT):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def post_all(port, gaps):
    statuses = []
    await asyncio.gather(*(post(port, statuses, gaps) for _ in range(CONNECTIONS)))
    return statuses


def race(case, server, program, url):
    """Writes over connections that the server closes at the same moment."""
    rounds, least, longest, is_told = RACES[case]
    draw = random.Random(7)
    gaps = [draw.uniform(least, longest) * server.keep_alive for _ in range(rounds)]
    idle_timeout = server.keep_alive if is_told else 4
    with larder(program, f"{{url: '{url}', idle_timeout: {idle_timeout}s}}") as (_, proxy):
        statuses = asyncio.run(post_all(port_of(proxy), gaps))
    failed = [status for status in statuses if status != 200]
    return "yes" if not failed else f"{len(failed)} of {len(statuses)} failed with {sorted(set(failed), key=str)}"


def is_right(case, answer, expected):
    """Whether the server's own answer is that of the sample. Each refuses in its own words."""
    return bool(answer) and (answer == expected or case == "early" and answer.startswith("413"))


def play(program, chosen):
    matrix = Matrix("servers", TABLES, REASONS)
    with announcing([sys.executable, HERE / "upstream.py"]) as origin:
        expected = ask([CURL, "--http1.1", origin])
        for server in chosen:
            with running(server, origin) as (_, url):
                directly = ask([CURL, "--http1.1", url])
                with larder(program, url, routes="[{path: /text, ttl: 60s}]") as (_, proxy):
                    through = ask([CURL, "--http1.1", proxy])
                wrong = {case: directly.get(case) for case in CASES if not is_right(case, directly.get(case), expected[case])}
                if wrong:
                    sys.exit(f"{server.name} is set up wrongly: {wrong}")
                cells = {case: judge(case, directly[case], through.get(case)) for case in CASES}
                cells |= {case: race(case, server, program, url) for case in RACES}
            cells["shutdown"] = ask_at_shutdown(server, program, origin)
            matrix.add(server.name, cells)
    return matrix
