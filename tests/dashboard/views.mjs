// Plays each view of the page: entry, tag, route, replicas, audit, and a purge with its preview.

import assert from "node:assert/strict";

import { looksRight } from "./looks.mjs";

const HOST = "api.example.com";
const text = (id) => `document.getElementById("${id}").textContent`;
const has = (id, part) => `${text(id)}.includes(${JSON.stringify(part)})`;

export const set = (browser, id, value) =>
  browser.evaluate(`(() => { const field = document.getElementById(${JSON.stringify(id)}); field.value = ${JSON.stringify(value)};
    field.dispatchEvent(new Event("input", { bubbles: true })); })()`);
export const submit = (browser, id) => browser.evaluate(`document.getElementById("${id}").requestSubmit()`);
const click = (browser, id) => browser.evaluate(`document.getElementById("${id}").click()`);
const focused = (browser) => browser.evaluate("document.activeElement.id");

export async function open(browser, view) {
  await browser.evaluate(`location.hash = "#${view}"`);
  const id = view.split("?")[0];
  await browser.until("the view " + id, `!document.getElementById("view-${id}").hidden && document.activeElement.id === "${id}-title"`);
}

export async function signIn(browser, page, token) {
  await browser.look({ width: 1280 });
  await browser.send("Page.navigate", { url: page });
  await browser.until("it asks for the token", `document.getElementById("login") && !document.getElementById("login").hidden`);
  await set(browser, "token", token);
  await submit(browser, "login");
  await browser.until("the figures are there", `!document.getElementById("figures").hidden`);
}

const isHit = async (world, path) => {
  const answer = await world.ask("GET", path, { host: HOST });
  return answer.headers["cache-status"].includes("hit");
};

async function entries(browser, world, seen) {
  await world.ask("GET", "/api/courses/70", { host: HOST });
  await open(browser, "entry");
  await set(browser, "entry-url", "/api/courses/70");
  await set(browser, "entry-host", HOST);
  await submit(browser, "entry-form");
  await browser.until("the entry is explained", has("entry-result", "Stored: hit"));
  for (const part of ["no purge named it", "course:70", "/api/courses/{id}/enroll", "the memory of this replica", "this process"]) {
    assert.ok(await browser.evaluate(has("entry-result", part)), part + ": " + (await browser.evaluate(text("entry-result"))));
  }
  await looksRight(browser, "entry", (kind) => seen("entry", kind));
  await set(browser, "entry-url", "/api/courses/unseen");
  await submit(browser, "entry-form");
  await browser.until("it says that nothing is stored", has("entry-result", "never-stored"));
  // What comes from a request is text.
  await world.ask("GET", "/api/search/%3Cimg%20src=x%3E", { host: HOST });
  await set(browser, "entry-url", "/api/search/<img src=x>");
  await submit(browser, "entry-form");
  await browser.until("the odd path is told", has("entry-result", "img"));
  assert.equal(await browser.evaluate("document.images.length"), 0);
}

async function tags(browser, seen) {
  await open(browser, "tag");
  await browser.until("the tags are listed", has("tag-result", "courses"));
  await looksRight(browser, "tags");
  await set(browser, "tag-name", "course:70");
  await submit(browser, "tag-form");
  await browser.until("the tag is told", has("tag-result", "What a purge of it takes now"));
  for (const part of ["/api/courses/{id}", "/api/courses/{id}/enroll", "Past purges"]) {
    assert.ok(await browser.evaluate(has("tag-result", part)), part);
  }
  await looksRight(browser, "tag", (kind) => seen("tag", kind));
}

async function routes(browser, seen) {
  await open(browser, "route?name=course");
  await browser.until("the rule is told", has("route-result", "Rule: /api/courses/{id}"));
  for (const part of ["2m", "course:{id}", "Why requests went to the API", "never-stored"]) {
    assert.ok(await browser.evaluate(has("route-result", part)), part);
  }
  await looksRight(browser, "route", (kind) => seen("route", kind));
}

/// The answers to previews come late, and in another order than they were asked for: only that of the present input counts.
async function outdated(browser) {
  await browser.evaluate(`(() => {
    window.honestFetch = window.fetch;
    window.held = [];
    window.fetch = async (...request) => {
      const answer = await window.honestFetch(...request);
      if (String(request[0]).includes("dry_run")) await new Promise((release) => window.held.push(release));
      return answer;
    };
  })()`);
  const drawn = () => browser.evaluate("new Promise((done) => setTimeout(() => setTimeout(done)))");
  const ask = async (value, number) => {
    await set(browser, "purge-values", value);
    await submit(browser, "purge-form");
    await browser.until("the answer is held", `held.length === ${number}`);
    assert.equal(await browser.evaluate(`document.getElementById("purge-continue")`), null, "confirmed before its preview");
  };
  await ask("course:90", 1);
  await ask("course:91\ncourse:92", 2);
  await browser.evaluate("held[0]()");
  await drawn();
  assert.equal(await browser.evaluate(text("purge-preview")), "", "the preview of an older input");
  await browser.evaluate("held[1]()");
  await browser.until("the newest preview is there", has("purge-preview", "course:92"));
  // An input takes the preview away, also one that is on its way.
  await ask("course:93", 3);
  await set(browser, "purge-values", "course:71\ncourse:72");
  await browser.evaluate("held[2]()");
  await drawn();
  assert.equal(await browser.evaluate(text("purge-preview")), "", "the preview of an older input");
  await browser.evaluate("window.fetch = window.honestFetch");
}

/// Preview, cancel, preview again, confirm. Nothing is purged before.
async function purges(browser, world, seen) {
  const path = "/api/courses/71";
  await world.ask("GET", path, { host: HOST });
  assert.ok(await isHit(world, path));
  await open(browser, "purge?kind=tags&values=course%3A71");
  const toDialog = async () => {
    await submit(browser, "purge-form");
    await browser.until("there is a preview", has("purge-preview", "nothing is purged yet"));
    assert.equal(await focused(browser), "purge-continue");
    await click(browser, "purge-continue");
    await browser.until("the dialog is open", `document.getElementById("purge-dialog").open`);
    assert.equal(await focused(browser), "purge-cancel");
  };
  await toDialog();
  assert.ok(await browser.evaluate(has("purge-summary", "1 target, which matches 1 response")), await browser.evaluate(text("purge-summary")));
  await looksRight(browser, "purge", (kind) => seen("purge", kind));
  await click(browser, "purge-cancel");
  assert.equal(await focused(browser), "purge-continue");
  assert.ok(await isHit(world, path), "a preview purged");
  await set(browser, "purge-values", "course:71\ncourse:72");
  assert.equal(await browser.evaluate(`document.getElementById("purge-continue")`), null, "a preview of something else");
  await outdated(browser);
  await toDialog();
  await click(browser, "purge-confirm");
  await browser.until("it is purged", has("purge-result", "it is applied"));
  assert.equal(await focused(browser), "purge-title");
  assert.ok(!(await isHit(world, path)), "it was not purged");
  await set(browser, "purge-values", "");
  await submit(browser, "purge-form");
  await browser.until("it says what is wrong", has("purge-preview", "no target is named"));
}

async function audits(browser, world, seen) {
  for (let turn = 0; turn < 3; turn++) await world.ask("GET", "/api/clock", { host: HOST });
  await open(browser, "audit");
  await browser.until("a finding is shown", has("audit-findings", "/api/clock"));
  assert.ok(await browser.evaluate(has("audit-findings", "Fix")));
  await looksRight(browser, "audit", (kind) => seen("audit", kind));
}

async function replicas(browser, seen) {
  await open(browser, "replicas");
  await browser.until("the replicas are told", has("replicas-result", "Hit rate"));
  await looksRight(browser, "replicas", (kind) => seen("replicas", kind));
}

/// `seen` gets the name of each view, and the look.
export async function playViews(browser, world, seen = () => {}) {
  await entries(browser, world, seen);
  await tags(browser, seen);
  await routes(browser, seen);
  await purges(browser, world, seen);
  await audits(browser, world, seen);
  await replicas(browser, seen);
  await open(browser, "overview");
}

/// What is wrong with the API is on the page within seconds, whatever it is.
export async function tellsIllness(browser, world) {
  for (const [illness, words] of [["fails", "with an error (5xx)"], ["hangs", "The API does not answer"]]) {
    world.illness = illness;
    const began = Date.now();
    const asked = setInterval(() => world.ask("GET", "/api/courses/" + Date.now(), { host: HOST }), 200);
    await browser.until(illness + " is told", `${has("notes", words)} && ${has("status", "Trouble")}`);
    clearInterval(asked);
    console.log("an API that " + illness + " is told after " + ((Date.now() - began) / 1000).toFixed(0) + " s");
  }
  world.illness = null;
}
