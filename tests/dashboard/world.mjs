// An API, a Redis, a larder in front of them, and clients that ask, write and purge.

import { spawn } from "node:child_process";
import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const TOKEN = "the-token-of-the-test";

const pause = (millis) => new Promise((done) => setTimeout(done, millis));

function freePort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

export class World {
  /// `redis: false`: one process alone.
  static async start({ redis = true } = {}) {
    const world = new World();
    world.folder = mkdtempSync(join(tmpdir(), "larder-world-"));
    world.broken = false;
    // What the API does to every request: nothing special, an error, or no answer.
    world.illness = null;
    world.api = http.createServer((request, response) => world.answer(request, response));
    await new Promise((done) => world.api.listen(0, "127.0.0.1", done));
    [world.redisPort, world.port, world.adminPort] = [await freePort(), await freePort(), await freePort()];
    if (redis) world.startRedis();
    const store = redis ? `redis: "redis://127.0.0.1:${world.redisPort}/0", ` : "";
    const config = join(world.folder, "proxy.yaml");
    writeFileSync(config, `
listen: 127.0.0.1:${world.port}
admin: {listen: "127.0.0.1:${world.adminPort}", token: "${TOKEN}"}
upstream: http://127.0.0.1:${world.api.address().port}
store: {${store}memory: 4MiB, timeout: 500ms}
log: {level: off}
audit: {sample: 100%}
routes:
  - {path: /api/courses, name: course-list, ttl: 30s, tags: [courses]}
  - {path: "/api/courses/{id}", name: course, ttl: 2m, tags: [courses, "course:{id}"]}
  - {path: "/api/courses/{id}/enroll", name: enroll, purges: ["course:{id}"]}
  - {path: "/api/files/{id}", name: files, ttl: 1h, tags: ["file:{id}"]}
  - {path: /api/users/me/progress, name: progress, ttl: 10s, per: authorization}
  - {path: "/api/search/{term}", name: search, ttl: 5s}
  - {path: /api/clock, name: clock, ttl: 1h, tags: [clock]}
`);
    world.larder = spawn(process.env.LARDER ?? "target/debug/larder", ["run", "--config", config], { stdio: ["ignore", openSync(join(world.folder, "log"), "w"), "inherit"] });
    for (;;) {
      const status = await world.metrics().then(() => true, () => false);
      if (status) return world;
      if (world.larder.exitCode !== null) throw new Error("larder does not start");
      await pause(50);
    }
  }

  startRedis() {
    const words = ["--port", String(this.redisPort), "--bind", "127.0.0.1", "--save", "", "--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"];
    this.redis = spawn("redis-server", words, { stdio: "ignore", cwd: this.folder });
  }

  answer(request, response) {
    const size = request.url.startsWith("/api/files/") ? 40_000 : 900;
    request.resume();
    if (this.illness === "hangs") return;
    setTimeout(() => {
      if (this.illness === "fails") return response.writeHead(503).end();
      if (this.broken && Math.random() < 0.3) return request.socket.destroy();
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ path: request.url, ...(request.url === "/api/clock" ? { at: Date.now() } : {}), filler: "x".repeat(size) }));
    }, 5 + 40 * Math.random() ** 3);
  }

  ask(method, path, headers = {}, port = this.port) {
    return new Promise((done) => {
      const request = http.request({ port, method, path, headers, agent: this.agent, host: "127.0.0.1" }, (response) => {
        let text = "";
        response.on("data", (data) => (text += data));
        response.on("end", () => done({ status: response.statusCode, headers: response.headers, text }));
        response.on("error", () => done(null));
      });
      request.on("error", () => done(null));
      request.end(method === "POST" ? "x" : undefined);
    });
  }

  /// Clients that ask as people do: much of little.
  load(clients) {
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 2 * clients });
    this.busy = true;
    const some = (most) => Math.floor(most * Math.random() ** 2);
    const paths = [
      () => ["GET", "/api/courses"],
      () => ["GET", "/api/courses/" + some(60)],
      () => ["GET", "/api/courses/" + some(60)],
      () => ["GET", "/api/files/" + some(150)],
      () => ["GET", "/api/users/me/progress", { authorization: "Bearer " + some(20) }],
      () => ["GET", "/api/search/" + some(400)],
      () => ["GET", "/elsewhere"],
    ];
    const one = async () => {
      while (this.busy) {
        const [method, path, headers] = paths[Math.floor(paths.length * Math.random())]();
        await this.ask(method, path, headers);
        await pause(20 * Math.random());
      }
    };
    const writer = async () => {
      while (this.busy) {
        await this.ask("POST", "/api/courses/" + some(60) + "/enroll");
        await pause(400);
      }
    };
    this.clients = [...Array.from({ length: clients }, one), writer()].map((client) => (typeof client === "function" ? client() : client));
  }

  /// Purges of every kind, as fast as they are answered.
  storm() {
    this.storming = true;
    const one = async (turn) => {
      while (this.storming) {
        const purges = [
          ["PURGE", "/", { "cache-tag": "course:" + (turn % 60) + ", courses" }],
          ["PURGE", "/api/files/" + (turn % 150)],
          ["PURGE", "/api/courses/*", { "purge-mode": "soft" }],
        ];
        const [method, path, headers] = purges[turn++ % 3];
        await this.ask(method, path, headers);
        await pause(10);
      }
    };
    this.storms = [one(0), one(1)];
  }

  async calm() {
    this.storming = this.busy = false;
    await Promise.all([...(this.clients ?? []), ...(this.storms ?? [])]);
  }

  async metrics() {
    const answer = await this.ask("GET", "/metrics", {}, this.adminPort);
    if (answer?.status !== 200) throw new Error("no metrics");
    const values = new Map();
    for (const line of answer.text.split("\n").filter((line) => line && !line.startsWith("#"))) {
      const at = line.lastIndexOf(" ");
      values.set(line.slice(0, at), Number(line.slice(at + 1)));
    }
    return values;
  }

  async end() {
    await this.calm();
    this.larder.kill("SIGKILL");
    this.redis?.kill();
    this.api.close();
    this.api.closeAllConnections();
    this.agent?.destroy();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
