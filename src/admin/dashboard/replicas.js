// All replicas in one view: their counters added up, and which of them know the latest purge.

import { $, facts, failure, moment, panel, quiet, table } from "/dashboard/build.js";
import { bytes, dash, grouped, hitShare, percent, time } from "/dashboard/format.js";
import { ask } from "/dashboard/request.js";

const rate = (counts) => percent(hitShare(counts));

function knowledge(one) {
  if (!one) return dash;
  return one.knowsLatest ? "all" : "up to position " + one.position + (one.silentMs ? ", silent for " + time(one.silentMs / 1000) : "");
}

function draw(all, known, data) {
  const totals = all.stats, names = Object.keys(all.routes).sort((a, b) => all.routes[b].hits - all.routes[a].hits);
  const of = (name) => known.find((replica) => replica.name === name);
  const rows = all.replicas.map((replica) => [replica.name || "this process", grouped(replica.hits), grouped(replica.misses),
    rate(replica), bytes(replica.memoryUsed), moment(replica.timestamp, data.at), knowledge(of(replica.name))]);
  const missing = all.missing.map((name) => [name, dash, dash, dash, dash, "has not reported", knowledge(of(name))]);
  return [
    data.redis === null ? quiet("Without Redis, this process is alone.") : "",
    panel("Together", facts([
      ["Hit rate", rate(totals)], ["Hits", grouped(totals.hits)], ["Misses", grouped(totals.misses)], ["Errors", grouped(totals.errors)],
      ["Purges", grouped(totals.invalidations)], ["Memory of the replicas", bytes(totals.memoryUsed)],
      ["Memory of Redis", all.store && bytes(all.store.memoryUsed)], ["Keys in Redis", all.store && all.store.keyCount !== null && grouped(all.store.keyCount)],
    ])),
    panel("Replicas", table("Replicas", ["Replica", "Hits", "Misses", "Hit rate", "Memory", "Reported", "Purges known"], [...rows, ...missing])),
    panel("Routes, over all replicas", table("Routes, over all replicas", ["Route", "Hits", "Misses", "Hit rate", "Errors", "Purges"],
      names.slice(0, 100).map((name) => {
        const route = all.routes[name];
        return [name, grouped(route.hits), grouped(route.misses), rate(route), grouped(route.errors), grouped(route.invalidations)];
      }))),
  ];
}

export const replicas = {
  id: "replicas",
  refreshes: true,
  start() {},
  async show(_, data) {
    try {
      const [all, known] = await Promise.all([ask("/stats?scope=all"), ask("/replicas")]);
      $("replicas-result").replaceChildren(...draw(all, known.replicas, data));
    } catch (error) {
      if (error.status !== 503) throw error;
      $("replicas-result").replaceChildren(failure(error));
    }
  },
};
