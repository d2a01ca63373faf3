// Node's server with Express. Usage: express.mjs PORT KEEP_ALIVE
import { createHash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as wait } from "node:timers/promises";
import { gzipSync } from "node:zlib";

const [port, keepAlive] = process.argv.slice(2).map(Number);
const express = createRequire(process.cwd() + "/")("express");
const text = Array.from({ length: 10_000 }, (_, number) => String(number).padStart(6, "0") + "\n").join("");
const app = express();
app.disable("x-powered-by");
app.use((_, answer, next) => {
  answer.removeHeader("Date");
  answer.type("text/plain");
  next();
});
app.get("/text", (request, answer) => {
  answer.set({ "Cache-Control": "max-age=60", "Accept-Ranges": "bytes" });
  const [range] = request.range(text.length) ?? [];
  if (!range) return answer.send(text);
  answer.status(206).set("Content-Range", `bytes ${range.start}-${range.end}/${text.length}`);
  answer.send(text.slice(range.start, range.end + 1));
});
app.get("/gzip", (request, answer) => {
  const accepted = request.acceptsEncodings("gzip");
  answer.set("Vary", "Accept-Encoding");
  if (accepted) answer.set("Content-Encoding", "gzip");
  answer.send(accepted ? gzipSync(text) : text);
});
app.get("/chunked", (_, answer) => {
  for (let at = 0; at < text.length; at += 7000) answer.write(text.slice(at, at + 7000));
  answer.end();
});
app.get("/redirect", (_, answer) => answer.redirect("/text"));
app.get("/set-cookies", (_, answer) => answer.cookie("a", "1").cookie("b", "2").send("set"));
app.get("/cookies", (request, answer) => answer.send(request.get("Cookie") ?? ""));
app.get("/events", (_, answer) => {
  answer.type("text/event-stream");
  for (let number = 0; number < 3; number++) answer.write(`data: ${number}\n\n`);
  answer.end();
});
app.get("/slow", async (_, answer) => {
  writeFileSync(`${process.env.MARKS}/waiting`, "");
  while (!existsSync(`${process.env.MARKS}/release`)) await wait(20);
  answer.send(text);
});
app.post("/echo", (request, answer) => {
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (part) => hash.update(part) && (length += part.length));
  request.on("end", () => answer.send(`${length} ${hash.digest("hex")}`));
});
app.post("/refused", express.raw({ type: () => true, limit: "1mb" }), (_, answer) => answer.send("taken"));
app.use((error, _request, answer, _next) => answer.status(error.status ?? 500).send(error.type));
const server = app.listen(port, "127.0.0.1");
server.keepAliveTimeout = keepAlive * 1000;
process.on("SIGTERM", () => server.close());
