#!/usr/bin/env python3
"""The server that all clients ask, directly and through larder. Its answers do not depend on the time."""

import http.server
import itertools
import socketserver
import sys

import sample

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
            "/gzip": lambda: self.answer(200, sample.COMPRESSED, **sample.GZIP_FIELDS),
            "/redirect": lambda: self.answer(302, Location="/text"),
            "/set-cookies": lambda: self.answer(200, b"set", Set_Cookie=["a=1; Path=/", "b=2; Path=/"]),
            "/cookies": lambda: self.answer(200, "; ".join(self.headers.get_all("Cookie", [])).encode()),
            "/count": lambda: self.answer(200, b"%d" % next(VERSIONS), Cache_Control="max-age=60"),
            "/slow": lambda: self.answer(200, sample.wait_for_release()),
            "/events": lambda: self.stream("text/event-stream", sample.EVENTS),
            "/ticks": lambda: self.stream("text/event-stream", self.ticks()),
            "/chunked": lambda: self.stream("text/plain", sample.CHUNKS),
        }.get(self.path, lambda: self.answer(404))()

    do_HEAD = do_GET

    def text(self):
        status, fields, content = sample.text(self.headers.get("If-None-Match"), self.headers.get("Range"))
        self.answer(status, content, **fields)

    def stream(self, media_type, parts):
        """Sends each part as a chunk of its own."""
        self.send_response_only(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def ticks(self):
        """An event stream that ends after three events. A client that comes again gets those after its last one."""
        first = int(self.headers.get("Last-Event-ID", 0)) + 1
        return [b"retry: 50\n\n", *(b"id: %d\ndata: %d\n\n" % (number, number) for number in range(first, first + 3))]

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
        self.answer(200, sample.echo(self.content()))

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
