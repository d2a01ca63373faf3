// How numbers and times are written.

export const dash = "–";

export function count(number) {
  if (number < 10000) return String(number);
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= limit) return (number / limit).toFixed(number >= 100 * limit ? 0 : 1) + " " + unit;
  }
  return String(number);
}

export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

// A part of a whole, 0 to 1; null of nothing.
export function share(part, whole) {
  return whole > 0 ? part / whole : null;
}

export const hitShare = ({ hits, misses }) => share(hits, hits + misses);

export function percent(fraction) {
  if (fraction === null || fraction === undefined) return dash;
  return (fraction * 100).toFixed(1) + " %";
}

export function bytes(number) {
  if (number === null || number === undefined) return dash;
  let unit = 0;
  while (number >= 1024 && unit < 4) { number /= 1024; unit++; }
  return (unit === 0 ? Math.round(number) : number.toFixed(number < 10 ? 1 : 0)) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return dash;
  if (seconds < 0.001) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return (seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0) + " ms";
  if (seconds < 120) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  return (seconds / 60).toFixed(0) + " min";
}

export function lifetime(seconds) {
  if (seconds === null || seconds === undefined) return dash;
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "m"]]) {
    if (seconds >= length && seconds % length === 0) return seconds / length + " " + unit;
  }
  return seconds < 1 ? seconds * 1000 + " ms" : seconds + " s";
}

export function ago(from, to) {
  const seconds = Math.max(0, Math.round((to - from) / 1000));
  if (seconds < 60) return seconds + " s ago";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h ago";
  return Math.floor(seconds / 86400) + " d ago";
}

export function plural(number, one, many) {
  return grouped(number) + " " + (number === 1 ? one : many);
}
