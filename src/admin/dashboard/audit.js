// The findings of the audit: hits that differed from the API's present answer.

import { $, facts, listed, make, moment, note, panel, quiet, table, viewLink, worded } from "/dashboard/build.js";
import { grouped, plural, time } from "/dashboard/format.js";
import { ask } from "/dashboard/request.js";

const KINDS = {
  "purge-missing": ["trouble", "A write changed it, and no purge named it"],
  "shared-wrongly": ["trouble", "Callers with different answers share one response"],
  "changed-within-ttl": ["notice", "It changed within its lifetime, and no write through larder explains that"],
  "varies": ["notice", "Two answers to the same request differ"],
};

function one(finding, now) {
  const [level, words] = KINDS[finding.kind] || ["notice", finding.kind];
  const causes = finding.causes.map(({ write, different, same, at }) =>
    [make("code", {}, write), " ", moment(at, now), ": followed by " + different + " changed and " + same + " unchanged answers"]);
  return make("article", { class: "panel" },
    make("h3", {}, make("span", { "data-level": level }, finding.kind), " on ", make("code", {}, finding.route)),
    make("p", {}, words + "."),
    facts([
      ["Found", plural(finding.count, "time", "times")], ["Last", moment(finding.lastAt, now)], ["First", moment(finding.firstAt, now)],
      ["Example", viewLink("entry", { url: finding.url }, finding.url)], ["Age of the hit", time(finding.ageMs / 1000)],
      ["Fix", worded(finding.fix)],
    ]),
    table("Differences", ["Place", "Served", "The API's answer"],
      finding.differences.slice(0, 20).map(({ place, stored, fresh }) => [make("code", {}, place), stored, fresh])),
    ...(causes.length ? [make("h4", {}, "Writes before"), listed(causes, "")] : []));
}

export const audit = {
  id: "audit",
  refreshes: true,
  start() {},
  async show(_, data) {
    const told = await ask("/audit"), results = Object.entries(told.results);
    const parts = [];
    if (!told.enabled) {
      parts.push(note("notice", "No hit is audited. Write `audit: {sample: 0.1%}` to compare some with the API's present answer."));
    } else {
      parts.push(panel("Audited hits of this replica", facts([...results.map(([result, number]) => [result, grouped(number)]),
        ["being compared", grouped(told.pending)]])));
      if (told.findings.length === 0) parts.push(quiet("No hit differed from the API's answer."));
    }
    const now = JSON.stringify(told.findings);
    // Replaced only on change, so that a reader keeps its place.
    if ($("audit-findings").dataset.now !== now) {
      $("audit-findings").replaceChildren(...told.findings.map((finding) => one(finding, data.at)));
      $("audit-findings").dataset.now = now;
    }
    $("audit-result").replaceChildren(...parts);
  },
};
