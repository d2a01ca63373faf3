// One route: its rule, its last hour, why requests missed, and why responses were not stored.

import { $, facts, failure, goTo, listed, make, panel, purgingRoutes, quiet } from "/dashboard/build.js";
import { charts } from "/dashboard/chart.js";
import { bytes, dash, grouped, percent, time } from "/dashboard/format.js";
import { missReasons, notStoredReasons } from "/dashboard/reasons.js";
import { ask } from "/dashboard/request.js";

function summary(route) {
  return facts([
    ["Requests", grouped(route.requests)],
    ["Hit rate", route.caches ? percent(route.hitRate) : "not cached"],
    ["Errors", grouped(route.errors)],
    ["Requests without a fetch of their own", grouped(route.saved)],
    ["p95 from the store", time(route.fromStore.p95)],
    ["p95 from the API", time(route.fromUpstream.p95)],
    ["Stored", grouped(route.fills) + " responses" + (route.fills ? ", " + bytes(route.filledBytes / route.fills) + " each" : "")],
    ["Purges that reached it", grouped(route.invalidations)],
  ]);
}

function rule({ path, settings, purgedBy }) {
  const lines = settings.map(([key, value]) => [make("code", {}, key), make("code", {}, value)]);
  return panel("Rule: " + path, facts(lines), make("h4", {}, "Purged by writes to"), listed(purgingRoutes(purgedBy), "No route purges its tags."));
}

async function rules(name) {
  if (name === "other") return [quiet("Requests that no route matches: they are forwarded.")];
  try {
    const told = await ask("/dashboard/rules?" + new URLSearchParams({ route: name }));
    return [...told.rules.map(rule), quiet("From " + told.file + "; settings with their default are left out.")];
  } catch (error) {
    if (error.status !== 404) throw error;
    return [failure(error)];
  }
}

function options(routes, name) {
  const names = routes.map((route) => route.name).sort();
  if ($("route-name").dataset.names !== names.join("\n")) {
    $("route-name").replaceChildren(...names.map((name) => make("option", { value: name }, name === "other" ? "no route" : name)));
    $("route-name").dataset.names = names.join("\n");
  }
  if (names.includes(name)) $("route-name").value = name;
}

export const route = {
  id: "route",
  start() {
    $("route-form").addEventListener("submit", (event) => {
      event.preventDefault();
      goTo("route", { name: $("route-name").value });
    });
  },
  async show(parameters, data) {
    const routes = data.overview.routes, busiest = [...routes].sort((a, b) => b.requests - a.requests)[0];
    const name = parameters.get("name") || busiest?.name;
    options(routes, name);
    const counted = routes.find((route) => route.name === name);
    if (!name) return $("route-result").replaceChildren(quiet("There are no routes."));
    const shown = await rules(name);
    $("route-result").replaceChildren(
      make("h3", { class: "subject" }, name === "other" ? "no route" : name),
      make("div", { class: "charts" }, ...charts(data.history, [name])),
      ...(counted ? [panel("Since the start of this replica", summary(counted))] : [quiet(dash + " no requests yet")]),
      ...(counted ? [panel("Why requests went to the API", missReasons([counted])), panel("Why responses were not stored", notStoredReasons([counted]))] : []),
      ...shown);
  },
};
