#!/usr/bin/env python3
"""Headless Chromium, steered by its debugging port. Usage: chromium.py URL SOCKETS [slow], with the WebSocket server's URL"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from websockets.sync.client import connect

url, sockets, *slow = sys.argv[1:]
page = url + "/chunked"
# Chromium asks nobody else for anything.
QUIET = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-extensions --remote-debugging-port=0""".split()

SCRIPT = """(async () => {
    const lines = [];
    const hash = async (body) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", body))]
        .slice(0, 4).map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const say = (name, ...values) => lines.push([name, ...values].join("\\t"));
    const ask = async (name, path, options = {}, more = () => "") => {
        const answer = await fetch(path, options);
        say(name, answer.status, await hash(await answer.arrayBuffer()), more(answer));
        return answer;
    };
    if (SLOW) { await ask("shutdown", "/slow"); return lines.join("\\n"); }
    const got = await ask("get", "/text");
    say("cached", (got.headers.get("cache-status") ?? "").includes("hit") ? "True" : "False");
    await ask("304", "/text", { headers: { "If-None-Match": '"1"' } });
    await ask("range", "/text", { headers: { Range: "bytes=700-1399" } }, (answer) => answer.headers.get("content-range"));
    await ask("head", "/text", { method: "HEAD" });
    for (const name of ["gzip", "chunked", "redirect"]) await ask(name, "/" + name);
    // A browser with cookies is a caller of its own.
    const version = async () => (await fetch("/count", { headers: { "If-None-Match": "none" } })).text();
    for (const [name, method] of [["purge", "PURGE"], ["update", "POST"]]) {
        const [first, second] = [await version(), await version()];
        await fetch("/count", { method });
        say(name, `${first === second ? "held" : "fetched"} ${(await version()) === second ? "stale" : "fresh"}`);
    }
    await fetch("/set-cookies");
    await ask("cookies", "/cookies", { cache: "reload" });
    await ask("upload", "/echo", { method: "POST", body: "0123456789".repeat(20000) });
    await ask("continue", "/echo", { method: "POST", body: "0".repeat(5000000) });
    await ask("events", "/events");
    const seen = [];
    const source = new EventSource("/ticks");
    await new Promise((resolve) => source.onmessage = (event) => {
        seen.push(`${event.lastEventId}=${event.data}`);
        if (seen.length === 6) resolve();
    });
    source.close();
    say("EventSource", seen.join(" "));
    const socket = new WebSocket(SOCKETS, ["chat.v1", "chat.v2"]);
    socket.binaryType = "arraybuffer";
    const closed = new Promise((resolve) => socket.onclose = (event) => resolve(`${event.code} ${event.reason}`));
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const messages = [socket.protocol, socket.extensions];
    for (const message of ["text äöü", new Uint8Array(1 << 20).fill(7)]) {
        const next = new Promise((resolve) => socket.onmessage = (event) => resolve(event.data));
        socket.send(message);
        const data = await next;
        messages.push(await hash(typeof data === "string" ? new TextEncoder().encode(data) : data));
    }
    socket.send("close");
    say("WebSocket", ...messages, await closed);
    await ask("early", "/refused", { method: "POST", body: "x".repeat(8000000) })
        .catch((error) => say("early", error.name));
    return lines.join("\\n");
})()"""


def find_debugger(port, page):
    """The debugger's URL of the tab that shows the page."""
    last = time.monotonic() + 100
    while time.monotonic() < last:
        with urllib.request.urlopen(f"http://{port}/json/list") as answer:
            for tab in json.load(answer):
                if tab["url"] == page:
                    return tab["webSocketDebuggerUrl"]
        time.sleep(0.05)
    sys.exit(f"Chromium does not open {page}")


def evaluate(debugger):
    """The value of the script in the page."""
    with connect(debugger, max_size=1 << 24, proxy=None) as socket:

        def value(expression):
            options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
            socket.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": options}))
            while (message := json.loads(socket.recv(timeout=100))).get("id") != 1:
                pass
            return message.get("result", {})

        # The tab has the URL before it has the page.
        while value("location.href + document.readyState").get("result", {}).get("value") != page + "complete":
            time.sleep(0.05)
        return value(SCRIPT)


SCRIPT = SCRIPT.replace("SLOW", json.dumps(bool(slow))).replace("SOCKETS", json.dumps(sockets.replace("http", "ws") + "/echo"))
if not slow:
    # The browser's own cache answers its second request: the first one is to be the hit.
    urllib.request.urlopen(url + "/text").read()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    command = ["chromium", *QUIET, f"--user-data-dir={profile}", page]
    chromium = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = (re.search(r"DevTools listening on ws://([^/]+)/", line) for line in chromium.stderr)
        port = next(found.group(1) for found in said if found)
        threading.Thread(target=chromium.stderr.read, daemon=True).start()
        result = evaluate(find_debugger(port, page))
        if "exceptionDetails" in result:
            sys.exit(json.dumps(result["exceptionDetails"]))
        print(result["result"]["value"])
    finally:
        chromium.terminate()
        chromium.wait()
