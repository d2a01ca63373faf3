// Renders /dashboard/data and /purges. Values are set as text only, so nothing from a request becomes markup.
"use strict";

const EVERY = 5000;
const PURGES = 15;
const TOKEN = "larder-token";

const $ = (id) => document.getElementById(id);
let order = "requests";
let last = null;

// ---- number formats

const dash = "–";

function count(number) {
  if (number < 10000) return String(number);
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= limit) return (number / limit).toFixed(number >= 100 * limit ? 0 : 1) + " " + unit;
  }
  return String(number);
}

function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function percent(share) {
  if (share === null || share === undefined) return dash;
  return (share * 100).toFixed(1) + " %";
}

function bytes(number) {
  if (number === null || number === undefined) return dash;
  let unit = 0;
  while (number >= 1024 && unit < 4) { number /= 1024; unit++; }
  return (unit === 0 ? Math.round(number) : number.toFixed(number < 10 ? 1 : 0)) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
}

function time(seconds) {
  if (seconds === null || seconds === undefined) return dash;
  if (seconds < 0.001) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return (seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0) + " ms";
  if (seconds < 120) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  return (seconds / 60).toFixed(0) + " min";
}

function lifetime(seconds) {
  if (seconds === null || seconds === undefined) return dash;
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "m"]]) {
    if (seconds >= length && seconds % length === 0) return seconds / length + " " + unit;
  }
  return seconds < 1 ? seconds * 1000 + " ms" : seconds + " s";
}

function ago(from, to) {
  const seconds = Math.max(0, Math.round((to - from) / 1000));
  if (seconds < 60) return seconds + " s ago";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h ago";
  return Math.floor(seconds / 86400) + " d ago";
}

// ---- building

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function drawn(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- charts: one value per sample, null where there is none

const WIDTH = 600, HEIGHT = 92;

function path(values, top, height, close) {
  const step = WIDTH / Math.max(1, values.length - 1);
  const y = (value) => (height - 1 - (height - 4) * Math.min(1, value / top)).toFixed(1);
  let written = "", start = null, end = 0;
  const finish = () => {
    if (start === null) return;
    // A single sample is drawn as a short line.
    if (end === start) written += "h2";
    if (close) written += "L" + (end * step).toFixed(1) + " " + height + "L" + (start * step).toFixed(1) + " " + height + "Z";
    start = null;
  };
  values.forEach((value, at) => {
    if (value === null) return finish();
    written += (start === null ? "M" : "L") + (at * step).toFixed(1) + " " + y(value);
    if (start === null) start = at;
    end = at;
  });
  finish();
  return written;
}

function chart(layers, top, height, label) {
  const svg = drawn("svg", { viewBox: "0 0 " + WIDTH + " " + height, preserveAspectRatio: "none", role: "img", "aria-label": label });
  svg.append(drawn("line", { class: "base", x1: 0, x2: WIDTH, y1: height - 0.5, y2: height - 0.5 }));
  for (const { values, kind, filled } of layers) {
    if (filled) svg.append(drawn("path", { class: "area " + kind, d: path(values, top, height, true) }));
    svg.append(drawn("path", { class: "line " + kind, d: path(values, top, height, false) }));
  }
  return svg;
}

function show(id, moments, layers, top, label, range) {
  const place = $(id), from = moments[0];
  const any = layers.some(({ values }) => values.some((value) => value !== null));
  if (!any || moments.length < 2) {
    place.replaceChildren(make("p", { class: "empty" }, "The first samples arrive within half a minute."));
    range.textContent = "";
    return;
  }
  const minutes = Math.max(1, Math.round((moments[moments.length - 1] - from) / 60000));
  const axis = make("p", { class: "axis" }, make("span", {}, minutes + " min ago"), make("span", {}, "now"));
  place.replaceChildren(chart(layers, top, HEIGHT, label), axis);
}

// Sums over all routes, per sample.
function totals(history) {
  const sum = history.at.map(() => ({ requests: 0, hits: 0, misses: 0, p50: null, p95: null, weight: 0 }));
  for (const column of Object.values(history.routes)) {
    column.forEach((cell, at) => {
      if (cell === null) return;
      const [requests, hits, misses, p50, p95] = cell, all = sum[at];
      all.requests += requests; all.hits += hits; all.misses += misses;
      // Over several routes: p50 weighted by requests, p95 of the slowest route.
      all.p50 = ((all.p50 || 0) * all.weight + p50 * requests) / (all.weight + requests);
      all.p95 = Math.max(all.p95 || 0, p95);
      all.weight += requests;
    });
  }
  return sum;
}

function charts(history) {
  const all = totals(history), every = history.everySeconds;
  const rate = all.map(({ hits, misses }) => (hits + misses > 0 ? hits / (hits + misses) : null));
  const load = all.map(({ requests }) => requests / every), stored = all.map(({ hits }) => hits / every);
  const half = all.map(({ p50 }) => p50), most = all.map(({ p95 }) => p95);
  const known = rate.filter((value) => value !== null), peak = Math.max(...load, 0), slowest = Math.max(...most, 0);
  const lowest = known.length ? Math.min(...known) : null;
  show("chart-rate", history.at, [{ values: rate, kind: "", filled: true }], 1,
    "Hit rate over the last hour, lowest " + percent(lowest), $("rate-range"));
  show("chart-load", history.at, [{ values: load, kind: "other", filled: true }, { values: stored, kind: "", filled: true }],
    peak || 1, "Requests per second over the last hour, at most " + peak.toFixed(1), $("load-range"));
  show("chart-time", history.at, [{ values: half, kind: "", filled: true }, { values: most, kind: "other", filled: false }],
    slowest || 1, "Time to first byte, p95 at most " + time(slowest), $("time-range"));
  $("rate-range").textContent = known.length ? "lowest " + percent(lowest) : "";
  $("load-range").textContent = "at most " + peak.toFixed(peak < 10 ? 1 : 0);
  $("time-range").textContent = "at most " + time(slowest);
}

// ---- the parts of the page

function figure(id, text) {
  $(id).textContent = text;
}

function tiles(data) {
  const all = data.overview, answered = all.hits + all.misses;
  figure("hit-rate", percent(all.hitRate));
  $("hit-rate-more").textContent = count(all.hits) + " of " + count(answered) + " cacheable requests";
  figure("saved", count(all.saved));
  $("saved-more").textContent = all.requests ? percent(all.saved / all.requests) + " of all requests" : "no requests yet";
  figure("requests", count(all.requests));
  const recent = totals(data.history).slice(-1)[0];
  $("requests-more").textContent = recent ? (recent.requests / data.history.everySeconds).toFixed(1) + " per second" : "";
  figure("errors", count(all.errors));
  $("errors-more").textContent = all.requests ? percent(all.errors / all.requests) + " of all requests" : "";
  figure("p95", time(all.fromStore.p95));
  $("p95-more").textContent = "from the store; API " + time(all.fromUpstream.p95);
  const purges = Object.values(all.purges), sum = (name) => purges.reduce((total, of) => total + of[name], 0);
  figure("purged", count(sum("purges")));
  const failed = sum("failed");
  $("purged-more").textContent = count(all.purges.write ? all.purges.write.purges : 0) + " by writes" + (failed ? ", " + count(failed) + " not recorded" : "");
}

// Renders text between backticks as code.
function worded(text) {
  return text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

function notes(list) {
  const words = { trouble: "Trouble", warning: "Warning", notice: "Notice" };
  const drawn = list.map(({ level, text }) =>
    make("p", { class: "note", "data-level": level }, make("strong", {}, words[level] + ": "), make("span", {}, ...worded(text))));
  // Replace only on change, so that screen readers do not repeat the list.
  const now = list.map(({ level, text }) => level + text).join("\n");
  if ($("notes").dataset.now !== now) { $("notes").replaceChildren(...drawn); $("notes").dataset.now = now; }
}

function cell(label, text, attributes) {
  const none = text === dash ? { class: "none" } : {};
  return make("td", { "data-label": label, ...none, ...attributes }, text);
}

function routes(data) {
  const missed = (route) => route.misses, key = order === "missed" ? missed : (route) => route[order];
  const sorted = [...data.overview.routes].sort((a, b) => key(b) - key(a) || a.name.localeCompare(b.name));
  const shown = sorted.slice(0, 25);
  $("routes").tBodies[0].replaceChildren(...shown.map((route) => {
    const past = data.history.routes[route.name];
    const rates = past && past.map((at) => (at && at[1] + at[2] > 0 ? at[1] / (at[1] + at[2]) : null));
    const line = rates && rates.some((rate) => rate !== null)
      ? chart([{ values: rates, kind: "", filled: true }], 1, 24, "Hit rate of " + route.name + " over the last hour") : dash;
    const mean = route.fills ? bytes(route.filledBytes / route.fills) : dash;
    return make("tr", {},
      make("th", { scope: "row" }, route.name === "other" ? "no route" : route.name),
      cell("Requests", count(route.requests), { title: grouped(route.requests) }),
      cell("Hit rate", route.caches ? percent(route.hitRate) : "not cached", route.caches ? {} : { class: "none" }),
      cell("Last hour", line, { class: line === dash ? "wide none" : "wide" }),
      cell("Saved", count(route.saved), { title: grouped(route.saved) }),
      cell("Errors", route.errors ? count(route.errors) : dash, { title: grouped(route.errors) }),
      cell("p95, store", time(route.fromStore.p95)),
      cell("p95, API", time(route.fromUpstream.p95)),
      cell("Stored", route.fills ? bytes(route.filledBytes) : dash, { title: grouped(route.fills) + " responses" }),
      cell("Size", mean),
      cell("Purged", route.invalidations ? count(route.invalidations) : dash),
      cell("TTL", lifetime(route.ttlSeconds)));
  }));
  $("routes-more").textContent = sorted.length > shown.length
    ? (sorted.length - shown.length) + " more in /stats." : "Stored: total bytes stored. Size: mean size of a response.";
}

function purges(told, now) {
  const rows = told.purges.map((purge) => {
    const what = make("td", { class: "targets", "data-label": "Targets" }, purge.targets.slice(0, 4).join(", "));
    const more = purge.targetCount - Math.min(4, purge.targets.length);
    if (more > 0) what.append(" and " + more + " more");
    if (purge.mode === "soft") what.append(" ", make("span", { class: "tag" }, "soft"));
    const asked = [purge.method, purge.path].filter(Boolean).join(" ");
    const why = make("td", { class: "targets", "data-label": "Cause" }, asked || purge.source);
    if (purge.route) why.append(" ", make("span", { class: "tag" }, purge.route));
    const at = Date.parse(purge.at);
    return make("tr", {},
      make("td", { "data-label": "When" }, make("time", { datetime: purge.at, title: purge.at }, ago(at, now))),
      what, why,
      make("td", { "data-label": "Source", title: purge.requestId || "" }, (purge.from || "this machine") + " ", make("span", { class: "tag" }, purge.source)),
      cell("Replica", purge.replica || dash));
  });
  $("purges").hidden = rows.length === 0;
  $("purges").tBodies[0].replaceChildren(...rows);
  $("purges-more").textContent = rows.length === 0 ? "No purges yet."
    : told.ownOnly ? "This replica only: Redis is unavailable." : "All replicas, from the journal in Redis.";
}

function bar(share) {
  const width = (100 * Math.min(1, share)).toFixed(1);
  const svg = drawn("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none" }, drawn("rect", { x: 0, y: 0, width, height: 6 }));
  return make("div", { class: share > 0.8 ? "bar full" : "bar", "aria-hidden": "true" }, svg);
}

function list(id, entries) {
  $(id).replaceChildren(...entries.filter(Boolean).flatMap(([name, text]) =>
    name === "bar" ? [bar(text)] : [make("dt", {}, name), make("dd", {}, text)]));
}

function state(data) {
  const { store, redis, overview } = data;
  list("store", [
    ["Responses", grouped(store.entries)],
    ["Memory", bytes(store.bytes) + (store.capacity ? " of " + bytes(store.capacity) : "")],
    store.capacity > 0 && ["bar", store.bytes / store.capacity],
    ["Evicted", grouped(store.evicted)],
    ["Purge records", grouped(store.purgeRecords)],
    ["Process memory (resident)", bytes(overview.memoryResident)],
  ]);
  $("redis-section").hidden = redis === null;
  if (redis !== null) {
    const lag = redis.confirmedSeconds;
    const slowest = [...redis.commands].sort((a, b) => b.meanSeconds - a.meanSeconds)[0];
    const missed = redis.commands.reduce((sum, command) => sum + command.timedOut + command.failed, 0);
    list("redis", [
      ["Redis", redis.up ? "connected" : "unavailable (breaker " + redis.breaker + ")"],
      ["Purges confirmed", lag === null ? "never" : time(lag) + " ago"],
      ["Allowed lag", redis.maxLagSeconds === 0 ? "none (strict)" : "at most " + time(redis.maxLagSeconds)],
      ["Pending purges", grouped(redis.purgesWaiting)],
      ["Memory", redis.memoryUsed === null ? "unknown" : bytes(redis.memoryUsed) + (redis.memoryLimit ? " of " + bytes(redis.memoryLimit) : ", no limit")],
      redis.memoryUsed !== null && redis.memoryLimit && ["bar", redis.memoryUsed / redis.memoryLimit],
      ["Slowest command", slowest ? slowest.command + ", " + time(slowest.meanSeconds) + " mean" : dash],
      ["Commands timed out or failed", grouped(missed)],
      ["Connections made", grouped(redis.connections)],
    ]);
  }
  const failures = Object.entries(overview.upstreamFailures);
  list("process", [
    ["API circuit breaker", overview.upstreamBreakerOpen ? "open" : "closed"],
    ["Client connections", grouped(overview.connections)],
    ["Accepts failed", grouped(overview.acceptsFailed)],
    ["API latency, p50", time(overview.fromUpstream.p50)],
    ["API latency, p99", time(overview.fromUpstream.p99)],
    ...failures.map(([reason, number]) => ["API failures: " + reason, grouped(number)]),
    failures.length === 0 && ["API failures", "none"],
    ["Workers", overview.workersStalled.length + (overview.workerStalls ? ", blocked " + overview.workerStalls + " times" : "")],
  ]);
}

function draw() {
  if (last === null) return;
  const { data, told } = last, level = data.notes.length ? data.notes[0].level : "ok";
  const words = { ok: "● All is well", trouble: "▲ Trouble", warning: "▲ Warning", notice: "● OK, with notices" };
  $("status").textContent = words[level];
  $("status").dataset.level = level;
  $("meta").textContent = "version " + data.version + " · " + new Date(data.at).toLocaleTimeString();
  document.title = (level === "ok" || level === "notice" ? "" : "▲ ") + "larder " + percent(data.overview.hitRate);
  notes(data.notes);
  tiles(data);
  charts(data.history);
  routes(data);
  if (told) purges(told, data.at);
  state(data);
  $("figures").hidden = false;
}

// ---- requests

async function ask(target) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { authorization: "Bearer " + token } : {};
  const answer = await fetch(target, { headers, cache: "no-store" });
  if (answer.ok) return answer.json();
  const refusal = await answer.json().catch(() => ({ error: "HTTP status " + answer.status, fix: "" }));
  throw Object.assign(new Error(refusal.error), { status: answer.status, fix: refusal.fix });
}

function refused(error) {
  sessionStorage.removeItem(TOKEN);
  $("figures").hidden = true;
  $("login").hidden = false;
  $("refusal").textContent = error.status === 401 ? "" : error.message + ": " + error.fix + ".";
  $("status").textContent = "token needed";
  $("status").dataset.level = "none";
  $("token").focus();
}

async function turn() {
  try {
    const [data, told] = await Promise.all([ask("/dashboard/data"), ask("/purges?limit=" + PURGES)]);
    last = { data, told };
    document.body.classList.remove("stale");
    $("login").hidden = true;
    $("forget").hidden = sessionStorage.getItem(TOKEN) === null;
    draw();
  } catch (error) {
    if (error.status === 401 || error.status === 403) return refused(error);
    document.body.classList.add("stale");
    $("status").textContent = "▲ larder is unreachable";
    $("status").dataset.level = "trouble";
  }
}

async function run() {
  for (;;) {
    if (!document.hidden && $("login").hidden) await turn();
    await new Promise((done) => setTimeout(done, EVERY));
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value);
  $("token").value = "";
  turn();
});
$("forget").addEventListener("click", () => { sessionStorage.removeItem(TOKEN); location.reload(); });
for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => {
    order = button.dataset.order;
    for (const other of document.querySelectorAll("[data-order]")) other.setAttribute("aria-pressed", String(other === button));
    draw();
  });
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && $("login").hidden) turn(); });
run();
