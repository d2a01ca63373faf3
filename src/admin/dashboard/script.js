// The page: who is signed in, which view is shown, and what is refreshed when. The views are files of their own.

import { $, note } from "/dashboard/build.js";
import { percent } from "/dashboard/format.js";
import { ask, forgetToken, hasToken, setToken } from "/dashboard/request.js";
import { audit } from "/dashboard/audit.js";
import { entry } from "/dashboard/entry.js";
import { overview } from "/dashboard/overview.js";
import { purge } from "/dashboard/purge.js";
import { replicas } from "/dashboard/replicas.js";
import { route } from "/dashboard/route.js";
import { tag } from "/dashboard/tag.js";

const EVERY = 5000;
const VIEWS = [overview, route, entry, tag, purge, replicas, audit];

/// The figures that are shown, for those who look at the page from outside.
export let data = null;

function place() {
  const [id, query] = location.hash.slice(1).split("?");
  return { view: VIEWS.find((view) => view.id === id) || overview, parameters: new URLSearchParams(query) };
}

function notes(list) {
  const drawn = list.map(({ level, text }) => note(level, text, { named: true }));
  // Replace only on change, so that screen readers do not repeat the list.
  const now = list.map(({ level, text }) => level + text).join("\n");
  if ($("notes").dataset.now !== now) { $("notes").replaceChildren(...drawn); $("notes").dataset.now = now; }
}

function status(level, text) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").dataset.level = level;
}

function frame() {
  const level = data.notes.length ? data.notes[0].level : "ok";
  status(level, { ok: "● All is well", trouble: "▲ Trouble", warning: "▲ Warning", notice: "● OK, with notices" }[level]);
  $("meta").textContent = "version " + data.version + " · " + new Date(data.at).toLocaleTimeString();
  document.title = (level === "ok" || level === "notice" ? "" : "▲ ") + "larder " + percent(data.overview.hitRate);
  $("scope").textContent = data.redis === null ? "Figures of this process since it started."
    : "Figures of this replica since it started; Replicas adds up all of them.";
  notes(data.notes);
}

// Shows one view, and the others not.
function select(view) {
  for (const { id } of VIEWS) {
    $("view-" + id).hidden = id !== view.id;
    const link = document.querySelector(`nav a[href="#${id}"]`);
    if (id === view.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function refused(error) {
  forgetToken();
  $("figures").hidden = true;
  $("login").hidden = false;
  $("refusal").textContent = error.status === 401 ? "" : error.message + ": " + error.fix + ".";
  status("none", "token needed");
  $("token").focus();
}

// One after another, so that what was asked for last is drawn last.
let turns = Promise.resolve();

export function turn(isNew = false) {
  turns = turns.then(() => refresh(isNew));
  return turns;
}

// Fetches the figures, and draws the view if it is new or refreshes itself.
async function refresh(isNew) {
  const { view, parameters } = place();
  try {
    data = await ask("/dashboard/data");
    document.body.classList.remove("stale");
    $("login").hidden = true;
    $("forget").hidden = !hasToken();
    frame();
    if (isNew || view.refreshes || $("figures").hidden) {
      await view.show(parameters, data);
      select(view);
    }
    $("figures").hidden = false;
  } catch (error) {
    if (error.status === 401 || error.status === 403) return refused(error);
    document.body.classList.add("stale");
    status("trouble", "▲ " + error.message);
    if (!error.status && !error.isUnreachable) reportError(error);
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
  setToken($("token").value);
  $("token").value = "";
  turn(true);
});
$("forget").addEventListener("click", () => { forgetToken(); location.reload(); });
addEventListener("hashchange", async () => {
  await turn(true);
  // A screen reader goes on at the heading of the view.
  if ($("login").hidden) $(place().view.id + "-title").focus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && $("login").hidden) turn(); });
for (const view of VIEWS) view.start();
run();
