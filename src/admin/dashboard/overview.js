// The overview: summary, charts, routes, purges, and the state of store, Redis and API.

import { $, bar, cell, make, viewLink } from "/dashboard/build.js";
import { chart, charts, totals } from "/dashboard/chart.js";
import { bytes, count, dash, grouped, hitShare, lifetime, percent, share, time } from "/dashboard/format.js";
import { purgeTable } from "/dashboard/purges.js";
import { missReasons, notStoredReasons } from "/dashboard/reasons.js";
import { ask } from "/dashboard/request.js";

const PURGES = 15;
let order = "requests";
let last = null;

function tiles(data) {
  const set = (id, text) => { $(id).textContent = text; };
  const all = data.overview, answered = all.hits + all.misses;
  set("hit-rate", percent(all.hitRate));
  set("hit-rate-more", count(all.hits) + " of " + count(answered) + " cacheable requests");
  set("saved", count(all.saved));
  set("saved-more", all.requests ? percent(share(all.saved, all.requests)) + " of all requests" : "no requests yet");
  set("requests", count(all.requests));
  const recent = totals(data.history).slice(-1)[0];
  set("requests-more", recent ? (recent.requests / data.history.everySeconds).toFixed(1) + " per second" : "");
  set("errors", count(all.errors));
  set("errors-more", all.requests ? percent(share(all.errors, all.requests)) + " of all requests" : "");
  set("p95", time(all.fromStore.p95));
  set("p95-more", "from the store; API " + time(all.fromUpstream.p95));
  const purges = Object.values(all.purges), sum = (name) => purges.reduce((total, of) => total + of[name], 0);
  set("purged", count(sum("purges")));
  const failed = sum("failed");
  set("purged-more", count(all.purges.write ? all.purges.write.purges : 0) + " by writes" + (failed ? ", " + count(failed) + " not recorded" : ""));
}

function routes(data) {
  const missed = (route) => route.misses, key = order === "missed" ? missed : (route) => route[order];
  const sorted = [...data.overview.routes].sort((a, b) => key(b) - key(a) || a.name.localeCompare(b.name));
  const shown = sorted.slice(0, 25);
  const rows = shown.map((route) => {
    const past = data.history.routes[route.name];
    const rates = past && past.map((at) => at && hitShare({ hits: at[1], misses: at[2] }));
    const line = rates && rates.some((rate) => rate !== null)
      ? chart([{ values: rates, kind: "", filled: true }], 1, 24, "Hit rate of " + route.name + " over the last hour") : dash;
    const mean = route.fills ? bytes(route.filledBytes / route.fills) : dash;
    return make("tr", {},
      make("th", { scope: "row" }, viewLink("route", { name: route.name }, route.name === "other" ? "no route" : route.name)),
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
  });
  // A reader that has a link in focus keeps it.
  const focused = $("routes").contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  $("routes").tBodies[0].replaceChildren(...rows);
  if (focused) [...$("routes").querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  $("routes-more").textContent = sorted.length > shown.length
    ? (sorted.length - shown.length) + " more in /stats." : "Stored: total bytes stored. Size: mean size of a response.";
}

function list(id, entries) {
  $(id).replaceChildren(...entries.filter(Boolean).flatMap(([name, text]) =>
    name === "bar" ? [make("dd", { class: "measure" }, bar(text))] : [make("dt", {}, name), make("dd", {}, text)]));
}

function redisState(redis) {
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
  if (redis !== null) redisState(redis);
  const failures = Object.entries(overview.upstreamFailures);
  list("process", [
    ["API circuit breaker", overview.upstreamBreakerOpen ? "open" : "closed"],
    ["Requests waiting for the API", grouped(overview.upstreamWaiting)],
    overview.upstreamOldestWait !== null && ["The oldest waits for", time(overview.upstreamOldestWait)],
    ["Client connections", grouped(overview.connections)],
    ["Accepts failed", grouped(overview.acceptsFailed)],
    ["API latency, p50", time(overview.fromUpstream.p50)],
    ["API latency, p99", time(overview.fromUpstream.p99)],
    ...failures.map(([reason, number]) => ["API failures: " + reason, grouped(number)]),
    failures.length === 0 && ["API failures", "none"],
    ["Workers", overview.workersStalled.length + (overview.workerStalls ? ", blocked " + overview.workerStalls + " times" : "")],
  ]);
}

function draw({ data, told }) {
  tiles(data);
  $("charts").replaceChildren(...charts(data.history));
  routes(data);
  $("miss-reasons").replaceChildren(missReasons(data.overview.routes));
  $("not-stored").replaceChildren(notStoredReasons(data.overview.routes));
  $("purges").replaceChildren(...purgeTable(told, data.redis, data.at, "purges-title"));
  state(data);
}

export const overview = {
  id: "overview",
  refreshes: true,
  start() {
    for (const button of document.querySelectorAll("[data-order]")) {
      button.addEventListener("click", () => {
        order = button.dataset.order;
        for (const other of document.querySelectorAll("[data-order]")) other.setAttribute("aria-pressed", String(other === button));
        if (last) routes(last.data);
      });
    }
  },
  async show(_, data) {
    last = { data, told: await ask("/purges?limit=" + PURGES) };
    draw(last);
  },
};
