"""A kubelet and a Service of one Deployment, as far as its manifest uses them: two pods of an API and larder over one
Redis are replaced one after the other, while clients read and write through the Service. First with larder beside the API,
then as a native sidecar.

Times come from the manifest, shortened by SPEED. Endpoints go away late, as kube-proxy's do."""

import http.client
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import yaml

import json_patch

PROGRAM, WORK = sys.argv[1], pathlib.Path(sys.argv[2])
FOLDER = pathlib.Path("deploy/kubernetes")
DEADLINE = 120
SPEED = 5
# How long after its removal an endpoint still gets connections.
ENDPOINT_LAG = 3 / SPEED
# How long an API that accepts no more takes to end.
API_END = 5 / SPEED
CLIENTS = 6


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(what, found):
    last = time.monotonic() + DEADLINE
    while not (value := found()):
        if time.monotonic() > last:
            sys.exit(f"failed: not within the deadline: {what}")
        time.sleep(0.05)
    return value


class Course:
    """The state behind every API: a version that writes raise."""

    version = 0
    lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(str(Course.version))

    def do_PATCH(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with Course.lock:
            Course.version += 1
            version = Course.version
        self.answer(str(version))

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Api(http.server.ThreadingHTTPServer):
    """Ends as a good API does: it accepts no more, and closes its idle connections."""

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), Handler)
        self.connections = set()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request, address):
        self.connections.add(request)
        super().process_request(request, address)

    def end(self):
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                pass


class Pod:
    def __init__(self, spec, configuration, number):
        self.spec = spec
        sidecars = spec.get("initContainers", [])
        containers = {container["name"]: container for container in [*sidecars, *spec["containers"]]}
        self.larder_spec, self.api_spec = containers["larder"], containers["api"]
        self.is_native = self.larder_spec in sidecars and self.larder_spec["restartPolicy"] == "Always"
        self.http, self.admin, api = free_port(), free_port(), free_port()
        path = WORK / f"pod-{number}.yaml"
        path.write_text(configuration)
        log = open(WORK / f"pod-{number}.log", "w")
        command = [PROGRAM, "--config", path, "--listen", f"127.0.0.1:{self.http}", "--admin", f"127.0.0.1:{self.admin}"]
        self.larder = subprocess.Popen([*command, "--upstream", f"http://127.0.0.1:{api}"], stdout=log, stderr=log)
        eventually("the startup probe", lambda: self.probe("startupProbe"))
        self.api = Api(api)
        eventually("the readiness probe", lambda: self.probe("readinessProbe"))

    def probe(self, kind):
        path = self.larder_spec[kind]["httpGet"]["path"]
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=2)
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False

    def pre_stop(self, container):
        hook = container.get("lifecycle", {}).get("preStop", {})
        time.sleep(hook.get("sleep", {}).get("seconds", 0) / SPEED)
        if command := hook.get("exec", {}).get("command"):
            command = [word.replace("127.0.0.1:9090", f"127.0.0.1:{self.admin}") for word in command]
            subprocess.run([PROGRAM, *command[1:]], check=True, stdout=subprocess.DEVNULL)

    def end_api(self):
        self.pre_stop(self.api_spec)
        self.api.end()
        time.sleep(API_END)

    def end_larder(self, api):
        self.pre_stop(self.larder_spec)
        if self.is_native:
            api.join()
        self.larder.send_signal(signal.SIGTERM)
        if self.larder.wait(DEADLINE) != 0:
            sys.exit(f"failed: larder ended with {self.larder.returncode}")

    def end(self):
        """All containers at once, but a native sidecar gets SIGTERM after the others have ended."""
        began = time.monotonic()
        api = threading.Thread(target=self.end_api)
        api.start()
        self.end_larder(api)
        api.join()
        took = (time.monotonic() - began) * SPEED
        if took > self.spec["terminationGracePeriodSeconds"]:
            sys.exit(f"failed: the pod took {took:.0f} s to end")


class Service:
    """Connections go to ready pods in turn, and stay where they are."""

    def __init__(self):
        self.pods, self.turn = [], 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            self.turn += 1
            pods = self.pods
            pod = socket.create_connection(("127.0.0.1", pods[self.turn % len(pods)].http))
            for source, target in ((client, pod), (pod, client)):
                threading.Thread(target=self.copy, args=(source, target), daemon=True).start()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()

    def remove(self, pod):
        self.pods = [other for other in self.pods if other is not pod]


class Load:
    """Clients that keep their connections; two of them write as well."""

    def __init__(self, port):
        self.port, self.done, self.acknowledged = port, False, 0
        self.answers = self.hits = self.writes = 0
        self.wrong = []
        self.clients = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for client in self.clients:
            client.start()

    def client(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        turn = 0
        while not self.done:
            turn += 1
            least, writes = self.acknowledged, number < 2 and turn % 20 == 0
            try:
                connection.request("PATCH" if writes else "GET", "/api/courses", b"{}" if writes else None, {"Host": "shop"})
                answer = connection.getresponse()
                body = answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                # A connection that was closed while idle: every client tries a GET once more.
                connection.close()
                if writes or isinstance(error, TimeoutError):
                    self.wrong.append(f"{error!r}")
                continue
            self.judge(answer, body, least, writes)

    def judge(self, answer, body, least, writes):
        self.answers += 1
        if answer.status != 200:
            self.wrong.append(f"{answer.status} {answer.getheader('Cache-Status')}")
        elif writes:
            self.writes += 1
            self.acknowledged = max(self.acknowledged, int(body))
        else:
            self.hits += "; hit" in (answer.getheader("Cache-Status") or "")
            if int(body) < least:
                self.wrong.append(f"stale: {body} after {least}")

    def end(self):
        self.done = True
        for client in self.clients:
            client.join()


def main():
    for name, change in (("two containers", lambda deployment: deployment), ("a native sidecar", json_patch.native_sidecar)):
        print(f"== {name}")
        deployment = change(yaml.safe_load((FOLDER / "deployment.yaml").read_text()))
        roll(deployment["spec"])
    print("2 passed, 0 failed")


def roll(spec):
    pod_spec, replicas = spec["template"]["spec"], spec["replicas"]
    redis = free_port()
    command = ["redis-server", "--port", str(redis), "--save", "", "--dir", str(WORK)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    os.environ["LARDER_REDIS"] = f"redis://127.0.0.1:{redis}"
    os.environ["LARDER_ADMIN_TOKEN"] = "0123456789abcdef"
    # A busy machine keeps this deadline, and strict reads show each stale response at once.
    configuration = (FOLDER / "proxy.yaml").read_text().replace("  memory: 128MiB", "  memory: 16MiB\n  max_lag: 0s\n  timeout: 5s")
    service = Service()
    service.pods = [Pod(pod_spec, configuration, number) for number in range(replicas)]
    load = Load(service.port)
    for number in range(replicas, 2 * replicas):
        before = load.answers
        eventually("clients are served", lambda: load.answers > before + 100)
        # maxSurge 1, maxUnavailable 0.
        old, new = service.pods[0], Pod(pod_spec, configuration, number)
        service.pods = [*service.pods, new]
        leaving = threading.Timer(ENDPOINT_LAG, service.remove, [old])
        leaving.start()
        old.end()
        leaving.join()
    before = load.answers
    eventually("clients are served", lambda: load.answers > before + 100)
    load.end()
    for pod in service.pods:
        pod.end()
    server.terminate()
    server.wait()
    print(f"{load.answers} answers, {load.hits} hits, {load.writes} writes, {len(load.wrong)} failed or stale")
    for wrong in sorted(set(load.wrong))[:10]:
        print("  ", wrong)
    if load.wrong or load.hits < 100 or load.writes < 5:
        sys.exit("failed: a rolling update")


main()
