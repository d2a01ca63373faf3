#!/usr/bin/env python3
"""The server that all clients ask, directly and through larder. Its answers do not depend on the time."""

import gzip
import hashlib
import http.server
import itertools
import os
import pathlib
import socketserver
import sys
import time

TEXT = b"".join(b"%06d\n" % number for number in range(10_000))

# A request for /slow makes the file `waiting` in this folder, and is answered once there is a file `release`.
MARKS = pathlib.Path(os.environ.get("MARKS", "."))
VERSIONS = itertools.count()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **fields):
        self.send_response_only(status)
        for name, value in fields.items():
            for line in value if isinstance(value, list) else [value]:
                self.send_header(name.replace("_", "-"), line)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(body)

    def do_GET(self):
        {
            "/text": self.text,
            "/gzip": lambda: self.answer(
                200, gzip.compress(TEXT, mtime=0), Content_Encoding="gzip", Vary="Accept-Encoding"
            ),
            "/redirect": lambda: self.answer(302, Location="/text"),
            "/set-cookies": lambda: self.answer(200, b"set", Set_Cookie=["a=1; Path=/", "b=2; Path=/"]),
            "/cookies": lambda: self.answer(200, "; ".join(self.headers.get_all("Cookie", [])).encode()),
            "/count": lambda: self.answer(200, b"%d" % next(VERSIONS), Cache_Control="max-age=60"),
            "/slow": self.slow,
            "/events": self.events,
            "/ticks": self.ticks,
            "/chunked": self.chunked,
        }.get(self.path, lambda: self.answer(404))()

    do_HEAD = do_GET

    def text(self):
        fields = {"ETag": '"1"', "Cache-Control": "max-age=60", "Accept-Ranges": "bytes"}
        if self.headers.get("If-None-Match") == '"1"':
            return self.answer(304, **fields)
        if (wanted := self.headers.get("Range", "")).startswith("bytes="):
            first, last = map(int, wanted[6:].split("-"))
            fields["Content-Range"] = f"bytes {first}-{last}/{len(TEXT)}"
            return self.answer(206, TEXT[first : last + 1], **fields)
        self.answer(200, TEXT, **fields)

    def begin_chunks(self, media_type):
        self.send_response_only(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def events(self):
        self.begin_chunks("text/event-stream")
        for number in range(3):
            self.chunk(b"data: %d\n\n" % number)
        self.wfile.write(b"0\r\n\r\n")

    def ticks(self):
        """An event stream that ends after three events. A client that comes again gets those after its last one."""
        self.begin_chunks("text/event-stream")
        self.chunk(b"retry: 50\n\n")
        first = int(self.headers.get("Last-Event-ID", 0)) + 1
        for number in range(first, first + 3):
            self.chunk(b"id: %d\ndata: %d\n\n" % (number, number))
        self.wfile.write(b"0\r\n\r\n")

    def slow(self):
        (MARKS / "waiting").touch()
        while not (MARKS / "release").exists():
            time.sleep(0.02)
        self.answer(200, TEXT)

    def chunked(self):
        self.begin_chunks("text/plain")
        for at in range(0, len(TEXT), 7000):
            self.chunk(TEXT[at : at + 7000])
        self.wfile.write(b"0\r\n\r\n")

    def content(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def do_POST(self):
        if self.path == "/refused":
            # The content is not read: an early answer, and the end of the connection.
            self.close_connection = True
            self.answer(413, b"too large", Connection="close")
            self.wfile.flush()
            self.connection.shutdown(1)
            while self.connection.recv(1 << 16):
                pass
            return
        content = self.content()
        self.answer(200, b"%d %s" % (len(content), hashlib.sha256(content).hexdigest().encode()))

    do_PUT = do_POST

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *client):
        # A client that leaves is no error.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*client)


server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
sys.stdout.close()
server.serve_forever()
