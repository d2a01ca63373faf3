// A purge in three steps: name it, see what it would take, confirm.

import { $, failure, listed, make, panel, worded } from "/dashboard/build.js";
import { plural } from "/dashboard/format.js";
import { ask } from "/dashboard/request.js";
import { matchedFacts } from "/dashboard/tag.js";

// What was previewed, and is what a confirmation sends.
let previewed = null;
let isAlone = true;

function content() {
  const kind = $("purge-kind").value, soft = $("purge-soft").checked;
  if (kind === "everything") return { everything: true, soft };
  const values = $("purge-values").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return { [kind]: values, soft };
}

function forget() {
  previewed = null;
  $("purge-preview").replaceChildren();
  $("purge-values-row").hidden = $("purge-kind").value === "everything";
}

function summary({ report, wanted }) {
  const what = wanted.everything ? "everything" : plural(report.targetCount, "target", "targets");
  const matched = report.matched ? plural(report.matched.responses, "response", "responses") + " in the memory of this replica" : "an unknown number of responses";
  return (wanted.soft ? "Mark as stale: " : "Purge: ") + what + ", which matches " + matched
    + (isAlone ? "." : ". The other replicas and Redis apply it too.");
}

function showPreview() {
  const { report } = previewed;
  const warnings = (report.warnings || []).map((text) => make("p", { class: "note", "data-level": "warning" }, make("span", {}, ...worded(text))));
  const confirm = make("button", { type: "button", id: "purge-continue" }, "Purge…");
  confirm.addEventListener("click", () => {
    $("purge-summary").textContent = summary(previewed);
    $("purge-dialog").showModal();
  });
  $("purge-preview").replaceChildren(panel("Preview: nothing is purged yet", ...warnings, matchedFacts(report), confirm));
}

async function preview() {
  const wanted = content();
  $("purge-result").replaceChildren();
  try {
    previewed = { wanted, report: await ask("/purge?dry_run=true", wanted) };
    showPreview();
    $("purge-continue").focus();
  } catch (error) {
    forget();
    if (error.status === 401 || error.status === 403) throw error;
    $("purge-preview").replaceChildren(failure(error));
  }
}

async function carryOut() {
  const { wanted } = previewed;
  $("purge-dialog").close();
  try {
    const done = await ask("/purge?wait=applied&timeout=5s", wanted);
    forget();
    $("purge-result").replaceChildren(panel("Purged", make("p", {}, "Position " + done.position + "; "
      + (isAlone ? "it is applied." : done.applied ? "all replicas have applied it." : "not all replicas have applied it yet.")),
    listed(done.targets.map((target) => make("code", {}, target)), "")));
  } catch (error) {
    forget();
    $("purge-result").replaceChildren(failure(error));
  }
  // The button that had the focus is gone.
  $("purge-title").focus();
}

export const purge = {
  id: "purge",
  start() {
    $("purge-form").addEventListener("submit", (event) => { event.preventDefault(); preview(); });
    // A preview of something else is none.
    $("purge-form").addEventListener("input", forget);
    $("purge-cancel").addEventListener("click", () => $("purge-dialog").close());
    $("purge-confirm").addEventListener("click", carryOut);
  },
  async show(parameters, data) {
    isAlone = data.redis === null;
    if (!parameters.get("kind")) return;
    $("purge-kind").value = parameters.get("kind");
    $("purge-values").value = parameters.get("values") || "";
    forget();
  },
};
