// A purge in three steps: name it, see what it would take, confirm.

import { $, failure, listed, make, note, panel } from "/dashboard/build.js";
import { plural } from "/dashboard/format.js";
import { ask } from "/dashboard/request.js";
import { matchedFacts } from "/dashboard/tag.js";

// What was previewed, and is what a confirmation sends. Null until the preview of the present input is there.
let previewed = null;
// Counts inputs and previews: the answer to an earlier one is of something else.
let turn = 0;
let isAlone = true;

function content() {
  const kind = $("purge-kind").value, soft = $("purge-soft").checked;
  if (kind === "everything") return { everything: true, soft };
  const values = $("purge-values").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return { [kind]: values, soft };
}

// From here on nothing can be confirmed, whatever is asked or shown.
function forget() {
  previewed = null;
  turn += 1;
  $("purge-dialog").close();
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
  const warnings = (report.warnings || []).map((text) => note("warning", text));
  const confirm = make("button", { type: "button", id: "purge-continue" }, "Purge…");
  confirm.addEventListener("click", () => {
    $("purge-summary").textContent = summary(previewed);
    $("purge-dialog").showModal();
  });
  $("purge-preview").replaceChildren(panel("Preview: nothing is purged yet", ...warnings, matchedFacts(report), confirm));
}

async function preview() {
  forget();
  const wanted = content(), own = turn;
  $("purge-result").replaceChildren();
  try {
    const report = await ask("/purge?dry_run=true", wanted);
    if (own !== turn) return;
    previewed = { wanted, report };
    showPreview();
    $("purge-continue").focus();
  } catch (error) {
    if (own !== turn) return;
    if (error.status === 401 || error.status === 403) throw error;
    $("purge-preview").replaceChildren(failure(error));
  }
}

async function carryOut() {
  if (previewed === null) return;
  const { wanted } = previewed;
  forget();
  try {
    const done = await ask("/purge?wait=applied&timeout=5s", wanted);
    $("purge-result").replaceChildren(panel("Purged", make("p", {}, "Position " + done.position + "; "
      + (isAlone ? "it is applied." : done.applied ? "all replicas have applied it." : "not all replicas have applied it yet.")),
    listed(done.targets.map((target) => make("code", {}, target)), "")));
  } catch (error) {
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
