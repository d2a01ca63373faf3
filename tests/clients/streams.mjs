// Node's clients of streams, and a WebSocket server, which prints its port.
// Usage: streams.mjs eventsource|ws|grpc URL [slow], or streams.mjs websocket-server
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const [client, url, slow] = process.argv.slice(2);
const load = (name) => createRequire(process.cwd() + "/")(name);
const hash = (text) => createHash("sha256").update(text).digest("hex").slice(0, 8);
const say = (name, ...values) => console.log([name, ...values].join("\t"));

/** The first six events: the server ends each stream after three. */
async function readEvents() {
  const { EventSource } = load("eventsource");
  const source = new EventSource(url + "/ticks");
  const seen = [];
  await new Promise((resolve) => {
    source.onmessage = (event) => {
      seen.push(`${event.lastEventId}=${event.data}`);
      if (seen.length === 6) resolve();
    };
  });
  source.close();
  say("EventSource", seen.join(" "));
}

function connect(protocols) {
  const socket = new (load("ws"))(url.replace("http", "ws") + "/echo", protocols);
  const messages = [];
  const waiting = [];
  socket.on("message", (data) => (waiting.shift() ?? ((late) => messages.push(late)))(data));
  const next = () => (messages.length ? messages.shift() : new Promise((resolve) => waiting.push(resolve)));
  const opened = new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  const closed = new Promise((resolve) => socket.on("close", (code, reason) => resolve(`${code} ${reason}`)));
  return { socket, next, opened, closed };
}

async function exchangeMessages() {
  const { socket, next, opened, closed } = connect(["chat.v1", "chat.v2"]);
  await opened;
  const seen = [socket.protocol, Object.keys(socket._extensions).join()];
  for (const message of ["text äöü", Buffer.alloc(1 << 20, 7), "x".repeat(1 << 20)]) {
    socket.send(message);
    seen.push(hash(await next()));
  }
  socket.ping("p");
  seen.push(await new Promise((resolve) => socket.on("pong", (data) => resolve(`pong ${data}`))));
  socket.send("close");
  say("WebSocket", ...seen, await closed);
}

/** Says `open`, goes on after the signal that the caller tells of by standard input, and waits for the end. */
async function endAtShutdown() {
  const { socket, next, opened, closed } = connect(["chat.v2"]);
  await opened;
  console.log("open");
  await new Promise((resolve) => process.stdin.once("data", resolve));
  socket.send("still");
  say("shutdown", `${await next()} ${await closed}`.trim());
}

/** The four kinds of call, the message that the server says an error with, and a deadline. */
async function callMethods() {
  const grpc = load("@grpc/grpc-js");
  const bytes = (value) => value;
  const path = (name) => "/larder.Echo/" + name;
  const wire = [bytes, bytes];
  const peer = new grpc.Client(url.replace("http://", ""), grpc.credentials.createInsecure());
  const unary = (name, content, options = {}) =>
    new Promise((resolve) =>
      peer.makeUnaryRequest(path(name), ...wire, content, new grpc.Metadata(), options, (error, value) =>
        resolve(error ? `${error.code} ${error.details}` : hash(value)),
      ),
    );
  const collect = (call) =>
    new Promise((resolve) => {
      const parts = [];
      call.on("data", (part) => parts.push(part.toString()));
      call.on("end", () => resolve(parts.join(",")));
      call.on("error", (error) => resolve(`${error.code} ${error.details}`));
    });
  const write = (call) => {
    for (const part of ["a", "b", "c"]) call.write(Buffer.from(part));
    call.end();
  };
  if (slow) return say("shutdown", await unary("Slow", Buffer.from("x")));
  say("unary", await unary("Unary", Buffer.from("one")), await unary("Unary", Buffer.alloc(1 << 20, 7)));
  const down = await collect(peer.makeServerStreamRequest(path("Down"), ...wire, Buffer.from("3")));
  const up = await new Promise((resolve) => {
    write(peer.makeClientStreamRequest(path("Up"), ...wire, (error, value) => resolve(error?.code ?? value.toString())));
  });
  const call = peer.makeBidiStreamRequest(path("Both"), ...wire);
  const both = collect(call);
  write(call);
  say("streams", down, up, await both);
  const late = await unary("Never", Buffer.from("x"), { deadline: Date.now() + 1000 });
  say("status", await unary("Fail", Buffer.from("x")), late.split(" ")[0]);
  peer.close();
}

/** Echoes messages, and closes when it is told to. */
function serveWebsockets() {
  const { WebSocketServer } = load("ws");
  const options = { host: "127.0.0.1", port: 0, perMessageDeflate: true, maxPayload: 1 << 22 };
  const server = new WebSocketServer(options, () => console.log(server.address().port));
  server.on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data, isBinary) => {
      if (!isBinary && data.toString() === "close") return socket.close(4000, "asked");
      socket.send(data, { binary: isBinary });
    });
  });
  return new Promise(() => {});
}

const play = { eventsource: readEvents, ws: slow ? endAtShutdown : exchangeMessages, grpc: callMethods };
play["websocket-server"] = serveWebsockets;
await play[client]();
process.exit(0);
