"""What is compared: how each server is started in front of the same upstream, on one core."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

UPSTREAM = 19000
REDIS = 19001
TAGS = [1, 4, 16, 64]
SIZES = {"200b": 200, "1kib": 1024, "16kib": 16 * 1024, "256kib": 256 * 1024, "4mib": 4 * 1024 * 1024}

NGINX = """
daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log; {modules}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 65s; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/temp; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream api {{ server 127.0.0.1:%d; keepalive 64; }}
  {http}
}}
""" % UPSTREAM

FILES = """
  open_file_cache max=100;
  map $uri $tags {{ {tags} }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    location ~ ^/(?:hit|pass)/(\\w+)/ {{
      default_type application/json; add_header Cache-Control max-age=86400; alias {dir}/$1;
    }}
    location ~ ^/vary/(\\w+)/ {{
      default_type application/json; add_header Cache-Control max-age=86400; add_header Vary Accept-Encoding;
      alias {dir}/$1;
    }}
    location ~ ^/tags/(\w+)/(\w+)/ {{
      default_type application/json; add_header Cache-Control max-age=86400; add_header Cache-Tag $tags; alias {dir}/$2;
    }}
    location = /requests {{ stub_status; }}
  }}
"""

PROXY_CACHE = """
  proxy_cache_path {dir}/cache levels=1:2 keys_zone=c:256m max_size=3g inactive=1d use_temp_path=off;
  sendfile {sendfile}; tcp_nopush off;
  server {{
    listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{h2} http2 backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    location / {{ proxy_pass http://api; proxy_cache c; proxy_cache_valid 200 1d; proxy_cache_lock on;
                  add_header X-Cache $upstream_cache_status; }}
    location /pass/ {{ proxy_pass http://api; }}
  }}
"""

# A client of Redis in Lua, as small as it goes; connections are kept.
SRCACHE = """
  sendfile off;
  init_by_lua_block {{
    function ask(...)
      local redis = ngx.socket.tcp()
      assert(redis:connect("127.0.0.1", {redis}))
      local parts = {{...}}
      local text = "*" .. #parts .. "\\r\\n"
      for _, part in ipairs(parts) do text = text .. "$" .. #part .. "\\r\\n" .. part .. "\\r\\n" end
      redis:send(text)
      local line = redis:receive()
      local length = line and tonumber(line:match("^%$(%d+)"))
      local value = length and redis:receive(length + 2)
      redis:setkeepalive(60000, 64)
      return value and value:sub(1, length)
    end
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /kept {{
      internal;
      content_by_lua_block {{
        if ngx.req.get_method() == "GET" then
          local value = ask("GET", "n:" .. ngx.var.args)
          if not value then return ngx.exit(404) end
          ngx.print(value)
        else
          ngx.req.read_body()
          ask("SET", "n:" .. ngx.var.args, ngx.req.get_body_data() or "", "EX", "86400")
          ngx.print("ok")
        end
      }}
    }}
    location / {{
      set $key $uri; srcache_fetch GET /kept $key; srcache_store PUT /kept $key;
      client_body_buffer_size 8m;
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://api;
    }}
    location /pass/ {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://api; }}
  }}
"""

# wrk (an old http_parser) waits for the content of a 304 that names its length, which HAProxy's does.
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
cache c
  total-max-size 3072
  max-object-size 8388608
  max-age 86400
  process-vary on
frontend f
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{h2} proto h2
  http-request cache-use c if !{{ path_beg /pass/ }}
  http-response cache-store c
  http-after-response del-header content-length if {{ status 304 }}
  default_backend b
backend b
  http-reuse always
  server api 127.0.0.1:%d
""" % UPSTREAM

VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "%d"; }}
sub vcl_recv {{ if (req.url ~ "^/pass/") {{ return (pass); }} }}
""" % UPSTREAM

LARDER = """
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:%d
admin: {{listen: 127.0.0.1:{admin}}}
log: {{level: warn}}
store: {{memory: {memory}{redis}}}
routes:
  - {{path: '/hit/{{size}}/{{*key}}', ttl: 1d, tags: ['size:{{size}}', 'key:{{key}}']}}
  - {{path: '/vary/{{size}}/{{*key}}', ttl: 1d}}
  - {{path: '/tags/{{count}}/{{size}}/{{*key}}', ttl: 1d}}
""" % UPSTREAM


class Server:
    """One that runs; `pids` are the processes whose time counts."""

    def __init__(self, name, port, process, admin=None):
        self.name, self.port, self.process, self.admin = name, port, process, admin
        # Where it speaks HTTP/2 without TLS.
        self.h2_port = None

    def pids(self):
        found, left = [], [self.process.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            try:
                left += [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                         for child in (task / "children").read_text().split()]
            except OSError:
                pass
        return found

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                pass
        return total / 1e9

    def rss_bytes(self):
        total = 0
        for pid in self.pids():
            try:
                fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
                total += int(fields["Pss"].split()[0]) * 1024
            except (OSError, KeyError):
                pass
        return total

    def stop(self):
        for pid in reversed(self.pids()):
            try:
                os.kill(pid, 15)
            except OSError:
                pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Lab:
    """A scratch directory on tmpfs, the upstream, Redis, and everything that was started."""

    def __init__(self, directory, binaries, server_core, load_core):
        self.dir, self.binaries = Path(directory), Path(binaries)
        self.server_core, self.load_core = server_core, load_core
        self.started, self.port, self.questions = [], 19100, 0
        files = self.scratch("upstream")
        for name, size in SIZES.items():
            (files / name).write_bytes(b"x" * size)
        (files / "100mib").write_bytes(b"x" * (100 << 20))
        tags = "".join(f"~^/tags/{n}/ {','.join(f'tag-{tag}' for tag in range(n))}; " for n in TAGS)
        self.nginx("upstream", UPSTREAM, FILES, core=load_core, tags=tags)
        self.start("redis", REDIS, ["redis-server", "--port", str(REDIS), "--save", "", "--appendonly", "no",
                                    "--maxmemory", "3gb", "--maxmemory-policy", "volatile-lru", "--dir", str(files)],
                   core=load_core)

    def scratch(self, name):
        path = self.dir / name
        path.mkdir(parents=True, exist_ok=True)
        os.chmod(path, 0o777)
        return path

    def start(self, name, port, command, core=None, admin=None, **options):
        core = self.server_core if core is None else core
        log = open(self.dir / f"{name}.log", "wb")
        process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=log, stderr=log, **options)
        server = Server(name, port, process, admin)
        self.started.append(server)
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return server
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        raise RuntimeError(f"{name} did not start: see {log.name}")

    def next_port(self):
        self.port += 1
        return self.port

    def nginx(self, name, port, http, core=None, modules="", **values):
        scratch = self.scratch(name)
        text = NGINX.format(dir=scratch, modules=modules, http=http.format(dir=scratch, port=port, **values))
        (scratch / "nginx.conf").write_text(text)
        return self.start(name, port, ["nginx", "-e", str(scratch / "start.log"), "-c", str(scratch / "nginx.conf")], core)

    def nginx_cache(self, sendfile):
        name = f"nginx proxy_cache, sendfile {sendfile}"
        port, h2 = self.next_port(), self.next_port()
        server = self.nginx(name.replace(" ", "-"), port, PROXY_CACHE, sendfile=sendfile, h2=h2)
        server.h2_port = h2
        return server

    def nginx_srcache(self):
        modules = "".join(f"load_module /usr/lib/nginx/modules/{name}.so; " for name in
                          ["ndk_http_module", "ngx_http_lua_module", "ngx_http_srcache_filter_module"])
        return self.nginx("nginx-srcache", self.next_port(), SRCACHE, modules=modules, redis=REDIS)

    def haproxy(self):
        scratch, port, h2 = self.scratch("haproxy"), self.next_port(), self.next_port()
        (scratch / "haproxy.cfg").write_text(HAPROXY.format(port=port, h2=h2))
        server = self.start("haproxy", port, ["haproxy", "-db", "-f", str(scratch / "haproxy.cfg")])
        server.h2_port = h2
        return server

    def varnish(self):
        scratch, port = self.scratch("varnish"), self.next_port()
        (scratch / "default.vcl").write_text(VARNISH.format())
        server = self.start("varnish", port, [
            "varnishd", "-F", "-n", str(scratch / "n"), "-a", f"127.0.0.1:{port}", "-f", str(scratch / "default.vcl"),
            "-s", "malloc,3g", "-p", "feature=+http2", "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-j", "none"])
        server.h2_port = port
        return server

    def traffic_server(self):
        scratch, port = self.scratch("ats"), self.next_port()
        for part in ["etc", "var", "log", "run", "cache"]:
            self.scratch(f"ats/{part}")
        shutil.copytree("/etc/trafficserver", scratch / "etc", dirs_exist_ok=True)
        (scratch / "etc/remap.config").write_text(
            f"map /pass/ http://127.0.0.1:{UPSTREAM}/pass/ @plugin=conf_remap.so @pparam=proxy.config.http.cache.http=0\n"
            f"map / http://127.0.0.1:{UPSTREAM}/\n")
        (scratch / "etc/storage.config").write_text(f"{scratch}/cache 3G\n")
        records = {"proxy.config.http.server_ports": ("STRING", f"{port}"), "proxy.config.exec_thread.autoconfig": ("INT", 0),
                   "proxy.config.exec_thread.limit": ("INT", 1), "proxy.config.log.logging_enabled": ("INT", 0),
                   "proxy.config.cache.ram_cache.size": ("INT", 3 << 30), "proxy.config.diags.debug.enabled": ("INT", 0),
                   "proxy.config.http.cache.required_headers": ("INT", 0), "proxy.config.admin.user_id": ("STRING", "#-1"),
                   "proxy.config.http.keep_alive_no_activity_timeout_in": ("INT", 120)}
        text = "".join(f"CONFIG {name} {kind} {value}\n" for name, (kind, value) in records.items())
        (scratch / "etc/records.config").write_text(text)
        (scratch / "runroot.yaml").write_text(
            f"prefix: {scratch}\nexec_prefix: {scratch}\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: {scratch}/etc\n"
            f"datadir: {scratch}/cache\nincludedir: /usr/include\nlibdir: /usr/lib\nlibexecdir: /usr/lib/trafficserver/modules\n"
            f"localstatedir: {scratch}/var\nruntimedir: {scratch}/run\nlogdir: {scratch}/log\nmandir: {scratch}\n"
            f"infodir: {scratch}\ncachedir: {scratch}/cache\n")
        return self.start("trafficserver", port, ["traffic_server", f"--run-root={scratch}/runroot.yaml"])

    def bare(self, size="1kib"):
        port = self.next_port()
        server = self.start(f"bare-{size}", port, [str(self.binaries / "examples/bare"), f"127.0.0.1:{port}", str(SIZES[size])])
        server.h2_port = port
        return server

    def larder(self, name, memory="3GiB", redis=None):
        scratch, port, admin = self.scratch(name), self.next_port(), self.next_port()
        redis = f", redis: 'redis://127.0.0.1:{REDIS}', namespace: {name}{redis}" if redis is not None else ""
        (scratch / "proxy.yaml").write_text(LARDER.format(port=port, admin=admin, memory=memory, redis=redis))
        server = self.start(name, port, [str(self.binaries / "larder"), "run", "--config", str(scratch / "proxy.yaml")],
                            admin=admin)
        server.h2_port = port
        return server

    def upstream_requests(self):
        """How many the upstream has answered, without this question."""
        total = int(get(UPSTREAM, "/requests").split()[9])
        self.questions += 1
        return total - self.questions

    def stop(self):
        for server in reversed(self.started):
            server.stop()


def get(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()
