"""An API that caches its own responses in Redis, with the code that applications usually have for it: look, ask, store; and
delete after a write. `redis_code.py PORT API_PORT REDIS_PORT`"""

import http.client
import http.server
import socket
import sys

PORT, API, REDIS = map(int, sys.argv[1:])


def redis(*words):
    """Sends one command, and reads a reply of one string, number or status; `None` for a missing key."""
    with socket.create_connection(("127.0.0.1", REDIS)) as connection, connection.makefile("rwb") as stream:
        stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        stream.flush()
        head = stream.readline().strip()
        if head[:1] != b"$":
            return head[1:]
        length = int(head[1:])
        return None if length < 0 else stream.read(length)


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.path.encode()
        found = redis(b"GET", key)
        if found is None:
            found = self.work()
            redis(b"SET", key, found, b"EX", b"3600")
        self.answer(found)

    def do_PATCH(self):
        changed = self.work()
        redis(b"DEL", self.path.encode())
        self.answer(changed)

    def do_PURGE(self):
        redis(b"DEL", self.path.encode())
        self.answer(b"purged")

    def work(self):
        """The application's own work: what the API below answers."""
        connection = http.client.HTTPConnection("127.0.0.1", API)
        connection.request(self.command, self.path)
        content = connection.getresponse().read()
        connection.close()
        return content

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


Server(("127.0.0.1", PORT), Application).serve_forever()
