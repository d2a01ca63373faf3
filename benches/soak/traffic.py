"""The API and the clients of benches/soak: what is asked, what may fail when, and what is stale."""

import asyncio
import random
import resource
import time

HOT, ITEMS, LARGE = 50, 40, 1500
LARGE_BYTES = 64 * 1024
TIMEOUT = 60
KINDS = ["hit", "item", "write", "flaky", "large", "upload", "slow reader", "abort", "garbage"]
# After a window, what it broke may take this long to come back (circuit breakers, connections).
AFTERMATH = 8


class Api:
    """Answers, and fails on purpose below /flaky. `closes` makes it keep no connection."""

    def __init__(self, closes):
        self.versions, self.closes = {}, closes

    async def serve(self, reader, writer):
        try:
            while await self.one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        writer.close()

    async def one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        length = field(head, "content-length")
        content = await reader.readexactly(int(length)) if length else b""
        fault = random.random() if path.startswith("/flaky") else 1
        if fault < 0.1:
            return False
        if fault < 0.2:
            await asyncio.sleep(0.5)
        status = "500 Internal Server Error" if 0.2 < fault < 0.3 else "200 OK"
        body = self.body(method, path, content)
        announced = len(body) + (100 if 0.3 < fault < 0.4 else 0)
        keeps = not self.closes.value and announced == len(body)
        connection = "" if keeps else "Connection: close\r\n"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n{connection}\r\n".encode() + body)
        await writer.drain()
        return keeps

    def body(self, method, path, content):
        if path.startswith("/items/"):
            self.versions[path] = self.versions.get(path, 0) + (method == "PATCH")
            return b"%d" % self.versions[path]
        if path.startswith("/large/"):
            return b"x" * LARGE_BYTES
        return b"%d" % len(content) if method == "POST" else b"y" * 200


def field(head, name):
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None


def run_api(port, closes):
    async def serve():
        server = await asyncio.start_server(Api(closes).serve, "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(serve())


class Connection:
    """A client's connection, kept while it can be."""

    def __init__(self, port):
        self.port, self.writer = port, None

    async def ask(self, method, path, content=b""):
        """The status and content; a GET on a kept connection that was closed is sent once more."""
        for is_last in (False, True):
            was_kept = self.writer is not None
            try:
                return await asyncio.wait_for(self.exchange(method, path, content), TIMEOUT)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.close()
                if is_last or not was_kept or method != "GET":
                    raise ConnectionError(str(error)) from error

    async def exchange(self, method, path, content):
        if not self.writer:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        length = f"Content-Length: {len(content)}\r\n" if content or method != "GET" else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: soak\r\n{length}\r\n".encode() + content)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        body = await self.reader.readexactly(int(field(head, "content-length") or 0))
        if (field(head, "connection") or "").lower() == "close":
            self.close()
        return int(head.split(" ", 2)[1]), body

    def close(self):
        if self.writer:
            self.writer.close()
        self.writer = None


class Clients:
    def __init__(self, port, board):
        self.port, self.board = port, board
        self.acknowledged = {}
        self.left_dark = 0.0

    def is_tolerant(self, began):
        """Whether the API or a new connection may be out of reach for a request that began then."""
        if self.board.dark.value:
            self.left_dark = time.monotonic()
        return self.board.dark.value or began < self.left_dark + AFTERMATH

    async def client(self, number):
        dice, connection = random.Random(number), Connection(self.port)
        while not self.board.done.value:
            kind = dice.choices(KINDS, [60, 20, 3, 4, 6, 2, 1, 2, 1])[0]
            began = time.monotonic()
            self.is_tolerant(began)
            try:
                await getattr(self, kind.replace(" ", "_"))(connection, dice, began)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
                connection.close()
                if kind not in ("flaky", "garbage", "abort") and not self.is_tolerant(began):
                    self.fail(f"{kind}: {error!r}")
                await asyncio.sleep(0.05)

    def fail(self, what):
        self.board.failed.value += 1
        if self.board.failed.value <= 20:
            print("failed:", what, flush=True)

    def expect_ok(self, what, status, began):
        if status != 200 and not self.is_tolerant(began):
            self.fail(f"{what}: {status}")
        return status == 200

    async def hit(self, connection, dice, began):
        status, _ = await connection.ask("GET", f"/hot/{int(dice.paretovariate(1)) % HOT}")
        self.expect_ok("hit", status, began)

    async def item(self, connection, dice, began):
        path = f"/items/{dice.randrange(ITEMS)}"
        least = self.acknowledged.get(path, 0)
        status, body = await connection.ask("GET", path)
        if self.expect_ok("item", status, began) and int(body) < least:
            self.board.stale.value += 1
            print(f"stale: {path} is {int(body)} after {least}", flush=True)

    async def write(self, connection, dice, began):
        path = f"/items/{dice.randrange(ITEMS)}"
        status, body = await connection.ask("PATCH", path, b"{}")
        if self.expect_ok("write", status, began):
            self.acknowledged[path] = max(self.acknowledged.get(path, 0), int(body))

    async def flaky(self, connection, dice, began):
        await connection.ask("GET", f"/flaky/{dice.randrange(1000)}")

    async def large(self, connection, dice, began):
        status, body = await connection.ask("GET", f"/large/{dice.randrange(LARGE)}")
        if self.expect_ok("large", status, began) and len(body) != LARGE_BYTES:
            self.fail(f"large: {len(body)} bytes")

    async def upload(self, connection, dice, began):
        content = b"z" * dice.randrange(100_000)
        status, body = await connection.ask("POST", "/upload", content)
        if self.expect_ok("upload", status, began) and int(body) != len(content):
            self.fail(f"upload: {int(body)} of {len(content)} bytes arrived")

    async def slow_reader(self, _, dice, began):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        writer.write(b"GET /large/%d HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n" % dice.randrange(LARGE))
        read = 0
        while part := await asyncio.wait_for(reader.read(8192), TIMEOUT):
            read += len(part)
            await asyncio.sleep(0.02)
        writer.close()
        if read < LARGE_BYTES and not self.is_tolerant(began):
            self.fail(f"slow reader: {read} bytes")

    async def abort(self, _, dice, began):
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(dice.choice([b"", b"GET /lar", b"GET /large/1 HTTP/1.1\r\nHost: soak\r\n\r\n"]))
        await asyncio.sleep(dice.random() / 20)
        writer.transport.abort()

    async def garbage(self, _, dice, began):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(dice.randbytes(300) + b"\r\n\r\n")
        await asyncio.wait_for(reader.read(1000), 5)
        writer.close()


def run_clients(port, board, count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

    async def run():
        clients = Clients(port, board)
        await asyncio.gather(*(clients.client(number) for number in range(count)))

    asyncio.run(run())
