// Rows of the journal of purges.

import { cell, make, moment, viewLink } from "/dashboard/build.js";
import { dash } from "/dashboard/format.js";

const SHOWN = 4;

// A target as the journal writes it; a tag leads to its view.
function target(text) {
  return text.startsWith("tag ") ? viewLink("tag", { name: text.slice(4) }, text) : text;
}

function targets(purge) {
  const shown = purge.targets.slice(0, SHOWN).flatMap((text, at) => (at > 0 ? [", ", target(text)] : [target(text)]));
  const more = purge.targetCount - Math.min(SHOWN, purge.targets.length);
  return [...shown, more > 0 ? " and " + more + " more" : "",
    ...(purge.mode === "soft" ? [" ", make("span", { class: "tag" }, "soft")] : [])];
}

export function purgeRows(purges, now) {
  return purges.map((purge) => {
    const asked = [purge.method, purge.path].filter(Boolean).join(" ");
    const why = make("td", { class: "targets", "data-label": "Cause" }, asked || purge.source);
    if (purge.route) why.append(" ", make("span", { class: "tag" }, purge.route));
    return make("tr", {},
      make("td", { "data-label": "When" }, moment(purge.at, now)),
      make("td", { class: "targets", "data-label": "Targets" }, ...targets(purge)), why,
      make("td", { "data-label": "Source", title: purge.requestId || "" }, (purge.from || "this machine") + " ", make("span", { class: "tag" }, purge.source)),
      cell("Replica", purge.replica || dash));
  });
}

// Says whose purges are listed.
export function purgesFrom(told, redis) {
  if (told.purges.length === 0) return "No purges yet.";
  if (redis === null) return "Purges of this process; without Redis there are no others.";
  return told.ownOnly ? "This replica only: Redis is unavailable." : "All replicas, from the journal in Redis.";
}

export function purgeTable(told, redis, now) {
  const heads = ["When", "Targets", "Cause", "Source", "Replica"].map((name) => make("th", { scope: "col" }, name));
  const note = make("p", { class: "quiet" }, purgesFrom(told, redis));
  if (told.purges.length === 0) return [note];
  return [make("table", { class: "purges", "aria-label": "Past purges" }, make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...purgeRows(told.purges, now))), note];
}
