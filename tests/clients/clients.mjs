// Node's clients. Usage: clients.mjs CLIENT URL [slow]
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { createRequire } from "node:module";

const [client, url, slow] = process.argv.slice(2);
const upload = "0123456789".repeat(20_000);
const megabytes = "0".repeat(5_000_000);
const large = "x".repeat(8_000_000);
const hash = (body) => createHash("sha256").update(body).digest("hex").slice(0, 8);
const say = (name, status, body = "", ...more) => console.log([name, status, hash(body), ...more].join("\t"));
// Packages are installed beside the working directory.
const load = (name) => createRequire(process.cwd() + "/")(name);

async function withFetch(method, path, { headers = {}, body } = {}) {
  const streams = body instanceof Readable ? { body: Readable.toWeb(body), duplex: "half" } : { body };
  const answer = await fetch(url + path, { method, headers, ...streams });
  const fields = Object.fromEntries(answer.headers);
  return { status: answer.status, fields, cookies: answer.headers.getSetCookie(), body: Buffer.from(await answer.arrayBuffer()) };
}

async function withAxios(method, path, { headers = {}, body } = {}) {
  const options = { method, url: url + path, headers, data: body, responseType: "arraybuffer" };
  const answer = await load("axios").default({ ...options, validateStatus: () => true, maxBodyLength: Infinity });
  const fields = { ...answer.headers };
  return { status: answer.status, fields, cookies: fields["set-cookie"] ?? [], body: Buffer.from(answer.data) };
}

async function withUndici(method, path, { headers = {}, body } = {}) {
  const answer = await load("undici").request(url + path, { method, headers, body });
  const cookies = [answer.headers["set-cookie"] ?? []].flat();
  return { status: answer.statusCode, fields: answer.headers, cookies, body: Buffer.from(await answer.body.arrayBuffer()) };
}

const ask = { fetch: withFetch, axios: withAxios, undici: withUndici }[client];

if (slow) {
  const answer = await ask("GET", "/slow");
  say("shutdown", answer.status, answer.body);
  process.exit(0);
}
await ask("GET", "/text");
const again = await ask("GET", "/text");
say("get", again.status, again.body);
console.log(["cached", (again.fields["cache-status"] ?? "").includes("hit") ? "True" : "False"].join("\t"));
say("304", (await ask("GET", "/text", { headers: { "If-None-Match": '"1"' } })).status);
const range = await ask("GET", "/text", { headers: { Range: "bytes=700-1399" } });
say("range", range.status, range.body, range.fields["content-range"]);
say("head", (await ask("HEAD", "/text")).status);
for (const name of ["gzip", "chunked", "redirect"]) {
  const answer = await ask("GET", "/" + name);
  say(name, answer.status, answer.body);
}
const jar = (await ask("GET", "/set-cookies")).cookies.map((cookie) => cookie.split(";")[0]).join("; ");
say("cookies", 200, (await ask("GET", "/cookies", { headers: { Cookie: jar } })).body);
const headers = { "Content-Type": "text/plain" };
for (const [name, body] of [["upload", upload], ["stream", Readable.from([upload, upload].map((part) => Buffer.from(part)))]]) {
  const answer = await ask("POST", "/echo", { headers, body });
  say(name, answer.status, answer.body);
}
say("events", 200, (await ask("GET", "/events")).body);
// Only axios sends the field: the others refuse it.
const expect = client === "axios" ? { ...headers, Expect: "100-continue" } : headers;
const uploaded = await ask("POST", "/echo", { headers: expect, body: megabytes });
say("continue", uploaded.status, uploaded.body);
for (const [name, method] of [["purge", "PURGE"], ["update", "POST"]]) {
  const version = async () => (await ask("GET", "/count")).body.toString();
  const [first, second] = [await version(), await version()];
  await ask(method, "/count");
  console.log(`${name}\t${first === second ? "held" : "fetched"} ${(await version()) === second ? "stale" : "fresh"}`);
}
await ask("POST", "/refused", { headers, body: large }).then(
  (answer) => say("early", answer.status, answer.body),
  (error) => say("early", error.cause?.code ?? error.code ?? error.name),
);
process.exit(0);
