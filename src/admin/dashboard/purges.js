// The journal of purges as a table.

import { cell, make, moment, quiet, viewLink } from "/dashboard/build.js";
import { dash } from "/dashboard/format.js";

const SHOWN = 4;

const badge = (text) => make("span", { class: "tag" }, text);

// A target as the journal writes it; a tag leads to its view.
function target(text) {
  return text.startsWith("tag ") ? viewLink("tag", { name: text.slice(4) }, text) : text;
}

function targets(purge) {
  const shown = purge.targets.slice(0, SHOWN).flatMap((text, at) => (at > 0 ? [", ", target(text)] : [target(text)]));
  const more = purge.targetCount - Math.min(SHOWN, purge.targets.length);
  return [...shown, more > 0 ? " and " + more + " more" : "", ...(purge.mode === "soft" ? [" ", badge("soft")] : [])];
}

function cause(purge) {
  const asked = [purge.method, purge.path].filter(Boolean).join(" ");
  return [asked || purge.source, ...(purge.route ? [" ", badge(purge.route)] : [])];
}

// Name, content, and attributes of the cell. The style places them by their order.
const COLUMNS = [
  ["When", (purge, now) => moment(purge.at, now)],
  ["Targets", targets, () => ({ class: "targets" })],
  ["Cause", cause, () => ({ class: "targets" })],
  ["Source", (purge) => [(purge.from || "this machine") + " ", badge(purge.source)], (purge) => ({ title: purge.requestId || "" })],
  ["Replica", (purge) => purge.replica || dash],
];

// Says whose purges are listed.
function origin(told, redis) {
  if (told.purges.length === 0) return "No purges yet.";
  if (redis === null) return "Purges of this process; without Redis there are no others.";
  return told.ownOnly ? "This replica only: Redis is unavailable." : "All replicas, from the journal in Redis.";
}

// The table, named by the heading with the id `title` or else by itself, and whose purges they are.
export function purgeTable(told, redis, now, title) {
  const name = title ? { "aria-labelledby": title } : { "aria-label": "Past purges" };
  const heads = COLUMNS.map(([column]) => make("th", { scope: "col" }, column));
  const rows = told.purges.map((purge) => make("tr", {},
    ...COLUMNS.map(([column, content, attributes]) => cell(column, content(purge, now), attributes && attributes(purge)))));
  const table = make("table", { class: "purges", ...name }, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
  return [...(rows.length > 0 ? [table] : []), quiet(origin(told, redis))];
}
