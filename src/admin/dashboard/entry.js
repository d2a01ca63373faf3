// One entry: what is stored for a request, why it is valid or not, until when, and which purge would take it.

import { $, facts, failure, goTo, listed, make, moment, note, panel, purgingRoutes, viewLink, worded } from "/dashboard/build.js";
import { bytes, time } from "/dashboard/format.js";
import { purgeTable } from "/dashboard/purges.js";
import { ask } from "/dashboard/request.js";

const VALIDITY = {
  valid: "valid: no purge named it since it was fetched",
  stale: "stale: a soft purge named it, so it is validated before use",
  purged: "purged: it is never served again",
};

// A host that was entered once is offered again.
function url(value, host) {
  if (!value.startsWith("/")) return { url: value, headers: [] };
  return { url: value, headers: host ? ["Host: " + host] : [] };
}

// Values in Redis do not name the replica that wrote them.
function fetcher(now) {
  if (now.fetchedHere) return now.replica ? "this replica, " + now.replica : "this process";
  return "any replica: it was read from Redis" + (now.replica ? " by this one, " + now.replica : "");
}

function remaining(now) {
  if (now.verdict === "never") return null;
  if (now.ttlSeconds >= 0) return "for " + time(now.ttlSeconds) + " more";
  return "no longer: stale for " + time(-now.ttlSeconds);
}

function keyParts(parts) {
  return (parts || []).flatMap(({ name, values }) => [make("code", {}, name + ": " + [values].flat().join(", ")), make("br")]);
}

function stored(now, data) {
  return facts([
    ["Answer to this request", now.verdict],
    ["Validity", VALIDITY[now.validity] || now.validity],
    ["Purged by", now.purgedBy && (now.purgedBy.target || "a target of another request") + ", position " + now.purgedBy.position],
    ["Fresh", remaining(now)],
    ["Dropped", "in " + time(now.droppedInSeconds)],
    ["Fetched", [moment(now.fetchedAt, data.at), " at " + new Date(now.fetchedAt).toLocaleTimeString()]],
    ["Fetched by", fetcher(now)],
    ["Kept in", now.tier === "redis" ? "Redis, for all replicas" : "the memory of this replica"],
    ["Status", String(now.status)],
    ["Size", bytes(now.contentBytes) + " of content, " + bytes(now.weightBytes) + " in memory"],
    ["Knows purges up to", "position " + now.asOf],
    ["Fallback lifetime", now.fallbackTtlSeconds && time(now.fallbackTtlSeconds)],
  ]);
}

function absent(now) {
  return facts([["Stored", "no"], ["Reason", make("code", {}, now.reason)]]);
}

function draw(told, data) {
  const { now, route } = told, parts = [];
  const heading = now ? (now.stored ? "Stored: " + (now.verdict || now.validity) : "Not stored") : "Not looked up";
  parts.push(panel(heading,
    ...(now ? [now.stored ? stored(now, data) : absent(now)] : [make("p", {}, ...worded(told.words || "This request is answered by: " + told.decision))])));
  parts.push(panel("The request", facts([
    ["Route", route && viewLink("route", { name: route.name }, route.name === route.path ? route.path : route.name + ": " + route.path)],
    ["Decision", told.decision],
    ["Stored for", told.keyParts && keyParts(told.keyParts)],
    ["Caller", told.caller && JSON.stringify(told.caller)],
    ["Not in the key", told.fieldOutsideKey && make("code", {}, told.fieldOutsideKey)],
    ["Sent to the API as", told.forwarded && make("code", {}, told.forwarded)],
  ])));
  if (now && now.stored) {
    parts.push(panel("Tags", listed(now.tags.map((tag) => viewLink("tag", { name: tag }, tag)), "It has no tags.")));
    parts.push(panel("Purges that would take it",
      listed([...purgingRoutes(now.purgingRoutes || []).map((route) => ["a write to ", ...route]),
        ["a write to its own path"], [viewLink("purge", { kind: "urls", values: told.target }, "a purge of this URL")]], "")));
  }
  if (now && now.purge) parts.push(panel("The purge that named it", ...purgeTable({ purges: [now.purge], ownOnly: false }, data.redis, data.at)));
  for (const held of (now && now.heldBack) || []) {
    parts.push(note("notice", held.what + " is held back for " + time(held.forSeconds) + ": " + held.reason));
  }
  $("entry-result").replaceChildren(...parts);
}

export const entry = {
  id: "entry",
  start() {
    $("entry-form").addEventListener("submit", (event) => {
      event.preventDefault();
      goTo("entry", { url: $("entry-url").value.trim(), host: $("entry-host").value.trim() });
    });
  },
  async show(parameters, data) {
    const asked = parameters.get("url");
    if (parameters.get("host")) $("entry-host").value = parameters.get("host");
    if (!asked) return $("entry-result").replaceChildren();
    $("entry-url").value = asked;
    // Fields may hold credentials, so they stay out of the address.
    const more = $("entry-headers").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const { url: target, headers } = url(asked, $("entry-host").value.trim());
    try {
      draw(await ask("/explain", { method: "GET", url: target, headers: [...headers, ...more] }), data);
    } catch (error) {
      if (error.status !== 400) throw error;
      $("entry-result").replaceChildren(failure(error));
    }
  },
};
