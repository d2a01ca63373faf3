// One tag: the routes that carry it, the writes that purge it, what it would purge now, and its history.

import { $, facts, failure, goTo, listed, make, panel, purgingRoutes, quiet, table, viewLink } from "/dashboard/build.js";
import { bytes, grouped } from "/dashboard/format.js";
import { purgeTable } from "/dashboard/purges.js";
import { ask } from "/dashboard/request.js";

export function matchedFacts(report) {
  const matched = report.matched;
  return facts([
    ["Targets", report.targets.join(", ") + (report.targetCount > report.targets.length ? " and more" : "")],
    ["Routes", report.routes.join(", ") || "none"],
    ["Responses here", matched ? grouped(matched.responses) + ", " + bytes(matched.bytes) : "not counted"],
    ["Most requested", matched && matched.hottest.length > 0 && matched.hottest.flatMap((path) => [viewLink("entry", { url: path }, path), make("br")])],
  ]);
}

async function list() {
  const sizes = await ask("/sizes?limit=50");
  const rows = sizes.tags.map((tag) => [viewLink("tag", { name: tag.name }, tag.name), grouped(tag.responses), bytes(tag.bytes), grouped(tag.uses)]);
  return rows.length === 0 ? [quiet("Nothing stored here has a tag.")]
    : [table("Tags", ["Tag", "Responses", "Size", "Hits"], rows), quiet("Tags in the memory of this replica, largest first.")];
}

async function one(name, data) {
  const query = new URLSearchParams({ tag: name });
  const [rules, purges, report] = await Promise.all([
    ask("/dashboard/rules?" + query), ask("/purges?limit=20&" + query),
    ask("/purge?dry_run=true", { tags: [name] }).catch((error) => ({ error })),
  ]);
  return [
    panel("What a purge of it takes now", report.error ? failure(report.error) : matchedFacts(report),
      make("p", {}, viewLink("purge", { kind: "tags", values: name }, "Preview a purge of this tag"))),
    panel("Routes that carry it", listed(rules.carriedBy.map((path) => make("code", {}, path)), "No route has it in tags; a response may name it.")),
    panel("Writes that purge it", listed(purgingRoutes(rules.purgedBy), "No route names it.")),
    panel("Past purges", ...purgeTable(purges, data.redis, data.at)),
  ];
}

export const tag = {
  id: "tag",
  start() {
    $("tag-form").addEventListener("submit", (event) => {
      event.preventDefault();
      goTo("tag", { name: $("tag-name").value.trim() });
    });
  },
  async show(parameters, data) {
    const name = parameters.get("name");
    $("tag-name").value = name || "";
    $("tag-result").replaceChildren(...(name ? await one(name, data) : await list()));
  },
};
