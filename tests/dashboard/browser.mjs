// Chromium without a window, spoken to by its own protocol over a pipe.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), "larder-browser-"));
    browser.child = spawn("chromium", [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
      "--remote-debugging-pipe", "--user-data-dir=" + browser.profile, "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.next = 1;
    browser.waiting = new Map();
    browser.events = [];
    let rest = "";
    browser.child.stdio[4].on("data", (data) => {
      const parts = (rest + data).split("\0");
      rest = parts.pop();
      parts.forEach((part) => browser.heard(JSON.parse(part)));
    });
    const { targetInfos } = await browser.send("Target.getTargets");
    const page = targetInfos.find((target) => target.type === "page");
    const attached = await browser.send("Target.attachToTarget", { targetId: page.targetId, flatten: true });
    browser.session = attached.sessionId;
    for (const domain of ["Page", "Runtime", "Log"]) await browser.send(domain + ".enable");
    return browser;
  }

  heard(message) {
    if (!message.id) return this.events.push(message);
    const { done, failed } = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    message.error ? failed(new Error(message.error.message)) : done(message.result);
  }

  send(method, params = {}) {
    const id = this.next++;
    const message = { id, method, params, ...(this.session ? { sessionId: this.session } : {}) };
    this.child.stdio[3].write(JSON.stringify(message) + "\0");
    return new Promise((done, failed) => this.waiting.set(id, { done, failed }));
  }

  /// What an expression, or a promise of one, comes to in the page.
  async evaluate(expression) {
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? "it threw");
    return answer.result.value;
  }

  async until(what, expression) {
    const end = Date.now() + 30_000;
    while (!(await this.evaluate(expression))) {
      if (Date.now() > end) throw new Error("not within 30 s: " + what);
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  async look({ width, height = 900, dark = false, phone = false }) {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: phone };
    await this.send("Emulation.setDeviceMetricsOverride", metrics);
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await this.send("Emulation.setEmulatedMedia", { features });
  }

  /// Of the whole page, or of what is in sight.
  async picture(file, whole) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: whole });
    writeFileSync(file, Buffer.from(data, "base64"));
  }

  /// What went wrong in the page.
  complaints() {
    const texts = this.events.map(({ method, params }) =>
      method === "Runtime.exceptionThrown" ? params.exceptionDetails.exception?.description
        : method === "Log.entryAdded" && params.entry.level === "error" ? params.entry.text + " " + (params.entry.url ?? "")
          : null);
    return texts.filter(Boolean);
  }

  async end() {
    const gone = new Promise((done) => this.child.on("exit", done));
    this.child.kill();
    await gone;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
