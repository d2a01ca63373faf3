// Charts of the last hour: one value per sample, null where there is none.

import { drawn, make } from "/dashboard/build.js";
import { hitShare, percent, time } from "/dashboard/format.js";

const WIDTH = 600, HEIGHT = 92;

function path(values, top, height, close) {
  const step = WIDTH / Math.max(1, values.length - 1);
  const y = (value) => (height - 1 - (height - 4) * Math.min(1, value / top)).toFixed(1);
  let written = "", start = null, end = 0;
  const finish = () => {
    if (start === null) return;
    // A single sample is drawn as a short line.
    if (end === start) written += "h2";
    if (close) written += "L" + (end * step).toFixed(1) + " " + height + "L" + (start * step).toFixed(1) + " " + height + "Z";
    start = null;
  };
  values.forEach((value, at) => {
    if (value === null) return finish();
    written += (start === null ? "M" : "L") + (at * step).toFixed(1) + " " + y(value);
    if (start === null) start = at;
    end = at;
  });
  finish();
  return written;
}

export function chart(layers, top, height, label) {
  const svg = drawn("svg", { viewBox: "0 0 " + WIDTH + " " + height, preserveAspectRatio: "none", role: "img", "aria-label": label });
  svg.append(drawn("line", { class: "base", x1: 0, x2: WIDTH, y1: height - 0.5, y2: height - 0.5 }));
  for (const { values, kind, filled } of layers) {
    if (filled) svg.append(drawn("path", { class: "area " + kind, d: path(values, top, height, true) }));
    svg.append(drawn("path", { class: "line " + kind, d: path(values, top, height, false) }));
  }
  return svg;
}

function figure(title, range, moments, layers, top, label, keys) {
  const caption = make("figcaption", {}, title + " ", make("span", { class: "quiet" }, range));
  const legend = keys.length === 0 ? [] : [make("p", { class: "legend" }, ...keys.flatMap(([kind, name]) =>
    [make("span", { class: "key " + kind }), name + " "]))];
  const any = layers.some(({ values }) => values.some((value) => value !== null));
  if (!any || moments.length < 2) {
    const empty = make("div", { class: "chart" }, make("p", { class: "empty" }, "The first samples arrive within half a minute."));
    return make("figure", {}, caption, empty, ...legend);
  }
  const minutes = Math.max(1, Math.round((moments[moments.length - 1] - moments[0]) / 60000));
  const axis = make("p", { class: "axis" }, make("span", {}, minutes + " min ago"), make("span", {}, "now"));
  return make("figure", {}, caption, make("div", { class: "chart" }, chart(layers, top, HEIGHT, label), axis), ...legend);
}

// Sums per sample, over all routes or those named.
export function totals(history, names = Object.keys(history.routes)) {
  const sum = history.at.map(() => ({ requests: 0, hits: 0, misses: 0, p50: null, p95: null, weight: 0 }));
  for (const name of names) {
    (history.routes[name] || []).forEach((cell, at) => {
      if (cell === null) return;
      const [requests, hits, misses, p50, p95] = cell, all = sum[at];
      all.requests += requests; all.hits += hits; all.misses += misses;
      // Over several routes: p50 weighted by requests, p95 of the slowest route.
      all.p50 = ((all.p50 || 0) * all.weight + p50 * requests) / (all.weight + requests);
      all.p95 = Math.max(all.p95 || 0, p95);
      all.weight += requests;
    });
  }
  return sum;
}

// The three charts of a history.
export function charts(history, names) {
  const all = totals(history, names), every = history.everySeconds;
  const rate = all.map(hitShare);
  const load = all.map(({ requests }) => requests / every), stored = all.map(({ hits }) => hits / every);
  const half = all.map(({ p50 }) => p50), most = all.map(({ p95 }) => p95);
  const known = rate.filter((value) => value !== null), peak = Math.max(...load, 0), slowest = Math.max(...most, 0);
  const lowest = known.length ? "lowest " + percent(Math.min(...known)) : "", highest = "at most " + peak.toFixed(peak < 10 ? 1 : 0);
  return [
    figure("Hit rate", lowest, history.at, [{ values: rate, kind: "", filled: true }], 1,
      "Hit rate over the last hour, " + lowest, []),
    figure("Requests per second", highest, history.at,
      [{ values: load, kind: "other", filled: true }, { values: stored, kind: "", filled: true }],
      peak || 1, "Requests per second over the last hour, " + highest, [["store", "from the store"], ["api", "from the API"]]),
    figure("Time to first byte", "at most " + time(slowest), history.at,
      [{ values: half, kind: "", filled: true }, { values: most, kind: "other", filled: false }],
      slowest || 1, "Time to first byte, p95 at most " + time(slowest), [["p50", "p50"], ["p95", "p95"]]),
  ];
}
