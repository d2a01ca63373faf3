// See tests/dashboard/check.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";

import { Browser } from "./browser.mjs";
import { looksRight } from "./looks.mjs";
import { playViews, signIn, tellsIllness } from "./views.mjs";
import { TOKEN, World } from "./world.mjs";

const seconds = Number(process.env.SECONDS_OF_LOAD ?? 60);
const pictures = "target/dashboard";
const pause = (millis) => new Promise((done) => setTimeout(done, millis));
const text = (id) => `document.getElementById("${id}").textContent`;

async function pictured(browser, name) {
  await looksRight(browser, name, async (kind, look) => {
    await browser.picture(`${pictures}/${name}-${kind}.png`, !look.phone);
    if (look.phone) {
      await browser.evaluate('scrollTo(0, document.getElementById("routes-title").offsetTop)');
      await browser.picture(`${pictures}/${name}-${kind}-routes.png`, false);
      await browser.evaluate('scrollTo(0, document.getElementById("purges-title").offsetTop)');
      await browser.picture(`${pictures}/${name}-${kind}-purges.png`, false);
      await browser.evaluate("scrollTo(0, 0)");
    }
  });
}

/// Sums of the samples of a metric whose labels have these words.
function sum(metrics, name, ...labels) {
  let total = 0;
  for (const [key, value] of metrics) {
    if ((key === name || key.startsWith(name + "{")) && labels.every((label) => key.includes(label))) total += value;
  }
  return total;
}

/// Numbers as the page writes them: groups of three apart, nothing rounded below ten thousand.
async function agrees(browser, world) {
  const metrics = await world.metrics();
  const shown = await browser.evaluate(`import("/dashboard/script.js").then((page) => page.data)`);
  const same = (what, page, told) => assert.equal(page, told, what + ": the page has " + page + ", /metrics " + told);
  const all = shown.overview;
  same("hits", all.hits, sum(metrics, "cache_hits_total"));
  same("misses", all.misses, sum(metrics, "cache_misses_total"));
  same("requests", all.requests, sum(metrics, "larder_requests_total"));
  for (const route of all.routes) {
    const label = `"${route.name}"`;
    same(route.name + " requests", route.requests, sum(metrics, "larder_requests_total", "route=" + label));
    same(route.name + " filled", route.filledBytes, sum(metrics, "larder_filled_bytes_total", "route=" + label));
    same(route.name + " stored", route.fromStore.count, sum(metrics, "larder_request_seconds_count", "route=" + label, '"store"'));
    same(route.name + " purged", route.invalidations, sum(metrics, "cache_invalidations_total", label));
  }
  same("entries", shown.store.entries, sum(metrics, "larder_stored_entries"));
  same("bytes", shown.store.bytes, sum(metrics, "larder_stored_bytes"));
  same("records", shown.store.purgeRecords, sum(metrics, "larder_purge_records"));
  same("waiting", shown.redis.purgesWaiting, sum(metrics, "larder_purges_waiting"));
  same("up", shown.redis.up ? 1 : 0, sum(metrics, "larder_redis_up"));
  for (const [source, of] of Object.entries(all.purges)) {
    same(source, of.purges, sum(metrics, "larder_purges_total", `"${source}"`));
  }
  // What is drawn is what was told.
  const rate = ((100 * all.hits) / (all.hits + all.misses)).toFixed(1) + " %";
  assert.equal(await browser.evaluate(text("hit-rate")), rate);
  const rows = await browser.evaluate(
    '[...document.querySelectorAll("#routes tbody tr")].map((row) => [row.cells[0].textContent, row.cells[1].title.replace(/\\D/g, "")])');
  for (const [name, requests] of rows) {
    const route = name === "no route" ? "other" : name;
    same("drawn " + name, Number(requests), sum(metrics, "larder_requests_total", `route="${route}"`));
  }
  const records = await browser.evaluate('document.querySelector("#store").textContent');
  assert.ok(records.replace(/\D/g, "").includes(String(shown.store.purgeRecords)), records);
}

/// A process without Redis: each view, a purge, and an API that is ill.
async function alone() {
  const world = await World.start({ redis: false });
  const browser = await Browser.start();
  try {
    await signIn(browser, `http://127.0.0.1:${world.adminPort}/dashboard`, TOKEN);
    await browser.until("there are no purges", text("purges") + ' === "No purges yet."');
    browser.events.length = 0;
    await playViews(browser, world, (view, kind) => browser.picture(`${pictures}/${view}-${kind}.png`, true));
    await browser.until("it speaks of no Redis", text("purges") + '.includes("Purges of this process")');
    assert.ok(!(await browser.evaluate("document.body.innerText")).includes("Redis connected"));
    // The browser itself reports what was answered 400, to a path without a host and to a purge of nothing.
    assert.deepEqual(browser.complaints().filter((complaint) => !complaint.includes("400")), []);
    await tellsIllness(browser, world);
  } finally {
    await browser.end();
    await world.end();
  }
}

mkdirSync(pictures, { recursive: true });
await alone();
const world = await World.start();
const browser = await Browser.start();
try {
  await browser.look({ width: 1280 });
  await browser.send("Page.navigate", { url: `http://127.0.0.1:${world.adminPort}/dashboard` });
  await browser.until("it asks for the token", `document.getElementById("login") && !document.getElementById("login").hidden`);
  await pictured(browser, "token");
  // The browser itself reports the answer 401, and nothing else may have gone wrong.
  assert.deepEqual(browser.complaints().filter((complaint) => !complaint.includes("401")), []);
  const enter = (token) => browser.evaluate(
    `(() => { const form = document.getElementById("login"); document.getElementById("token").value = ${JSON.stringify(token)}; form.requestSubmit(); })()`);
  await enter("wrong");
  await pause(500);
  assert.equal(await browser.evaluate(`document.getElementById("figures").hidden`), true);
  await enter(TOKEN);
  await browser.until("the figures are there", `!document.getElementById("figures").hidden`);
  browser.events.length = 0;

  world.load(16);
  await pause(1000 * seconds * 0.6);
  await pictured(browser, "load");
  world.storm();
  await pause(1000 * seconds * 0.25);
  await pictured(browser, "storm");
  world.redis.kill();
  world.broken = true;
  await pause(Math.max(12_000, 1000 * seconds * 0.15));
  await browser.until("the page says that Redis is unavailable", text("notes") + '.includes("Redis is unavailable")');
  await pictured(browser, "away");

  await world.calm();
  await pause(6000);
  await browser.evaluate(`import("/dashboard/script.js").then((page) => page.turn())`);
  await agrees(browser, world);
  await browser.evaluate(`document.querySelector('[data-order="filledBytes"]').click()`);
  assert.equal(await browser.evaluate(`document.querySelector("#routes tbody th").textContent`), "files");
  assert.deepEqual(browser.complaints(), []);

  // Asked to end, it would stay for the purges that Redis has not taken.
  world.larder.kill("SIGKILL");
  await browser.until("the page says that larder is gone", text("status") + '.includes("unreachable")');
  console.log("the dashboard agrees with /metrics; pictures are in " + pictures);
} finally {
  await browser.end();
  await world.end();
}
