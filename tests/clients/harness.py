"""The parts that the matrices share: processes and their ports, judging, and tables."""

import argparse
import atexit
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target/clients"
PYTHON = WORK / "venv/bin/python"
PAGE = ROOT / "docs/clients.md"
JARS = pathlib.Path("/usr/share/java")
CURL = HERE / "curl"
# Seconds that anything may take.
LIMIT = 120
# A server's /slow tells of its request by a file here, and waits for another one.
MARKS = pathlib.Path(tempfile.mkdtemp(prefix="larder-clients-"))
atexit.register(shutil.rmtree, MARKS, ignore_errors=True)
ENVIRONMENT = {**os.environ, "MARKS": str(MARKS)}
RIGHT = {"=", "yes", "better", ""}


def new_parser(description):
    """A parser of a script's arguments, with the one that all have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true")
    return parser


def prepare(larder, install=False):
    """Makes the folder to work in, and installs into it if asked to. Returns larder's path, by default the debug build's."""
    WORK.mkdir(parents=True, exist_ok=True)
    if install:
        subprocess.run([HERE / "install"], check=True)
    return pathlib.Path(larder or ROOT / "target/debug/larder").resolve()


def has_modules(*names):
    """Whether Python's packages are installed, as a function."""
    command = [PYTHON, "-c", "import " + ", ".join(names)]
    return lambda: PYTHON.exists() and subprocess.run(command, capture_output=True).returncode == 0


def has_package(name):
    """Whether Node and a package of npm are installed, as a function."""
    return lambda: shutil.which("node") and (WORK / "node_modules" / name).exists()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def port_of(url):
    return int(url.rsplit(":", 1)[1])


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, what, process=None):
    last = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > last or (process and process.poll() is not None):
            sys.exit(f"ended, or not within {LIMIT} s: {what}")
        time.sleep(0.02)


def read_line(process):
    """The next line that a process prints, or nothing if it ends before, or is ended after LIMIT seconds."""
    deadline = threading.Timer(LIMIT, process.kill)
    deadline.start()
    try:
        return process.stdout.readline()
    finally:
        deadline.cancel()


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextlib.contextmanager
def listening(command, port, **options):
    """A process that listens on `port` before the block begins, and has ended after it."""
    options = {"env": ENVIRONMENT, **options}
    process = subprocess.Popen(list(map(str, command)), **options)
    try:
        wait_until(lambda: is_open(port), f"{command[0]} listens on {port}", process)
        yield process
    finally:
        end(process)


@contextlib.contextmanager
def announcing(command):
    """The URL of a process that prints its port."""
    command = list(map(str, command))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=WORK)
    try:
        port = read_line(process) or sys.exit(f"ended, or not within {LIMIT} s: {command} prints its port")
        yield f"http://127.0.0.1:{int(port)}"
    finally:
        end(process)


@contextlib.contextmanager
def larder(program, upstream, routes="[]", more=""):
    """larder's process and URL. `upstream` is a value of YAML."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "proxy.yaml"
        config.write_text(
            f"listen: 127.0.0.1:{port}\nadmin: off\nlog: {{level: error}}\n"
            f"upstream: {upstream}\nroutes: {routes}\n{more}"
        )
        with listening([program, "--config", config], port) as process:
            yield process, f"http://127.0.0.1:{port}"


def ask(command):
    """The lines `case TAB value` that a client prints."""
    command = list(map(str, command))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, cwd=WORK, env=ENVIRONMENT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as slow:
        print(f"{command}: no end within {LIMIT} s\n{slow.stdout}", file=sys.stderr)
        return {}
    if done.returncode:
        print(f"{command}: exit code {done.returncode}\n{done.stderr[-2000:]}", file=sys.stderr)
    return seen(done.stdout)


def seen(output):
    lines = (line.rstrip().split("\t", 1) for line in output.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def ask_slowly(command, stop):
    """The same for a request in flight, while `stop` runs."""
    for mark in MARKS.iterdir():
        mark.unlink()
    command = list(map(str, command))
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=WORK, env=ENVIRONMENT)
    try:
        wait_until(lambda: (MARKS / "waiting").exists(), f"{command} asks for /slow", client)
        stop()
        (MARKS / "release").touch()
        return seen(client.communicate(timeout=LIMIT)[0])
    finally:
        (MARKS / "release").touch()
        end(client)


def judge(case, directly, through):
    """The cell of a case. A case that a client said nothing of is None, and never right through larder."""
    difference = f"{through or 'nothing'} (directly {directly or 'nothing'})".replace("\t", " ")
    if through is None:
        return difference
    if case == "cached":
        return "yes" if through == "True" else f"no hit ({through})"
    if case in ("purge", "update"):
        return "yes" if through == "held fresh" else f"no ({through})"
    if directly == through:
        return "="
    # A client that lost the early answer of the server itself may see it through larder.
    if case == "early" and re.match("413", through) and not re.match("413", directly or ""):
        return "better"
    return difference


class Matrix:
    """The cells of each client or server by case, and the reasons for those that differ."""

    def __init__(self, name, tables, reasons):
        self.name, self.tables, self.reasons = name, tables, reasons
        self.rows = {}

    def add(self, row, cells):
        print(f"{row}: {cells}", file=sys.stderr, flush=True)
        self.rows[row] = cells

    def reason(self, row, case):
        """The number of the reason that is known for a cell."""
        cell = self.rows[row][case]
        for number, (rows, cases, pattern, _) in enumerate(self.reasons, 1):
            if re.fullmatch(rows, row) and re.fullmatch(cases, case) and re.match(pattern, cell):
                return number
        return None

    def wrong(self):
        cells = ((row, case, cell) for row, cells in self.rows.items() for case, cell in cells.items())
        return [cell for cell in cells if cell[2] not in RIGHT and not self.reason(*cell[:2])]

    def table(self, cases):
        rows = {row: cells for row, cells in self.rows.items() if cells.keys() & (set(cases) - {"shutdown"})}

        def shown(row, case):
            value = rows[row].get(case, "")
            if value not in RIGHT and (number := self.reason(row, case)):
                return f"[{number}]"
            return value

        lines = ["| | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
        return lines + [f"| {row} | " + " | ".join(shown(row, case) for case in cases) + " |" for row in rows] + [""]

    def text(self):
        lines = [line for cases in self.tables for line in self.table(cases)]
        lines += [f"- [{number}] {reason}" for number, (*_, reason) in enumerate(self.reasons, 1)]
        return "\n".join(lines).strip()

    def write(self):
        """Replaces the table in the page."""
        begin, finish = f"<!-- {self.name} -->", f"<!-- end of {self.name} -->"
        page = PAGE.read_text()
        before, rest = page.split(begin)
        PAGE.write_text(f"{before}{begin}\n\n{self.text()}\n\n{finish}{rest.split(finish)[1]}")
