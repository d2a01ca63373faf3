// Builds elements. Values are set as text only, so nothing from a request becomes markup.

import { ago, dash } from "/dashboard/format.js";

const NOTE_WORDS = { trouble: "Trouble", warning: "Warning", notice: "Notice" };

export const $ = (id) => document.getElementById(id);

export function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function drawn(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Renders text between backticks as code.
export function worded(text) {
  return text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

export function quiet(text) {
  return make("p", { class: "quiet" }, text);
}

// A sentence that stands out by its level: trouble, warning or notice. `named`: the level stands before it.
export function note(level, text, { named = false, ...attributes } = {}) {
  const name = named ? [make("strong", {}, NOTE_WORDS[level] + ": ")] : [];
  return make("p", { class: "note", "data-level": level, ...attributes }, ...name, make("span", {}, ...worded(text)));
}

export function cell(label, content, attributes) {
  const none = content === dash ? { class: "none" } : {};
  return make("td", { "data-label": label, ...none, ...attributes }, ...[content].flat());
}

// A table of plain columns. A row is a list of contents, the first of which is its heading.
export function table(name, columns, rows) {
  const heads = columns.map((column) => make("th", { scope: "col" }, column));
  const body = rows.map(([first, ...rest]) => make("tr", {},
    make("th", { scope: "row" }, ...[first].flat()), ...rest.map((content, at) => cell(columns[at + 1], content))));
  return make("table", { class: "plain", "aria-label": name },
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
}

// A definition list of those entries that have a value.
export function facts(entries) {
  const known = entries.filter((entry) => entry && entry[1] !== null && entry[1] !== undefined && entry[1] !== "");
  return make("dl", { class: "facts" }, ...known.flatMap(([name, value]) =>
    [make("dt", {}, name), make("dd", {}, ...[value].flat())]));
}

export function bar(share) {
  const width = (100 * Math.min(1, share)).toFixed(1);
  const svg = drawn("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none" }, drawn("rect", { x: 0, y: 0, width, height: 6 }));
  return make("div", { class: share > 0.8 ? "bar full" : "bar", "aria-hidden": "true" }, svg);
}

// The address of a view: `#tag?name=courses`.
const viewAddress = (view, parameters) => "#" + view + "?" + new URLSearchParams(parameters);

export function viewLink(view, parameters, text) {
  return make("a", { href: viewAddress(view, parameters) }, text);
}

// Goes to a view, also if it is shown already.
export function goTo(view, parameters) {
  const address = viewAddress(view, parameters);
  if (location.hash === address) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = address;
}

export function listed(items, none) {
  return items.length === 0 ? quiet(none) : make("ul", {}, ...items.map((item) => make("li", {}, ...[item].flat())));
}

export function panel(title, ...content) {
  return make("section", { class: "panel" }, make("h3", {}, title), ...content);
}

export function moment(at, now) {
  return make("time", { datetime: at, title: at }, ago(Date.parse(at), now));
}

// One line about an error: what was wrong, and what to do.
export function failure(error) {
  const fix = error.fix ? ": " + error.fix : "";
  return note("warning", error.message + fix + ".", { role: "alert" });
}

// The routes whose writes purge something.
export function purgingRoutes(routes) {
  return routes.map(({ route, template, tag, byLocation }) => [
    ...(byLocation ? ["another route, if its ", make("code", {}, "Location"), " is of "] : []), make("code", {}, route), " by ", make("code", {}, template),
    ...(tag && tag !== template ? [", which can be ", make("code", {}, tag)] : [])]);
}
