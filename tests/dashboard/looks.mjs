// What every view must look like: readable, no wider than the screen, and accessible by the rules of axe-core.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

const AXE = "target/dashboard/node_modules/axe-core/axe.min.js";
const pause = (millis) => new Promise((done) => setTimeout(done, millis));

/// The source of axe-core, downloaded at the first run.
export function axeSource() {
  if (!existsSync(AXE)) {
    const packages = ["--prefix", "target/dashboard", "axe-core@4"];
    execFileSync("npm", ["install", "--silent", "--no-audit", "--no-fund", ...packages], { stdio: "inherit" });
  }
  return readFileSync(AXE, "utf8");
}

/// All text must stand out from what is behind it (WCAG 2.2, 1.4.3).
const CONTRAST = `(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = parts(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  };
  const poor = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(walk.currentNode.data.trim().slice(0, 30) + " " + ratio.toFixed(2));
  }
  return [...poor];
})()`;

const SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth";

/// The rules that are broken, each with the elements that break it.
async function violations(browser) {
  if (!(await browser.evaluate("typeof axe === 'object'"))) await browser.evaluate(axeSource() + "; 0");
  return browser.evaluate(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ": " + nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" | ")))`);
}

const LOOKS = {
  wide: { width: 1280 },
  "wide-dark": { width: 1280, dark: true },
  phone: { width: 390, height: 1500, phone: true },
  "phone-dark": { width: 390, height: 1500, phone: true, dark: true },
};

/// Looks at the page as it is now on a desk and on a phone, light and dark. `seen` gets each look.
export async function looksRight(browser, name, seen = () => {}) {
  for (const [kind, look] of Object.entries(LOOKS)) {
    await browser.look(look);
    await pause(400);
    assert.deepEqual(await browser.evaluate(CONTRAST), [], name + " " + kind + ": hard to read");
    assert.equal(await browser.evaluate(SIDEWAYS), false, name + " " + kind + ": it scrolls sideways");
    // It takes seconds, and each of these differs from the other in width and in colours.
    if (["wide", "phone-dark"].includes(kind)) {
      assert.deepEqual(await violations(browser), [], name + " " + kind + ": axe-core");
    }
    await seen(kind, look);
  }
  await browser.look({ width: 1280 });
}
