// Why requests went to the API, and why its responses were not stored.

import { make, quiet, table } from "/dashboard/build.js";
import { grouped, percent, share } from "/dashboard/format.js";

const MEANINGS = {
  "never-stored": "nothing was stored under its key", "expired": "too old for any use", "evicted": "removed to make room",
  "purged": "a purge named it", "in-doubt": "a write may still take effect", "store-unavailable": "Redis does not answer",
  "other-variant": "stored for other values of the fields in Vary",
  "other-caller": "stored for requests without a field that identifies a caller", "other-rules": "stored under other rules of the route",
  "other-query": "stored for other queries", "expired-caller": "the token has expired", "method": "a method that changes something",
  "no-route": "no route matches the path", "route-off": "the route is switched off", "route-never-caches": "the route has ttl: never, or only purges",
  "no-credential": "the route has per, and the request no such credential", "anonymous-caller": "the request has no credential",
  "refused-caller": "the token is not valid", "path-spelling": "the path is not in its normal form", "request-content": "a GET with content",
  "override-field": "a field may change the method", "precondition": "the API must judge If-Match", "range": "a part was requested",
  "credentials": "a credential that is not in the key", "no-store": "the response says no-store", "private": "the response says private",
  "set-cookie": "the response sets a cookie", "status": "its status is not stored", "no-lifetime": "neither response nor route gives a lifetime",
  "too-large": "larger than max_size", "vary-star": "the response has Vary: *", "incomplete": "the response was cut short",
  "already-stale": "stale on arrival", "stale-while-revalidate": "served stale while a new one is fetched",
  "stale-if-error": "served stale because the API failed", "upgrade": "the connection switches protocols", "memory": "too little memory",
};

const FORWARDS = {
  "bypass": "not looked up", "method": "not looked up", "uri-miss": "not stored", "vary-miss": "no such variant",
  "miss": "stored, not usable", "request": "not for this request", "stale": "stale",
};

// Adds up rows with the same words.
function merged(rows) {
  const sums = new Map();
  for (const row of rows) {
    const key = row.slice(0, -1).join(" ");
    sums.set(key, [...row.slice(0, -1), (sums.get(key)?.at(-1) ?? 0) + row.at(-1)]);
  }
  return [...sums.values()].sort((a, b) => b.at(-1) - a.at(-1));
}

const named = (reason) => [make("code", {}, reason), MEANINGS[reason] ? ": " + MEANINGS[reason] : ""];

export function missReasons(routes) {
  const rows = merged(routes.flatMap((route) => route.forwarded));
  const all = rows.reduce((sum, row) => sum + row[2], 0);
  if (all === 0) return quiet("No request went to the API yet.");
  return table("Why requests went to the API", ["Reason", "Lookup", "Requests", "Share"], rows.slice(0, 15).map(([fwd, reason, number]) =>
    [reason === "none" ? FORWARDS[fwd] : named(reason), [make("code", {}, fwd)], grouped(number), percent(share(number, all))]));
}

export function notStoredReasons(routes) {
  const rows = merged(routes.flatMap((route) => route.notStored));
  if (rows.length === 0) return quiet("Every response that could be stored was.");
  return table("Why responses were not stored", ["Reason", "Responses"], rows.slice(0, 15).map(([reason, number]) => [named(reason), grouped(number)]));
}
