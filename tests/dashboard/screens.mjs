// See tests/dashboard/screens.

import { mkdirSync, statSync } from "node:fs";

import { Browser } from "./browser.mjs";
import { open, set, signIn, submit } from "./views.mjs";
import { TOKEN, World } from "./world.mjs";

const FOLDER = "docs/images";
const MAX_BYTES = 150_000;
const HOST = "api.example.com";
const pause = (millis) => new Promise((done) => setTimeout(done, millis));
const has = (id, part) => `document.getElementById("${id}").textContent.includes(${JSON.stringify(part)})`;

async function picture(browser, name) {
  const file = `${FOLDER}/dashboard-${name}.png`;
  await pause(500);
  await browser.picture(file, false);
  const { size } = statSync(file);
  if (size > MAX_BYTES) throw new Error(`${file} has ${size} bytes, more than ${MAX_BYTES}`);
  console.log(file, size);
}

mkdirSync(FOLDER, { recursive: true });
const world = await World.start({ redis: false });
const browser = await Browser.start();
try {
  world.load(4);
  await signIn(browser, `http://127.0.0.1:${world.adminPort}/dashboard`, TOKEN);
  await pause(Number(process.env.SECONDS_OF_LOAD ?? 90) * 1000);
  await browser.look({ width: 1100, height: 1000 });
  await picture(browser, "overview");
  await world.calm();
  await world.ask("GET", "/api/courses/70", { host: HOST });
  await open(browser, "entry");
  await browser.look({ width: 1100, height: 900 });
  await set(browser, "entry-url", "/api/courses/70");
  await set(browser, "entry-host", HOST);
  await submit(browser, "entry-form");
  await browser.until("the entry is explained", has("entry-result", "Stored: hit"));
  await picture(browser, "entry");
  await open(browser, "purge?kind=tags&values=course%3A70");
  await browser.look({ width: 1100, height: 680 });
  await submit(browser, "purge-form");
  await browser.until("there is a preview", has("purge-preview", "nothing is purged yet"));
  await browser.evaluate(`document.getElementById("purge-continue").click()`);
  await picture(browser, "purge");
} finally {
  await browser.end();
  await world.end();
}
