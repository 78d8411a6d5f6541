// What the scripts that measure in a browser share: a headless Chromium with a profile of its own, the guest's text to
// standard output, and standard input to the guest.
import fs from "node:fs";
import { createRequire } from "node:module";

export function print(text) {
  fs.writeSync(1, text);
}

// Opens a page whose `window.benchSerial(text)` prints; `send(text)` runs in Node for what arrives on standard input.
export async function openPage(playwrightFolder, executablePath, profile, send) {
  const { chromium } = createRequire(import.meta.url)(playwrightFolder);
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.on("pageerror", (error) => print(`@pageerror ${error}\n`));
  await page.exposeFunction("benchSerial", print);
  process.stdin.setEncoding("utf8").on("data", (text) => void page.evaluate(send, text));
  // Whoever started us and went away wants no browser either.
  process.stdin.on("end", () => void context.close().then(() => process.exit(0)));
  return page;
}
