// node chromium.mjs PLAYWRIGHT_FOLDER CHROMIUM BASE_URL KERNEL INITRD APPEND MIB
//
// Boots a guest in Aero's page inside headless Chromium and copies the page's serial text to standard output.
// KERNEL and INITRD are paths on the page's server.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";

const [playwrightFolder, executablePath, base, kernel, initrd, append, mebibytes] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwrightFolder);

function print(text) {
  fs.writeSync(1, text);
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "aero-bench-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});

async function close(status) {
  await context.close();
  fs.rmSync(profile, { recursive: true, force: true });
  process.exit(status);
}

const page = context.pages()[0] ?? (await context.newPage());
page.on("pageerror", (error) => print(`@pageerror ${error}\n`));

let seen = "";
await page.exposeFunction("benchSerial", async (text) => {
  print(text);
  seen = (seen + text).slice(-64);
  if (seen.includes("@done")) await close(0);
});
// The panel's text only grows, unless the page starts anew or drops its oldest lines.
await page.addInitScript(() => {
  let copied = "";
  setInterval(() => {
    const text = document.querySelector("#serial")?.textContent ?? "";
    if (text === copied) return;
    const tail = copied.slice(-256);
    const at = text.startsWith(copied) ? copied.length : text.lastIndexOf(tail) + tail.length;
    window.benchSerial(text.slice(at));
    copied = text;
  }, 5);
});

const url = new URL(base);
const settings = { kernel, initrd, append, memory: mebibytes, autostart: "1" };
for (const [name, value] of Object.entries(settings)) url.searchParams.set(name, value);
await page.goto(url.href);
